//! Weights from files in memory, and into them.

use crate::boundary::{Out, call, slice, slice_mut, too_small};
use crate::config::nunatak_recipe;
use crate::handles::Entered;
use crate::status::{Failure, fail, nunatak_status};
use crate::trainer::nunatak_trainer;
use crate::versions::OutStruct;
use core::ffi::c_void;
use nunatak_nn::files::native::MAGIC;
use nunatak_nn::files::save::Save;
use nunatak_nn::files::{Head, Native};
use nunatak_nn::record::in_scope;

/// Which entries of a file are taken.
#[repr(u32)]
pub enum nunatak_head {
    /// All; one that is missing is an error.
    NUNATAK_HEAD_LOAD = 0,
    /// All but `fc`, which stays as it is, whatever the file has. It must be drawn, loaded or set
    /// before the next forward, if it never was.
    NUNATAK_HEAD_KEEP = 1,
}

/// What is saved.
#[repr(u32)]
pub enum nunatak_format {
    /// `.safetensors` with exactly the entries of PyTorch's state dict.
    NUNATAK_SAFETENSORS = 0,
    /// The same, and the momentum of every parameter that has one ("momentum." and its name): with
    /// `nunatak_trainer_load_momentum` a run goes on as if it had never stopped.
    NUNATAK_SAFETENSORS_WITH_MOMENTUM = 1,
    /// A native file: weights as they lie in the library, so that they can be used in place (`weights` in
    /// `nunatak_config`), with checksums and the recipe.
    NUNATAK_NATIVE = 2,
    /// What differs from the config's `weights`: the trained part, and running statistics that moved. It
    /// names its base by hash; `nunatak_trainer_load` lays it over that.
    NUNATAK_NATIVE_DELTA = 3,
}

/// A format in Rust's terms.
enum Format {
    Safetensors { momentum: bool },
    Native(Save),
}

fn format_of(format: u32) -> Result<Format, Failure> {
    match format {
        0 | 1 => Ok(Format::Safetensors { momentum: format == 1 }),
        2 => Ok(Format::Native(Save::Network)),
        3 => Ok(Format::Native(Save::Delta)),
        _ => Err(fail!(NUNATAK_BAD_SETTING, "the format is {format}, expected 0 to 3")),
    }
}

fn is_native(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

fn parse_native(bytes: &[u8]) -> Result<Native<'_>, Failure> {
    Ok(Native::parse(bytes).map_err(nunatak_nn::Error::from)?)
}

fn load_native(t: &mut nunatak_trainer, bytes: &[u8], head: Head) -> Result<(), Failure> {
    let file = parse_native(bytes)?;
    if file.base().is_some() {
        return Ok(t.trainer.load_delta(&file)?);
    }
    if head == Head::Load {
        check_head(t, &file)?;
    }
    file.verify().map_err(nunatak_nn::Error::from)?;
    Ok(t.trainer.load_native(&file, head == Head::Keep)?)
}

/// Whether a file's head has the shape of the network's own: an error that names both numbers of classes.
fn check_head(t: &nunatak_trainer, file: &Native) -> Result<(), Failure> {
    let program = t.trainer.program();
    let head = program.head();
    for entry in program.entries().map(|id| program.entry(id)).filter(|entry| !head.is_empty() && in_scope(entry.name(), head)) {
        let (shape, rank) = entry.shape();
        let of_file = file.tensor(entry.name());
        if of_file.is_none_or(|tensor| tensor.shape() != &shape[..rank]) {
            let (own, of_file) = (shape[0], of_file.and_then(|tensor| tensor.shape().first().copied()).unwrap_or(0));
            return Err(fail!(
                NUNATAK_WRONG_FILE,
                "the file's head has {of_file} classes, {own} were expected ({}); ask for that number, or keep a head of your own",
                entry.name()
            ));
        }
    }
    Ok(())
}

#[cfg(feature = "std")]
mod files {
    use super::{Failure, fail};
    use nunatak_nn::files::Checkpoint;
    use nunatak_nn::files::state::StateError;

