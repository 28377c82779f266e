//! Mean squared error over all elements, `loss = Σ(a − b)²/n`, PyTorch's `mse_loss`.
//!
//! `da = 2·(a − b)/n · dloss`, and `db = −da`.

use crate::Cpu;
use crate::isa::Isa;
use crate::lanes::{Map, map};
use crate::reduce::{self, Term};

/// Scratch in `f32` for [`forward`] over `len` numbers (64-byte aligned).
pub const fn scratch_len(len: usize) -> usize {
    reduce::scratch_len(len)
}

/// The loss; NaN where there is nothing, as in PyTorch.
///
/// | name | shape | |
/// |---|---|---|
/// | `a`, `b` | any, equal | read |
/// | `scratch` | [`scratch_len`] | overwritten |
///
/// Reference: [`crate::reference::mse::forward`].
///
/// # Panics
/// If lengths differ or `scratch` is too short.
pub fn forward(cpu: &Cpu, a: &[f32], b: &[f32], scratch: &mut [f32]) -> f32 {
    (reduce::total(cpu, SquaredDifference, [a, b], scratch) / a.len() as f64) as f32
}

/// `da = 2·(a − b)/n · dloss`
///
/// | name | shape | |
/// |---|---|---|
/// | `a`, `b` | any, equal | read |
/// | `da` | as `a` | overwritten |
///
/// For `db` exchange `a` and `b`. No scratch. Reference: [`crate::reference::mse::backward_input`].
///
/// # Panics
/// If lengths differ.
pub fn backward_input(cpu: &Cpu, a: &[f32], b: &[f32], dloss: f32, da: &mut [f32]) {
    let factor = (2.0 * f64::from(dloss) / a.len() as f64) as f32;
    map(cpu, ScaledDifference(factor), [a, b], da);
}

#[derive(Clone, Copy)]
struct SquaredDifference;

impl Term<2> for SquaredDifference {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, [a, b]: [I::V; 2]) -> I::V {
        let d = isa.sub(a, b);
        isa.mul(d, d)
    }
}

#[derive(Clone, Copy)]
struct ScaledDifference(f32);

impl Map<2> for ScaledDifference {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, _: I::V, [a, b]: [I::V; 2]) -> I::V {
        isa.mul(isa.sub(a, b), isa.splat(self.0))
    }
}
