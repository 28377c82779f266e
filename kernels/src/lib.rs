#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![deny(unsafe_code)]
#![doc = include_str!("../README.md")]

pub mod conv2d;
#[allow(unsafe_code)]
pub mod dispatch;
#[allow(unsafe_code)]
pub mod isa;
pub mod level;
#[allow(unsafe_code)]
pub mod parallel;

pub use dispatch::Task;
pub use level::{Level, LevelError};
pub use parallel::{Cpu, Threads};
