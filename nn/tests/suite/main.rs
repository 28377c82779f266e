//! The library from outside, by its public functions: one file for each part.

mod bundles;
mod checkpoint_files;
mod checkpoint_layouts;
mod checkpoint_native;
mod checkpoint_pickle;
mod checkpoint_resnet18;
mod checkpoint_safetensors;
mod checkpoint_target;
mod checkpoint_zip;
mod heapless;
mod models;
mod onnx;
mod ops;
mod own_network;
mod ring;
mod slots;

#[path = "../support/mod.rs"]
mod support;
