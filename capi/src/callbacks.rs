//! Functions of the caller's that are told how a step goes on, and may end it.

use crate::boundary::{call, put_text, slice_mut};
use crate::handles::Entered;
use crate::status::{fail, nunatak_status};
use crate::trainer::nunatak_trainer;
use core::cell::Cell;
use core::ffi::{c_char, c_int, c_void};
use nunatak_nn::step::{CallCounts, Digest, Event, Watch, Written, call_counts, call_name, each_call};
use nunatak_nn::{Program, ValueId};

/// Told after each of the `total` kernel calls of a forward, backward, update or step that `done` are
/// done, by the thread that called or one that it waits for. Anything but 0 asks to stop. It may call the library,
/// but not for this trainer, which is busy.
///
/// It must return. Left by longjmp, in a trainer of one thread, the trainer stays busy for good: end it by
/// `nunatak_trainer_forget`; with more threads the program is lost. A C++ exception that leaves it ends the
/// program; `nunatak.hpp` carries them past the library.
pub type nunatak_progress_callback = Option<extern "C" fn(user: *mut c_void, done: usize, total: usize) -> c_int>;

/// A clock: any unit, may wrap around.
pub type nunatak_clock_callback = Option<extern "C" fn(user: *mut c_void) -> u64>;

/// Told how many ticks a kernel call took: what it was (a `nunatak_call`) and its number, for
/// `nunatak_trainer_call_name`. As for progress, but it can't stop.
pub type nunatak_tick_callback = Option<extern "C" fn(user: *mut c_void, kind: u32, number: usize, ticks: u64)>;

/// Told what a kernel call wrote: what it was (a `nunatak_call`) and its number, for `nunatak_trainer_call_name`; a
/// hash of the bits; the sum of the numbers and of their absolute values, for machines that round otherwise. The
/// numbers are the result of a forward call and its running statistics, the gradients of a backward call, the parameter
/// and momentum of an update, as they lie in memory. As for progress, but it can't stop.
pub type nunatak_digest_callback = Option<extern "C" fn(user: *mut c_void, kind: u32, number: usize, hash: u32, sum: f32, magnitude: f32)>;

/// Kinds of kernel calls.
#[repr(u32)]
pub enum nunatak_call {
    /// An input is copied in.
    NUNATAK_CALL_INPUT = 0,
    /// An operation's result.
    NUNATAK_CALL_FORWARD = 1,
    /// The gradients of an operation's parameters.
    NUNATAK_CALL_BACKWARD_WEIGHT = 2,
    /// The gradients of an operation's inputs.
    NUNATAK_CALL_BACKWARD_INPUT = 3,
    /// The update of a parameter.
    NUNATAK_CALL_UPDATE = 4,
    /// The gradient of an operation's weight, its update and the input's gradient, in one pass over the weight.
    NUNATAK_CALL_BACKWARD_STEP = 5,
    /// The gradient of a parameter is added to its momentum.
    NUNATAK_CALL_SUM = 6,
    /// An operation's result, computed again in the backward walk because it was not kept.
    NUNATAK_CALL_FORWARD_AGAIN = 7,
}

type Progress = extern "C" fn(*mut c_void, usize, usize) -> c_int;
type Clock = extern "C" fn(*mut c_void) -> u64;
type Tick = extern "C" fn(*mut c_void, u32, usize, u64);
type TakeDigest = fn(&Written) -> Digest;
type Wrote = extern "C" fn(*mut c_void, u32, usize, u32, f32, f32);

/// What a trainer's steps are reported to.
pub(crate) struct Watcher {
    progress: Cell<Option<(Progress, *mut c_void)>>,
    ticks: Cell<Option<(Clock, Tick, *mut c_void)>>,
    /// Who is told, and how a digest is taken: a function, so that programs which ask for none need not have it.
    digests: Cell<Option<(Wrote, *mut c_void, TakeDigest)>>,
    done: Cell<usize>,
    total: Cell<usize>,
    stop: Cell<bool>,
}

// SAFETY: the cells are used by the one call that has entered the trainer. Reports come one after the
// other, from the thread that called or from one that it waits for.
unsafe impl Sync for Watcher {}

impl Watcher {
    pub(crate) const fn new() -> Watcher {
        Watcher {
            progress: Cell::new(None),
            ticks: Cell::new(None),
            digests: Cell::new(None),
            done: Cell::new(0),
            total: Cell::new(0),
            stop: Cell::new(false),
        }
    }

    /// A call from C begins, of so many kernel calls.
    fn begin(&self, total: usize) {
        self.done.set(0);
        self.total.set(total);
        self.stop.set(false);
    }

    fn wanted(&self) -> bool {
        self.progress.get().is_some() || self.ticks.get().is_some() || self.digests.get().is_some()
    }
}

/// What C is told of a call.
fn numbers(event: Event) -> (nunatak_call, usize) {
    match event {
        Event::Input(v) => (nunatak_call::NUNATAK_CALL_INPUT, v.index()),
        Event::Forward(v) => (nunatak_call::NUNATAK_CALL_FORWARD, v.index()),
        Event::Again(v) => (nunatak_call::NUNATAK_CALL_FORWARD_AGAIN, v.index()),
        Event::BackwardWeight(v) => (nunatak_call::NUNATAK_CALL_BACKWARD_WEIGHT, v.index()),
        Event::BackwardInput(v) => (nunatak_call::NUNATAK_CALL_BACKWARD_INPUT, v.index()),
        Event::BackwardStep(v) => (nunatak_call::NUNATAK_CALL_BACKWARD_STEP, v.index()),
        Event::Update(id) => (nunatak_call::NUNATAK_CALL_UPDATE, id.index()),
        Event::Sum(id) => (nunatak_call::NUNATAK_CALL_SUM, id.index()),
    }
}

