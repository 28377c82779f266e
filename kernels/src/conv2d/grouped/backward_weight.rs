//! The weight's gradient:
//! `dw[k][j][tap] = Σ over pixels, x[pixel·stride + tap·dilation − pad][channel j of k's group] · dy[pixel][k]`.
//!
//! The output lines of all images are cut into ranges by the shape alone, and each range sums into a gradient of its own;
//! these are added up in order. So the number of threads changes no bit. A part of the work is one range and one block
//! of output channels: x is copied for one vector of them, a few lines at a time, and the sums of some channels and
//! taps are in registers while the pixels pass by.

use super::micro::Take;
use super::micro::{self, Sums};
use super::{COPY, Sizes, Spread};
use crate::conv2d::add_up::add_up;
use crate::conv2d::ahead::Ahead;
use crate::conv2d::{BackwardWeight, Conv2d};
use crate::dispatch::Task;
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu};
use core::ops::Range;

/// The most ranges of lines.
const RANGES: usize = 8;
/// Numbers that the ranges' gradients may take together, where that allows for more than one.
const NUMBERS: usize = 128 << 10;
/// Channels, and columns of taps, whose sums are in registers.
const CHANNELS: usize = 4;
const COLUMNS: usize = 3;

/// How many ranges, and the output lines of each.
fn ranges(conv: &Conv2d) -> (usize, usize) {
    let lines = conv.n() * conv.out_h();
    let most = (NUMBERS / conv.weights().len()).clamp(1, RANGES);
    let each = lines.div_ceil(most);
    (lines.div_ceil(each), each)
}

/// Output lines whose copy is in use at a time, at most.
fn lines_at_once(conv: &Conv2d) -> usize {
    let sizes = Sizes::forward(conv);
    (1..=conv.out_h().min(32)).rev().find(|&lines| sizes.copy_len(lines) <= COPY).unwrap_or(1)
}

/// Scratch of [`run`].
pub(crate) fn scratch_len(conv: &Conv2d, threads: usize) -> usize {
    ranges(conv).0 * conv.weights().len() + threads * Sizes::forward(conv).copy_len(lines_at_once(conv))
}

/// dw = the weight's gradient (+ dw where `add`).
pub(crate) fn run(conv: &Conv2d, cpu: &Cpu, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, scratch } = call;
    let ((count, each), layout) = (ranges(conv), conv.weights());
    let (sums, scratch) = scratch.split_at_mut(count * layout.len());
    let copy_len = Sizes::forward(conv).copy_len(lines_at_once(conv));
    let blocks = layout.blocks();
    cpu.run(Chunks::new(sums, layout.block_len(), count * blocks), scratch, copy_len, |i, sum, copy| {
        let (first, channel) = (i / blocks * each, i % blocks * layout.block());
        let end = (first + each).min(conv.n() * conv.out_h());
        cpu.level.run(Part { conv, x, dy, first, end, channel, copy, sum });
    });
    add_up(cpu, sums, count, dw, add);
}

/// Some output lines and one block of output channels.
struct Part<'a, 'p> {
    conv: &'a Conv2d,
    x: &'a [f32],
    dy: &'a [f32],
    /// First output line and the one behind the last, over all images.
    first: usize,
    end: usize,
    /// First output channel.
    channel: usize,
    copy: &'p mut [f32],
    /// The block of the range's gradient.
    sum: &'p mut [f32],
}

impl Task for Part<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        self.sum.fill(0.0);
        let (conv, high) = (self.conv, self.conv.out_h());
        let (sizes, most) = (Sizes::forward(conv), lines_at_once(conv));
        let [.., k, per_to] = sizes.to;
        let take = Take::new(sizes.from[3], per_to, I::LANES);
        let mut line = self.first;
        while line < self.end {
            let (image, at) = (line / high, line % high);
            let count = most.min(high - at).min(self.end - line);
            let (lines, columns) = (sizes.span(0, at, count), sizes.span(1, 0, conv.out_w()));
            let block = conv.weights().block();
            let mut ahead = self.next::<I>(&sizes, line + count, &lines);
            for channel in (self.channel..k.min(self.channel + block)).step_by(I::LANES) {
                let (from, lines, columns) = (sizes.from, lines.clone(), columns.clone());
                let spread = Spread { x: self.x, from, per_to, image, lines, columns, channel, k };
                if take != Take::Broadcast || channel % per_to == 0 || channel == self.channel {
                    spread.run(isa, self.copy);
                }
                let ahead = &mut ahead;
                match take {
                    Take::Broadcast => self.channels::<I, { Take::BROADCAST }>(isa, &spread, line, count, ahead),
                    Take::Permute => self.channels::<I, { Take::PERMUTE }>(isa, &spread, line, count, ahead),
                    Take::Spread => self.channels::<I, { Take::SPREAD }>(isa, &spread, line, count, ahead),
                }
            }
            line += count;
        }
    }
}

