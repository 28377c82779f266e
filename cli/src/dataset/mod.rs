//! Images on disk becoming the tensors that PyTorch would have made of them.
//!
//! ```text
//! folder       which files, which class          torchvision.datasets.ImageFolder
//! decode       bytes  → RGB8                     PIL.Image.open(f).convert("RGB")
//! resize       RGB8   → RGB8, antialiased        PIL.Image.resize(…, BILINEAR), to the byte
//! preprocess   RGB8   → f32 [3, S, S]            torchvision.transforms
//! loader       files  → batches, in threads      torch.utils.data.DataLoader
//! ```
//!
//! Each arrow is a plain function that can be tried alone. Nothing here knows a network.

pub mod decode;
pub mod folder;
pub mod loader;
pub mod preprocess;
pub mod resize;

pub use decode::{DecodeError, Rgb8, decode, read};
pub use folder::{FolderError, ImageFolder, Sample, SplitOptions};
pub use loader::{Batch, Batches, Loader, LoaderError, LoaderOptions, sequential, shuffled};
pub use preprocess::{Evaluation, Normalize, Preset, Training};
