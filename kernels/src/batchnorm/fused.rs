//! Batchnorm in one pass with what follows it in a residual network: the addition of a residual and
//! relu, forward and backward.
//!
//! `y = relu(batchnorm(x) + residual)`, where the residual and relu may each be absent. Formulas and
//! their order are those of the ops alone ([`super::forward_batch`], [`crate::elementwise::add`],
//! [`crate::relu::forward`] and their backward passes): the same bits as these called one after the
//! other, which are the reference.
//!
//! **Where relu let dy through** is known in two ways. Without a residual it is computed anew from x
//! and the `saved` scale and shift, by forward's own formula, so that y need not be read, nor kept.
//! With a residual, or with running statistics, y is read, and dy becomes zero in memory where y is
//! not above zero: the masked dy is the residual's gradient, and often lies where it belongs already.

use super::pass::{InputBatchGated, Normalise, NormaliseAdd};
use super::sums::{MergeStatistics, Open, Other};
use super::{
    BackwardInput, BackwardSums, BackwardSumsMasking, BackwardSumsRunningMasking, BatchNorm, CHANNELS_SAVED, ForwardAgain, ForwardBatch,
    ForwardRunning, Moving, Rooms, RowSums, Statistics, Summed, input_tables, repeat, rows, running_tables, split, sums_around, sums_of,
};
use crate::Cpu;
use crate::lanes::sqrt;

/// What follows a normalisation in the same pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Then<'a> {
    /// Added: rows x channels.
    pub residual: Option<&'a [f32]>,
    /// Whether negative numbers become zero at the end.
    pub relu: bool,
}

impl Then<'_> {
    /// Nothing follows.
    pub const NOTHING: Then<'static> = Then { residual: None, relu: false };
}

/// As [`super::forward_batch`], then what `then` says. `saved` may have 2·channels or 4·channels.
///
/// # Panics
/// If a length is wrong, or there is only one row.
pub fn forward_batch(cpu: &Cpu, p: &BatchNorm, then: Then, call: ForwardBatch) {
    let ForwardBatch { x, moments, gamma, beta, running, y, saved, scratch } = call;
    let tensors = [x.map_or(y.len(), <[f32]>::len), y.len(), then.residual.map_or(y.len(), <[f32]>::len)];
    let batch = Batch { x: x.unwrap_or(&*y), moments, gamma, beta, running, saved };
    p.check(&tensors, &batch.per_channel(p), scratch.len(), cpu.threads.count());
    let tables = batch.tables(cpu, p, p.rooms(scratch));
    normalise(cpu, p, x, tables, then, y);
}

/// What a batch is normalised by: as in [`ForwardBatch`].
pub(super) struct Batch<'a> {
    pub(super) x: &'a [f32],
    pub(super) moments: Option<&'a [f64]>,
    pub(super) gamma: &'a [f32],
    pub(super) beta: &'a [f32],
    pub(super) running: Moving<'a>,
    pub(super) saved: &'a mut [f32],
}

