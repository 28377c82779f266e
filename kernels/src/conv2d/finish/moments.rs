//! Mean and sum of squared deviations of each output channel, taken from tiles that are still in the
//! cache: what a batch normalisation behind the convolution would read all of y for.
//!
//! A tile's rows are taken in blocks of at most 128: their mean, then deviations from it, as
//! [`crate::batchnorm`] does. Each row tile of the algorithm is a part with partial results of its
//! own; parts are merged in order (T. Chan, G. Golub, R. LeVeque 1979). So the result does not depend
//! on the number of threads; it does, in its last bits, on the algorithm and the instruction set.

use super::load_of;
#[cfg(nunatak_mve)]
use crate::helium;
use crate::isa::Isa;
use crate::parallel::{Cells, Tile};
use crate::{Level, Task};
use core::ops::Range;

/// Rows of which sums are taken in `f32`.
const BLOCK: usize = 128;
/// Room for a part's number of rows.
const COUNT: usize = 16;
/// The most columns that are in registers at once: four vectors.
const WIDEST: usize = 64;

/// The partial results of a convolution's output.
///
/// Each part has its number of rows, then for each channel the mean, what it lost as `f32`, and the
/// sum of squared deviations.
#[derive(Debug)]
pub struct Moments<'a> {
    cells: Cells<'a>,
    k: usize,
    parts: usize,
}

impl<'a> Moments<'a> {
    /// Numbers of scratch for the partial results of `k` channels.
    pub(crate) const fn scratch_len(k: usize, parts: usize) -> usize {
        parts * (COUNT + 3 * k.next_multiple_of(COUNT))
    }

    /// No rows yet.
    pub(crate) fn new(k: usize, parts: usize, scratch: &'a mut [f32]) -> Self {
        let each = Self::scratch_len(k, 1);
        assert_eq!(scratch.len(), parts * each, "scratch for the moments of {k} channels in {parts} parts");
        scratch.chunks_exact_mut(each).for_each(|part| part[0] = 0.0);
        Moments { cells: Cells::new(scratch), k, parts }
    }

    pub(super) fn tile(&self, level: Level, tile: &mut Tile) {
        assert!(tile.number() < self.parts, "row tile {} of {}", tile.number(), self.parts);
        level.run(TileTask { moments: self, tile });
    }

    /// Means, then sums of squared deviations, of all rows.
    pub(crate) fn merge(self, level: Level, all: &mut [f64]) {
        assert_eq!(all.len(), 2 * self.k, "moments of {} channels", self.k);
        let k = self.k;
        level.run(Merge { parts: self.cells.into_slice(), k, all });
    }
}

struct TileTask<'a, 't, 'p> {
    moments: &'a Moments<'a>,
    tile: &'p mut Tile<'t>,
}

impl Task for TileTask<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let columns = self.tile.columns();
        let part = self.tile.number() * Moments::scratch_len(self.moments.k, 1);
        self.moments.cells.set(part, self.tile.rows() as f32);
        let mut at = 0;
        while at < columns {
            let left = columns - at;
            // Room for so many numbers is all that a strip of them needs, which matters on a board's stack.
            at += match (I::LANES, left / I::LANES) {
                (1, 4..) => self.strip::<I, 4, 4>(isa, part + COUNT, at),
                (1, _) => self.strip::<I, 1, 4>(isa, part + COUNT, at),
                (_, 4..) => self.strip::<I, 4, WIDEST>(isa, part + COUNT, at),
                (_, 2..) => self.strip::<I, 2, WIDEST>(isa, part + COUNT, at),
                _ => self.strip::<I, 1, WIDEST>(isa, part + COUNT, at),
            };
        }
    }
}

