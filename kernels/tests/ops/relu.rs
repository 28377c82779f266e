use super::testing::*;
use nunatak_kernels::reference;
use nunatak_kernels::relu::*;
use proptest::prelude::*;

#[test]
fn both_passes_match_the_reference_in_place_or_not() {
    let mut random = Random::new(1);
    for len in [0, 1, 7, 8, 9, 15, 16, 17, 63, 8191, 8192, 8193, 20000] {
        for offset in if len < 100 { 0..16 } else { 3..5 } {
            let x = Offset::copy(&random.special(len), offset);
            let dy = Offset::copy(&random.special(len), 15 - offset);
            let (mut y, mut dx) = (zeros(len), zeros(len));
            reference::relu::forward(&x, &mut y);
            reference::relu::backward_input(&x, &dy, &mut dx);
            for_each_cpu(|cpu| {
                let mut out = Offset::nan(len, 15 - offset);
                forward(cpu, Some(&x), &mut out);
                assert_exact(&out, &y, "y");
                out.copy_from_slice(&x);
                forward(cpu, None, &mut out);
                assert_exact(&out, &y, "y in place");
                let mut out = Offset::nan(len, offset);
                backward_input(cpu, &x, Some(&dy), &mut out);
                assert_exact(&out, &dx, "dx");
                out.copy_from_slice(&dy);
                backward_input(cpu, &x, None, &mut out);
                assert_exact(&out, &dx, "dx in place");
            });
        }
    }
}

#[test]
fn minus_zero_and_nan_stay() {
    for_each_cpu(|cpu| {
        let mut y = [-0.0, 0.0, f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -1.0, 2.0];
        forward(cpu, None, &mut y);
        assert_exact(&y, &[-0.0, 0.0, f64::NAN, 0.0, f64::INFINITY, 0.0, 2.0], "torch's y");
        let mut dx = [3.0; 7];
        backward_input(cpu, &y, None, &mut dx);
        assert_eq!(dx, [0.0, 0.0, 3.0, 0.0, 3.0, 0.0, 3.0]);
    });
}

#[test]
fn the_gradient_is_the_slope() {
    let mut random = Random::new(2);
    // Not near the kink.
    let x: Vec<f32> = random.vector(40).iter().map(|v| v + v.signum() * 0.1).collect();
    let dy = random.vector(40);
    let mut dx = zeros(40);
    reference::relu::backward_input(&x, &dy, &mut dx);
    let loss = |x: &[f32]| {
        let mut y = zeros(40);
        reference::relu::forward(x, &mut y);
        dot(&dy, &y)
    };
    assert_gradient(&x, &dx, loss, 1e-6);
}

proptest! {
    #[test]
    fn any_bits(bits in proptest::collection::vec(any::<u32>(), 0..70)) {
        let x: Vec<f32> = bits.iter().map(|b| f32::from_bits(*b)).collect();
        for_each_cpu(|cpu| {
            // Denormal numbers too, whatever the build does with them.
            let threads = cpu.threads.clone().with_denormals(nunatak_kernels::Denormals::Keep);
            let mut y = x.clone();
            forward(&nunatak_kernels::Cpu { level: cpu.level, threads: &threads }, None, &mut y);
            for (x, y) in x.iter().zip(&y) {
                assert!(if *x < 0.0 { y.to_bits() == 0 } else { x.to_bits() == y.to_bits() });
            }
        });
    }
}
