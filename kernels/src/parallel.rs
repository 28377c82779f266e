//! Work on several threads, in fixed parts.
//!
//! An output is cut into parts that do not overlap ([`Parts`]), each part is handed to exactly one
//! call of a closure, and which thread makes that call changes nothing: the result is the same
//! bits for any number of threads. Without the feature `std` the same parts run in order.

mod parts;
#[cfg(feature = "std")]
mod pool;

use crate::Level;
use crate::denormals::{Denormals, Guard};
use core::sync::atomic::{AtomicUsize, Ordering};
pub use parts::{Calls, Chunks, Parts, RowMap, Tile, Tiles};
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

/// The operating system gave no threads.
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
    /// [`ThreadsError`] where the operating system refuses.
    #[cfg(feature = "std")]
    pub fn new(count: usize) -> Result<Threads, ThreadsError> {
        Self::start(count, count.min(available()), true)
    }

    /// `count` threads, however few CPUs there are: for tests of what should not depend on them. They
    /// spin only where there are CPUs enough.
    ///
    /// # Errors
    /// [`ThreadsError`] where the operating system refuses.
    #[cfg(feature = "std")]
    pub fn oversubscribed(count: usize) -> Result<Threads, ThreadsError> {
        Self::start(count, count, count <= available())
    }

    #[cfg(feature = "std")]
    fn start(count: usize, started: usize, spin: bool) -> Result<Threads, ThreadsError> {
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
            Team::Rayon(pool) => pool.install(|| fork(0, count, worker)),
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
    pub fn run<P: Parts>(&self, outputs: P, scratch: &mut [f32], each: usize, work: impl Fn(usize, P::Part, &mut [f32]) + Sync) {
        let count = outputs.count();
        let threads = self.threads.count.min(count.max(1));
        assert!(
            scratch.len() >= each * self.threads.count,
            "scratch of {} numbers for {} threads of {each}",
            scratch.len(),
            self.threads.count
        );
        let scratch = Chunks::new(&mut scratch[..each * threads], each.max(1), threads);
        let left = Left::new(count, threads);
        let worker = |thread: usize| {
            let scratch: &mut [f32] = if each == 0 {
                &mut []
            } else {
                // SAFETY: every thread has a number of its own, and takes this part once.
                unsafe { scratch.part(thread) }
            };
            let _guard = Guard::new(self.threads.denormals);
            left.each(thread, |index| {
                // SAFETY: `each` gives each index below `count` to one thread, once.
                work(index, unsafe { outputs.part(index) }, scratch);
            });
        };
        self.threads.workers(threads, &worker);
    }
}

/// Ranges of parts that threads begin with.
const RANGES: usize = 16;

/// The parts of a loop that nobody has taken.
///
/// Each thread begins with a range of its own, so that from loop to loop it meets what it wrote
/// before, in its own caches; then it helps with the others' ranges.
struct Left {
    count: usize,
    ranges: usize,
    /// The next part of each range, from its first on. On cache lines of their own.
    taken: [Taken; RANGES],
}

#[repr(align(64))]
struct Taken(AtomicUsize);

impl Left {
    fn new(count: usize, threads: usize) -> Left {
        Left { count, ranges: threads.min(RANGES), taken: [const { Taken(AtomicUsize::new(0)) }; RANGES] }
    }

