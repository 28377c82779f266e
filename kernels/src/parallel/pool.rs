//! Threads that wait for loops: they spin for a moment before they sleep, because a step of a small
//! network is a hundred loops of 10 to 200 µs, and waking a sleeping thread takes 50.
//!
//! Each helper has a state of its own: *idle*, *asked*, *working*. The caller asks as many helpers as
//! are useful, works itself, and at the end takes back what was asked of helpers that have not begun:
//! so nobody ever waits for a thread that the operating system has not yet woken. Only one loop runs at
//! a time; a caller that finds the pool in use (another thread's loop, or a loop inside a loop) does
//! all the work itself. A loop allocates nothing.
//!
//! A process that forks has no helpers in its child: loops are done by the caller alone there, and what is
//! dropped there waits for nobody. Start new threads in the child to have some.

use super::panics::Panics;
use super::sync::{Arc, AtomicBool, AtomicU32, Condvar, Mutex, MutexGuard, Ordering, Slot, fence, spin_until};
use super::thread::{Life, Thread};
use core::time::Duration;
use std::panic::resume_unwind;
use std::sync::PoisonError;
use std::vec::Vec;

/// How long a helper spins before it sleeps: longer than what lies between two loops of a step.
const SPIN: Duration = Duration::from_micros(100);
/// How long the caller spins for helpers that still work: about the longest part of a loop.
const END_SPIN: Duration = Duration::from_millis(2);

/// Nothing to do.
const IDLE: u32 = 0;
/// The caller wants the helper to work; it may still take that back.
const ASKED: u32 = 1;
/// The helper works.
const WORKING: u32 = 2;
/// The helper is to end.
const ENDING: u32 = 3;

/// Work for worker number `i`, as a loop sees it while it lasts.
type Work<'a> = &'a (dyn Fn(usize) + Sync);

/// How one thread waits for what another does to an atomic: spinning, then asleep.
///
/// Nobody sleeps through it: the one writes the atomic, then looks at `asleep`; the other writes `asleep`,
/// then looks at the atomic; and between the two each has a sequentially consistent fence, so at least one
/// sees what the other wrote. (Sequentially consistent accesses say the same, but QEMU lets an AArch64
/// program's loads pass its stores then, and loops hung.)
struct Bell {
    /// Whether the waiting one is (about to be) asleep.
    asleep: AtomicBool,
    lock: Mutex<()>,
    rung: Condvar,
    /// The process that started the threads.
    process: u32,
}

impl Bell {
    fn new() -> Bell {
        Bell { asleep: AtomicBool::new(false), lock: Mutex::new(()), rung: Condvar::new(), process: process() }
    }

    /// Wakes the waiting one, if it sleeps. To be called after the store of what it waits for.
    fn ring(&self) {
        fence(Ordering::SeqCst);
        // A fork's child has no sleeper, and the lock as it was: perhaps held by a thread that is not there.
        if self.asleep.load(Ordering::Relaxed) && self.process == process() {
            drop(self.locked());
            self.rung.notify_all();
        }
    }

    /// Waits until `done`; asleep after it has spun for a time.
    fn wait(&self, done: impl Fn() -> bool, spin: Duration) {
        if spin_until(&done, spin) {
            return;
        }
        let mut guard = self.locked();
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while !done() {
            guard = self.rung.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.store(false, Ordering::Relaxed);
    }

    fn locked(&self) -> MutexGuard<'_, ()> {
        // Nothing panics while it is held.
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The process that this code runs in: another after a fork.
fn process() -> u32 {
    // Elsewhere there is no fork, and on some systems not even a number.
    if cfg!(unix) { std::process::id() } else { 0 }
}

/// What caller and helpers share.
struct Shared {
    /// The caller's loop; written only while every helper is idle.
    work: Slot<Option<Work<'static>>>,
    /// Whether a loop runs.
    busy: AtomicBool,
    /// What the loop panicked with.
    panics: Panics,
    /// For each helper, what is asked of it.
    helpers: Vec<Helper>,
    /// How long helpers spin before they sleep.
    spin: Duration,
    /// How long the caller spins before it sleeps.
    end_spin: Duration,
}

/// A helper as the caller sees it. On cache lines of its own.
#[repr(align(128))]
struct Helper {
    state: AtomicU32,
    /// The helper waits for it.
    asked: Bell,
    /// The caller waits for it.
    ended: Bell,
}

impl Helper {
    /// Sets the state to what the helper waits for.
    fn ask(&self, state: u32) {
        self.state.store(state, Ordering::Release);
        self.asked.ring();
    }

    /// Takes back what was asked, or waits until it is done.
    fn end(&self, spin: Duration) {
        if self.state.compare_exchange(ASKED, IDLE, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            self.ended.wait(|| self.state.load(Ordering::Acquire) == IDLE, spin);
        }
    }
}

// SAFETY: `work` is written by the one caller that holds `busy`, while no helper is asked or working,
// and read by helpers only between their asked → working (acquire) and working → idle (release).
unsafe impl Sync for Shared {}

/// An empty vector with room for so many; an error where there is no memory for them.
fn with_capacity<T>(count: usize) -> std::io::Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
    Ok(all)
}

/// What a helper's thread has.
struct Own {
    shared: Arc<Shared>,
    /// Its place among the helpers.
    i: usize,
}

impl Life for Own {
    fn live(&self) {
        self.shared.help(self.i);
    }

