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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::smooth_l1 as reference;
    use crate::testing::*;

    #[test]
    fn both_passes_match_the_reference() {
        let mut random = Random::new(73);
        for (beta, reduction) in [(1.0, Reduction::Mean), (0.3, Reduction::Sum), (0.0, Reduction::Mean), (1e-3, Reduction::Mean)] {
            for len in [1, 3, 10, 16, 17, 33, 64, 513, 1000, 20_001] {
                for offset in if len < 100 { 0..16 } else { 3..5 } {
                    let a = Offset::copy(&random.vector(len), offset);
                    let b = Offset::copy(&random.vector(len), 15 - offset);
                    let mut da = zeros(len);
                    reference::backward_input(beta, reduction, &a, &b, 0.7, &mut da);
                    let loss = reference::forward(beta, reduction, &a, &b);
                    same_bits(
                        |cpu| {
                            let mut all = Offset::nan(len, 1).to_vec();
                            backward_input(cpu, beta, reduction, BackwardInput { a: &a, b: &b, dloss: 0.7, da: &mut all, add: false });
                            assert_within(&all, &da, 5e-7, "da");
                            let mut sum = std::vec![2.0; len];
                            backward_input(cpu, beta, reduction, BackwardInput { a: &a, b: &b, dloss: 0.7, da: &mut sum, add: true });
                            assert!(sum.iter().zip(&all).all(|(sum, da)| *sum == 2.0 + da));
                            all.push(forward(cpu, beta, reduction, &a, &b, &mut Offset::scratch(scratch_len(len))));
                            all
                        },
                        |_, all| assert_within(&all[len..], &[loss], 1e-6, "loss"),
                    );
                }
            }
        }
    }

    #[test]
    fn the_rules_of_torch() {
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        for_each_cpu(|cpu| {
            let a = [1.0, 1.0, 2.0, 0.0, nan, infinity, infinity, -infinity, 0.5];
            let b = [1.0, 2.0, 1.0, -0.0, 1.0, infinity, 1.0, 1.0, 0.25];
            let mut da = [9.0; 9];
            backward_input(cpu, 1.0, Reduction::Sum, BackwardInput { a: &a, b: &b, dloss: 1.0, da: &mut da, add: false });
            let e = f64::NAN;
            assert_exact(&da, &[0.0, -1.0, 1.0, 0.0, e, e, 1.0, -1.0, 0.25], "torch's da");
            assert_eq!(forward(cpu, 1.0, Reduction::Sum, &a[..4], &b[..4], &mut Offset::scratch(2)), 1.0);
        });
    }

    #[test]
    #[should_panic(expected = "a beta of -1")]
    fn a_negative_beta_is_refused() {
        forward(&Cpu { level: crate::Level::PORTABLE, threads: &crate::Threads::serial() }, -1.0, Reduction::Sum, &[], &[], &mut []);
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let mut random = Random::new(74);
        let a = random.vector(20);
        let b: std::vec::Vec<f32> = a.iter().map(|v| v * 1.7 + 0.03).collect();
        let mut da = zeros(20);
        reference::backward_input(0.4, Reduction::Mean, &a, &b, 1.0, &mut da);
        assert_gradient(&a, &da, |a| reference::forward(0.4, Reduction::Mean, a, &b), 1e-2);
    }
}
