//! The trainer: made in the caller's memory, stepped, asked, released.

use crate::boundary::{Out, Span, call, slice, slice_mut, text};
use crate::callbacks::Watcher;
use crate::config::nunatak_config;
use crate::handles::{self, Entered};
use crate::memory::{Memory, Parts, check_room, make, nunatak_region, required};
use crate::optimizer::Settings;
use crate::plan::{Planned, planned};
use crate::status::{Failure, fail, nunatak_status};
use core::ffi::c_char;
use nunatak_nn::record::in_scope;
use nunatak_nn::{Error, NewClass, Program, Trainer, ValueId};

/// A network with a step that can be repeated, in the caller's memory. A pointer to it is a handle: it points
/// somewhere into that memory, but there is nothing to be read. It is none any more once the trainer is released,
/// also where the memory has another trainer by then: each gets another place.
pub struct nunatak_trainer {
    pub(crate) trainer: Trainer<'static>,
    pub(crate) values: Values,
    pub(crate) settings: Settings,
    pub(crate) threads: usize,
    /// Weights were loaded, drawn or set.
    pub(crate) ready: bool,
    /// The head's were, or there is no head.
    pub(crate) headed: bool,
    pub(crate) watcher: &'static Watcher,
}

/// The values that a program names.
#[derive(Clone, Copy)]
pub(crate) struct Values {
    pub(crate) data: Option<ValueId>,
    pub(crate) labels: Option<ValueId>,
    features: Option<ValueId>,
    prediction: Option<ValueId>,
    loss: Option<ValueId>,
}

impl Values {
    pub(crate) fn of(program: &Program) -> Values {
        let named = |name: &str| program.values().find(|value| value.name() == name).map(|value| ValueId(value.node()));
        let prediction = named("prediction");
        // Without a head the prediction is the features: one value, one name.
        let headless = prediction.filter(|_| program.head().is_empty());
        Values { data: named("data"), labels: named("labels"), features: named("features").or(headless), prediction, loss: named("loss") }
    }
}

impl Entered {
    /// Whether another program of the same network fits the memory, where that is one piece.
    fn check_room(&self, program: &Program) -> Result<(), Failure> {
        let same = program.entry_count() == self.trainer.program().entry_count() && program.region_count() == 1;
        match self.memory_bytes().filter(|_| same) {
            Some(bytes) => check_room(program, 0, bytes),
            None => Ok(()),
        }
    }

    /// Goes on with another program.
    pub(crate) fn switch(&mut self, program: Program<'static>) -> Result<(), Failure> {
        let values = Values::of(&program);
        self.check_room(&program)?;
        let head = |program: &Program| {
            let mut shapes = program.entries().map(|id| program.entry(id)).filter(|entry| in_scope(entry.name(), program.head()));
            shapes.next().map(|entry| entry.shape())
        };
        let before = head(self.trainer.program());
        self.trainer.switch(program)?;
        self.headed &= before == head(self.trainer.program());
        self.values = values;
        self.keeps(Span::of(self.trainer.program().bytes()));
        Ok(())
    }

    /// Goes on with a program of more classes.
    pub(crate) fn add_class(&mut self, program: Program<'static>, begins: NewClass) -> Result<(), Failure> {
        if !(self.ready && self.headed) {
            return Err(fail!(NUNATAK_NO_WEIGHTS, "the head has no weights yet, so there is none to add a class to: load, draw or set it"));
        }
        let values = Values::of(&program);
        self.check_room(&program)?;
        self.trainer.add_class(program, begins)?;
        self.values = values;
        self.keeps(Span::of(self.trainer.program().bytes()));
        Ok(())
    }

    /// Whether a config may take over: its weights and threads are those that the trainer was made with.
    pub(crate) fn check_config(&self, planned: &Planned) -> Result<(), Failure> {
        if let Some(weights) = planned.weights()
            && self.trainer.weights_file().is_none_or(|own| !core::ptr::eq(own.bytes(), weights.bytes()))
        {
            return Err(fail!(NUNATAK_BAD_CONFIG, "weights are not those that the trainer was made with"));
        }
        let (threads, own) = (planned.threads(), self.threads);
        if threads != own {
            return Err(fail!(NUNATAK_BAD_CONFIG, "threads is {threads}, but the trainer was made with {own}"));
        }
        Ok(())
    }

