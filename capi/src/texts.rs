//! The plan and the instruction set as text.

use crate::boundary::{Out, call, put_text, slice_mut, text_bytes};
use crate::config::nunatak_config;
use crate::handles::Entered;
use crate::plan::planned;
use crate::status::nunatak_status;
use crate::trainer::nunatak_trainer;
use core::ffi::c_char;
use nunatak_nn::Level;
use nunatak_nn::step::Summary;

/// How many bytes `nunatak_plan_text` needs for this config, the zero at the end included. Errors and heap
/// as for `nunatak_trainer_required_bytes`. Any thread.
///
/// # Safety
/// As for `nunatak_trainer_required_bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_plan_text_bytes(config: *const nunatak_config, bytes: *mut usize) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (out, planned) = unsafe { (Out::new(args, bytes, "bytes")?, planned(args, config)?) };
        out.put(text_bytes(Summary(&planned.program(&|_| false)?)));
        Ok(())
    })
}

/// What a step of this config computes, call by call, and where its bytes go: lines of text for people, which
/// may change with any version. `NUNATAK_BUFFER_TOO_SMALL` with the bytes that it takes; other errors as for
/// `nunatak_trainer_required_bytes`. Any thread.
///
/// # Safety
/// `config` as for `nunatak_trainer_required_bytes`; `text` is NULL, or `bytes` bytes can be written
/// there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_plan_text(config: *const nunatak_config, text: *mut c_char, bytes: usize) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (out, planned) = unsafe { (slice_mut(args, text.cast::<u8>(), bytes, "text")?, planned(args, config)?) };
        put_text(Summary(&planned.program(&|_| false)?), out, "the plan's text")
    })
}

fn name_of(level: Level) -> *const c_char {
    let names = [("avx512", c"avx512"), ("avx2", c"avx2"), ("neon", c"neon")];
    names.into_iter().find(|(name, _)| *name == level.name()).map_or(c"portable", |(_, text)| text).as_ptr()
}

/// The instruction set that a trainer works with: "portable", "neon", "avx2" or "avx512", a constant
/// text. No error but those of every call.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `level` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_level(trainer: *const nunatak_trainer, level: *mut *const c_char) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(args, level, "level")? };
        out.put(name_of(t.trainer.level()));
        Ok(())
    })
}
