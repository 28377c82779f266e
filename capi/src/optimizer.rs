//! Settings of SGD, groups, schedules.

use crate::boundary::{Out, call, slice, text};
use crate::handles::Entered;
use crate::status::{Failure, fail, nunatak_status};
use crate::trainer::nunatak_trainer;
use crate::versions::{OutStruct, Versioned, read};
use core::ffi::c_char;
use nunatak_nn::record::in_scope;
use nunatak_nn::{EntryKind, Optimizer, Program, Schedule, Select, Sgd};

/// Groups of parameters with settings of their own, at most.
const MAX_GROUPS: usize = 8;

/// Settings of PyTorch's SGD.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_sgd {
    /// sizeof(nunatak_sgd), as for `nunatak_config`.
    pub struct_bytes: usize,
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

/// A schedule; `nunatak_schedule_default` fills it. A unit is what the caller counts: steps, or epochs. Members that
/// a kind does not name are not read.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_schedule {
    /// sizeof(nunatak_schedule), as for `nunatak_config`.
    pub struct_bytes: usize,
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

// SAFETY: `#[repr(C)]`, the size is first, and all members are numbers.
unsafe impl Versioned for nunatak_sgd {
    const NAME: &'static str = "nunatak_sgd";
    const OLDEST: usize = core::mem::offset_of!(nunatak_sgd, dampening);
    fn defaults() -> Self {
        nunatak_sgd { struct_bytes: size_of::<Self>(), lr: 0.0, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: 0, maximize: 0 }
    }
}

// SAFETY: `#[repr(C)]`, the size is first, and all members are numbers and a raw pointer.
unsafe impl Versioned for nunatak_schedule {
    const NAME: &'static str = "nunatak_schedule";
    const OLDEST: usize = core::mem::offset_of!(nunatak_schedule, size);
    fn defaults() -> Self {
        nunatak_schedule {
            struct_bytes: size_of::<Self>(),
            kind: nunatak_schedule_kind::NUNATAK_SCHEDULE_CONSTANT as u32,
            size: 0,
            gamma: 0.1,
            milestones: core::ptr::null(),
            milestone_count: 0,
            warmup: 0,
            total: 0,
            floor: 0.0,
            rise: 0.3,
            div: 25.0,
            final_div: 10_000.0,
        }
    }
}

/// What a trainer's updates are made with. Names of groups are not kept: they are a number for each entry.
pub(crate) struct Settings {
    sgd: Option<Sgd>,
    groups: [Sgd; MAX_GROUPS],
    count: usize,
    /// The number of each entry's group; 0: none.
    of_entry: &'static mut [u8],
    /// What the schedule makes of every learning rate.
    rate: f32,
}

impl Settings {
    /// None yet; `of_entry` is zero.
    pub(crate) fn new(of_entry: &'static mut [u8]) -> Settings {
        Settings { sgd: None, groups: [Sgd::new(0.0); MAX_GROUPS], count: 0, of_entry, rate: 1.0 }
    }

    pub(crate) fn optimizer(&self) -> Result<Optimizer<'_>, Failure> {
        let sgd = self.sgd.ok_or_else(|| fail!(NUNATAK_WRONG_ORDER, "there are no settings: call nunatak_trainer_set_sgd first"))?;
        let optimizer = Optimizer::new(sgd)?.numbered_groups(self.of_entry, &self.groups[..self.count])?;
        Ok(optimizer.scaled(self.rate)?)
    }

    fn set(&mut self, sgd: Sgd) -> Result<(), Failure> {
        Optimizer::new(sgd)?;
        (self.sgd, self.count) = (Some(sgd), 0);
        self.of_entry.fill(0);
        Ok(())
    }

    fn add(&mut self, program: &Program, names: &str, sgd: Sgd) -> Result<(), Failure> {
        Optimizer::new(sgd)?;
        let place = self.groups.get_mut(self.count);
        *place.ok_or_else(|| fail!(NUNATAK_TOO_MANY, "there are {MAX_GROUPS} groups already"))? = sgd;
        self.count += 1;
        for (number, id) in self.of_entry.iter_mut().zip(program.entries()) {
            if *number == 0 && Select::Names(names).has(program.entry(id).name(), program.head()) {
                *number = self.count as u8;
            }
        }
        Ok(())
    }
}

/// Whether every part of a list of names names parameters.
fn check_names(program: &Program, names: &str) -> Result<(), Failure> {
    let parameters = || program.entries().map(|id| program.entry(id)).filter(|entry| entry.kind() == EntryKind::Parameter);
    for name in names.split(',').map(str::trim) {
        let known = match name {
            "all" | "none" => true,
            "head" => !program.head().is_empty(),
            name => !name.is_empty() && parameters().any(|entry| in_scope(entry.name(), name)),
        };
        if !known {
            return Err(fail!(NUNATAK_UNKNOWN_NAME, "no parameter has the name \"{name}\", or begins with it and a dot"));
        }
    }
    Ok(())
}