    /// The program of a config that takes over: what lies in the block may have been trained there, and stays.
    pub(crate) fn next_program(&self, planned: &Planned) -> Result<Program<'static>, Failure> {
        let (inner, old) = (&self.trainer, self.trainer.program());
        planned.program(&|name| inner.entry_named(name).is_ok_and(|id| !old.entry(id).is_borrowed()))
    }
}

/// How many bytes `nunatak_trainer_init` needs for this config: one byte less is an error. A trainer
/// that will be switched between configs needs the most that one of them does.
///
/// `NUNATAK_BAD_CONFIG` with the number that can't be, also where the sizes do not fit the address space or
/// a normalisation would train on one value per channel; `NUNATAK_UNKNOWN_NAME` for `trainable`;
/// `NUNATAK_UNSUPPORTED` for a `level` that this processor has not got, and in a library without the standard
/// library, which can't plan: see `nunatak_trainer_init_program`. With `weights` also `NUNATAK_BAD_FILE`,
/// `NUNATAK_BAD_CONFIG` (another network's, only `classes` may differ), `NUNATAK_WRONG_FILE` (a tensor is
/// missing), `NUNATAK_NOT_PLANNED` (a delta). `NUNATAK_MEMORY_TOO_SMALL` where no plan keeps `max_bytes`: its numbers
/// are the least that was found, and what was asked for.
///
/// The config is planned on the heap, which is free again afterwards. Any thread.
///
/// # Safety
/// `config` is NULL or can be read, and its texts are NULL or end with a zero; `bytes` is NULL or can
/// be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_required_bytes(config: *const nunatak_config, bytes: *mut usize) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (out, planned) = unsafe { (Out::new(args, bytes, "bytes")?, planned(args, config)?) };
        out.put(required(&planned.program(&|_| false)?, 0)?);
        Ok(())
    })
}

/// Makes a trainer in `bytes` bytes of memory, which may begin anywhere and are the trainer's until
/// `nunatak_trainer_release`: until then do not read, write, move or free them. What was in them does not
/// matter. The config is planned on the heap; the program that comes of it (some 10 to 100 kB) stays there until
/// the release. Steps allocate nothing. `nunatak_trainer_init_program` does without a heap.
///
/// All weights are zero, unless the config has `weights`. Before the first forward load them
/// (`nunatak_trainer_load`), draw them (`nunatak_trainer_draw_weights`) or set them
/// (`nunatak_trainer_set_tensor`).
///
/// The config's threads, if more than 1, must have been started (`nunatak_threads_start`).
///
/// `NUNATAK_MEMORY_TOO_SMALL`, `NUNATAK_MEMORY_IN_USE`, `NUNATAK_NO_THREADS`, `NUNATAK_TOO_MANY` (at most 256
/// trainers live at once, 16 without the standard library), and what `nunatak_trainer_required_bytes` returns.
/// With `weights` also `NUNATAK_MISALIGNED`. After an error the memory is yours; it may have been written to.
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
    call(|args| {
        let region = [nunatak_region { memory, bytes }];
        let memory = Memory::of(args, &region)?;
        // SAFETY: the caller's promise. Nothing is written before the claim says that the memory is nobody's.
        let (out, planned) = unsafe { (Out::new(args, trainer, "trainer")?, planned(args, config)?) };
        let program = planned.program(&|_| false)?;
        let parts = Parts { program, weights: planned.weights(), level: planned.level(), threads: planned.threads() };
        // SAFETY: the caller's promise.
        out.put(unsafe { make(parts, memory)? });
        Ok(())
    })
}