impl Batch<'_> {
    /// The lengths that must be the number of channels.
    pub(super) fn per_channel(&self, p: &BatchNorm) -> [usize; 5] {
        let moments = self.moments.map_or(p.channels, |m| m.len() / 2);
        [self.gamma.len(), self.beta.len(), self.running.mean.len(), self.running.var.len(), moments]
    }

    /// Takes the statistics of the batch, where `moments` does not give them, moves the running ones,
    /// writes `saved`, and gives the tables of mean, scale and shift.
    pub(super) fn tables<'t>(self, cpu: &Cpu, p: &BatchNorm, rooms: Rooms<'t>) -> [&'t [f32]; 3] {
        let Batch { x, moments, gamma, beta, running, saved } = self;
        let Rooms { partial, tables, threads } = rooms;
        let c = p.channels;
        assert!(saved.len() == 2 * c || saved.len() == CHANNELS_SAVED * c, "{} numbers to save for {c} channels", saved.len());
        assert!(p.rows > 1, "{} rows in train mode: a variance needs at least 2", p.rows);
        let own;
        // The mean and the sum of squared deviations of all rows.
        let moments = match moments {
            Some(given) => given,
            None => {
                let partial = RowSums { x, other: Other::Squares, masked: &mut [], partial, threads }.take(cpu, p);
                cpu.level.run(MergeStatistics { p, partial });
                own = partial;
                &*own
            }
        };
        let [mean_table, scale_table, shift_table, ..] = split(tables, p.period());
        let n = p.rows as f64;
        let (running_mean, running_var, factor) = (running.mean, running.var, f64::from(running.factor));
        for i in 0..c {
            let (mean, squares) = (moments[i], moments[c + i]);
            let invstd = 1.0 / sqrt(squares / n + f64::from(p.eps));
            saved[i] = mean as f32;
            saved[c + i] = invstd as f32;
            running_mean[i] = ((1.0 - factor) * f64::from(running_mean[i]) + factor * mean) as f32;
            running_var[i] = ((1.0 - factor) * f64::from(running_var[i]) + factor * (squares / (n - 1.0))) as f32;
            let scale = invstd * f64::from(gamma[i]);
            mean_table[i] = mean as f32;
            scale_table[i] = scale as f32;
            // What the mean loses as f32 the shift gives back.
            let lost = mean - f64::from(mean as f32);
            shift_table[i] = if lost.is_finite() { (f64::from(beta[i]) - lost * scale) as f32 } else { beta[i] };
        }
        if saved.len() > 2 * c {
            saved[2 * c..3 * c].copy_from_slice(&scale_table[..c]);
            saved[3 * c..].copy_from_slice(&shift_table[..c]);
        }
        repeat(c, [&mut *mean_table, &mut *scale_table, &mut *shift_table]);
        [mean_table, scale_table, shift_table]
    }
}

/// As [`super::forward_running`], then what `then` says.
///
/// # Panics
/// If a length is wrong.
pub fn forward_running(cpu: &Cpu, p: &BatchNorm, then: Then, call: ForwardRunning) {
    let ForwardRunning { x, gamma, beta, running, y, scratch } = call;
    let per_channel = [gamma.len(), beta.len(), running.mean.len(), running.var.len()];
    let tensors = [x.map_or(y.len(), <[f32]>::len), y.len(), then.residual.map_or(y.len(), <[f32]>::len)];
    p.check(&tensors, &per_channel, scratch.len(), cpu.threads.count());
    let [mean, scale, shift, ..] = split(&mut scratch[p.partial_len()..], p.period());
    let c = p.channels;
    running_tables(p, [gamma, beta, running.mean, running.var], [&mut mean[..c], &mut scale[..c], &mut shift[..c]]);
    repeat(c, [&mut *mean, &mut *scale, &mut *shift]);
    normalise(cpu, p, x, [mean, scale, shift], then, y);
}

/// The result of [`forward_batch`] once more, from the tables that it saved: the same bits, and no statistics are taken or
/// moved.
///
/// # Panics
/// If a length is wrong.
pub fn forward_again(cpu: &Cpu, p: &BatchNorm, then: Then, call: ForwardAgain) {
    let ForwardAgain { x, saved, y, scratch } = call;
    let tensors = [x.map_or(y.len(), <[f32]>::len), y.len(), then.residual.map_or(y.len(), <[f32]>::len)];
    assert_eq!(saved.len(), CHANNELS_SAVED * p.channels, "numbers that were saved for {} channels", p.channels);
    p.check(&tensors, &[], scratch.len(), cpu.threads.count());
    let tables = saved_tables(p, saved, p.rooms(scratch).tables);
    normalise(cpu, p, x, tables, then, y);
}

/// The tables of mean, scale and shift that a forward saved.
fn saved_tables<'t>(p: &BatchNorm, saved: &[f32], tables: &'t mut [f32]) -> [&'t [f32]; 3] {
    let c = p.channels;
    let [mean, scale, shift, ..] = split(tables, p.period());
    mean[..c].copy_from_slice(&saved[..c]);
    scale[..c].copy_from_slice(&saved[2 * c..3 * c]);
    shift[..c].copy_from_slice(&saved[3 * c..]);
    repeat(c, [&mut *mean, &mut *scale, &mut *shift]);
    [mean, scale, shift]
}