    /// Calls `work` with parts, until there are none left.
    fn each(&self, thread: usize, mut work: impl FnMut(usize)) {
        for i in 0..self.ranges {
            let range = (thread + i) % self.ranges;
            let bound = |range: usize| range * self.count / self.ranges;
            let (begin, end) = (bound(range), bound(range + 1));
            loop {
                // Relaxed is enough: the counter only hands out numbers; the end of the parallel
                // section orders the writes before whatever follows.
                let index = begin + self.taken[range].0.fetch_add(1, Ordering::Relaxed);
                if index >= end {
                    break;
                }
                work(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_threads() -> std::vec::Vec<Threads> {
        let mut all = std::vec![Threads::serial()];
        #[cfg(feature = "std")]
        all.extend([2, 3, 7, 20].map(|n| Threads::oversubscribed(n).expect("threads")));
        #[cfg(feature = "rayon")]
        all.push(Threads::of_rayon(Arc::new(rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads"))));
        all
    }

    #[test]
    fn every_part_is_visited_once() {
        for threads in all_threads() {
            let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
            let mut y = [0.0_f32; 103];
            let mut scratch = std::vec![f32::NAN; 5 * threads.count()];
            cpu.run(Chunks::new(&mut y, 10, 11), &mut scratch, 5, |i, part, scratch| {
                scratch.fill(i as f32);
                part.iter_mut().for_each(|v| *v += 1.0 + scratch[4]);
            });
            for (i, v) in y.iter().enumerate() {
                assert_eq!(*v, 1.0 + (i / 10) as f32);
            }
        }
    }

    #[test]
    fn tiles_cover_a_strided_matrix() {
        // Every second pixel of 2 images of 4 x 6 with 5 channels.
        let mut y = [0.0_f32; 2 * 4 * 6 * 5];
        let map = RowMap { w: 3, h: 2, pixel: 10, line: 60, image: 120, start: 5 };
        let tiles = Tiles::new(&mut y, map, 12, 5, 5, 2);
        let cpu = Cpu { level: Level::PORTABLE, threads: &Threads::serial() };
        assert_eq!(tiles.count(), 3 * 3);
        cpu.run(tiles, &mut [], 0, |_, mut tile, _| {
            for i in 0..tile.rows() {
                tile.row(i).iter_mut().for_each(|v| *v += 1.0);
            }
        });
        for (i, v) in y.iter().enumerate() {
            let (line, pixel) = (i / 30, i / 5 % 6);
            let expected = (line % 4 % 2 == 0 && pixel % 2 == 1) as u8 as f32;
            assert_eq!(*v, expected, "at {i}");
        }
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_rows_are_refused() {
        let mut y = [0.0; 64];
        Tiles::new(&mut y, RowMap { w: 4, h: 2, pixel: 4, line: 12, image: 32, start: 0 }, 8, 4, 2, 2);
    }

    #[test]
    fn every_part_of_many_short_loops_is_taken_once() {
        for threads in all_threads() {
            let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
            let mut taken = [0_u32; 67];
            for round in 0..2000 {
                let count = round % (taken.len() + 1);
                cpu.run(Chunks::new(&mut taken[..count], 1, count), &mut [], 0, |_, part, _| part[0] += 1);
            }
            // Of 2000 rounds, those longer than i.
            let expected = |i: usize| (0..2000).filter(|round| round % 68 > i).count() as u32;
            taken.iter().enumerate().for_each(|(i, taken)| assert_eq!(*taken, expected(i)));
        }
    }

    #[cfg(feature = "std")]
    #[test]
    fn a_panic_in_a_part_reaches_the_caller_and_the_threads_work_on() {
        for threads in all_threads() {
            let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
            for bad in 0..40 {
                let mut y = [0_u8; 40];
                let parts = Chunks::new(&mut y, 1, 40);
                let loop_ = || cpu.run(parts, &mut [], 0, |i, _, _| assert!(i != bad, "part {i}"));
                let panic = std::panic::catch_unwind(core::panic::AssertUnwindSafe(loop_)).expect_err("one part panics");
                assert_eq!(*panic.downcast::<std::string::String>().expect("a text"), std::format!("part {bad}"));
                cpu.run(Chunks::new(&mut y, 1, 40), &mut [], 0, |_, part, _| part[0] = 1);
                assert_eq!(y, [1; 40]);
            }
        }
    }

    #[cfg(feature = "std")]
    #[test]
    fn loops_inside_loops_and_of_other_threads_share_a_team() {
        for threads in all_threads() {
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    let threads = threads.clone();
                    scope.spawn(move || {
                        let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
                        for _ in 0..200 {
                            let mut y = [[0_u8; 5]; 9];
                            cpu.run(Chunks::new(&mut y, 1, 9), &mut [], 0, |_, part, _| {
                                cpu.run(Chunks::new(&mut part[0], 1, 5), &mut [], 0, |_, part, _| part[0] += 1);
                            });
                            assert_eq!(y, [[1; 5]; 9]);
                        }
                    });
                }
            });
        }
    }
}
