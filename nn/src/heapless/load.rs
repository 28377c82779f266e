//! From a file in memory into a trainer.

use super::read::{Safetensors, TensorRef};
use super::{FileError, Head, MOMENTUM_PREFIX};
use crate::params::{Entry, MAX_NORMS, Name, Network, NormId};
use crate::trainer::Trainer;
use nunatak_core::ParamSet;

/// Entries that a state dict can have.
const MAX_ENTRIES: usize = ParamSet::CAPACITY + 3 * MAX_NORMS;

/// Entries of a state dict, by their number.
#[derive(Default)]
struct Seen([u64; MAX_ENTRIES.div_ceil(64)]);

impl Seen {
    /// Whether it was in before.
    fn insert(&mut self, i: usize) -> bool {
        let before = self.contains(i);
        self.0[i / 64] |= 1 << (i % 64);
        before
    }
    fn contains(&self, i: usize) -> bool {
        self.0[i / 64] >> (i % 64) & 1 == 1
    }
}

fn find(network: &Network, tensor: &TensorRef) -> Option<(usize, Entry)> {
    network.entries().enumerate().find(|(_, entry)| tensor.is_named(network.entry_name(*entry).as_str()))
}

/// Whether the tensor is the momentum of one of the network's parameters, and of which.
fn momentum_of(network: &Network, tensor: &TensorRef) -> Option<nunatak_core::ParamId> {
    if !tensor.name.begins(MOMENTUM_PREFIX) {
        return None;
    }
    let name = |id| network.entry_name(Entry::Param(id));
    network.param_ids().find(|id| tensor.name.chars().skip(MOMENTUM_PREFIX.len()).eq(name(*id).as_str().chars()))
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))
}

fn count(tensor: &TensorRef) -> i64 {
    tensor.bytes().first_chunk().map_or(0, |b| i64::from_le_bytes(*b))
}

/// A shape for a message; what no machine has is cut.
fn short(shape: &[usize]) -> ([u32; 4], u8) {
    let mut sizes = [0; 4];
    sizes.iter_mut().zip(shape).for_each(|(to, from)| *to = u32::try_from(*from).unwrap_or(u32::MAX));
    (sizes, u8::try_from(shape.len()).unwrap_or(u8::MAX))
}

/// Shape and type of an entry, and whether its numbers can be.
fn check(network: &Network, entry: Entry, name: Name, tensor: &TensorRef) -> Result<(), FileError> {
    let expected = network.entry_shape(entry);
    if tensor.shape() != &expected.0[..expected.1] {
        return Err(FileError::Misshapen { name, expected: short(&expected.0[..expected.1]), got: short(tensor.shape()) });
    }
    let counts = matches!(entry, Entry::NumBatchesTracked(_));
    if !tensor.is_of(if counts { "I64" } else { "F32" }) {
        return Err(FileError::Value { name, what: "numbers must be F32 and counts I64; convert the file (nunatak convert)" });
    }
    if matches!(entry, Entry::RunningVar(_)) && floats(tensor.bytes()).any(|v| v < 0.0) {
        return Err(FileError::Value { name, what: "a running variance is negative; the file is damaged" });
    }
    if counts && count(tensor) < 0 {
        return Err(FileError::Value { name, what: "the number of batches is negative; the file is damaged" });
    }
    Ok(())
}

