//! Mean over the windows ⌊i·h/out⌋ … ⌈(i+1)·h/out⌉.

pub mod windows;

use crate::avgpool::AdaptiveAvgPool;

/// Calls `f(input, output, cells in the window)` for every pair.
fn pairs(p: &AdaptiveAvgPool, mut f: impl FnMut(usize, usize, f64)) {
    if p.x_len() == 0 || p.y_len() == 0 {
        return;
    }
    for n in 0..p.n {
        for oy in 0..p.out_h {
            let (y0, y1) = (oy * p.h / p.out_h, ((oy + 1) * p.h).div_ceil(p.out_h));
            for ox in 0..p.out_w {
                let (x0, x1) = (ox * p.w / p.out_w, ((ox + 1) * p.w).div_ceil(p.out_w));
                let cells = ((y1 - y0) * (x1 - x0)) as f64;
                for y in y0..y1 {
                    for x in x0..x1 {
                        for c in 0..p.c {
                            f(((n * p.h + y) * p.w + x) * p.c + c, ((n * p.out_h + oy) * p.out_w + ox) * p.c + c, cells);
                        }
                    }
                }
            }
        }
    }
}

/// `y` = the windows' means.
pub fn forward(p: &AdaptiveAvgPool, x: &[f32], y: &mut [f64]) {
    p.check(x.len(), y.len());
    y.fill(0.0);
    pairs(p, |i, o, cells| y[o] += f64::from(x[i]) / cells);
}

/// `dx` = the sum of `dy / cells` over the windows that hold the pixel.
pub fn backward_input(p: &AdaptiveAvgPool, dy: &[f32], dx: &mut [f64]) {
    p.check(dx.len(), dy.len());
    dx.fill(0.0);
    pairs(p, |i, o, cells| dx[i] += f64::from(dy[o]) / cells);
}
