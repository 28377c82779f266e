//! What the pool's threads synchronise by. `tests/loom` puts other ones in this file's place, which try every order in
//! which threads can meet.

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::time::Duration;
use std::time::Instant;

pub(super) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering, fence};
pub(super) use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Looks between two looks at the clock.
const LOOKS: usize = 64;

/// Whether `done` came true within a time.
pub(super) fn spin_until(done: &impl Fn() -> bool, time: Duration) -> bool {
    let mut start = None;
    loop {
        for _ in 0..LOOKS {
            if done() {
                return true;
            }
            spin_loop();
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= time {
            return false;
        }
    }
}

/// A value that one thread writes while no other reads it: when that is, is for those who have it to say.
pub(super) struct Slot<T>(UnsafeCell<T>);

impl<T: Copy> Slot<T> {
    pub(super) fn new(value: T) -> Slot<T> {
        Slot(UnsafeCell::new(value))
    }

    /// # Safety
    /// Nobody writes it meanwhile.
    pub(super) unsafe fn get(&self) -> T {
        // SAFETY: the caller's promise.
        unsafe { *self.0.get() }
    }

    /// # Safety
    /// Nobody reads or writes it meanwhile.
    pub(super) unsafe fn set(&self, value: T) {
        // SAFETY: the caller's promise.
        unsafe { *self.0.get() = value }
    }
}
