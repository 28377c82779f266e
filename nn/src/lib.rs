#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]
#![doc = include_str!("../README.md")]

mod backward;
pub mod blueprint;
pub mod checkpoint;
pub mod error;
mod forward;
mod fuse;
pub mod graph;
pub mod heapless;
mod in_place;
mod init;
mod lasting;
mod memory;
pub mod op;
pub mod optimizer;
pub mod params;
pub mod recipe;
pub mod resnet;
pub mod save;
pub mod schedule;
pub mod setup;
#[cfg(feature = "std")]
pub mod state;
mod store;
pub mod summary;
pub mod trainer;
pub mod watch;

pub use blueprint::{Blueprint, Options};
pub use checkpoint::Native;
pub use error::Error;
pub use graph::{CrossEntropyOptions, Graph, Var};
pub use heapless::Head;
pub use nunatak_core::{ParamId, ParamSet, Update, ValueId};
pub use nunatak_kernels::cross_entropy::Reduction;
pub use nunatak_kernels::{Algorithm, Level, Memory, Pass, Threads};
pub use optimizer::{Optimizer, Sgd};
pub use params::{Entry, Name, Network, NormId, Param};
pub use recipe::{Recipe, Stem};
pub use resnet::{Mode, NormPolicy, ResNet};
pub use save::{Save, Saving};
pub use schedule::Schedule;
pub use setup::{Loss, Setup};
pub use trainer::Trainer;
pub use watch::{Call, Watch};
