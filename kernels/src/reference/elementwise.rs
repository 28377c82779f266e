//! Sums, differences and products, element by element.

fn both(a: &[f32], b: &[f32], y: &mut [f64], f: impl Fn(f64, f64) -> f64) {
    assert_eq!(a.len(), y.len());
    assert_eq!(b.len(), y.len());
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        *y = f(f64::from(*a), f64::from(*b));
    }
}

fn accumulate(x: &[f32], y: &mut [f64], f: impl Fn(f64, f64) -> f64) {
    assert_eq!(x.len(), y.len());
    for (x, y) in x.iter().zip(y) {
        *y = f(*y, f64::from(*x));
    }
}

/// `y = a + b`
pub fn add(a: &[f32], b: &[f32], y: &mut [f64]) {
    both(a, b, y, |a, b| a + b);
}

/// `y = a − b`
pub fn sub(a: &[f32], b: &[f32], y: &mut [f64]) {
    both(a, b, y, |a, b| a - b);
}

/// `y = a · b`
pub fn mul(a: &[f32], b: &[f32], y: &mut [f64]) {
    both(a, b, y, |a, b| a * b);
}

/// `y = x · factor`
pub fn scale(x: &[f32], factor: f32, y: &mut [f64]) {
    both(x, x, y, |x, _| x * f64::from(factor));
}

/// `y += x`
pub fn add_assign(x: &[f32], y: &mut [f64]) {
    accumulate(x, y, |y, x| y + x);
}

/// `y −= x`
pub fn sub_assign(x: &[f32], y: &mut [f64]) {
    accumulate(x, y, |y, x| y - x);
}

/// `y ·= x`
pub fn mul_assign(x: &[f32], y: &mut [f64]) {
    accumulate(x, y, |y, x| y * x);
}

/// `y += factor · x`
pub fn scaled_add_assign(factor: f32, x: &[f32], y: &mut [f64]) {
    accumulate(x, y, |y, x| y + f64::from(factor) * x);
}

/// `y += a · b`
pub fn mul_add_assign(a: &[f32], b: &[f32], y: &mut [f64]) {
    assert_eq!(a.len(), y.len());
    assert_eq!(b.len(), y.len());
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        *y += f64::from(*a) * f64::from(*b);
    }
}
