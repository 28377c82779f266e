//! The trainer: made in the caller's memory, stepped, asked, released.

use crate::boundary::{Out, Own, call, check, copy, slice, slice_mut};
use crate::callbacks::Watcher;
use crate::config::{Planned, nunatak_config};
use crate::handles::{Claim, Entered};
use crate::status::{Failure, fail, nunatak_status};
use crate::threads;
use core::mem::MaybeUninit;
use nunatak_nn::setup::Values;
use nunatak_nn::{Blueprint, Optimizer, Trainer};

/// A network with a step that can be repeated, in the caller's memory. Only its address is of use.
pub struct nunatak_trainer {
    pub(crate) trainer: Trainer<'static>,
    pub(crate) values: Values,
    pub(crate) optimizer: Option<Optimizer>,
    /// What the schedule makes of every learning rate.
    pub(crate) rate: f32,
    /// Weights were loaded, drawn or set.
    pub(crate) ready: bool,
    pub(crate) watcher: &'static Watcher,
}

/// Where everything begins, and the front of a trainer's memory: the caller's block follows.
#[repr(C, align(64))]
struct Front {
    trainer: MaybeUninit<nunatak_trainer>,
    watcher: MaybeUninit<Watcher>,
}

/// Bytes in all: wherever the memory starts, the front finds an aligned place in it.
fn required(blueprint: &Blueprint) -> Result<usize, Failure> {
    let bytes = blueprint.bytes().checked_add(size_of::<Front>() + align_of::<Front>() - 1);
    bytes.filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(|| fail!(NUNATAK_BAD_CONFIG, "the step does not fit the address space"))
}

/// # Safety
/// `config` is NULL or can be read, and its texts are NULL or end with a zero.
pub(crate) unsafe fn planned(config: *const nunatak_config) -> Result<Planned, Failure> {
    // SAFETY: the caller's promise.
    unsafe { copy(config, "config")?.planned() }
}

/// How many bytes `nunatak_trainer_init` needs for this config: one byte less is an error. A trainer
/// that will be switched between configs needs the most that one of them does.
///
/// `NUNATAK_BAD_CONFIG` with the number that can't be, also where the sizes do not fit the address space or
/// a normalisation would train on one value per channel; `NUNATAK_UNKNOWN_NAME` for `trainable`;
/// `NUNATAK_UNSUPPORTED` for a `level` that this processor has not got; `NUNATAK_BAD_FILE` for `weights`.
///
/// The config is planned on the stack, in up to 0.8 MB (measured on a Cortex-M7). Any thread.
///
/// # Safety
/// `config` is NULL or can be read, and its texts are NULL or end with a zero; `bytes` is NULL or can
/// be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_required_bytes(config: *const nunatak_config, bytes: *mut usize) -> nunatak_status {
    call(|| {
        // SAFETY: the caller's promise.
        let (planned, out) = unsafe { (planned(config)?, Out::new(Own::NOTHING, bytes, "bytes")?) };
        out.put(required(&planned.blueprint()?.0)?);
        Ok(())
    })
}

