//! Which trainers live, where their memory is, and who uses them now.
//!
//! A handle that comes from C is looked up here before anything at its address is read: so a handle
//! that was released, copied or invented is an error and not a crash, and memory can't be handed to
//! two trainers. A handle in use is refused, on another thread or in a callback: so nobody holds two
//! mutable references.

use crate::boundary::Own;
use crate::status::{Failure, fail};
use crate::trainer::nunatak_trainer;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// Trainers that can live at once.
const MAX_TRAINERS: usize = if cfg!(feature = "std") { 256 } else { 16 };

const FREE: u8 = 0;
const IDLE: u8 = 1;
const BUSY: u8 = 2;
/// A panic has left it halfway.
const BROKEN: u8 = 3;

struct Slot {
    state: AtomicU8,
    /// The memory that was handed over.
    start: AtomicUsize,
    end: AtomicUsize,
    /// The trainer in it; 0 while it is made.
    handle: AtomicUsize,
}

static SLOTS: [Slot; MAX_TRAINERS] =
    [const { Slot { state: AtomicU8::new(FREE), start: AtomicUsize::new(0), end: AtomicUsize::new(0), handle: AtomicUsize::new(0) } };
        MAX_TRAINERS];

/// Held while slots are given out.
static GIVING: AtomicBool = AtomicBool::new(false);

struct Giving;

impl Giving {
    fn lock() -> Giving {
        // A few dozen instructions are run with it, so waiting is short.
        while GIVING.swap(true, Ordering::Acquire) {
            #[cfg(feature = "std")]
            std::thread::yield_now();
            core::hint::spin_loop();
        }
        Giving
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        GIVING.store(false, Ordering::Release);
    }
}

/// Memory in which a trainer is being made. Dropped before [`Claim::commit`], it is free again.
pub(crate) struct Claim(&'static Slot);

impl Claim {
    /// Claims these addresses.
    pub(crate) fn new(memory: Own) -> Result<Claim, Failure> {
        let Own { start, end } = memory;
        let _giving = Giving::lock();
        let mut free = None;
        for slot in &SLOTS {
            if slot.state.load(Ordering::Acquire) == FREE {
                free = free.or(Some(slot));
            } else if start < slot.end.load(Ordering::Relaxed) && slot.start.load(Ordering::Relaxed) < end {
                return Err(fail!(NUNATAK_MEMORY_IN_USE, "this memory belongs to another trainer; release that first"));
            }
        }
        let Some(slot) = free else {
            return Err(fail!(NUNATAK_TOO_MANY, "{MAX_TRAINERS} trainers live already; release one first"));
        };
        slot.start.store(start, Ordering::Relaxed);
        slot.end.store(end, Ordering::Relaxed);
        slot.handle.store(0, Ordering::Relaxed);
        slot.state.store(BUSY, Ordering::Release);
        Ok(Claim(slot))
    }

    /// From now on `handle` is a trainer.
    ///
    /// # Safety
    /// `handle` points to a valid trainer that nobody refers to, and stays so until it is released.
    pub(crate) unsafe fn commit(self, handle: *mut nunatak_trainer) {
        self.0.handle.store(handle as usize, Ordering::Relaxed);
        self.0.state.store(IDLE, Ordering::Release);
        core::mem::forget(self);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.handle.store(0, Ordering::Relaxed);
        self.0.state.store(FREE, Ordering::Release);
    }
}

/// A trainer that this call alone uses.
pub(crate) struct Entered {
    slot: &'static Slot,
    trainer: *mut nunatak_trainer,
}

impl Entered {
    /// The trainer of a handle from C.
    pub(crate) fn new(handle: *const nunatak_trainer) -> Result<Entered, Failure> {
        Self::enter(handle, false)
    }

    fn enter(handle: *const nunatak_trainer, even_broken: bool) -> Result<Entered, Failure> {
        if handle.is_null() {
            return Err(fail!(NUNATAK_NULL_POINTER, "trainer is NULL"));
        }
        let none = || fail!(NUNATAK_BAD_HANDLE, "{handle:p} is no trainer: it was never made, or it was released");
        let of_handle = |slot: &&Slot| slot.handle.load(Ordering::Relaxed) == handle as usize;
        let slot = SLOTS.iter().find(|slot| slot.state.load(Ordering::Acquire) != FREE && of_handle(slot)).ok_or_else(none)?;
        let mut from = IDLE;
        while let Err(now) = slot.state.compare_exchange(from, BUSY, Ordering::Acquire, Ordering::Relaxed) {
            match now {
                BROKEN if even_broken && from != BROKEN => from = BROKEN,
                BROKEN => return Err(fail!(NUNATAK_PANICKED, "this trainer can only be released: an earlier call panicked")),
                BUSY => return Err(fail!(NUNATAK_BUSY, "this trainer is in use, by another thread or by the call whose callback this is")),
                _ => return Err(none()),
            }
        }
        if !of_handle(&slot) {
            // Between finding and entering it was released, and the slot given to another trainer.
            slot.state.store(from, Ordering::Release);
            return Err(none());
        }
        Ok(Entered { slot, trainer: handle.cast_mut() })
    }

    /// Ends a trainer; the memory is its owner's again.
    pub(crate) fn release(handle: *mut nunatak_trainer) -> Result<(), Failure> {
        let entered = Self::enter(handle, true)?;
        // SAFETY: valid by `Claim::commit`, and this call alone uses it; nobody can enter it again.
        unsafe { core::ptr::drop_in_place(entered.trainer) };
        drop(Claim(entered.slot));
        core::mem::forget(entered);
        Ok(())
    }

    /// The memory that arguments must not touch.
    pub(crate) fn own(&self) -> Own {
        Own { start: self.slot.start.load(Ordering::Relaxed), end: self.slot.end.load(Ordering::Relaxed) }
    }
}

impl Deref for Entered {
    type Target = nunatak_trainer;
    fn deref(&self) -> &nunatak_trainer {
        // SAFETY: valid by `Claim::commit`; while the slot is busy this call alone uses it.
        unsafe { &*self.trainer }
    }
}

impl DerefMut for Entered {
    fn deref_mut(&mut self) -> &mut nunatak_trainer {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.trainer }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        #[cfg(feature = "std")]
        let panicked = std::thread::panicking();
        #[cfg(not(feature = "std"))]
        let panicked = false;
        self.slot.state.store(if panicked { BROKEN } else { IDLE }, Ordering::Release);
    }
}
