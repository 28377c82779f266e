#![cfg_attr(not(feature = "std"), no_std)]
#![doc = include_str!("../README.md")]
// The names are C's.
#![allow(non_camel_case_types)]

mod boundary;
pub mod callbacks;
pub mod config;
mod handles;
pub mod images;
pub mod last_error;
pub mod optimizer;
pub mod panics;
pub mod random;
pub mod status;
pub mod tensors;
pub mod texts;
pub mod threads;
pub mod trainer;
pub mod version;
pub mod weights;
