//! Tensors one behind the other along the channels or along the images: PyTorch's `cat`.
//!
//! A part knows its place in the whole. Forward copies a part into the whole, part after part;
//! backward takes its gradient from the whole's. The two are each other's gradients, so that a slice
//! (PyTorch's `narrow`) is the same two calls exchanged: [`backward_input`] takes it, and
//! [`forward_add`] adds its gradient to the whole's.

use crate::Cpu;
use crate::parallel::{RowMap, Tiles};
use nunatak_core::{Error, Shape};

/// Numbers of a part of the work, about.
const PART: usize = 8192;

/// One part of a whole: rows of `row` numbers, which lie `pitch` apart in the whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Concat {
    rows: usize,
    row: usize,
    pitch: usize,
    /// Numbers before the first row.
    start: usize,
    whole: usize,
}

impl Concat {
    /// A part that is the channels `from` … `from + part.c()` of `whole`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where the other sizes differ, or the channels are not there.
    pub fn channels(whole: Shape, from: usize, part: Shape) -> Result<Concat, Error> {
        let sizes = |s: Shape| (s.n(), s.h(), s.w());
        if sizes(whole) != sizes(part) || !fits(from, part.c(), whole.c()) {
            return Err(Error::ShapeMismatch { expected: whole.sizes(), got: part.sizes() });
        }
        Ok(Concat { rows: whole.rows(), row: part.c(), pitch: whole.c(), start: from, whole: whole.len() })
    }

    /// A part that is the images `from` … `from + part.n()` of `whole`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where the other sizes differ, or the images are not there.
    pub fn images(whole: Shape, from: usize, part: Shape) -> Result<Concat, Error> {
        let sizes = |s: Shape| (s.c(), s.h(), s.w());
        if sizes(whole) != sizes(part) || !fits(from, part.n(), whole.n()) {
            return Err(Error::ShapeMismatch { expected: whole.sizes(), got: part.sizes() });
        }
        let image = whole.len() / whole.n();
        Ok(Concat { rows: 1, row: part.len(), pitch: whole.len(), start: from * image, whole: whole.len() })
    }

    /// Numbers in the part.
    pub const fn part_len(&self) -> usize {
        self.rows * self.row
    }

    /// Numbers in the whole.
    pub const fn whole_len(&self) -> usize {
        self.whole
    }

    /// Rows of the part: pieces that lie in the whole without a gap.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Where a number of the part lies in the whole.
    pub const fn place(&self, row: usize, column: usize) -> usize {
        self.start + row * self.pitch + column
    }

    fn check(&self, part: usize, whole: usize) {
        assert_eq!((part, whole), (self.part_len(), self.whole), "the part and the whole of {self:?}");
    }

    /// Rows, and columns, of a part of the work.
    fn tile(&self) -> (usize, usize) {
        ((PART / self.row.min(PART)).max(1), PART)
    }
}

fn fits(from: usize, count: usize, all: usize) -> bool {
    from.checked_add(count).is_some_and(|end| end <= all)
}

/// Copies a part to its place; the rest of `y` stays as it is.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | the part | read |
/// | `y` | the whole | overwritten where the part lies |
///
/// No scratch. Reference: [`crate::reference::concat::forward`].
///
/// # Panics
/// If a length is wrong.
pub fn forward(cpu: &Cpu, p: &Concat, x: &[f32], y: &mut [f32]) {
    into_whole(cpu, p, x, y, false);
}

/// As [`forward`], but adds the part to what `y` holds in its place.
///
/// # Panics
/// If a length is wrong.
pub fn forward_add(cpu: &Cpu, p: &Concat, x: &[f32], y: &mut [f32]) {
    into_whole(cpu, p, x, y, true);
}

fn into_whole(cpu: &Cpu, p: &Concat, x: &[f32], y: &mut [f32], add: bool) {
    p.check(x.len(), y.len());
    let map = RowMap { w: p.rows, h: 1, pixel: p.pitch, line: p.whole, image: p.whole, start: p.start };
    let (rows, columns) = p.tile();
    cpu.run(Tiles::new(y, map, p.rows, p.row, rows, columns), &mut [], 0, |_, mut tile, _| {
        for i in 0..tile.rows() {
            let from = (tile.first_row() + i) * p.row + tile.first_column();
            copy(&x[from..from + tile.columns()], tile.row(i), add);
        }
    });
}

/// `dx` = the part's place in `dy`.
///
/// | name | shape | |
/// |---|---|---|
/// | `dy` | the whole | read |
/// | `dx` | the part | overwritten, or where `add` accumulated |
///
/// No scratch. Reference: [`crate::reference::concat::backward_input`].
///
/// # Panics
/// If a length is wrong.
pub fn backward_input(cpu: &Cpu, p: &Concat, dy: &[f32], dx: &mut [f32], add: bool) {
    p.check(dx.len(), dy.len());
    let (rows, columns) = p.tile();
    let tiles = Tiles::new(dx, RowMap::plain(p.rows, p.row), p.rows, p.row, rows, columns);
    cpu.run(tiles, &mut [], 0, |_, mut tile, _| {
        for i in 0..tile.rows() {
            let from = p.start + (tile.first_row() + i) * p.pitch + tile.first_column();
            copy(&dy[from..from + tile.columns()], tile.row(i), add);
        }
    });
}

