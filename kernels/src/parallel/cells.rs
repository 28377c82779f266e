//! Numbers that any thread may write while others do.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};

/// A slice whose numbers are written one by one from any thread.
///
/// There is no race: each write is atomic. Which of two writes to one place wins is not said, so
/// whoever wants the same bits always gives each place one writer.
#[derive(Debug)]
pub(crate) struct Cells<'a> {
    data: *mut f32,
    len: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: the slice is borrowed for as long as the cells live, and through a shared reference it is
// only touched by atomic operations.
unsafe impl Sync for Cells<'_> {}

impl<'a> Cells<'a> {
    pub(crate) fn new(data: &'a mut [f32]) -> Self {
        Cells { data: data.as_mut_ptr(), len: data.len(), life: PhantomData }
    }

    /// Writes number `i`.
    ///
    /// # Panics
    /// If there is none.
    #[inline(always)]
    pub(crate) fn set(&self, i: usize, value: f32) {
        assert!(i < self.len, "cell {i} of {}", self.len);
        // SAFETY: inside the slice; an f32 is as large and as aligned as an AtomicU32. Nothing else
        // touches the slice while it is borrowed. The end of the parallel loop orders the write before
        // whatever follows.
        unsafe { AtomicU32::from_ptr(self.data.add(i).cast()) }.store(value.to_bits(), Ordering::Relaxed);
    }

    /// The slice again.
    pub(crate) fn into_slice(self) -> &'a mut [f32] {
        // SAFETY: the slice that was given to `new`; by value, so nobody else has these cells.
        unsafe { core::slice::from_raw_parts_mut(self.data, self.len) }
    }
}
