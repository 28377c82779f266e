//! Batchnorm's sums over rows: statistics and the gradients of gamma and beta.

use super::{BatchNorm, Other};
use crate::Task;
use crate::isa::Isa;
use crate::lanes::MOST;

/// The partial results of one chunk of rows.
pub(super) struct BlockTask<'a> {
    pub(super) p: &'a BatchNorm,
    pub(super) x: &'a [f32],
    pub(super) other: Other<'a>,
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
                Other::Mean => {
                    let (before, rows) = ((start / c) as f64, (x.len() / c) as f64);
                    block_mean(isa, x, c, mean);
                    // Deviations from the rounded mean: their sum corrects it.
                    over_rows(isa, x, None, mean, first, second);
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
                Other::Dy(dy, mean) => {
                    over_rows(isa, x, Some(&dy[start..end]), mean, first, second);
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

/// Sums over a block seen as rows of a period. With d = x − mean: without dy, `first` = Σ d and
/// `second` = Σ d²; with dy, `first` = Σ dy and `second` = Σ d·dy.
#[inline(always)]
fn over_rows<I: Isa>(isa: I, x: &[f32], dy: Option<&[f32]>, mean: &[f32], first: &mut [f32], second: &mut [f32]) {
    let mut i = 0;
    while i < mean.len() {
        let four = i + 4 * I::LANES <= mean.len();
        match (dy, four) {
            (Some(dy), true) => columns::<I, 4, true>(isa, x, dy, i, mean, first, second),
            (Some(dy), false) => columns::<I, 1, true>(isa, x, dy, i, mean, first, second),
            (None, true) => columns::<I, 4, false>(isa, x, x, i, mean, first, second),
            (None, false) => columns::<I, 1, false>(isa, x, x, i, mean, first, second),
        }
        i += if four { 4 * I::LANES } else { I::LANES };
    }
}

/// `N` vectors of [`over_rows`], from column `at`.
#[inline(always)]
fn columns<I: Isa, const N: usize, const DY: bool>(
    isa: I,
    x: &[f32],
    dy: &[f32],
    at: usize,
    means: &[f32],
    firsts: &mut [f32],
    seconds: &mut [f32],
) {
    let period = means.len();
    let dy = &dy[..x.len()];
    let (mut first, mut second) = ([isa.splat(0.0); N], [isa.splat(0.0); N]);
    let mut mean = [isa.splat(0.0); N];
    for (j, mean) in mean.iter_mut().enumerate() {
        *mean = isa.load(&means[at + j * I::LANES..]);
    }
    let mut i = at;
    while i + N * I::LANES <= x.len() {
        let x = &x[i..i + N * I::LANES];
        let dy = &dy[i..i + N * I::LANES];
        for j in 0..N {
            let d = isa.sub(isa.load(&x[j * I::LANES..]), mean[j]);
            let other = if DY { isa.load(&dy[j * I::LANES..]) } else { d };
            first[j] = isa.add(first[j], other);
            second[j] = isa.fma(d, other, second[j]);
        }
        i += period;
    }
    for j in 0..N {
        let i = i + j * I::LANES;
        if i < x.len() {
            // The last row may end inside: what is missing deviates by nothing.
            let len = I::LANES.min(x.len() - i);
            let (mut xs, mut dys) = ([0.0; MOST], [0.0; MOST]);
            isa.store(mean[j], &mut xs);
            xs[..len].copy_from_slice(&x[i..i + len]);
            dys[..len].copy_from_slice(&dy[i..i + len]);
            let d = isa.sub(isa.load(&xs), mean[j]);
            let other = if DY { isa.load(&dys) } else { d };
            first[j] = isa.add(first[j], other);
            second[j] = isa.fma(d, other, second[j]);
        }
        isa.store(first[j], &mut firsts[at + j * I::LANES..]);
        isa.store(second[j], &mut seconds[at + j * I::LANES..]);
    }
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
