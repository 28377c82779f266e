//! Convolutions over few channels. Their lines lie in scratch as in the image, with the padding around
//! them; and `gemm` takes the lines of the filter as taps (see [`super::patches`]), which turns weights
//! from `[k / B][c][line][column][B]` to `[k / B][column][c][line][B]`.

use super::Conv2d;

/// From the layout of weights to lines; overwrites `lines`.
pub(crate) fn to_lines(conv: &Conv2d, w: &[f32], lines: &mut [f32]) {
    for_each(conv, |from, to, block| lines[to..to + block].copy_from_slice(&w[from..from + block]));
}

/// From lines to the layout of weights, overwriting `dw` or adding to it.
pub(crate) fn from_lines(conv: &Conv2d, lines: &[f32], dw: &mut [f32], add: bool) {
    for_each(conv, |to, from, block| {
        for (y, x) in dw[to..to + block].iter_mut().zip(&lines[from..from + block]) {
            *y = if add { *y + *x } else { *x };
        }
    });
}

/// Calls with (place in the layout of weights, place in lines, block).
fn for_each(conv: &Conv2d, mut each: impl FnMut(usize, usize, usize)) {
    let (layout, [high, wide]) = (conv.weights(), conv.kernel());
    let block = layout.block();
    for b in 0..layout.blocks() {
        for c in 0..conv.c() {
            for tap in 0..layout.taps() {
                let (line, column) = (tap / wide, tap % wide);
                let there = ((b * wide * conv.c() + column * conv.c() + c) * high + line) * block;
                each(layout.index(b * block, c, tap), there, block);
            }
        }
    }
}

/// Line `y` of an image of h x w x c with the zeros around it: `pad` pixels on the left, what room is left on the
/// right. A line outside the image is all zeros.
pub(crate) fn padded_line(x: &[f32], [h, w, c]: [usize; 3], pad: usize, image: usize, y: isize, to: &mut [f32]) {
    if y < 0 || y >= h as isize {
        to.fill(0.0);
        return;
    }
    let from = &x[(image * h + y as usize) * w * c..][..w * c];
    let pad = (pad * c).min(to.len());
    let len = from.len().min(to.len() - pad);
    to[..pad].fill(0.0);
    to[pad..pad + len].copy_from_slice(&from[..len]);
    to[pad + len..].fill(0.0);
}
