//! Absolute error with a rounded kink, PyTorch's `smooth_l1_loss`.
//!
//! With d = a − b an element counts d²/(2·beta) where |d| < beta, else |d| − beta/2; `loss` is their
//! sum, divided by n for the mean. `da` is d/beta within, the sign of d outside, times dloss (/n);
//! `db = −da`. With beta 0 it is [`crate::l1`]; divided by beta it would be Huber's loss.

use crate::axes::Walk;
use crate::cross_entropy::Reduction;
use crate::isa::Isa;
use crate::reduce::{self, Term};
use crate::{Cpu, l1, math};

/// Scratch in `f32` for [`forward`] over `len` numbers (64-byte aligned).
pub const fn scratch_len(len: usize) -> usize {
    reduce::scratch_len(len)
}

fn check(beta: f32) {
    assert!(beta >= 0.0, "a beta of {beta}; it must be at least 0");
}

/// The loss; the mean of nothing is NaN, as in PyTorch.
///
/// | name | shape | |
/// |---|---|---|
/// | `a`, `b` | any, equal | read |
/// | `scratch` | [`scratch_len`] | overwritten |
///
/// Reference: [`crate::reference::smooth_l1::forward`].
///
/// # Panics
/// If lengths differ, `scratch` is too short, or beta is below 0 or NaN.
pub fn forward(cpu: &Cpu, beta: f32, reduction: Reduction, a: &[f32], b: &[f32], scratch: &mut [f32]) -> f32 {
    check(beta);
    if beta == 0.0 {
        return l1::forward(cpu, reduction, a, b, scratch);
    }
    (reduce::total(cpu, Loss(beta), [a, b], scratch) / reduction.divisor(a.len())) as f32
}

/// The tensors of [`backward_input`].
#[derive(Debug)]
pub struct BackwardInput<'a> {
    /// Any shape: read.
    pub a: &'a [f32],
    /// As `a`: read.
    pub b: &'a [f32],
    /// The gradient of the loss.
    pub dloss: f32,
    /// As `a`: overwritten, or added to where `add`.
    pub da: &'a mut [f32],
    /// Whether the gradient is added to what `da` holds.
    pub add: bool,
}

/// The gradient of `a`.
///
/// For `db` exchange `a` and `b`. No scratch. Reference: [`crate::reference::smooth_l1::backward_input`].
///
/// # Panics
/// If lengths differ, or beta is below 0 or NaN.
pub fn backward_input(cpu: &Cpu, beta: f32, reduction: Reduction, call: BackwardInput) {
    let BackwardInput { a, b, dloss, da, add } = call;
    check(beta);
    if beta == 0.0 {
        return l1::backward_input(cpu, reduction, a, b, dloss, da, add);
    }
    let factor = (f64::from(dloss) / reduction.divisor(a.len())) as f32;
    Walk::flat(da.len()).apply(cpu, Slope { beta, factor }, [Some(a), Some(b)], da, add);
}

/// With this beta.
#[derive(Clone, Copy)]
struct Loss(f32);

impl Term<2> for Loss {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, [a, b]: [I::V; 2]) -> I::V {
        let (beta, half) = (isa.splat(self.0), isa.splat(0.5));
        let d = math::abs(isa, isa.sub(a, b));
        let within = isa.div(isa.mul(isa.mul(half, d), d), beta);
        isa.select(isa.lt(d, beta), within, isa.sub(d, isa.mul(half, beta)))
    }
}

#[derive(Clone, Copy)]
struct Slope {
    beta: f32,
    factor: f32,
}

impl Term<2> for Slope {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, [a, b]: [I::V; 2]) -> I::V {
        let (beta, factor) = (isa.splat(self.beta), isa.splat(self.factor));
        let d = isa.sub(a, b);
        let within = isa.div(isa.mul(factor, d), beta);
        let slope = isa.select(isa.le(d, isa.splat(-self.beta)), isa.splat(-self.factor), within);
        isa.select(isa.le(beta, d), factor, slope)
    }
}
