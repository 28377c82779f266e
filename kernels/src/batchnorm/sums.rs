//! Batchnorm's sums over rows: statistics and the gradients of gamma and beta.

use super::BatchNorm;
use super::pass::gate;
use crate::Task;
#[cfg(nunatak_mve)]
use crate::helium;
use crate::isa::Isa;
use crate::lanes::MOST;
use core::ops::Range;

/// What is added up beside x.
#[derive(Clone, Copy)]
pub(super) enum Other<'a> {
    /// Squared deviations from the mean: partial results are means and sums of squares.
    Squares,
    /// dy and its product with deviations from `mean` (a table): partial results are these sums.
    Dy {
        mean: &'a [f32],
        /// Which dy count.
        open: Open<'a>,
    },
}

/// Which numbers of dy a relu let through.
#[derive(Clone, Copy)]
pub(super) enum Open<'a> {
    /// All of this dy.
    All(&'a [f32]),
    /// Those of this dy where `(x − mean)·scale + shift` is not below or at zero (tables).
    Recomputed(&'a [f32], [&'a [f32]; 2]),
    /// Those where this is not; the others become zero in memory.
    Where(&'a [f32]),
}

impl<'a> Other<'a> {
    /// What belongs to this part of x.
    pub(super) fn part(self, part: Range<usize>) -> Other<'a> {
        match self {
            Other::Squares => self,
            Other::Dy { mean, open } => {
                let open = match open {
                    Open::All(dy) => Open::All(&dy[part]),
                    Open::Recomputed(dy, tables) => Open::Recomputed(&dy[part], tables),
                    Open::Where(y) => Open::Where(&y[part]),
                };
                Other::Dy { mean, open }
            }
        }
    }
}

/// The partial results of one chunk of rows.
pub(super) struct BlockTask<'a> {
    pub(super) p: &'a BatchNorm,
    pub(super) x: &'a [f32],
    pub(super) other: Other<'a>,
    /// As x where it is written to (see [`Open::Where`]), else empty.
    pub(super) dy: &'a mut [f32],
    /// Mean and sum of squared deviations, or the two sums of backward: of each channel.
    pub(super) partial: &'a mut [f64],
    /// Three periods.
    pub(super) tables: &'a mut [f32],
}

impl Task for BlockTask<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (c, period) = (self.p.channels, self.p.period());
        let block = self.p.block_rows() * c;
        let (mean, rest) = self.tables.split_at_mut(period);
        let (first, second) = rest.split_at_mut(period);
        let second = &mut second[..period];
        let (a, b) = self.partial.split_at_mut(c);
        a.fill(0.0);
        b.fill(0.0);
        let mut start = 0;
        while start < self.x.len() {
            let end = self.x.len().min(start + block);
            let x = &self.x[start..end];
            match self.other {
                Other::Squares => {
                    let (before, rows) = ((start / c) as f64, (x.len() / c) as f64);
                    block_mean(isa, x, c, mean);
                    // Deviations from the rounded mean: their sum corrects it.
                    over_rows::<I, SQUARES>(isa, x, x, &mut [], [mean, &[], &[]], first, second);
                    fold(c, first);
                    fold(c, second);
                    let (share, weight) = (rows / (before + rows), before * rows / (before + rows));
                    for i in 0..c {
                        let off = f64::from(first[i]) / rows;
                        let delta = f64::from(mean[i]) + off - a[i];
                        a[i] += delta * share;
                        b[i] += f64::from(second[i]) - off * f64::from(first[i]) + delta * delta * weight;
                    }
                }
                Other::Dy { mean, open } => {
                    match open {
                        Open::All(dy) => over_rows::<I, ALL>(isa, x, &dy[start..end], &mut [], [mean, &[], &[]], first, second),
                        Open::Recomputed(dy, [scale, shift]) => {
                            let dy = &dy[start..end];
                            over_rows::<I, RECOMPUTED>(isa, x, dy, &mut [], [mean, scale, shift], first, second);
                        }
                        Open::Where(y) => {
                            let dy = &mut self.dy[start..end];
                            over_rows::<I, WHERE>(isa, x, &y[start..end], dy, [mean, &[], &[]], first, second);
                        }
                    }
                    fold(c, first);
                    fold(c, second);
                    for i in 0..c {
                        a[i] += f64::from(second[i]);
                        b[i] += f64::from(first[i]);
                    }
                }
            }
            start = end;
        }
    }
}

/// Adds the repetitions of each channel in a table onto its first entry.
#[inline(always)]
fn fold(c: usize, table: &mut [f32]) {
    let (sum, rest) = table.split_at_mut(c);
    for part in rest.chunks_exact(c) {
        for (sum, v) in sum.iter_mut().zip(part) {
            *sum += v;
        }
    }
}

