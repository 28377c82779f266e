//! Functions of one number.

use crate::pointwise::Pointwise;
use libm::{erfc, exp, log, pow, sqrt, tanh};

/// `y = op(x)`
pub fn forward(op: Pointwise, x: &[f32], y: &mut [f64]) {
    assert_eq!(x.len(), y.len());
    for (x, y) in x.iter().zip(y) {
        *y = value(op, f64::from(*x));
    }
}

/// `dx = dy·op'`, from x or y as [`Pointwise::backward_reads`] says.
pub fn backward_input(op: Pointwise, saved: &[f32], dy: &[f32], dx: &mut [f64]) {
    assert_eq!(saved.len(), dy.len());
    assert_eq!(saved.len(), dx.len());
    for ((saved, dy), dx) in saved.iter().zip(dy).zip(dx) {
        *dx = gradient(op, f64::from(*saved), f64::from(*dy));
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

/// `x` between the bounds, keeping NaN and −0.0.
fn between(x: f64, low: f64, high: f64) -> f64 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// √(2/π), and the coefficient of the cube.
const TANH: (f64, f64) = (0.797_884_560_802_865_4, 0.044_715);

/// The normal distribution's density.
fn density(x: f64) -> f64 {
    exp(-0.5 * x * x) * 0.398_942_280_401_432_7
}

/// `x^p`; the special cases are PyTorch's.
fn power(x: f64, p: f64) -> f64 {
    if p == 0.5 {
        sqrt(x)
    } else if p == -0.5 {
        1.0 / sqrt(x)
    } else {
        pow(x, p)
    }
}

fn value(op: Pointwise, x: f64) -> f64 {
    let defined = if x.is_finite() { x } else { f64::NAN };
    match op {
        Pointwise::Relu6 => between(x, 0.0, 6.0),
        Pointwise::Hardswish => x * between(x + 3.0, 0.0, 6.0) / 6.0,
        Pointwise::Hardsigmoid => between(x + 3.0, 0.0, 6.0) / 6.0,
        Pointwise::Silu => x * sigmoid(x),
        Pointwise::Sigmoid => sigmoid(x),
        Pointwise::Tanh => tanh(x),
        Pointwise::Gelu => defined * 0.5 * erfc(-x * core::f64::consts::FRAC_1_SQRT_2),
        Pointwise::GeluTanh => x * sigmoid(2.0 * TANH.0 * (x + TANH.1 * x * x * x)),
        Pointwise::Exp => exp(x),
        Pointwise::Log => log(x),
        Pointwise::Sqrt => sqrt(x),
        Pointwise::Abs => x.abs(),
        Pointwise::Square => x * x,
        Pointwise::Reciprocal => 1.0 / x,
        Pointwise::Pow(p) => power(x, f64::from(p)),
        Pointwise::Clamp { low, high } if low.is_nan() || high.is_nan() => f64::NAN,
        Pointwise::Clamp { low, high } => between(x, f64::from(low), f64::from(high)),
        Pointwise::Scale(factor) => x * f64::from(factor),
        Pointwise::AddScalar(number) => x + f64::from(number),
        Pointwise::Divide(divisor) => x / f64::from(divisor),
    }
}

/// `saved` is x or y, as the op reads.
fn gradient(op: Pointwise, saved: f64, dy: f64) -> f64 {
    let (x, y) = (saved, saved);
    let defined = if x.is_finite() { x } else { f64::NAN };
    let inside = |low: f64, high: f64, dx: f64| if y > low && y < high { dx } else { 0.0 };
    match op {
        Pointwise::Relu6 => inside(0.0, 6.0, dy),
        Pointwise::Hardswish if x <= -3.0 => 0.0,
        Pointwise::Hardswish if x >= 3.0 => dy,
        Pointwise::Hardswish => dy * (x / 3.0 + 0.5),
        Pointwise::Hardsigmoid => inside(-3.0, 3.0, dy / 6.0),
        Pointwise::Silu => dy * sigmoid(x) * (1.0 + x * sigmoid(-x)),
        Pointwise::Sigmoid => dy * (1.0 - y) * y,
        Pointwise::Tanh => dy * (1.0 - y * y),
        Pointwise::Gelu => dy * (0.5 * erfc(-x * core::f64::consts::FRAC_1_SQRT_2) + defined * density(x)),
        Pointwise::GeluTanh => {
            let v = 2.0 * TANH.0 * (x + TANH.1 * x * x * x);
            let slope = 2.0 * TANH.0 * (1.0 + 3.0 * TANH.1 * x * x);
            dy * (sigmoid(v) + x * sigmoid(v) * sigmoid(-v) * slope)
        }
        Pointwise::Exp => dy * y,
        Pointwise::Log => dy / x,
        Pointwise::Sqrt => dy / (2.0 * y),
        Pointwise::Abs if x > 0.0 => dy,
        Pointwise::Abs if x < 0.0 => -dy,
        Pointwise::Abs => dy * 0.0,
        Pointwise::Square => dy * 2.0 * x,
        Pointwise::Reciprocal => -dy * (y * y),
        Pointwise::Pow(0.0) => 0.0,
        Pointwise::Pow(p) => dy * (f64::from(p) * power(x, f64::from(p) - 1.0)),
        Pointwise::Clamp { low, high } => inside(f64::from(low), f64::from(high), dy),
        Pointwise::Scale(factor) => dy * f64::from(factor),
        Pointwise::AddScalar(_) => dy,
        Pointwise::Divide(divisor) => dy / f64::from(divisor),
    }
}
