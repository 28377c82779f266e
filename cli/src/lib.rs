//! What the program `nunatak` is made of; its tests use it too.
#![forbid(unsafe_code)]

pub mod args;
pub mod bench_step;
pub mod commands;
pub mod dataset;
pub mod engine;
pub mod failure;
pub mod model;
pub mod output;
pub mod weights;
