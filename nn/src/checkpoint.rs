//! Checkpoint files: PyTorch's `.pth` (both forms) and `.safetensors`, read and written.
//!
//! [`Checkpoint::parse`] takes the bytes of a whole file (read or memory-mapped), finds out which of
//! the three formats it is, and gives its tensors as [`Entry`]s that borrow those bytes.
//! [`write_safetensors`] and [`write_pth`] write what PyTorch loads; a crash at any moment leaves
//! the old file in place.
//!
//! The promise, for any bytes: no panic, nothing executed or imported, memory of at most twice the
//! file and 1 MiB, time in proportion to its size, and an error that says where and why. Checksums
//! of a zip `.pth` are checked while parsing, so an entry's bytes are what was saved.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use nunatak_nn::checkpoint::{Checkpoint, Data, TensorOut, write_safetensors};
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
//! | `zip`, `pickle`, `pickle::globals`, `graph` | the container, the opcodes, what they may name, the tables they fill |
//! | `pth`, `legacy`, `state_dict` | the two forms of `.pth`; which tensors are handed out |
//! | `safetensors`, `json` | the header |
//! | `entry` | one tensor; conversion |
//! | `write_safetensors`, `write_pth`, `tensor_out`, `atomic` | writing |
//! | `budget`, `bytes`, `error` | bounds on memory, bytes, messages |

mod atomic;
mod budget;
mod bytes;
mod entry;
mod error;
mod graph;
mod json;
mod legacy;
mod pickle;
mod pth;
mod safetensors;
mod sniff;
mod state_dict;
mod tensor_out;
mod write_pth;
mod write_safetensors;
mod zip;

pub use entry::{Dtype, Entry};
pub use error::{ReadError, ReadErrorKind, WriteError};
pub use tensor_out::{Data, TensorOut};
pub use write_pth::write_pth;
pub use write_safetensors::write_safetensors;

use budget::Budget;
use std::collections::BTreeMap;

/// The format of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `.pth` as torch has written it since 1.6: a zip file.
    PthZip,
    /// `.pth` as torch wrote it before: pickles in sequence.
    PthLegacy,
    /// `.safetensors`.
    Safetensors,
}

/// The tensors of a file, borrowed from its bytes.
#[derive(Debug, Clone)]
pub struct Checkpoint<'f> {
    format: Format,
    entries: Vec<Entry<'f>>,
    /// Indices of `entries`, sorted by name.
    by_name: Vec<u32>,
    metadata: BTreeMap<String, String>,
}

impl<'f> Checkpoint<'f> {
    /// Reads the table of tensors out of a whole file's bytes.
    ///
    /// In a `.pth`, the state_dict may stand at the top or under `state_dict` or `model`; plain data
    /// beside it (an epoch, an optimizer's state) is passed over. Where all names begin with
    /// `module.` (`DataParallel`), it is taken off.
    ///
    /// # Errors
    /// When the bytes are no checkpoint, or one that contradicts itself, or one with something in
    /// it that would have to be run; see [`ReadErrorKind`].
    pub fn parse(bytes: &'f [u8]) -> Result<Self, ReadError> {
        let format = sniff::sniff(bytes)?;
        let mut budget = Budget::for_file(bytes.len());
        let (mut entries, metadata) = match format {
            Format::PthZip => (pth::parse(bytes, &mut budget)?, BTreeMap::new()),
            Format::PthLegacy => (legacy::parse(bytes, &mut budget)?, BTreeMap::new()),
            Format::Safetensors => safetensors::parse(bytes, &mut budget)?,
        };
        state_dict::strip_module(&mut entries);
        let mut by_name = Vec::new();
        budget.reserve(&mut by_name, entries.len())?;
        by_name.extend(0..entries.len() as u32);
        by_name.sort_unstable_by_key(|&i| (entries[i as usize].name(), i));
        for pair in by_name.windows(2) {
            let second = &entries[pair[1] as usize];
            if entries[pair[0] as usize].name() == second.name() {
                return Err(ReadError::new(ReadErrorKind::Tensor, "two tensors have this name")
                    .entry(second.name())
                    .at(second.offset() as usize));
            }
        }
        Ok(Self { format, entries, by_name, metadata })
    }

    /// Which format the bytes are in.
    pub fn format(&self) -> Format {
        self.format
    }

    /// All tensors: in a `.pth` in the state_dict's order, in `.safetensors` as the data lie.
    pub fn entries(&self) -> &[Entry<'f>] {
        &self.entries
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Entry<'f>> {
        let found = self.by_name.binary_search_by(|&i| self.entries[i as usize].name().cmp(name)).ok()?;
        self.entries.get(self.by_name[found] as usize)
    }

    /// The `__metadata__` of a `.safetensors`; empty for a `.pth`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}
