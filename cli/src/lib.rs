//! The parts of the program `nunatak` that are worth testing without a terminal.
#![forbid(unsafe_code)]

pub mod dataset;
