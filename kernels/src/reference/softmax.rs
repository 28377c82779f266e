//! Shares of a row's numbers, and their logarithms.

use crate::softmax::Softmax;
use libm::{exp, log};

/// `y = eˣ/Σeˣ`, or its logarithm.
pub fn forward(p: &Softmax, x: &[f32], y: &mut [f64]) {
    let c = p.shape().c();
    for (x, y) in x.chunks(c).zip(y.chunks_mut(c)) {
        let most = x.iter().fold(f64::NEG_INFINITY, |m, v| m.max(f64::from(*v)));
        let sum: f64 = x.iter().map(|v| exp(f64::from(*v) - most)).sum();
        for (x, y) in x.iter().zip(y) {
            let log_share = f64::from(*x) - most - log(sum);
            *y = if p.is_log() { log_share } else { exp(f64::from(*x) - most) / sum };
        }
    }
}

/// `dx = y·(dy − Σ dy·y)`, of the logarithm `dx = dy − eʸ·Σ dy`.
pub fn backward_input(p: &Softmax, y: &[f32], dy: &[f32], dx: &mut [f64]) {
    let c = p.shape().c();
    for ((y, dy), dx) in y.chunks(c).zip(dy.chunks(c)).zip(dx.chunks_mut(c)) {
        let sum: f64 = dy.iter().zip(y).map(|(dy, y)| f64::from(*dy) * if p.is_log() { 1.0 } else { f64::from(*y) }).sum();
        for ((y, dy), dx) in y.iter().zip(dy).zip(dx) {
            let (y, dy) = (f64::from(*y), f64::from(*dy));
            *dx = if p.is_log() { dy - exp(y) * sum } else { y * (dy - sum) };
        }
    }
}
