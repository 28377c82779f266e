//! Optimisers and what moves their rates.

mod schedule;
mod sgd;

pub use schedule::Schedule;
pub use sgd::{Optimizer, Sgd, SgdError};
