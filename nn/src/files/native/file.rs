//! Native files on disk, written so that at every moment either the old or the new one stands there.

use super::write::{emit_floats, write};
use super::{Hash, Head, Layout, Source, Spec};
use crate::files::atomic;
use crate::files::error::WriteError;
use crate::files::save::Saving;
use crate::files::tensor_out::{Data, TensorOut};
use crate::name::Name;
use crate::record::Layout as Home;
use nunatak_core::program::{EntryKind, Program};
use nunatak_core::tape::EntryId;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::string::ToString;
use std::vec::Vec;

/// Writes the tensors of a program's network to `path`, in the kernels' layout, atomically. They must be the
/// network's, all of them, in any order; counts of batches that are not there are written as 0.
///
/// # Errors
/// When a tensor is missing, not the network's, or of another shape or type, or the system refuses.
/// The file that stood there before is then untouched.
pub fn write_native(
    path: &Path,
    program: &Program,
    tensors: &[TensorOut],
    metadata: &BTreeMap<String, String>,
) -> Result<Hash, WriteError> {
    let by_name: BTreeMap<&str, &TensorOut> = tensors.iter().map(|tensor| (tensor.name, tensor)).collect();
    let mut used = 0;
    let mut entries = Vec::new();
    for id in program.entries() {
        let entry = program.entry(id);
        let name = entry.name();
        let bad = |why| Err(WriteError::Name { name: name.to_string(), why });
        let tensor = by_name.get(name).copied();
        used += usize::from(tensor.is_some());
        let (shape, rank) = entry.shape();
        match (entry.kind(), tensor.map(|t| t.data)) {
            (EntryKind::Count, None | Some(Data::I64([_]))) => {}
            (EntryKind::Count, Some(_)) => return bad("a count must be one integer"),
            (_, None) => return bad("the network has this tensor, and it is not there"),
            (EntryKind::Words, Some(Data::F32(_) | Data::I64(_))) => return bad("words of 32 bits are due"),
            (EntryKind::Parameter | EntryKind::RunningMean | EntryKind::RunningVar, Some(Data::I64(_) | Data::I32(_))) => {
                return bad("holds integers where numbers are due");
            }
            (_, Some(data)) if tensor.map(|t| t.shape) != Some(&shape[..rank]) || data.len() != entry.numbers() => {
                return Err(WriteError::Shape { name: name.to_string(), shape: shape[..rank].to_vec(), given: data.len() });
            }
            (_, Some(_)) => {}
        }
        entries.push((id, tensor.map(|t| t.data)));
    }
    if used != tensors.len() {
        let known: Vec<_> = program.entries().map(|id| program.entry(id).name()).collect();
        let name = tensors.iter().map(|t| t.name).find(|name| !known.contains(name));
        let (name, why) = match name {
            Some(name) => (name, "the network has no such tensor"),
            None => ("", "two tensors have one name"),
        };
        return Err(WriteError::Name { name: name.to_string(), why });
    }
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let head = Head { recipe: program.model().parse().ok(), base: None, metadata: &metadata };
    replace(path, |sink| write(&head, &Given { program, entries }, sink))
}

impl Saving<'_> {
    /// Writes the file to `path`, atomically; returns its hash.
    ///
    /// # Errors
    /// [`WriteError`]; the file that stood there before is then untouched.
    pub fn save(&self, path: &Path) -> Result<Hash, WriteError> {
        replace(path, |sink| self.write(sink))
    }
}

fn replace(path: &Path, write: impl FnOnce(super::Sink<io::Error>) -> io::Result<Hash>) -> Result<Hash, WriteError> {
    let mut hash = Hash([0; 32]);
    atomic::replace(path, |out| {
        hash = write(&mut |bytes| out.write_all(bytes))?;
        Ok(())
    })?;
    Ok(hash)
}

/// Tensors in PyTorch's order, checked to be the network's.
struct Given<'a> {
    program: &'a Program<'a>,
    entries: Vec<(EntryId, Option<Data<'a>>)>,
}

impl Source for Given<'_> {
    fn specs(&self) -> impl Iterator<Item = Spec> {
        self.entries.iter().map(|&(id, _)| spec(self.program, id))
    }

    fn emit<E>(&self, i: usize, sink: super::Sink<E>) -> Result<(), E> {
        let (id, data) = self.entries[i];
        match (data, Home::decode(self.program.entry(id).layout())) {
            (Some(Data::F32(data)), Some(Home::Weight(layout))) => {
                let mut packed = std::vec![0.0; layout.len()];
                layout.pack(data, &mut packed);
                emit_floats(&packed, sink)
            }
            (Some(Data::F32(data)), _) => emit_floats(data, sink),
            (Some(Data::I64(data)), _) => data.iter().try_for_each(|n| sink(&n.to_le_bytes())),
            (Some(Data::I32(data)), _) => data.iter().try_for_each(|n| sink(&n.to_le_bytes())),
            (None, _) => sink(&0_i64.to_le_bytes()),
        }
    }
}

/// What is written of an entry: as the kernels read it.
pub(crate) fn spec(program: &Program, id: EntryId) -> Spec {
    let entry = program.entry(id);
    let (shape, rank) = entry.shape();
    let layout = match Home::decode(entry.layout()) {
        Some(Home::Weight(layout)) => Layout::Blocks(layout),
        Some(Home::Count) => Layout::Count,
        Some(Home::Words) => Layout::Words,
        Some(Home::Plain) | None => Layout::Plain,
    };
    Spec { name: Name::of(entry.name()), shape, rank, layout }
}
