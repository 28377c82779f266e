//! Tests that look at nunatak from outside: one file for each property.

mod again;
mod checkpoint;
mod determinism;
mod features;
mod freezing;
mod fusion;
mod golden;
mod gradients;
mod growing;
mod hostile_programs;
mod in_place;
mod init;
mod kept_gradients;
mod learning;
mod levels;
mod memory;
mod micro_batches;
mod not_finite;
mod numbers;
mod optimizer;
mod orders;
mod programs;
mod regions;
mod shared_parameters;
mod switching;
mod watching;
