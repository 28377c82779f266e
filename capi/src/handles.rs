//! Which trainers live, where their memory is, and who uses them now.
//!
//! A handle points into the trainer's memory, to another place for each trainer that is made there. It is looked up
//! here before anything is read: so a handle that was released, copied or invented is an error and not a crash, also
//! where the memory has another trainer by now, and memory can't be handed to two trainers. A handle in use is
//! refused, on another thread or in a callback: so nobody holds two mutable references.

use crate::boundary::Span;
use crate::status::{Failure, fail};
use crate::trainer::nunatak_trainer;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering};
use nunatak_core::program::MOST_REGIONS;

/// Trainers that can live at once.
const MAX_TRAINERS: usize = if cfg!(feature = "std") { 256 } else { 16 };

const FREE: u8 = 0;
const IDLE: u8 = 1;
const BUSY: u8 = 2;
/// A panic has left it halfway.
const BROKEN: u8 = 3;

/// Addresses that may be read while they change: for a moment they may be those of no trainer.
struct Addresses {
    start: AtomicUsize,
    end: AtomicUsize,
}

impl Addresses {
    const fn new() -> Addresses {
        Addresses { start: AtomicUsize::new(0), end: AtomicUsize::new(0) }
    }
    fn set(&self, span: Span) {
        self.start.store(span.start, Ordering::Relaxed);
        self.end.store(span.end, Ordering::Relaxed);
    }
    fn get(&self) -> Span {
        Span { start: self.start.load(Ordering::Relaxed), end: self.end.load(Ordering::Relaxed) }
    }
}

struct Slot {
    state: AtomicU8,
    /// The memory that was handed over, in pieces; those that there are not are empty.
    memory: [Addresses; MOST_REGIONS],
    /// What the trainer reads in place: its program, and its weights.
    kept: [Addresses; 2],
    /// What C knows the trainer by; 0 while it is made.
    handle: AtomicUsize,
    /// The trainer.
    place: AtomicPtr<nunatak_trainer>,
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            state: AtomicU8::new(FREE),
            memory: [const { Addresses::new() }; MOST_REGIONS],
            kept: [const { Addresses::new() }; 2],
            handle: AtomicUsize::new(0),
            place: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    fn lives(&self) -> bool {
        self.state.load(Ordering::Acquire) != FREE
    }

    /// Whether a piece of its memory has an address in common with these.
    fn has(&self, span: Span) -> bool {
        self.memory.iter().any(|piece| piece.get().meets(span))
    }

    /// Makes it free for the next trainer.
    fn free(&self) {
        self.handle.store(0, Ordering::Relaxed);
        self.memory.iter().for_each(|piece| piece.set(Span::EMPTY));
        self.kept.iter().for_each(|kept| kept.set(Span::EMPTY));
        self.state.store(FREE, Ordering::Release);
    }
}

static SLOTS: [Slot; MAX_TRAINERS] = [const { Slot::new() }; MAX_TRAINERS];

