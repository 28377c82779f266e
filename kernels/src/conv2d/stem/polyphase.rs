//! A stem's lines with half the products: Winograd's F(4, 4) along the lines, after the stride has been
//! taken apart.
//!
//! A filter line of stride s falls into s phases, each a filter of stride 1 over every s-th column
//! (three or four taps for 7 taps of stride 2); and s neighbouring columns with their channels are one
//! group of side-by-side numbers of the image. So four output pixels of a line read seven groups. These
//! are transformed to seven points (see [`transforms`]), as the filters' phases are, multiplied, summed
//! over filter lines and numbers of a group, and only then transformed back: 7 products instead of
//! 4·4 = 16, or of 4·7/2 = 14 where one tap is missing.
//!
//! Only along lines: in both directions there would be fewer products still, but the transforms would
//! cost as much as they save, for a sum over so few channels.
//!
//! A part of the work is a few output lines of one image; its transformed input lies in the second-level
//! cache, the sums of one line in the first. The weight's gradient is in [`backward_weight`].

#![allow(clippy::needless_range_loop)] // plain loops: see `transforms::Transform`

pub(crate) mod backward_weight;
mod transforms;

use super::micro::{self, Offsets};
use super::{CHANNELS, KERNEL, PIXELS, lines_read, part_lines};
use crate::conv2d::{self, Uniform, thin};
use crate::dispatch::Task;
use crate::gemm::{for_rows, for_vectors, panel_rows};
use crate::isa::Isa;
use crate::lanes::{load_padded, store_padded};
use crate::parallel::{Chunks, Cpu, RowMap, Tile, Tiles};
use transforms::{Filter, Input, Output, Transform};

/// Pixels of a tile.
const OUT: usize = 4;
/// Taps of a phase, at most.
const TAPS: usize = 4;
/// Groups that a tile reads, and points.
const POINTS: usize = OUT + TAPS - 1;
/// Numbers between the transformed groups of neighbouring tiles: a group has at most so many.
const GROUP: usize = 8;
/// Numbers that may be read behind a line: a vector is longer than a group.
const BEHIND: usize = 16;
/// Tiles of a line whose sums are made at a time: they stay in the first-level cache.
const TILES: usize = 28;

/// Whether this algorithm can do a convolution: the longest phase has four taps.
pub(crate) const fn accepts(conv: &Uniform) -> bool {
    let (s, kernel) = (conv.stride, conv.kernel);
    conv.c <= CHANNELS && kernel <= KERNEL && s * conv.c <= GROUP && 3 * s < kernel && kernel <= TAPS * s
}

/// The sizes that follow from a convolution that is accepted.
#[derive(Clone, Copy)]
struct Shape {
    conv: Uniform,
    /// Numbers of a group.
    group: usize,
    /// Tiles of an output line.
    tiles: usize,
}

impl Shape {
    fn new(conv: &Uniform) -> Shape {
        Shape { conv: *conv, group: conv.stride * conv.c, tiles: conv.out_w().div_ceil(OUT) }
    }

    /// Numbers of an input line with its padding, and what is read behind it.
    const fn line(&self) -> usize {
        (self.tiles * OUT + TAPS - 1) * self.group + BEHIND
    }

    /// Numbers of a point of a transformed line, `[tile][GROUP]`, with room for a long vector.
    const fn point(&self) -> usize {
        (self.tiles + 1) * GROUP
    }

    /// Numbers of a transformed line.
    const fn transformed_line(&self) -> usize {
        POINTS * self.point()
    }

    /// Numbers of the transformed lines that so many output lines read.
    const fn transformed(&self, lines: usize) -> usize {
        lines_read(&self.conv, lines) * self.transformed_line()
    }

    /// Products of a point for each output: filter lines times numbers of a group.
    const fn depth(&self) -> usize {
        self.conv.kernel * self.group
    }

    /// Numbers of a block of transformed filters, `[point][filter line][number of a group][block]`.
    const fn filters(&self) -> usize {
        POINTS * self.depth() * self.conv.weights().block()
    }