impl Watch for Watcher {
    fn now(&self) -> u64 {
        self.ticks.get().map_or(0, |(clock, _, user)| clock(user))
    }

    fn called(&self, event: Event, ticks: u64) {
        let (kind, number) = numbers(event);
        if let Some((_, report, user)) = self.ticks.get() {
            report(user, kind as u32, number, ticks);
        }
        if let (Some((progress, user)), false) = (self.progress.get(), matches!(event, Event::Input(_))) {
            self.done.set(self.done.get() + 1);
            if progress(user, self.done.get(), self.total.get()) != 0 {
                self.stop.set(true);
            }
        }
    }

    fn wrote(&self, event: Event, written: &Written) {
        if let Some((report, user, take)) = self.digests.get() {
            let ((kind, number), digest) = (numbers(event), take(written));
            report(user, kind as u32, number, digest.hash, digest.sum, digest.magnitude);
        }
    }

    fn stop(&self) -> bool {
        self.stop.get()
    }
}

impl nunatak_trainer {
    /// A call from C begins: how many kernel calls it makes is told by `parts`.
    pub(crate) fn begin(&self, parts: impl FnOnce(CallCounts) -> usize) {
        if self.watcher.wanted() {
            self.watcher.begin(parts(call_counts(self.trainer.program())));
        }
    }

    fn watch(&mut self) {
        let watcher = self.watcher;
        self.trainer.watch(watcher.wanted().then_some(watcher as &dyn Watch));
    }
}

/// The call of a kind and number, if the program makes it.
fn event_of(program: &Program, kind: u32, number: u32) -> Option<Event> {
    let mut found = None;
    let mut find = |event: Event| {
        let (of, at) = numbers(event);
        if (of as u32, at) == (kind, number as usize) {
            found = Some(event);
        }
    };
    each_call(program, &mut find);
    program.values().for_each(|value| find(Event::Input(ValueId(value.node()))));
    found
}

/// Sets who is told of progress; a NULL callback ends it. `user` is handed to every call; it may be NULL.
///
/// A stop is `NUNATAK_STOPPED`. In a forward nothing has changed; in a backward all gradients are forgotten; no
/// weight has changed. An update, and a backward walk that updates, are not stopped halfway. No error but those of every call.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_on_progress(
    trainer: *mut nunatak_trainer,
    callback: nunatak_progress_callback,
    user: *mut c_void,
) -> nunatak_status {
    call(|_| {
        let mut t = Entered::new(trainer)?;
        t.watcher.progress.set(callback.map(|callback| (callback, user)));
        t.watch();
        Ok(())
    })
}

/// Sets who is told how long each kernel call took, and the clock; both NULL end it, one alone is
/// `NUNATAK_NULL_POINTER`. `user` is handed to every call. Without a callback no clock is read.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_on_tick(
    trainer: *mut nunatak_trainer,
    clock: nunatak_clock_callback,
    callback: nunatak_tick_callback,
    user: *mut c_void,
) -> nunatak_status {
    call(|_| {
        let mut t = Entered::new(trainer)?;
        let ticks = match (clock, callback) {
            (Some(clock), Some(callback)) => Some((clock, callback, user)),
            (None, None) => None,
            (None, _) => return Err(fail!(NUNATAK_NULL_POINTER, "clock is NULL, callback is not")),
            (_, None) => return Err(fail!(NUNATAK_NULL_POINTER, "callback is NULL, clock is not")),
        };
        t.watcher.ticks.set(ticks);
        t.watch();
        Ok(())
    })
}

/// Sets who is told what each kernel call wrote; a NULL callback ends it. `user` is handed to every call. It is for
/// comparing a board with another machine call by call: digests take some additions for every number. No error but
/// those of every call.
///
/// Any thread, one call at a time on a trainer.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_trainer_on_digest(
    trainer: *mut nunatak_trainer,
    callback: nunatak_digest_callback,
    user: *mut c_void,
) -> nunatak_status {
    call(|_| {
        let mut t = Entered::new(trainer)?;
        let take: TakeDigest = |written| written.digest();
        t.watcher.digests.set(callback.map(|callback| (callback, user, take)));
        t.watch();
        Ok(())
    })
}

/// What a kernel call works on: "layer1.0.conv1", "relu#3", of an update "fc.weight". `kind` and `number`
/// are what a tick callback was told under the present config. NUNATAK_NAME_BYTES bytes are always enough.
///
/// `NUNATAK_UNKNOWN_NAME` where there is no such call, `NUNATAK_BUFFER_TOO_SMALL`.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `name` is NULL, or `bytes` bytes can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_call_name(
    trainer: *const nunatak_trainer,
    kind: u32,
    number: usize,
    name: *mut c_char,
    bytes: usize,
) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(args, name.cast::<u8>(), bytes, "name")? };
        let program = t.trainer.program();
        let known = u32::try_from(number).ok().and_then(|number| event_of(program, kind, number));
        let known = known.ok_or_else(|| fail!(NUNATAK_UNKNOWN_NAME, "there is no call of kind {kind} with number {number}"))?;
        put_text(call_name(program, known), out, "the name")
    })
}
