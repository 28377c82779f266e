//! Executing a program: forward, backward, step.
//!
//! ```text
//! Program  --->  Trainer  --->  kernels
//! what, where    whose memory   do it
//! ```
//!
//! A [`Trainer`] knows nothing of recording and planning. It reads the program in place, and keeps what changes
//! from step to step in the block.

mod begin;
mod check;
mod digest;
mod doors;
mod grow;
mod init;
mod inputs;
mod text;
mod trainer;
mod trunk;
mod undo;
mod walk;
mod watch;
mod weights;

pub use digest::{Digest, Written};
pub use grow::NewClass;
pub use text::{
    CallCounts, Summary, call_algorithm, call_convolution, call_counts, call_flops, call_name, call_of, call_operation, call_reads,
    each_call,
};
pub use trainer::{Trainer, check_program, check_program_for};
pub use watch::{Event, Watch};