fn check_all(network: &Network, file: &Safetensors, head: Head) -> Result<(), FileError> {
    let keep = |name: &str| head == Head::Keep && name.starts_with("fc.");
    let mut seen = Seen::default();
    let mut momenta = ParamSet::EMPTY;
    file.each(|tensor| {
        let twice = |name| Err(FileError::Value { name, what: "two tensors have this name" });
        match find(network, &tensor) {
            Some((i, entry)) => {
                let name = network.entry_name(entry);
                if seen.insert(i) {
                    return twice(name);
                }
                if keep(name.as_str()) { Ok(()) } else { check(network, entry, name, &tensor) }
            }
            None => match momentum_of(network, &tensor) {
                Some(id) if momenta.contains(id) => twice(network.entry_name(Entry::Param(id))),
                Some(id) => {
                    momenta.insert(id);
                    Ok(())
                }
                None if head == Head::Keep && tensor.name.begins("fc.") => Ok(()),
                None => Err(FileError::Unexpected { name: Name::cut(tensor.name) }),
            },
        }
    })?;
    // Files from before PyTorch 0.4.1 have no counts.
    let due = |entry: &Entry| !matches!(entry, Entry::NumBatchesTracked(_)) && !keep(network.entry_name(*entry).as_str());
    let mut missing = network.entries().enumerate().filter(|(i, entry)| due(entry) && !seen.contains(*i));
    match missing.next() {
        Some((_, first)) => Err(FileError::Missing { name: network.entry_name(first), more: missing.count() }),
        None => Ok(()),
    }
}

impl Trainer<'_> {
    /// Loads a state dict from a whole `.safetensors` in memory. Momentum and gradients are forgotten.
    ///
    /// # Errors
    /// [`FileError`], before anything is changed.
    pub fn load_safetensors(&mut self, bytes: &[u8], head: Head) -> Result<(), FileError> {
        let network = self.blueprint.network.clone();
        self.check_writable()?;
        let file = Safetensors::parse(bytes)?;
        check_all(&network, &file, head)?;
        for i in 0..network.norms().len() {
            self.set_num_batches_tracked(NormId(i as u16), 0);
        }
        file.each(|tensor| {
            let Some((_, entry)) = find(&network, &tensor) else { return Ok(()) };
            if head == Head::Keep && network.entry_name(entry).as_str().starts_with("fc.") {
                return Ok(());
            }
            match entry {
                Entry::NumBatchesTracked(id) => self.set_num_batches_tracked(id, count(&tensor)),
                Entry::RunningMean(id) => fill(self.running_mean_mut(id), &tensor),
                Entry::RunningVar(id) => fill(self.running_var_mut(id), &tensor),
                Entry::Param(id) => match bytemuck::try_cast_slice(tensor.bytes()) {
                    Ok(data) if cfg!(target_endian = "little") => self.set_param(id, data)?,
                    _ => {
                        let layout = network.param_at(id).layout();
                        let to = self.param_mut(id);
                        to.fill(0.0); // what the layout pads
                        for (i, v) in floats(tensor.bytes()).enumerate() {
                            to[layout.map_or(i, |layout| layout.index_of(i))] = v;
                        }
                    }
                },
            }
            Ok(())
        })?;
        self.zero_grad();
        self.momenta = ParamSet::EMPTY;
        Ok(())
    }

    /// Takes over every momentum that a `.safetensors` of a run has.
    ///
    /// # Errors
    /// [`FileError`], before anything is changed: where one has another shape, or belongs to a
    /// parameter that the plan does not train.
    pub fn load_momentum_safetensors(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let network = self.blueprint.network.clone();
        let file = Safetensors::parse(bytes)?;
        file.each(|tensor| {
            let Some(id) = momentum_of(&network, &tensor) else { return Ok(()) };
            check(&network, Entry::Param(id), network.entry_name(Entry::Param(id)), &tensor)?;
            if self.blueprint.lasting.momentum(&network, id).is_empty() { Err(crate::Error::NoMomentum.into()) } else { Ok(()) }
        })?;
        file.each(|tensor| {
            let Some(id) = momentum_of(&network, &tensor) else { return Ok(()) };
            let layout = network.param_at(id).layout();
            let place = self.blueprint.lasting.momentum(&network, id);
            let to = &mut self.block[place];
            to.fill(0.0);
            for (i, v) in floats(tensor.bytes()).enumerate() {
                to[layout.map_or(i, |layout| layout.index_of(i))] = v;
            }
            self.momenta.insert(id);
            Ok(())
        })
    }
}

fn fill(to: &mut [f32], tensor: &TensorRef) {
    to.iter_mut().zip(floats(tensor.bytes())).for_each(|(to, v)| *to = v);
}
