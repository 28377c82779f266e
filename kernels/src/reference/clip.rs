//! Clipping of gradients by their norm.

/// `√Σ‖g‖²` over all gradients.
pub fn norm<'a>(gradients: impl Iterator<Item = &'a [f32]>) -> f64 {
    libm::sqrt(gradients.map(super::reduce::sum_of_squares).sum())
}

/// `min(1, max_norm / (total_norm + 1e-6))`, NaN where the norm is.
pub fn coefficient(total_norm: f64, max_norm: f64) -> f64 {
    let c = max_norm / (total_norm + 1e-6);
    if c > 1.0 { 1.0 } else { c }
}
