//! The pool's own source, with loom's threads, locks and atomics: every test is run in every order in which its threads
//! can meet (with few threads and loops: there are many orders), and a load may see every write that C11 allows it.
//!
//! ```sh
//! cd tests/loom && cargo test
//! ```
#![cfg(test)]

#[path = "../../../kernels/src/parallel/panics.rs"]
mod panics;
#[path = "../../../kernels/src/parallel/pool.rs"]
mod pool;
mod sync;
mod thread;

mod tests;
