#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod args;
pub mod bench_step;
pub mod block;
pub mod calls;
pub mod commands;
pub mod dataset;
pub mod engine;
pub mod failure;
pub mod model;
pub mod output;
pub mod peak;
pub mod weights;
