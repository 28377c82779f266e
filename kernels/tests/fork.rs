//! A process that forks: its child has a copy of the memory, and of the threads only the one that forked.
//!
//! Alone in its file: what other tests of a process lock while it forks stays locked in the child.
#![cfg(all(feature = "std", target_os = "linux"))]

use nunatak_kernels::{Cpu, Level, Threads, elementwise};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

unsafe extern "C" {
    safe fn fork() -> i32;
    safe fn _exit(status: i32) -> !;
    safe fn kill(process: i32, signal: i32) -> i32;
    unsafe fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
}

/// For `waitpid`: only look.
const NO_HANG: i32 = 1;

/// Whether a loop of several parts gives what it should.
fn computes(threads: &Threads) -> bool {
    let mut y = vec![1.0; 100_000];
    elementwise::scale_assign(&Cpu { level: Level::PORTABLE, threads }, 2.0, &mut y);
    y.iter().all(|v| *v == 2.0)
}

#[test]
fn a_forked_child_computes_and_drops_its_threads() {
    for nap in [0, 20] {
        let threads = Threads::oversubscribed(3).expect("threads");
        assert!(computes(&threads));
        // The helpers are about to sleep, or asleep.
        std::thread::sleep(Duration::from_millis(nap));
        let child = fork();
        if child == 0 {
            let work = || {
                let right = computes(&threads);
                drop(threads);
                right
            };
            _exit(if catch_unwind(AssertUnwindSafe(work)).unwrap_or(false) { 7 } else { 1 });
        }
        let (start, mut status) = (Instant::now(), 0);
        // SAFETY: `status` is there to be written.
        while unsafe { waitpid(child, &raw mut status, NO_HANG) } == 0 {
            if start.elapsed().as_secs() > 60 {
                kill(child, 9);
                panic!("the child hangs");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(status, 7 << 8, "how the child ended");
        assert!(computes(&threads));
    }
}
