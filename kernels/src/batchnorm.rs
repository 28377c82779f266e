//! Batch normalisation over the pixels of each channel, with the batch's statistics (train mode) or
//! with running ones (eval mode); it follows every convolution of ResNet18.
//!
//! With n = rows, per channel (SEMANTICS §2; Ioffe and Szegedy 2015, arXiv:1502.03167, derive the
//! gradient):
//!
//! ```text
//! mean = Σx/n, var = Σ(x−mean)²/n, invstd = 1/√(var+eps), y = (x−mean)·invstd·gamma + beta
//! dgamma = Σ(x−mean)·dy·invstd, dbeta = Σdy
//! batch:   dx = (dy − dbeta/n − (x−mean)·dgamma·invstd/n)·invstd·gamma
//! running: dx = dy·invstd·gamma
//! ```
//!
//! **Precision.** Rows are taken in blocks of at most 128: their sum, their mean, then deviations
//! from that mean, in `f32` vectors while the block is in cache; blocks are merged in `f64` (Chan,
//! Golub and LeVeque 1979). Blocks make chunks, the parts that threads take; there are at most
//! [`CHUNKS`], and they are merged in order.
//!
//! **Channels that fill no vectors.** Rows lie one behind the other, so channel numbers repeat with a
//! *period* of lcm(channels, 16) numbers. Tables of that length, whole vectors of them, serve any
//! number of channels without a rest in every row.
//!
//! Reference: [`crate::reference::batchnorm`].

pub mod fused;
mod pass;
pub mod pooled;
mod sums;

use crate::Cpu;
use crate::bounds::{aligned, product, room};
use crate::lanes::{as_f64, sqrt};
use crate::parallel::Chunks;
use fused::Then;
use pass::{InputBatch, InputRunning, RowsTask};
use sums::{BlockTask, MergeSums, Open, Other};

/// A batch normalisation's numbers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BatchNorm {
    /// Pixels: n·h·w.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
    /// Added to the variance, so that it can be divided by: 1e-5 in PyTorch.
    pub eps: f32,
}

/// The most parts that rows are cut into: as many threads find work, and as many partial results
/// must be kept.
pub const CHUNKS: usize = 64;

impl BatchNorm {
    /// Scratch in `f32` for any of this file's functions on so many threads (64-byte aligned).
    /// `usize::MAX` where so many do not fit the address space.
    pub const fn scratch_len(&self, threads: usize) -> usize {
        room(&[&[self.partial_len()], &[TABLES, self.period()], &[threads, self.thread_len()]])
    }

    /// After so many numbers the channels repeat, and vectors are full.
    const fn period(&self) -> usize {
        let (mut a, mut b) = (self.channels, 16);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        // gcd(0, 16) is 16.
        room(&[&[self.channels / a, 16]])
    }

    /// Rows of which sums are taken in `f32`: about 64 KiB, 16 to 128.
    const fn block_rows(&self) -> usize {
        let rows = 16384 / if self.channels == 0 { 1 } else { self.channels } / 16 * 16;
        if rows < 16 {
            16
        } else if rows > 128 {
            128
        } else {
            rows
        }
    }

    /// Rows of one thread's part.
    const fn chunk_rows(&self) -> usize {
        self.rows.div_ceil(CHUNKS).next_multiple_of(self.block_rows())
    }

    /// Number of such parts.
    const fn chunks(&self) -> usize {
        self.rows.div_ceil(if self.rows == 0 { 1 } else { self.chunk_rows() })
    }

    /// Two `f64` per channel and chunk, in `f32`, to the next 64 bytes.
    const fn partial_len(&self) -> usize {
        aligned(room(&[&[self.chunks(), self.channels, 4]]))
    }

    const fn thread_len(&self) -> usize {
        room(&[&[3, self.period()]])
    }

    fn check(&self, tensors: &[usize], per_channel: &[usize], scratch: usize, threads: usize) {
        assert!(self.channels > 0, "a batchnorm of no channels");
        let len = product(&[self.rows, self.channels]);
        for given in tensors {
            assert_eq!(*given, len, "an activation of {given} numbers for {} rows of {} channels", self.rows, self.channels);
        }
        for given in per_channel {
            assert_eq!(*given, self.channels, "{given} numbers for {} channels", self.channels);
        }
        let needed = self.scratch_len(threads);
        assert!(scratch >= needed, "scratch of {scratch} numbers for a batchnorm that needs {needed}");
    }
}

