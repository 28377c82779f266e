//! The weight's gradient: `dw[k][c] = Σ over rows, x[row][c] · dy[row][k]`.
//!
//! The rows are cut into ranges, of which each has a gradient of its own; these are summed at the end, in order, so that the
//! number of threads changes no bit. A range takes some rows at a time: they are copied into scratch that stays in the
//! second-level cache, x in groups of 16 channels and dy in blocks of output channels, and for each group and block a tile
//! of the gradient is in registers while the rows pass by. So x and dy are read once, and nothing of their size is written.
//! Each run's sum starts from zero and is added to the range's gradient as a whole, which keeps the rounding error of long
//! sums small.

use super::GROUP;
use crate::conv2d::{BackwardWeight, Uniform};
use crate::dispatch::Task;
use crate::gemm::for_vectors;
use crate::gemm::micro::{self, Lines};
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu};
use crate::weights::WeightLayout;

/// Rows that are copied at a time, at most.
const RUN: usize = 128;
/// Rows of which one group of channels after the other is copied: so many that a group's copies lie side by side, so few
/// that all their channels stay in the first-level cache.
const LINES: usize = 4;
/// Ranges of rows: at most, and where their gradients would take more than [`SUMS`] numbers.
const RANGES: [usize; 2] = [16, 8];
/// Numbers that the ranges' gradients may take.
const SUMS: usize = 1 << 20;
/// The fewest rows of a range.
const ROWS: usize = 192;
/// The fewest ranges, and the most weights, for which it pays.
const RANGES_LEAST: usize = 4;
const WEIGHTS: usize = 256 << 10;
/// Parts of the sum over all ranges.
const TOTALS: usize = 16;

/// Whether it is the fastest.
pub(super) fn pays(conv: &Uniform) -> bool {
    super::weights(conv) <= WEIGHTS && ranges(conv) >= RANGES_LEAST
}

/// How many ranges the rows are cut into.
fn ranges(conv: &Uniform) -> usize {
    let [most, least] = RANGES;
    (SUMS / conv.weights().len()).clamp(least, most).min(conv.n * conv.h * conv.w / ROWS).max(1)
}

/// Numbers of a run's copies: x, dy.
fn copies(conv: &Uniform) -> [usize; 2] {
    let layout = conv.weights();
    [conv.c.next_multiple_of(GROUP) * RUN, layout.blocks() * layout.block() * RUN]
}

/// Scratch of [`run`].
pub(crate) fn scratch_len(conv: &Uniform, threads: usize) -> usize {
    let [x, dy] = copies(conv);
    ranges(conv) * conv.weights().len() + threads * (x + dy)
}

/// dw = the weight's gradient (+ dw where `add`).
pub(crate) fn run(conv: &Uniform, cpu: &Cpu, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, scratch } = call;
    let m = conv.n * conv.h * conv.w;
    let (ranges, layout) = (ranges(conv), conv.weights());
    let (sums, scratch) = scratch.split_at_mut(ranges * layout.len());
    let [x_len, dy_len] = copies(conv);
    let bound = |i: usize| i * (m / ranges) + i.min(m % ranges);
    cpu.run(Chunks::new(sums, layout.len(), ranges), scratch, x_len + dy_len, |i, sum, copies| {
        let (copy_x, copy_dy) = copies.split_at_mut(x_len);
        cpu.level.run(Range { conv, layout, x, dy, rows: bound(i)..bound(i + 1), copy_x, copy_dy, sum });
    });
    let sums = &*sums;
    let each = layout.len().div_ceil(TOTALS).next_multiple_of(GROUP);
    cpu.run(Chunks::new(dw, each, layout.len().div_ceil(each)), &mut [], 0, |i, dw, _| {
        cpu.level.run(Total { sums, apart: layout.len(), first: i * each, add, dw });
    });
}

/// A range of rows.
struct Range<'a, 'p> {
    conv: &'a Uniform,
    layout: WeightLayout,
    x: &'a [f32],
    dy: &'a [f32],
    rows: core::ops::Range<usize>,
    /// `[c / 16][RUN][16]`
    copy_x: &'p mut [f32],
    /// `[k / block][RUN][block]`
    copy_dy: &'p mut [f32],
    /// As dw.
    sum: &'p mut [f32],
}

impl Task for Range<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for_vectors!(self.layout.block(), self.runs(isa));
    }
}