/// Goes on with another config in the same memory: more or less frozen, a head of another size, another
/// batch, evaluation. Weights, statistics and the momentum of what stays trainable survive. Gradients,
/// images, labels and what was computed do not. A head of another size has no weights until it is drawn, loaded or
/// set: until then a forward is NUNATAK_NO_WEIGHTS; `nunatak_trainer_add_class` keeps the classes that it has. The
/// optimiser's groups stay with their parameters.
///
/// `NUNATAK_MEMORY_TOO_SMALL`, `NUNATAK_BAD_CONFIG` (another network: only `classes` may differ), and what
/// `nunatak_trainer_required_bytes` returns: then nothing has changed. `threads` must be as many as at the
/// start; the level stays. `weights` are those of the start, or NULL: then what was read in place is copied
/// into the trainer's memory. The heap is used as by `nunatak_trainer_init`.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `config` as for `nunatak_trainer_required_bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_switch(trainer: *mut nunatak_trainer, config: *const nunatak_config) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let planned = unsafe { planned(args, config)? };
        t.check_config(&planned)?;
        let program = t.next_program(&planned)?;
        t.switch(program)
    })
}

/// Ends a trainer; its memory is the caller's again. Releasing it twice is `NUNATAK_BAD_HANDLE`. A trainer
/// whose call has returned `NUNATAK_PANICKED` can be released too.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_release(trainer: *mut nunatak_trainer) -> nunatak_status {
    call(|_| Entered::release(trainer))
}

/// Forgets the trainer whose memory has this address, where it can't be released any more: the memory was freed,
/// or belongs to somebody else by now; or a call on it never returned, since a callback left it by longjmp.
/// Nothing is read or written there, so `memory` may point to what is gone; the first address that was handed over
/// will do. Then the memory can be used for another trainer, and the handle is none any more. What the trainer had
/// on the heap (a planned program) and its hold on threads are lost.
///
/// `NUNATAK_BAD_HANDLE` where no trainer's memory has this address. No call on that trainer may be running. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_forget(memory: *const core::ffi::c_void) -> nunatak_status {
    call(|_| match handles::forget(memory.addr()) {
        0 => Err(fail!(NUNATAK_BAD_HANDLE, "no trainer that lives has memory at {memory:p}")),
        _ => Ok(()),
    })
}

impl nunatak_trainer {
    fn loss_value(&self) -> Result<ValueId, Failure> {
        self.values.loss.ok_or_else(|| fail!(NUNATAK_NOT_PLANNED, "the config has no loss of the library's own"))
    }

    fn prediction(&self) -> Result<ValueId, Failure> {
        self.values.prediction.ok_or_else(|| fail!(NUNATAK_NOT_PLANNED, "the program has no value with the name \"prediction\""))
    }

    pub(crate) fn features(&self) -> Result<ValueId, Failure> {
        self.values.features.ok_or_else(|| fail!(NUNATAK_NOT_PLANNED, "the program has no value with the name \"features\""))
    }

    fn forward(&mut self) -> Result<(), Failure> {
        if !self.ready {
            return Err(fail!(NUNATAK_NO_WEIGHTS, "there are no weights yet: load them, draw them or set them"));
        }
        if !self.headed {
            return Err(fail!(
                NUNATAK_NO_WEIGHTS,
                "the head \"{}\" has no weights yet: draw it (nunatak_trainer_draw_head), load it (NUNATAK_HEAD_LOAD) or set it",
                self.trainer.program().head()
            ));
        }
        Ok(self.trainer.forward()?)
    }
}

