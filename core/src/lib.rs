#![no_std]
#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

pub mod arena;
pub mod error;
pub mod lifetime;
pub mod needs;
pub mod plan;
pub mod rng;
pub mod shape;
mod sort;
pub mod tape;
pub mod tensor;

pub use error::Error;
pub use lifetime::Update;
pub use needs::{Need, Needs, ParamSet};
pub use plan::Plan;
pub use shape::Shape;
pub use tape::{Node, Operation, ParamId, Reads, Tape, ValueId};
pub use tensor::Tensor;
