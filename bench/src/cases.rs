//! Everything that is timed: one file per operation, and the whole steps.

pub mod batchnorm;
pub mod conv2d;
pub mod elementwise;
pub mod int8;
pub mod linear;
pub mod losses;
pub mod operations;
pub mod pooling;
pub mod sgd;
pub mod step;
