//! From images with channels last to rows in PyTorch's order: before a linear layer that reads an
//! image's pixels.
//!
//! `y[n][c·h·w + pixel] = x[n][pixel·c …]`: each image is a matrix pixels x channels, which is
//! transposed. Where there is one pixel or one channel the two orders are the same, and the caller may
//! take x for y ([`Flatten::is_view`]).

use crate::isa::Isa;
use crate::parallel::{RowMap, Tile, Tiles};
use crate::{Cpu, Task};
use nunatak_core::Shape;

/// Rows and columns that are transposed in registers.
const SIDE: usize = 16;
/// Columns of a part of the work.
const COLUMNS: usize = 256;

/// The sizes of the images: n, c, h, w.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flatten {
    shape: Shape,
}

impl Flatten {
    /// For images of this shape.
    pub const fn new(shape: Shape) -> Flatten {
        Flatten { shape }
    }

    /// The shape of x.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether y is x, number for number: then nothing need be copied.
    pub const fn is_view(&self) -> bool {
        self.shape.c() == 1 || self.shape.h() * self.shape.w() == 1
    }

    const fn pixels(&self) -> usize {
        self.shape.h() * self.shape.w()
    }
}

/// `y` = x in PyTorch's order.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | n x h x w x c | read |
/// | `y` | n x (c·h·w) | overwritten |
///
/// No scratch. Reference: [`crate::reference::flatten::forward`].
///
/// # Panics
/// If a length is wrong.
pub fn forward(cpu: &Cpu, p: &Flatten, x: &[f32], y: &mut [f32]) {
    transpose(cpu, p.shape.n(), p.pixels(), p.shape.c(), x, y, false);
}

/// `dx` = dy with channels last.
///
/// | name | shape | |
/// |---|---|---|
/// | `dy` | n x (c·h·w) | read |
/// | `dx` | n x h x w x c | overwritten, or where `add` accumulated |
///
/// No scratch. Reference: [`crate::reference::flatten::backward_input`].
///
/// # Panics
/// If a length is wrong.
pub fn backward_input(cpu: &Cpu, p: &Flatten, dy: &[f32], dx: &mut [f32], add: bool) {
    transpose(cpu, p.shape.n(), p.shape.c(), p.pixels(), dy, dx, add);
}

/// Transposes each of `n` matrices of `rows` x `columns`, and adds it to `y` or not.
fn transpose(cpu: &Cpu, n: usize, rows: usize, columns: usize, x: &[f32], y: &mut [f32], add: bool) {
    assert_eq!((x.len(), y.len()), (n * rows * columns, n * rows * columns), "{n} matrices of {rows} x {columns}");
    let map = RowMap::plain(n * columns, rows);
    let tiles = Tiles::new(y, map, n * columns, rows, SIDE, COLUMNS).with_period(columns);
    cpu.run(tiles, &mut [], 0, |_, mut tile, _| {
        let image = tile.first_row() / columns;
        let x = &x[image * rows * columns..][..rows * columns];
        cpu.level.run(Transpose { x, columns, from: tile.first_row() % columns, tile: &mut tile, add });
    });
}

/// Some rows of y: columns of the matrix x.
struct Transpose<'a, 't> {
    x: &'a [f32],
    columns: usize,
    /// The first column of x.
    from: usize,
    tile: &'a mut Tile<'t>,
    add: bool,
}

impl Task for Transpose<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Transpose { x, columns, from, tile, add } = self;
        let (height, width) = (tile.rows(), tile.columns());
        let first = tile.first_column();
        let mut block = [0.0; SIDE * SIDE];
        let mut j = 0;
        while j < width {
            let count = SIDE.min(width - j);
            let x = &x[(first + j) * columns + from..];
            if count == SIDE && height == SIDE {
                isa.transpose_16(x, columns, &mut block, SIDE);
            } else {
                for i in 0..height {
                    for (k, v) in block[i * SIDE..][..count].iter_mut().enumerate() {
                        *v = x[k * columns + i];
                    }
                }
            }
            for i in 0..height {
                let y = &mut tile.row(i)[j..j + count];
                let block = &block[i * SIDE..][..count];
                if add {
                    for (y, v) in y.iter_mut().zip(block) {
                        *y += *v;
                    }
                } else {
                    y.copy_from_slice(block);
                }
            }
            j += count;
        }
    }
}
