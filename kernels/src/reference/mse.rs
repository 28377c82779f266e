//! Mean squared error over all elements.

/// `Σ(a − b)² / n`
pub fn forward(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)) * (f64::from(*a) - f64::from(*b))).sum();
    sum / a.len() as f64
}

/// `da = 2·(a − b)/n · dloss`
pub fn backward_input(a: &[f32], b: &[f32], dloss: f32, da: &mut [f64]) {
    assert_eq!(a.len(), b.len());
    assert_eq!(a.len(), da.len());
    let n = a.len() as f64;
    for ((a, b), da) in a.iter().zip(b).zip(da) {
        *da = 2.0 * (f64::from(*a) - f64::from(*b)) / n * f64::from(dloss);
    }
}
