//! Programs: planned steps as bytes, which run from where they lie.

use crate::boundary::{Args, Out, call, put_text, slice, slice_mut, text_bytes, too_small};
use crate::config::nunatak_config;
use crate::handles::Entered;
use crate::memory::{Memory, Parts, make, nunatak_region, required};
use crate::plan::{level_of, planned};
use crate::routines;
use crate::status::{Failure, fail, nunatak_status};
use crate::threads;
use crate::trainer::nunatak_trainer;
use core::ffi::{c_char, c_void};
use nunatak_nn::step::{Summary, check_program_for};
use nunatak_nn::{Native, Program};

/// The program in bytes from C; its structure is proven.
///
/// # Safety
/// If `program` passes the checks, `bytes` bytes can be read there for `'a`, and nobody writes them.
pub(crate) unsafe fn program_of<'a>(args: &Args, program: *const c_void, bytes: usize) -> Result<Program<'a>, Failure> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(args, program.cast::<u8>(), bytes, "program")? };
    Ok(Program::check(bytes).map_err(nunatak_nn::Error::from)?)
}

/// Plans a config and writes the program: a step as bytes, which `nunatak_trainer_init_program` runs, here or on
/// a board that has no heap, from flash if need be. It depends on the library's version and on nothing else: the
/// same config gives the same bytes on any machine. A program runs with any instruction set (the config's `level`
/// is not in it) and with at most the config's `threads`. With `weights` it reads what is frozen where that file
/// lies, names the file by its hash, and runs with this file alone.
///
/// `written` gets the bytes that the program takes. Where `bytes` are fewer, the status is
/// `NUNATAK_BUFFER_TOO_SMALL`, and `written` is set all the same: ask with 0 bytes, then again with as many.
/// Other errors as for `nunatak_trainer_required_bytes`, among them `NUNATAK_UNSUPPORTED` in a library without the
/// standard library. Planned on the heap, which is free again afterwards. Any thread.
///
/// # Safety
/// `config` as for `nunatak_trainer_required_bytes`; `program` is NULL, or `bytes` bytes can be written there;
/// `written` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_program_from_config(
    config: *const nunatak_config,
    program: *mut c_void,
    bytes: usize,
    written: *mut usize,
) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (out, written) = unsafe { (slice_mut(args, program.cast::<u8>(), bytes, "program")?, Out::new(args, written, "written")?) };
        // SAFETY: the caller's promise.
        let program = unsafe { planned(args, config)? }.program(&|_| false)?;
        let needed = program.bytes().len();
        written.put(needed);
        let room = out.get_mut(..needed);
        let room = room.ok_or_else(|| too_small("the program", needed, bytes))?;
        room.copy_from_slice(program.bytes());
        Ok(())
    })
}

/// Proves that bytes are a whole program that this library can run: checksum, structure, every size and place of
/// every call. The same is proven by every call that takes a program. The bytes may begin anywhere.
///
/// `NUNATAK_BAD_PROGRAM` says what is wrong and where; `NUNATAK_UNSUPPORTED` for settings that this build has not
/// got. Allocates nothing. Any thread.
///
/// # Safety
/// `program` is NULL, or `bytes` bytes can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_program_check(program: *const c_void, bytes: usize) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let program = unsafe { program_of(args, program, bytes)? };
        Ok(check_program_for(&program, routines::table()?)?)
    })
}

/// How many bytes of memory `nunatak_trainer_init_program` needs for a program of one region: one byte less is an
/// error. A trainer that will be switched between programs needs the most that one of them does. The program itself is
/// not counted: it stays where it is.
///
/// Errors of `nunatak_program_check`; `NUNATAK_BAD_CONFIG` where the sizes do not fit the address space, or the program
/// has several regions: ask `nunatak_program_region_bytes` then. Allocates nothing. Any thread.
///
/// # Safety
/// `program` is NULL, or `program_bytes` bytes can be read there; `bytes` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_program_required_bytes(program: *const c_void, program_bytes: usize, bytes: *mut usize) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (out, program) = unsafe { (Out::new(args, bytes, "bytes")?, program_of(args, program, program_bytes)?) };
        check_program_for(&program, routines::table()?)?;
        let regions = program.region_count();
        if regions != 1 {
            return Err(fail!(NUNATAK_BAD_CONFIG, "the program has {regions} regions; ask nunatak_program_region_bytes for each"));
        }
        out.put(required(&program, 0)?);
        Ok(())
    })
}