    pub(super) fn parse(bytes: &[u8]) -> Result<Checkpoint<'_>, Failure> {
        Checkpoint::parse(bytes).map_err(|e| fail!(NUNATAK_BAD_FILE, "{e}"))
    }

    pub(super) fn failed(e: StateError) -> Failure {
        match e {
            StateError::Trainer(e) => e.into(),
            StateError::Mismatch(m) => fail!(NUNATAK_WRONG_FILE, "{m}"),
            StateError::NoNetwork(_) => fail!(NUNATAK_WRONG_FILE, "{e}"),
            e => fail!(NUNATAK_BAD_FILE, "{e}"),
        }
    }
}

#[cfg(feature = "std")]
fn load(t: &mut nunatak_trainer, bytes: &[u8], head: Head) -> Result<(), Failure> {
    t.trainer.load(&files::parse(bytes)?, head).map(|_| ()).map_err(files::failed)
}

#[cfg(not(feature = "std"))]
fn load(t: &mut nunatak_trainer, bytes: &[u8], head: Head) -> Result<(), Failure> {
    Ok(t.trainer.load_safetensors(bytes, head)?)
}

#[cfg(feature = "std")]
fn load_momentum(t: &mut nunatak_trainer, bytes: &[u8]) -> Result<(), Failure> {
    t.trainer.load_momentum(&files::parse(bytes)?).map_err(files::failed)
}

#[cfg(not(feature = "std"))]
fn load_momentum(t: &mut nunatak_trainer, bytes: &[u8]) -> Result<(), Failure> {
    Ok(t.trainer.load_momentum_safetensors(bytes)?)
}

/// Loads weights from the bytes of a whole file: `.safetensors`, native, or `.pth` (zip or legacy; nothing in
/// it is executed). Parameters and statistics are overwritten; the bytes may begin anywhere, and are not
/// needed afterwards. Momenta and gradients are forgotten. `head` is a `nunatak_head`. Checksums are verified.
///
/// A native delta is laid over the config's `weights`, which must be its base; the config must train what the
/// delta has. `head` is then of no meaning.
///
/// `NUNATAK_BAD_FILE` where the bytes contradict themselves, `NUNATAK_WRONG_FILE` where the tensors are
/// not this network's or the delta's base is another file, `NUNATAK_NOT_PLANNED` where something is read in
/// place (load into a trainer without `weights`) or a delta has no `weights` below, `NUNATAK_BAD_SETTING` for
/// `head`, `NUNATAK_OUT_OF_MEMORY`: then nothing has changed.
///
/// Allocates memory, at most twice the file and 1 MiB, but for native files none. In a library without the
/// standard library it never allocates, and takes native files, and `.safetensors` of F32 and I64.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `file` is NULL, or `bytes` bytes can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_load(
    trainer: *mut nunatak_trainer,
    file: *const c_void,
    bytes: usize,
    head: u32,
) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let file = unsafe { slice(args, file.cast::<u8>(), bytes, "file")? };
        let head = match head {
            0 => Head::Load,
            1 => Head::Keep,
            _ => return Err(fail!(NUNATAK_BAD_SETTING, "head is {head}, expected 0 or 1")),
        };
        match is_native(file) {
            true => load_native(&mut t, file, head)?,
            false => load(&mut t, file, head)?,
        }
        t.ready = true;
        t.headed |= head == Head::Load;
        Ok(())
    })
}

/// Takes over the momenta that a file has which was saved with them; a file without changes nothing.
/// Call it after `nunatak_trainer_load`, which forgets momenta. Allocation as there.
///
/// `NUNATAK_BAD_FILE`, `NUNATAK_WRONG_FILE` where one has another shape, `NUNATAK_NOT_PLANNED` where one is of a
/// parameter that has no momentum in this config: then nothing has changed.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `file` is NULL, or `bytes` bytes can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_load_momentum(trainer: *mut nunatak_trainer, file: *const c_void, bytes: usize) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let file = unsafe { slice(args, file.cast::<u8>(), bytes, "file")? };
        load_momentum(&mut t, file)
    })
}

/// How many bytes `nunatak_trainer_save` writes now. `format` is a `nunatak_format`.
///
/// `NUNATAK_BAD_SETTING` for `format`, `NUNATAK_NOT_PLANNED` for a delta of a trainer without `weights`.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `bytes` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_saved_bytes(trainer: *const nunatak_trainer, format: u32, bytes: *mut usize) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(args, bytes, "bytes")? };
        out.put(match format_of(format)? {
            Format::Safetensors { momentum } => t.trainer.safetensors_bytes(momentum),
            Format::Native(what) => t.trainer.saving(what, &[])?.len(),
        });
        Ok(())
    })
}

