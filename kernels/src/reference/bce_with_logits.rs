//! Cross entropy of independent yes-or-no answers.

use super::l1::divisor;
use crate::bce_with_logits::BceWithLogits;
use crate::cross_entropy::Reduction;
use libm::{exp, log1p};

/// −ln sigmoid(x)
fn surprise(x: f64) -> f64 {
    (-x).max(0.0) + log1p(exp(-x.abs()))
}

/// `Σ −p·t·ln s − (1 − t)·ln(1 − s)`, divided by the number of elements for the mean.
pub fn forward(p: &BceWithLogits, reduction: Reduction, x: &[f32], t: &[f32], weights: Option<&[f32]>) -> f64 {
    assert_eq!(x.len(), t.len());
    let mut sum = 0.0;
    for (i, (x, t)) in x.iter().zip(t).enumerate() {
        let (x, t) = (f64::from(*x), f64::from(*t));
        let weight = weights.map_or(1.0, |w| f64::from(w[i % p.shape().c()]));
        sum += weight * t * surprise(x) + (1.0 - t) * surprise(-x);
    }
    sum / divisor(reduction, x.len())
}

/// `dx = ((1 − t)·s − p·t·(1 − s)) · dloss`, divided likewise.
pub fn backward_input(p: &BceWithLogits, reduction: Reduction, x: &[f32], t: &[f32], weights: Option<&[f32]>, dloss: f32, dx: &mut [f64]) {
    assert_eq!(x.len(), t.len());
    assert_eq!(x.len(), dx.len());
    let factor = f64::from(dloss) / divisor(reduction, x.len());
    for (i, ((x, t), dx)) in x.iter().zip(t).zip(dx).enumerate() {
        let (x, t) = (f64::from(*x), f64::from(*t));
        let weight = weights.map_or(1.0, |w| f64::from(w[i % p.shape().c()]));
        let s = 1.0 / (1.0 + exp(-x));
        *dx = factor * ((1.0 - t) * s - weight * t * (1.0 - s));
    }
}
