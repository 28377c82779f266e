//! From a trainer into a file in memory.

use super::{FileError, MOMENTUM_PREFIX, RECIPE_KEY, StemText};
use crate::files::safetensors::{HeaderWriter, padding};
use crate::models::Recipe;
use crate::step::Trainer;
use core::fmt::{self, Write};
use nunatak_core::program::EntryKind;
use nunatak_core::tape::EntryId;
use nunatak_kernels::WeightLayout;

/// What a file of a trainer holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Entry(EntryId),
    Momentum(EntryId),
}

impl Trainer<'_> {
    /// Counts come before numbers, since eight-byte elements must lie at multiples of eight for
    /// PyTorch to load them.
    fn items(&self, momentum: bool) -> impl Iterator<Item = Item> + '_ {
        let program = self.program();
        let of = move |count: bool| program.entries().filter(move |id| (program.entry(*id).kind() == EntryKind::Count) == count);
        let momenta = program.entries().filter(move |id| momentum && self.has_momentum(*id)).map(Item::Momentum);
        of(true).chain(of(false)).map(Item::Entry).chain(momenta)
    }

    fn item_bytes(&self, item: Item) -> usize {
        let (Item::Entry(id) | Item::Momentum(id)) = item;
        let entry = self.program().entry(id);
        if entry.kind() == EntryKind::Count { 8 } else { 4 * entry.numbers() }
    }

    /// The header's text without what pads it.
    fn header(&self, momentum: bool, out: impl Write) -> fmt::Result {
        let recipe = self.program().model().parse::<Recipe>().ok();
        let mut header = HeaderWriter::new(out, recipe.map(|recipe| (RECIPE_KEY, StemText(recipe.stem))))?;
        for item in self.items(momentum) {
            let (prefix, id) = match item {
                Item::Entry(id) => ("", id),
                Item::Momentum(id) => (MOMENTUM_PREFIX, id),
            };
            let entry = self.program().entry(id);
            let dtype = super::dtype_of(entry.kind());
            let (shape, rank) = entry.shape();
            header.tensor(format_args!("{prefix}{}", entry.name()), dtype.name(), &shape[..rank], self.item_bytes(item) as u64)?;
        }
        header.finish().map(drop)
    }

    fn header_bytes(&self, momentum: bool) -> usize {
        let mut count = 0;
        // Counting can't fail.
        let _ = self.header(momentum, Counting(&mut count));
        count + padding(count)
    }

    /// Bytes of the `.safetensors` that [`Trainer::save_safetensors`] writes.
    pub fn safetensors_bytes(&self, momentum: bool) -> usize {
        8 + self.header_bytes(momentum) + self.items(momentum).map(|item| self.item_bytes(item)).sum::<usize>()
    }

    /// Writes a `.safetensors` with the entries of PyTorch's state dict (and, if asked, the momentum of
    /// every parameter that has one) to the front of `out`; returns its length.
    ///
    /// # Errors
    /// [`FileError::Room`] where `out` is too short: nothing is written.
    pub fn save_safetensors(&self, momentum: bool, out: &mut [u8]) -> Result<usize, FileError> {
        let (needed, given) = (self.safetensors_bytes(momentum), out.len());
        let header = self.header_bytes(momentum);
        let Some(out) = out.get_mut(..needed) else { return Err(FileError::Room { needed, given }) };
        let (length, out) = out.split_at_mut(8);
        length.copy_from_slice(&(header as u64).to_le_bytes());
        let (text, mut data) = out.split_at_mut(header);
        // The text is as long as it was counted to be.
        text.fill(b' ');
        let _ = self.header(momentum, Into { out: text, at: 0 });
        for item in self.items(momentum) {
            let (to, rest) = core::mem::take(&mut data).split_at_mut(self.item_bytes(item));
            data = rest;
            match item {
                Item::Entry(id) if self.program().entry(id).kind() == EntryKind::Count => to.copy_from_slice(&self.count(id).to_le_bytes()),
                Item::Entry(id) => write(self.entry_lying(id), self.layout(id), to),
                Item::Momentum(id) => write(self.momentum_lying(id), self.layout(id), to),
            }
        }
        Ok(needed)
    }
}

/// Numbers in PyTorch's order, little-endian.
fn write(from: &[f32], layout: Option<WeightLayout>, to: &mut [u8]) {
    if let Ok(to) = bytemuck::try_cast_slice_mut::<u8, f32>(to)
        && cfg!(target_endian = "little")
    {
        return match layout {
            Some(layout) => layout.unpack(from, to),
            None => to.copy_from_slice(from),
        };
    }
    for (i, bytes) in to.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *bytes = from[layout.map_or(i, |layout| layout.index_of(i))].to_le_bytes();
    }
}

struct Counting<'a>(&'a mut usize);

impl Write for Counting<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        *self.0 += s.len();
        Ok(())
    }
}

struct Into<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Write for Into<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.out.get_mut(self.at..self.at + s.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(s.as_bytes());
        self.at += s.len();
        Ok(())
    }
}
