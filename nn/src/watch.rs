//! Looking on while a step runs: which kernel call took how long, with a clock of the caller's own.
//!
//! Nothing here needs an operating system: on a bare board the clock is a cycle counter. Without a
//! watcher the walks ask one `Option` per call and read no clock.
//!
//! ```
//! # use nunatak_nn::{Call, Watch};
//! # use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! /// Counts how many ticks all forward calls took.
//! struct Forward(AtomicU64);
//!
//! impl Watch for Forward {
//!     fn now(&self) -> u64 {
//!         0 // a cycle counter
//!     }
//!     fn called(&self, call: Call, ticks: u64) {
//!         if let Call::Forward(_) = call {
//!             self.0.fetch_add(ticks, Relaxed);
//!         }
//!     }
//! }
//! ```

use crate::Error;
use crate::trainer::Trainer;
use nunatak_core::{ParamId, ValueId};

/// Something that a step did, and at what: a value stands for the operation that makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// An input was copied in.
    Input(ValueId),
    /// The value was computed.
    Forward(ValueId),
    /// The gradients of the operation's parameters were computed.
    BackwardWeight(ValueId),
    /// The gradients of the operation's inputs were computed. A normalisation's sums count here where
    /// its parameters are frozen, else with the parameters.
    BackwardInput(ValueId),
    /// The gradient of the operation's weight, its update and the input's gradient (where there is one)
    /// were computed in one pass over the weight.
    BackwardStep(ValueId),
    /// The parameter was updated.
    Update(ParamId),
}

impl Call {
    /// What is done: input, forward, backward_weight, backward_input, backward_step or update.
    pub const fn pass(self) -> &'static str {
        match self {
            Call::Input(_) => "input",
            Call::Forward(_) => "forward",
            Call::BackwardWeight(_) => "backward_weight",
            Call::BackwardInput(_) => "backward_input",
            Call::BackwardStep(_) => "backward_step",
            Call::Update(_) => "update",
        }
    }
}

/// Who looks on. Calls come one after the other, from the thread that walks.
pub trait Watch: Sync {
    /// The time in ticks of any length; it may wrap around.
    fn now(&self) -> u64;
    /// `call` took so many ticks.
    fn called(&self, call: Call, ticks: u64);
    /// Whether the walk is to end here with [`Error::Stopped`]; asked after each operation, but never
    /// while weights change.
    fn stop(&self) -> bool {
        false
    }
}

impl<'m> Trainer<'m> {
    /// Has every call of the steps that follow reported to `watch`; `None` ends it.
    pub fn watch(&mut self, watch: Option<&'m dyn Watch>) {
        self.watch = watch;
    }

    /// [`Error::Stopped`] where whoever looks on has seen enough.
    pub(crate) fn go_on(&self) -> Result<(), Error> {
        if self.watch.is_some_and(|watch| watch.stop()) { Err(Error::Stopped) } else { Ok(()) }
    }

    /// The time, where somebody looks on.
    pub(crate) fn now(&self) -> u64 {
        self.watch.map_or(0, Watch::now)
    }

    /// Reports a call that began at `start`; what follows begins at the time returned.
    pub(crate) fn called(&self, call: Call, start: u64) -> u64 {
        let Some(watch) = self.watch else { return 0 };
        watch.called(call, watch.now().wrapping_sub(start));
        watch.now()
    }
}
