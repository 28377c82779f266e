//! `grouped`: groups of a few channels, as in ResNeXt.
//!
//! A vector of output channels may belong to several groups, of which each reads its own input channels. So before the
//! products some lines of x are copied, with the zeros around the image ([`spread`]), and for input channel j of the
//! groups each lane takes the number that its group reads ([`Take`]). Then no lane of a product is wasted, whatever the
//! size of the groups.
//!
//! A part of the work is a few output lines with all their channels, one vector of channels after the other. Some
//! output pixels side by side are in registers.
//!
//! *Input's gradient:* the same over dy, in the phases of [`Side`], with weights whose input and output channels
//! are exchanged inside the groups ([`exchange`]). *Weight's gradient:* [`backward_weight`].

pub(super) mod backward_weight;
mod exchange;
#[allow(unsafe_code)]
mod micro;
mod spread;

use super::ahead::Ahead;
use super::side::Side;
use super::{BackwardInput, Conv2d, Finish, Forward};
use crate::dispatch::Task;
use crate::isa::Isa;
use crate::lanes::MOST;
use crate::parallel::{Cpu, RowMap, Tile, Tiles};
use crate::weights::WeightLayout;
use core::ops::Range;
use micro::{Strip, Take};
use spread::Spread;

/// The longest sum of an element, and the largest window and stride: the copy must stay small.
const SUM: usize = 1152;
const REACH: usize = 32;
const STRIDE: usize = 4;
/// Numbers that a copy may have, about: it stays in the second-level cache.
const COPY: usize = 24 << 10;
/// Parts that are enough.
const PARTS: usize = 8;

/// Whether this algorithm can do a convolution.
pub(super) fn accepts(conv: &Conv2d) -> bool {
    let most = conv.c().max(conv.k()) / conv.groups();
    let small = |sizes: [usize; 2], most: usize| sizes[0].max(sizes[1]) <= most;
    conv.groups() > 1 && most * conv.taps() <= SUM && small(conv.reach(), REACH) && small(conv.pad(), REACH) && small(conv.stride(), STRIDE)
}

/// How many row tiles [`forward`] has.
pub(super) fn row_tiles(conv: &Conv2d) -> usize {
    conv.n() * conv.out_h().div_ceil(Sizes::forward(conv).part_lines())
}

/// Scratch of [`forward`].
pub(super) fn forward_scratch(conv: &Conv2d, threads: usize) -> usize {
    threads * Sizes::forward(conv).part_len()
}

/// Scratch of [`backward_input`].
pub(super) fn backward_input_scratch(conv: &Conv2d, threads: usize) -> usize {
    exchange::layout(conv).len() + threads * Sizes::backward_input(conv).part_len()
}

/// y = x ⊛ w (+ y where `add`), then what `finish` says.
pub(super) fn forward(conv: &Conv2d, cpu: &Cpu, call: Forward) {
    let Forward { x, w, y, add, finish, scratch } = call;
    Run { sizes: Sizes::forward(conv), x, w, layout: conv.weights(), add }.run(cpu, y, finish, scratch);
}

/// dx = the input's gradient (+ dx where `add`).
pub(super) fn backward_input(conv: &Conv2d, cpu: &Cpu, call: BackwardInput) {
    let BackwardInput { w, dy, dx, add, scratch } = call;
    let layout = exchange::layout(conv);
    let (exchanged, scratch) = scratch.split_at_mut(layout.len());
    exchange::run(conv, cpu, w, exchanged);
    Run { sizes: Sizes::backward_input(conv), x: dy, w: exchanged, layout, add }.run(cpu, dx, Finish::None, scratch);
}

/// What the phases of lines and of columns read.
type Sides = [[Side; STRIDE]; 2];

/// A pass as this folder sees it, from a source (x, or dy for the input's gradient) to an output.
#[derive(Clone, Copy)]
struct Sizes<'a> {
    conv: &'a Conv2d,
    back: bool,
    /// Lines, columns, channels, and channels of a group.
    from: [usize; 4],
    to: [usize; 4],
}

impl<'a> Sizes<'a> {
    fn forward(conv: &'a Conv2d) -> Self {
        let (c, k, groups) = (conv.c(), conv.k(), conv.groups());
        Sizes { conv, back: false, from: [conv.h(), conv.w(), c, c / groups], to: [conv.out_h(), conv.out_w(), k, k / groups] }
    }
    fn backward_input(conv: &'a Conv2d) -> Self {
        let Sizes { from, to, .. } = Self::forward(conv);
        Sizes { conv, back: true, from: to, to: from }
    }
    fn phases(&self, direction: usize) -> usize {
        if self.back { self.conv.stride()[direction].min(self.to[direction]) } else { 1 }
    }
    fn side(&self, direction: usize, phase: usize) -> Side {
        if self.back { Side::backward_input(self.conv, direction, phase) } else { Side::forward(self.conv, direction) }
    }