fn flag(value: u32, what: &str) -> Result<bool, Failure> {
    match value {
        0 | 1 => Ok(value == 1),
        _ => Err(fail!(NUNATAK_BAD_SETTING, "{what} is {value}, expected 0 or 1")),
    }
}

fn settings(plain: nunatak_sgd) -> Result<Sgd, Failure> {
    let nunatak_sgd { struct_bytes: _, lr, momentum, dampening, weight_decay, nesterov, maximize } = plain;
    let (nesterov, maximize) = (flag(nesterov, "nesterov")?, flag(maximize, "maximize")?);
    Ok(Sgd { lr, momentum, dampening, weight_decay, nesterov, maximize })
}

/// Plain SGD of this rate: no momentum, no decay. Whether the rate makes sense is found when it is set.
/// `struct_bytes` is sizeof(nunatak_sgd), else `NUNATAK_BAD_CONFIG`. Any thread.
///
/// # Safety
/// `sgd` is NULL, or `struct_bytes` bytes can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_sgd_default(lr: f32, struct_bytes: usize, sgd: *mut nunatak_sgd) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let out = unsafe { OutStruct::new(args, sgd, struct_bytes, "sgd")? };
        out.put(&nunatak_sgd { lr, ..nunatak_sgd::defaults() });
        Ok(())
    })
}

/// A schedule of this kind (a `nunatak_schedule_kind`), with PyTorch's defaults: `gamma` 0.1, `rise` 0.3, `div` 25,
/// `final_div` 10000, all other numbers 0. Whether the kind exists is found when a factor is asked for.
/// `struct_bytes` is sizeof(nunatak_schedule), else `NUNATAK_BAD_CONFIG`. Any thread.
///
/// # Safety
/// `schedule` is NULL, or `struct_bytes` bytes can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_schedule_default(kind: u32, struct_bytes: usize, schedule: *mut nunatak_schedule) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let out = unsafe { OutStruct::new(args, schedule, struct_bytes, "schedule")? };
        out.put(&nunatak_schedule { kind, ..nunatak_schedule::defaults() });
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
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let sgd = unsafe { read(args, sgd, "sgd")? };
        t.settings.set(settings(sgd)?)
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
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (names, sgd) = unsafe { (text(args, names, "names")?, read(args, sgd, "sgd")?) };
        let nunatak_trainer { trainer, settings: own, .. } = &mut *t;
        check_names(trainer.program(), names)?;
        if own.sgd.is_none() {
            return Err(fail!(NUNATAK_WRONG_ORDER, "call nunatak_trainer_set_sgd before adding groups"));
        }
        own.add(trainer.program(), names, settings(sgd)?)
    })
}

/// What a schedule makes of the learning rates of all groups: from the next update on they are multiplied
/// by `factor` until another is set. At first it is 1. `NUNATAK_BAD_SETTING` for one that is negative, NaN or
/// infinite.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_set_rate(trainer: *mut nunatak_trainer, factor: f32) -> nunatak_status {
    call(|_| {
        let mut t = Entered::new(trainer)?;
        if !(factor.is_finite() && factor >= 0.0) {
            return Err(fail!(NUNATAK_BAD_SETTING, "the factor of the learning rates is {factor}; it must be finite and not negative"));
        }
        t.settings.rate = factor;
        Ok(())
    })
}

/// The factor of a schedule at a unit, counted from 0, for `nunatak_trainer_set_rate`.
/// `NUNATAK_BAD_SETTING` for an unknown kind, and where its numbers give a factor that can't be;
/// `NUNATAK_BAD_CONFIG` for its `struct_bytes`. Any thread.
///
/// # Safety
/// `schedule` is NULL or can be read, and of kind multi-step its milestones too; `factor` is NULL or can
/// be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_schedule_factor(schedule: *const nunatak_schedule, unit: u64, factor: *mut f32) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (s, out) = unsafe { (read(args, schedule, "schedule")?, Out::new(args, factor, "factor")?) };
        let schedule = match s.kind {
            0 => Schedule::Constant,
            1 => Schedule::Step { size: s.size, gamma: s.gamma },
            2 if s.milestone_count == 0 => Schedule::Constant,
            // SAFETY: the caller's promise.
            2 => Schedule::MultiStep {
                // SAFETY: the caller's promise.
                milestones: unsafe { slice(args, s.milestones, s.milestone_count, "milestones")? },
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
