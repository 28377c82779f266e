//! Clipping of gradients by their common norm, PyTorch's `clip_grad_norm_`, in three pieces:
//!
//! ```text
//! total = norm(Σ over gradients of reduce::sum_of_squares)
//! c = coefficient(total, max_norm) = min(1, max_norm / (total + 1e-6))
//! elementwise::scale_assign(c) on every gradient
//! ```

/// The norm of all gradients together, of the sum of their squares.
pub fn norm(sum_of_squares: f64) -> f64 {
    crate::lanes::sqrt(sum_of_squares)
}

/// What every gradient is to be multiplied by; NaN where the norm is NaN, as in PyTorch.
///
/// Reference: [`crate::reference::clip::coefficient`].
pub fn coefficient(total_norm: f64, max_norm: f32) -> f32 {
    let c = f64::from(max_norm) / (total_norm + 1e-6);
    // Not `min`, which would turn NaN into 1.
    if c > 1.0 { 1.0 } else { c as f32 }
}