impl Range<'_, '_> {
    #[inline(always)]
    fn runs<I: Isa, const V: usize>(mut self, isa: I) {
        let (c, k, block) = (self.conv.c, self.conv.k, self.layout.block());
        let begin = self.rows.start;
        let runs = self.rows.len().div_ceil(RUN);
        for row in self.rows.clone().step_by(self.rows.len().div_ceil(runs)) {
            let count = self.rows.len().div_ceil(runs).min(self.rows.end - row);
            for at in (0..count).step_by(LINES) {
                let rows = LINES.min(count - at);
                copy(isa, &self.x[(row + at) * c..][..rows * c], c, GROUP, at, self.copy_x);
                copy(isa, &self.dy[(row + at) * k..][..rows * k], k, block, at, self.copy_dy);
            }
            for j in 0..self.layout.blocks() {
                for group in 0..c.div_ceil(GROUP) {
                    let channels = GROUP.min(c - group * GROUP);
                    for column in (0..block).step_by(V * I::LANES) {
                        let mut i = 0;
                        while i < channels {
                            let tile = Place { block: j, channel: group * GROUP + i, column, count, again: row > begin };
                            i += match (channels - i).min(I::GRADIENT_ROWS) {
                                8.. if const { I::GRADIENT_ROWS >= 8 } => self.tile::<I, 8, V>(isa, tile),
                                6 | 7 if const { I::GRADIENT_ROWS >= 6 } => self.tile::<I, 6, V>(isa, tile),
                                4..=7 => self.tile::<I, 4, V>(isa, tile),
                                2 | 3 => self.tile::<I, 2, V>(isa, tile),
                                _ => self.tile::<I, 1, V>(isa, tile),
                            };
                        }
                    }
                }
            }
        }
    }

    /// `R` channels by `V` vectors; returns `R`.
    #[inline(always)]
    fn tile<I: Isa, const R: usize, const V: usize>(&mut self, isa: I, at: Place) -> usize {
        let block = self.layout.block();
        let shape = Lines { lines: 1, pixels: at.count, x_pixel: GROUP, x_line: 0, dy_pixel: block };
        let x = &self.copy_x[at.channel / GROUP * RUN * GROUP + at.channel % GROUP..];
        let dy = &self.copy_dy[at.block * RUN * block + at.column..];
        let mut acc = [[isa.splat(0.0); V]; R];
        micro::outer::<I, R, V>(isa, x, dy, shape, &mut acc);
        let to = at.block * self.layout.block_len() + at.channel * block + at.column;
        for (r, acc) in acc.iter().enumerate() {
            let to = &mut self.sum[to + r * block..];
            for (v, acc) in acc.iter().enumerate() {
                let to = &mut to[v * I::LANES..];
                let sum = if at.again { isa.add(isa.load(to), *acc) } else { *acc };
                isa.store(sum, to);
            }
        }
        R
    }
}

/// Where a tile of the gradient lies, and what it is made of.
#[derive(Clone, Copy)]
struct Place {
    /// The block of output channels, and the first of its columns.
    block: usize,
    column: usize,
    /// The first input channel.
    channel: usize,
    /// Rows of the run.
    count: usize,
    /// Whether the range's sum holds that of earlier runs.
    again: bool,
}

/// Copies rows of `channels` into groups of `width`, `[channels / width][RUN][width]`, from row `first` on; zeros stand
/// beyond the last channel.
#[inline(always)]
fn copy<I: Isa>(isa: I, from: &[f32], channels: usize, width: usize, first: usize, to: &mut [f32]) {
    for group in 0..channels.div_ceil(width) {
        let there = width.min(channels - group * width);
        for (r, row) in from.chunks_exact(channels).enumerate() {
            let from = &row[group * width..][..there];
            let to = &mut to[(group * RUN + first + r) * width..][..width];
            if there == width {
                for i in (0..width).step_by(I::LANES) {
                    isa.store(isa.load(&from[i..]), &mut to[i..]);
                }
            } else {
                to[..there].copy_from_slice(from);
                to[there..].fill(0.0);
            }
        }
    }
}

/// Sums the ranges' gradients, in order.
struct Total<'a, 'p> {
    sums: &'a [f32],
    /// Numbers from a range's gradient to the next.
    apart: usize,
    first: usize,
    add: bool,
    dw: &'p mut [f32],
}

impl Task for Total<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let ranges = self.sums.len() / self.apart;
        for (i, to) in self.dw.chunks_exact_mut(GROUP).enumerate() {
            for v in (0..GROUP).step_by(I::LANES) {
                let at = self.first + i * GROUP + v;
                let mut sum = isa.load(&self.sums[at..]);
                for range in 1..ranges {
                    sum = isa.add(sum, isa.load(&self.sums[range * self.apart + at..]));
                }
                let to = &mut to[v..];
                isa.store(if self.add { isa.add(isa.load(to), sum) } else { sum }, to);
            }
        }
    }
}
