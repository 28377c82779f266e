//! y = max(x, 0), keeping −0.0 and NaN.

/// `y = x` where not `x <= 0`; −0.0 and NaN stay as they are.
pub fn forward(x: &[f32], y: &mut [f64]) {
    assert_eq!(x.len(), y.len());
    for (x, y) in x.iter().zip(y) {
        // Asked of the bits: rustc 1.95 turns `if x < 0.0 { 0.0 } else { f64::from(x) }` into a
        // maximum that loses the −0.0 (seen on x86-64 at opt-level 3).
        *y = f64::from(if x.to_bits() > 0x8000_0000 && !x.is_nan() { 0.0 } else { *x });
    }
}

/// `dx = dy` where not `y <= 0`, else 0.
pub fn backward_input(y: &[f32], dy: &[f32], dx: &mut [f64]) {
    assert_eq!(y.len(), dy.len());
    assert_eq!(y.len(), dx.len());
    for ((y, dy), dx) in y.iter().zip(dy).zip(dx) {
        *dx = if *y <= 0.0 { 0.0 } else { f64::from(*dy) };
    }
}
