#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]
// What is recorded of operations that a build has not is refused, and their code is left out.
#![cfg_attr(not(feature = "operations"), allow(dead_code))]
#![doc = include_str!("../README.md")]

// The cases of `tests/suite/ops` serve tests in here too.
#[cfg(all(test, feature = "std"))]
extern crate self as nunatak_nn;

pub mod error;
pub mod files;
#[cfg(feature = "std")]
pub mod int8;
mod memory;
pub mod models;
pub mod name;
pub mod ops;
pub mod optim;
pub mod plan;
pub mod record;
pub mod routines;
pub mod select;
pub mod step;

pub use error::Error;
pub use files::Native;
pub use models::{Recipe, Stem};
pub use name::Name;
pub use nunatak_core::Update;
pub use nunatak_core::bundle::Bundle;
pub use nunatak_core::program::{EntryKind, Program};
pub use nunatak_core::tape::{EntryId, ValueId};
pub use nunatak_kernels::cross_entropy::Reduction;
pub use nunatak_kernels::{Algorithm, Denormals, InstructionSet, Level, Memory, Pass, Threads};
pub use ops::{Conv, CrossEntropyOptions, Dense, Norm};
pub use optim::{Optimizer, Schedule, Sgd};
pub use plan::{Step, Target};
pub use record::{Graph, Init, Loss, Scope, Usual, Var};
pub use select::{Mode, NormPolicy, Select};
pub use step::{Event, NewClass, Trainer, Watch};