/// The mean of a block's rows, as a table.
#[inline(always)]
fn block_mean<I: Isa>(isa: I, x: &[f32], c: usize, mean: &mut [f32]) {
    let period = mean.len();
    let mut i = 0;
    while i < period {
        if i + 4 * I::LANES <= period {
            column_sums::<I, 4>(isa, x, i, mean);
            i += 4 * I::LANES;
        } else {
            column_sums::<I, 1>(isa, x, i, mean);
            i += I::LANES;
        }
    }
    fold(c, mean);
    let share = 1.0 / (x.len() / c) as f32;
    let (first, rest) = mean.split_at_mut(c);
    for v in first.iter_mut() {
        *v *= share;
    }
    for part in rest.chunks_exact_mut(c) {
        part.copy_from_slice(first);
    }
}

/// `N` vectors of sums, of the columns from `at` of a block seen as rows of a period.
#[inline(always)]
fn column_sums<I: Isa, const N: usize>(isa: I, x: &[f32], at: usize, sums: &mut [f32]) {
    let period = sums.len();
    let mut sum = [isa.splat(0.0); N];
    let mut i = at;
    while i + N * I::LANES <= x.len() {
        let row = &x[i..i + N * I::LANES];
        for (j, sum) in sum.iter_mut().enumerate() {
            *sum = isa.add(*sum, isa.load(&row[j * I::LANES..]));
        }
        i += period;
    }
    for (j, sum) in sum.iter_mut().enumerate() {
        let i = i + j * I::LANES;
        if i < x.len() {
            *sum = isa.add(*sum, crate::lanes::load_padded(isa, &x[i..], 0.0));
        }
        isa.store(*sum, &mut sums[at + j * I::LANES..]);
    }
}

/// How far ahead numbers are asked for.
const AHEAD: usize = 2048;

/// What [`over_rows`] sums: a constant of each of its copies.
const SQUARES: u8 = 0;
const ALL: u8 = 1;
const RECOMPUTED: u8 = 2;
const WHERE: u8 = 3;

/// Sums over a block seen as rows of a period. With d = x − mean: for `SQUARES`, `first` = Σ d and
/// `second` = Σ d²; else `first` = Σ dy and `second` = Σ d·dy. The tables are mean, and for
/// `RECOMPUTED` scale and shift; `other` is dy, for `WHERE` y, beside which dy lies in `masked`.
#[inline(always)]
fn over_rows<I: Isa, const KIND: u8>(
    isa: I,
    x: &[f32],
    other: &[f32],
    masked: &mut [f32],
    tables: [&[f32]; 3],
    first: &mut [f32],
    second: &mut [f32],
) {
    let mut i = 0;
    while i < first.len() {
        if i + 4 * I::LANES <= first.len() {
            Columns::<I, 4> { isa, at: i }.sum::<KIND>(x, other, masked, tables, first, second);
            i += 4 * I::LANES;
        } else {
            Columns::<I, 1> { isa, at: i }.sum::<KIND>(x, other, masked, tables, first, second);
            i += I::LANES;
        }
    }
}

/// What is summed beside the deviation `d`, as `KIND` says. [`WHERE`] overwrites `masked` with it.
#[inline(always)]
fn other<I: Isa, const KIND: u8>(isa: I, d: I::V, others: &[f32], masked: &mut [f32], [scale, shift]: [I::V; 2]) -> I::V {
    match KIND {
        SQUARES => d,
        ALL => isa.load(others),
        RECOMPUTED => gate(isa, isa.load(others), d, scale, shift),
        _ => {
            let zero = isa.splat(0.0);
            let other = isa.select(isa.le(isa.load(others), zero), zero, isa.load(masked));
            isa.store(other, masked);
            other
        }
    }
}

/// `N` vectors of columns, from column `at`. Slices are no fields: the compiler would no longer see that the loop stays
/// inside them.
#[derive(Clone, Copy)]
struct Columns<I, const N: usize> {
    isa: I,
    at: usize,
}

