//! What a trainer saves as a native file, without a heap: the whole network, or the trained part as
//! a delta.

use crate::checkpoint::native::{self, Hash, Head, Layout, Source, Spec};
use crate::params::Entry;
use crate::trainer::Trainer;
use crate::{Error, Network};
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
        Ok(Saving { trainer: self, what, head: Head { recipe: *self.blueprint.network.recipe(), base, metadata } })
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

    fn network(&self) -> &Network {
        &self.trainer.blueprint.network
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let held = &self.trainer.blueprint.lasting.held;
        self.network().entries().filter(move |entry| match (self.what, *entry) {
            (Save::Network, _) => true,
            (Save::Delta, Entry::Param(id)) => held.params.contains(id),
            (Save::Delta, Entry::RunningMean(n) | Entry::RunningVar(n) | Entry::NumBatchesTracked(n)) => held.has_norm(n),
        })
    }

    /// How a weight lies in the file: as in the block, but a delta saves no zeros.
    fn layout_of(&self, layout: WeightLayout) -> Layout {
        match self.what == Save::Delta && layout.len() != layout.k * layout.c * layout.taps {
            true => Layout::Plain,
            false => Layout::Blocks(layout),
        }
    }
}

impl Source for Saving<'_> {
    fn specs(&self) -> impl Iterator<Item = Spec> {
        self.entries().map(|entry| {
            let (shape, rank) = self.network().entry_shape(entry);
            let layout = match entry {
                Entry::Param(id) => self.network().param_at(id).layout().map_or(Layout::Plain, |layout| self.layout_of(layout)),
                Entry::RunningMean(_) | Entry::RunningVar(_) => Layout::Plain,
                Entry::NumBatchesTracked(_) => Layout::Count,
            };
            Spec { name: self.network().entry_name(entry), shape, rank, layout }
        })
    }

    fn emit<E>(&self, i: usize, sink: native::Sink<E>) -> Result<(), E> {
        let Some(entry) = self.entries().nth(i) else { return Ok(()) };
        let (trainer, network) = (self.trainer, self.network());
        match entry {
            Entry::Param(id) => {
                let numbers = trainer.block.read(trainer.blueprint.lasting.param(network, id));
                match network.param_at(id).layout() {
                    Some(layout) if self.layout_of(layout) == Layout::Plain => native::emit_unpacked(layout, numbers, sink),
                    _ => native::emit_floats(numbers, sink),
                }
            }
            Entry::RunningMean(n) => native::emit_floats(trainer.running_mean(n), sink),
            Entry::RunningVar(n) => native::emit_floats(trainer.running_var(n), sink),
            Entry::NumBatchesTracked(n) => sink(&trainer.num_batches_tracked(n).to_le_bytes()),
        }
    }
}
