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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::testing::*;

    #[test]
    fn both_passes_match_the_reference() {
        let mut random = Random::new(11);
        for len in [1, 3, 10, 16, 17, 33, 64, 513, 1000, 20_001] {
            for offset in if len < 100 { 0..16 } else { 3..5 } {
                let a = Offset::copy(&random.vector(len), offset);
                let b = Offset::copy(&random.vector(len), 15 - offset);
                let mut da = zeros(len);
                reference::mse::backward_input(&a, &b, 0.7, &mut da);
                let loss = reference::mse::forward(&a, &b);
                same_bits(
                    |cpu| {
                        let mut all = Offset::nan(len, 1).to_vec();
                        backward_input(cpu, &a, &b, 0.7, &mut all);
                        assert_within(&all, &da, 5e-7, "da");
                        all.push(forward(cpu, &a, &b, &mut Offset::scratch(scratch_len(len))));
                        all
                    },
                    |_, all| assert_within(&all[len..], &[loss], 1e-6, "loss"),
                );
            }
        }
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let mut random = Random::new(12);
        let (a, b) = (random.vector(20), random.vector(20));
        let mut da = zeros(20);
        reference::mse::backward_input(&a, &b, 1.0, &mut da);
        assert_gradient(&a, &da, |a| reference::mse::forward(a, &b), 1e-6);
        for_each_cpu(|cpu| assert!(forward(cpu, &[], &[], &mut []).is_nan()));
    }
}