impl<I: Isa, const N: usize> Columns<I, N> {
    /// Their sums, as [`over_rows`] says.
    #[inline(always)]
    fn sum<const KIND: u8>(
        self,
        x: &[f32],
        others: &[f32],
        masked: &mut [f32],
        tables: [&[f32]; 3],
        firsts: &mut [f32],
        seconds: &mut [f32],
    ) {
        let Columns { isa, at } = self;
        let period = firsts.len();
        let zero = isa.splat(0.0);
        let others = &others[..x.len()];
        let masked = if KIND == WHERE { &mut masked[..x.len()] } else { &mut [] };
        let (mut first, mut second) = ([zero; N], [zero; N]);
        let (mut mean, mut scale, mut shift) = ([zero; N], [zero; N], [zero; N]);
        for j in 0..N {
            let at = at + j * I::LANES;
            mean[j] = isa.load(&tables[0][at..]);
            if KIND == RECOMPUTED {
                scale[j] = isa.load(&tables[1][at..]);
                shift[j] = isa.load(&tables[2][at..]);
            }
        }
        let mut i = at;
        #[cfg(nunatak_mve)]
        if let Some((rows, [a, b])) = four_columns::<KIND>(N * I::LANES, at, x, others, masked, tables, period) {
            for j in 0..N {
                (first[j], second[j]) = (isa.splat(a[j]), isa.splat(b[j]));
            }
            i += rows * period;
        }
        while i + N * I::LANES <= x.len() {
            let x = &x[i..i + N * I::LANES];
            let others = &others[i..i + N * I::LANES];
            let masked = if KIND == WHERE { &mut masked[i..i + N * I::LANES] } else { &mut [] };
            for j in 0..N {
                let v = j * I::LANES;
                // Where a row is wider than what is summed at a time, its parts are no order that a CPU foresees.
                if period > N * I::LANES && v % 16 == 0 {
                    isa.prefetch(x.as_ptr().wrapping_add(v + AHEAD));
                    isa.prefetch(others.as_ptr().wrapping_add(v + AHEAD));
                    if KIND == WHERE {
                        isa.prefetch(masked.as_ptr().wrapping_add(v + AHEAD));
                    }
                }
                let d = isa.sub(isa.load(&x[v..]), mean[j]);
                let masked = if KIND == WHERE { &mut masked[v..] } else { &mut [] };
                let other = other::<I, KIND>(isa, d, &others[v..], masked, [scale[j], shift[j]]);
                first[j] = isa.add(first[j], other);
                second[j] = isa.fma(d, other, second[j]);
            }
            i += period;
        }
        for j in 0..N {
            let i = i + j * I::LANES;
            if i < x.len() {
                // The last row may end inside: what is missing deviates by nothing and counts nothing.
                let len = I::LANES.min(x.len() - i);
                let (mut xs, mut os, mut ms) = ([0.0; MOST], [0.0; MOST], [0.0; MOST]);
                isa.store(mean[j], &mut xs);
                xs[..len].copy_from_slice(&x[i..i + len]);
                os[..len].copy_from_slice(&others[i..i + len]);
                if KIND == WHERE {
                    ms[..len].copy_from_slice(&masked[i..i + len]);
                }
                let d = isa.sub(isa.load(&xs), mean[j]);
                let other = other::<I, KIND>(isa, d, &os, &mut ms, [scale[j], shift[j]]);
                if KIND == WHERE {
                    masked[i..i + len].copy_from_slice(&ms[..len]);
                }
                first[j] = isa.add(first[j], other);
                second[j] = isa.fma(d, other, second[j]);
            }
            isa.store(first[j], &mut firsts[at + j * I::LANES..]);
            isa.store(second[j], &mut seconds[at + j * I::LANES..]);
        }
    }
}

/// The sums of [`over_rows`] of all whole rows of four columns from `at` on, with Helium: how many rows, and both sums. Otherwise
/// none.
#[cfg(nunatak_mve)]
#[allow(unsafe_code)]
#[inline(always)]
fn four_columns<const KIND: u8>(
    columns: usize,
    at: usize,
    x: &[f32],
    others: &[f32],
    masked: &mut [f32],
    tables: [&[f32]; 3],
    period: usize,
) -> Option<(usize, [[f32; 4]; 2])> {
    let rows = (x.len().checked_sub(at + 4)? / period) + 1;
    if columns != 4 || KIND == ALL {
        return None;
    }
    let [mean, scale, shift] = tables.map(|table| table.get(at..at + 4).map_or(core::ptr::null(), <[f32]>::as_ptr));
    assert!(others.len() == x.len() && (KIND != WHERE || masked.len() == x.len()) && !mean.is_null());
    assert!(KIND != RECOMPUTED || !scale.is_null() && !shift.is_null());
    let (x, other) = (x[at..].as_ptr(), others[at..].as_ptr());
    // SAFETY: the last row's four numbers lie before the end of x, and what is as long; the tables' were looked for.
    let sums = unsafe {
        match KIND {
            SQUARES => helium::deviations(x, period, rows, &*mean.cast()),
            RECOMPUTED => helium::gated(x, other, period, rows, [mean, scale, shift]),
            _ => helium::masked(x, other, masked[at..].as_mut_ptr(), period, rows, mean),
        }
    };
    Some((rows, sums))
}

/// Merges all chunks into the first, in order: Chan's formula.
pub(super) struct MergeStatistics<'a> {
    pub(super) p: &'a BatchNorm,
    pub(super) partial: &'a mut [f64],
}

impl Task for MergeStatistics<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let (c, rows) = (self.p.channels, self.p.rows);
        let (all, chunks) = self.partial.split_at_mut(2 * c);
        let (mean, squares) = all.split_at_mut(c);
        let mut before = self.p.chunk_rows().min(rows);
        for chunk in chunks.chunks_exact(2 * c) {
            let more = self.p.chunk_rows().min(rows - before);
            let share = more as f64 / (before + more) as f64;
            let weight = before as f64 * share;
            for i in 0..c {
                let delta = chunk[i] - mean[i];
                mean[i] += delta * share;
                squares[i] += chunk[c + i] + delta * delta * weight;
            }
            before += more;
        }
    }
}

/// Adds all chunks to the first, in order.
pub(super) struct MergeSums<'a> {
    pub(super) p: &'a BatchNorm,
    pub(super) partial: &'a mut [f64],
}

impl Task for MergeSums<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let (all, chunks) = self.partial.split_at_mut(2 * self.p.channels);
        for chunk in chunks.chunks_exact(all.len()) {
            for (sum, v) in all.iter_mut().zip(chunk) {
                *sum += v;
            }
        }
    }
}