fn copy(x: &[f32], y: &mut [f32], add: bool) {
    if add {
        for (y, x) in y.iter_mut().zip(x) {
            *y += *x;
        }
    } else {
        y.copy_from_slice(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::concat as reference;
    use crate::testing::*;
    use std::vec::Vec;

    fn shape(n: usize, c: usize, h: usize, w: usize) -> Shape {
        Shape::new(n, c, h, w).expect("a shape")
    }

    fn check(p: &Concat, random: &mut Random, offset: usize) {
        let (part, whole) = (p.part_len(), p.whole_len());
        let (x, before) = (Offset::copy(&random.special(part), offset), random.vector(whole));
        let (dy, start) = (Offset::copy(&random.special(whole), 15 - offset), random.vector(part));
        let mut y: Vec<f64> = before.iter().map(|v| f64::from(*v)).collect();
        let (mut dx, mut places) = (zeros(part), zeros(whole));
        reference::forward(p, &x, &mut y);
        reference::forward(p, &std::vec![1.0; part], &mut places);
        reference::backward_input(p, &dy, &mut dx);
        for_each_cpu(|cpu| {
            let mut out = Offset::copy(&before, 15 - offset);
            forward(cpu, p, &x, &mut out);
            assert_exact(&out, &y, "the whole");
            out.copy_from_slice(&before);
            forward_add(cpu, p, &x, &mut out);
            for ((out, before), (y, place)) in out.iter().zip(&before).zip(y.iter().zip(&places)) {
                let e = if *place == 1.0 { before + *y as f32 } else { *before };
                assert!(out.to_bits() == e.to_bits() || (out.is_nan() && e.is_nan()), "added: {out}, not {e}");
            }
            let mut out = Offset::nan(part, offset);
            backward_input(cpu, p, &dy, &mut out, false);
            assert_exact(&out, &dx, "dx");
            out.copy_from_slice(&start);
            backward_input(cpu, p, &dy, &mut out, true);
            for ((out, start), dx) in out.iter().zip(&start).zip(&dx) {
                let e = start + *dx as f32;
                assert!(out.to_bits() == e.to_bits() || (out.is_nan() && e.is_nan()), "dx added: {out}, not {e}");
            }
        });
    }

    #[test]
    fn all_parts_match_the_reference() {
        let mut random = Random::new(51);
        for (i, (n, h, w)) in [(1, 1, 1), (2, 3, 5), (3, 40, 41)].into_iter().enumerate() {
            for (from, c, rest) in [(0, 3, 2), (2, 17, 0), (5, 64, 1), (0, 1, 0), (3, 1, 8), (1, 33, 15)] {
                let p = Concat::channels(shape(n, from + c + rest, h, w), from, shape(n, c, h, w)).expect("a part");
                check(&p, &mut random, (from + i) % 16);
            }
            for (from, count, rest) in [(0, 1, 2), (2, 3, 0), (1, 2, 1), (0, 2, 0)] {
                let p = Concat::images(shape(from + count + rest, 7, h, w), from, shape(count, 7, h, w)).expect("a part");
                check(&p, &mut random, (from + i) % 16);
            }
        }
    }

    #[test]
    fn channels_lie_side_by_side_and_images_one_after_the_other() {
        // Two pixels of 2 channels, and of 1 channel.
        let whole = shape(1, 3, 1, 2);
        let first = Concat::channels(whole, 0, shape(1, 2, 1, 2)).expect("a part");
        let second = Concat::channels(whole, 2, shape(1, 1, 1, 2)).expect("a part");
        let images = Concat::images(shape(3, 2, 1, 1), 1, shape(2, 2, 1, 1)).expect("a part");
        for_each_cpu(|cpu| {
            let mut y = [0.0; 6];
            forward(cpu, &first, &[1.0, 2.0, 3.0, 4.0], &mut y);
            forward(cpu, &second, &[5.0, 6.0], &mut y);
            assert_eq!(y, [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
            forward(cpu, &images, &[7.0, 8.0, 9.0, 10.0], &mut y);
            assert_eq!(y, [1.0, 2.0, 7.0, 8.0, 9.0, 10.0]);
        });
    }

    #[test]
    fn parts_that_are_not_there_are_errors() {
        let whole = shape(2, 5, 3, 4);
        let error = |part: Shape| Err(Error::ShapeMismatch { expected: [2, 5, 3, 4], got: part.sizes() });
        assert_eq!(Concat::channels(whole, 3, shape(2, 3, 3, 4)), error(shape(2, 3, 3, 4)));
        assert_eq!(Concat::channels(whole, usize::MAX, shape(2, 1, 3, 4)), error(shape(2, 1, 3, 4)));
        assert_eq!(Concat::channels(whole, 0, shape(1, 1, 3, 4)), error(shape(1, 1, 3, 4)));
        assert_eq!(Concat::images(whole, 2, shape(1, 5, 3, 4)), error(shape(1, 5, 3, 4)));
        assert_eq!(Concat::images(whole, 0, shape(1, 4, 3, 4)), error(shape(1, 4, 3, 4)));
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let p = Concat::channels(shape(2, 5, 2, 1), 1, shape(2, 3, 2, 1)).expect("a part");
        let mut random = Random::new(52);
        let (x, dy) = (random.vector(12), random.vector(20));
        let mut dx = zeros(12);
        reference::backward_input(&p, &dy, &mut dx);
        let loss = |x: &[f32]| {
            let mut y = zeros(20);
            reference::forward(&p, x, &mut y);
            dot(&dy, &y)
        };
        assert_gradient(&x, &dx, loss, 1e-6);
    }
}