/// Computes predictions and, if there is one, the loss; those of before are overwritten. In train mode
/// normalisations move their running statistics, but not where the loss (or, for NUNATAK_LOSS_OUTSIDE, a
/// prediction) is not finite: it can be read then, and no backward follows it. Images and labels must have been set
/// since the last forward: their memory is used again.
///
/// `NUNATAK_WRONG_ORDER` where they were not, `NUNATAK_NO_WEIGHTS`, `NUNATAK_LABEL_OUT_OF_RANGE`,
/// `NUNATAK_NOT_FINITE` (running statistics would become NaN or infinite), `NUNATAK_STOPPED`: then nothing has
/// changed, but after the last three images and labels must be set again.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_forward(trainer: *mut nunatak_trainer) -> nunatak_status {
    call(|_| {
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
/// NUNATAK_UPDATE_DURING, `NUNATAK_LOSS_NOT_FINITE` after a forward whose loss was not, `NUNATAK_STOPPED` (all
/// gradients are then forgotten).
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_backward(trainer: *mut nunatak_trainer) -> nunatak_status {
    call(|_| {
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
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let gradient = unsafe { slice(args, gradient, count, "gradient")? };
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
/// settings have a momentum and the config none, or with NUNATAK_UPDATE_DURING; `NUNATAK_BAD_SETTING` where a
/// learning rate times the factor of `nunatak_trainer_set_rate` is not finite; `NUNATAK_NOT_FINITE` where a gradient
/// is not, and the text names it. Then nothing has changed.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_update(trainer: *mut nunatak_trainer) -> nunatak_status {
    call(|_| {
        let mut t = Entered::new(trainer)?;
        t.begin(|calls| calls.update);
        let nunatak_trainer { trainer, settings, .. } = &mut *t;
        Ok(trainer.step(settings.optimizer()?)?)
    })
}

/// One of several micro-batches that make a step: forward, backward with the gradient `share` of the loss, and what
/// comes of it is added to that of the micro-batches before. Then `nunatak_trainer_update` updates, and the next call of
/// this function begins anew. `loss` gets the loss of this micro-batch. With n micro-batches of equal size the share is
/// 1.0f / n: what PyTorch's loop `(loss / n).backward()` does. So a board need not hold a whole batch. Batch
/// normalisation sees micro-batches, as there.
///
/// `NUNATAK_NOT_PLANNED` with NUNATAK_UPDATE_DURING; `NUNATAK_BAD_SETTING` for a share that is not finite; other errors
/// as for `nunatak_trainer_step`, but for a gradient that is not finite: with NUNATAK_UPDATE_AFTER
/// `nunatak_trainer_update` finds it. After `NUNATAK_NOT_FINITE` call `nunatak_trainer_zero_grad` and begin the step anew;
/// with NUNATAK_UPDATE_SUMMED this also forgets the momenta that it had reached.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `loss` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_accumulate(trainer: *mut nunatak_trainer, share: f32, loss: *mut f32) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(args, loss, "loss")? };
        if !share.is_finite() {
            return Err(fail!(NUNATAK_BAD_SETTING, "share is {share}, but must be a finite number"));
        }
        let optimizer = t.settings.optimizer()?;
        let value = t.loss_value()?;
        t.trainer.check_step(optimizer)?;
        if t.trainer.updates_during() {
            return Err(Error::UpdateIsDuring.into());
        }
        t.begin(|calls| calls.forward + calls.backward);
        t.forward()?;
        let loss = t.trainer.finite(value)?;
        let nunatak_trainer { trainer, settings, .. } = &mut *t;
        trainer.accumulate(share, settings.optimizer()?)?;
        out.put(loss);
        Ok(())
    })
}

/// A whole step: forward, backward, update, gradients forgotten; `loss` gets the loss before the update.
/// The same numbers with NUNATAK_UPDATE_AFTER and NUNATAK_UPDATE_DURING.
///
/// `NUNATAK_WRONG_ORDER` without settings, images or labels; `NUNATAK_NO_WEIGHTS`; `NUNATAK_NOT_PLANNED` where
/// the config has no loss of the library's own, trains nothing, or has no momentum and the settings have;
/// `NUNATAK_BAD_SETTING` where a learning rate times the factor of `nunatak_trainer_set_rate` is not finite: then
/// nothing has changed, and images and labels are still set. `NUNATAK_LABEL_OUT_OF_RANGE`,
/// `NUNATAK_LOSS_NOT_FINITE` (ask `nunatak_trainer_loss` which it is): nothing has changed, but images and labels
/// must be set again. `NUNATAK_STOPPED` likewise, but for statistics where the backward walk was stopped; with
/// NUNATAK_UPDATE_DURING a progress callback can stop the forward walk alone.
///
/// `NUNATAK_NOT_FINITE` where a gradient, or running statistics, are NaN or infinite; the text names them. Nothing
/// has changed, but gradients are forgotten, and with NUNATAK_UPDATE_SUMMED the momenta that they had reached. With
/// NUNATAK_UPDATE_DURING parameters may have been updated before it
/// was found: the text names them, and `nunatak_trainer_was_updated` tells of each. Load the last good state then.
/// (There, numbers above 4e9 in a layer's input or in the gradient of its output are refused too where weight and
/// gradient are gone through once: the gradient lies nowhere, and might not be finite.)
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `loss` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_step(trainer: *mut nunatak_trainer, loss: *mut f32) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(args, loss, "loss")? };
        let optimizer = t.settings.optimizer()?;
        let value = t.loss_value()?;
        t.trainer.check_step(optimizer)?;
        t.begin(|calls| calls.forward + calls.backward + calls.update);
        t.forward()?;
        let loss = t.trainer.finite(value)?;
        let nunatak_trainer { trainer, settings, .. } = &mut *t;
        match trainer.backward_and_step(settings.optimizer()?) {
            Err(Error::GradientNotFinite { name, updated }) if updated > 0 => {
                let updated = Updated(trainer);
                Err(fail!(NUNATAK_NOT_FINITE, "the gradient of {name} is not finite; updated before it was found:{updated}"))
            }
            result => {
                result?;
                out.put(loss);
                Ok(())
            }
        }
    })
}

