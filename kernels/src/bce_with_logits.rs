//! Cross entropy of independent yes-or-no answers, PyTorch's `binary_cross_entropy_with_logits`: for
//! labels of which several may hold at once.
//!
//! With s = sigmoid(x), target t from 0 to 1 and the channel's weight p of positive answers (1 where
//! none is given) an element counts `−p·t·ln s − (1 − t)·ln(1 − s)`; `loss` is their sum, divided by the
//! number of elements for the mean. `dx = ((1 − t)·s − p·t·(1 − s)) · dloss` (/n).
//!
//! Logarithms are taken of 1 + e^−|x|, so that no logit overflows. As in PyTorch a logit of −∞ gives
//! NaN, and so does ∞ with target 1.

use crate::Cpu;
use crate::axes::{Sums, Walk};
use crate::cross_entropy::Reduction;
use crate::isa::Isa;
use crate::math;
use crate::reduce::Term;
use nunatak_core::Shape;

/// The loss's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BceWithLogits {
    shape: Shape,
    reduction: Reduction,
}

impl BceWithLogits {
    /// For logits and targets of this shape.
    pub const fn new(shape: Shape, reduction: Reduction) -> BceWithLogits {
        BceWithLogits { shape, reduction }
    }

    /// The shape of logits and targets.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Scratch in `f32` for [`forward`].
    pub fn scratch_len(&self) -> usize {
        self.sums(false).scratch_len().max(self.sums(true).scratch_len())
    }

    fn sizes(&self) -> [usize; 4] {
        [self.shape.n(), self.shape.h(), self.shape.w(), self.shape.c()]
    }

    fn sums(&self, weighted: bool) -> Sums<3> {
        Sums::new(self.sizes(), [[true; 4], [true; 4], weights_axes(weighted)], [false; 4])
    }

    fn check(&self, x: usize, t: usize, weights: Option<&[f32]>) {
        assert_eq!((x, t), (self.shape.len(), self.shape.len()), "logits and targets of {}", self.shape);
        if let Some(weights) = weights {
            assert_eq!(weights.len(), self.shape.c(), "a weight per channel of {}", self.shape);
        }
    }
}

/// Which of the axes n h w c the weights have.
fn weights_axes(weighted: bool) -> [bool; 4] {
    [false, false, false, weighted]
}

/// The loss.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | n x h x w x c | read: logits |
/// | `t` | as `x` | read: targets, 0 to 1 |
/// | `pos_weight` | c, or none: all 1 | read |
/// | `scratch` | [`BceWithLogits::scratch_len`] | overwritten |
///
/// Reference: [`crate::reference::bce_with_logits::forward`].
///
/// # Panics
/// If a length is wrong.
pub fn forward(cpu: &Cpu, p: &BceWithLogits, x: &[f32], t: &[f32], pos_weight: Option<&[f32]>, scratch: &mut [f32]) -> f32 {
    p.check(x.len(), t.len(), pos_weight);
    let mut loss = [0.0];
    let factor = 1.0 / p.reduction.divisor(x.len());
    p.sums(pos_weight.is_some()).scaled(cpu, Loss, [x, t, pos_weight.unwrap_or(&[1.0])], factor, &mut loss, scratch);
    loss[0]
}

/// The tensors of [`backward_input`].
#[derive(Debug)]
pub struct BackwardInput<'a> {
    /// n x h x w x c: read. Logits.
    pub x: &'a [f32],
    /// As `x`: read. Targets, 0 to 1.
    pub t: &'a [f32],
    /// c, or none (all 1): read.
    pub pos_weight: Option<&'a [f32]>,
    /// The gradient of the loss.
    pub dloss: f32,
    /// As `x`: overwritten, or added to where `add`.
    pub dx: &'a mut [f32],
    /// Whether the gradient is added to what `dx` holds.
    pub add: bool,
}

/// `dx = ((1 − t)·s − p·t·(1 − s)) · dloss`, divided by the number of elements for the mean.
///
/// No scratch. Reference: [`crate::reference::bce_with_logits::backward_input`].
///
/// # Panics
/// If a length is wrong.
pub fn backward_input(cpu: &Cpu, p: &BceWithLogits, call: BackwardInput) {
    let BackwardInput { x, t, pos_weight, dloss, dx, add } = call;
    p.check(x.len(), t.len(), pos_weight);
    let factor = (f64::from(dloss) / p.reduction.divisor(x.len())) as f32;
    let walk = Walk::new(p.sizes(), [[true; 4], [true; 4], weights_axes(pos_weight.is_some())]);
    walk.apply(cpu, Slope(factor), [Some(x), Some(t), Some(pos_weight.unwrap_or(&[1.0]))], dx, add);
}

#[derive(Clone, Copy)]
struct Loss;

impl Term<3> for Loss {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, [x, t, p]: [I::V; 3]) -> I::V {
        let (zero, one) = (isa.splat(0.0), isa.splat(1.0));
        let negative = isa.sub(zero, x);
        // ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|), and likewise for −x.
        let log = math::log_of_one_plus(isa, math::exp(isa, isa.bits_or(x, isa.splat(-0.0))));
        let no = isa.add(math::at_least(isa, x, zero), log);
        let yes = isa.add(math::at_least(isa, negative, zero), log);
        let loss = isa.fma(isa.mul(p, t), yes, isa.mul(isa.sub(one, t), no));
        isa.select(isa.lt(x, isa.splat(f32::MIN)), isa.splat(f32::NAN), loss)
    }
}

/// Times this.
#[derive(Clone, Copy)]
struct Slope(f32);

impl Term<3> for Slope {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, [x, t, p]: [I::V; 3]) -> I::V {
        let (yes, no) = math::sigmoid(isa, x);
        let wrong = isa.mul(isa.sub(isa.splat(1.0), t), yes);
        isa.mul(isa.sub(wrong, isa.mul(isa.mul(p, t), no)), isa.splat(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::bce_with_logits as reference;
    use crate::testing::*;
    use std::vec::Vec;

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
                            backward_input(
                                cpu,
                                &p,
                                BackwardInput { x: &x, t: &t, pos_weight: weights, dloss: 0.7, dx: &mut all, add: false },
                            );
                            assert_within(&all, &dx, 5e-7, "dx");
                            let mut sum = std::vec![2.0; len];
                            backward_input(
                                cpu,
                                &p,
                                BackwardInput { x: &x, t: &t, pos_weight: weights, dloss: 0.7, dx: &mut sum, add: true },
                            );
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
}
