//! Depthwise convolutions where 16 sums are more than a CPU's registers hold: 4 channels of one pixel at a time.

use super::Lines;
use crate::int8::{BLOCK, padded};
use core::ops::Range;

/// Channels whose sums are in registers together.
const FEW: usize = 4;

/// All pixels and channels of some lines.
pub(super) fn run(all: &mut Lines) {
    let (p, [lines, columns]) = (all.p, all.sides);
    let g = p.geometry();
    let (high, wide, c4) = (g.out_h(), g.out_w(), padded(g.c()));
    for row in 0..all.out.rows() {
        let pixel = all.out.first_row() + row;
        let (image, line, column) = (pixel / (high * wide), pixel / wide % high, pixel % wide);
        let there = [lines.inside(line, g.h()), columns.inside(column, g.w())];
        let place = |place: isize, apart: isize, first: usize| (place + first as isize * apart).max(0) as usize;
        let line = place(lines.place(line), lines.apart, there[0].start);
        let column = place(columns.place(column), columns.apart, there[1].start);
        let at = ((image * g.h() + line) * g.w() + column) * c4;
        let taps = Taps { there, all: columns.taps, apart: [lines.apart as usize * g.w() * c4, columns.apart as usize * c4] };
        let whole = taps.there[0].len() == lines.taps && taps.there[1].len() == columns.taps;
        let start = all.out.row_start(row);
        for (i, y) in all.out.row(row).chunks_exact_mut(FEW).enumerate() {
            let (channel, block, lane) = (i * FEW, i * FEW / BLOCK, i * FEW % BLOCK);
            let w = &all.w[block * p.block_len()..][..p.block_len()];
            let few = |words: &[i32; BLOCK]| [0, 1, 2, 3].map(|i| words[lane + i]);
            let mut sums = few(all.table.bias(block));
            if p.x_zero() != 0 && !whole {
                taps.outside(p.x_zero(), w, lane, &mut sums);
            }
            taps.inside(all.x, at + channel, w, lane, &mut sums);
            let multipliers = few(all.table.multipliers(block));
            for (i, y) in y.iter_mut().enumerate() {
                let residual = all.residual.map(|r| r[start + channel + i]);
                let byte = all.table.rescale.byte(sums[i], multipliers[i], residual);
                *y = if channel + i < g.k() { byte } else { p.y_zero() };
            }
        }
    }
}

/// The taps of a pixel.
struct Taps {
    /// Lines and columns that lie in the image.
    there: [Range<usize>; 2],
    /// Columns, outside of the image too.
    all: usize,
    /// Bytes from a line to the next, and from a column to the next.
    apart: [usize; 2],
}

impl Taps {
    /// Adds the products of the taps in the image, of which the first reads x at `at`.
    #[inline(always)]
    fn inside(&self, x: &[u8], at: usize, w: &[i8], lane: usize, sums: &mut [i32; FEW]) {
        let [lines, columns] = &self.there;
        let mut few = *sums;
        for (i, line) in lines.clone().enumerate() {
            let (mut x_at, mut w_at) = (at + i * self.apart[0], (line * self.all + columns.start) * BLOCK + lane);
            for _ in columns.clone() {
                let (x, w) = (&x[x_at..][..FEW], &w[w_at..][..FEW]);
                for (sum, (x, w)) in few.iter_mut().zip(x.iter().zip(w)) {
                    *sum = sum.wrapping_add(i32::from(*x) * i32::from(*w));
                }
                x_at += self.apart[1];
                w_at += BLOCK;
            }
        }
        *sums = few;
    }

    /// Adds the products of the taps outside of the image, where every x is `zero`.
    fn outside(&self, zero: u8, w: &[i8], lane: usize, sums: &mut [i32; FEW]) {
        for (tap, w) in w.chunks_exact(BLOCK).enumerate() {
            if !self.there[0].contains(&(tap / self.all)) || !self.there[1].contains(&(tap % self.all)) {
                for (sum, w) in sums.iter_mut().zip(&w[lane..]) {
                    *sum = sum.wrapping_add(i32::from(zero) * i32::from(*w));
                }
            }
        }
    }
}
