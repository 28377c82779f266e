//! Depthwise convolutions: a filter of its own for every channel.
//!
//! Vectors lie along the channels, of pixels and of weights alike, so nothing is copied. Pixels whose columns all lie in
//! the image are computed some at a time, those at the edges one at a time.

mod few;

use super::dispatch::{Way, Work};
use super::geometry::Forward;
use super::isa::Bytes;
use super::micro::{Strip, strip};
use super::table::{Table, residual_bytes};
use super::{BLOCK, Conv2d, padded};
use crate::Cpu;
use crate::conv2d::side::Side;
use crate::parallel::{RowMap, Tile, Tiles};
use core::ops::Range;

/// Parts for each thread, where there are several.
const PARTS: usize = 4;

pub(super) fn forward(p: &Conv2d, way: Way, cpu: &Cpu, call: Forward) {
    let Forward { x, w, table, residual, y, .. } = call;
    let g = p.geometry();
    let (k4, high, wide) = (padded(g.k()), g.out_h(), g.out_w());
    let all = g.n() * high * wide;
    let threads = cpu.threads.count();
    let parts = if threads > 1 { threads.saturating_mul(PARTS).div_ceil(g.n()) } else { 1 };
    let lines = high.div_ceil(parts);
    let tiles = Tiles::new(y, RowMap::plain(all, k4), all, k4, lines * wide, k4).with_period(high * wide);
    let table = Table::new(p, table);
    let sides = [Side::forward(g, 0), Side::forward(g, 1)];
    cpu.run_with(tiles, &mut [], 0, |_, mut out, _: &mut [u8]| {
        way.run(Lines { p, sides, x, w, table: &table, residual, out: &mut out });
    });
}

/// Some lines of an image.
struct Lines<'a, 'p, 't> {
    p: &'a Conv2d,
    sides: [Side; 2],
    x: &'a [u8],
    w: &'a [i8],
    table: &'a Table<'a>,
    residual: Option<&'a [u8]>,
    out: &'p mut Tile<'t, u8>,
}

impl Work for Lines<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Bytes>(mut self, isa: I) {
        if I::FEW {
            return few::run(&mut self);
        }
        let (g, [lines, columns]) = (self.p.geometry(), self.sides);
        let (high, wide) = (g.out_h(), g.out_w());
        // Pixels all of whose columns lie in the image.
        let whole = |i: &usize| columns.inside(*i, g.w()).len() == columns.taps;
        let low = (0..wide).find(whole).unwrap_or(wide);
        let end = (low..wide).find(|i| !whole(i)).unwrap_or(wide);
        for line in 0..self.out.rows() / wide {
            let number = self.out.first_row() / wide + line;
            let (image, i) = (number / high, number % high);
            let there = lines.inside(i, g.h());
            let first = (lines.place(i) + there.start as isize * lines.apart).max(0) as usize;
            let row = line * wide;
            for block in 0..self.p.blocks() {
                let scale = isa.scale(&self.table.rescale, self.table.multipliers(block));
                let mut row = Row { image, first, row, there: there.clone(), block, lines: &mut self };
                row.pixels(isa, low, end, &scale);
            }
        }
    }
}

/// A line of the output, 16 of its channels.
struct Row<'a, 'b, 'p, 't> {
    image: usize,
    /// The first input line that is read.
    first: usize,
    /// The number of the line's first pixel in the part.
    row: usize,
    /// The lines of taps that lie in the image.
    there: Range<usize>,
    block: usize,
    lines: &'b mut Lines<'a, 'p, 't>,
}

impl Row<'_, '_, '_, '_> {
    /// All pixels; those from `low` to `end` have all their columns.
    #[inline(always)]
    fn pixels<I: Bytes>(&mut self, isa: I, low: usize, end: usize, scale: &I::Scale) {
        let wide = self.lines.p.geometry().out_w();
        let mut pixel = 0;
        while pixel < wide {
            if pixel < low || pixel >= end {
                self.strip::<I, 1>(isa, pixel, scale);
                pixel += 1;
            } else if const { I::PIXELS >= 8 } && end - pixel >= 8 {
                self.strip::<I, 8>(isa, pixel, scale);
                pixel += 8;
            } else if const { I::PIXELS >= 4 } && end - pixel >= 4 {
                self.strip::<I, 4>(isa, pixel, scale);
                pixel += 4;
            } else if end - pixel >= 2 {
                self.strip::<I, 2>(isa, pixel, scale);
                pixel += 2;
            } else {
                self.strip::<I, 1>(isa, pixel, scale);
                pixel += 1;
            }
        }
    }

    /// `P` pixels from this one on, which read the same columns of taps.
    #[inline(always)]
    fn strip<I: Bytes, const P: usize>(&mut self, isa: I, pixel: usize, scale: &I::Scale) {
        let Lines { p, sides: [lines, columns], x, w, table, residual, ref mut out } = *self.lines;
        let (g, block) = (p.geometry(), self.block);
        let c4 = padded(g.c());
        let w = &w[block * p.block_len()..][..p.block_len()];
        let inside = columns.inside(pixel, g.w());
        let column = (columns.place(pixel) + inside.start as isize * columns.apart).max(0) as usize;
        let strip_of = Strip {
            at: ((self.image * g.h() + self.first) * g.w() + column) * c4 + block * BLOCK,
            lines: self.there.len(),
            line: lines.apart as usize * g.w() * c4,
            columns: inside.len(),
            column: columns.apart as usize * c4,
            pixel: columns.advance * c4,
            tap: self.there.start * columns.taps + inside.start,
            tap_line: columns.taps,
        };
        let mut start = isa.start(table.bias(block));
        let whole = self.there.len() == lines.taps && inside.len() == columns.taps;
        if p.x_zero() != 0 && !whole {
            let outside = isa.wide(&[p.x_zero(); BLOCK]);
            for (tap, w) in w.as_chunks::<BLOCK>().0.iter().enumerate() {
                if !self.there.contains(&(tap / columns.taps)) || !inside.contains(&(tap % columns.taps)) {
                    start = isa.multiply_add(start, outside, isa.wide_weights(w));
                }
            }
        }
        let sums = strip::<I, P>(isa, &strip_of, x, w, [start; P]);
        let whole = (block + 1) * BLOCK <= g.k();
        for (i, sums) in sums.into_iter().enumerate() {
            let at = out.row_start(self.row + pixel + i) + block * BLOCK;
            let y = &mut out.row(self.row + pixel + i)[block * BLOCK..];
            if let (true, Some(y)) = (whole, y.first_chunk_mut()) {
                let residual = residual.map(|r| &r[at..at + BLOCK]).and_then(|r| r.first_chunk());
                *y = isa.bytes(sums, scale, residual);
                continue;
            }
            let residual = residual.map(|r| residual_bytes(r, at));
            table.store(block, isa.bytes(sums, scale, residual.as_ref()), y);
        }
    }
}
