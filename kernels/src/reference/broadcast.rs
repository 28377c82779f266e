//! Two tensors, repeated along axes where their size is 1.

use crate::broadcast::{Binary, Broadcast, Operand};
use nunatak_core::Shape;

/// Calls `f(place in a, place in b, place in y)` for every element of y.
fn pairs(p: &Broadcast, mut f: impl FnMut(usize, usize, usize)) {
    let (a, b, y) = (p.operand(Operand::A), p.operand(Operand::B), p.result());
    let mut at = 0;
    for n in 0..y.n() {
        for h in 0..y.h() {
            for w in 0..y.w() {
                for c in 0..y.c() {
                    f(place(a, n, h, w, c), place(b, n, h, w, c), at);
                    at += 1;
                }
            }
        }
    }
}

fn place(s: Shape, n: usize, h: usize, w: usize, c: usize) -> usize {
    ((n.min(s.n() - 1) * s.h() + h.min(s.h() - 1)) * s.w() + w.min(s.w() - 1)) * s.c() + c.min(s.c() - 1)
}

/// `y = a op b`
pub fn forward(op: Binary, p: &Broadcast, a: &[f32], b: &[f32], y: &mut [f64]) {
    pairs(p, |i, j, o| {
        let (a, b) = (f64::from(a[i]), f64::from(b[j]));
        y[o] = match op {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
        };
    });
}

/// The gradient of one operand, summed over the axes in which it was repeated.
pub fn backward_input(op: Binary, p: &Broadcast, operand: Operand, a: &[f32], b: &[f32], dy: &[f32], dx: &mut [f64]) {
    assert_eq!(dx.len(), p.operand(operand).len());
    dx.fill(0.0);
    pairs(p, |i, j, o| {
        let (a, b, dy) = (f64::from(a[i]), f64::from(b[j]), f64::from(dy[o]));
        let (da, db) = match op {
            Binary::Add => (dy, dy),
            Binary::Sub => (dy, -dy),
            Binary::Mul => (dy * b, dy * a),
            Binary::Div => (dy / b, -dy * a / (b * b)),
        };
        match operand {
            Operand::A => dx[i] += da,
            Operand::B => dx[j] += db,
        }
    });
}
