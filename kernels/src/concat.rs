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
