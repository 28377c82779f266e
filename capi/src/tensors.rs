//! Parameters, statistics, gradients and momenta by name, in PyTorch's shapes.

use crate::boundary::{Out, call, put_text, slice, slice_mut, text};
use crate::handles::Entered;
use crate::status::{Failure, fail, nunatak_status};
use crate::trainer::nunatak_trainer;
use crate::versions::{OutStruct, Versioned};
use core::ffi::c_char;
use nunatak_nn::record::in_scope;
use nunatak_nn::{EntryId, EntryKind, Error};

/// Bytes that hold the name of any tensor, its zero included.
pub const NUNATAK_NAME_BYTES: usize = 64;

/// A tensor's shape.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_shape {
    /// sizeof(nunatak_shape), as for `nunatak_config`.
    pub struct_bytes: usize,
    /// Number of dimensions: 0 to 4.
    pub rank: usize,
    /// The sizes; those past `rank` are 1, so that their product is the number of elements.
    pub sizes: [usize; 4],
}

// SAFETY: `#[repr(C)]`, the size is first, and all members are numbers.
unsafe impl Versioned for nunatak_shape {
    const NAME: &'static str = "nunatak_shape";
    const OLDEST: usize = size_of::<nunatak_shape>();
    fn defaults() -> Self {
        nunatak_shape { struct_bytes: size_of::<Self>(), rank: 0, sizes: [1; 4] }
    }
}

impl nunatak_trainer {
    fn entry_of(&self, name: &str) -> Result<EntryId, Failure> {
        self.trainer.entry_named(name).map_err(|_| fail!(NUNATAK_UNKNOWN_NAME, "no tensor has the name \"{name}\""))
    }

    fn kind(&self, id: EntryId) -> EntryKind {
        self.trainer.program().entry(id).kind()
    }

    pub(crate) fn param_of(&self, name: &str) -> Result<EntryId, Failure> {
        let id = self.entry_of(name)?;
        match self.kind(id) {
            EntryKind::Parameter => Ok(id),
            EntryKind::RunningMean | EntryKind::RunningVar | EntryKind::Count | EntryKind::Words => {
                Err(fail!(NUNATAK_UNKNOWN_NAME, "{name} is no parameter: it has neither gradient nor momentum"))
            }
        }
    }

    fn count_of(&self, name: &str, other: &str) -> Result<EntryId, Failure> {
        let id = self.entry_of(name)?;
        if self.kind(id) == EntryKind::Count { Ok(id) } else { Err(fail!(NUNATAK_UNKNOWN_NAME, "{name} is no count: {other}")) }
    }

    fn check_numbers(&self, id: EntryId, got: usize) -> Result<(), Failure> {
        let entry = self.trainer.program().entry(id);
        let due = entry.numbers();
        if got == due {
            Ok(())
        } else {
            Err(fail!(NUNATAK_WRONG_LENGTH, "{} has {due} numbers, got {got}", entry.name()).numbers(due, got))
        }
    }
}

/// How many tensors the network's state dict has: parameters and statistics, in PyTorch's order. No error
/// but those of every call.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `count` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_tensor_count(trainer: *const nunatak_trainer, count: *mut usize) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(args, count, "count")? };
        out.put(t.trainer.program().entry_count());
        Ok(())
    })
}

/// The name of a tensor, counted from 0: "conv1.weight". NUNATAK_NAME_BYTES bytes are always enough.
///
/// `NUNATAK_UNKNOWN_NAME` past the last, `NUNATAK_BUFFER_TOO_SMALL` with the bytes that it takes.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL, or `bytes` bytes can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_tensor_name(
    trainer: *const nunatak_trainer,
    index: usize,
    name: *mut c_char,
    bytes: usize,
) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(args, name.cast::<u8>(), bytes, "name")? };
        let program = t.trainer.program();
        let id = program.entries().nth(index);
        let id = id.ok_or_else(|| fail!(NUNATAK_UNKNOWN_NAME, "there are {} tensors, not number {index}", program.entry_count()))?;
        put_text(program.entry(id).name(), out, "the name")
    })
}