    fn sides(&self) -> Sides {
        let mut sides = [[self.side(0, 0); STRIDE], [self.side(1, 0); STRIDE]];
        for (direction, sides) in sides.iter_mut().enumerate() {
            for (phase, side) in sides[..self.phases(direction)].iter_mut().enumerate() {
                *side = self.side(direction, phase);
            }
        }
        sides
    }

    /// The source lines (or columns) that `count` pixels read at most.
    fn read(&self, direction: usize, count: usize) -> usize {
        let (stride, reach) = (self.conv.stride()[direction], self.conv.reach()[direction]);
        if self.back { (count - 1 + reach) / stride + 2 } else { (count - 1) * stride + reach }
    }
    /// Numbers of a copied pixel, at any level.
    fn pixel(&self) -> usize {
        let [.., per_from] = self.from;
        let [.., per_to] = self.to;
        // As many as the level takes that takes most.
        let lanes = [MOST, MOST / 2, MOST / 4];
        lanes.map(|lanes| Take::new(per_from, per_to, lanes).pixel(per_from, lanes)).into_iter().max().unwrap_or(0)
    }
    fn copy_len(&self, lines: usize) -> usize {
        self.read(0, lines) * self.read(1, self.to[1]) * self.pixel()
    }
    /// Output lines of a part.
    fn part_lines(&self) -> usize {
        let lines = self.to[0];
        let most = (1..=lines.min(64)).rev().find(|&l| self.copy_len(l) <= COPY).unwrap_or(1);
        let most = most.min((self.conv.n() * lines).div_ceil(PARTS)).max(1);
        lines.div_ceil(lines.div_ceil(most))
    }
    fn part_len(&self) -> usize {
        self.copy_len(self.part_lines())
    }

    /// The source lines that the output lines from `first` on read, of one image; or columns, for direction 1.
    fn span(&self, direction: usize, first: usize, count: usize) -> Range<isize> {
        let (mut low, mut high) = (isize::MAX, isize::MIN);
        let phases = self.phases(direction);
        for phase in 0..phases {
            let side = self.side(direction, phase);
            // The first and the last pixel of the phase in the range.
            let (begin, end) = (first.saturating_sub(phase).div_ceil(phases), (first + count).saturating_sub(phase).div_ceil(phases));
            if begin < end && side.taps > 0 {
                let across = (side.taps - 1) as isize * side.apart;
                low = low.min(side.place(begin) + across.min(0));
                high = high.max(side.place(end - 1) + across.max(0) + 1);
            }
        }
        if low < high { low..high } else { 0..0 } // nothing is read
    }
}

/// Forward, or the input's gradient.
#[derive(Clone, Copy)]
struct Run<'a> {
    sizes: Sizes<'a>,
    x: &'a [f32],
    w: &'a [f32],
    layout: WeightLayout,
    add: bool,
}

impl Run<'_> {
    fn run(&self, cpu: &Cpu, y: &mut [f32], finish: Finish, scratch: &mut [f32]) {
        let s = &self.sizes;
        let [lines, wide, k, _] = s.to;
        let rows = s.conv.n() * lines * wide;
        let tiles = Tiles::new(y, RowMap::plain(rows, k), rows, k, s.part_lines() * wide, k).with_period(lines * wide);
        cpu.run(tiles, scratch, s.part_len(), |_, mut out, copy| {
            cpu.level.run(Lines { run: self, copy, out: &mut out });
            finish.tile(cpu.level, &mut out);
        });
    }
}

/// Some lines of the output.
struct Lines<'a, 'p, 't> {
    run: &'a Run<'a>,
    copy: &'p mut [f32],
    out: &'p mut Tile<'t>,
}

impl Task for Lines<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let s = &self.run.sizes;
        let [high, wide, k, per_to] = s.to;
        let (first, count) = (self.out.first_row() / wide, self.out.rows() / wide);
        let (image, first) = (first / high, first % high);
        let (lines, columns) = (s.span(0, first, count), s.span(1, 0, wide));
        let mut ahead = self.next::<I>(image, first, count, &lines);
        let sides = s.sides();
        let take = Take::new(s.from[3], per_to, I::LANES);
        for channel in (0..k).step_by(I::LANES) {
            let spread = Spread { x: self.run.x, from: s.from, per_to, image, lines: lines.clone(), columns: columns.clone(), channel, k };
            // The vectors of a group share one copy.
            if take != Take::Broadcast || channel % per_to == 0 {
                spread.run(isa, self.copy);
            }
            for line in 0..count {
                ahead.iter_mut().for_each(|ahead| ahead.ask(isa));
                for phase in 0..s.phases(1) {
                    match take {
                        Take::Broadcast => self.line::<I, { Take::BROADCAST }>(isa, &spread, &sides, first + line, line, phase),
                        Take::Permute => self.line::<I, { Take::PERMUTE }>(isa, &spread, &sides, first + line, line, phase),
                        Take::Spread => self.line::<I, { Take::SPREAD }>(isa, &spread, &sides, first + line, line, phase),
                    }
                }
            }
        }
    }
}

