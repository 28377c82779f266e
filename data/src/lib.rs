#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod decode;
pub mod folder;
pub mod loader;
pub mod mixing;
pub mod preprocess;
pub mod resize;
pub mod sampler;
pub mod threads;

pub use decode::{DecodeError, Rgb8, decode, read};
pub use folder::{FolderError, ImageFolder, Sample, SplitOptions};
pub use loader::{Batch, Batches, Loader, LoaderError, LoaderOptions};
pub use mixing::{Mix, Mixed, Mixing};
pub use preprocess::{Evaluation, Normalize, Preset, Training};
pub use sampler::{balanced, sequential, shuffled};
