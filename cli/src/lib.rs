#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod args;
pub mod commands;
pub mod dataset;
pub mod failure;
pub mod output;
