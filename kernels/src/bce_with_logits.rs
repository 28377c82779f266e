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
