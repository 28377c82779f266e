use crate::pool::Pool;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Runs a test in every order in which threads are interrupted at most so often where they could go on (they wait, and
/// others go on, as often as they like). `NUNATAK_PREEMPTIONS=4` allows more.
fn model(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let more = std::env::var("NUNATAK_PREEMPTIONS").ok().and_then(|n| n.parse().ok());
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(more.unwrap_or(preemptions));
    builder.max_branches = 100_000;
    let orders = Arc::new(AtomicU64::new(0));
    let counted = orders.clone();
    builder.check(move || {
        counted.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        test();
    });
    println!("{} orders", orders.load(core::sync::atomic::Ordering::Relaxed));
}

/// A loop of so many parts: each is handed out once, and written without an atomic.
struct Parts(Vec<UnsafeCell<u32>>, AtomicUsize);

// SAFETY: loom looks who reads and writes the cells.
unsafe impl Sync for Parts {}

impl Parts {
    fn new(count: usize) -> Parts {
        Parts((0..count).map(|_| UnsafeCell::new(0)).collect(), AtomicUsize::new(0))
    }

    fn run(&self, pool: &Pool, workers: usize) {
        pool.run(workers, &|_| {
            loop {
                let part = self.1.fetch_add(1, Ordering::Relaxed);
                let Some(cell) = self.0.get(part) else { return };
                // SAFETY: a part of its own, or loom says so.
                cell.with_mut(|value| unsafe { *value += 1 });
            }
        });
        // What helpers wrote is there.
        for cell in &self.0 {
            // SAFETY: the loop is over, or loom says so.
            cell.with(|value| assert_eq!(unsafe { *value }, 1));
        }
    }
}

#[test]
fn a_loop_begins_and_ends_with_one_helper() {
    model(3, || {
        let pool = Pool::new(1, true).expect("a helper");
        Parts::new(2).run(&pool, 2);
    });
}

#[test]
fn two_loops_follow_each_other() {
    model(3, || {
        let pool = Pool::new(1, true).expect("a helper");
        Parts::new(2).run(&pool, 2);
        Parts::new(1).run(&pool, 2);
    });
}

#[test]
fn a_loop_has_two_helpers() {
    model(2, || {
        let pool = Pool::new(2, true).expect("helpers");
        Parts::new(2).run(&pool, 3);
    });
}

#[test]
fn two_callers_share_a_pool() {
    model(2, || {
        let pool = loom::sync::Arc::new(Pool::new(1, true).expect("a helper"));
        let other = pool.clone();
        let caller = loom::thread::spawn(move || Parts::new(1).run(&other, 2));
        Parts::new(1).run(&pool, 2);
        caller.join().expect("the other caller's loop");
    });
}

#[test]
fn a_panic_reaches_the_caller_after_all_have_ended() {
    model(3, || {
        let pool = Pool::new(1, true).expect("a helper");
        let done = AtomicUsize::new(0);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            pool.run(2, &|i| {
                done.fetch_add(1, Ordering::Relaxed);
                std::panic::resume_unwind(Box::new(i));
            });
        }));
        assert!(*panic.expect_err("every call panics").downcast::<usize>().expect("its number") < 2);
        let first = done.load(Ordering::Relaxed);
        Parts::new(1).run(&pool, 2);
        assert_eq!(done.load(Ordering::Relaxed), first);
    });
}

#[test]
fn a_pool_ends_whose_helper_was_asked_nothing() {
    model(3, || drop(Pool::new(1, true).expect("a helper")));
}
