//! In place of `kernels/src/parallel/thread.rs`.

use std::io;

/// What a thread does.
pub(super) trait Life: Sync {
    /// All of it.
    fn live(&self);
    /// The thread's number, which nobody asks for here.
    #[allow(dead_code)]
    fn number(&self) -> usize;
}

/// A thread that must be joined.
pub(super) struct Thread(loom::thread::JoinHandle<()>);

struct Lent<L>(*const L);

// SAFETY: a shared reference, whose target is `Sync`.
unsafe impl<L: Life> Send for Lent<L> {}

impl<L: Life> Lent<L> {
    fn live(self) {
        // SAFETY: the promise of whoever called `start`.
        unsafe { &*self.0 }.live();
    }
}

impl Thread {
    /// # Safety
    /// `life` must stay where it is, and nobody may take it exclusively, until the thread was joined.
    pub(super) unsafe fn start<L: Life + 'static>(life: *const L) -> io::Result<Thread> {
        let lent = Lent(life);
        Ok(Thread(loom::thread::spawn(move || lent.live())))
    }

    pub(super) fn join(self) {
        self.0.join().expect("a helper does not panic");
    }
}
