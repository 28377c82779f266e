//! Convolutions of images with few channels, without packing: ResNet's stem (7x7, stride 2, 3
//! channels) and its kin.
//!
//! A part of the work is a few output lines of one image. The input lines that they read are copied
//! into scratch with their padding, so that no loop below knows an edge, and as planes: for every
//! channel and every column modulo the stride, the numbers of a line side by side. Then an output pixel
//! reads kernel²·c places whose distances from its own are the same for all pixels, and neighbouring
//! pixels are neighbouring numbers. So a tile of pixels times output channels stays in registers while
//! numbers are broadcast straight from the planes and the weights stream by as they lie; the planes and
//! a block of weights fit the first-level cache.
//!
//! The weight's gradient is in [`backward_weight`]. The input's gradient, which a network's first layer
//! rarely needs, is left to [`super::product`].

pub(crate) mod backward_weight;
#[allow(unsafe_code)]
mod micro;
pub(crate) mod polyphase;

use super::Uniform;
use crate::conv2d;
use crate::dispatch::Task;
use crate::gemm::{for_rows, for_vectors, panel_rows};
use crate::isa::Isa;
use crate::lanes::{load_padded, store_padded};
use crate::parallel::{Cpu, RowMap, Tile, Tiles};
use micro::Offsets;

/// The most input channels.
const CHANNELS: usize = 4;
/// The largest filter, in each direction.
const KERNEL: usize = 11;
/// Output pixels of a part, at most (or one line): they stay in the second-level cache until finished.
const PIXELS: usize = 512;
/// Output lines of a part, at most: more would hardly save copying input lines twice.
const LINES: usize = 8;

/// Whether this algorithm can do a convolution.
pub(crate) const fn accepts(conv: &Uniform) -> bool {
    conv.c <= CHANNELS && conv.kernel <= KERNEL
}

/// Output lines that have at most so many pixels, but at least one and at most [`LINES`].
fn part_lines(conv: &Uniform, pixels: usize) -> usize {
    (pixels / conv.out_w()).clamp(1, LINES.min(conv.out_h()))
}

/// Input lines that so many output lines read.
const fn lines_read(conv: &Uniform, lines: usize) -> usize {
    (lines - 1) * conv.stride + conv.kernel
}

/// Input lines with their padding, as `[line][column modulo stride][c][column / stride]`.
#[derive(Clone, Copy)]
struct Planes {
    /// Planes of a line for each channel: columns that no tap reads have none.
    columns: usize,
    /// Numbers of a plane.
    len: usize,
}

impl Planes {
    fn new(conv: &Uniform) -> Planes {
        Planes { columns: conv.stride.min(conv.kernel), len: conv.out_w() + (conv.kernel - 1) / conv.stride }
    }

    /// Numbers of an input line.
    const fn line(&self, conv: &Uniform) -> usize {
        self.columns * conv.c * self.len
    }

    /// Where a tap reads, relative to the output pixel's own place.
    const fn offset(&self, conv: &Uniform, c: usize, line: usize, column: usize) -> usize {
        line * self.line(conv) + (column % conv.stride * conv.c + c) * self.len + column / conv.stride
    }

    /// Copies what the output lines from `first` on of an image read.
    fn fill(&self, conv: &Uniform, x: &[f32], image: usize, first: usize, planes: &mut [f32]) {
        let top = (first * conv.stride) as isize - conv.pad as isize;
        for (i, to) in planes.chunks_exact_mut(self.line(conv)).enumerate() {
            let y = top + i as isize;
            if y < 0 || y >= conv.h as isize {
                to.fill(0.0);
                continue;
            }
            let from = &x[(image * conv.h + y as usize) * conv.w * conv.c..][..conv.w * conv.c];
            for (p, to) in to.chunks_exact_mut(self.len).enumerate() {
                let (column, c) = (p / conv.c, p % conv.c);
                // Those numbers of the plane whose column m·stride + column − pad is in the image.
                let low = conv.pad.saturating_sub(column).div_ceil(conv.stride).min(self.len);
                let high = (conv.w + conv.pad).saturating_sub(column).div_ceil(conv.stride).clamp(low, self.len);
                to[..low].fill(0.0);
                to[high..].fill(0.0);
                if low < high {
                    let from = &from[(low * conv.stride + column - conv.pad) * conv.c + c..];
                    for (to, from) in to[low..high].iter_mut().zip(from.iter().step_by(conv.stride * conv.c)) {
                        *to = *from;
                    }
                }
            }
        }
    }
}

