//! Work on several threads, in fixed parts.
//!
//! An output is cut into parts that do not overlap ([`Parts`]), each part is handed to exactly one
//! call of a closure, and which thread makes that call changes nothing: the result is the same
//! bits for any number of threads. Without the feature `std` the same parts run in order.

mod cells;
#[cfg(feature = "std")]
mod panics;
mod parts;
#[cfg(feature = "std")]
mod pool;
#[cfg(feature = "std")]
mod sync;
#[cfg(feature = "std")]
mod thread;

use crate::Level;
use crate::denormals::{Denormals, Guard};
pub(crate) use cells::Cells;
use core::sync::atomic::{AtomicUsize, Ordering};
#[cfg(all(test, feature = "std"))]
pub(crate) use parts::Calls;
pub(crate) use parts::{Chunks, Parts, RowMap, Section, Tile, Tiles};
#[cfg(feature = "std")]
use std::sync::Arc;

/// How many threads work, and where they come from.
#[derive(Clone)]
pub struct Threads {
    count: usize,
    team: Team,
    denormals: Denormals,
}

/// Those who work besides the caller.
#[derive(Clone)]
enum Team {
    Nobody,
    #[cfg(feature = "std")]
    Pool(Arc<pool::Pool>),
    #[cfg(feature = "rayon")]
    Rayon(Arc<rayon::ThreadPool>),
}

// A panic leaves no loop half done: it is over for every thread before the panic reaches the caller.
#[cfg(feature = "std")]
impl std::panic::RefUnwindSafe for Threads {}

/// The most threads that can be asked for. An operating system that is asked for many more ends the process
/// instead of refusing: each takes some of the mappings that a process may have.
#[cfg(feature = "std")]
const MOST_THREADS: usize = 4096;

/// The operating system gave no threads, or more were asked for than [`Threads::new`] says.
#[cfg(feature = "std")]
#[derive(Debug)]
pub struct ThreadsError {
    /// The number asked for.
    pub count: usize,
    cause: std::io::Error,
}

#[cfg(feature = "std")]
impl core::fmt::Display for ThreadsError {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        write!(f, "can't start {} threads ({}); ask for 1 to do without", self.count, self.cause)
    }
}

#[cfg(feature = "std")]
impl core::error::Error for ThreadsError {}

impl Threads {
    /// The caller's thread alone: nothing is started, nothing allocated.
    pub const fn serial() -> Threads {
        Threads { count: 1, team: Team::Nobody, denormals: Denormals::DEFAULT }
    }

    /// `count` threads (at least 1), the caller's among them.
    ///
    /// No more are started than the process may use CPUs (its affinity, and on Linux its control
    /// group's quota, counted when this is called): more would only stand in each other's way. They
    /// wait for work spinning for 0.1 ms, then asleep, and end with the last clone.
    ///
    /// # Errors
    /// [`ThreadsError`] where the operating system refuses, and for more than 4096.
    #[cfg(feature = "std")]
    pub fn new(count: usize) -> Result<Threads, ThreadsError> {
        Self::start(count, count.min(available()), true)
    }

    /// `count` threads, however few CPUs there are: for tests of what should not depend on them. They
    /// spin only where there are CPUs enough.
    ///
    /// # Errors
    /// [`ThreadsError`] where the operating system refuses, and for more than 4096.
    #[cfg(feature = "std")]
    pub fn oversubscribed(count: usize) -> Result<Threads, ThreadsError> {
        Self::start(count, count, count <= available())
    }

    #[cfg(feature = "std")]
    fn start(count: usize, started: usize, spin: bool) -> Result<Threads, ThreadsError> {
        if count > MOST_THREADS {
            let cause = std::io::Error::new(std::io::ErrorKind::InvalidInput, std::format!("the most are {MOST_THREADS}"));
            return Err(ThreadsError { count, cause });
        }
        if started <= 1 {
            return Ok(Threads { count: count.max(1), ..Self::serial() });
        }
        let pool = pool::Pool::new(started - 1, spin).map_err(|cause| ThreadsError { count, cause })?;
        Ok(Threads { count, team: Team::Pool(Arc::new(pool)), ..Self::serial() })
    }

    /// The threads of a rayon pool that is there anyway: for programs whose other work runs on it. A
    /// loop takes longer to begin than on threads of our own.
    #[cfg(feature = "rayon")]
    pub fn of_rayon(pool: Arc<rayon::ThreadPool>) -> Threads {
        Threads { count: pool.current_num_threads(), team: Team::Rayon(pool), ..Self::serial() }
    }

    /// The same threads, with another treatment of denormal numbers.
    #[must_use]
    pub fn with_denormals(self, denormals: Denormals) -> Threads {
        Threads { denormals, ..self }
    }

    /// The number of threads: so many pieces of scratch memory are in use at once.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// What is done with denormal numbers.
    pub const fn denormals(&self) -> Denormals {
        self.denormals
    }