impl Part<'_, '_> {
    /// What the output lines from `line` on read of x that those before, which read `read`, have not read, and of dy: to be
    /// asked for before each of the sums of [`Part::channels`].
    #[inline(always)]
    fn next<I: Isa>(&self, sizes: &Sizes, line: usize, read: &Range<isize>) -> [Ahead; 2] {
        let (conv, block) = (self.conv, self.conv.weights().block());
        let ([from_high, from_wide, c, per_from], [high, wide, k, per_to]) = (sizes.from, sizes.to);
        let (image, at) = (line / high, line % high);
        let count = lines_at_once(conv).min(high - at).min(self.end - line);
        let there = if count > 0 { sizes.span(0, at, count) } else { 0..0 };
        let inside = |line: isize| line.clamp(0, from_high as isize) as usize;
        let first = if at > 0 { there.start.max(read.end) } else { there.start };
        let lines = inside(there.end).saturating_sub(inside(first));
        let (channel, channels) = (self.channel * per_from / per_to, (block * per_from).div_ceil(per_to));
        let [down, across] = conv.kernel();
        let steps = block.div_ceil(I::LANES) * down * across.div_ceil(COLUMNS) * per_from.div_ceil(CHANNELS);
        let x = self.x.as_ptr().wrapping_add((image * from_high + inside(first)) * from_wide * c + channel);
        let dy = self.dy.as_ptr().wrapping_add(line * wide * k + self.channel);
        [Ahead::runs(x, [lines * from_wide, channels.min(c)], c, steps), Ahead::runs(dy, [count * wide, block.min(k)], k, steps)]
    }

    /// What `count` output lines from `line` on add to the sums of a vector of output channels.
    #[inline(always)]
    fn channels<I: Isa, const TAKE: u8>(&mut self, isa: I, spread: &Spread, line: usize, count: usize, ahead: &mut [Ahead; 2]) {
        let (conv, layout) = (self.conv, self.conv.weights());
        let ([high, wide], [step_h, step_w], [apart_h, apart_w]) = (conv.kernel(), conv.stride(), conv.dilation());
        let take = Take::new(layout.c(), conv.k() / conv.groups(), I::LANES);
        let pixel = take.pixel(layout.c(), I::LANES);
        let line_len = (spread.columns.end - spread.columns.start) as usize * pixel;
        let (k, block) = (conv.k(), layout.block());
        for i in 0..high {
            let mut t = 0;
            while t < wide {
                let columns = if wide - t >= COLUMNS { COLUMNS } else { 1 };
                let mut j = 0;
                while j < layout.c() {
                    let channels = if layout.c() - j >= CHANNELS { CHANNELS } else { 1 };
                    let sums = Sums {
                        lines: count,
                        pixels: conv.out_w(),
                        start: i * apart_h * line_len + t * apart_w * pixel,
                        channels: layout.c(),
                        first: j,
                        take,
                        line: step_h * line_len,
                        pixel: step_w * pixel,
                        column: apart_w * pixel,
                        out: line * conv.out_w() * k + spread.channel,
                        out_apart: k,
                        count: (k - spread.channel).min(I::LANES),
                        sum: (j * layout.taps() + i * wide + t) * block + spread.channel - self.channel,
                        sum_column: block,
                        sum_channel: layout.taps() * block,
                    };
                    ahead.iter_mut().for_each(|ahead| ahead.ask(isa));
                    match (channels, columns) {
                        (CHANNELS, COLUMNS) => micro::sums::<I, CHANNELS, COLUMNS, TAKE>(isa, &sums, self.copy, self.dy, self.sum),
                        (CHANNELS, _) => micro::sums::<I, CHANNELS, 1, TAKE>(isa, &sums, self.copy, self.dy, self.sum),
                        (_, COLUMNS) => micro::sums::<I, 1, COLUMNS, TAKE>(isa, &sums, self.copy, self.dy, self.sum),
                        _ => micro::sums::<I, 1, 1, TAKE>(isa, &sums, self.copy, self.dy, self.sum),
                    }
                    j += channels;
                }
                t += columns;
            }
        }
    }
}