/// How many regions of memory a program was planned for: 1, or the banks of a board
/// (`nunatak export --region`), the fastest first. Errors of `nunatak_program_check`. Allocates nothing. Any thread.
///
/// # Safety
/// `program` is NULL, or `program_bytes` bytes can be read there; `count` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_program_region_count(program: *const c_void, program_bytes: usize, count: *mut usize) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (out, program) = unsafe { (Out::new(args, count, "count")?, program_of(args, program, program_bytes)?) };
        check_program_for(&program, routines::table()?)?;
        out.put(program.region_count());
        Ok(())
    })
}

/// How many bytes `nunatak_trainer_init_program` needs in a region of a program, wherever they begin: one byte less
/// is an error. 0 where the program uses nothing of it. Regions count from 0, the fastest.
///
/// Errors of `nunatak_program_required_bytes`; `NUNATAK_BAD_CONFIG` where there is no such region. Allocates nothing.
/// Any thread.
///
/// # Safety
/// `program` is NULL, or `program_bytes` bytes can be read there; `bytes` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_program_region_bytes(
    program: *const c_void,
    program_bytes: usize,
    region: usize,
    bytes: *mut usize,
) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (out, program) = unsafe { (Out::new(args, bytes, "bytes")?, program_of(args, program, program_bytes)?) };
        check_program_for(&program, routines::table()?)?;
        let count = program.region_count();
        if region >= count {
            return Err(fail!(NUNATAK_BAD_CONFIG, "there is no region {region}: the program has {count}").numbers(count, region));
        }
        out.put(required(&program, region)?);
        Ok(())
    })
}

/// How many bytes `nunatak_program_text` needs, the zero at the end included. Errors of `nunatak_program_check`.
/// Any thread.
///
/// # Safety
/// `program` is NULL, or `program_bytes` bytes can be read there; `bytes` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_program_text_bytes(program: *const c_void, program_bytes: usize, bytes: *mut usize) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (out, program) = unsafe { (Out::new(args, bytes, "bytes")?, program_of(args, program, program_bytes)?) };
        check_program_for(&program, routines::table()?)?;
        out.put(text_bytes(Summary(&program)));
        Ok(())
    })
}

/// What a step of this program computes, call by call, and where its bytes go: the text that `nunatak_plan_text`
/// writes of a config. `NUNATAK_BUFFER_TOO_SMALL` with the bytes that it takes; other errors of
/// `nunatak_program_check`. Any thread.
///
/// # Safety
/// `program` is NULL, or `program_bytes` bytes can be read there; `text` is NULL, or `bytes` bytes can be written
/// there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_program_text(
    program: *const c_void,
    program_bytes: usize,
    text: *mut c_char,
    bytes: usize,
) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(args, text.cast::<u8>(), bytes, "text")? };
        // SAFETY: the caller's promise; it lies apart from what is written.
        let program = unsafe { program_of(args, program, program_bytes)? };
        check_program_for(&program, routines::table()?)?;
        put_text(Summary(&program), out, "the program's text")
    })
}

