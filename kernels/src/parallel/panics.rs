//! What a loop's calls panic with, until all of them have ended.

use super::sync::{AtomicPtr, Ordering};
use core::ptr;
use std::any::Any;
use std::boxed::Box;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Panic = Box<dyn Any + Send>;

/// What the first call that panicked did so with; null where none did.
///
/// What the others panicked with is forgotten, not dropped: to drop it is to run code of whoever panicked, which
/// may panic itself, in a thread that others wait for. An atomic and no lock, since ThreadSanitizer does not see what
/// happens in the standard library when a lock is waited for.
#[derive(Default)]
pub(super) struct Panics(AtomicPtr<Panic>);

impl Panics {
    /// Calls `work`, and keeps what it panics with.
    pub(super) fn catch(&self, work: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            let own = Box::into_raw(Box::new(panic));
            // Where another was first, this one is forgotten.
            let _ = self.0.compare_exchange(ptr::null_mut(), own, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// What was kept, which is for [`std::panic::resume_unwind`].
    pub(super) fn take(&self) -> Option<Panic> {
        let first = self.0.swap(ptr::null_mut(), Ordering::AcqRel);
        if first.is_null() {
            return None;
        }
        // SAFETY: it was made by `Box::into_raw`, and whoever takes it leaves null behind: it is taken once.
        Some(*unsafe { Box::from_raw(first) })
    }
}
