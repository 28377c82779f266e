#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// They panic where the disk behind stdout or stderr is full: `output` has what does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod about;
pub mod args;
pub mod bench_step;
pub mod block;
pub mod bytes;
pub mod calls;
pub mod commands;
pub mod engine;
pub mod failure;
pub mod frozen;
pub mod images;
pub mod lock;
pub mod max_mem;
pub mod median;
pub mod model;
pub mod output;
pub mod paths;
pub mod peak;
pub mod program;
pub mod published;
pub mod report;
pub mod setup;
pub mod signals;
pub mod weights;
