//! Convolution, with x and y channels-last and W `[k][c / groups][kernel][kernel]` as in PyTorch.

use crate::conv2d::Conv2d;

/// Calls `f(input pixel, output pixel, filter cell)` for every triple that meets inside the input.
fn taps(p: &Conv2d, mut f: impl FnMut(usize, usize, usize)) {
    let (stride, pad, dilation, [_, wide]) = (p.stride(), p.pad(), p.dilation(), p.kernel());
    for n in 0..p.n() {
        for oy in 0..p.out_h() {
            for ox in 0..p.out_w() {
                let output = (n * p.out_h() + oy) * p.out_w() + ox;
                for cell in 0..p.taps() {
                    let y = (oy * stride[0] + cell / wide * dilation[0]).wrapping_sub(pad[0]);
                    let x = (ox * stride[1] + cell % wide * dilation[1]).wrapping_sub(pad[1]);
                    if y < p.h() && x < p.w() {
                        f((n * p.h() + y) * p.w() + x, output, cell);
                    }
                }
            }
        }
    }
}

fn check(p: &Conv2d, x: usize, w: usize, y: usize) {
    assert_eq!(x, p.n() * p.h() * p.w() * p.c());
    assert_eq!(w, p.k() * (p.c() / p.groups()) * p.taps());
    assert_eq!(y, p.n() * p.out_h() * p.out_w() * p.k());
}

/// The input channels that output channel `k` reads: those of its group.
fn read(p: &Conv2d, k: usize) -> core::ops::Range<usize> {
    let each = p.c() / p.groups();
    let group = k / (p.k() / p.groups());
    group * each..(group + 1) * each
}

/// `y[n][oy][ox][k] = Σ x[n][oy·stride+ky·dilation−pad][ox·stride+kx·dilation−pad][c] · w[k][c][ky][kx]`, summed over
/// the channels of k's group.
pub fn forward(p: &Conv2d, x: &[f32], w: &[f32], y: &mut [f64]) {
    check(p, x.len(), w.len(), y.len());
    let (cells, each) = (p.taps(), p.c() / p.groups());
    y.fill(0.0);
    taps(p, |input, output, cell| {
        let x = &x[input * p.c()..][..p.c()];
        for (k, y) in y[output * p.k()..][..p.k()].iter_mut().enumerate() {
            let w = w[k * each * cells + cell..].iter().step_by(cells);
            *y += x[read(p, k)].iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
        }
    });
}

/// `dx` = the sum over all outputs that read the input, of `dy · w`.
pub fn backward_input(p: &Conv2d, dy: &[f32], w: &[f32], dx: &mut [f64]) {
    check(p, dx.len(), w.len(), dy.len());
    let (cells, each) = (p.taps(), p.c() / p.groups());
    dx.fill(0.0);
    taps(p, |input, output, cell| {
        let dx = &mut dx[input * p.c()..][..p.c()];
        for (k, dy) in dy[output * p.k()..][..p.k()].iter().enumerate() {
            let w = w[k * each * cells + cell..].iter().step_by(cells);
            for (dx, w) in dx[read(p, k)].iter_mut().zip(w) {
                *dx += f64::from(*dy) * f64::from(*w);
            }
        }
    });
}

/// `dw[k][c][ky][kx] = Σ dy[n][oy][ox][k] · x[n][oy·stride+ky·dilation−pad][ox·stride+kx·dilation−pad][c]`
pub fn backward_weight(p: &Conv2d, x: &[f32], dy: &[f32], dw: &mut [f64]) {
    check(p, x.len(), dw.len(), dy.len());
    let (cells, each) = (p.taps(), p.c() / p.groups());
    dw.fill(0.0);
    taps(p, |input, output, cell| {
        let x = &x[input * p.c()..][..p.c()];
        for (k, dy) in dy[output * p.k()..][..p.k()].iter().enumerate() {
            let dw = dw[k * each * cells + cell..].iter_mut().step_by(cells);
            for (dw, x) in dw.zip(&x[read(p, k)]) {
                *dw += f64::from(*dy) * f64::from(*x);
            }
        }
    });
}