/// A tensor's shape, as in PyTorch: conv1.weight is 64 x 3 x 7 x 7, num_batches_tracked has rank 0. `struct_bytes`
/// is sizeof(nunatak_shape). `NUNATAK_UNKNOWN_NAME`.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL or ends with a zero; `shape` is NULL, or `struct_bytes` bytes can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_tensor_shape(
    trainer: *const nunatak_trainer,
    name: *const c_char,
    struct_bytes: usize,
    shape: *mut nunatak_shape,
) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, out) = unsafe { (text(args, name, "name")?, OutStruct::new(args, shape, struct_bytes, "shape")?) };
        let (sizes, rank) = t.trainer.program().entry(t.entry_of(name)?).shape();
        out.put(&nunatak_shape { rank, sizes, ..nunatak_shape::defaults() });
        Ok(())
    })
}

/// Copies a parameter, running_mean or running_var out in PyTorch's order, `count` floats, which must be all
/// of them. `NUNATAK_UNKNOWN_NAME`, also for num_batches_tracked, and for a layer of 8 bits.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL or ends with a zero; `out` is NULL, or `count` floats can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_get_tensor(
    trainer: *const nunatak_trainer,
    name: *const c_char,
    out: *mut f32,
    count: usize,
) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, out) = unsafe { (text(args, name, "name")?, slice_mut(args, out, count, "out")?) };
        let entry = t.entry_of(name)?;
        if t.kind(entry) == EntryKind::Count {
            return Err(fail!(NUNATAK_UNKNOWN_NAME, "{name} is a count: nunatak_trainer_get_batches"));
        }
        if t.kind(entry) == EntryKind::Words {
            return Err(fail!(
                NUNATAK_UNKNOWN_NAME,
                "{name} holds a layer of 8 bits, no floats: it is loaded and saved with the whole network"
            ));
        }
        t.check_numbers(entry, count)?;
        Ok(t.trainer.entry(entry, out)?)
    })
}

/// Sets a parameter, running_mean or running_var, given in PyTorch's order. Its gradient and momentum stay.
/// From the first one on the trainer has weights: what is not set is zero.
///
/// `NUNATAK_UNKNOWN_NAME`, also for num_batches_tracked and a layer of 8 bits; `NUNATAK_BAD_SETTING` for a running_var that is
/// negative or not finite, and a running_mean that is not finite; `NUNATAK_NOT_PLANNED` for what is read in place.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL or ends with a zero; `numbers` is NULL, or `count` floats can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_set_tensor(
    trainer: *mut nunatak_trainer,
    name: *const c_char,
    numbers: *const f32,
    count: usize,
) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, numbers) = unsafe { (text(args, name, "name")?, slice(args, numbers, count, "numbers")?) };
        let entry = t.entry_of(name)?;
        t.check_numbers(entry, count)?;
        match t.kind(entry) {
            EntryKind::Count => return Err(fail!(NUNATAK_UNKNOWN_NAME, "{name} is a count: nunatak_trainer_set_batches")),
            EntryKind::Words => {
                return Err(fail!(
                    NUNATAK_UNKNOWN_NAME,
                    "{name} holds a layer of 8 bits, no floats: it is loaded and saved with the whole network"
                ));
            }
            EntryKind::RunningVar => {
                if let Some(bad) = numbers.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
                    return Err(fail!(NUNATAK_BAD_SETTING, "{name}: a variance can't be {bad}"));
                }
            }
            EntryKind::RunningMean => {
                if let Some(bad) = numbers.iter().find(|v| !v.is_finite()) {
                    return Err(fail!(NUNATAK_BAD_SETTING, "{name}: a mean can't be {bad}"));
                }
            }
            EntryKind::Parameter => {}
        }
        t.trainer.set_entry(entry, numbers)?;
        // Who begins by hand sets everything by hand.
        t.headed |= !t.ready || in_scope(name, t.trainer.program().head());
        t.ready = true;
        Ok(())
    })
}

/// How many batches a normalisation has seen: `name` is "bn1.num_batches_tracked" or another of its kind.
/// `NUNATAK_UNKNOWN_NAME` for others.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL or ends with a zero; `batches` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_get_batches(
    trainer: *const nunatak_trainer,
    name: *const c_char,
    batches: *mut i64,
) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, out) = unsafe { (text(args, name, "name")?, Out::new(args, batches, "batches")?) };
        let id = t.count_of(name, "nunatak_trainer_get_tensor")?;
        out.put(t.trainer.count(id));
        Ok(())
    })
}

