//! The reserve, and what was refused.

use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicBool, Ordering};
use std::alloc::Layout;

/// Bytes of the reserve.
const RESERVE: usize = 4 << 20;
/// Larger pieces are never taken from it.
const SMALL: usize = 256 << 10;

std::thread_local! {
    /// A piece was refused since this thread's call began.
    static REFUSED: Cell<bool> = const { Cell::new(false) };
    /// Pieces of the reserve that this thread took since its call began, less those that it gave back.
    static KEPT: Cell<isize> = const { Cell::new(0) };
}

/// Memory that is there from the start.
#[repr(C, align(64))]
pub(crate) struct Reserve {
    bytes: UnsafeCell<[u8; RESERVE]>,
    state: UnsafeCell<State>,
    locked: AtomicBool,
}

struct State {
    /// Where the next piece begins.
    next: usize,
    /// Pieces that are in use.
    live: usize,
}

// SAFETY: the state is only touched under the lock; pieces of the bytes are handed out once each.
unsafe impl Sync for Reserve {}

pub(crate) static RESERVED: Reserve =
    Reserve { bytes: UnsafeCell::new([0; RESERVE]), state: UnsafeCell::new(State { next: 0, live: 0 }), locked: AtomicBool::new(false) };

impl Reserve {
    fn with<R>(&self, then: impl FnOnce(&mut State) -> R) -> R {
        while self.locked.swap(true, Ordering::Acquire) {
            core::hint::spin_loop();
        }
        // SAFETY: this thread has the lock, and `then` does not come here again.
        let result = then(unsafe { &mut *self.state.get() });
        self.locked.store(false, Ordering::Release);
        result
    }

    fn start(&self) -> *mut u8 {
        self.bytes.get().cast()
    }

    pub(crate) fn holds(&self, pointer: *const u8) -> bool {
        (self.start().addr()..self.start().addr() + RESERVE).contains(&pointer.addr())
    }

    pub(crate) fn take(&self, layout: Layout) -> *mut u8 {
        if layout.size() > SMALL || layout.align() > 64 {
            return core::ptr::null_mut();
        }
        self.with(|state| {
            let at = state.next.next_multiple_of(layout.align());
            match at.checked_add(layout.size()).filter(|&end| end <= RESERVE) {
                Some(end) => {
                    (state.next, state.live) = (end, state.live + 1);
                    count(1);
                    // SAFETY: inside the reserve.
                    unsafe { self.start().add(at) }
                }
                None => core::ptr::null_mut(),
            }
        })
    }

    pub(crate) fn give_back(&self) {
        self.with(|state| {
            state.live -= 1;
            count(-1);
            if state.live == 0 {
                state.next = 0;
            }
        });
    }
}

/// Notes a refusal of this thread's.
pub(crate) fn note_refusal() {
    // At the end of a thread it may be gone.
    let _ = REFUSED.try_with(|refused| refused.set(true));
}

/// Counts a piece of the reserve.
fn count(change: isize) {
    // At the end of a thread it may be gone.
    let _ = KEPT.try_with(|kept| kept.set(kept.get() + change));
}

/// A call begins: nothing was refused yet, and nothing taken.
pub fn begin() {
    REFUSED.with(|refused| refused.set(false));
    KEPT.with(|kept| kept.set(0));
}

/// Whether a piece of memory was refused since the call began.
pub fn refused() -> bool {
    REFUSED.with(Cell::get)
}

/// Whether something that this thread took since its call began still lies in the reserve, where nothing may stay behind
/// a call.
pub fn keeps() -> bool {
    KEPT.with(|kept| kept.get() > 0)
}

/// Whether anything lies in the reserve just now, whichever thread took it: the system has refused small pieces, and a
/// program should come to its end.
pub fn in_need() -> bool {
    RESERVED.with(|state| state.live > 0)
}

/// Whether this lies in the reserve, where nothing may stay behind a call.
pub fn is_reserve(bytes: &[u8]) -> bool {
    RESERVED.holds(bytes.as_ptr())
}