/// How many row tiles [`forward`] has.
pub(crate) fn row_tiles(conv: &Uniform) -> usize {
    conv.n * conv.out_h().div_ceil(part_lines(conv, PIXELS))
}

/// Scratch of [`forward`].
pub(crate) fn forward_scratch(conv: &Uniform, threads: usize) -> usize {
    threads * lines_read(conv, part_lines(conv, PIXELS)) * Planes::new(conv).line(conv)
}

/// y = x ⊛ w (+ y where `add`), then what `finish` says.
pub(crate) fn forward(conv: &Uniform, cpu: &Cpu, call: conv2d::Forward) {
    let conv2d::Forward { x, w, y, add, finish, scratch } = call;
    let (planes, lines, s) = (Planes::new(conv), part_lines(conv, PIXELS), conv.kernel);
    // In the order in which the weights lie: channel, line, column.
    let offsets = Offsets::new(conv.c * s * s, |t| planes.offset(conv, t / (s * s), t / s % s, t % s));
    let (wide, pixels) = (conv.out_w(), conv.out_h() * conv.out_w());
    let map = RowMap::plain(conv.n * pixels, conv.k);
    let parts = Tiles::new(y, map, conv.n * pixels, conv.k, lines * wide, conv.k).with_period(pixels);
    cpu.run(parts, scratch, lines_read(conv, lines) * planes.line(conv), |_, mut out, scratch| {
        let (image, first) = (out.first_row() / pixels, out.first_row() % pixels / wide);
        let x_line = planes.line(conv);
        let xs = &mut scratch[..lines_read(conv, out.rows() / wide) * x_line];
        planes.fill(conv, x, image, first, xs);
        cpu.level.run(Forward { conv, x: xs, x_line, w, offsets: &offsets, add, out: &mut out });
        finish.tile(cpu.level, &mut out);
    });
}

/// Some output lines of an image, all output channels.
struct Forward<'a, 't> {
    conv: &'a Uniform,
    /// Planes, and the numbers of an input line of theirs.
    x: &'a [f32],
    x_line: usize,
    w: &'a [f32],
    offsets: &'a Offsets,
    add: bool,
    out: &'a mut Tile<'t>,
}

impl Task for Forward<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for_vectors!(self.conv.weights().block(), self.columns(isa));
    }
}

impl Forward<'_, '_> {
    /// Walks so that a column of weights stays in the first-level cache while all pixels pass by.
    #[inline(always)]
    fn columns<I: Isa, const V: usize>(mut self, isa: I) {
        let wide = self.conv.out_w();
        let panel = panel_rows(wide, I::ROWS);
        for column in (0..self.conv.k).step_by(V * I::LANES) {
            for line in 0..self.out.rows() / wide {
                for pixel in (0..wide).step_by(panel) {
                    macro_rules! tile {
                        ($n:literal) => {
                            self.tile::<I, $n, V>(isa, line, pixel, column)
                        };
                    }
                    for_rows!(isa, panel.min(wide - pixel), tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14));
                }
            }
        }
    }

    #[inline(always)]
    fn tile<I: Isa, const R: usize, const V: usize>(&mut self, isa: I, line: usize, pixel: usize, column: usize) {
        let (conv, layout) = (self.conv, self.conv.weights());
        let x = &self.x[line * conv.stride * self.x_line + pixel..];
        let w = &self.w[layout.index(column, 0, 0)..];
        let mut acc = [[isa.splat(0.0); V]; R];
        micro::multiply::<I, R, V, 1>(isa, x, self.offsets, w, layout.block(), &mut acc);
        for (r, acc) in acc.iter().enumerate() {
            let mut y = &mut self.out.row(line * conv.out_w() + pixel + r)[column..];
            for acc in acc {
                let (to, rest) = y.split_at_mut(I::LANES.min(y.len()));
                let sum = if self.add { isa.add(load_padded(isa, to, 0.0), *acc) } else { *acc };
                store_padded(isa, sum, to);
                y = rest;
            }
        }
    }
}