impl Lines<'_, '_, '_> {
    /// What the next lines read that these (`count` of an image from `first` on, which read `lines`) have not read, and what they
    /// write: to be asked for before each line of each vector of channels.
    #[inline(always)]
    fn next<I: Isa>(&mut self, image: usize, first: usize, count: usize, lines: &Range<isize>) -> [Ahead; 2] {
        let s = &self.run.sizes;
        let ([from_high, from_wide, c, _], [high, wide, k, _]) = (s.from, s.to);
        let (next, read) = if first + count < high { (first + count, lines.end) } else { (0, 0) };
        let image = image + usize::from(next == 0);
        let there = if image < s.conv.n() { s.span(0, next, count.min(high - next)) } else { 0..0 };
        let inside = |line: isize| line.clamp(0, from_high as isize) as usize;
        let (low, high) = (inside(there.start.max(read)), inside(there.end));
        let steps = count * k.div_ceil(I::LANES);
        let x = self.run.x.as_ptr().wrapping_add((image * from_high + low) * from_wide * c);
        let y = self.out.row(0).as_ptr().wrapping_add(count * wide * k);
        [Ahead::new(x, high.saturating_sub(low) * from_wide * c, steps), Ahead::new(y, count * wide * k, steps)]
    }

    /// One phase of line `at` of an image, which is line `line` of the tile, for one vector of channels.
    #[inline(always)]
    fn line<I: Isa, const TAKE: u8>(&mut self, isa: I, spread: &Spread, sides: &Sides, at: usize, line: usize, phase: usize) {
        let (s, layout) = (&self.run.sizes, self.run.layout);
        let [_, wide, k, per_to] = s.to;
        let (channel, across) = (spread.channel, s.conv.kernel()[1]);
        let (lines, columns) = (sides[0][at % s.phases(0)], sides[1][phase]);
        let take = Take::new(s.from[3], per_to, I::LANES);
        let pixel = take.pixel(s.from[3], I::LANES);
        let line_len = (spread.columns.end - spread.columns.start) * pixel as isize;
        let block = layout.block();
        // From the leftmost column of taps on, which is the last where they go left.
        let leftmost = if columns.apart < 0 { columns.taps.saturating_sub(1) } else { 0 };
        let left = leftmost as isize * columns.apart - spread.columns.start;
        let top = (lines.place(at / s.phases(0)) - spread.lines.start) * line_len;
        let step = (columns.step * block) as isize;
        let mut strip = Strip {
            lines: lines.taps,
            columns: columns.taps,
            channels: s.from[3],
            pixel,
            take,
            start: 0,
            line: lines.apart * line_len,
            column: columns.apart.unsigned_abs() * pixel,
            advance: columns.advance * pixel,
            tap: layout.index(channel, 0, lines.first * across + columns.first + leftmost * columns.step),
            tap_line: lines.step * across * block,
            tap_column: if columns.apart < 0 { -step } else { step },
            tap_channel: layout.taps() * block,
            count: (k - channel).min(I::LANES),
            out: 0,
            out_apart: columns.every * k,
        };
        // Broadcasts cost no more than the loads that they are.
        let side_by_side = columns.apart.unsigned_abs() == 1 && take == Take::Permute;
        strip.start = top + (columns.place(0) + left) * pixel as isize;
        strip.out = columns.start * k + channel;
        let (copy, w, add, pixels) = (&*self.copy, self.run.w, self.run.add, columns.pixels);
        let y = self.out.rows_from(line * wide, wide);
        match (columns.taps, columns.advance) {
            (3, 1) if side_by_side => micro::line::<I, 3, 1, TAKE>(isa, &strip, copy, w, y, add, pixels),
            (3, 2) if side_by_side => micro::line::<I, 3, 2, TAKE>(isa, &strip, copy, w, y, add, pixels),
            (2, 1) if side_by_side => micro::line::<I, 2, 1, TAKE>(isa, &strip, copy, w, y, add, pixels),
            _ => micro::line::<I, 1, 1, TAKE>(isa, &strip, copy, w, y, add, pixels),
        }
    }
}
