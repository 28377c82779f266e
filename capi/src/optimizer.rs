//! Settings of SGD, groups, schedules.

use crate::boundary::{Out, Own, call, copy, slice, text};
use crate::config::param_set;
use crate::handles::Entered;
use crate::status::{Failure, fail, nunatak_status};
use crate::trainer::nunatak_trainer;
use core::ffi::c_char;
use nunatak_nn::{Optimizer, Schedule, Sgd};

/// Settings of PyTorch's SGD.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_sgd {
    /// Learning rate, not negative.
    pub lr: f32,
    /// Momentum, not negative; 0 for none.
    pub momentum: f32,
    /// How much less of a gradient enters the momentum.
    pub dampening: f32,
    /// Weight decay, not negative.
    pub weight_decay: f32,
    /// Nesterov's momentum: 0 or 1. Needs a momentum and no dampening.
    pub nesterov: u32,
    /// Go up instead of down: 0 or 1.
    pub maximize: u32,
}

/// How a learning rate moves.
#[repr(u32)]
pub enum nunatak_schedule_kind {
    /// It stays.
    NUNATAK_SCHEDULE_CONSTANT = 0,
    /// Times `gamma` every `size` units: PyTorch's StepLR.
    NUNATAK_SCHEDULE_STEP = 1,
    /// Times `gamma` at each milestone: PyTorch's MultiStepLR.
    NUNATAK_SCHEDULE_MULTI_STEP = 2,
    /// Up over `warmup` units, then half a cosine down to `floor` at `total`.
    NUNATAK_SCHEDULE_COSINE = 3,
    /// PyTorch's OneCycleLR: up from 1/`div` over the part `rise` of `total`, then down to
    /// 1/(`div` · `final_div`).
    NUNATAK_SCHEDULE_ONE_CYCLE = 4,
}

/// A schedule. A unit is what the caller counts: steps, or epochs. Members that a kind does not name are
/// not read: set them to 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_schedule {
    /// A `nunatak_schedule_kind`.
    pub kind: u32,
    /// Step: units between changes; 0 for never.
    pub size: u64,
    /// Step, multi-step: the factor of each change.
    pub gamma: f32,
    /// Multi-step: the units at which it changes, in any order.
    pub milestones: *const u64,
    /// Multi-step: how many there are.
    pub milestone_count: usize,
    /// Cosine: units of the warm-up.
    pub warmup: u64,
    /// Cosine, one-cycle: units in all.
    pub total: u64,
    /// Cosine: the factor at the end.
    pub floor: f32,
    /// One-cycle: the rising part, 0.3 in PyTorch.
    pub rise: f32,
    /// One-cycle: 25 in PyTorch.
    pub div: f32,
    /// One-cycle: 10000 in PyTorch.
    pub final_div: f32,
}

fn flag(value: u32, what: &str) -> Result<bool, Failure> {
    match value {
        0 | 1 => Ok(value == 1),
        _ => Err(fail!(NUNATAK_BAD_SETTING, "{what} is {value}, expected 0 or 1")),
    }
}

fn settings(plain: nunatak_sgd) -> Result<Sgd, Failure> {
    let nunatak_sgd { lr, momentum, dampening, weight_decay, nesterov, maximize } = plain;
    let (nesterov, maximize) = (flag(nesterov, "nesterov")?, flag(maximize, "maximize")?);
    Ok(Sgd { lr, momentum, dampening, weight_decay, nesterov, maximize })
}

/// Plain SGD of this rate: no momentum, no decay. Whether the rate makes sense is found when it is set; no
/// error but for the pointer. Any thread.
///
/// # Safety
/// `sgd` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_sgd_default(lr: f32, sgd: *mut nunatak_sgd) -> nunatak_status {
    call(|| {
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(Own::NOTHING, sgd, "sgd")? };
        out.put(nunatak_sgd { lr, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: 0, maximize: 0 });
        Ok(())
    })
}

