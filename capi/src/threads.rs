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

#[cfg(feature = "std")]
static STARTED: std::sync::Mutex<[Option<Threads>; POOLS]> = std::sync::Mutex::new([const { None }; POOLS]);

#[cfg(feature = "std")]
fn started() -> std::sync::MutexGuard<'static, [Option<Threads>; POOLS]> {
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
    if let Some(threads) = started().iter().flatten().find(|threads| threads.count() == count) {
        return Ok(threads.clone());
    }
    Err(fail!(NUNATAK_NO_THREADS, "{count} threads were not started; call nunatak_threads_start({count}) first"))
}

#[cfg(feature = "std")]
fn start(count: usize) -> Result<(), Failure> {
    let mut table = started();
    if table.iter().flatten().any(|threads| threads.count() == count) {
        return Ok(());
    }
    let Some(place) = table.iter_mut().find(|place| place.is_none()) else {
        return Err(fail!(NUNATAK_TOO_MANY, "{POOLS} different counts of threads are started already; stop one first"));
    };
    *place = Some(Threads::new(count).map_err(|e| fail!(NUNATAK_NO_THREADS, "{e}"))?);
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
/// (at most 16 different counts), `NUNATAK_UNSUPPORTED` in a library without the standard library. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_threads_start(count: usize) -> nunatak_status {
    call(|| match checked(count)? {
        1 => Ok(()),
        count => start(count),
    })
}

/// Lets `count` threads go: they end when the last trainer that has them is released.
/// `NUNATAK_NO_THREADS` where they were not started, `NUNATAK_BAD_CONFIG` for a count that can't be. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_threads_stop(count: usize) -> nunatak_status {
    call(|| {
        let count = checked(count)?;
        if count == 1 {
            return Ok(());
        }
        // They are joined after the table is free again.
        let _threads = of(count)?;
        #[cfg(feature = "std")]
        started().iter_mut().filter(|place| place.as_ref().is_some_and(|t| t.count() == count)).for_each(|place| *place = None);
        Ok(())
    })
}