/// Makes a trainer that runs a program (of `nunatak_program_from_config`, of `nunatak plan --out`, or of Rust) in
/// memory, as `nunatak_trainer_init` does with a config: what is said there of memory and weights holds here. Nothing
/// is allocated, also not later: this is the way for boards.
///
/// The memory is `count` regions, one for each of the program's (see `nunatak_program_region_count`: mostly 1), in its
/// order (the fastest first), apart from each other. What `bytes` must be is told by `nunatak_program_region_bytes`; a
/// region of 0 bytes may be NULL where there are several. The bits do not depend on regions.
///
/// The program is not copied. Its bytes may begin anywhere, in flash too, and must stay as they are until the
/// release, or until the trainer is switched to another program. The trainer's functions find its values by their
/// names: "data" (the images), "labels" (labels or targets), "features", "prediction", "loss"; one that the
/// program lacks is `NUNATAK_NOT_PLANNED` where it is asked for.
///
/// `weights` is a native file as in `nunatak_config`, `weights_bytes` its length; NULL for none. A program that
/// was planned with weights needs the same file. `threads` is 1, or a number that was started, at most as many as
/// the program was planned for. `level` is an instruction set as in `nunatak_config`; NULL for the best there is.
///
/// Errors of `nunatak_program_required_bytes`; `NUNATAK_MEMORY_TOO_SMALL`, `NUNATAK_MEMORY_IN_USE`,
/// `NUNATAK_TOO_MANY`; `NUNATAK_WRONG_LENGTH` for another count than the program's;
/// `NUNATAK_BAD_CONFIG` for `threads`, `NUNATAK_NO_THREADS`; `NUNATAK_UNSUPPORTED` for a level
/// that this processor has not got, or that the program excludes; `NUNATAK_NO_WEIGHTS` where the program reads
/// weights in place and there are none; with `weights` `NUNATAK_BAD_FILE`, `NUNATAK_MISALIGNED`,
/// `NUNATAK_WRONG_FILE` (another file than the program's, or a tensor is missing), `NUNATAK_NOT_PLANNED` (a
/// delta). After an error the memory is yours; it may have been written to.
///
/// Any thread.
///
/// # Safety
/// `program` is NULL, or `program_bytes` bytes can be read there and stay as they are until the release; `weights`
/// is NULL, or the same holds for `weights_bytes` bytes; `level` is NULL or ends with a zero; `regions` is NULL, or
/// `count` of them can be read, and the bytes of each read and written until the release; `trainer` is NULL or can be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_init_program(
    program: *const c_void,
    program_bytes: usize,
    weights: *const c_void,
    weights_bytes: usize,
    threads: usize,
    level: *const c_char,
    regions: *const nunatak_region,
    count: usize,
    trainer: *mut *mut nunatak_trainer,
) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let memory = Memory::of(args, unsafe { slice(args, regions, count, "regions")? })?;
        // SAFETY: the caller's promise: the bytes stay until the release.
        let (out, program) = unsafe { (Out::new(args, trainer, "trainer")?, program_of(args, program, program_bytes)?) };
        // SAFETY: the caller's promise.
        let level = unsafe { level_of(args, level)? };
        let most = program.threads();
        if threads::checked(threads)? > most {
            return Err(fail!(NUNATAK_BAD_CONFIG, "threads is {threads}, but the program was planned for at most {most}"));
        }
        let weights = if weights.is_null() && weights_bytes > 0 {
            return Err(fail!(NUNATAK_NULL_POINTER, "weights is NULL, but weights_bytes is {weights_bytes}"));
        } else if weights.is_null() {
            None
        } else {
            // SAFETY: the caller's promise: the bytes stay until the release.
            let file = unsafe { slice(args, weights.cast::<u8>(), weights_bytes, "weights")? };
            Some(Native::parse(file).map_err(nunatak_nn::Error::from)?)
        };
        check_program_for(&program, routines::table()?)?;
        // SAFETY: the caller's promise; program and weights lie apart from the memory.
        out.put(unsafe { make(Parts { program, weights, level, threads }, memory)? });
        Ok(())
    })
}

/// Goes on with another program in the same memory, as `nunatak_trainer_switch` does with a config: what is said
/// there of what survives holds here. The program before is needed no longer. Nothing is allocated.
///
/// Errors of `nunatak_program_check`; `NUNATAK_MEMORY_TOO_SMALL`; `NUNATAK_BAD_CONFIG` for another network (only
/// the head may differ) and for a program of fewer threads than the trainer has; `NUNATAK_UNSUPPORTED` where the
/// program excludes the trainer's level. Of a program that reads weights in place also `NUNATAK_NO_WEIGHTS`,
/// `NUNATAK_WRONG_FILE` (not the file of the start), `NUNATAK_NOT_PLANNED` (it would read in place what lies in
/// the trainer's memory, and may have been trained there). Then nothing has changed.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `program` is NULL, or `program_bytes` bytes can be read there and stay as they are until the release or the
/// next switch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_switch_program(
    trainer: *mut nunatak_trainer,
    program: *const c_void,
    program_bytes: usize,
) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise: the bytes stay until the release, or until another program takes over.
        let program = unsafe { program_of(args, program, program_bytes)? };
        check_next(&t, &program)?;
        t.switch(program)
    })
}

/// Whether a program may take over from a trainer's.
pub(crate) fn check_next(t: &Entered, program: &Program) -> Result<(), Failure> {
    let (threads, most) = (t.threads, program.threads());
    if threads > most {
        return Err(fail!(NUNATAK_BAD_CONFIG, "the trainer has {threads} threads, but the program was planned for at most {most}"));
    }
    Ok(check_program_for(program, routines::table()?)?)
}