/// Settings of the optimiser for all parameters. Groups of before are forgotten, momenta stay.
///
/// `NUNATAK_BAD_SETTING` where they make no sense: a number negative, NaN or infinite; nesterov without
/// momentum or with dampening; a flag that is not 0 or 1. The old settings then stay.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `sgd` is NULL or can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_set_sgd(trainer: *mut nunatak_trainer, sgd: *const nunatak_sgd) -> nunatak_status {
    call(|| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let sgd = unsafe { copy(sgd, "sgd")? };
        t.optimizer = Some(Optimizer::new(settings(sgd)?)?);
        Ok(())
    })
}

/// Other settings for some parameters: `names` as `trainable` in `nunatak_config`. A parameter belongs to
/// the first group that has it.
///
/// `NUNATAK_WRONG_ORDER` before `nunatak_trainer_set_sgd`, `NUNATAK_UNKNOWN_NAME`, `NUNATAK_BAD_SETTING`,
/// `NUNATAK_TOO_MANY` (there are at most 8 groups).
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `names` is NULL or ends with a zero; `sgd` is NULL or can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_add_group(
    trainer: *mut nunatak_trainer,
    names: *const c_char,
    sgd: *const nunatak_sgd,
) -> nunatak_status {
    call(|| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (names, sgd) = unsafe { (text(names, "names")?, copy(sgd, "sgd")?) };
        let params = param_set(t.trainer.blueprint().network(), names)?;
        let optimizer = t.optimizer.ok_or_else(|| fail!(NUNATAK_WRONG_ORDER, "call nunatak_trainer_set_sgd before adding groups"))?;
        t.optimizer = Some(match optimizer.group(params, settings(sgd)?) {
            Err(nunatak_nn::Error::Length { expected, .. }) => return Err(fail!(NUNATAK_TOO_MANY, "there are {expected} groups already")),
            result => result?,
        });
        Ok(())
    })
}

/// What a schedule makes of the learning rates of all groups: from the next update on they are multiplied
/// by `factor` until another is set. At first it is 1. `NUNATAK_BAD_SETTING` for one that is negative, NaN or
/// infinite.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_set_rate(trainer: *mut nunatak_trainer, factor: f32) -> nunatak_status {
    call(|| {
        let mut t = Entered::new(trainer)?;
        if !(factor.is_finite() && factor >= 0.0) {
            return Err(fail!(NUNATAK_BAD_SETTING, "the factor of the learning rates is {factor}; it must be finite and not negative"));
        }
        t.rate = factor;
        Ok(())
    })
}

/// The factor of a schedule at a unit, counted from 0, for `nunatak_trainer_set_rate`.
/// `NUNATAK_BAD_SETTING` for an unknown kind, and where its numbers give a factor that can't be. Any thread.
///
/// # Safety
/// `schedule` is NULL or can be read, and of kind multi-step its milestones too; `factor` is NULL or can
/// be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_schedule_factor(schedule: *const nunatak_schedule, unit: u64, factor: *mut f32) -> nunatak_status {
    call(|| {
        // SAFETY: the caller's promise.
        let (s, out) = unsafe { (copy(schedule, "schedule")?, Out::new(Own::NOTHING, factor, "factor")?) };
        let schedule = match s.kind {
            0 => Schedule::Constant,
            1 => Schedule::Step { size: s.size, gamma: s.gamma },
            2 if s.milestone_count == 0 => Schedule::Constant,
            // SAFETY: the caller's promise.
            2 => Schedule::MultiStep {
                // SAFETY: the caller's promise.
                milestones: unsafe { slice(Own::NOTHING, s.milestones, s.milestone_count, "milestones")? },
                gamma: s.gamma,
            },
            3 => Schedule::Cosine { warmup: s.warmup, total: s.total, floor: s.floor },
            4 => Schedule::OneCycle { total: s.total, rise: s.rise, div: s.div, final_div: s.final_div },
            kind => return Err(fail!(NUNATAK_BAD_SETTING, "the schedule's kind is {kind}, expected 0 to 4")),
        };
        let value = schedule.factor(unit);
        if !(value.is_finite() && value >= 0.0) {
            return Err(fail!(NUNATAK_BAD_SETTING, "the schedule's factor at {unit} is {value}; look at its numbers"));
        }
        out.put(value);
        Ok(())
    })
}