fn normalise(cpu: &Cpu, p: &BatchNorm, x: Option<&[f32]>, tables: [&[f32]; 3], then: Then, y: &mut [f32]) {
    let floor = if then.relu { 0.0 } else { f32::NEG_INFINITY };
    match (x, then.residual) {
        (Some(x), None) => rows(cpu, p, Normalise { floor }, [x], tables, y),
        (None, None) => rows(cpu, p, Normalise { floor }, [], tables, y),
        (Some(x), Some(residual)) => rows(cpu, p, NormaliseAdd { floor }, [x, residual], tables, y),
        (None, Some(residual)) => rows(cpu, p, NormaliseAdd { floor }, [residual], tables, y),
    }
}

/// The sums of [`super::backward_sums`] behind a relu without a residual: `dy` is that of relu's result, `saved` has
/// 4·channels.
///
/// # Panics
/// If a length is wrong.
pub fn backward_sums_gated(cpu: &Cpu, p: &BatchNorm, call: BackwardSums) {
    let BackwardSums { x, dy, saved, sums, scratch } = call;
    p.check(&[x.len(), dy.len()], &[saved.len() / CHANNELS_SAVED, sums.len() / 2], scratch.len(), cpu.threads.count());
    let Rooms { partial, tables, threads } = p.rooms(scratch);
    let [mean, scale, shift] = saved_tables(p, saved, tables);
    let other = Other::Dy { mean, open: Open::Recomputed(dy, [scale, shift]) };
    sums_around(cpu, p, RowSums { x, other, masked: &mut [], partial, threads }, Statistics::Saved(saved), sums);
}

/// The sums of [`super::backward_sums`] behind a relu whose result is `y`, with a residual or without;
/// where y is not above zero `dy` becomes zero.
///
/// # Panics
/// If a length is wrong.
pub fn backward_sums_masking(cpu: &Cpu, p: &BatchNorm, call: BackwardSumsMasking) {
    let BackwardSumsMasking { x, y, dy, saved, sums, scratch } = call;
    p.check(&[x.len(), y.len(), dy.len()], &[saved.len() / 2, sums.len() / 2], scratch.len(), cpu.threads.count());
    sums_of(cpu, p, Summed { x, open: Open::Where(y), masked: dy, statistics: Statistics::Saved(saved) }, sums, scratch);
}

/// The same, of running statistics.
///
/// # Panics
/// If a length is wrong.
pub fn backward_sums_running_masking(cpu: &Cpu, p: &BatchNorm, call: BackwardSumsRunningMasking) {
    let BackwardSumsRunningMasking { x, y, dy, running, sums, scratch } = call;
    let per_channel = [running.mean.len(), running.var.len(), sums.len() / 2];
    p.check(&[x.len(), y.len(), dy.len()], &per_channel, scratch.len(), cpu.threads.count());
    sums_of(cpu, p, Summed { x, open: Open::Where(y), masked: dy, statistics: Statistics::Running(running) }, sums, scratch);
}

/// As [`super::backward_input`], behind a relu without a residual: reads what [`backward_sums_gated`]
/// wrote, and `saved` of 4·channels.
///
/// # Panics
/// If a length is wrong.
pub fn backward_input_gated(cpu: &Cpu, p: &BatchNorm, call: BackwardInput) {
    let BackwardInput { x, dy, gamma, saved, sums, dx, scratch } = call;
    let tensors = [x.len(), dy.map_or(dx.len(), <[f32]>::len), dx.len()];
    p.check(&tensors, &[gamma.len(), saved.len() / CHANNELS_SAVED, sums.len() / 2], scratch.len(), cpu.threads.count());
    let c = p.channels;
    let [mean, slope, shift, scale, up, add] = split(&mut scratch[p.partial_len()..], p.period());
    input_tables(p, gamma, &saved[..2 * c], sums, [&mut *mean, &mut *slope, &mut *shift, &mut *scale]);
    up[..c].copy_from_slice(&saved[2 * c..3 * c]);
    add[..c].copy_from_slice(&saved[3 * c..]);
    repeat(c, [&mut *up, &mut *add]);
    let tables: [&[f32]; 6] = [mean, slope, shift, scale, up, add];
    match dy {
        Some(dy) => rows(cpu, p, InputBatchGated, [x, dy], tables, dx),
        None => rows(cpu, p, InputBatchGated, [x], tables, dx),
    }
}
