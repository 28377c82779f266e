//! More classes for a head that was trained.

use crate::boundary::{Args, call, slice};
use crate::config::nunatak_config;
use crate::handles::Entered;
use crate::plan::planned;
use crate::program::{check_next, program_of};
use crate::random::{nunatak_random, seeded};
use crate::status::{Failure, fail, nunatak_status};
use crate::trainer::nunatak_trainer;
use core::ffi::c_void;
use nunatak_nn::NewClass;

/// How the row of a class that is added begins: its weights and its bias.
#[repr(u32)]
pub enum nunatak_new_class {
    /// With zeros: its logit is 0 until it is trained.
    NUNATAK_NEW_CLASS_ZERO = 0,
    /// As the rows of `torch.nn.Linear(features, classes)` of all classes, new and old; what PyTorch draws for the rows
    /// that are there is drawn and left out. The generator goes on.
    NUNATAK_NEW_CLASS_DRAWN = 1,
    /// With numbers of the caller's: the weights of every new row, one after the other, then their biases.
    NUNATAK_NEW_CLASS_GIVEN = 2,
}

/// # Safety
/// As for `nunatak_trainer_add_class`.
unsafe fn begins<'a>(
    args: &Args,
    begins: u32,
    random: *mut nunatak_random,
    row: *const f32,
    count: usize,
) -> Result<NewClass<'a>, Failure> {
    Ok(match begins {
        0 => NewClass::Zero,
        // SAFETY: the caller's promise.
        1 => NewClass::Drawn(unsafe { seeded(args, random)? }),
        // SAFETY: the caller's promise.
        2 => NewClass::Given(unsafe { slice(args, row, count, "row")? }),
        other => return Err(fail!(NUNATAK_BAD_SETTING, "begins is {other}, expected 0 to 2")),
    })
}

/// Goes on with a config of the same network and more classes, in the same memory, as `nunatak_trainer_switch` does: but
/// the rows of the classes that are there keep their bits, and those of their momentum, so that an image has the same
/// logits as before. The new classes have the numbers behind the old ones, and a momentum of zero where the head has one.
///
/// `begins` is a `nunatak_new_class`. `random` is looked at with NUNATAK_NEW_CLASS_DRAWN alone, `row` and `count` with
/// NUNATAK_NEW_CLASS_GIVEN alone: for one class more, one float for each feature and one for the bias.
///
/// `NUNATAK_BAD_CONFIG` where the config has no more classes than the trainer; `NUNATAK_NO_WEIGHTS` where the head has none
/// yet; `NUNATAK_BAD_SETTING` for `begins`; `NUNATAK_WRONG_ORDER` for a generator that was not seeded; `NUNATAK_NOT_PLANNED`
/// where a step was begun whose gradients lie in the momentum (end it, or call `nunatak_trainer_zero_grad`); and what
/// `nunatak_trainer_switch` returns. Then nothing has changed.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `config` as for `nunatak_trainer_required_bytes`; `random` is NULL, or was written by `nunatak_random_seed`; `row` is
/// NULL, or `count` floats can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_add_class(
    trainer: *mut nunatak_trainer,
    config: *const nunatak_config,
    begins: u32,
    random: *mut nunatak_random,
    row: *const f32,
    count: usize,
) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let planned = unsafe { planned(args, config)? };
        // SAFETY: the caller's promise.
        let begins = unsafe { self::begins(args, begins, random, row, count)? };
        t.check_config(&planned)?;
        let program = t.next_program(&planned)?;
        t.add_class(program, begins)
    })
}

/// The same with a program of more classes, which runs where it lies: nothing is allocated.
///
/// Errors of `nunatak_trainer_add_class` and of `nunatak_trainer_switch_program`. Then nothing has changed.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `program` as for `nunatak_trainer_switch_program`; the others as for `nunatak_trainer_add_class`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_add_class_program(
    trainer: *mut nunatak_trainer,
    program: *const c_void,
    program_bytes: usize,
    begins: u32,
    random: *mut nunatak_random,
    row: *const f32,
    count: usize,
) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise: the bytes stay until the release, or until another program takes over.
        let program = unsafe { program_of(args, program, program_bytes)? };
        // SAFETY: the caller's promise.
        let begins = unsafe { self::begins(args, begins, random, row, count)? };
        check_next(&t, &program)?;
        t.add_class(program, begins)
    })
}
