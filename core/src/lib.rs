#![no_std]
#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

#[cfg(feature = "std")]
extern crate alloc;

pub mod arena;
pub mod bundle;
pub mod error;
pub mod fnv;

pub mod lifetime;
pub mod list;
pub mod needs;
pub mod plan;
pub mod program;
pub mod repeat;
pub mod rng;
pub mod shape;
mod sort;
pub mod tape;
pub mod tensor;

pub use error::Error;
pub use lifetime::Update;

pub use list::List;
pub use shape::Shape;
pub use tensor::Tensor;