/// Writes a file to the front of a buffer, which may begin anywhere; `written` gets its length, which is
/// `nunatak_trainer_saved_bytes`. A buffer of that length is enough; one byte less is
/// `NUNATAK_BUFFER_TOO_SMALL`, nothing is written to it, and `written` is set all the same. Other errors as there. Allocates nothing. Put it on
/// disk under another name and rename it, so that a power cut leaves the old file.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `buffer` is NULL, or `bytes` bytes can be written there; `written` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_save(
    trainer: *const nunatak_trainer,
    format: u32,
    buffer: *mut c_void,
    bytes: usize,
    written: *mut usize,
) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (out, written) = unsafe { (slice_mut(args, buffer.cast::<u8>(), bytes, "buffer")?, Out::new(args, written, "written")?) };
        let format = format_of(format)?;
        let saving = match format {
            Format::Safetensors { .. } => None,
            Format::Native(what) => Some(t.trainer.saving(what, &[])?),
        };
        let needed = match format {
            Format::Safetensors { momentum } => t.trainer.safetensors_bytes(momentum),
            Format::Native(_) => saving.as_ref().map_or(0, |saving| saving.len()),
        };
        written.put(needed);
        if bytes < needed {
            return Err(too_small("the file", needed, bytes));
        }
        match (saving, format) {
            (Some(saving), _) => saving.write_to(out)?,
            (None, Format::Safetensors { momentum }) => t.trainer.save_safetensors(momentum, out)?,
            (None, Format::Native(_)) => 0,
        };
        Ok(())
    })
}

/// The network that a file is of. A native file says so; others tell it by tensors' names and shapes,
/// which leave out the stem's stride, padding and pooling: a 7x7 stem is taken for ImageNet's, any other
/// for one of stride 1 that keeps the size, unless nunatak wrote the file. `struct_bytes` is
/// sizeof(nunatak_recipe). Allocates as `nunatak_trainer_load`. Any thread.
///
/// `NUNATAK_BAD_FILE`; `NUNATAK_WRONG_FILE` where it is no residual network of basic blocks;
/// `NUNATAK_UNSUPPORTED` in a library without the standard library for files that are not native.
///
/// # Safety
/// `file` is NULL, or `bytes` bytes can be read there; `recipe` is NULL, or `struct_bytes` bytes can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_recipe_of_file(
    file: *const c_void,
    bytes: usize,
    struct_bytes: usize,
    recipe: *mut nunatak_recipe,
) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (file, out) =
            unsafe { (slice(args, file.cast::<u8>(), bytes, "file")?, OutStruct::new(args, recipe, struct_bytes, "recipe")?) };
        if is_native(file) {
            let file = parse_native(file)?;
            let none = || fail!(NUNATAK_WRONG_FILE, "the file is of no residual network of basic blocks");
            out.put(&nunatak_recipe::of(file.recipe().ok_or_else(none)?));
            return Ok(());
        }
        #[cfg(feature = "std")]
        {
            let recipe = nunatak_nn::files::state::recipe_of(&files::parse(file)?).map_err(files::failed)?;
            out.put(&nunatak_recipe::of(&recipe));
            Ok(())
        }
        #[cfg(not(feature = "std"))]
        {
            let _ = (file, out);
            Err(fail!(
                NUNATAK_UNSUPPORTED,
                "this library was built without the readers that tell a file's network; fill the recipe by hand"
            ))
        }
    })
}

/// Reads a whole file and checks it: of a native file and a `.pth` all checksums, of `.safetensors`, which
/// have none, that they are complete. Allocates as `nunatak_trainer_load`. Any thread.
///
/// `NUNATAK_BAD_FILE` says what is wrong and where.
///
/// # Safety
/// `file` is NULL, or `bytes` bytes can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_file_verify(file: *const c_void, bytes: usize) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let file = unsafe { slice(args, file.cast::<u8>(), bytes, "file")? };
        if is_native(file) {
            return Ok(parse_native(file)?.verify().map_err(nunatak_nn::Error::from)?);
        }
        #[cfg(feature = "std")]
        return files::parse(file).map(|_| ());
        #[cfg(not(feature = "std"))]
        Ok(nunatak_nn::files::heapless::Safetensors::parse(file).map(|_| ()).map_err(nunatak_nn::files::heapless::FileError::Format)?)
    })
}
