//! Weights of a convolution over few channels with the lines of the filter as taps (see
//! [`super::patches`]): `[k / B][c][line][column][B]` and `[k / B][column][c][line][B]`.

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
    let (layout, s) = (conv.weights(), conv.kernel);
    let block = layout.block();
    for b in 0..layout.blocks() {
        for c in 0..conv.c {
            for tap in 0..layout.taps {
                let (line, column) = (tap / s, tap % s);
                let there = ((b * s * conv.c + column * conv.c + c) * s + line) * block;
                each(layout.index(b * block, c, tap), there, block);
            }
        }
    }
}
