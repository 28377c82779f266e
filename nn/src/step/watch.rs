//! Looking on while a step runs: which call took how long, with a clock of the caller's own.
//!
//! Nothing here needs an operating system: on a bare board the clock is a cycle counter. Without a
//! watcher the walks ask one `Option` per call and read no clock.
//!
//! ```
//! # use nunatak_nn::step::{Event, Watch};
//! # use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! /// Counts how many ticks all forward calls took.
//! struct Forward(AtomicU64);
//!
//! impl Watch for Forward {
//!     fn now(&self) -> u64 {
//!         0 // a cycle counter
//!     }
//!     fn called(&self, event: Event, ticks: u64) {
//!         if let Event::Forward(_) = event {
//!             self.0.fetch_add(ticks, Relaxed);
//!         }
//!     }
//! }
//! ```

use crate::Error;
use crate::step::{Trainer, Written};
use nunatak_core::tape::{EntryId, ValueId};

/// Something that a step did, and at what: a value stands for the operation that makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An input was copied in.
    Input(ValueId),
    /// The value was computed.
    Forward(ValueId),
    /// The value was computed again, in the backward walk, because it was not kept.
    Again(ValueId),
    /// The gradients of the operation's parameters were computed.
    BackwardWeight(ValueId),
    /// The gradients of the operation's inputs were computed. A normalisation's sums count here where
    /// its parameters are frozen, else with the parameters.
    BackwardInput(ValueId),
    /// The gradient of the operation's weight, its update and the input's gradient (where there is one)
    /// were computed in one pass over the weight.
    BackwardStep(ValueId),
    /// The parameter's gradient was added to its momentum: one of several micro-batches.
    Sum(EntryId),
    /// The parameter was updated.
    Update(EntryId),
}

impl Event {
    /// What is done: input, forward, forward_again, backward_weight, backward_input, backward_step, sum or update.
    pub const fn pass(self) -> &'static str {
        match self {
            Event::Input(_) => "input",
            Event::Forward(_) => "forward",
            Event::Again(_) => "forward_again",
            Event::BackwardWeight(_) => "backward_weight",
            Event::BackwardInput(_) => "backward_input",
            Event::BackwardStep(_) => "backward_step",
            Event::Sum(_) => "sum",
            Event::Update(_) => "update",
        }
    }
}

/// The watcher of a step. Calls come one after the other, from the thread that walks.
pub trait Watch: Sync {
    /// The time in ticks of any length; it may wrap around.
    fn now(&self) -> u64;
    /// `event` took so many ticks.
    fn called(&self, event: Event, ticks: u64);
    /// `event` has written numbers, of which a digest can be taken. It comes before [`Watch::called`] of the same event,
    /// whose ticks do not have the time that this takes. Inputs are not told.
    fn wrote(&self, _event: Event, _written: &Written) {}
    /// Whether the walk is to end here with [`Error::Stopped`]; asked after each operation, but never
    /// while weights change.
    fn stop(&self) -> bool {
        false
    }
}

/// The watcher, if there is one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Watcher<'m>(pub(crate) Option<&'m dyn Watch>);

impl Watcher<'_> {
    /// [`Error::Stopped`] where the watcher asks to stop.
    pub(crate) fn go_on(self) -> Result<(), Error> {
        if self.0.is_some_and(|watch| watch.stop()) { Err(Error::Stopped) } else { Ok(()) }
    }

    /// The time, where there is a watcher.
    pub(crate) fn now(self) -> u64 {
        self.0.map_or(0, Watch::now)
    }

    /// Reports what began at `start`; what follows begins at the time returned.
    pub(crate) fn called(self, event: Event, start: u64) -> u64 {
        self.called_and(event, start, || ())
    }

    /// The same; what is done with the result before it is reported takes no ticks.
    pub(crate) fn called_and(self, event: Event, start: u64, before: impl FnOnce()) -> u64 {
        let Some(watch) = self.0 else { return 0 };
        let ticks = watch.now().wrapping_sub(start);
        before();
        watch.called(event, ticks);
        watch.now()
    }
}

impl<'m> Trainer<'m> {
    /// Has every call of the steps that follow reported to `watch`; `None` ends it.
    pub fn watch(&mut self, watch: Option<&'m dyn Watch>) {
        self.watch = Watcher(watch);
    }
}
