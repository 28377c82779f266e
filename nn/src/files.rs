//! Checkpoint files: PyTorch's `.pth` (both forms) and `.safetensors`, and the library's own
//! [`native`] format, whose weights can be used where they lie.
//!
//! `Checkpoint::parse` takes the bytes of a whole file (read or memory-mapped), finds out which of
//! the four formats it is, and gives its tensors as entries that borrow those bytes.
//! `write_safetensors` and `write_pth` write what PyTorch loads; a crash at any moment leaves
//! the old file in place. All of this needs the standard library; [`native`] does not.
//!
//! The promise, for any bytes: no panic, nothing executed or imported, memory of at most twice the
//! file and 1 MiB, time in proportion to its size, and an error that says where and why. Checksums
//! of a zip `.pth` are checked while parsing, so an entry's bytes are what was saved.
//!
//! ```
//! # #[cfg(not(feature = "std"))] fn main() {}
//! # #[cfg(feature = "std")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use nunatak_nn::files::{Checkpoint, Data, TensorOut, write_safetensors};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("head.safetensors");
//! let bias = TensorOut { name: "fc.bias", shape: &[2], data: Data::F32(&[0.5, -0.5]) };
//! write_safetensors(&path, &[bias], &Default::default())?;
//!
//! let bytes = std::fs::read(&path)?;
//! let checkpoint = Checkpoint::parse(&bytes)?;
//! let mut bias = Vec::new();
//! checkpoint.get("fc.bias").ok_or("no fc.bias")?.read_f32(&mut bias)?;
//! assert_eq!(bias, [0.5, -0.5]);
//! # Ok(())
//! # }
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `sniff` | which format, or which other thing |
//! | `pth` | PyTorch's `.pth`, both forms, read and written |
//! | `safetensors` | the header, read and written |
//! | `native`, `mapped` | weights in place: the format, and files mapped into memory |
//! | `statistics` | running statistics that are refused |
//! | `parse` | any of the four formats |
//! | `state_dict`, `names` | which dict of a file is a network's; who names entries how |
//! | `matching` | which entry of a network a tensor is, and whether it fits |
//! | `state`, `save`, `heapless` | between files and trainers: with a heap, as native files, and without a heap |
//! | `onnx` | networks for other programs to execute, written only |
//! | `flash`, `slots`, `ring` | raw flash, safe from power cuts: what is saved, features of images |
//! | `entry`, `dtype` | one tensor; conversion; types |
//! | `tensor_out`, `atomic` | writing |
//! | `budget`, `bytes`, `error` | bounds on memory, bytes, messages |

mod flash;
pub mod heapless;
pub mod native;
pub mod ring;
pub mod save;
pub mod slots;
#[cfg(feature = "std")]
pub mod state;
mod statistics;

mod dtype;
mod matching;
mod safetensors;

#[cfg(feature = "std")]
pub mod atomic;
#[cfg(feature = "std")]
mod budget;
#[cfg(feature = "std")]
mod bytes;
#[cfg(feature = "std")]
mod entry;
#[cfg(feature = "std")]
mod error;
#[cfg(feature = "std")]
mod mapped;
#[cfg(feature = "std")]
mod names;
#[cfg(feature = "std")]
pub mod onnx;
#[cfg(feature = "std")]
mod parse;
#[cfg(feature = "std")]
mod pth;
#[cfg(feature = "std")]
mod sniff;
#[cfg(feature = "std")]
mod state_dict;
#[cfg(feature = "std")]
mod tensor_out;

pub use dtype::Dtype;
#[cfg(feature = "std")]
pub use entry::Entry;
#[cfg(feature = "std")]
pub use error::{ReadError, ReadErrorKind, WriteError};
pub use heapless::Head;
#[cfg(feature = "std")]
pub use mapped::Mapped;
pub use native::Native;
#[cfg(feature = "std")]
pub use native::write_native;
#[cfg(feature = "std")]
pub use onnx::{OnnxError, write_onnx};
#[cfg(feature = "std")]
pub use parse::{Checkpoint, Format};
#[cfg(feature = "std")]
pub use pth::write_pth;
#[cfg(feature = "std")]
pub use safetensors::write_safetensors;
pub(crate) use statistics::wrong_statistics;
#[cfg(feature = "std")]
pub use tensor_out::{Data, TensorOut};
