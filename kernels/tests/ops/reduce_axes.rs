use super::testing::*;
use nunatak_core::Shape;
use nunatak_kernels::cross_entropy::Reduction;
use nunatak_kernels::reduce_axes::*;
use nunatak_kernels::reference::reduce_axes as reference;
use proptest::prelude::*;

fn axes(mask: usize) -> Axes {
    Axes { n: mask & 1 != 0, c: mask & 2 != 0, h: mask & 4 != 0, w: mask & 8 != 0 }
}

fn check(p: &ReduceAxes, offset: usize, random: &mut Random) {
    let (x_len, y_len) = (p.x_shape().len(), p.y_shape().len());
    let (x, dy) = (Offset::copy(&random.vector(x_len), offset), Offset::copy(&random.vector(y_len), 15 - offset));
    let (mut y, mut dx, start) = (zeros(y_len), zeros(x_len), random.vector(x_len));
    reference::forward(p, &x, &mut y);
    reference::backward_input(p, &dy, &mut dx);
    let count = (x_len / y_len) as f64;
    let divisor = if p.is_mean() { count } else { 1.0 };
    same_bits(
        |cpu| {
            let mut out = Offset::nan(x_len, offset);
            backward_input(cpu, p, &dy, &mut out, false);
            assert_within(&out, &dx, 2e-7, "dx");
            let mut sum = Offset::copy(&start, offset);
            backward_input(cpu, p, &dy, &mut sum, true);
            assert!(sum.iter().zip(&start).zip(out.iter()).all(|((s, a), b)| *s == a + b), "dx added");
            let mut out = Offset::nan(y_len, 15 - offset);
            forward(cpu, p, &x, &mut out, &mut Offset::scratch(p.scratch_len()));
            out.to_vec()
        },
        |_, out| {
            // To the size of what was added.
            let tolerance = 1e-6 * count.sqrt() / divisor;
            for (v, e) in out.iter().zip(&y) {
                assert!((f64::from(*v) - e).abs() <= tolerance + 2e-7 * e.abs(), "{p:?}: {v}, not {e}");
            }
        },
    );
}

#[test]
fn every_choice_of_axes_matches_the_reference() {
    let mut random = Random::new(91);
    for (n, c, h, w) in [(2, 5, 3, 4), (3, 17, 2, 2), (1, 33, 5, 1), (4, 64, 40, 41), (2, 1, 300, 70), (2, 2100, 2, 3)] {
        for mask in 0..16 {
            for reduction in [Reduction::Sum, Reduction::Mean] {
                let p = ReduceAxes::new(Shape::new(n, c, h, w).expect("a shape"), axes(mask), reduction);
                check(&p, mask, &mut random);
            }
        }
    }
}

#[test]
fn the_shape_keeps_its_axes() {
    let p = ReduceAxes::new(Shape::new(2, 3, 4, 5).expect("a shape"), Axes { c: true, w: true, ..Axes::default() }, Reduction::Mean);
    assert_eq!(p.y_shape().sizes(), [2, 1, 4, 1]);
}

#[test]
fn sums_and_means_of_known_numbers() {
    // torch.arange(12.).reshape(1, 2, 2, 3): here with channels last.
    let x = [0.0, 6.0, 1.0, 7.0, 2.0, 8.0, 3.0, 9.0, 4.0, 10.0, 5.0, 11.0];
    let shape = Shape::new(1, 2, 2, 3).expect("a shape");
    for_each_cpu(|cpu| {
        let mut y = [0.0; 4];
        let p = ReduceAxes::new(shape, Axes { w: true, ..Axes::default() }, Reduction::Sum);
        forward(cpu, &p, &x, &mut y, &mut []);
        // x.sum(3) is [[3, 12], [21, 30]].
        assert_eq!(y, [3.0, 21.0, 12.0, 30.0]);
        let p = ReduceAxes::new(shape, Axes { h: true, w: true, ..Axes::default() }, Reduction::Mean);
        forward(cpu, &p, &x, &mut y[..2], &mut []);
        assert_eq!(y[..2], [2.5, 8.5]);
    });
}

#[test]
fn the_gradient_is_the_slope() {
    let mut random = Random::new(92);
    let x = random.vector(24);
    for mask in 0..16 {
        let p = ReduceAxes::new(Shape::new(2, 3, 2, 2).expect("a shape"), axes(mask), Reduction::Mean);
        let dy = random.vector(p.y_shape().len());
        let mut dx = zeros(24);
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
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_shape(n in 1_usize..5, c in 1_usize..40, h in 1_usize..9, w in 1_usize..9, mask in 0_usize..16, mean: bool, seed: u64) {
        let reduction = if mean { Reduction::Mean } else { Reduction::Sum };
        let p = ReduceAxes::new(Shape::new(n, c, h, w).expect("a shape"), axes(mask), reduction);
        check(&p, seed as usize % 16, &mut Random::new(seed));
    }
}
