//! nunatak
#![no_std]
#![forbid(unsafe_code)]

pub mod rng;
