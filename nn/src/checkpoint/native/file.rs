//! Native files on disk, written so that at every moment either the old or the new one stands there.

use super::write::{emit_floats, write};
use super::{Hash, Head, Layout, Source, Spec};
use crate::Network;
use crate::checkpoint::atomic;
use crate::checkpoint::error::WriteError;
use crate::checkpoint::tensor_out::{Data, TensorOut};
use crate::params::Entry;
use crate::save::Saving;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::string::ToString;
use std::vec::Vec;

/// Writes a network's tensors to `path`, in the kernels' layout, atomically. They must be the
/// network's, all of them, in any order; counts of batches that are not there are written as 0.
///
/// # Errors
/// When a tensor is missing, not the network's, or of another shape or type, or the system refuses.
/// The file that stood there before is then untouched.
pub fn write_native(
    path: &Path,
    network: &Network,
    tensors: &[TensorOut],
    metadata: &BTreeMap<String, String>,
) -> Result<Hash, WriteError> {
    let by_name: BTreeMap<&str, &TensorOut> = tensors.iter().map(|tensor| (tensor.name, tensor)).collect();
    let mut used = 0;
    let mut entries = Vec::new();
    for entry in network.entries() {
        let name = network.entry_name(entry);
        let bad = |why| Err(WriteError::Name { name: name.as_str().to_string(), why });
        let tensor = by_name.get(name.as_str()).copied();
        used += usize::from(tensor.is_some());
        let (shape, rank) = network.entry_shape(entry);
        match (entry, tensor.map(|t| t.data)) {
            (Entry::NumBatchesTracked(_), None | Some(Data::I64([_]))) => {}
            (Entry::NumBatchesTracked(_), Some(_)) => return bad("a count must be one integer"),
            (_, None) => return bad("the network has this tensor, and it is not there"),
            (_, Some(Data::I64(_))) => return bad("holds integers where numbers are due"),
            (_, Some(Data::F32(data)))
                if tensor.map(|t| t.shape) != Some(&shape[..rank]) || data.len() != shape.iter().product::<usize>() =>
            {
                return Err(WriteError::Shape { name: name.as_str().to_string(), shape: shape[..rank].to_vec(), given: data.len() });
            }
            (_, Some(Data::F32(_))) => {}
        }
        entries.push((entry, tensor.map(|t| t.data)));
    }
    if used != tensors.len() {
        let known: Vec<_> = network.entries().map(|entry| network.entry_name(entry)).collect();
        let name = tensors.iter().map(|t| t.name).find(|name| !known.iter().any(|k| k.as_str() == *name));
        let (name, why) = match name {
            Some(name) => (name, "the network has no such tensor"),
            None => ("", "two tensors have one name"),
        };
        return Err(WriteError::Name { name: name.to_string(), why });
    }
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let head = Head { recipe: *network.recipe(), base: None, metadata: &metadata };
    replace(path, |sink| write(&head, &Given { network, entries }, sink))
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
    network: &'a Network,
    entries: Vec<(Entry, Option<Data<'a>>)>,
}

impl Source for Given<'_> {
    fn specs(&self) -> impl Iterator<Item = Spec> {
        self.entries.iter().map(|&(entry, _)| {
            let (shape, rank) = self.network.entry_shape(entry);
            let layout = match entry {
                Entry::Param(id) => self.network.param_at(id).layout().map_or(Layout::Plain, Layout::Blocks),
                Entry::NumBatchesTracked(_) => Layout::Count,
                _ => Layout::Plain,
            };
            Spec { name: self.network.entry_name(entry), shape, rank, layout }
        })
    }

    fn emit<E>(&self, i: usize, sink: super::Sink<E>) -> Result<(), E> {
        let (entry, data) = self.entries[i];
        let layout = match entry {
            Entry::Param(id) => self.network.param_at(id).layout(),
            _ => None,
        };
        match (data, layout) {
            (Some(Data::F32(data)), Some(layout)) => {
                let mut packed = std::vec![0.0; layout.len()];
                layout.pack(data, &mut packed);
                emit_floats(&packed, sink)
            }
            (Some(Data::F32(data)), None) => emit_floats(data, sink),
            (Some(Data::I64(data)), _) => data.iter().try_for_each(|n| sink(&n.to_le_bytes())),
            (None, _) => sink(&0_i64.to_le_bytes()),
        }
    }
}
