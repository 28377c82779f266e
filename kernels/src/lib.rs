#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![deny(unsafe_code)]
#![doc = include_str!("../README.md")]

#[cfg(test)]
extern crate std;

pub mod conv2d;
#[allow(unsafe_code)]
pub mod dispatch;
mod gemm;
#[allow(unsafe_code)]
pub mod isa;
pub mod level;
pub mod linear;
#[allow(unsafe_code)]
pub mod parallel;
pub mod reference;
pub mod weights;

pub use conv2d::{Algorithm, Conv2d, Memory, Pass};
pub use dispatch::Task;
pub use level::{Level, LevelError};
pub use linear::Linear;
pub use parallel::{Cpu, Threads};
pub use weights::WeightLayout;
