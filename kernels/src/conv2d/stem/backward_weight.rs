//! The weight's gradient over few input channels:
//! `dw[k][c][i][j] = Σ over pixels, x[pixel·stride + (i, j) − pad][c] · dy[pixel][k]`.
//!
//! For one filter line i, the kernel·c numbers that a pixel multiplies lie side by side in the image
//! (21 for ResNet's stem): they are the rows of a tile in registers, output channels are its columns,
//! and the pixels of a few output lines pass by. The input lines that they read are copied with their
//! padding; dy is read where it lies.
//!
//! The output lines of all images are cut into at most [`PARTS`] parts by their number alone; each part
//! sums into a gradient of its own, and these are added up in order. So the number of threads changes
//! no bit. Sums start from zero for every few lines and are then added, which keeps their rounding
//! error small.

use super::{lines_read, part_lines};
use crate::conv2d::add_up::add_up;
use crate::conv2d::{BackwardWeight, Uniform, thin};
use crate::dispatch::Task;
use crate::gemm::micro::{self, Lines};
use crate::gemm::{for_rows, for_vectors, panel_rows};
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu};

/// The most parts.
const PARTS: usize = 16;
/// The fewest output lines that are worth a gradient of their own.
const LINES: usize = 8;
/// Numbers that the parts' gradients may take together, where that allows for more than two.
const NUMBERS: usize = 256 << 10;
/// Output pixels that pass by a tile at a time, about: their dy stays in the first-level cache.
pub(super) const PIXELS: usize = 128;

/// How many parts, and the output lines of each.
fn parts(conv: &Uniform) -> (usize, usize) {
    let lines = conv.n * conv.out_h();
    let most = PARTS.min(NUMBERS / conv.weights().len()).max(2);
    let each = lines.div_ceil(most).max(LINES.min(lines));
    (lines.div_ceil(each), each)
}

/// Numbers of an input line with its padding.
const fn x_line(conv: &Uniform) -> usize {
    ((conv.out_w() - 1) * conv.stride + conv.kernel) * conv.c
}

/// Numbers that a thread needs: for input lines, and for a block of dy.
fn own_len(conv: &Uniform) -> [usize; 2] {
    let lines = part_lines(conv, PIXELS);
    [lines_read(conv, lines) * x_line(conv), lines * conv.out_w() * conv.weights().block()]
}

/// Numbers of the parts' gradients.
pub(super) fn parts_len(conv: &Uniform) -> usize {
    parts(conv).0 * conv.weights().len()
}

/// Scratch of [`run`].
pub(crate) fn scratch_len(conv: &Uniform, threads: usize) -> usize {
    let [x, dy] = own_len(conv);
    parts_len(conv) + threads * (x + dy)
}

/// dw = the weight's gradient (+ dw where `add`).
pub(crate) fn run(conv: &Uniform, cpu: &Cpu, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, scratch } = call;
    let [xs, dys] = own_len(conv);
    by_parts(conv, cpu, dw, add, scratch, xs + dys, |first, end, sum, scratch| {
        let (xs, dys) = scratch.split_at_mut(xs);
        cpu.level.run(Sum { conv, x, dy, first, end, xs, dys, sum });
    });
}

/// Calls `work(first, end, sum, scratch)` for the output lines `first..end` of each part, which
/// overwrites `sum` with their gradient; then adds up the sums. A thread has `each` numbers of scratch.
pub(super) fn by_parts(
    conv: &Uniform,
    cpu: &Cpu,
    dw: &mut [f32],
    add: bool,
    scratch: &mut [f32],
    each: usize,
    work: impl Fn(usize, usize, &mut [f32], &mut [f32]) + Sync,
) {
    let ((count, lines), len) = (parts(conv), dw.len());
    let (sums, scratch) = scratch.split_at_mut(count * len);
    cpu.run(Chunks::new(sums, len, count), scratch, each, |i, sum, scratch| {
        work(i * lines, ((i + 1) * lines).min(conv.n * conv.out_h()), sum, scratch);
    });
    add_up(cpu, sums, count, dw, add);
}

