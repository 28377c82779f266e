use super::testing::*;
use nunatak_core::Shape;
use nunatak_kernels::avgpool::windows::*;
use nunatak_kernels::reference::avgpool::windows as reference;
use proptest::prelude::*;

fn check(p: &AvgPool, offset: usize, random: &mut Random) {
    let (x_len, y_len) = (p.x_shape().len(), p.y_shape().len());
    let (x, dy) = (Offset::copy(&random.vector(x_len), offset), Offset::copy(&random.vector(y_len), 15 - offset));
    let (mut y, mut dx, start) = (zeros(y_len), zeros(x_len), random.vector(x_len));
    reference::forward(p, &x, &mut y);
    reference::backward_input(p, &dy, &mut dx);
    same_bits(
        |cpu| {
            let mut out = Offset::nan(y_len, 15 - offset);
            forward(cpu, p, &x, &mut out);
            for (v, e) in out.iter().zip(&y) {
                assert!((f64::from(*v) - e).abs() <= 5e-7, "{p:?}: {v}, not {e}");
            }
            let mut gradient = Offset::nan(x_len, offset);
            backward_input(cpu, p, &dy, &mut gradient, false);
            assert_within(&gradient, &dx, 1e-6, "dx");
            let mut sum = Offset::copy(&start, offset);
            backward_input(cpu, p, &dy, &mut sum, true);
            let expected: Vec<f64> = start.iter().zip(&dx).map(|(a, b)| f64::from(*a) + b).collect();
            assert_within(&sum, &expected, 1e-6, "dx added");
            [&out[..], &gradient[..], &sum[..]].concat()
        },
        |_, _| {},
    );
}

#[test]
fn both_passes_match_the_reference() {
    let mut random = Random::new(101);
    for (i, c) in CHANNELS.into_iter().enumerate() {
        for (kernel, stride, pad) in
            [([2, 2], [2, 2], [0, 0]), ([3, 3], [1, 1], [1, 1]), ([3, 2], [2, 1], [1, 0]), ([5, 1], [3, 2], [2, 0])]
        {
            for (n, h, w) in [(1, 5, 5), (2, 8, 7), (1, 13, 2)] {
                for include in [true, false] {
                    let x = Shape::new(n, c, h, w).expect("a shape");
                    check(&AvgPool::new(x, kernel, stride, pad, include).expect("windows that fit"), (i + h) % 16, &mut random);
                }
            }
        }
    }
}

#[test]
fn padding_counts_as_in_torch() {
    // F.avg_pool2d(torch.ones(1, 1, 3, 3), 2, 2, 1), and with count_include_pad=False.
    let x = Shape::new(1, 1, 3, 3).expect("a shape");
    for_each_cpu(|cpu| {
        for (include, expected) in [(true, [0.25, 0.5, 0.5, 1.0]), (false, [1.0; 4])] {
            let p = AvgPool::new(x, [2; 2], [2; 2], [1; 2], include).expect("windows that fit");
            let mut y = [0.0; 4];
            forward(cpu, &p, &[1.0; 9], &mut y);
            assert_eq!(y, expected);
        }
    });
}

#[test]
fn the_gradient_is_the_slope() {
    let mut random = Random::new(102);
    let shape = Shape::new(2, 3, 5, 4).expect("a shape");
    for include in [true, false] {
        let p = AvgPool::new(shape, [3, 2], [2, 1], [1, 1], include).expect("windows that fit");
        let (x, dy) = (random.vector(shape.len()), random.vector(p.y_shape().len()));
        let mut dx = zeros(shape.len());
        reference::backward_input(&p, &dy, &mut dx);
        let loss = |x: &[f32]| {
            let mut y = zeros(dy.len());
            reference::forward(&p, x, &mut y);
            dot(&dy, &y)
        };
        assert_gradient(&x, &dx, loss, 1e-6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape(n in 1_usize..3, h in 1_usize..12, w in 1_usize..12, c in 1_usize..20, kernel in [1_usize..6, 1_usize..6],
                 stride in [1_usize..4, 1_usize..4], pad in [0_usize..3, 0_usize..3], include: bool, seed: u64) {
        if let Ok(p) = AvgPool::new(Shape::new(n, c, h, w).expect("a shape"), kernel, stride, pad, include) {
            check(&p, seed as usize % 16, &mut Random::new(seed));
        }
    }
}
