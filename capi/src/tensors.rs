//! Parameters, statistics, gradients and momenta by name, in PyTorch's shapes.

use crate::boundary::{Out, call, put_text, slice, slice_mut, text};
use crate::handles::Entered;
use crate::status::{Failure, fail, nunatak_status};
use crate::trainer::nunatak_trainer;
use core::ffi::c_char;
use nunatak_nn::{Entry, ParamId};

/// Bytes that hold the name of any tensor, its zero included.
pub const NUNATAK_NAME_BYTES: usize = 64;

/// A tensor's shape.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_shape {
    /// Number of dimensions: 0 to 4.
    pub rank: usize,
    /// The sizes; those past `rank` are 1, so that their product is the number of elements.
    pub sizes: [usize; 4],
}

impl nunatak_trainer {
    fn entry_of(&self, name: &str) -> Result<Entry, Failure> {
        let network = self.trainer.blueprint().network();
        let found = network.entries().find(|entry| network.entry_name(*entry).as_str() == name);
        found.ok_or_else(|| fail!(NUNATAK_UNKNOWN_NAME, "no tensor has the name \"{name}\""))
    }

    fn param_of(&self, name: &str) -> Result<ParamId, Failure> {
        match self.entry_of(name)? {
            Entry::Param(id) => Ok(id),
            _ => Err(fail!(NUNATAK_UNKNOWN_NAME, "{name} is no parameter: it has neither gradient nor momentum")),
        }
    }

    fn check_numbers(&self, entry: Entry, got: usize) -> Result<(), Failure> {
        let network = self.trainer.blueprint().network();
        let due = network.entry_shape(entry).0.iter().product::<usize>();
        if got == due { Ok(()) } else { Err(fail!(NUNATAK_WRONG_LENGTH, "{} has {due} numbers, got {got}", network.entry_name(entry))) }
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
pub unsafe extern "C" fn nunatak_trainer_tensor_count(trainer: *mut nunatak_trainer, count: *mut usize) -> nunatak_status {
    call(|| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(t.own(), count, "count")? };
        out.put(t.trainer.blueprint().network().entries().count());
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
    trainer: *mut nunatak_trainer,
    index: usize,
    name: *mut c_char,
    bytes: usize,
) -> nunatak_status {
    call(|| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(t.own(), name.cast::<u8>(), bytes, "name")? };
        let network = t.trainer.blueprint().network();
        let entry = network.entries().nth(index);
        let entry =
            entry.ok_or_else(|| fail!(NUNATAK_UNKNOWN_NAME, "there are {} tensors, not number {index}", network.entries().count()))?;
        put_text(network.entry_name(entry), out, "the name")
    })
}

/// A tensor's shape, as in PyTorch: conv1.weight is 64 x 3 x 7 x 7, num_batches_tracked has rank 0.
/// `NUNATAK_UNKNOWN_NAME`.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL or ends with a zero; `shape` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_tensor_shape(
    trainer: *mut nunatak_trainer,
    name: *const c_char,
    shape: *mut nunatak_shape,
) -> nunatak_status {
    call(|| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, out) = unsafe { (text(name, "name")?, Out::new(t.own(), shape, "shape")?) };
        let (sizes, rank) = t.trainer.blueprint().network().entry_shape(t.entry_of(name)?);
        out.put(nunatak_shape { rank, sizes });
        Ok(())
    })
}

/// Copies a parameter, running_mean or running_var out in PyTorch's order, `count` floats, which must be all
/// of them. `NUNATAK_UNKNOWN_NAME`, also for num_batches_tracked.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL or ends with a zero; `out` is NULL, or `count` floats can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_get_tensor(
    trainer: *mut nunatak_trainer,
    name: *const c_char,
    out: *mut f32,
    count: usize,
) -> nunatak_status {
    call(|| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, out) = unsafe { (text(name, "name")?, slice_mut(t.own(), out, count, "out")?) };
        let entry = t.entry_of(name)?;
        if let Entry::NumBatchesTracked(_) = entry {
            return Err(fail!(NUNATAK_UNKNOWN_NAME, "{name} is a count: nunatak_trainer_get_batches"));
        }
        t.check_numbers(entry, count)?;
        Ok(t.trainer.entry(entry, out)?)
    })
}

