//! What a trainer saves as a native file, without a heap: the whole network, or the trained part as
//! a delta.

use crate::Error;
use crate::files::native::{self, Hash, Head, Layout, Source, Spec};
use crate::name::Name;
use crate::record::Layout as Home;
use crate::step::Trainer;
use nunatak_core::program::EntryKind;
use nunatak_core::tape::EntryId;
use nunatak_kernels::WeightLayout;

/// What of a trainer is saved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Save {
    /// Every line of the state dict, in the kernels' layout.
    Network,
    /// What the block holds: the trained part, and running statistics that moved.
    Delta,
}

/// A trainer's state, ready to be written.
pub struct Saving<'t> {
    trainer: &'t Trainer<'t>,
    what: Save,
    head: Head<'t>,
}

impl<'m> Trainer<'m> {
    /// The state as a native file: how long it will be, and its bytes piece by piece. `metadata` are
    /// pairs of texts that the file is to hold besides.
    ///
    /// # Errors
    /// [`Error::Delta`] where a delta is asked for and there are no weights below;
    /// [`Error::Length`] where a text of the metadata or all of them are too long (2³⁰ bytes).
    pub fn saving<'t>(&'t self, what: Save, metadata: &'t [(&'t str, &'t str)]) -> Result<Saving<'t>, Error>
    where
        'm: 't,
    {
        let base = match (what, self.weights_file()) {
            (Save::Network, _) => None,
            (Save::Delta, Some(weights)) => Some(weights.hash()),
            (Save::Delta, None) => return Err(Error::Delta("needs its base below it; make the trainer with that file")),
        };
        let texts = metadata.iter().fold(0_usize, |sum, (key, value)| sum.saturating_add(key.len()).saturating_add(value.len()));
        if texts > 1 << 30 {
            return Err(Error::Length { what: "metadata", expected: 1 << 30, got: texts });
        }
        Ok(Saving { trainer: self, what, head: Head { recipe: self.program().model().parse().ok(), base, metadata } })
    }
}

impl Saving<'_> {
    /// Bytes of the file.
    #[allow(clippy::len_without_is_empty)] // no file is empty
    pub fn len(&self) -> usize {
        native::length(&self.head, self)
    }

    /// Hands the file to `sink`, piece by piece, from its first byte to its last; returns its hash.
    ///
    /// # Errors
    /// The sink's, at the first piece that it refuses.
    pub fn write<E>(&self, sink: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<Hash, E> {
        native::write(&self.head, self, sink)
    }

    /// Writes the file to the front of `out`; returns how many bytes it took.
    ///
    /// # Errors
    /// [`Error::Length`] where `out` is shorter than [`Saving::len`]; it is unchanged then.
    pub fn write_to(&self, out: &mut [u8]) -> Result<usize, Error> {
        let (expected, got) = (self.len(), out.len());
        let short = Error::Length { what: "room for the file", expected, got };
        if got < expected {
            return Err(short);
        }
        let mut at = 0;
        self.write::<Error>(&mut |piece| {
            out.get_mut(at..at + piece.len()).ok_or(short)?.copy_from_slice(piece);
            at += piece.len();
            Ok(())
        })?;
        Ok(at)
    }

    /// What is saved: of a delta what the block holds, and the counts of statistics that are there.
    fn entries(&self) -> impl Iterator<Item = EntryId> + '_ {
        let program = self.trainer.program();
        let in_block = move |id: EntryId| match program.entry(id).kind() {
            // A count is saved with its mean, which comes before it.
            EntryKind::Count => !program.entry(EntryId(id.0 - 2)).is_borrowed(),
            EntryKind::Parameter | EntryKind::RunningMean | EntryKind::RunningVar | EntryKind::Words => !program.entry(id).is_borrowed(),
        };
        program.entries().filter(move |id| self.what == Save::Network || in_block(*id))
    }

    /// How a weight lies in the file: as in the block, but a delta saves no zeros.
    fn layout_of(&self, layout: WeightLayout) -> Layout {
        match self.what == Save::Delta && layout.len() != layout.numbers() {
            true => Layout::Plain,
            false => Layout::Blocks(layout),
        }
    }
}

impl Source for Saving<'_> {
    fn specs(&self) -> impl Iterator<Item = Spec> {
        self.entries().map(|id| {
            let entry = self.trainer.program().entry(id);
            let (shape, rank) = entry.shape();
            let layout = match Home::decode(entry.layout()) {
                Some(Home::Weight(layout)) => self.layout_of(layout),
                Some(Home::Count) => Layout::Count,
                Some(Home::Words) => Layout::Words,
                Some(Home::Plain) | None => Layout::Plain,
            };
            Spec { name: Name::of(entry.name()), shape, rank, layout }
        })
    }

    fn emit<E>(&self, i: usize, sink: native::Sink<E>) -> Result<(), E> {
        let Some(id) = self.entries().nth(i) else { return Ok(()) };
        if self.trainer.program().entry(id).kind() == EntryKind::Count {
            return sink(&self.trainer.count(id).to_le_bytes());
        }
        let numbers = self.trainer.entry_lying(id);
        match self.trainer.layout(id) {
            Some(layout) if self.layout_of(layout) == Layout::Plain => native::emit_unpacked(layout, numbers, sink),
            _ => native::emit_floats(numbers, sink),
        }
    }
}
