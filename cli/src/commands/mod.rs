//! The subcommands, one file each.

pub mod completions;
pub mod convert;
pub mod demo;
pub mod evaluate;
pub mod explain;
pub mod export;
pub mod finetune;
pub mod inspect;
pub mod lr_find;
pub mod man;
pub mod measure;
pub mod plan;
pub mod predict;
pub mod profile;
pub mod step;
pub mod verify;
