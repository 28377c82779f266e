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

mod calls;
pub mod fused;
mod pass;
pub mod pooled;
mod sums;

use crate::Cpu;
use crate::bounds::{aligned, product, room};
use crate::lanes::{as_f64, sqrt};
use crate::parallel::Chunks;
pub use calls::{
    BackwardInput, BackwardInputRunning, BackwardSums, BackwardSumsMasking, BackwardSumsRunning, BackwardSumsRunningMasking, ForwardAgain,
    ForwardBatch, ForwardRunning, Moving, Running,
};
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

    /// The scratch, cut in three.
    fn rooms<'s>(&self, scratch: &'s mut [f32]) -> Rooms<'s> {
        let (partial, rest) = scratch.split_at_mut(self.partial_len());
        let (tables, threads) = rest.split_at_mut(TABLES * self.period());
        Rooms { partial, tables, threads }
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

/// Where a pass puts what it makes.
struct Rooms<'s> {
    /// The partial results of the chunks.
    partial: &'s mut [f32],
    /// [`TABLES`] tables of a period each.
    tables: &'s mut [f32],
    /// Each thread's own.
    threads: &'s mut [f32],
}

/// The most tables that a pass reads.
const TABLES: usize = 6;
/// Numbers of a channel that forward may leave for backward.
const CHANNELS_SAVED: usize = 4;

/// Normalises with the batch's statistics and moves the running ones:
/// `new = (1 − factor)·old + factor·batch`, where the batch's variance is the unbiased one. `saved` has 2·channels.
///
/// # Panics
/// If a length is wrong, or there is only one row: it has no variance. Callers refuse that before.
pub fn forward_batch(cpu: &Cpu, p: &BatchNorm, call: ForwardBatch) {
    assert_eq!(call.saved.len(), 2 * p.channels, "numbers to save for {} channels", p.channels);
    fused::forward_batch(cpu, p, Then::NOTHING, call);
}

/// Normalises with given statistics.
///
/// # Panics
/// If a length is wrong.
pub fn forward_running(cpu: &Cpu, p: &BatchNorm, call: ForwardRunning) {
    fused::forward_running(cpu, p, Then::NOTHING, call);
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
/// # Panics
/// If a length is wrong.
pub fn backward_sums(cpu: &Cpu, p: &BatchNorm, call: BackwardSums) {
    let BackwardSums { x, dy, saved, sums, scratch } = call;
    p.check(&[x.len(), dy.len()], &[saved.len() / 2, sums.len() / 2], scratch.len(), cpu.threads.count());
    sums_of(cpu, p, Summed { x, open: Open::All(dy), masked: &mut [], statistics: Statistics::Saved(saved) }, sums, scratch);
}

/// The gradient of the input through the batch's statistics; reads what [`backward_sums`] wrote.
///
/// # Panics
/// If a length is wrong.
pub fn backward_input(cpu: &Cpu, p: &BatchNorm, call: BackwardInput) {
    let BackwardInput { x, dy, gamma, saved, sums, dx, scratch } = call;
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
/// # Panics
/// If a length is wrong.
pub fn backward_sums_running(cpu: &Cpu, p: &BatchNorm, call: BackwardSumsRunning) {
    let BackwardSumsRunning { x, dy, running, sums, scratch } = call;
    let per_channel = [running.mean.len(), running.var.len(), sums.len() / 2];
    p.check(&[x.len(), dy.len()], &per_channel, scratch.len(), cpu.threads.count());
    sums_of(cpu, p, Summed { x, open: Open::All(dy), masked: &mut [], statistics: Statistics::Running(running) }, sums, scratch);
}

/// The gradient of the input through running statistics, which are constants: needs neither x nor
/// sums.
///
/// # Panics
/// If a length is wrong.
pub fn backward_input_running(cpu: &Cpu, p: &BatchNorm, call: BackwardInputRunning) {
    let BackwardInputRunning { dy, gamma, running_var, dx, scratch } = call;
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

/// The statistics that forward normalised with.
#[derive(Clone, Copy)]
enum Statistics<'a> {
    /// The batch's, as forward saved them: means, then inverse standard deviations.
    Saved(&'a [f32]),
    /// Running ones.
    Running(Running<'a>),
}

impl<'a> Statistics<'a> {
    fn means(self, p: &BatchNorm) -> &'a [f32] {
        match self {
            Statistics::Saved(saved) => &saved[..p.channels],
            Statistics::Running(running) => running.mean,
        }
    }

    /// The inverse standard deviation of a channel.
    fn invstd(self, p: &BatchNorm, channel: usize) -> f64 {
        match self {
            Statistics::Saved(saved) => f64::from(saved[p.channels + channel]),
            Statistics::Running(running) => invstd(p, running.var[channel]),
        }
    }
}

/// What the gradients of gamma and beta are sums of.
struct Summed<'a> {
    x: &'a [f32],
    open: Open<'a>,
    /// dy where it is written to (see [`Open::Where`]), else empty.
    masked: &'a mut [f32],
    statistics: Statistics<'a>,
}

/// `dgamma` and `dbeta`, where the mean is the only table that they need.
fn sums_of(cpu: &Cpu, p: &BatchNorm, summed: Summed, sums: &mut [f32], scratch: &mut [f32]) {
    let Summed { x, open, masked, statistics } = summed;
    let Rooms { partial, tables, threads } = p.rooms(scratch);
    let mean = &mut tables[..p.period()];
    mean[..p.channels].copy_from_slice(statistics.means(p));
    repeat(p.channels, [&mut *mean]);
    let all = RowSums { x, other: Other::Dy { mean, open }, masked, partial, threads };
    sums_around(cpu, p, all, statistics, sums);
}

/// `dgamma` and `dbeta` from the sums over the rows.
fn sums_around(cpu: &Cpu, p: &BatchNorm, all: RowSums, statistics: Statistics, sums: &mut [f32]) {
    if p.rows == 0 {
        return sums.fill(0.0);
    }
    let c = p.channels;
    let partial = all.take(cpu, p);
    cpu.level.run(MergeSums { p, partial });
    for i in 0..c {
        sums[i] = (partial[i] * statistics.invstd(p, i)) as f32;
        sums[c + i] = partial[c + i] as f32;
    }
}

/// Sums over all rows.
struct RowSums<'a, 's> {
    x: &'a [f32],
    other: Other<'a>,
    /// dy where `other` says that it is written to, else empty.
    masked: &'a mut [f32],
    /// Room for the partial results.
    partial: &'s mut [f32],
    /// Each thread's own room.
    threads: &'a mut [f32],
}

impl<'s> RowSums<'_, 's> {
    /// The partial results: per chunk one number for each channel, then another.
    fn take(self, cpu: &Cpu, p: &BatchNorm) -> &'s mut [f64] {
        let RowSums { x, other, masked, partial, threads } = self;
        let (chunk, chunks) = (p.chunk_rows() * p.channels, p.chunks());
        let partial: &mut [f64] = &mut as_f64(partial)[..chunks * 2 * p.channels];
        let parts = (Chunks::new(&mut *partial, 2 * p.channels, chunks), Chunks::new(masked, chunk, chunks));
        cpu.run(parts, threads, p.thread_len(), |i, (partial, dy), tables| {
            let part = i * chunk..x.len().min((i + 1) * chunk);
            cpu.level.run(BlockTask { p, x: &x[part.clone()], other: other.part(part), dy, partial, tables });
        });
        partial
    }
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