/// The most tables that a pass reads.
const TABLES: usize = 6;
/// Numbers of a channel that forward may leave for backward.
const CHANNELS_SAVED: usize = 4;

/// Normalises with the batch's statistics and moves the running ones:
/// `new = (1 − factor)·old + factor·batch`, where the batch's variance is the unbiased one.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | rows x channels | read |
/// | `gamma`, `beta` | channels | read |
/// | `running_mean`, `running_var` | channels | read and overwritten |
/// | `y` | rows x channels | overwritten |
/// | `saved` | 2·channels: means, then inverse standard deviations | overwritten |
/// | `scratch` | [`BatchNorm::scratch_len`] | overwritten |
///
/// `factor` is 0.1 in PyTorch, or 1/num_batches_tracked for a cumulative mean.
///
/// # Panics
/// If a length is wrong, or there is only one row: it has no variance. Callers refuse that before.
#[allow(clippy::too_many_arguments)]
pub fn forward_batch(
    cpu: &Cpu,
    p: &BatchNorm,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    running_mean: &mut [f32],
    running_var: &mut [f32],
    factor: f32,
    y: &mut [f32],
    saved: &mut [f32],
    scratch: &mut [f32],
) {
    assert_eq!(saved.len(), 2 * p.channels, "numbers to save for {} channels", p.channels);
    let then = Then::NOTHING;
    fused::forward_batch(cpu, p, Some(x), None, gamma, beta, running_mean, running_var, factor, then, y, saved, scratch);
}

/// Normalises with given statistics.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | rows x channels | read; `None`: `y` holds it on entry |
/// | `gamma`, `beta`, `running_mean`, `running_var` | channels | read |
/// | `y` | rows x channels | overwritten |
/// | `scratch` | [`BatchNorm::scratch_len`] | overwritten |
///
/// # Panics
/// If a length is wrong.
#[allow(clippy::too_many_arguments)]
pub fn forward_running(
    cpu: &Cpu,
    p: &BatchNorm,
    x: Option<&[f32]>,
    gamma: &[f32],
    beta: &[f32],
    running_mean: &[f32],
    running_var: &[f32],
    y: &mut [f32],
    scratch: &mut [f32],
) {
    fused::forward_running(cpu, p, x, gamma, beta, running_mean, running_var, Then::NOTHING, y, scratch);
}

/// Means, scales and shifts (channels each) of a normalisation with given statistics, from gamma,
/// beta, mean and variance.
pub(crate) fn running_tables(p: &BatchNorm, [gamma, beta, mean, var]: [&[f32]; 4], [means, scales, shifts]: [&mut [f32]; 3]) {
    for i in 0..p.channels {
        means[i] = mean[i];
        scales[i] = (invstd(p, var[i]) * f64::from(gamma[i])) as f32;
        shifts[i] = beta[i];
    }
}

/// The two sums over rows that are the gradients of gamma and beta, and that [`backward_input`]
/// reads: of the batch's statistics.
///
/// | name | shape | |
/// |---|---|---|
/// | `x`, `dy` | rows x channels | read |
/// | `saved` | 2·channels, as [`forward_batch`] left it | read |
/// | `sums` | 2·channels: dgamma, then dbeta | overwritten |
/// | `scratch` | [`BatchNorm::scratch_len`] | overwritten |
///
/// # Panics
/// If a length is wrong.
pub fn backward_sums(cpu: &Cpu, p: &BatchNorm, x: &[f32], dy: &[f32], saved: &[f32], sums: &mut [f32], scratch: &mut [f32]) {
    p.check(&[x.len(), dy.len()], &[saved.len() / 2, sums.len() / 2], scratch.len(), cpu.threads.count());
    let c = p.channels;
    sums_of_all(cpu, p, x, dy, &saved[..c], |i| f64::from(saved[c + i]), sums, scratch);
}

