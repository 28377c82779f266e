//! Channels last to PyTorch's order, and back.

use crate::flatten::Flatten;

/// Calls `f(place in x, place in y)` for every number.
fn pairs(p: &Flatten, mut f: impl FnMut(usize, usize)) {
    let s = p.shape();
    for n in 0..s.n() {
        for c in 0..s.c() {
            for h in 0..s.h() {
                for w in 0..s.w() {
                    f(((n * s.h() + h) * s.w() + w) * s.c() + c, ((n * s.c() + c) * s.h() + h) * s.w() + w);
                }
            }
        }
    }
}

/// `y` in PyTorch's order.
pub fn forward(p: &Flatten, x: &[f32], y: &mut [f64]) {
    pairs(p, |i, o| y[o] = f64::from(x[i]));
}

/// `dx` with channels last.
pub fn backward_input(p: &Flatten, dy: &[f32], dx: &mut [f64]) {
    pairs(p, |i, o| dx[i] = f64::from(dy[o]));
}
