use super::testing::*;
use nunatak_kernels::maxpool::*;
use nunatak_kernels::reference;
use proptest::prelude::*;

/// All passes against the reference; channels-last input.
fn check(p: &MaxPool, x: &[f32], dy: &[f32], offset: usize) {
    let x = Offset::copy(x, offset);
    let dy = Offset::copy(dy, 15 - offset);
    let (mut y, mut index, mut dx) = (zeros(p.y_len()), vec![0; p.y_len()], zeros(p.x_len()));
    reference::maxpool::forward(p, &x, &mut y, &mut index);
    reference::maxpool::backward_input(p, &dy, &index, &mut dx);
    same_bits(
        |cpu| {
            let (mut out, mut place) = (Offset::nan(p.y_len(), offset), vec![255; p.y_len()]);
            forward_only(cpu, p, &x, &mut out);
            assert_exact(&out, &y, "y without places");
            out.fill(f32::NAN);
            forward(cpu, p, &x, &mut out, &mut place);
            assert_exact(&out, &y, "y");
            assert_eq!(place, index, "{p:?} at {}", cpu.level);
            let mut out = Offset::nan(p.x_len(), 15 - offset);
            backward_input(cpu, p, &dy, &place, &mut out);
            out.to_vec()
        },
        |_, out| assert_within(out, &dx, 1e-6, "dx"),
    );
}

#[test]
fn all_passes_match_the_reference() {
    let mut random = Random::new(7);
    for (i, c) in CHANNELS.into_iter().enumerate() {
        for (kernel, stride, pad) in [(3, 2, 1), (2, 2, 0), (3, 1, 1), (1, 1, 0), (5, 3, 2), (2, 1, 1), (3, 4, 0), (15, 2, 7)] {
            for (n, h, w) in [(1, 4, 4), (2, 5, 7), (1, 9, 3), (1, 1, 1), (3, 2, 15)] {
                let p = MaxPool { n, h, w, c, kernel, stride, pad };
                if kernel <= h.min(w) + 2 * pad {
                    let dy = random.vector(p.y_len());
                    check(&p, &random.vector(p.x_len()), &dy, (i + h + kernel) % 16);
                    check(&p, &random.special(p.x_len()), &dy, (i + w) % 16);
                    // Ties everywhere.
                    let x: Vec<f32> = random.vector(p.x_len()).iter().map(|v| (v * 2.0).round()).collect();
                    check(&p, &x, &dy, 0);
                }
            }
        }
    }
    for offset in 0..16 {
        let p = MaxPool { n: 1, h: 8, w: 6, c: 17, kernel: 3, stride: 2, pad: 1 };
        check(&p, &random.special(p.x_len()), &random.vector(p.y_len()), offset);
    }
}

#[test]
fn the_rules_of_torch() {
    let nan = f32::NAN;
    let low = f32::NEG_INFINITY;
    let p = MaxPool { n: 1, h: 3, w: 3, c: 1, kernel: 2, stride: 1, pad: 0 };
    for_each_cpu(|cpu| {
        let (mut y, mut index) = ([0.0; 4], [9; 4]);
        forward(cpu, &p, &[1.0, nan, 3.0, nan, low, 2.0, 0.0, 0.0, 0.0], &mut y, &mut index);
        assert_exact(&y, &[f64::NAN, f64::NAN, f64::NAN, 2.0], "torch's y");
        // Torch's indices 3, 1, 3, 5 into the image, as places in the windows.
        assert_eq!(index, [2, 0, 0, 1]);
        let p = MaxPool { n: 1, h: 2, w: 2, c: 1, kernel: 3, stride: 2, pad: 1 };
        let (mut y, mut index) = ([0.0], [9]);
        forward(cpu, &p, &[low; 4], &mut y, &mut index);
        assert_eq!((y, index), ([low], [4]));
        forward(cpu, &p, &[-0.0, 0.0, 0.0, -0.0], &mut y, &mut index);
        assert_eq!((y[0].to_bits(), index), (0x8000_0000, [4]));
    });
}

#[test]
fn the_gradient_is_the_slope() {
    let p = MaxPool { n: 2, h: 5, w: 4, c: 2, kernel: 3, stride: 2, pad: 1 };
    // All different by more than the step.
    let x: Vec<f32> = (0..p.x_len()).map(|i| (i * 37 % 81) as f32 / 16.0).collect();
    let dy = Random::new(8).vector(p.y_len());
    let (mut y, mut index, mut dx) = (zeros(p.y_len()), vec![0; p.y_len()], zeros(p.x_len()));
    reference::maxpool::forward(&p, &x, &mut y, &mut index);
    reference::maxpool::backward_input(&p, &dy, &index, &mut dx);
    let loss = |x: &[f32]| {
        let (mut y, mut index) = (zeros(p.y_len()), vec![0; p.y_len()]);
        reference::maxpool::forward(&p, x, &mut y, &mut index);
        dot(&dy, &y)
    };
    assert_gradient(&x, &dx, loss, 1e-6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape(n in 1_usize..3, h in 1_usize..12, w in 1_usize..12, c in 1_usize..20,
                 kernel in 1_usize..6, stride in 1_usize..4, pad in 0_usize..3, seed: u64) {
        let p = MaxPool { n, h, w, c, kernel, stride, pad };
        prop_assume!(2 * pad <= kernel && kernel <= h.min(w) + 2 * pad);
        let mut random = Random::new(seed);
        check(&p, &random.special(p.x_len()), &random.vector(p.y_len()), seed as usize % 16);
    }
}
