//! In place of `kernels/src/parallel/sync.rs`.

use core::time::Duration;
use loom::cell::UnsafeCell;

pub(super) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering, fence};
pub(super) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Time passes not at all: one look.
pub(super) fn spin_until(done: &impl Fn() -> bool, _: Duration) -> bool {
    done()
}

/// A value of which loom sees who reads and who writes it when.
pub(super) struct Slot<T>(UnsafeCell<T>);

impl<T: Copy> Slot<T> {
    pub(super) fn new(value: T) -> Slot<T> {
        Slot(UnsafeCell::new(value))
    }

    /// # Safety
    /// Nobody writes it meanwhile, or loom says so.
    pub(super) unsafe fn get(&self) -> T {
        // SAFETY: loom has looked who else is there.
        self.0.with(|value| unsafe { *value })
    }

    /// # Safety
    /// Nobody reads or writes it meanwhile, or loom says so.
    pub(super) unsafe fn set(&self, new: T) {
        // SAFETY: loom has looked who else is there.
        self.0.with_mut(|value| unsafe { *value = new })
    }
}
