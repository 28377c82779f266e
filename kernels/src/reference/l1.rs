//! Absolute error over all elements.

use crate::cross_entropy::Reduction;

/// `Σ|a − b|`, divided by the number of elements for the mean.
pub fn forward(reduction: Reduction, a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).sum();
    sum / divisor(reduction, a.len())
}

/// `da = sign(a − b) · dloss`, divided likewise.
pub fn backward_input(reduction: Reduction, a: &[f32], b: &[f32], dloss: f32, da: &mut [f64]) {
    assert_eq!(a.len(), b.len());
    assert_eq!(a.len(), da.len());
    let factor = f64::from(dloss) / divisor(reduction, a.len());
    for ((a, b), da) in a.iter().zip(b).zip(da) {
        let d = f64::from(*a) - f64::from(*b);
        *da = if d > 0.0 {
            factor
        } else if d < 0.0 {
            -factor
        } else {
            0.0
        };
    }
}

pub(super) fn divisor(reduction: Reduction, len: usize) -> f64 {
    if reduction == Reduction::Mean { len as f64 } else { 1.0 }
}
