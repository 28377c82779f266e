//! Which output pixels are computed together, where they read, and the copy that they read from.
//!
//! Output pixels are numbered over lines and images. A *band* is some of them side by side, whose input stays in the
//! first-level cache while all weights pass by. Where the input has padding, the lines of a band are copied with it: of
//! several images as a whole, of some lines of an image, or of a part of one line, as they fit [`COPY`].

use super::{Conv2d, isa::Walk, padded};
use crate::bounds::room;

/// Bytes of a band's copy, where it can do with so few: a board has 16 kB for everything.
const COPY: usize = 16 << 10;
/// The least pixels of a band without a copy: a register tile.
const LEAST: usize = 8;

/// How the output is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bands {
    /// Pixels after which bands begin anew: all, those of an image, or those of a line.
    pub(super) period: usize,
    /// Pixels of a band.
    pub(super) pixels: usize,
    /// Bytes of a band's copy; 0 where x is read as it lies.
    pub(super) copy_len: usize,
}

/// Where the pixels of a band read, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pixels {
    wide: usize,
    high: usize,
    /// How far apart images, lines and pixels begin.
    apart: [usize; 3],
    /// Where we are: line, column, and where the image, the line and the pixel begin.
    line: usize,
    column: usize,
    at: [usize; 3],
}

impl Pixels {
    /// Where the next pixel begins.
    #[inline(always)]
    pub(super) fn next(&mut self) -> usize {
        let at = self.at[2];
        self.column += 1;
        self.at[2] += self.apart[2];
        if self.column == self.wide {
            self.column = 0;
            self.line += 1;
            self.at[1] += self.apart[1];
            if self.line == self.high {
                self.line = 0;
                self.at[0] += self.apart[0];
                self.at[1] = self.at[0];
            }
            self.at[2] = self.at[1];
        }
        at
    }
}

/// Pieces of equal size, the last perhaps smaller, none above `most`.
fn even(all: usize, most: usize) -> usize {
    all.div_ceil(all.div_ceil(most.max(1)))
}

impl Bands {
    pub(super) fn new(p: &Conv2d) -> Bands {
        let g = p.geometry();
        let ([stride, _], [reach, _]) = (g.stride(), g.reach());
        let (high, wide) = (g.out_h(), g.out_w());
        if g.pad() == [0; 2] {
            let bytes = g.stride()[1].min(g.w()).saturating_mul(padded(g.c()));
            let pixels = (COPY / bytes).max(LEAST) / LEAST * LEAST;
            return Bands { period: g.n() * high * wide, pixels, copy_len: 0 };
        }
        let len = |images: usize, lines: usize, columns: usize| room(&[&[images, (lines - 1) * stride + reach, line_len(p, columns)]]);
        if len(1, high, wide) <= COPY {
            let images = even(g.n(), COPY / len(1, high, wide));
            return Bands { period: g.n() * high * wide, pixels: images * high * wide, copy_len: len(images, high, wide) };
        }
        // Windows that fit into so many bytes, where each step of one takes `unit`.
        let fitting = |unit: usize, reach: usize, stride: usize| (COPY / unit.max(1)).saturating_sub(reach) / stride + 1;
        if len(1, 1, wide) <= COPY {
            let lines = even(high, fitting(line_len(p, wide), reach, stride));
            return Bands { period: high * wide, pixels: lines * wide, copy_len: len(1, lines, wide) };
        }
        let columns = even(wide, fitting(room(&[&[reach, padded(g.c())]]), g.reach()[1], g.stride()[1]));
        Bands { period: wide, pixels: columns, copy_len: len(1, 1, columns) }
    }

    /// Bands of all pixels.
    pub(super) const fn per_period(&self) -> usize {
        self.period.div_ceil(self.pixels)
    }
}

/// Bytes of a copied line that so many output pixels read.
fn line_len(p: &Conv2d, columns: usize) -> usize {
    let g = p.geometry();
    room(&[&[(columns - 1) * g.stride()[1] + g.reach()[1], padded(g.c())]])
}

/// Bytes from line to line, and what a pixel reads, of x as it lies.
fn walk(p: &Conv2d, line: usize) -> Walk {
    let g = p.geometry();
    let (c4, [dy, dx], [kh, kw]) = (padded(g.c()), g.dilation(), g.kernel());
    // Without dilation, neighbouring positions of a line are one run.
    let (columns, fours) = if dx == 1 { (1, kw * c4 / 4) } else { (kw, c4 / 4) };
    Walk { lines: kh, line: dy * line, columns, column: dx * c4, fours }
}

/// The pixels from number `first` on, and what each reads of x as it lies: for convolutions without padding.
pub(super) fn in_place(p: &Conv2d, first: usize) -> (Pixels, Walk) {
    let g = p.geometry();
    let (line_len, pixel) = (g.w() * padded(g.c()), g.stride()[1] * padded(g.c()));
    let apart = [g.h() * line_len, g.stride()[0] * line_len, pixel];
    let (line, column) = (first / g.out_w(), first % g.out_w());
    let (image, line) = (line / g.out_h(), line % g.out_h());
    let at = [image * apart[0], image * apart[0] + line * apart[1], image * apart[0] + line * apart[1] + column * apart[2]];
    (Pixels { wide: g.out_w(), high: g.out_h(), apart, line, column, at }, walk(p, line_len))
}

/// Copies what `count` pixels from number `first` on read, with padding, to `copy`: those of one band. Returns where they
/// begin there, and what each reads.
pub(super) fn copied(p: &Conv2d, x: &[u8], first: usize, count: usize, copy: &mut [u8]) -> (Pixels, Walk) {
    let g = p.geometry();
    let (wide, high, c4) = (g.out_w(), g.out_h(), padded(g.c()));
    let (line, column) = (first / wide, first % wide);
    let (image, line) = (line / high, line % high);
    let columns = count.min(wide);
    let lines = count.div_ceil(wide).min(high);
    let images = count.div_ceil(wide * high);
    let line_len = line_len(p, columns);
    let high_in = (lines - 1) * g.stride()[0] + g.reach()[0];
    // The copy's first column and line, in the padded image.
    let (left, above) = (column * g.stride()[1], line * g.stride()[0]);
    let before = g.pad()[1].saturating_sub(left).min(line_len / c4);
    let from = left.saturating_sub(g.pad()[1]).min(g.w());
    let middle = (line_len / c4 - before).min(g.w() - from);
    for (i, to) in copy[..images * high_in * line_len].chunks_exact_mut(line_len).enumerate() {
        let y = (above + i % high_in).wrapping_sub(g.pad()[0]);
        if y >= g.h() {
            to.fill(p.x_zero());
            continue;
        }
        let source = (((image + i / high_in) * g.h() + y) * g.w() + from) * c4;
        to[..before * c4].fill(p.x_zero());
        to[before * c4..][..middle * c4].copy_from_slice(&x[source..][..middle * c4]);
        to[(before + middle) * c4..].fill(p.x_zero());
    }
    let apart = [high_in * line_len, g.stride()[0] * line_len, g.stride()[1] * c4];
    (Pixels { wide: columns, high: lines, apart, line: 0, column: 0, at: [0; 3] }, walk(p, line_len))
}
