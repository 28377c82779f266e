//! Maximum over windows, with PyTorch's rules for ties, NaN and −∞.

pub mod windows;

use crate::maxpool::MaxPool;

/// `y` = the window's maximum, `index` = where in the window (`ky·kernel + kx`). The first of equal
/// values wins, NaN beats everything and the last NaN is taken, padding never is.
pub fn forward(p: &MaxPool, x: &[f32], y: &mut [f64], index: &mut [u8]) {
    p.check(x.len(), y.len());
    assert_eq!(index.len(), y.len());
    for (at, (y, index)) in y.iter_mut().zip(index).enumerate() {
        let (c, ox, oy, n) = split(p, at);
        let mut best: Option<(f32, usize)> = None;
        for cell in 0..p.kernel * p.kernel {
            let Some(i) = input(p, n, oy, ox, c, cell) else { continue };
            let v = x[i];
            if best.is_none_or(|(b, _)| v > b || v.is_nan()) {
                best = Some((v, cell));
            }
        }
        let (value, cell) = best.expect("every window holds a cell of the input");
        *y = f64::from(value);
        *index = cell as u8;
    }
}

/// `dx` = the sum of `dy` over the windows that chose the cell.
pub fn backward_input(p: &MaxPool, dy: &[f32], index: &[u8], dx: &mut [f64]) {
    p.check(dx.len(), dy.len());
    assert_eq!(index.len(), dy.len());
    dx.fill(0.0);
    for (at, (dy, index)) in dy.iter().zip(index).enumerate() {
        let (c, ox, oy, n) = split(p, at);
        let i = input(p, n, oy, ox, c, usize::from(*index)).expect("an index inside the input");
        dx[i] += f64::from(*dy);
    }
}

/// Channel, column, line, image of output number `at`.
fn split(p: &MaxPool, at: usize) -> (usize, usize, usize, usize) {
    let pixel = at / p.c;
    let line = pixel / p.out_w();
    (at % p.c, pixel % p.out_w(), line % p.out_h(), line / p.out_h())
}

/// Where cell `cell` of a window lies in the input, if it is not padding.
fn input(p: &MaxPool, n: usize, oy: usize, ox: usize, c: usize, cell: usize) -> Option<usize> {
    let y = (oy * p.stride + cell / p.kernel).checked_sub(p.pad).filter(|y| *y < p.h)?;
    let x = (ox * p.stride + cell % p.kernel).checked_sub(p.pad).filter(|x| *x < p.w)?;
    Some(((n * p.h + y) * p.w + x) * p.c + c)
}
