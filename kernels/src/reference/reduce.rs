//! Sums over all elements.

/// `Σ x`
pub fn sum(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x)).sum()
}

/// `Σ x / n`; of nothing it is NaN, as in PyTorch.
pub fn mean(x: &[f32]) -> f64 {
    if x.is_empty() { f64::NAN } else { sum(x) / x.len() as f64 }
}

/// `Σ x²`
pub fn sum_of_squares(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum()
}

/// `dx = value`: the gradient of a sum; of a mean with `value / n`.
pub fn fill(value: f32, dx: &mut [f64]) {
    dx.fill(f64::from(value));
}

/// `dx += value`
pub fn fill_accumulate(value: f32, dx: &mut [f64]) {
    for dx in dx {
        *dx += f64::from(value);
    }
}