/// The gradient of the input through the batch's statistics; reads what [`backward_sums`] wrote.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | rows x channels | read |
/// | `dy` | rows x channels | read; `None`: `dx` holds it on entry |
/// | `gamma` | channels | read |
/// | `saved` | 2·channels | read |
/// | `sums` | 2·channels | read |
/// | `dx` | rows x channels | overwritten |
/// | `scratch` | [`BatchNorm::scratch_len`] | overwritten |
///
/// # Panics
/// If a length is wrong.
#[allow(clippy::too_many_arguments)]
pub fn backward_input(
    cpu: &Cpu,
    p: &BatchNorm,
    x: &[f32],
    dy: Option<&[f32]>,
    gamma: &[f32],
    saved: &[f32],
    sums: &[f32],
    dx: &mut [f32],
    scratch: &mut [f32],
) {
    let tensors = [x.len(), dy.map_or(dx.len(), <[f32]>::len), dx.len()];
    p.check(&tensors, &[gamma.len(), saved.len() / 2, sums.len() / 2], scratch.len(), cpu.threads.count());
    let [mean, slope, shift, scale, ..] = split(&mut scratch[p.partial_len()..], p.period());
    input_tables(p, gamma, saved, sums, [&mut *mean, &mut *slope, &mut *shift, &mut *scale]);
    let tables: [&[f32]; 4] = [mean, slope, shift, scale];
    match dy {
        Some(dy) => rows(cpu, p, InputBatch, [x, dy], tables, dx),
        None => rows(cpu, p, InputBatch, [x], tables, dx),
    }
}

/// The tables of [`InputBatch`].
fn input_tables(p: &BatchNorm, gamma: &[f32], saved: &[f32], sums: &[f32], [mean, slope, shift, scale]: [&mut [f32]; 4]) {
    let (c, n) = (p.channels, p.rows as f64);
    for i in 0..c {
        let invstd = f64::from(saved[c + i]);
        mean[i] = saved[i];
        slope[i] = (-f64::from(sums[i]) * invstd / n) as f32;
        shift[i] = (f64::from(sums[c + i]) / n) as f32;
        scale[i] = (invstd * f64::from(gamma[i])) as f32;
    }
    repeat(c, [mean, slope, shift, scale]);
}

/// As [`backward_sums`], of running statistics.
///
/// | name | shape | |
/// |---|---|---|
/// | `x`, `dy` | rows x channels | read |
/// | `running_mean`, `running_var` | channels, as [`forward_running`] read them | read |
/// | `sums` | 2·channels: dgamma, then dbeta | overwritten |
/// | `scratch` | [`BatchNorm::scratch_len`] | overwritten |
///
/// # Panics
/// If a length is wrong.
#[allow(clippy::too_many_arguments)]
pub fn backward_sums_running(
    cpu: &Cpu,
    p: &BatchNorm,
    x: &[f32],
    dy: &[f32],
    running_mean: &[f32],
    running_var: &[f32],
    sums: &mut [f32],
    scratch: &mut [f32],
) {
    let per_channel = [running_mean.len(), running_var.len(), sums.len() / 2];
    p.check(&[x.len(), dy.len()], &per_channel, scratch.len(), cpu.threads.count());
    sums_of_all(cpu, p, x, dy, running_mean, |i| invstd(p, running_var[i]), sums, scratch);
}

/// The gradient of the input through running statistics, which are constants: needs neither x nor
/// sums.
///
/// | name | shape | |
/// |---|---|---|
/// | `dy` | rows x channels | read; `None`: `dx` holds it on entry |
/// | `gamma`, `running_var` | channels | read |
/// | `dx` | rows x channels | overwritten |
/// | `scratch` | [`BatchNorm::scratch_len`] | overwritten |
///
/// # Panics
/// If a length is wrong.
pub fn backward_input_running(
    cpu: &Cpu,
    p: &BatchNorm,
    dy: Option<&[f32]>,
    gamma: &[f32],
    running_var: &[f32],
    dx: &mut [f32],
    scratch: &mut [f32],
) {
    let tensors = [dy.map_or(dx.len(), <[f32]>::len), dx.len()];
    p.check(&tensors, &[gamma.len(), running_var.len()], scratch.len(), cpu.threads.count());
    let [scale, ..] = split(&mut scratch[p.partial_len()..], p.period());
    for i in 0..p.channels {
        scale[i] = (invstd(p, running_var[i]) * f64::from(gamma[i])) as f32;
    }
    repeat(p.channels, [&mut *scale]);
    match dy {
        Some(dy) => rows(cpu, p, InputRunning, [dy], [scale], dx),
        None => rows(cpu, p, InputRunning, [], [scale], dx),
    }
}

