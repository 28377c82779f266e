//! The doors to what a trainer keeps: parameters, gradients, momentum, statistics, counts, in PyTorch's
//! shapes.

use super::Trainer;
use crate::Error;
use crate::name::Name;
use crate::ops::{HAS_GRADIENT, HAS_MOMENTUM, NOT_FINITE, SUMMED, address};
use crate::record::Layout;
use nunatak_core::program::{EntryKind, Place, Program};
use nunatak_core::tape::EntryId;
use nunatak_kernels::{Cpu, WeightLayout, finite};

/// In an entry's mark, while a file is read: the reader has seen it.
const SEEN: u8 = 1 << 6;
/// The same of its momentum.
const MOMENTUM_SEEN: u8 = 1 << 7;

fn check(what: &'static str, expected: usize, got: usize) -> Result<(), Error> {
    if expected == got { Ok(()) } else { Err(Error::Length { what, expected, got }) }
}

impl Trainer<'_> {
    /// The entry of the state dict with this name.
    ///
    /// # Errors
    /// [`Error::UnknownName`].
    pub fn entry_named(&self, name: &str) -> Result<EntryId, Error> {
        let found = self.program.entries().find(|id| self.program.entry(*id).name() == name);
        found.ok_or_else(|| Error::UnknownName { name: Name::of(name) })
    }

    pub(crate) fn layout(&self, id: EntryId) -> Option<WeightLayout> {
        match Layout::decode(self.program.entry(id).layout()) {
            Some(Layout::Weight(layout)) => Some(layout),
            _ => None,
        }
    }

    fn copy_out(&self, id: EntryId, from: Place, out: &mut [f32]) -> Result<(), Error> {
        check("room for an entry", self.program.entry(id).numbers(), out.len())?;
        match self.layout(id) {
            Some(layout) => layout.unpack(self.block.read(address(from)), out),
            None => out.copy_from_slice(self.block.read(address(from))),
        }
        Ok(())
    }

    fn copy_in(&mut self, id: EntryId, to: Place, data: &[f32]) -> Result<(), Error> {
        check("an entry", self.program.entry(id).numbers(), data.len())?;
        match self.layout(id) {
            Some(layout) => layout.pack(data, &mut self.block[to.range()]),
            None => self.block[to.range()].copy_from_slice(data),
        }
        Ok(())
    }

    /// Whether an entry has no numbers of 32 bits: a count.
    fn is_count(&self, id: EntryId) -> bool {
        self.program.entry(id).kind() == EntryKind::Count
    }

    /// Copies an entry of the state dict out: a parameter or running statistics, in PyTorch's shape.
    ///
    /// # Errors
    /// [`Error::Length`], also where the entry is a count, or words.
    pub fn entry(&self, id: EntryId, out: &mut [f32]) -> Result<(), Error> {
        if self.is_count(id) {
            return Err(Error::Length { what: "room for a count (read it with `count`)", expected: 0, got: out.len() });
        }
        if self.program.entry(id).kind() == EntryKind::Words {
            return Err(Error::Length { what: "room for words (read them with `words`)", expected: 0, got: out.len() });
        }
        self.copy_out(id, self.program.entry(id).place(), out)
    }

    /// The words of an entry that has no floating-point numbers, such as a layer's of 8 bits; none of others.
    pub fn words(&self, id: EntryId) -> &[i32] {
        match self.program.entry(id).kind() {
            EntryKind::Words => bytemuck::cast_slice(self.entry_lying(id)),
            EntryKind::Parameter | EntryKind::RunningMean | EntryKind::RunningVar | EntryKind::Count => &[],
        }
    }

    /// Sets the words of an entry that has no floating-point numbers.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] where it is read in place; [`Error::Length`], also where the entry has floats.
    pub fn set_words(&mut self, id: EntryId, words: &[i32]) -> Result<(), Error> {
        if self.program.entry(id).kind() != EntryKind::Words {
            return Err(Error::Length { what: "an entry without words (set it with `set_entry`)", expected: 0, got: words.len() });
        }
        if self.program.entry(id).is_borrowed() {
            return Err(Error::ReadOnly { name: Name::of(self.program.entry(id).name()) });
        }
        self.fresh = false;
        self.copy_in(id, self.program.entry(id).place(), bytemuck::cast_slice(words))
    }

    /// Sets an entry of the state dict, given in PyTorch's shape.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] where it is read in place; [`Error::Length`], also where the entry is a count, or words.
    pub fn set_entry(&mut self, id: EntryId, data: &[f32]) -> Result<(), Error> {
        if self.is_count(id) {
            return Err(Error::Length { what: "a count (set it with `set_count`)", expected: 0, got: data.len() });
        }
        if self.program.entry(id).is_borrowed() {
            return Err(Error::ReadOnly { name: Name::of(self.program.entry(id).name()) });
        }
        if self.program.entry(id).kind() == EntryKind::Words {
            return Err(Error::Length { what: "words (set them with `set_words`)", expected: 0, got: data.len() });
        }
        self.fresh = false;
        self.copy_in(id, self.program.entry(id).place(), data)
    }

    /// How many batches a normalisation has seen; 0 where the entry is no count.
    pub fn count(&self, id: EntryId) -> i64 {
        match self.is_count(id) {
            true => bytemuck::cast_slice::<u8, i64>(&self.state_bytes()[..8 * self.counts])[self.program.entry(id).place().unit as usize],
            false => 0,
        }
    }

    /// Sets how many batches a normalisation has seen, where the entry is a count.
    pub fn set_count(&mut self, id: EntryId, count: i64) {
        if self.is_count(id) {
            self.fresh = false;
            let (unit, counts) = (self.program.entry(id).place().unit as usize, self.counts);
            bytemuck::cast_slice_mut::<u8, i64>(&mut self.state_bytes_mut()[..8 * counts])[unit] = count;
        }
    }

    /// An entry as it lies in memory, in the block or in the weights file.
    pub(crate) fn entry_lying(&self, id: EntryId) -> &[f32] {
        self.block.read(address(self.program.entry(id).place()))
    }

    /// How many forward passes there were in train mode: what a dropout draws its numbers by, besides its seed.
    pub fn forwards(&self) -> u64 {
        bytemuck::cast_slice(&self.state_bytes()[..Program::marks(self.counts)])[self.counts]
    }

    /// Sets how many forward passes there were: to go on where an earlier run ended, or for other draws.
    pub fn set_forwards(&mut self, forwards: u64) {
        let counts = self.counts;
        bytemuck::cast_slice_mut(&mut self.state_bytes_mut()[..Program::marks(counts)])[counts] = forwards;
    }

    /// An entry as it lies in memory, to be set number by number; what the layout pads must stay zero. Empty
    /// where it is read in place, or a count.
    pub(crate) fn entry_mut(&mut self, id: EntryId) -> &mut [f32] {
        let entry = self.program.entry(id);
        let place = if entry.is_borrowed() || entry.kind() == EntryKind::Count { Place::default() } else { entry.place() };
        self.fresh = false;
        &mut self.block[place.range()]
    }

    pub(super) fn has_mark(&self, id: EntryId, mark: u8) -> bool {
        self.state_bytes()[Program::marks(self.counts) + id.index()] & mark != 0
    }

    pub(super) fn set_mark(&mut self, id: EntryId, mark: u8, set: bool) {
        let at = Program::marks(self.counts) + id.index();
        let byte = &mut self.state_bytes_mut()[at];
        *byte = if set { *byte | mark } else { *byte & !mark };
    }

    fn gradient_place(&self, id: EntryId) -> Result<Place, Error> {
        if self.updates_during() || self.sums_in_momentum() {
            return Err(Error::GradientsNotKept);
        }
        self.program.entry(id).gradient().ok_or(Error::NothingToTrain)
    }

    /// Whether a parameter has a gradient now.
    pub fn has_gradient(&self, id: EntryId) -> bool {
        self.has_mark(id, HAS_GRADIENT)
    }

    /// Copies a parameter's gradient out.
    ///
    /// # Errors
    /// [`Error::GradientsNotKept`]; [`Error::NothingToTrain`] where the program computes none for it;
    /// [`Error::NoGradients`] where it has none yet; [`Error::Length`].
    pub fn gradient(&self, id: EntryId, out: &mut [f32]) -> Result<(), Error> {
        let place = self.gradient_place(id)?;
        if !self.has_gradient(id) {
            return Err(Error::NoGradients);
        }
        self.copy_out(id, place, out)
    }

    /// Sets a parameter's gradient, as if backward had computed it. One that is not finite is refused by the step.
    ///
    /// # Errors
    /// [`Error::GradientsNotKept`]; [`Error::NothingToTrain`] where the program computes none for it;
    /// [`Error::Length`].
    pub fn set_gradient(&mut self, id: EntryId, data: &[f32]) -> Result<(), Error> {
        let place = self.gradient_place(id)?;
        self.copy_in(id, place, data)?;
        let cpu = Cpu { level: self.level, threads: &self.threads };
        let finite = finite::all(&cpu, data);
        self.set_mark(id, NOT_FINITE, !finite);
        self.set_mark(id, HAS_GRADIENT, true);
        Ok(())
    }

    /// Whether a parameter has a momentum yet: it gets one at its first step.
    pub fn has_momentum(&self, id: EntryId) -> bool {
        self.has_mark(id, HAS_MOMENTUM)
    }

    /// Copies a parameter's momentum out.
    ///
    /// # Errors
    /// [`Error::NoMomentum`] where it has none yet; [`Error::Length`].
    pub fn momentum(&self, id: EntryId, out: &mut [f32]) -> Result<(), Error> {
        match self.program.entry(id).momentum().filter(|_| self.has_momentum(id)) {
            Some(place) => self.copy_out(id, place, out),
            None => Err(Error::NoMomentum),
        }
    }

    /// Sets a parameter's momentum: to go on where an earlier run ended.
    ///
    /// # Errors
    /// [`Error::NoMomentum`] where the program has no room for it; [`Error::Length`].
    pub fn set_momentum(&mut self, id: EntryId, data: &[f32]) -> Result<(), Error> {
        let place = self.program.entry(id).momentum().ok_or(Error::NoMomentum)?;
        self.copy_in(id, place, data)?;
        self.set_mark(id, SUMMED, false);
        self.set_mark(id, HAS_MOMENTUM, true);
        Ok(())
    }

    /// A parameter's momentum as it lies in memory, to be set; it exists from then on.
    pub(crate) fn momentum_mut(&mut self, id: EntryId) -> Option<&mut [f32]> {
        let place = self.program.entry(id).momentum()?;
        self.set_mark(id, SUMMED, false);
        self.set_mark(id, HAS_MOMENTUM, true);
        Some(&mut self.block[place.range()])
    }

    /// A parameter's momentum as it lies in memory; empty where there is none.
    pub(crate) fn momentum_lying(&self, id: EntryId) -> &[f32] {
        self.program.entry(id).momentum().map_or(&[], |place| &self.block[place.range()])
    }

    /// Notes for a reader that it has seen an entry; returns whether it had before.
    pub(crate) fn note_seen(&mut self, id: EntryId, seen: bool) -> bool {
        let before = self.was_seen(id);
        self.set_mark(id, SEEN, seen);
        before
    }
    /// Whether a reader has seen an entry.
    pub(crate) fn was_seen(&self, id: EntryId) -> bool {
        self.has_mark(id, SEEN)
    }
    /// The same for an entry's momentum.
    pub(crate) fn note_momentum_seen(&mut self, id: EntryId, seen: bool) -> bool {
        let before = self.has_mark(id, MOMENTUM_SEEN);
        self.set_mark(id, MOMENTUM_SEEN, seen);
        before
    }

    /// Forgets what belonged to other parameters: momentum, gradients, what was computed.
    pub(crate) fn forget(&mut self) {
        for id in self.program.entries() {
            self.set_mark(id, HAS_GRADIENT | HAS_MOMENTUM | SUMMED, false);
        }
        self.phase = super::trainer::Phase::Idle;
    }
}
