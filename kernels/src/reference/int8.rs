//! 8-bit kernels in plain loops: sums in `i64`, real numbers in `f64`. Weights lie as in PyTorch, activations as the
//! kernels' do.

use crate::Conv2d as Geometry;
use crate::int8::{Conv2d, padded};

/// The tensors of [`conv2d`].
#[derive(Debug)]
pub struct Forward<'a> {
    /// n x h x w x padded c.
    pub x: &'a [u8],
    /// k x c / groups x kernel x kernel.
    pub w: &'a [i8],
    /// For each output channel.
    pub bias: &'a [i32],
    /// For each output channel.
    pub multipliers: &'a [i32],
    /// As the table says, before it is clamped.
    pub shift: i32,
    /// The residual's bytes and its multiplier.
    pub residual: Option<(&'a [u8], i32)>,
    /// n x out_h x out_w x padded k.
    pub y: &'a mut [u8],
}

/// The formula of [`crate::int8`].
pub fn conv2d(p: &Conv2d, call: Forward) {
    let Forward { x, w, bias, multipliers, shift, residual, y } = call;
    let g = p.geometry();
    let (c4, k4) = (padded(g.c()), padded(g.k()));
    let each = g.c() / g.groups();
    assert_eq!((x.len(), y.len()), (g.n() * g.h() * g.w() * c4, g.n() * g.out_h() * g.out_w() * k4));
    assert_eq!((w.len(), bias.len(), multipliers.len()), (g.k() * each * g.taps(), g.k(), g.k()));
    for (pixel, y) in y.chunks_exact_mut(k4).enumerate() {
        for (k, byte) in y.iter_mut().enumerate() {
            *byte = p.y_zero();
            if k >= g.k() {
                continue;
            }
            let mut sum = i64::from(bias[k]);
            let group = k / (g.k() / g.groups()) * each;
            for tap in 0..g.taps() {
                let place = place(g, pixel, tap);
                for i in 0..each {
                    let x = place.map_or(p.x_zero(), |at| x[at * c4 + group + i]);
                    sum += i64::from(x) * i64::from(w[(k * each + i) * g.taps() + tap]);
                }
            }
            let shift = shift.clamp(1, 56);
            let mut scaled = i128::from(sum as i32) * i128::from(multipliers[k]) + (1_i128 << (shift - 1));
            if let Some((r, multiplier)) = residual {
                scaled += (i128::from(r[pixel * k4 + k]) - i128::from(p.residual().unwrap_or(0))) * i128::from(multiplier);
            }
            let low = if p.relu() { p.y_zero() } else { 0 };
            *byte = (i128::from(p.y_zero()) + (scaled >> shift)).clamp(i128::from(low), 255) as u8;
        }
    }
}

/// The input pixel that an output pixel reads with a tap, where it lies in the image.
fn place(g: &Geometry, pixel: usize, tap: usize) -> Option<usize> {
    let (line, column) = (pixel / g.out_w(), pixel % g.out_w());
    let (image, line) = (line / g.out_h(), line % g.out_h());
    let [_, wide] = g.kernel();
    let y = (line * g.stride()[0] + tap / wide * g.dilation()[0]).checked_sub(g.pad()[0])?;
    let x = (column * g.stride()[1] + tap % wide * g.dilation()[1]).checked_sub(g.pad()[1])?;
    (y < g.h() && x < g.w()).then_some((image * g.h() + y) * g.w() + x)
}

/// The largest byte of each window, `[n, h, w, c]` being the input.
pub fn max_pool([n, h, w, c]: [usize; 4], kernel: [usize; 2], stride: [usize; 2], pad: [usize; 2], x: &[u8], y: &mut [u8]) {
    let c4 = padded(c);
    let (high, wide) = ((h + 2 * pad[0] - kernel[0]) / stride[0] + 1, (w + 2 * pad[1] - kernel[1]) / stride[1] + 1);
    assert_eq!((x.len(), y.len()), (n * h * w * c4, n * high * wide * c4));
    for (at, y) in y.iter_mut().enumerate() {
        let (pixel, channel) = (at / c4, at % c4);
        let (line, column) = (pixel / wide, pixel % wide);
        let (image, line) = (line / high, line % high);
        let mut largest = 0;
        for i in 0..kernel[0] {
            for j in 0..kernel[1] {
                let (y, x_at) = ((line * stride[0] + i).wrapping_sub(pad[0]), (column * stride[1] + j).wrapping_sub(pad[1]));
                if y < h && x_at < w {
                    largest = largest.max(x[((image * h + y) * w + x_at) * c4 + channel]);
                }
            }
        }
        *y = largest;
    }
}

/// The means of `pixels` pixels with `c` channels, for each image.
pub fn avg_pool(pixels: usize, c: usize, zero: u8, scale: f32, x: &[u8], y: &mut [f32]) {
    let c4 = padded(c);
    for (x, y) in x.chunks_exact(pixels * c4).zip(y.chunks_exact_mut(c)) {
        for (channel, y) in y.iter_mut().enumerate() {
            let sum: i64 = x.iter().skip(channel).step_by(c4).map(|q| i64::from(*q) - i64::from(zero)).sum();
            *y = sum as f32 * (scale / pixels as f32);
        }
    }
}

/// `clamp(round(x · inverse_scale) + zero, 0, 255)`: the product in `f32`, halves to even, what is not a number is the
/// zero point.
pub fn quantize(channels: usize, inverse_scale: f32, zero: u8, x: &[f32], y: &mut [u8]) {
    for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(padded(channels))) {
        y.fill(zero);
        for (x, y) in x.iter().zip(y) {
            let product = f64::from(x * inverse_scale);
            let whole = libm::rint(product) + f64::from(zero);
            *y = if whole.is_nan() { zero } else { whole.clamp(0.0, 255.0) as u8 };
        }
    }
}

/// `(q − zero) · scale`
pub fn dequantize(channels: usize, scale: f32, zero: u8, x: &[u8], y: &mut [f32]) {
    for (x, y) in x.chunks_exact(padded(channels)).zip(y.chunks_exact_mut(channels)) {
        for (x, y) in x.iter().zip(y) {
            *y = (f32::from(*x) - f32::from(zero)) * scale;
        }
    }
}