impl TileTask<'_, '_, '_> {
    /// `V` vectors of columns from `at` on, at most `MOST` numbers: how many.
    #[inline(always)]
    fn strip<I: Isa, const V: usize, const MOST: usize>(&mut self, isa: I, part: usize, at: usize) -> usize {
        // Where there are several vectors all are whole: a constant, so that the loops have no way for a part.
        let there = if V > 1 { V * I::LANES } else { (self.tile.columns() - at).min(I::LANES) };
        let rows = self.tile.rows();
        let (mut mean, mut squares) = ([0.0_f64; MOST], [0.0_f64; MOST]);
        let mut before = 0;
        while before < rows {
            let count = BLOCK.min(rows - before);
            let (mut centres, mut firsts, mut seconds) = ([0.0_f32; MOST], [0.0_f32; MOST], [0.0_f32; MOST]);
            let mut rows = self.tile.part(before, count);
            #[cfg(nunatak_mve)]
            let taken = V * I::LANES == 4 && four_columns(&rows, at, [&mut centres, &mut firsts, &mut seconds]);
            #[cfg(not(nunatak_mve))]
            let taken = false;
            if !taken {
                block::<I, V>(isa, &mut rows, at..at + there, [&mut centres, &mut firsts, &mut seconds]);
            }
            let share = count as f64 / (before + count) as f64;
            let weight = before as f64 * share;
            for i in 0..there {
                let off = f64::from(firsts[i]) / count as f64;
                let delta = f64::from(centres[i]) + off - mean[i];
                mean[i] += delta * share;
                squares[i] += f64::from(seconds[i]) - off * f64::from(firsts[i]) + delta * delta * weight;
            }
            before += count;
        }
        let room = self.moments.k.next_multiple_of(COUNT);
        let to = part + self.tile.first_column() + at;
        for i in 0..there {
            let rounded = mean[i] as f32;
            self.moments.cells.set(to + i, rounded);
            self.moments.cells.set(to + room + i, (mean[i] - f64::from(rounded)) as f32);
            self.moments.cells.set(to + 2 * room + i, squares[i] as f32);
        }
        V * I::LANES
    }
}

/// [`block`] of four columns with Helium, where rows lie at one distance: whether they do.
#[cfg(nunatak_mve)]
#[allow(unsafe_code)]
#[inline(always)]
fn four_columns<const MOST: usize>(rows: &Tile, at: usize, sums: [&mut [f32; MOST]; 3]) -> bool {
    let ([Some(centres), Some(firsts), Some(seconds)], Some((y, step))) = (sums.map(|sums| sums.first_chunk_mut()), rows.column::<4>(at))
    else {
        return false;
    };
    let share = 1.0 / rows.rows() as f32;
    // SAFETY: a row's four numbers from `at` on are there (checked by `column`), and so are those of the others.
    unsafe {
        *centres = helium::sums(y, step, rows.rows()).map(|sum| sum * share);
        [*firsts, *seconds] = helium::deviations(y, step, rows.rows(), centres);
    }
    true
}

/// The mean of each of these columns of a block of rows, the sum of what they deviate from it, and of the squares of that.
#[inline(always)]
fn block<I: Isa, const V: usize>(isa: I, rows: &mut Tile, columns: Range<usize>, [centres, firsts, seconds]: [&mut [f32]; 3]) {
    let count = rows.rows();
    let mut sum = [isa.splat(0.0); V];
    for row in 0..count {
        let y = &rows.row(row)[columns.clone()];
        for v in 0..V {
            sum[v] = isa.add(sum[v], load_of::<I, V>(isa, &y[v * I::LANES..]));
        }
    }
    let share = isa.splat(1.0 / count as f32);
    let mut centre = sum;
    for v in &mut centre {
        *v = isa.mul(*v, share);
    }
    // Deviations from the rounded mean: their sum corrects it.
    let (mut first, mut second) = ([isa.splat(0.0); V], [isa.splat(0.0); V]);
    for row in 0..count {
        let y = &rows.row(row)[columns.clone()];
        for v in 0..V {
            let d = isa.sub(load_of::<I, V>(isa, &y[v * I::LANES..]), centre[v]);
            first[v] = isa.add(first[v], d);
            second[v] = isa.fma(d, d, second[v]);
        }
    }
    for v in 0..V {
        isa.store(centre[v], &mut centres[v * I::LANES..]);
        isa.store(first[v], &mut firsts[v * I::LANES..]);
        isa.store(second[v], &mut seconds[v * I::LANES..]);
    }
}

/// Chan's formula over all parts, in order.
struct Merge<'a> {
    parts: &'a [f32],
    k: usize,
    all: &'a mut [f64],
}

impl Task for Merge<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let (k, room) = (self.k, self.k.next_multiple_of(COUNT));
        let (means, squares) = self.all.split_at_mut(k);
        let squares = &mut squares[..k];
        means.fill(0.0);
        squares.fill(0.0);
        let mut before = 0.0_f64;
        for part in self.parts.chunks_exact(Moments::scratch_len(k, 1)) {
            let count = f64::from(part[0]);
            if count == 0.0 {
                continue; // a number that the algorithm's tiles leave out
            }
            let (mean, rest) = part[COUNT..].split_at(room);
            let (lost, square) = rest.split_at(room);
            let (mean, lost, square) = (&mean[..k], &lost[..k], &square[..k]);
            let share = count / (before + count);
            let weight = before * share;
            for i in 0..k {
                let delta = f64::from(mean[i]) + f64::from(lost[i]) - means[i];
                means[i] += delta * share;
                squares[i] += f64::from(square[i]) + delta * delta * weight;
            }
            before += count;
        }
    }
}