    /// Where the weights of tap `q` of number `s` of filter line `i` lie in a block; `None` where the
    /// phase has fewer taps.
    #[inline(always)]
    const fn tap(&self, i: usize, s: usize, q: usize) -> Option<usize> {
        let conv = &self.conv;
        let (column, c) = (q * conv.stride + s / conv.c, s % conv.c);
        if column < conv.kernel { Some(((c * conv.kernel + i) * conv.kernel + column) * conv.weights().block()) } else { None }
    }

    /// Transforms the input lines that `lines` output lines of one image read, from line `first` of all images on.
    /// `line` has room for one.
    #[inline(always)]
    fn inputs<I: Isa>(&self, isa: I, x: &[f32], first: usize, lines: usize, line: &mut [f32], transformed: &mut [f32]) {
        let conv = &self.conv;
        let (image, first) = (first / conv.out_h(), first % conv.out_h());
        let line = &mut line[..self.line()];
        for i in 0..lines_read(conv, lines) {
            let to = &mut transformed[i * self.transformed_line()..][..self.transformed_line()];
            thin::padded_line(x, [conv.h, conv.w, conv.c], conv.pad, image, (first * conv.stride + i) as isize - conv.pad as isize, line);
            for tile in 0..self.tiles {
                for lane in (0..GROUP).step_by(I::LANES) {
                    let mut d = [isa.splat(0.0); POINTS];
                    for j in 0..POINTS {
                        d[j] = isa.load(&line[(tile * OUT + j) * self.group + lane..]);
                    }
                    let d = Input::line(isa, d);
                    for p in 0..POINTS {
                        // What a long vector writes behind its group is overwritten, or never read.
                        isa.store(d[p], &mut to[p * self.point() + tile * GROUP + lane..]);
                    }
                }
            }
        }
    }
}

/// Numbers that a thread needs, forward: an input line, transformed lines, sums of a line's tiles.
fn own_len(s: &Shape) -> [usize; 3] {
    let sums = POINTS * TILES.min(s.tiles) * s.conv.weights().block();
    [s.line(), s.transformed(part_lines(&s.conv, PIXELS)), sums]
}

/// Scratch of [`forward`].
pub(crate) fn forward_scratch(conv: &Uniform, threads: usize) -> usize {
    let s = Shape::new(conv);
    conv.weights().blocks() * s.filters() + threads * own_len(&s).iter().sum::<usize>()
}

/// y = x ⊛ w (+ y where `add`), then what `finish` says.
pub(crate) fn forward(conv: &Uniform, cpu: &Cpu, call: conv2d::Forward) {
    let conv2d::Forward { x, w, y, add, finish, scratch } = call;
    let s = Shape::new(conv);
    let (layout, lines) = (conv.weights(), part_lines(conv, PIXELS));
    let (filters, scratch) = scratch.split_at_mut(layout.blocks() * s.filters());
    cpu.run(Chunks::new(filters, s.filters(), layout.blocks()), &mut [], 0, |j, filters, _| {
        cpu.level.run(Filters { s, w: &w[j * layout.block_len()..], filters });
    });
    let filters = &*filters;
    let offsets = Offsets::new(s.depth(), |t| t / s.group * s.transformed_line() + t % s.group);
    let (wide, pixels) = (conv.out_w(), conv.out_h() * conv.out_w());
    let map = RowMap::plain(conv.n * pixels, conv.k);
    let parts = Tiles::new(y, map, conv.n * pixels, conv.k, lines * wide, conv.k).with_period(pixels);
    let [line, transformed, sums] = own_len(&s);
    cpu.run(parts, scratch, line + transformed + sums, |_, mut out, scratch| {
        let (line, scratch) = scratch.split_at_mut(line);
        let (transformed, sums) = scratch.split_at_mut(transformed);
        cpu.level.run(Forward { s, x, filters, offsets: &offsets, add, line, transformed, sums, out: &mut out });
        finish.tile(cpu.level, &mut out);
    });
}

/// The transformed filters of one block of output channels.
struct Filters<'a, 'p> {
    s: Shape,
    w: &'a [f32],
    filters: &'p mut [f32],
}

