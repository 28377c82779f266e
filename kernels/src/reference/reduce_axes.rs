//! Sums and means over some axes.

use crate::reduce_axes::ReduceAxes;

/// Calls `f(place in x, place in y)` for every number of x.
fn pairs(p: &ReduceAxes, mut f: impl FnMut(usize, usize)) {
    let (x, y) = (p.x_shape(), p.y_shape());
    let mut at = 0;
    for n in 0..x.n() {
        for h in 0..x.h() {
            for w in 0..x.w() {
                for c in 0..x.c() {
                    let (n, h, w, c) = (n.min(y.n() - 1), h.min(y.h() - 1), w.min(y.w() - 1), c.min(y.c() - 1));
                    f(at, ((n * y.h() + h) * y.w() + w) * y.c() + c);
                    at += 1;
                }
            }
        }
    }
}

/// The number of elements for a mean, else 1.
fn divisor(p: &ReduceAxes) -> f64 {
    if p.is_mean() { (p.x_shape().len() / p.y_shape().len()) as f64 } else { 1.0 }
}

/// `y = Σ x`, divided for the mean.
pub fn forward(p: &ReduceAxes, x: &[f32], y: &mut [f64]) {
    y.fill(0.0);
    pairs(p, |i, o| y[o] += f64::from(x[i]) / divisor(p));
}

/// `dx` = dy repeated, divided for the mean.
pub fn backward_input(p: &ReduceAxes, dy: &[f32], dx: &mut [f64]) {
    pairs(p, |i, o| dx[i] = f64::from(dy[o]) / divisor(p));
}
