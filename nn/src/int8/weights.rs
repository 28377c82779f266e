//! A unit's words: its weights and its normalisation, folded and rounded.

use super::units::Unit;
use crate::Error;
use crate::ops::{Op, entry_words};
use crate::record::Recording;
use crate::step::Trainer;
use nunatak_core::tape::{EntryId, ValueId};
use nunatak_kernels::int8;
use std::vec::Vec;

/// The largest weight of 8 bits.
const MOST: f64 = 127.0;
/// Channels whose numbers lie together in a table.
const BLOCK: usize = 16;
/// A bias stays below this, so that sums have room.
const MOST_BIAS: f64 = (1_u32 << 29) as f64;

/// The scales of a unit's tensors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) residual: Option<f64>,
}

/// Makes the words of a unit, as the kernels read them.
///
/// With g = γ / √(σ² + ε) the unit computes `(Σ w·g·x) + (β − μ·g + bias·g)`. Each output channel has a scale of its own,
/// so g changes no rounding.
pub(super) fn words(recording: &Recording, trainer: &Trainer, unit: &Unit, size: &int8::Conv2d, scales: Scales) -> Result<Vec<i32>, Error> {
    let conv = unit.conv(recording).ok_or(Error::NoInt8)?;
    let k = size.geometry().k();
    let weight = entry(trainer, conv.weight)?;
    let bias = conv.bias.map(|bias| entry(trainer, bias)).transpose()?;
    let affine = affine(recording, trainer, unit.norm, k)?;
    let per_channel = weight.len() / k;
    let (mut folded, mut steps, mut shifts) = (Vec::with_capacity(weight.len()), Vec::with_capacity(k), Vec::with_capacity(k));
    for (channel, weights) in weight.chunks_exact(per_channel).enumerate() {
        let [factor, add] = affine[channel];
        let own: Vec<f32> = weights.iter().map(|w| (f64::from(*w) * factor) as f32).collect();
        let largest = own.iter().fold(0.0_f64, |most, w| most.max(f64::from(w.abs())));
        let add = add + factor * bias.as_ref().map_or(0.0, |bias| f64::from(bias[channel]));
        if !(largest.is_finite() && add.is_finite()) {
            return Err(Error::NotFiniteInt8 { name: crate::Name::of(&*unit.name) });
        }
        // A channel of almost no weight must still have a bias that fits.
        let step = (largest / MOST).max(add.abs() / (scales.x * MOST_BIAS)).max(f64::from(f32::MIN_POSITIVE)) as f32;
        folded.extend(own);
        steps.push(step);
        shifts.push(add);
    }
    let mut words = std::vec![0_i32; entry_words(size)];
    let (table, packed) = words.split_at_mut(size.table_len());
    let packed: &mut [i8] = bytemuck::cast_slice_mut(packed);
    int8::pack(size, &folded, &steps, packed);
    let zero = i64::from(size.x_zero());
    for channel in 0..k {
        let own = &folded[channel * per_channel..][..per_channel];
        let sum: i64 = own.iter().map(|w| rounded(*w, steps[channel])).sum();
        let add = libm::rint(shifts[channel] / (scales.x * f64::from(steps[channel])));
        let bias = add as i64 - zero * sum;
        table[bias_at(channel)] = bias.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
    }
    let factors: Vec<f64> = steps.iter().map(|step| scales.x * f64::from(*step) / scales.y).collect();
    let residual = scales.residual.map_or(0.0, |r| r / scales.y);
    let largest = factors.iter().fold(residual, |most, factor| most.max(*factor));
    // So that the largest factor takes 30 to 31 bits.
    let shift = (30 - exponent(largest)).clamp(1, 56);
    let fixed = |factor: f64| libm::rint(libm::ldexp(factor, shift)).min(f64::from(i32::MAX)) as i32;
    (table[0], table[1]) = (shift, fixed(residual));
    for (channel, factor) in factors.iter().enumerate() {
        table[bias_at(channel) + BLOCK] = fixed(*factor);
    }
    Ok(words)
}

/// A weight as [`int8::pack`] rounds it.
fn rounded(w: f32, step: f32) -> i64 {
    libm::rintf(w / step).clamp(-MOST as f32, MOST as f32) as i64
}

/// Where a channel's bias stands in the table; its multiplier stands a block behind it.
const fn bias_at(channel: usize) -> usize {
    BLOCK + channel / BLOCK * 2 * BLOCK + channel % BLOCK
}

/// The e with 2^e <= x < 2^(e+1).
fn exponent(x: f64) -> i32 {
    if x > 0.0 { libm::ilogb(x) } else { 0 }
}

fn entry(trainer: &Trainer, id: EntryId) -> Result<Vec<f32>, Error> {
    let mut numbers = std::vec![0.0; trainer.program().entry(id).numbers()];
    trainer.entry(id, &mut numbers)?;
    Ok(numbers)
}

/// The factor and what is added, for each channel.
fn affine(recording: &Recording, trainer: &Trainer, norm: Option<ValueId>, k: usize) -> Result<Vec<[f64; 2]>, Error> {
    let Some(v) = norm else { return Ok(std::vec![[1.0, 0.0]; k]) };
    let Op::BatchNorm(norm) = &recording.tape.nodes()[v.index()].op else { return Err(Error::NoInt8) };
    let optional = |id: Option<EntryId>| id.map(|id| entry(trainer, id)).transpose();
    let (gamma, beta) = (optional(norm.gamma)?, optional(norm.beta)?);
    let (mean, var) = (entry(trainer, norm.mean)?, entry(trainer, norm.var)?);
    let of = |table: &Option<Vec<f32>>, i: usize, without: f64| table.as_ref().map_or(without, |table| f64::from(table[i]));
    let one = |i: usize| {
        let factor = of(&gamma, i, 1.0) / libm::sqrt(f64::from(var[i]) + f64::from(norm.size.eps));
        [factor, of(&beta, i, 0.0) - f64::from(mean[i]) * factor]
    };
    Ok((0..k).map(one).collect())
}