    /// Runs `work` where the loops inside it can reach the threads without a detour. Enter once
    /// per step, not once per loop: entering a rayon pool costs a wake-up.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.team {
            #[cfg(feature = "rayon")]
            Team::Rayon(pool) => pool.install(work),
            _ => work(),
        }
    }

    /// Calls `worker(0)`, and other workers below `count` where threads are free to. Each worker does
    /// what is left to do.
    fn workers(&self, count: usize, worker: &(dyn Fn(usize) + Sync)) {
        if count == 1 {
            return worker(0);
        }
        match &self.team {
            Team::Nobody => worker(0),
            #[cfg(feature = "std")]
            Team::Pool(pool) => pool.run(count, worker),
            #[cfg(feature = "rayon")]
            Team::Rayon(pool) => {
                let panics = panics::Panics::default();
                pool.install(|| fork(0, count, &|i| panics.catch(|| worker(i))));
                if let Some(panic) = panics.take() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

/// CPUs that this process may use.
#[cfg(feature = "std")]
fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `worker(low)` … `worker(high − 1)` as a tree of joins (which need no heap).
#[cfg(feature = "rayon")]
fn fork(low: usize, high: usize, worker: &(dyn Fn(usize) + Sync)) {
    if high - low <= 1 {
        worker(low);
    } else {
        let middle = low + (high - low) / 2;
        rayon::join(|| fork(low, middle, worker), || fork(middle, high, worker));
    }
}

/// The machine that kernels run on: an instruction set and threads.
#[derive(Clone, Copy)]
pub struct Cpu<'t> {
    /// The instruction set.
    pub level: Level,
    /// The threads.
    pub threads: &'t Threads,
}

impl Cpu<'_> {
    /// Calls `work(index, part, scratch)` once for each part of `outputs`, on all threads.
    ///
    /// Each thread has `each` numbers of `scratch` for itself, with unspecified contents.
    ///
    /// # Panics
    /// If `scratch` is shorter than `each` times the number of threads; and where `work` does.
    pub(crate) fn run<P: Parts>(&self, outputs: P, scratch: &mut [f32], each: usize, work: impl Fn(usize, P::Part, &mut [f32]) + Sync) {
        self.run_with(outputs, scratch, each, work);
    }

    /// The same with scratch of any numbers.
    ///
    /// # Panics
    /// As [`Cpu::run`].
    pub(crate) fn run_with<P: Parts, S: Send>(
        &self,
        outputs: P,
        scratch: &mut [S],
        each: usize,
        work: impl Fn(usize, P::Part, &mut [S]) + Sync,
    ) {
        let count = outputs.count();
        let threads = self.threads.count.min(count.max(1));
        assert!(
            each.checked_mul(self.threads.count).is_some_and(|all| scratch.len() >= all),
            "scratch of {} numbers for {} threads of {each}",
            scratch.len(),
            self.threads.count
        );
        let scratch = Chunks::new(&mut scratch[..each * threads], each.max(1), threads);
        self.each_part(count, threads, &|thread, index| {
            let scratch: &mut [S] = if each == 0 {
                &mut []
            } else {
                // SAFETY: every thread has a number of its own, and one part of the work at a time.
                unsafe { scratch.part(thread) }
            };
            // SAFETY: `each_part` gives each index below `count` to one thread, once.
            work(index, unsafe { outputs.part(index) }, scratch);
        });
    }

    /// Calls `part(thread, index)` once for each index below `count`, on so many threads. Compiled once, unlike its callers.
    fn each_part(&self, count: usize, threads: usize, part: &(dyn Fn(usize, usize) + Sync)) {
        let left = Left::new(count, threads);
        self.threads.workers(threads, &|thread| {
            let _guard = Guard::new(self.threads.denormals);
            left.each(thread, |index| part(thread, index));
        });
    }
}

/// Ranges of parts that threads begin with. Without `std` there is one thread, and loops lie on the stack of a board.
const RANGES: usize = if cfg!(feature = "std") { 16 } else { 1 };

/// The parts of a loop that nobody has taken.
///
/// Each thread begins with a range of its own, so that from loop to loop it meets what it wrote
/// before, in its own caches; then it helps with the others' ranges.
struct Left {
    ranges: usize,
    /// Parts of each range, and those that are left over: fewer than there are ranges.
    share: usize,
    rest: usize,
    /// The next part of each range, from its first on. On cache lines of their own, where there are threads.
    taken: [Taken; RANGES],
}

#[cfg_attr(feature = "std", repr(align(64)))]
struct Taken(AtomicUsize);

impl Left {
    fn new(count: usize, threads: usize) -> Left {
        let ranges = threads.min(RANGES);
        Left { ranges, share: count / ranges, rest: count % ranges, taken: [const { Taken(AtomicUsize::new(0)) }; RANGES] }
    }

    /// Where a range begins: ⌊range · count / ranges⌋, without the product, which may not fit a `usize`.
    #[inline]
    fn bound(&self, range: usize) -> usize {
        range * self.share + range * self.rest / self.ranges
    }

    /// Calls `work` with parts, until there are none left.
    fn each(&self, thread: usize, mut work: impl FnMut(usize)) {
        for i in 0..self.ranges {
            let range = (thread + i) % self.ranges;
            let (begin, end) = (self.bound(range), self.bound(range + 1));
            loop {
                // Relaxed is enough: the counter only hands out numbers; the end of the parallel
                // section orders the writes before whatever follows.
                let taken = self.taken[range].0.fetch_add(1, Ordering::Relaxed);
                // Compared before it is added to `begin`: the sum may not fit a `usize` at the end.
                if taken >= end - begin {
                    break;
                }
                work(begin + taken);
            }
        }
    }
}

#[cfg(test)]
mod tests;
