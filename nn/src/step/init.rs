//! PyTorch's initialisation: the same seed gives the same network as the model's constructor there.

use super::Trainer;
use crate::ops::{HAS_MOMENTUM, SUMMED};
use crate::record::in_scope;
use nunatak_core::program::EntryKind;
use nunatak_core::rng::Generator;
use nunatak_core::tape::EntryId;

impl Trainer<'_> {
    /// Initialises every entry of the state dict as PyTorch does, from `manual_seed(seed)`; forgets momentum
    /// and gradients, and how many forward passes there were. What is read in place stays as it is; the others get the numbers that they would have
    /// without it.
    pub fn init(&mut self, seed: u64) {
        self.init_from(&mut Generator::manual_seed(seed));
    }

    /// The same from a generator that goes on afterwards, as PyTorch's global one does.
    pub fn init_from(&mut self, generator: &mut Generator) {
        self.draw(generator, |_, _| Some(0));
        self.set_forwards(0);
        self.forget();
    }

    /// Initialises the model's head alone, as its layers are made in PyTorch.
    pub fn init_head(&mut self, generator: &mut Generator) {
        self.draw(generator, |trainer, id| trainer.is_head(id).then_some(0));
        for id in self.program.entries() {
            if self.is_head(id) {
                self.set_mark(id, HAS_MOMENTUM | SUMMED, false);
            }
        }
    }

    /// Draws every entry, in PyTorch's order: first what layers draw when they are made, then what the model
    /// draws over it; `wanted` leaves entries out, and says from which number on an entry is written.
    pub(super) fn draw(&mut self, generator: &mut Generator, wanted: impl Fn(&Self, EntryId) -> Option<usize>) {
        for first in [true, false] {
            let mut position = 0;
            while let Some(id) = self.nth(first, position) {
                position += 1;
                match (wanted(self, id), first) {
                    (None, _) => {}
                    (Some(from), true) => self.first_draw(generator, id, from),
                    (Some(from), false) => self.last_draw(generator, id, from),
                }
            }
        }
    }

    /// An entry by its position in the order of first draws, or in that of the state dict.
    fn nth(&self, first: bool, position: usize) -> Option<EntryId> {
        if first { self.program.draws().nth(position) } else { self.program.entries().nth(position) }
    }

    /// Whether an entry belongs to the model's head.
    pub(crate) fn is_head(&self, id: EntryId) -> bool {
        let head = self.program.head();
        !head.is_empty() && in_scope(self.program.entry(id).name(), head)
    }

    /// The uniform numbers of a layer that is made; they count though they may be drawn over.
    fn first_draw(&mut self, generator: &mut Generator, id: EntryId, from: usize) {
        let entry = self.program.entry(id);
        let ((kind, .., bound), count) = (entry.init(), entry.numbers());
        let layout = self.layout(id);
        let numbers = self.entry_mut(id);
        if kind != 0 || numbers.is_empty() {
            return generator.skip(count as u64);
        }
        if from == 0 {
            numbers.fill(0.0);
        }
        generator.skip(from as u64);
        for i in from..count {
            numbers[layout.map_or(i, |layout| layout.index_of(i))] = generator.uniform(-bound, bound);
        }
    }

    /// What an entry is set to when all layers are made.
    fn last_draw(&mut self, generator: &mut Generator, id: EntryId, from: usize) {
        let entry = self.program.entry(id);
        let ((kind, a, b, _), count) = (entry.init(), entry.numbers());
        if entry.kind() == EntryKind::Count {
            return self.set_count(id, 0);
        }
        let layout = self.layout(id);
        let numbers = self.entry_mut(id);
        match kind {
            1 => {
                if from == 0 {
                    numbers.fill(0.0);
                }
                let write = !numbers.is_empty();
                generator.normal_fill(count, a, b, |i, v| {
                    if write && i >= from {
                        numbers[layout.map_or(i, |layout| layout.index_of(i))] = v;
                    }
                });
            }
            2 if layout.is_none() => numbers.get_mut(from..).unwrap_or_default().fill(a),
            2 => {
                if from == 0 {
                    numbers.fill(0.0);
                }
                let write = !numbers.is_empty();
                (from..if write { count } else { from }).for_each(|i| numbers[layout.map_or(i, |layout| layout.index_of(i))] = a);
            }
            _ => {}
        }
    }
}