/// The names of what was updated during the last walk.
struct Updated<'a>(&'a Trainer<'static>);

impl core::fmt::Display for Updated<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        self.0.updated().try_for_each(|id| write!(f, " {}", self.0.program().entry(id).name()))
    }
}

/// Whether a parameter was updated by the last `nunatak_trainer_step` of a config with NUNATAK_UPDATE_DURING, also
/// where it ended with an error: `updated` gets 1 or 0. `NUNATAK_UNKNOWN_NAME` for what is no parameter;
/// `NUNATAK_NOT_PLANNED` with NUNATAK_UPDATE_AFTER, where a step updates all or nothing.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL or ends with a zero; `updated` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_was_updated(
    trainer: *const nunatak_trainer,
    name: *const c_char,
    updated: *mut u32,
) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let (name, out) = unsafe { (text(args, name, "name")?, Out::new(args, updated, "updated")?) };
        let id = t.param_of(name)?;
        if !t.trainer.updates_during() {
            return Err(fail!(NUNATAK_NOT_PLANNED, "this config updates after the walk: a step updates every parameter, or none"));
        }
        out.put(t.trainer.updated().any(|updated| updated == id).into());
        Ok(())
    })
}

/// `optimizer.zero_grad()`: forgets all gradients. Until the next backward an update has none. No error but
/// those of every call.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_zero_grad(trainer: *mut nunatak_trainer) -> nunatak_status {
    call(|_| {
        Entered::new(trainer)?.trainer.zero_grad();
        Ok(())
    })
}

/// PyTorch's `clip_grad_norm_`: scales all gradients so that their common norm is at most `max_norm`;
/// `norm` gets what it was.
///
/// `NUNATAK_NO_GRADIENT` without gradients, `NUNATAK_NOT_PLANNED` with NUNATAK_UPDATE_DURING,
/// `NUNATAK_BAD_SETTING` for a `max_norm` that is negative or NaN, `NUNATAK_NOT_FINITE` where a gradient is not
/// finite; then nothing has changed.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `norm` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_clip_grad_norm(trainer: *mut nunatak_trainer, max_norm: f32, norm: *mut f32) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(args, norm, "norm")? };
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
pub unsafe extern "C" fn nunatak_trainer_loss(trainer: *const nunatak_trainer, loss: *mut f32) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(args, loss, "loss")? };
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
pub unsafe extern "C" fn nunatak_trainer_predictions(trainer: *const nunatak_trainer, out: *mut f32, count: usize) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(args, out, count, "out")? };
        Ok(t.trainer.value(t.prediction()?, out)?)
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
pub unsafe extern "C" fn nunatak_trainer_features(trainer: *const nunatak_trainer, out: *mut f32, count: usize) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(args, out, count, "out")? };
        Ok(t.trainer.value(t.features()?, out)?)
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
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(args, out, count, "out")? };
        let prediction = t.prediction()?;
        let due = t.trainer.program().value_of_node(prediction.0).map_or(0, |(_, value)| value.place().len());
        if out.len() != due {
            return Err(fail!(NUNATAK_WRONG_LENGTH, "room for predictions: expected {due} numbers, got {count}").numbers(due, count));
        }
        t.begin(|calls| calls.forward);
        t.forward()?;
        Ok(t.trainer.value(prediction, out)?)
    })
}
