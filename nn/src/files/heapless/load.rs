//! From a file in memory into a trainer.

use super::{FileError, Head};
use crate::files::matching::{self, FileName, Role};
use crate::files::safetensors::{JsonStr, Safetensors, TensorRef};
use crate::files::wrong_statistics;
use crate::name::Name;
use crate::step::Trainer;
use nunatak_core::program::{EntryKind, Program};
use nunatak_core::tape::EntryId;

impl FileName for JsonStr<'_> {
    fn chars(&self) -> impl Iterator<Item = char> {
        JsonStr::chars(self)
    }
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
fn check(program: &Program, id: EntryId, tensor: &TensorRef) -> Result<(), FileError> {
    let entry = program.entry(id);
    let name = Name::of(entry.name());
    let (shape, rank) = entry.shape();
    if !matching::has_shape(program, id, tensor.shape()) {
        let (expected, got) = (short(&shape[..rank]), short(tensor.shape()));
        return Err(FileError::Misshapen { name, expected, got, head: matching::is_head(program, id) });
    }
    let counts = entry.kind() == EntryKind::Count;
    if tensor.dtype() != super::dtype_of(entry.kind()) {
        let what = "numbers must be F32, counts I64 and words of 8 bits I32; convert the file (nunatak convert)";
        return Err(FileError::Value { name, what });
    }
    let wrong = if counts { matching::wrong_count(count(tensor)) } else { wrong_statistics(entry.kind(), floats(tensor.bytes())) };
    wrong.map_or(Ok(()), |what| Err(FileError::Value { name, what }))
}

impl Trainer<'_> {
    /// Whether a file fits the network. Which tensors were seen is noted in the marks of the state, which are
    /// given back as they were.
    fn check_safetensors(&mut self, file: &Safetensors, head: Head) -> Result<(), FileError> {
        let checked = self.check_tensors(file, head);
        for id in self.program().entries() {
            self.note_seen(id, false);
            self.note_momentum_seen(id, false);
        }
        checked
    }

    fn check_tensors(&mut self, file: &Safetensors, head: Head) -> Result<(), FileError> {
        file.each(|tensor| {
            let (id, again, taken) = match matching::role(self.program(), &tensor.name, head) {
                Role::Entry(id) => (id, self.note_seen(id, true), matching::is_taken(self.program(), id, head)),
                Role::Momentum(id) => (id, self.note_momentum_seen(id, true), false),
                Role::OtherHead => return Ok(()),
                Role::Unknown => return Err(FileError::Unexpected { name: Name::of(tensor.name) }),
            };
            let program = self.program();
            if again {
                return Err(FileError::Value { name: Name::of(program.entry(id).name()), what: "two tensors have this name" });
            }
            if taken { check(program, id, &tensor) } else { Ok(()) }
        })?;
        let program = self.program();
        let mut missing = program.entries().filter(|id| matching::is_due(program, *id, head) && !self.was_seen(*id));
        match missing.next() {
            Some(first) => Err(FileError::Missing { name: Name::of(program.entry(first).name()), more: missing.count() }),
            None => Ok(()),
        }
    }

    /// Loads a state dict from a whole `.safetensors` in memory. Momentum and gradients are forgotten.
    ///
    /// # Errors
    /// [`FileError`], before anything is changed.
    pub fn load_safetensors(&mut self, bytes: &[u8], head: Head) -> Result<(), FileError> {
        self.check_writable()?;
        let file = Safetensors::parse(bytes)?;
        self.check_safetensors(&file, head)?;
        for id in self.program().entries() {
            self.set_count(id, 0);
        }
        file.each(|tensor| {
            let Role::Entry(id) = matching::role(self.program(), &tensor.name, head) else { return Ok(()) };
            if !matching::is_taken(self.program(), id, head) {
                return Ok(());
            }
            if self.program().entry(id).kind() == EntryKind::Count {
                self.set_count(id, count(&tensor));
                return Ok(());
            }
            match bytemuck::try_cast_slice(tensor.bytes()) {
                Ok(data) if cfg!(target_endian = "little") && self.program().entry(id).kind() != EntryKind::Words => {
                    self.set_entry(id, data)?
                }
                _ => {
                    let layout = self.layout(id);
                    fill(self.entry_mut(id), layout, &tensor);
                }
            }
            Ok::<_, FileError>(())
        })?;
        self.forget();
        Ok(())
    }

    /// Takes over every momentum that a `.safetensors` of a run has.
    ///
    /// # Errors
    /// [`FileError`], before anything is changed: where one has another shape, or belongs to a
    /// parameter that the program does not train.
    pub fn load_momentum_safetensors(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let file = Safetensors::parse(bytes)?;
        file.each::<FileError>(|tensor| {
            let Role::Momentum(id) = matching::role(self.program(), &tensor.name, Head::Load) else { return Ok(()) };
            check(self.program(), id, &tensor)?;
            if self.program().entry(id).momentum().is_none() { Err(crate::Error::NoMomentum.into()) } else { Ok(()) }
        })?;
        file.each(|tensor| {
            let Role::Momentum(id) = matching::role(self.program(), &tensor.name, Head::Load) else { return Ok(()) };
            let layout = self.layout(id);
            if let Some(to) = self.momentum_mut(id) {
                fill(to, layout, &tensor);
            }
            Ok(())
        })
    }
}

/// Writes a tensor's numbers to their home; what the layout pads becomes zero.
fn fill(to: &mut [f32], layout: Option<nunatak_kernels::WeightLayout>, tensor: &TensorRef) {
    to.fill(0.0);
    for (i, v) in floats(tensor.bytes()).enumerate() {
        to[layout.map_or(i, |layout| layout.index_of(i))] = v;
    }
}