/// The gradient of some output lines.
struct Sum<'a, 'p> {
    conv: &'a Uniform,
    x: &'a [f32],
    dy: &'a [f32],
    /// First output line and the one behind the last, over all images.
    first: usize,
    end: usize,
    xs: &'p mut [f32],
    dys: &'p mut [f32],
    /// As dw.
    sum: &'p mut [f32],
}

impl Task for Sum<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for_vectors!(self.conv.weights().block(), self.lines(isa));
    }
}

impl Sum<'_, '_> {
    #[inline(always)]
    fn lines<I: Isa, const V: usize>(self, isa: I) {
        let (conv, k) = (self.conv, self.conv.k);
        let (high, wide) = (conv.out_h(), conv.out_w());
        let block = conv.weights().block();
        let (x_line, most) = (x_line(conv), part_lines(conv, PIXELS));
        let mut line = self.first;
        while line < self.end {
            let (image, y) = (line / high, line % high);
            let lines = most.min(high - y).min(self.end - line);
            let xs = &mut self.xs[..lines_read(conv, lines) * x_line];
            let top = (y * conv.stride) as isize - conv.pad as isize;
            for (i, to) in xs.chunks_exact_mut(x_line).enumerate() {
                thin::padded_line(self.x, [conv.h, conv.w, conv.c], conv.pad, image, top + i as isize, to);
            }
            let dys = &self.dy[line * wide * k..][..lines * wide * k];
            for column in (0..k).step_by(block) {
                // A block that is not full is copied, with zeros to fill it.
                let there = block.min(k - column);
                let (dy, dy_pixel) = if there == block {
                    (&dys[column..], k)
                } else {
                    for (from, to) in dys.chunks_exact(k).zip(self.dys.chunks_exact_mut(block)) {
                        to[..there].copy_from_slice(&from[column..]);
                        to[there..].fill(0.0);
                    }
                    (&self.dys[..lines * wide * block], block)
                };
                let shape = Lines { lines, pixels: wide, x_pixel: conv.stride * conv.c, x_line: conv.stride * x_line, dy_pixel };
                let sum = &mut self.sum[conv.weights().index(column, 0, 0)..][..conv.weights().block_len()];
                Block { conv, xs, x_line, dy, shape, add: line > self.first, sum }.tiles::<I, V>(isa);
            }
            line += lines;
        }
    }
}

/// What some output lines add to one block of output channels.
struct Block<'a, 'p> {
    conv: &'a Uniform,
    xs: &'a [f32],
    x_line: usize,
    dy: &'a [f32],
    shape: Lines,
    add: bool,
    /// `[c][taps][block]`
    sum: &'p mut [f32],
}

impl Block<'_, '_> {
    #[inline(always)]
    fn tiles<I: Isa, const V: usize>(mut self, isa: I) {
        let span = self.conv.kernel * self.conv.c;
        let panel = panel_rows(span, I::ROWS);
        for column in (0..self.conv.weights().block()).step_by(V * I::LANES) {
            for line in 0..self.conv.kernel {
                for row in (0..span).step_by(panel) {
                    macro_rules! tile {
                        ($n:literal) => {
                            self.tile::<I, $n, V>(isa, line, row, column)
                        };
                    }
                    for_rows!(isa, panel.min(span - row), tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14));
                }
            }
        }
    }

    /// Rows `row` … of one line of the filter; row j·c + channel is column j of the filter.
    #[inline(always)]
    fn tile<I: Isa, const R: usize, const V: usize>(&mut self, isa: I, line: usize, row: usize, column: usize) {
        let conv = self.conv;
        let block = conv.weights().block();
        let mut acc = [[isa.splat(0.0); V]; R];
        micro::outer::<I, R, V>(isa, &self.xs[line * self.x_line + row..], &self.dy[column..], self.shape, &mut acc);
        for (r, acc) in acc.iter().enumerate() {
            let (j, c) = ((row + r) / conv.c, (row + r) % conv.c);
            let at = ((c * conv.kernel + line) * conv.kernel + j) * block + column;
            for (v, acc) in acc.iter().enumerate() {
                let to = &mut self.sum[at + v * I::LANES..];
                let sum = if self.add { isa.add(isa.load(to), *acc) } else { *acc };
                isa.store(sum, to);
            }
        }
    }
}
