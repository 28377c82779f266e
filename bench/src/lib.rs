#![doc = include_str!("../README.md")]

pub mod buffer;
pub mod case;
pub mod cases;
pub mod cells;
pub mod rates;
pub mod record;
pub mod settings;

pub use buffer::numbers;

/// The README's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
