//! Absolute error with a rounded kink.

use super::l1::{self, divisor};
use crate::cross_entropy::Reduction;

/// `Σ d²/(2·beta)` where |d| < beta, else `|d| − beta/2`; divided by the number of elements for the mean.
pub fn forward(beta: f32, reduction: Reduction, a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let beta = f64::from(beta);
    let one = |(a, b): (&f32, &f32)| {
        let d = (f64::from(*a) - f64::from(*b)).abs();
        if d < beta { 0.5 * d * d / beta } else { d - 0.5 * beta }
    };
    a.iter().zip(b).map(one).sum::<f64>() / divisor(reduction, a.len())
}

/// `da = d/beta · dloss` within, `sign(d) · dloss` outside; divided likewise.
pub fn backward_input(beta: f32, reduction: Reduction, a: &[f32], b: &[f32], dloss: f32, da: &mut [f64]) {
    if beta == 0.0 {
        return l1::backward_input(reduction, a, b, dloss, da);
    }
    assert_eq!(a.len(), b.len());
    assert_eq!(a.len(), da.len());
    let (beta, factor) = (f64::from(beta), f64::from(dloss) / divisor(reduction, a.len()));
    for ((a, b), da) in a.iter().zip(b).zip(da) {
        let d = f64::from(*a) - f64::from(*b);
        *da = factor * if d.abs() < beta || d.is_nan() { d / beta } else { d.signum() };
    }
}
