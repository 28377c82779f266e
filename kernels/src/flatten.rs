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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::flatten as reference;
    use crate::testing::*;
    use nunatak_core::Tensor;

    #[test]
    fn both_passes_match_the_reference() {
        let mut random = Random::new(61);
        for (n, c, h, w) in
            [(1, 3, 5, 7), (2, 16, 4, 4), (3, 17, 16, 17), (1, 512, 1, 1), (4, 1, 9, 9), (2, 33, 30, 31), (2, 64, 7, 7), (1, 15, 1, 300)]
        {
            let p = Flatten::new(Shape::new(n, c, h, w).expect("a shape"));
            let len = p.shape().len();
            let offset = (c + h) % 16;
            let (x, dy) = (Offset::copy(&random.special(len), offset), Offset::copy(&random.special(len), 15 - offset));
            let start = random.vector(len);
            let (mut y, mut dx) = (zeros(len), zeros(len));
            reference::forward(&p, &x, &mut y);
            reference::backward_input(&p, &dy, &mut dx);
            for_each_cpu(|cpu| {
                let mut out = Offset::nan(len, 15 - offset);
                forward(cpu, &p, &x, &mut out);
                assert_exact(&out, &y, "y");
                assert_eq!(p.is_view(), c == 1 || h * w == 1);
                if p.is_view() {
                    assert!(out.iter().zip(x.iter()).all(|(a, b)| a.to_bits() == b.to_bits()));
                }
                let mut out = Offset::nan(len, offset);
                backward_input(cpu, &p, &dy, &mut out, false);
                assert_exact(&out, &dx, "dx");
                let mut out = Offset::copy(&start, offset);
                backward_input(cpu, &p, &dy, &mut out, true);
                for ((out, start), dx) in out.iter().zip(&start).zip(&dx) {
                    let e = start + *dx as f32;
                    assert!(out.to_bits() == e.to_bits() || (out.is_nan() && e.is_nan()), "{out}, not {e}");
                }
            });
        }
    }

    #[test]
    fn the_order_is_that_of_the_tensor() {
        let shape = Shape::new(2, 19, 5, 4).expect("a shape");
        let x = Random::new(62).vector(shape.len());
        let mut last = std::vec![0.0; x.len()];
        Tensor::new(shape, &x).expect("a tensor").to_channels_last(&mut last);
        for_each_cpu(|cpu| {
            let mut y = Offset::nan(x.len(), 3);
            forward(cpu, &Flatten::new(shape), &last, &mut y);
            assert_eq!(&y[..], &x[..]);
        });
    }
}
