#![cfg_attr(not(feature = "std"), no_std)]
#![doc = include_str!("../README.md")]
// The names are C's.
#![allow(non_camel_case_types)]

mod boundary;
mod handles;
mod plan;
mod versions;

// In the order in which the header is to be read.
pub mod version;

pub mod last_error;
pub mod status;

pub mod config;

pub mod memory;
pub mod trainer;

pub mod program;

pub mod bundle;
pub mod routines;

pub mod random;

pub mod classes;

pub mod weights;

pub mod images;

pub mod features;

pub mod optimizer;

pub mod tensors;

pub mod texts;
pub mod threads;

pub mod callbacks;
pub mod panics;
