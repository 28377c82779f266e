//! Parts of a whole: one behind the other along channels or images.

use crate::concat::Concat;

/// Calls `f(place in the part, place in the whole)` for every number of the part.
fn pairs(p: &Concat, mut f: impl FnMut(usize, usize)) {
    for row in 0..p.rows() {
        for column in 0..p.part_len() / p.rows() {
            f(row * (p.part_len() / p.rows()) + column, p.place(row, column));
        }
    }
}

/// The part to its place in `y`; the rest stays.
pub fn forward(p: &Concat, x: &[f32], y: &mut [f64]) {
    assert_eq!((x.len(), y.len()), (p.part_len(), p.whole_len()));
    pairs(p, |i, o| y[o] = f64::from(x[i]));
}

/// `dx` = the part's place in `dy`.
pub fn backward_input(p: &Concat, dy: &[f32], dx: &mut [f64]) {
    assert_eq!((dx.len(), dy.len()), (p.part_len(), p.whole_len()));
    pairs(p, |i, o| dx[i] = f64::from(dy[o]));
}
