//! `depthwise`: every channel has a filter of its own, as in MobileNet.
//!
//! Vectors lie along the channels, of pixels and of weights alike (`[k / B][taps][B]`, see [`crate::WeightLayout`]), so
//! nothing is packed or copied. There are only as many products as taps for each number, so what counts is to read
//! x once: a part of the work is a few output lines with all their channels, whose input lines stay in the
//! second-level cache while the lines that read them pass by. Some output pixels side by side are in registers.
//!
//! *Input's gradient:* the same over dy, in the phases of [`Side`]. *Weight's gradient:* [`backward_weight`].

pub(super) mod backward_weight;
#[allow(unsafe_code)]
mod micro;

use super::side::Side;
use super::{BackwardInput, Conv2d, Finish, Forward};
use crate::dispatch::Task;
use crate::isa::Isa;
use crate::parallel::{Cpu, RowMap, Tile, Tiles};
use micro::Strip;

/// Numbers of a part of the output, about: it stays in the second-level cache, with what it reads, until it is finished.
const PART: usize = 16 << 10;

/// Whether this algorithm can do a convolution.
pub(super) const fn accepts(conv: &Conv2d) -> bool {
    conv.is_depthwise()
}

/// Lines of `wide` pixels that are a part, where there are `lines` of them in an image.
fn part_lines(lines: usize, wide: usize, channels: usize) -> usize {
    let most = (PART / (wide * channels)).clamp(1, lines);
    lines.div_ceil(lines.div_ceil(most))
}

/// How many row tiles [`forward`] has.
pub(super) fn row_tiles(conv: &Conv2d) -> usize {
    conv.n() * conv.out_h().div_ceil(part_lines(conv.out_h(), conv.out_w(), conv.k()))
}

/// y = x ⊛ w (+ y where `add`), then what `finish` says. No scratch.
pub(super) fn forward(conv: &Conv2d, cpu: &Cpu, call: Forward) {
    let Forward { x, w, y, add, finish, .. } = call;
    let (from, to) = ([conv.h(), conv.w()], [conv.out_h(), conv.out_w()]);
    Plane { conv, back: false, from, to, x, w, add }.run(cpu, y, finish);
}

/// dx = the input's gradient (+ dx where `add`). No scratch.
pub(super) fn backward_input(conv: &Conv2d, cpu: &Cpu, call: BackwardInput) {
    let BackwardInput { w, dy, dx, add, .. } = call;
    let (from, to) = ([conv.out_h(), conv.out_w()], [conv.h(), conv.w()]);
    Plane { conv, back: true, from, to, x: dy, w, add }.run(cpu, dx, Finish::None);
}

/// A pass: lines and columns of what is read and what is written.
#[derive(Clone, Copy)]
struct Plane<'a> {
    conv: &'a Conv2d,
    back: bool,
    from: [usize; 2],
    to: [usize; 2],
    x: &'a [f32],
    w: &'a [f32],
    add: bool,
}

impl Plane<'_> {
    fn run(&self, cpu: &Cpu, y: &mut [f32], finish: Finish) {
        let ([lines, wide], c) = (self.to, self.conv.c());
        let rows = self.conv.n() * lines * wide;
        let part = part_lines(lines, wide, c);
        let tiles = Tiles::new(y, RowMap::plain(rows, c), rows, c, part * wide, c).with_period(lines * wide);
        cpu.run(tiles, &mut [], 0, |_, mut out, _| {
            cpu.level.run(Lines { plane: self, out: &mut out });
            finish.tile(cpu.level, &mut out);
        });
    }

    fn phases(&self, direction: usize) -> usize {
        if self.back { self.conv.stride()[direction].min(self.to[direction]) } else { 1 }
    }

    fn side(&self, direction: usize, phase: usize) -> Side {
        if self.back { Side::backward_input(self.conv, direction, phase) } else { Side::forward(self.conv, direction) }
    }
}

/// Some lines of the output.
struct Lines<'a, 'p, 't> {
    plane: &'a Plane<'a>,
    out: &'p mut Tile<'t>,
}

impl Task for Lines<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let p = self.plane;
        let (c, [high, wide], layout) = (p.conv.c(), p.to, p.conv.weights());
        let (block, across) = (layout.block(), p.conv.kernel()[1]);
        for phase in 0..p.phases(1) {
            let columns = p.side(1, phase);
            for line in 0..self.out.rows() / wide {
                let at = self.out.first_row() / wide + line;
                let (image, at) = (at / high, at % high);
                let lines = p.side(0, at % p.phases(0));
                let i = at / p.phases(0);
                let there = lines.inside(i, p.from[0]);
                // Where no line of taps is there, nothing is read.
                let first = lines.place(i) + there.start as isize * lines.apart;
                let source = if there.is_empty() { 0 } else { (image * p.from[0] + first as usize) * p.from[1] * c };
                let mut strip = Strip {
                    channels: c,
                    lines: there.len(),
                    columns: columns.taps,
                    line: source,
                    line_apart: lines.apart * (p.from[1] * c) as isize,
                    wide: p.from[1],
                    column: 0,
                    column_apart: columns.apart,
                    advance: columns.advance,
                    block,
                    block_len: layout.block_len(),
                    tap: ((lines.first + there.start * lines.step) * across + columns.first) * block,
                    tap_line: lines.step * across * block,
                    tap_column: columns.step * block,
                    out: 0,
                    out_apart: columns.every * c,
                };
                // The source line behind the last that is read now.
                let below = source as isize + ((there.len() as isize - 1).max(0) * lines.apart.max(0) + 1) * (p.from[1] * c) as isize;
                let y = self.out.rows_from(line * wide, wide);
                let mut pixel = 0;
                while pixel < columns.pixels {
                    strip.column = columns.place(pixel);
                    if phase == 0 {
                        let share = [pixel, columns.pixels.min(pixel + 7)];
                        ask(isa, p.x, below, lines.advance * p.from[1] * c, share, columns.pixels);
                        ask(isa, y, (wide * c) as isize, wide * c, share, columns.pixels);
                    }
                    strip.out = (columns.start + pixel * columns.every) * c;
                    // Seven divides the lines of most networks.
                    pixel += match columns.pixels - pixel {
                        7.. => pixels::<I, 7>(isa, &strip, p, y),
                        4..=6 => pixels::<I, 4>(isa, &strip, p, y),
                        2 | 3 => pixels::<I, 2>(isa, &strip, p, y),
                        _ => pixels::<I, 1>(isa, &strip, p, y),
                    };
                }
            }
        }
    }
}

/// Asks for a share of the `len` numbers that begin `at` behind the first of x: what the next line will need. The many short
/// streams in which a line's channels and pixels pass by are no order that a CPU foresees.
#[inline(always)]
fn ask<I: Isa>(isa: I, x: &[f32], at: isize, len: usize, [from, to]: [usize; 2], of: usize) {
    for i in (len * from / of..len * to / of).step_by(16) {
        isa.prefetch(x.as_ptr().wrapping_offset(at).wrapping_add(i));
    }
}

/// Computes `R` pixels; returns how many.
#[inline(always)]
fn pixels<I: Isa, const R: usize>(isa: I, strip: &Strip, p: &Plane, y: &mut [f32]) -> usize {
    micro::strip::<I, R>(isa, strip, p.x, p.w, y, p.add);
    R
}
