//! Maximum over windows of any shape.

use crate::maxpool::windows::MaxPool2d;

/// `y` = the window's maximum, `index` = where in the window (`ky·kernel[1] + kx`), by the rules of
/// [`super::forward`].
pub fn forward(p: &MaxPool2d, x: &[f32], y: &mut [f64], index: &mut [u8]) {
    for (at, (y, index)) in y.iter_mut().zip(index).enumerate() {
        let mut best: Option<(f32, usize)> = None;
        for cell in 0..p.window().cells() {
            let Some(i) = input(p, at, cell) else { continue };
            if best.is_none_or(|(b, _)| x[i] > b || x[i].is_nan()) {
                best = Some((x[i], cell));
            }
        }
        let (value, cell) = best.expect("every window holds a cell of the input");
        *y = f64::from(value);
        *index = cell as u8;
    }
}

/// `dx` = the sum of `dy` over the windows that chose the cell.
pub fn backward_input(p: &MaxPool2d, dy: &[f32], index: &[u8], dx: &mut [f64]) {
    dx.fill(0.0);
    for (at, (dy, index)) in dy.iter().zip(index).enumerate() {
        dx[input(p, at, usize::from(*index)).expect("an index inside the input")] += f64::from(*dy);
    }
}

/// Where cell `cell` of the window of output number `at` lies in the input, if it is not padding.
fn input(p: &MaxPool2d, at: usize, cell: usize) -> Option<usize> {
    let (x, y, window) = (p.x_shape(), p.y_shape(), p.window());
    let (pixel, c) = (at / y.c(), at % y.c());
    let (line, ox) = (pixel / y.w(), pixel % y.w());
    let (n, oy) = (line / y.h(), line % y.h());
    let (ky, kx) = (cell / window.kernel[1], cell % window.kernel[1]);
    let iy = (oy * window.stride[0] + ky * window.dilation[0]).checked_sub(window.pad[0]).filter(|i| *i < x.h())?;
    let ix = (ox * window.stride[1] + kx * window.dilation[1]).checked_sub(window.pad[1]).filter(|i| *i < x.w())?;
    Some(((n * x.h() + iy) * x.w() + ix) * x.c() + c)
}
