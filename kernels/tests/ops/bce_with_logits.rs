use super::testing::*;
use nunatak_core::Shape;
use nunatak_kernels::bce_with_logits::*;
use nunatak_kernels::cross_entropy::Reduction;
use nunatak_kernels::reference::bce_with_logits as reference;

#[test]
fn both_passes_match_the_reference() {
    let mut random = Random::new(75);
    for (i, c) in CHANNELS.into_iter().enumerate() {
        for (n, h, w) in [(1, 1, 1), (3, 5, 2), (2, 40, 33)] {
            for (weighted, reduction) in [(false, Reduction::Mean), (true, Reduction::Mean), (true, Reduction::Sum)] {
                let p = BceWithLogits::new(Shape::new(n, c, h, w).expect("a shape"), reduction);
                let len = p.shape().len();
                let logits: Vec<f32> = random.vector(len).iter().map(|v| v * 12.0).collect();
                let x = Offset::copy(&logits, i);
                let t: Vec<f32> =
                    random.vector(len).iter().map(|v| if v.abs() < 0.3 { v.abs() } else { (*v > 0.0) as u8 as f32 }).collect();
                let t = Offset::copy(&t, 15 - i);
                let weights: Vec<f32> = random.vector(c).iter().map(|v| v + 1.5).collect();
                let weights = weighted.then_some(&weights[..]);
                let loss = reference::forward(&p, reduction, &x, &t, weights);
                let mut dx = zeros(len);
                reference::backward_input(&p, reduction, &x, &t, weights, 0.7, &mut dx);
                same_bits(
                    |cpu| {
                        let mut all = Offset::nan(len, 1).to_vec();
                        backward_input(cpu, &p, BackwardInput { x: &x, t: &t, pos_weight: weights, dloss: 0.7, dx: &mut all, add: false });
                        assert_within(&all, &dx, 5e-7, "dx");
                        let mut sum = vec![2.0; len];
                        backward_input(cpu, &p, BackwardInput { x: &x, t: &t, pos_weight: weights, dloss: 0.7, dx: &mut sum, add: true });
                        assert!(sum.iter().zip(&all).all(|(sum, dx)| *sum == 2.0 + dx));
                        all.push(forward(cpu, &p, &x, &t, weights, &mut Offset::scratch(p.scratch_len())));
                        all
                    },
                    |_, all| assert_within(&all[len..], &[loss], 2e-6, "loss"),
                );
            }
        }
    }
}

#[test]
fn the_rules_of_torch() {
    let (nan, infinity) = (f64::NAN, f64::INFINITY);
    let low = f32::NEG_INFINITY;
    let cases = [
        (low, 0.0, nan, 0.0),
        (-200.0, 1.0, 400.0, -2.0),
        (0.0, 0.5, 1.039_720_773_696_899_4, -0.25),
        (200.0, 0.0, 200.0, 1.0),
        (-low, 1.0, nan, 0.0),
        (f32::NAN, 1.0, nan, nan),
        (-low, 0.0, infinity, 1.0),
        (low, 1.0, nan, -2.0),
    ];
    let p = BceWithLogits::new(Shape::SCALAR, Reduction::Mean);
    for_each_cpu(|cpu| {
        for (x, t, loss, slope) in cases {
            let y = forward(cpu, &p, &[x], &[t], Some(&[2.0]), &mut []);
            assert_within(&[y], &[loss], 1e-7, "torch's loss");
            let mut dx = [0.0];
            backward_input(cpu, &p, BackwardInput { x: &[x], t: &[t], pos_weight: Some(&[2.0]), dloss: 1.0, dx: &mut dx, add: false });
            assert_within(&dx, &[slope], 1e-7, "torch's dx");
        }
    });
}

#[test]
fn small_losses_are_accurate() {
    let p = BceWithLogits::new(Shape::SCALAR, Reduction::Sum);
    for_each_cpu(|cpu| {
        for x in [-80.0_f32, -30.0, -10.0, -3.0] {
            let y = forward(cpu, &p, &[x], &[0.0], None, &mut []);
            let e = libm::log1p(libm::exp(f64::from(x)));
            assert!((f64::from(y) - e).abs() <= 5e-7 * e, "{y:e}, not {e:e}");
        }
    });
}

#[test]
fn the_gradient_is_the_slope() {
    let mut random = Random::new(76);
    let p = BceWithLogits::new(Shape::new(2, 3, 2, 2).expect("a shape"), Reduction::Mean);
    let (x, weights) = (random.vector(24), [0.5, 1.0, 3.0]);
    let t: Vec<f32> = random.vector(24).iter().map(|v| v.abs()).collect();
    let mut dx = zeros(24);
    reference::backward_input(&p, Reduction::Mean, &x, &t, Some(&weights), 1.0, &mut dx);
    assert_gradient(&x, &dx, |x| reference::forward(&p, Reduction::Mean, x, &t, Some(&weights)), 1e-4);
}
