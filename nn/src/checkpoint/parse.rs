//! Any checkpoint: which format it is, and its tensors by name.

#![forbid(unsafe_code)]

use super::budget::Budget;
use super::entry::Entry;
use super::error::{ReadError, ReadErrorKind};
use super::native::Native;
use super::{legacy, pth, safetensors, sniff, state_dict};
use crate::state::recipe_metadata;
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
    /// `.nunatak`, see [`native`](super::native).
    Native,
}

/// The tensors of a file, borrowed from its bytes.
#[derive(Debug, Clone)]
pub struct Checkpoint<'f> {
    format: Format,
    entries: Vec<Entry<'f>>,
    /// Indices of `entries`, sorted by name.
    by_name: Vec<u32>,
    metadata: BTreeMap<String, String>,
    native: Option<Native<'f>>,
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
            Format::Native => native_entries(bytes, &mut budget)?,
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
        // Parsed once already: it costs no more than its head.
        let native = if format == Format::Native { Native::parse(bytes).ok() } else { None };
        Ok(Self { format, entries, by_name, metadata, native })
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

    /// The native file, if it is one.
    pub fn native(&self) -> Option<&Native<'f>> {
        self.native.as_ref()
    }

    /// The `__metadata__` of a `.safetensors`, the metadata of a native file; empty for a `.pth`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

/// The tensors of a native file, after all its checksums were compared.
fn native_entries<'f>(bytes: &'f [u8], budget: &mut Budget) -> Result<safetensors::Parsed<'f>, ReadError> {
    let file = Native::parse(bytes)?;
    file.verify()?;
    let mut entries = Vec::new();
    for tensor in file.tensors() {
        budget.push(&mut entries, Entry::native(&tensor))?;
    }
    let mut metadata: BTreeMap<String, String> = recipe_metadata(file.recipe());
    metadata.extend(file.metadata().map(|(key, value)| (key.to_string(), value.to_string())));
    Ok((entries, metadata))
}
