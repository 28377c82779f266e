//! `.safetensors`: eight bytes of length, a JSON header, the data.
//!
//! ```text
//! u64 n | {"name": {"dtype": "F32", "shape": [64, 3], "data_offsets": [0, 768]}, …} | data
//! ```
//! One reader and one writer of headers, both without a heap; the format's own description:
//! <https://github.com/huggingface/safetensors>. The tensors must fill the data without hole or
//! overlap.
//!
//! | file | what it does |
//! |---|---|
//! | `json` | the header's strings and sizes |
//! | `read` | the tensors of a file; do they fill it |
//! | `error` | why bytes are no `.safetensors` |
//! | `header` | writes a header |
//! | `entries` | with a heap: entries of a checkpoint, metadata |
//! | `write` | with a heap: a file of named tensors |

#[cfg(feature = "std")]
mod entries;
mod error;
mod header;
mod json;
mod read;
#[cfg(feature = "std")]
mod write;

#[cfg(feature = "std")]
pub(crate) use entries::{Parsed, parse, read_object};
pub use error::FormatError;
pub(crate) use header::{HeaderWriter, padding};
pub(crate) use json::JsonStr;
pub use read::{Safetensors, TensorRef};
#[cfg(feature = "std")]
pub(crate) use write::write_object;
#[cfg(feature = "std")]
pub use write::write_safetensors;

/// The data begin at a multiple of this, a cache line, so that a mapped file can be used in place.
const ALIGN: usize = 64;
/// The format's own limit of a header's bytes.
const HEADER_MAX: u64 = 100_000_000;
