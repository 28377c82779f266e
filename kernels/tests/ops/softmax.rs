use super::testing::*;
use nunatak_core::Shape;
use nunatak_kernels::reference::softmax as reference;
use nunatak_kernels::softmax::*;

fn shape(n: usize, c: usize, h: usize, w: usize) -> Shape {
    Shape::new(n, c, h, w).expect("a shape")
}

#[test]
fn both_passes_match_the_reference() {
    let mut random = Random::new(81);
    for (i, c) in [1, 2, 3, 7, 8, 9, 10, 16, 17, 21, 33, 64, 1000, 5003].into_iter().enumerate() {
        for (n, h, w) in [(1, 1, 1), (3, 1, 1), (2, 5, 7)] {
            for p in [Softmax::new(shape(n, c, h, w)), Softmax::log(shape(n, c, h, w))] {
                let len = p.shape().len();
                let offset = (i + h) % 16;
                let logits: Vec<f32> = random.vector(len).iter().map(|v| v * 9.0).collect();
                let (x, dy) = (Offset::copy(&logits, offset), Offset::copy(&random.vector(len), 15 - offset));
                let (mut y, mut dx) = (zeros(len), zeros(len));
                reference::forward(&p, &x, &mut y);
                let saved: Vec<f32> = y.iter().map(|v| *v as f32).collect();
                reference::backward_input(&p, &saved, &dy, &mut dx);
                let start = random.vector(len);
                same_bits(
                    |cpu| {
                        let mut out = Offset::nan(len, 15 - offset);
                        forward(cpu, &p, Some(&x), &mut out);
                        let mut again = Offset::copy(&x, offset);
                        forward(cpu, &p, None, &mut again);
                        assert_eq!(&out[..], &again[..], "y in place");
                        let mut gradient = Offset::nan(len, offset);
                        backward_input(cpu, &p, &saved, Some(&dy), &mut gradient, false);
                        let mut again = Offset::copy(&dy, offset);
                        backward_input(cpu, &p, &saved, None, &mut again, false);
                        assert_eq!(&gradient[..], &again[..], "dx in place");
                        let mut sum = Offset::copy(&start, offset);
                        backward_input(cpu, &p, &saved, Some(&dy), &mut sum, true);
                        assert!(sum.iter().zip(&start).zip(gradient.iter()).all(|((s, a), b)| *s == a + b), "dx added");
                        [&out[..], &gradient[..]].concat()
                    },
                    |_, all| {
                        for (v, e) in all.iter().zip(&y) {
                            let tolerance = if p.is_log() { 4e-7 * e.abs() + 2e-7 } else { 2e-6 * e };
                            assert!((f64::from(*v) - e).abs() <= tolerance, "{p:?}: {v}, not {e}");
                        }
                        assert_within(&all[len..], &dx, 2e-6, "dx");
                    },
                );
            }
        }
    }
}

#[test]
fn the_rules_of_torch() {
    let (infinity, nan) = (f32::INFINITY, f32::NAN);
    let n = f64::NAN;
    let cases = [
        ([-infinity, -infinity], [n, n], [n, n]),
        ([nan, 1.0], [n, n], [n, n]),
        ([infinity, 1.0], [n, n], [n, n]),
        ([-infinity, 1.0], [0.0, 1.0], [f64::NEG_INFINITY, 0.0]),
        ([1e4, -1e4], [1.0, 0.0], [0.0, -20000.0]),
    ];
    for_each_cpu(|cpu| {
        for (x, shares, logs) in cases {
            let mut y = [0.0; 2];
            forward(cpu, &Softmax::new(shape(1, 2, 1, 1)), Some(&x), &mut y);
            assert_exact(&y, &shares, "torch's softmax");
            forward(cpu, &Softmax::log(shape(1, 2, 1, 1)), Some(&x), &mut y);
            assert_exact(&y, &logs, "torch's log_softmax");
        }
    });
}

#[test]
fn the_gradient_is_the_slope() {
    let mut random = Random::new(82);
    let (x, dy) = (random.vector(30), random.vector(30));
    for p in [Softmax::new(shape(2, 5, 3, 1)), Softmax::log(shape(2, 5, 3, 1))] {
        let (mut y, mut dx) = (zeros(30), zeros(30));
        reference::forward(&p, &x, &mut y);
        let saved: Vec<f32> = y.iter().map(|v| *v as f32).collect();
        reference::backward_input(&p, &saved, &dy, &mut dx);
        let loss = |x: &[f32]| {
            let mut y = zeros(30);
            reference::forward(&p, x, &mut y);
            dot(&dy, &y)
        };
        assert_gradient(&x, &dx, loss, 1e-4);
    }
}
