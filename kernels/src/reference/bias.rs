//! One number per channel added to every pixel.

/// `y[row][c] = x[row][c] + b[c]`
pub fn forward(x: &[f32], b: &[f32], y: &mut [f64]) {
    assert_eq!(x.len(), y.len());
    for (i, (x, y)) in x.iter().zip(y).enumerate() {
        *y = f64::from(*x) + f64::from(b[i % b.len()]);
    }
}

/// `db[c] = Σ dy[row][c]`
pub fn backward_bias(dy: &[f32], db: &mut [f64]) {
    let channels = db.len();
    db.fill(0.0);
    for (i, dy) in dy.iter().enumerate() {
        db[i % channels] += f64::from(*dy);
    }
}
