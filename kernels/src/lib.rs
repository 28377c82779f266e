#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![deny(unsafe_code)]
#![doc = include_str!("../README.md")]

pub mod avgpool;
pub mod batchnorm;
pub mod clip;
pub mod conv2d;
pub mod cross_entropy;
#[allow(unsafe_code)]
pub mod dispatch;
pub mod elementwise;
#[allow(unsafe_code)]
pub mod isa;
mod lanes;
pub mod level;
pub mod maxpool;
pub mod mse;
#[allow(unsafe_code)]
pub mod parallel;
pub mod reduce;
pub mod reference;
pub mod relu;
pub mod sgd;
#[cfg(test)]
mod testing;

pub use dispatch::Task;
pub use level::{Level, LevelError};
pub use parallel::{Cpu, Threads};
