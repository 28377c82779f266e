#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod args;
pub mod bench_step;
pub mod commands;
pub mod dataset;
pub mod failure;
pub mod output;
pub mod weights;
