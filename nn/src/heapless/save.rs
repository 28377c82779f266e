//! From a trainer into a file in memory.

use super::{FileError, MOMENTUM_PREFIX, RECIPE_KEY, StemText};
use crate::params::{Entry, NormId};
use crate::trainer::Trainer;
use core::fmt::{self, Write};
use nunatak_core::ParamId;
use nunatak_kernels::WeightLayout;

/// The data begin at a multiple of this, so that a mapped file can be used in place.
const ALIGN: usize = 64;

/// What a file of a trainer holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Entry(Entry),
    Momentum(ParamId),
}

impl Trainer<'_> {
    /// Counts come before numbers, since eight-byte elements must lie at multiples of eight for
    /// PyTorch to load them.
    fn items(&self, momentum: bool) -> impl Iterator<Item = Item> + '_ {
        let network = &self.blueprint.network;
        let counts = (0..network.norms().len() as u16).map(|i| Entry::NumBatchesTracked(NormId(i)));
        let numbers = network.entries().filter(|entry| !matches!(entry, Entry::NumBatchesTracked(_)));
        let momenta = network.param_ids().filter(move |id| momentum && self.has_momentum(*id)).map(Item::Momentum);
        counts.chain(numbers).map(Item::Entry).chain(momenta)
    }

    fn item_bytes(&self, item: Item) -> usize {
        match item {
            Item::Entry(Entry::NumBatchesTracked(_)) => 8,
            Item::Entry(entry) => self.blueprint.network.entry_shape(entry).0.iter().product::<usize>() * 4,
            Item::Momentum(id) => self.blueprint.network.param_at(id).numbers() * 4,
        }
    }

    /// The header's text, padded.
    fn header(&self, momentum: bool, out: &mut dyn Write) -> Result<(), fmt::Error> {
        let network = &self.blueprint.network;
        let mut out = Counting { out, count: 0 };
        write!(out, "{{\"__metadata__\":{{\"{RECIPE_KEY}\":\"{}\"}}", StemText(network.recipe().stem))?;
        let mut at = 0;
        for item in self.items(momentum) {
            let (prefix, entry) = match item {
                Item::Entry(entry) => ("", entry),
                Item::Momentum(id) => (MOMENTUM_PREFIX, Entry::Param(id)),
            };
            let dtype = if matches!(entry, Entry::NumBatchesTracked(_)) { "I64" } else { "F32" };
            write!(out, ",\"{prefix}{}\":{{\"dtype\":\"{dtype}\",\"shape\":[", network.entry_name(entry))?;
            let (shape, rank) = network.entry_shape(entry);
            for (i, size) in shape[..rank].iter().enumerate() {
                write!(out, "{}{size}", if i == 0 { "" } else { "," })?;
            }
            let end = at + self.item_bytes(item);
            write!(out, "],\"data_offsets\":[{at},{end}]}}")?;
            at = end;
        }
        out.write_char('}')?;
        while !(8 + out.count).is_multiple_of(ALIGN) {
            out.write_char(' ')?;
        }
        Ok(())
    }

    fn header_bytes(&self, momentum: bool) -> usize {
        let mut out = Counting { out: &mut Nowhere, count: 0 };
        // Counting can't fail.
        let _ = self.header(momentum, &mut out);
        out.count
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
        let _ = self.header(momentum, &mut Into { out: text, at: 0 });
        for item in self.items(momentum) {
            let (to, rest) = core::mem::take(&mut data).split_at_mut(self.item_bytes(item));
            data = rest;
            let network = &self.blueprint.network;
            let lasting = &self.blueprint.lasting;
            match item {
                Item::Entry(Entry::NumBatchesTracked(id)) => to.copy_from_slice(&self.num_batches_tracked(id).to_le_bytes()),
                Item::Entry(Entry::RunningMean(id)) => write(self.running_mean(id), None, to),
                Item::Entry(Entry::RunningVar(id)) => write(self.running_var(id), None, to),
                Item::Entry(Entry::Param(id)) => write(self.block.read(lasting.param(network, id)), network.param_at(id).layout(), to),
                Item::Momentum(id) => write(&self.block[lasting.momentum(network, id)], network.param_at(id).layout(), to),
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

struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}

struct Counting<'a> {
    out: &'a mut dyn Write,
    count: usize,
}

impl Write for Counting<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.count += s.len();
        self.out.write_str(s)
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