/// Sets how many batches a normalisation has seen. `NUNATAK_BAD_SETTING` for a negative number,
/// `NUNATAK_UNKNOWN_NAME` as for `nunatak_trainer_get_batches`.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL or ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_set_batches(trainer: *mut nunatak_trainer, name: *const c_char, batches: i64) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let name = unsafe { text(args, name, "name")? };
        let id = t.count_of(name, "nunatak_trainer_set_tensor")?;
        if batches < 0 {
            return Err(fail!(NUNATAK_BAD_SETTING, "{name}: a number of batches can't be {batches}"));
        }
        t.trainer.set_count(id, batches);
        Ok(())
    })
}

/// Copies a parameter's gradient out, in the parameter's shape and order.
///
/// `NUNATAK_NO_GRADIENT` where it has none now: it is frozen, there was no backward, or a step or
/// `nunatak_trainer_zero_grad` came after it. `NUNATAK_NOT_PLANNED` with NUNATAK_UPDATE_DURING: gradients are
/// used up as they arise, and lie nowhere. `NUNATAK_UNKNOWN_NAME` for what is no parameter.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL or ends with a zero; `out` is NULL, or `count` floats can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_get_gradient(
    trainer: *const nunatak_trainer,
    name: *const c_char,
    out: *mut f32,
    count: usize,
) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, out) = unsafe { (text(args, name, "name")?, slice_mut(args, out, count, "out")?) };
        let id = t.param_of(name)?;
        t.check_numbers(id, count)?;
        match t.trainer.gradient(id, out) {
            Err(Error::NothingToTrain) => Err(fail!(NUNATAK_NO_GRADIENT, "{name} is frozen, or takes no part: it has no gradient")),
            result => Ok(result?),
        }
    })
}

/// Sets a parameter's gradient, as if backward had computed it: the next update uses it, the next backward
/// adds to it. `NUNATAK_NOT_PLANNED` for a frozen parameter, and with NUNATAK_UPDATE_DURING;
/// `NUNATAK_UNKNOWN_NAME` for what is no parameter.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL or ends with a zero; `numbers` is NULL, or `count` floats can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_set_gradient(
    trainer: *mut nunatak_trainer,
    name: *const c_char,
    numbers: *const f32,
    count: usize,
) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, numbers) = unsafe { (text(args, name, "name")?, slice(args, numbers, count, "numbers")?) };
        let id = t.param_of(name)?;
        t.check_numbers(id, count)?;
        Ok(t.trainer.set_gradient(id, numbers)?)
    })
}

/// Copies a parameter's momentum out, in the parameter's shape and order. `NUNATAK_NO_GRADIENT` where it has
/// none now: it gets one at its first update. `NUNATAK_UNKNOWN_NAME` for what is no parameter.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL or ends with a zero; `out` is NULL, or `count` floats can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_get_momentum(
    trainer: *const nunatak_trainer,
    name: *const c_char,
    out: *mut f32,
    count: usize,
) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, out) = unsafe { (text(args, name, "name")?, slice_mut(args, out, count, "out")?) };
        let id = t.param_of(name)?;
        t.check_numbers(id, count)?;
        match t.trainer.momentum(id, out) {
            Err(Error::NoMomentum) => Err(fail!(NUNATAK_NO_GRADIENT, "{name} has no momentum: it gets one at its first update")),
            result => Ok(result?),
        }
    })
}

/// Sets a parameter's momentum. `NUNATAK_NOT_PLANNED` where the config has no room for it: frozen, or
/// `momentum` 0. `NUNATAK_UNKNOWN_NAME` for what is no parameter.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL or ends with a zero; `numbers` is NULL, or `count` floats can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_set_momentum(
    trainer: *mut nunatak_trainer,
    name: *const c_char,
    numbers: *const f32,
    count: usize,
) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, numbers) = unsafe { (text(args, name, "name")?, slice(args, numbers, count, "numbers")?) };
        let id = t.param_of(name)?;
        t.check_numbers(id, count)?;
        Ok(t.trainer.set_momentum(id, numbers)?)
    })
}
