//! The weight's gradient: `dw[c][tap] = Σ over pixels, x[pixel·stride + tap·dilation − pad][c] · dy[pixel][c]`.
//!
//! The output lines of all images are cut into parts by the shape alone; each part sums into a gradient of its own, and
//! these are added up in order. So the number of threads changes no bit. Inside a part the lines follow each other, and
//! for each line the vectors of channels: the sums of some taps are in registers while a line's pixels pass by.

use super::ask;
use super::micro::{self, CHAINS, Sums};
use crate::conv2d::add_up::add_up;
use crate::conv2d::side::Side;
use crate::conv2d::{BackwardWeight, Conv2d};
use crate::dispatch::Task;
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu};

/// The most parts.
const PARTS: usize = 16;
/// Numbers of dy that are worth a gradient of their own, for each number of it.
const WORTH: usize = 4;
/// Numbers that the parts' gradients may take together, where that allows for more than two.
const NUMBERS: usize = 128 << 10;

/// How many parts, and the output lines of each.
fn parts(conv: &Conv2d) -> (usize, usize) {
    let lines = conv.n() * conv.out_h();
    let len = conv.weights().len();
    let worth = conv.y_len() / (WORTH * len);
    let most = PARTS.min(NUMBERS / len).max(2).min(worth.max(1));
    let each = lines.div_ceil(most);
    (lines.div_ceil(each), each)
}

/// Scratch of [`run`].
pub(crate) fn scratch_len(conv: &Conv2d) -> usize {
    parts(conv).0 * conv.weights().len()
}

/// dw = the weight's gradient (+ dw where `add`).
pub(crate) fn run(conv: &Conv2d, cpu: &Cpu, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, scratch } = call;
    let ((count, lines), len) = (parts(conv), dw.len());
    let sums = &mut scratch[..count * len];
    cpu.run(Chunks::new(sums, len, count), &mut [], 0, |i, sum, _| {
        let end = ((i + 1) * lines).min(conv.n() * conv.out_h());
        cpu.level.run(Part { conv, x, dy, first: i * lines, end, sum });
    });
    add_up(cpu, sums, count, dw, add);
}

/// The gradient of some output lines.
struct Part<'a, 'p> {
    conv: &'a Conv2d,
    x: &'a [f32],
    dy: &'a [f32],
    /// First output line and the one behind the last, over all images.
    first: usize,
    end: usize,
    /// As dw.
    sum: &'p mut [f32],
}

impl Task for Part<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        self.sum.fill(0.0);
        let (conv, high) = (self.conv, self.conv.out_h());
        let (lines, columns) = (Side::forward(conv, 0), Side::forward(conv, 1));
        for line in self.first..self.end {
            let (image, at) = (line / high, line % high);
            let there = lines.inside(at, conv.h());
            let mut t = there.start;
            while t < there.end {
                let source = image * conv.h() + (lines.place(at) + t as isize * lines.apart) as usize;
                let left = there.end - t;
                t += if columns.taps == 5 {
                    self.columns::<I, 5>(isa, line, source, [t, left], &columns)
                } else {
                    self.columns::<I, 3>(isa, line, source, [t, left], &columns)
                };
            }
        }
    }
}

impl Part<'_, '_> {
    /// Some of the `left` lines of taps from line `t` on, with all columns, `U` at a time; returns how many.
    #[inline(always)]
    fn columns<I: Isa, const U: usize>(&mut self, isa: I, line: usize, source: usize, [t, left]: [usize; 2], columns: &Side) -> usize {
        let (conv, layout) = (self.conv, self.conv.weights());
        let (c, block, across) = (conv.c(), layout.block(), conv.kernel()[1]);
        let lines = left.min(CHAINS / U);
        for channel in (0..c).step_by(I::LANES) {
            if lines == left {
                let share = [channel, c.min(channel + I::LANES)];
                let below = (source + (lines - 1) * conv.dilation()[0] + 1) * conv.w() * c;
                ask(isa, self.x, below as isize, conv.stride()[0] * conv.w() * c, share, c);
                ask(isa, self.dy, ((line + 1) * conv.out_w() * c) as isize, conv.out_w() * c, share, c);
            }
            let mut u = 0;
            while u < columns.taps {
                let whole = columns.taps - u >= U;
                let sums = Sums {
                    count: (c - channel).min(I::LANES),
                    line: source * conv.w() * c + channel,
                    line_apart: (conv.dilation()[0] * conv.w() * c) as isize,
                    wide: conv.w(),
                    pixel: c,
                    column: columns.origin + u as isize * columns.apart,
                    column_apart: conv.dilation()[1],
                    advance: columns.advance,
                    out: line * conv.out_w() * c + channel,
                    pixels: conv.out_w(),
                    tap: channel / block * layout.block_len() + (t * across + u) * block + channel % block,
                    tap_line: across * block,
                    tap_column: block,
                };
                match (lines, whole) {
                    (3.., true) => micro::sums::<I, 3, U>(isa, &sums, self.x, self.dy, self.sum),
                    (2, true) => micro::sums::<I, 2, U>(isa, &sums, self.x, self.dy, self.sum),
                    (_, true) => micro::sums::<I, 1, U>(isa, &sums, self.x, self.dy, self.sum),
                    (3.., false) => micro::sums::<I, 3, 1>(isa, &sums, self.x, self.dy, self.sum),
                    (2, false) => micro::sums::<I, 2, 1>(isa, &sums, self.x, self.dy, self.sum),
                    (_, false) => micro::sums::<I, 1, 1>(isa, &sums, self.x, self.dy, self.sum),
                }
                u += if whole { U } else { 1 };
            }
        }
        lines.min(3)
    }
}