    fn number(&self) -> usize {
        self.i + 1
    }
}

/// Helpers that are started once.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
    /// What the threads were given: untouched until they have ended.
    _own: Vec<Own>,
    /// The process that has the threads.
    process: u32,
}

impl Pool {
    /// Starts `helpers` threads. They spin only if each can have a CPU for itself.
    pub(super) fn new(helpers: usize, spin: bool) -> std::io::Result<Pool> {
        let helper = |_| Helper { state: AtomicU32::new(IDLE), asked: Bell::new(), ended: Bell::new() };
        let mut all = with_capacity(helpers)?;
        all.extend((0..helpers).map(helper));
        let shared = Arc::new(Shared {
            work: Slot::new(None),
            busy: AtomicBool::new(false),
            panics: Panics::default(),
            helpers: all,
            spin: if spin { SPIN } else { Duration::ZERO },
            end_spin: if spin { END_SPIN } else { Duration::ZERO },
        });
        let mut own = with_capacity(helpers)?;
        own.extend((0..helpers).map(|i| Own { shared: shared.clone(), i }));
        let lives = own.as_ptr();
        let mut pool = Pool { shared, threads: with_capacity(helpers)?, _own: own, process: process() };
        for i in 0..helpers {
            // SAFETY: there are so many, in memory that stays where it is while the pool is moved. `drop` joins the
            // threads first; where one can't be started, those that were.
            let thread = unsafe { Thread::start(lives.add(i)) }?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Calls `work(0)` on this thread and, as far as helpers come in time, `work(1)` … `work(count − 1)`
    /// on others. `work` must do all there is to do whichever of these calls are made.
    ///
    /// # Panics
    /// With the panic of one of the calls, after all of them have ended.
    pub(super) fn run(&self, count: usize, work: Work) {
        let helpers = &self.shared.helpers[..self.shared.helpers.len().min(count.saturating_sub(1))];
        if helpers.is_empty() || self.shared.busy.swap(true, Ordering::Acquire) {
            return work(0);
        }
        // SAFETY: this function neither returns nor unwinds before every helper has ended with it.
        let lasting = unsafe { core::mem::transmute::<Work<'_>, Work<'static>>(work) };
        // SAFETY: `busy` is ours, and helpers are idle outside of loops.
        unsafe { self.shared.work.set(Some(lasting)) };
        helpers.iter().for_each(|helper| helper.ask(ASKED));
        self.shared.panics.catch(|| work(0));
        helpers.iter().for_each(|helper| helper.end(self.shared.end_spin));
        // Taken while `busy` is still ours: the next loop's panic is another.
        let panic = self.shared.panics.take();
        self.shared.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Shared {
    /// A helper's life. It catches every panic of the work and has none of its own.
    fn help(&self, i: usize) {
        let helper = &self.helpers[i];
        loop {
            let called = || matches!(helper.state.load(Ordering::Acquire), ASKED | ENDING);
            helper.asked.wait(called, self.spin);
            match helper.state.compare_exchange(ASKED, WORKING, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => {}
                Err(ENDING) => return,
                Err(_) => continue, // taken back
            }
            // SAFETY: between asked → working and working → idle the caller's loop is there.
            let work = unsafe { self.work.get() };
            self.panics.catch(|| {
                if let Some(work) = work {
                    work(i + 1);
                }
            });
            helper.state.store(IDLE, Ordering::Release);
            helper.ended.ring();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.process != process() {
            // A fork's child: the threads are not there to be ended, and the system must not be asked for them.
            self.threads.drain(..).for_each(core::mem::forget);
            return;
        }
        for helper in &self.shared.helpers {
            helper.ask(ENDING);
        }
        for thread in self.threads.drain(..) {
            thread.join();
        }
    }
}