/// Makes a trainer in `bytes` bytes of memory, which may begin anywhere and are the trainer's until
/// `nunatak_trainer_release`: until then do not read, write, move or free them. What was in them does not
/// matter. Allocates nothing.
///
/// All weights are zero, unless the config has `weights`. Before the first forward load them
/// (`nunatak_trainer_load`), draw them (`nunatak_trainer_draw_weights`) or set them
/// (`nunatak_trainer_set_tensor`).
///
/// The config's threads, if more than 1, must have been started (`nunatak_threads_start`).
///
/// `NUNATAK_MEMORY_TOO_SMALL`, `NUNATAK_MEMORY_IN_USE`, `NUNATAK_NO_THREADS`, `NUNATAK_TOO_MANY` (at most 256
/// trainers live at once, 16 without the standard library), and what `nunatak_trainer_required_bytes` returns.
/// With `weights` also `NUNATAK_MISALIGNED`, `NUNATAK_BAD_CONFIG` (another network's, only `classes` may
/// differ), `NUNATAK_WRONG_FILE` (a tensor is missing; a new head must be trained), `NUNATAK_NOT_PLANNED` (a
/// delta). After an error the memory is yours; it may have been written to.
///
/// Any thread.
///
/// # Safety
/// `config` as for `nunatak_trainer_required_bytes`; `memory` is NULL, or `bytes` bytes of it can be
/// read and written until the release; `trainer` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_init(
    config: *const nunatak_config,
    memory: *mut core::ffi::c_void,
    bytes: usize,
    trainer: *mut *mut nunatak_trainer,
) -> nunatak_status {
    call(|| {
        check(memory.cast::<u8>(), bytes, "memory")?;
        let start = memory as usize;
        let own = Own { start, end: start + bytes };
        // SAFETY: the caller's promise. Nothing is read or written before the claim says that the
        // memory is nobody's.
        let (planned, out) = unsafe { (planned(config)?, Out::new(own, trainer, "trainer")?) };
        let (blueprint, values) = planned.blueprint()?;
        let needed = required(&blueprint)?;
        if bytes < needed {
            return Err(fail!(NUNATAK_MEMORY_TOO_SMALL, "the memory has {bytes} bytes, {needed} are needed"));
        }
        let threads = threads::of(planned.setup.options.threads)?;
        let claim = Claim::new(own)?;
        // SAFETY: the caller's promise, and it is nobody else's.
        let block = unsafe { slice_mut(Own::NOTHING, memory.cast::<MaybeUninit<u8>>(), bytes, "memory")? };
        let skip = block.as_ptr().align_offset(align_of::<Front>());
        let (front, block) = block[skip..].split_at_mut(size_of::<Front>());
        let front = front.as_mut_ptr().cast::<Front>();
        // So that no number is ever undefined.
        block.fill(MaybeUninit::new(0));
        // SAFETY: just filled. It lives until the release, as long as the trainer that borrows it.
        let block: &'static mut [u8] = unsafe { core::slice::from_raw_parts_mut(block.as_mut_ptr().cast(), block.len()) };
        // SAFETY: `front` is aligned, inside the memory, and apart from the block.
        let (place, watcher) = unsafe { (&raw mut (*front).trainer, &raw mut (*front).watcher) };
        // SAFETY: the watcher is written before it is referred to, and then only read: it has its own
        // cells.
        let watcher: &'static Watcher = unsafe {
            watcher.write(MaybeUninit::new(Watcher::new()));
            &*watcher.cast::<Watcher>()
        };
        let inner = match planned.weights {
            Some(weights) => Trainer::with_weights(blueprint, block, weights, planned.level, threads)?,
            None => Trainer::new(blueprint, block, planned.level, threads)?,
        };
        let ready = planned.weights.is_some();
        let place = place.cast::<nunatak_trainer>();
        // SAFETY: aligned, inside the memory; nobody refers to it.
        unsafe {
            place.write(nunatak_trainer { trainer: inner, values, optimizer: None, rate: 1.0, ready, watcher });
            claim.commit(place);
        }
        out.put(place);
        Ok(())
    })
}

/// Goes on with another config in the same memory: more or less frozen, a head of another size, another
/// batch, evaluation. Weights, statistics and the momentum of what stays trainable survive. Gradients,
/// images, labels and what was computed do not. A head of another size is zero until it is drawn, loaded or
/// set. The optimiser's groups stay with their parameters.
///
/// `NUNATAK_MEMORY_TOO_SMALL`, `NUNATAK_BAD_CONFIG` (another network: only `classes` may differ), and what
/// `nunatak_trainer_required_bytes` returns: then nothing has changed. `threads` must be as many as at the
/// start; the level stays. `weights` are those of the start, or NULL: then what was read in place is copied
/// into the trainer's memory.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `config` as for `nunatak_trainer_required_bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_switch(trainer: *mut nunatak_trainer, config: *const nunatak_config) -> nunatak_status {
    call(|| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let planned = unsafe { planned(config)? };
        if let Some(weights) = &planned.weights
            && t.trainer.weights_file().is_none_or(|own| !core::ptr::eq(own.bytes(), weights.bytes()))
        {
            return Err(fail!(NUNATAK_BAD_CONFIG, "weights are not those that the trainer was made with"));
        }
        let (threads, own) = (planned.setup.options.threads, t.trainer.blueprint().options().threads);
        if threads != own {
            return Err(fail!(NUNATAK_BAD_CONFIG, "threads is {threads}, but the trainer was made with {own}"));
        }
        let (blueprint, values) = planned.blueprint()?;
        t.trainer.switch(blueprint)?;
        t.values = values;
        Ok(())
    })
}

