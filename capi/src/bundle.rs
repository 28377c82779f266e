//! Bundles: programs of one network that share what lasts from step to step, in one piece of flash.

use crate::boundary::{Args, Out, call, slice, text};
use crate::status::{Failure, fail, nunatak_status};
use core::ffi::{c_char, c_void};
use nunatak_core::bundle::Bundle;

/// The bundle in bytes from C; its structure is proven.
///
/// # Safety
/// If `bundle` passes the checks, `bytes` bytes can be read there for `'a`, and nobody writes them.
unsafe fn bundle_of<'a>(args: &Args, bundle: *const c_void, bytes: usize) -> Result<Bundle<'a>, Failure> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(args, bundle.cast::<u8>(), bytes, "bundle")? };
    Ok(Bundle::check(bytes).map_err(nunatak_nn::Error::from)?)
}

/// How many programs a bundle has: several steps of one network that `nunatak export` planned together, with one
/// place for each weight, statistic and momentum. `nunatak_trainer_switch_program` from one to another moves nothing.
///
/// `NUNATAK_BAD_PROGRAM` says what is wrong with the bytes, which may begin anywhere. Allocates nothing. Any thread.
///
/// # Safety
/// `bundle` is NULL, or `bundle_bytes` bytes can be read there; `count` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_bundle_count(bundle: *const c_void, bundle_bytes: usize, count: *mut usize) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (out, bundle) = unsafe { (Out::new(args, count, "count")?, bundle_of(args, bundle, bundle_bytes)?) };
        out.put(bundle.count());
        Ok(())
    })
}

/// A program of a bundle, by its name ("predict", "train", …): where it lies, and its bytes, for
/// `nunatak_trainer_init_program` and `nunatak_trainer_switch_program`. It is a part of the bundle, which must stay as
/// long as it is in use.
///
/// `NUNATAK_BAD_PROGRAM`; `NUNATAK_UNKNOWN_NAME` where the bundle has no program of this name. Allocates nothing. Any
/// thread.
///
/// # Safety
/// `bundle` is NULL, or `bundle_bytes` bytes can be read there; `name` is NULL or ends with a zero; `program` and
/// `program_bytes` are NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_bundle_program(
    bundle: *const c_void,
    bundle_bytes: usize,
    name: *const c_char,
    program: *mut *const c_void,
    program_bytes: *mut usize,
) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (at, bytes) = unsafe { (Out::new(args, program, "program")?, Out::new(args, program_bytes, "program_bytes")?) };
        // SAFETY: the caller's promise.
        let bundle = unsafe { bundle_of(args, bundle, bundle_bytes)? };
        // SAFETY: the caller's promise.
        let name = unsafe { text(args, name, "name")? };
        let number = bundle.named(name).ok_or_else(|| fail!(NUNATAK_UNKNOWN_NAME, "the bundle has no program {name:?}"))?;
        let found = bundle.program_bytes(number);
        let (first, len) = (found.as_ptr().cast(), found.len());
        at.put(first);
        bytes.put(len);
        Ok(())
    })
}
