#![doc = include_str!("../README.md")]

pub mod buffer;
pub mod case;
pub mod cases;
pub mod cells;
pub mod rates;
pub mod record;
pub mod settings;

pub use buffer::numbers;

/// The front page's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// The examples of the page with other libraries' calls, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/coming-from.md")]
pub struct ComingFrom;
