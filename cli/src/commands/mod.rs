//! The subcommands, one file each.

pub mod convert;
pub mod demo;
pub mod evaluate;
pub mod finetune;
pub mod inspect;
pub mod measure;
pub mod plan;
pub mod predict;
pub mod profile;
pub mod step;