fn invstd(p: &BatchNorm, var: f32) -> f64 {
    1.0 / sqrt(f64::from(var) + f64::from(p.eps))
}

/// `dgamma` and `dbeta` of all dy, with deviations from `mean`.
#[allow(clippy::too_many_arguments)]
fn sums_of_all(
    cpu: &Cpu,
    p: &BatchNorm,
    x: &[f32],
    dy: &[f32],
    mean: &[f32],
    invstd: impl Fn(usize) -> f64,
    sums: &mut [f32],
    scratch: &mut [f32],
) {
    let (partial, rest) = scratch.split_at_mut(p.partial_len());
    let (tables, threads) = rest.split_at_mut(TABLES * p.period());
    let table = &mut tables[..p.period()];
    table[..p.channels].copy_from_slice(mean);
    repeat(p.channels, [&mut *table]);
    sums_around(cpu, p, x, Other::Dy { mean: table, open: Open::All(dy) }, &mut [], invstd, sums, partial, threads);
}

/// `dgamma` and `dbeta` from the sums of `other`.
#[allow(clippy::too_many_arguments)]
fn sums_around(
    cpu: &Cpu,
    p: &BatchNorm,
    x: &[f32],
    other: Other,
    dy: &mut [f32],
    invstd: impl Fn(usize) -> f64,
    sums: &mut [f32],
    partial: &mut [f32],
    threads: &mut [f32],
) {
    if p.rows == 0 {
        return sums.fill(0.0);
    }
    let c = p.channels;
    let partial = partial_sums(cpu, p, x, other, dy, partial, threads);
    cpu.level.run(MergeSums { p, partial });
    for i in 0..c {
        sums[i] = (partial[i] * invstd(i)) as f32;
        sums[c + i] = partial[c + i] as f32;
    }
}

/// The partial results: per chunk one number for each channel, then another. `dy` is written to where
/// `other` says so, else empty.
fn partial_sums<'s>(
    cpu: &Cpu,
    p: &BatchNorm,
    x: &[f32],
    other: Other,
    dy: &mut [f32],
    partial: &'s mut [f32],
    threads: &mut [f32],
) -> &'s mut [f64] {
    let (chunk, chunks) = (p.chunk_rows() * p.channels, p.chunks());
    let partial: &mut [f64] = &mut as_f64(partial)[..chunks * 2 * p.channels];
    let parts = (Chunks::new(&mut *partial, 2 * p.channels, chunks), Chunks::new(dy, chunk, chunks));
    cpu.run(parts, threads, p.thread_len(), |i, (partial, dy), tables| {
        let part = i * chunk..x.len().min((i + 1) * chunk);
        cpu.level.run(BlockTask { p, x: &x[part.clone()], other: other.part(part), dy, partial, tables });
    });
    partial
}

/// Applies a formula to every element, in chunks of rows.
fn rows<const X: usize, const T: usize, F: pass::Rows<X, T>>(
    cpu: &Cpu,
    p: &BatchNorm,
    f: F,
    x: [&[f32]; X],
    tables: [&[f32]; T],
    y: &mut [f32],
) {
    let chunk = p.block_rows() * p.channels;
    let chunks = y.len().div_ceil(chunk.max(1));
    cpu.run(Chunks::new(y, chunk, chunks), &mut [], 0, |i, y, _| {
        let len = y.len();
        cpu.level.run(RowsTask { f, x: x.map(|x| &x[i * chunk..][..len]), tables, period: p.period(), y });
    });
}

/// Tables of a period each.
fn split(tables: &mut [f32], period: usize) -> [&mut [f32]; TABLES] {
    let mut tables = tables.chunks_exact_mut(period);
    [(); TABLES].map(|()| tables.next().unwrap_or(&mut []))
}

/// Fills tables, whose first `channels` numbers are given, with repetitions.
fn repeat<const N: usize>(channels: usize, tables: [&mut [f32]; N]) {
    for table in tables {
        for i in channels..table.len() {
            table[i] = table[i - channels];
        }
    }
}

#[cfg(test)]
mod tests;
