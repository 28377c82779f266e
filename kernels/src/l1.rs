//! Absolute error over all elements, PyTorch's `l1_loss`: `loss = Σ|a − b|`, divided by n for the mean.
//!
//! `da = sign(a − b)/n · dloss`, where the sign of 0 and of NaN is 0, and `db = −da`.

use crate::Cpu;
use crate::axes::Walk;
use crate::cross_entropy::Reduction;
use crate::isa::Isa;
use crate::math;
use crate::reduce::{self, Term};

/// Scratch in `f32` for [`forward`] over `len` numbers (64-byte aligned).
pub const fn scratch_len(len: usize) -> usize {
    reduce::scratch_len(len)
}

/// The loss; the mean of nothing is NaN, as in PyTorch.
///
/// | name | shape | |
/// |---|---|---|
/// | `a`, `b` | any, equal | read |
/// | `scratch` | [`scratch_len`] | overwritten |
///
/// Reference: [`crate::reference::l1::forward`].
///
/// # Panics
/// If lengths differ or `scratch` is too short.
pub fn forward(cpu: &Cpu, reduction: Reduction, a: &[f32], b: &[f32], scratch: &mut [f32]) -> f32 {
    (reduce::total(cpu, Distance, [a, b], scratch) / reduction.divisor(a.len())) as f32
}

/// `da = sign(a − b)/n · dloss`
///
/// | name | shape | |
/// |---|---|---|
/// | `a`, `b` | any, equal | read |
/// | `da` | as `a` | overwritten, or where `add` accumulated |
///
/// For `db` exchange `a` and `b`. No scratch. Reference: [`crate::reference::l1::backward_input`].
///
/// # Panics
/// If lengths differ.
pub fn backward_input(cpu: &Cpu, reduction: Reduction, a: &[f32], b: &[f32], dloss: f32, da: &mut [f32], add: bool) {
    let factor = (f64::from(dloss) / reduction.divisor(a.len())) as f32;
    Walk::flat(da.len()).apply(cpu, ScaledSign(factor), [Some(a), Some(b)], da, add);
}

#[derive(Clone, Copy)]
struct Distance;

impl Term<2> for Distance {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, [a, b]: [I::V; 2]) -> I::V {
        math::abs(isa, isa.sub(a, b))
    }
}

#[derive(Clone, Copy)]
struct ScaledSign(f32);

impl Term<2> for ScaledSign {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, [a, b]: [I::V; 2]) -> I::V {
        isa.mul(math::sign(isa, isa.sub(a, b)), isa.splat(self.0))
    }
}
