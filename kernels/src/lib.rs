#![no_std]
#![deny(unsafe_code)]
#![doc = include_str!("../README.md")]

#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod avgpool;
pub mod batchnorm;
pub mod calibration;
pub mod clip;
pub mod conv2d;
pub mod cross_entropy;
#[allow(unsafe_code)]
pub mod denormals;
#[allow(unsafe_code)]
pub mod dispatch;
pub mod elementwise;
mod gemm;
pub mod images;
#[allow(unsafe_code)]
pub mod isa;
mod lanes;
pub mod level;
pub mod linear;
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
pub mod weights;

pub use conv2d::{Algorithm, Conv2d, Finish, Memory, Pass};
pub use denormals::Denormals;
pub use dispatch::Task;
pub use level::{Level, LevelError};
pub use linear::Linear;
pub use parallel::{Cpu, Threads};
pub use weights::WeightLayout;
