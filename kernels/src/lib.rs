#![no_std]
#![deny(unsafe_code)]
#![doc = include_str!("../README.md")]

#[cfg(any(test, feature = "std"))]
extern crate std;
// The name that `testing` knows this crate by.
#[cfg(test)]
extern crate self as nunatak_kernels;

pub mod avgpool;
mod axes;
pub mod batchnorm;
pub mod bce_with_logits;
pub mod bias;
mod bounds;
pub mod broadcast;
pub mod calibration;
pub mod clip;
pub mod concat;
pub mod conv2d;
pub mod cross_entropy;
#[allow(unsafe_code)]
pub mod denormals;
#[allow(unsafe_code)]
mod dispatch;
pub mod dropout;
pub mod elementwise;
pub mod finite;
pub mod flatten;
mod gemm;
#[cfg(nunatak_mve)]
#[allow(unsafe_code)]
mod helium;
pub mod images;
pub mod int8;
#[allow(unsafe_code)]
mod isa;
pub mod l1;
mod lanes;
pub mod level;
pub mod linear;
mod math;
pub mod maxpool;
pub mod mse;
#[allow(unsafe_code)]
mod parallel;
pub mod pointwise;
pub mod reduce;
pub mod reduce_axes;
pub mod reference;
pub mod relu;
pub mod sgd;
#[allow(unsafe_code)]
mod sixteen;
pub mod smooth_l1;
pub mod softmax;
#[cfg(test)]
#[path = "../tests/ops/testing.rs"]
#[allow(dead_code, reason = "the tests of ops use the rest")]
mod testing;
pub mod weights;
pub mod window;

pub use conv2d::{Algorithm, Conv2d, Finish, Memory, Pass};
pub use denormals::Denormals;
pub(crate) use dispatch::Task;
pub use level::{InstructionSet, Level, LevelError};
pub use linear::Linear;
#[cfg(feature = "std")]
pub use parallel::ThreadsError;
pub use parallel::{Cpu, Threads};
pub use pointwise::Pointwise;
pub use weights::WeightLayout;