/// How many trainers were made so far.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// Whose addresses a buffer touches, if a trainer has them: no buffer lies in the memory of one (`free` passes
/// that over), and none that is written in what it reads in place.
pub(crate) fn in_use(own: Span, writes: bool, free: bool) -> Option<&'static str> {
    for slot in SLOTS.iter().filter(|slot| slot.lives()) {
        if !free && slot.has(own) {
            return Some("the memory of a trainer that was not released");
        }
        if writes && slot.kept.iter().any(|kept| kept.get().meets(own)) {
            return Some("the program or the weights of a trainer that was not released");
        }
    }
    None
}

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
    /// Claims these addresses, of [`MOST_REGIONS`] pieces at most.
    pub(crate) fn new(memory: impl Iterator<Item = Span> + Clone) -> Result<Claim, Failure> {
        let _giving = Giving::lock();
        let mut free = None;
        for slot in &SLOTS {
            if !slot.lives() {
                free = free.or(Some(slot));
            } else if memory.clone().any(|piece| slot.has(piece)) {
                return Err(fail!(
                    NUNATAK_MEMORY_IN_USE,
                    "this memory belongs to another trainer: release that first, or call nunatak_trainer_forget where it is gone"
                ));
            }
        }
        let Some(slot) = free else {
            return Err(fail!(NUNATAK_TOO_MANY, "{MAX_TRAINERS} trainers live already; release one first"));
        };
        slot.handle.store(0, Ordering::Relaxed);
        slot.memory.iter().zip(memory).for_each(|(place, piece)| place.set(piece));
        slot.state.store(BUSY, Ordering::Release);
        Ok(Claim(slot))
    }

    /// From now on there is a trainer, which reads `kept` in place; returns its handle.
    ///
    /// # Safety
    /// `place` points to a valid trainer that nobody refers to, and stays so until it is released.
    pub(crate) unsafe fn commit(self, place: *mut nunatak_trainer, kept: [Span; 2]) -> *mut nunatak_trainer {
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let memory = self.0.memory.iter().map(Addresses::get).find(|piece| *piece != Span::EMPTY).unwrap_or(Span::EMPTY);
        // Inside the memory, so that no other trainer that lives has it; and not where one of before had it.
        let handle = memory.start + made % ((memory.end - memory.start) / 2).max(1);
        self.0.place.store(place, Ordering::Relaxed);
        keep(self.0, kept);
        self.0.handle.store(handle, Ordering::Relaxed);
        self.0.state.store(IDLE, Ordering::Release);
        core::mem::forget(self);
        core::ptr::without_provenance_mut(handle)
    }
}

fn keep(slot: &Slot, kept: [Span; 2]) {
    slot.kept.iter().zip(kept).for_each(|(place, span)| place.set(span));
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.free();
    }
}

/// Forgets every trainer whose memory has this address, without reading there; returns how many.
pub(crate) fn forget(address: usize) -> usize {
    let _giving = Giving::lock();
    let here = Span { start: address, end: address.saturating_add(1) };
    let lost = SLOTS.iter().filter(|slot| slot.lives() && slot.has(here));
    lost.map(Slot::free).count()
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
        let number = handle.addr();
        let none = || fail!(NUNATAK_BAD_HANDLE, "{handle:p} is no trainer: it was never made, or it was released");
        let is_it = |slot: &Slot| slot.handle.load(Ordering::Relaxed) == number;
        let slot = SLOTS.iter().find(|slot| slot.lives() && is_it(slot)).ok_or_else(none)?;
        let mut from = IDLE;
        while let Err(now) = slot.state.compare_exchange(from, BUSY, Ordering::Acquire, Ordering::Relaxed) {
            match now {
                BROKEN if even_broken && from != BROKEN => from = BROKEN,
                BROKEN => return Err(fail!(NUNATAK_PANICKED, "this trainer can only be released: an earlier call panicked")),
                BUSY => return Err(fail!(NUNATAK_BUSY, "this trainer is in use, by another thread or by the call whose callback this is")),
                _ => return Err(none()),
            }
        }
        if !is_it(slot) {
            // Between finding and entering it was released, and the slot given to another trainer.
            slot.state.store(from, Ordering::Release);
            return Err(none());
        }
        Ok(Entered { slot, trainer: slot.place.load(Ordering::Relaxed) })
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

    /// The bytes of memory that were handed over in one piece; `None` where there are several.
    pub(crate) fn memory_bytes(&self) -> Option<usize> {
        let [first, others @ ..] = self.slot.memory.each_ref().map(Addresses::get);
        others.iter().all(|piece| *piece == Span::EMPTY).then_some(first.end - first.start)
    }

    /// The trainer reads another program in place from now on.
    pub(crate) fn keeps(&self, program: Span) {
        self.slot.kept[0].set(program);
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
        // A slot that was forgotten meanwhile stays so.
        let _ = self.slot.state.compare_exchange(BUSY, if panicked { BROKEN } else { IDLE }, Ordering::Release, Ordering::Relaxed);
    }
}
