//! Threads, which are started before they are needed: that is where memory is allocated, not in a
//! trainer.

use crate::boundary::call;
use crate::status::{Failure, fail, nunatak_status};
use nunatak_nn::Threads;

/// The most threads that can be asked for.
pub const NUNATAK_MAX_THREADS: usize = 256;

/// Different counts of threads that can be started at once.
#[cfg(feature = "std")]
const POOLS: usize = 16;

/// Threads, and the process that they are in: a fork does not take them along.
#[cfg(feature = "std")]
struct Pool {
    threads: Threads,
    process: u32,
}

#[cfg(feature = "std")]
static STARTED: std::sync::Mutex<[Option<Pool>; POOLS]> = std::sync::Mutex::new([const { None }; POOLS]);

#[cfg(feature = "std")]
fn started() -> std::sync::MutexGuard<'static, [Option<Pool>; POOLS]> {
    // Nothing that panics leaves the table halfway.
    STARTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A count that could be.
pub(crate) fn checked(count: usize) -> Result<usize, Failure> {
    if (1..=NUNATAK_MAX_THREADS).contains(&count) {
        Ok(count)
    } else {
        Err(fail!(NUNATAK_BAD_CONFIG, "threads is {count}, expected 1 to {NUNATAK_MAX_THREADS}"))
    }
}

/// The threads of this count.
pub(crate) fn of(count: usize) -> Result<Threads, Failure> {
    if count == 1 {
        return Ok(Threads::serial());
    }
    #[cfg(feature = "std")]
    if let Some(pool) = started().iter().flatten().find(|pool| pool.threads.count() == count) {
        return Ok(pool.threads.clone());
    }
    Err(fail!(NUNATAK_NO_THREADS, "{count} threads were not started; call nunatak_threads_start({count}) first"))
}

#[cfg(feature = "std")]
fn start(count: usize) -> Result<(), Failure> {
    let (mut table, process) = (started(), std::process::id());
    let same = table.iter().position(|place| place.as_ref().is_some_and(|pool| pool.threads.count() == count));
    if same.and_then(|at| table[at].as_ref()).is_some_and(|pool| pool.process == process) {
        return Ok(());
    }
    // Those of the process that this one was forked from are not here: they make room.
    let Some(at) = same.or_else(|| table.iter().position(|place| place.is_none())) else {
        return Err(fail!(NUNATAK_TOO_MANY, "{POOLS} different counts of threads are started already; stop one first"));
    };
    let threads = Threads::new(count).map_err(|e| fail!(NUNATAK_NO_THREADS, "{e}"))?;
    // Threads last; the reserve is for calls that end.
    if nunatak_heap::keeps() {
        return Err(fail!(NUNATAK_OUT_OF_MEMORY, "the system gave no memory for {count} threads"));
    }
    table[at] = Some(Pool { threads, process });
    Ok(())
}

#[cfg(not(feature = "std"))]
fn start(_: usize) -> Result<(), Failure> {
    Err(fail!(NUNATAK_UNSUPPORTED, "this library was built without threads; use 1"))
}

/// Starts `count` threads (1 to 256, the caller's included), which trainers whose config names this
/// count then share; 1 starts nothing. Starting them again is no error and does nothing. They sleep
/// while no trainer works. Allocates memory.
///
/// `NUNATAK_BAD_CONFIG` for another count, `NUNATAK_NO_THREADS` where the system gave none, `NUNATAK_TOO_MANY`
/// (at most 16 different counts), `NUNATAK_OUT_OF_MEMORY`, `NUNATAK_UNSUPPORTED` in a library without the standard library. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_threads_start(count: usize) -> nunatak_status {
    call(|_| match checked(count)? {
        1 => Ok(()),
        count => start(count),
    })
}

/// Lets `count` threads go: they end when the last trainer that has them is released.
/// `NUNATAK_NO_THREADS` where they were not started, `NUNATAK_BAD_CONFIG` for a count that can't be. Any thread.
///
/// After fork() the child has no threads but the one that forked. Trainers that were made with more compute alone
/// there, with the same bits. Stopping the parent's threads is NUNATAK_OK there, and starting starts new ones.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_threads_stop(count: usize) -> nunatak_status {
    call(|_| match checked(count)? {
        1 => Ok(()),
        count => stop(count),
    })
}

#[cfg(feature = "std")]
fn stop(count: usize) -> Result<(), Failure> {
    let pool = started().iter_mut().find_map(|place| place.take_if(|pool| pool.threads.count() == count));
    // They are joined here, after the table is free again.
    match pool {
        Some(_) => Ok(()),
        None => of(count).map(|_| ()),
    }
}

#[cfg(not(feature = "std"))]
fn stop(count: usize) -> Result<(), Failure> {
    of(count).map(|_| ())
}