/// Ends a trainer; its memory is the caller's again. Releasing it twice is `NUNATAK_BAD_HANDLE`. A trainer
/// whose call has returned `NUNATAK_PANICKED` can be released too.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_release(trainer: *mut nunatak_trainer) -> nunatak_status {
    call(|| Entered::release(trainer))
}

impl nunatak_trainer {
    fn loss_value(&self) -> Result<nunatak_nn::ValueId, Failure> {
        self.values.loss.ok_or_else(|| fail!(NUNATAK_NOT_PLANNED, "the config has no loss of the library's own"))
    }

    fn forward(&mut self) -> Result<(), Failure> {
        if !self.ready {
            return Err(fail!(NUNATAK_NO_WEIGHTS, "there are no weights yet: load them, draw them or set them"));
        }
        Ok(self.trainer.forward()?)
    }

    pub(crate) fn scaled_optimizer(&self) -> Result<Optimizer, Failure> {
        let optimizer =
            self.optimizer.ok_or_else(|| fail!(NUNATAK_WRONG_ORDER, "there are no settings: call nunatak_trainer_set_sgd first"))?;
        Ok(optimizer.scaled(self.rate)?)
    }
}

/// Computes predictions and, if there is one, the loss; those of before are overwritten. In train mode
/// normalisations move their running statistics. Images and labels must have been set since the last
/// forward: their memory is used again.
///
/// `NUNATAK_WRONG_ORDER` where they were not, `NUNATAK_NO_WEIGHTS`: then nothing has changed.
/// `NUNATAK_LABEL_OUT_OF_RANGE`, `NUNATAK_STOPPED`: statistics may then have moved, and images and labels must
/// be set again.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_forward(trainer: *mut nunatak_trainer) -> nunatak_status {
    call(|| {
        let mut t = Entered::new(trainer)?;
        t.begin(|calls| calls.forward);
        t.forward()
    })
}

/// `loss.backward()`: writes the gradient of every trained parameter, or adds to what is there since
/// the last `nunatak_trainer_zero_grad`, step or switch. Weights do not change.
///
/// `NUNATAK_WRONG_ORDER` without a forward before it (each forward serves one backward),
/// `NUNATAK_NOT_PLANNED` where nothing is trained, where the loss is outside, or with
/// NUNATAK_UPDATE_DURING, `NUNATAK_STOPPED` (all gradients are then forgotten).
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_backward(trainer: *mut nunatak_trainer) -> nunatak_status {
    call(|| {
        let mut t = Entered::new(trainer)?;
        t.loss_value()?;
        t.begin(|calls| calls.backward);
        Ok(t.trainer.backward()?)
    })
}

/// `prediction.backward(gradient)`: the same from the predictions back, with their gradient given, batch
/// x classes floats. For a config whose loss is NUNATAK_LOSS_OUTSIDE; `NUNATAK_NOT_PLANNED` for others.
/// Other errors as for `nunatak_trainer_backward`.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `gradient` is NULL, or `count` floats can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_backward_from(
    trainer: *mut nunatak_trainer,
    gradient: *const f32,
    count: usize,
) -> nunatak_status {
    call(|| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let gradient = unsafe { slice(t.own(), gradient, count, "gradient")? };
        if t.values.loss.is_some() {
            return Err(fail!(NUNATAK_NOT_PLANNED, "the gradient begins at the loss; plan with NUNATAK_LOSS_OUTSIDE"));
        }
        t.begin(|calls| calls.backward);
        Ok(t.trainer.backward_with(gradient)?)
    })
}

/// `optimizer.step()`: updates every parameter that has a gradient, and its momentum, by the settings of
/// `nunatak_trainer_set_sgd`. Gradients stay.
///
/// `NUNATAK_NO_GRADIENT` without gradients; `NUNATAK_WRONG_ORDER` without settings; `NUNATAK_NOT_PLANNED` where
/// settings have a momentum and the config none, or with NUNATAK_UPDATE_DURING. Then nothing has changed.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_update(trainer: *mut nunatak_trainer) -> nunatak_status {
    call(|| {
        let mut t = Entered::new(trainer)?;
        let optimizer = t.scaled_optimizer()?;
        t.begin(|calls| calls.update);
        Ok(t.trainer.step(&optimizer)?)
    })
}

