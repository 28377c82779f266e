//! Mean over windows of a fixed size.

use crate::avgpool::windows::AvgPool;

/// Calls `f(place in x, place in y, what a sum is divided by)` for every cell inside the image.
fn pairs(p: &AvgPool, mut f: impl FnMut(usize, usize, f64)) {
    let (x, y, window) = (p.x_shape(), p.y_shape(), p.window());
    let cell = |axis: usize, i: usize, k: usize, len: usize| {
        let at = (i * window.stride[axis] + k) as isize - window.pad[axis] as isize;
        (0..len as isize).contains(&at).then_some(at as usize)
    };
    for n in 0..y.n() {
        for oy in 0..y.h() {
            for ox in 0..y.w() {
                let inside =
                    |axis: usize, i: usize, len: usize| (0..window.kernel[axis]).filter(|k| cell(axis, i, *k, len).is_some()).count();
                let all = window.kernel[0] * window.kernel[1];
                let divisor = if p.count_include_pad() { all } else { inside(0, oy, x.h()) * inside(1, ox, x.w()) };
                for ky in 0..window.kernel[0] {
                    for kx in 0..window.kernel[1] {
                        let (Some(iy), Some(ix)) = (cell(0, oy, ky, x.h()), cell(1, ox, kx, x.w())) else { continue };
                        for c in 0..x.c() {
                            let from = ((n * x.h() + iy) * x.w() + ix) * x.c() + c;
                            f(from, ((n * y.h() + oy) * y.w() + ox) * y.c() + c, divisor as f64);
                        }
                    }
                }
            }
        }
    }
}

/// `y` = the windows' means.
pub fn forward(p: &AvgPool, x: &[f32], y: &mut [f64]) {
    y.fill(0.0);
    pairs(p, |i, o, divisor| y[o] += f64::from(x[i]) / divisor);
}

/// `dx` = the sum of `dy / divisor` over the windows that hold the pixel.
pub fn backward_input(p: &AvgPool, dy: &[f32], dx: &mut [f64]) {
    dx.fill(0.0);
    pairs(p, |i, o, divisor| dx[i] += f64::from(dy[o]) / divisor);
}
