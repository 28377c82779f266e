//! The plan and the instruction set as text.

use crate::boundary::{Out, Own, call, put_text, slice_mut, text_bytes};
use crate::config::nunatak_config;
use crate::handles::Entered;
use crate::status::nunatak_status;
use crate::trainer::{nunatak_trainer, planned};
use core::ffi::c_char;
use nunatak_nn::Level;
use nunatak_nn::summary::Summary;

/// How many bytes `nunatak_plan_text` needs for this config, the zero at the end included. Errors and stack
/// as for `nunatak_trainer_required_bytes`. Any thread.
///
/// # Safety
/// As for `nunatak_trainer_required_bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_plan_text_bytes(config: *const nunatak_config, bytes: *mut usize) -> nunatak_status {
    call(|| {
        // SAFETY: the caller's promise.
        let (planned, out) = unsafe { (planned(config)?, Out::new(Own::NOTHING, bytes, "bytes")?) };
        let (blueprint, slots, _) = planned.setup.plan()?;
        out.put(text_bytes(Summary::new(&blueprint, &slots)));
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
    call(|| {
        // SAFETY: the caller's promise.
        let (planned, out) = unsafe { (planned(config)?, slice_mut(Own::NOTHING, text.cast::<u8>(), bytes, "text")?) };
        let (blueprint, slots, _) = planned.setup.plan()?;
        put_text(Summary::new(&blueprint, &slots), out, "the plan's text")
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
pub unsafe extern "C" fn nunatak_trainer_level(trainer: *mut nunatak_trainer, level: *mut *const c_char) -> nunatak_status {
    call(|| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(t.own(), level, "level")? };
        out.put(name_of(t.trainer.level()));
        Ok(())
    })
}