impl Task for Filters<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (s, block) = (&self.s, self.s.conv.weights().block());
        for t in 0..s.depth() {
            for lane in (0..block).step_by(I::LANES) {
                let mut g = [isa.splat(0.0); TAPS];
                for q in 0..TAPS {
                    if let Some(at) = s.tap(t / s.group, t % s.group, q) {
                        g[q] = isa.load(&self.w[at + lane..]);
                    }
                }
                let g = Filter::line(isa, g);
                for p in 0..POINTS {
                    isa.store(g[p], &mut self.filters[(p * s.depth() + t) * block + lane..]);
                }
            }
        }
    }
}

/// Some output lines of an image, all output channels.
struct Forward<'a, 'p, 't> {
    s: Shape,
    x: &'a [f32],
    filters: &'a [f32],
    offsets: &'a Offsets,
    add: bool,
    line: &'p mut [f32],
    transformed: &'p mut [f32],
    /// `[point][tile][vectors of output channels]`
    sums: &'p mut [f32],
    out: &'p mut Tile<'t>,
}

impl Task for Forward<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for_vectors!(self.s.conv.weights().block(), self.columns(isa));
    }
}

impl Forward<'_, '_, '_> {
    #[inline(always)]
    fn columns<I: Isa, const V: usize>(mut self, isa: I) {
        let s = self.s;
        let wide = s.conv.out_w();
        let (line, lines) = (self.out.first_row() / wide, self.out.rows() / wide);
        s.inputs(isa, self.x, line, lines, self.line, self.transformed);
        for column in (0..s.conv.k).step_by(V * I::LANES) {
            for line in 0..lines {
                for first in (0..s.tiles).step_by(TILES) {
                    let count = TILES.min(s.tiles - first);
                    self.products::<I, V>(isa, column, line, first, count);
                    self.outputs::<I, V>(isa, column, line, first, count);
                }
            }
        }
    }

    #[inline(always)]
    fn products<I: Isa, const V: usize>(&mut self, isa: I, column: usize, line: usize, first: usize, count: usize) {
        let panel = panel_rows(count, I::ROWS);
        for p in 0..POINTS {
            for row in (0..count).step_by(panel) {
                macro_rules! tile {
                    ($n:literal) => {
                        self.tile::<I, $n, V>(isa, column, line, p, first + row, p * count + row)
                    };
                }
                for_rows!(isa, panel.min(count - row), tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14));
            }
        }
    }

    #[inline(always)]
    fn tile<I: Isa, const R: usize, const V: usize>(&mut self, isa: I, column: usize, line: usize, p: usize, tile: usize, to: usize) {
        let s = &self.s;
        let block = s.conv.weights().block();
        let x = &self.transformed[line * s.conv.stride * s.transformed_line() + p * s.point() + tile * GROUP..];
        let w = &self.filters[column / block * s.filters() + p * s.depth() * block + column % block..];
        let mut acc = [[isa.splat(0.0); V]; R];
        micro::multiply::<I, R, V, GROUP>(isa, x, self.offsets, w, block, &mut acc);
        let sums = &mut self.sums[to * V * I::LANES..][..R * V * I::LANES];
        for (r, acc) in acc.iter().enumerate() {
            for (v, acc) in acc.iter().enumerate() {
                isa.store(*acc, &mut sums[(r * V + v) * I::LANES..]);
            }
        }
    }

    #[inline(always)]
    fn outputs<I: Isa, const V: usize>(&mut self, isa: I, column: usize, line: usize, first: usize, count: usize) {
        let (k, wide) = (self.s.conv.k, self.s.conv.out_w());
        for tile in 0..count {
            let pixel = (first + tile) * OUT;
            for v in 0..V {
                let column = column + v * I::LANES;
                if column >= k {
                    break;
                }
                let mut m = [isa.splat(0.0); POINTS];
                for p in 0..POINTS {
                    m[p] = isa.load(&self.sums[((p * count + tile) * V + v) * I::LANES..]);
                }
                let pixels = Output::line(isa, m);
                for o in 0..OUT {
                    if pixel + o >= wide {
                        break;
                    }
                    let to = &mut self.out.row(line * wide + pixel + o)[column..(column + I::LANES).min(k)];
                    let sum = if self.add { isa.add(load_padded(isa, to, 0.0), pixels[o]) } else { pixels[o] };
                    store_padded(isa, sum, to);
                }
            }
        }
    }
}