/// What is read in place has no room.
fn copy_to(to: &mut [f32], numbers: &[f32], name: &str) -> Result<(), Failure> {
    if to.len() != numbers.len() {
        return Err(fail!(NUNATAK_NOT_PLANNED, "{name} is read where the config's weights lie, and can't be set"));
    }
    to.copy_from_slice(numbers);
    Ok(())
}

/// Sets a parameter, running_mean or running_var, given in PyTorch's order. Its gradient and momentum stay.
/// From the first one on the trainer has weights: what is not set is zero.
///
/// `NUNATAK_UNKNOWN_NAME`, also for num_batches_tracked; `NUNATAK_BAD_SETTING` for a negative running_var;
/// `NUNATAK_NOT_PLANNED` for what is read in place.
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
    call(|| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, numbers) = unsafe { (text(name, "name")?, slice(t.own(), numbers, count, "numbers")?) };
        let entry = t.entry_of(name)?;
        t.check_numbers(entry, count)?;
        match entry {
            Entry::Param(id) => t.trainer.set_param(id, numbers)?,
            Entry::RunningMean(id) => copy_to(t.trainer.running_mean_mut(id), numbers, name)?,
            Entry::RunningVar(id) => {
                if let Some(bad) = numbers.iter().find(|v| **v < 0.0) {
                    return Err(fail!(NUNATAK_BAD_SETTING, "{name}: a variance can't be {bad}"));
                }
                copy_to(t.trainer.running_var_mut(id), numbers, name)?;
            }
            Entry::NumBatchesTracked(_) => return Err(fail!(NUNATAK_UNKNOWN_NAME, "{name} is a count: nunatak_trainer_set_batches")),
        }
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
    trainer: *mut nunatak_trainer,
    name: *const c_char,
    batches: *mut i64,
) -> nunatak_status {
    call(|| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, out) = unsafe { (text(name, "name")?, Out::new(t.own(), batches, "batches")?) };
        let Entry::NumBatchesTracked(id) = t.entry_of(name)? else {
            return Err(fail!(NUNATAK_UNKNOWN_NAME, "{name} is no count: nunatak_trainer_get_tensor"));
        };
        out.put(t.trainer.num_batches_tracked(id));
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
    call(|| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let name = unsafe { text(name, "name")? };
        let Entry::NumBatchesTracked(id) = t.entry_of(name)? else {
            return Err(fail!(NUNATAK_UNKNOWN_NAME, "{name} is no count: nunatak_trainer_set_tensor"));
        };
        if batches < 0 {
            return Err(fail!(NUNATAK_BAD_SETTING, "{name}: a number of batches can't be {batches}"));
        }
        t.trainer.set_num_batches_tracked(id, batches);
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
    trainer: *mut nunatak_trainer,
    name: *const c_char,
    out: *mut f32,
    count: usize,
) -> nunatak_status {
    call(|| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, out) = unsafe { (text(name, "name")?, slice_mut(t.own(), out, count, "out")?) };
        let id = t.param_of(name)?;
        t.check_numbers(Entry::Param(id), count)?;
        Ok(t.trainer.gradient(id, out)?)
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
    call(|| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, numbers) = unsafe { (text(name, "name")?, slice(t.own(), numbers, count, "numbers")?) };
        let id = t.param_of(name)?;
        t.check_numbers(Entry::Param(id), count)?;
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
    trainer: *mut nunatak_trainer,
    name: *const c_char,
    out: *mut f32,
    count: usize,
) -> nunatak_status {
    call(|| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, out) = unsafe { (text(name, "name")?, slice_mut(t.own(), out, count, "out")?) };
        let id = t.param_of(name)?;
        t.check_numbers(Entry::Param(id), count)?;
        match t.trainer.momentum(id, out) {
            Err(nunatak_nn::Error::NoMomentum) => {
                Err(fail!(NUNATAK_NO_GRADIENT, "{name} has no momentum: it gets one at its first update"))
            }
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
    call(|| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, numbers) = unsafe { (text(name, "name")?, slice(t.own(), numbers, count, "numbers")?) };
        let id = t.param_of(name)?;
        t.check_numbers(Entry::Param(id), count)?;
        Ok(t.trainer.set_momentum(id, numbers)?)
    })
}