/// A whole step: forward, backward, update, gradients forgotten; `loss` gets the loss before the update.
/// The same numbers with NUNATAK_UPDATE_AFTER and NUNATAK_UPDATE_DURING.
///
/// `NUNATAK_WRONG_ORDER` without settings, images or labels; `NUNATAK_NO_WEIGHTS`; `NUNATAK_NOT_PLANNED` where
/// the config has no loss of the library's own, trains nothing, or has no momentum and the settings have:
/// then nothing has changed. `NUNATAK_LABEL_OUT_OF_RANGE`, `NUNATAK_LOSS_NOT_FINITE` (ask
/// `nunatak_trainer_loss` which it is), `NUNATAK_STOPPED`: then no weight has changed, but statistics may have
/// moved. With NUNATAK_UPDATE_DURING a progress callback can stop the forward walk alone.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `loss` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_step(trainer: *mut nunatak_trainer, loss: *mut f32) -> nunatak_status {
    call(|| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(t.own(), loss, "loss")? };
        let (optimizer, value) = (t.scaled_optimizer()?, t.loss_value()?);
        t.trainer.check_step(&optimizer)?;
        t.begin(|calls| calls.forward + calls.backward + calls.update);
        t.forward()?;
        let loss = t.trainer.finite(value)?;
        t.trainer.backward_and_step(&optimizer)?;
        out.put(loss);
        Ok(())
    })
}

/// `optimizer.zero_grad()`: forgets all gradients. Until the next backward an update has none. No error but
/// those of every call.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_zero_grad(trainer: *mut nunatak_trainer) -> nunatak_status {
    call(|| {
        Entered::new(trainer)?.trainer.zero_grad();
        Ok(())
    })
}

/// PyTorch's `clip_grad_norm_`: scales all gradients so that their common norm is at most `max_norm`;
/// `norm` gets what it was.
///
/// `NUNATAK_NO_GRADIENT` without gradients, `NUNATAK_NOT_PLANNED` with NUNATAK_UPDATE_DURING,
/// `NUNATAK_BAD_SETTING` for a `max_norm` that is negative or NaN.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `norm` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_clip_grad_norm(trainer: *mut nunatak_trainer, max_norm: f32, norm: *mut f32) -> nunatak_status {
    call(|| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(t.own(), norm, "norm")? };
        out.put(t.trainer.clip_grad_norm(max_norm)?);
        Ok(())
    })
}

/// The loss of the last forward, whatever it is, one float. To be read before the next images, labels or
/// targets are set: without a forward it is `NUNATAK_WRONG_ORDER`. `NUNATAK_NOT_PLANNED` where the config has
/// no loss of the library's own.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `loss` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_loss(trainer: *mut nunatak_trainer, loss: *mut f32) -> nunatak_status {
    call(|| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(t.own(), loss, "loss")? };
        out.put(t.trainer.scalar(t.loss_value()?)?);
        Ok(())
    })
}

/// The predictions of the last forward: batch x classes floats, image by image (logits; without a head the
/// features). To be read before the next images, labels or targets are set: without a forward it is
/// `NUNATAK_WRONG_ORDER`.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `out` is NULL, or `count` floats can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_predictions(trainer: *mut nunatak_trainer, out: *mut f32, count: usize) -> nunatak_status {
    call(|| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(t.own(), out, count, "out")? };
        Ok(t.trainer.value(t.values.prediction, out)?)
    })
}

/// The pooled features (embeddings) of the last forward, what `fc` reads: batch x `widths[layers - 1]`
/// floats, image by image. Order and errors as for `nunatak_trainer_predictions`.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `out` is NULL, or `count` floats can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_features(trainer: *mut nunatak_trainer, out: *mut f32, count: usize) -> nunatak_status {
    call(|| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(t.own(), out, count, "out")? };
        Ok(t.trainer.value(t.values.features, out)?)
    })
}

/// Forward and predictions in one call: batch x classes floats. For a config without a loss, or with one
/// whose labels are set too. Errors of `nunatak_trainer_forward`; a wrong `count` is found before it.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `out` is NULL, or `count` floats can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_predict(trainer: *mut nunatak_trainer, out: *mut f32, count: usize) -> nunatak_status {
    call(|| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(t.own(), out, count, "out")? };
        let due = t.trainer.blueprint().tape().node(t.values.prediction).map_err(nunatak_nn::Error::from)?.shape.len();
        if out.len() != due {
            return Err(fail!(NUNATAK_WRONG_LENGTH, "room for predictions: expected {due} numbers, got {count}"));
        }
        t.begin(|calls| calls.forward);
        t.forward()?;
        Ok(t.trainer.value(t.values.prediction, out)?)
    })
}
