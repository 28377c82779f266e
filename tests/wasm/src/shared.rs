//! What JavaScript and this module share.

use core::cell::UnsafeCell;

/// A value of this module's own. A wasm module without shared memory has one thread.
pub(crate) struct Single<T>(UnsafeCell<T>);

// SAFETY: there is one thread (see above); the host's build of this example is never run.
unsafe impl<T> Sync for Single<T> {}

impl<T> Single<T> {
    pub(crate) const fn new(value: T) -> Self {
        Single(UnsafeCell::new(value))
    }

    /// Lends the value to `use_it`, which must not come here again: no function of this module calls
    /// JavaScript, and none calls another that does this.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: one thread, and nobody else has it meanwhile.
        use_it(unsafe { &mut *self.0.get() })
    }
}

/// `len` values that JavaScript has written at `from`.
///
/// # Safety
/// They are there, and nobody writes to them while they are borrowed.
pub(crate) unsafe fn given<'a, T>(from: *const T, len: usize) -> &'a [T] {
    // SAFETY: the caller's duty.
    unsafe { core::slice::from_raw_parts(from, len) }
}

/// Room for `len` values at `to`.
///
/// # Safety
/// It is there, holds valid values, and nobody else uses it while it is borrowed.
pub(crate) unsafe fn room<'a, T>(to: *mut T, len: usize) -> &'a mut [T] {
    // SAFETY: the caller's duty.
    unsafe { core::slice::from_raw_parts_mut(to, len) }
}
