//! More classes for a head that was trained: rows that are there keep their bits, and their momentum.
//!
//! A program has fixed sizes, so another one takes over, planned for more classes. Both may have any batch, and train
//! any part. Nothing needs a second block: the rows stay in the block, where they are moved to their new places.

use super::Trainer;
use crate::Error;
use crate::ops::{SUMMED, address};
use nunatak_core::program::{Entry, EntryKind, Program};
use nunatak_core::rng::Generator;
use nunatak_core::tape::EntryId;
use nunatak_kernels::WeightLayout;

/// How the row of a class that is added begins: its weights and its bias.
#[derive(Debug)]
pub enum NewClass<'a> {
    /// With zeros: its logit is 0 until it is trained.
    Zero,
    /// As the rows of `torch.nn.Linear(features, classes)` of all classes, new and old: what PyTorch draws for the rows
    /// that are there is drawn and left out, so that the generator goes on as PyTorch's does.
    Drawn(&'a mut Generator),
    /// With these numbers: the weights of every new row, one after the other, then their biases. Rows that tell classes
    /// apart at once can be made of features: for instance the difference between their mean in the new class and
    /// in all others.
    Given(&'a [f32]),
}

/// The classes of a head before and after.
#[derive(Clone, Copy)]
struct Growth {
    old: usize,
    new: usize,
}

fn refuse<T>(what: &'static str) -> Result<T, Error> {
    Err(Error::NoNewClass(what))
}

/// Whether an entry has more rows in a new program, and is the same otherwise.
fn has_more_rows(old: &Entry, new: &Entry) -> bool {
    let (((a, rank), (b, new_rank)), parameter) = ((old.shape(), new.shape()), old.kind() == EntryKind::Parameter);
    parameter && rank == new_rank && rank > 0 && b[0] > a[0] && a[1..rank] == b[1..rank]
}

/// The entries of the head that have more rows in a new program: all from the same number to the same number.
fn growth(old: &Program, new: &Program) -> Result<Growth, Error> {
    let mut found: Option<Growth> = None;
    for id in old.entries() {
        let (a, b) = (old.entry(id), new.entry(id));
        if a.shape() == b.shape() {
            continue;
        }
        let rows = Growth { old: a.shape().0[0], new: b.shape().0[0] };
        if !has_more_rows(&a, &b) || found.is_some_and(|found| (found.old, found.new) != (rows.old, rows.new)) {
            return refuse("the new program's head is no head of more classes; plan the same network for more of them");
        }
        if b.is_borrowed() {
            return refuse("the new program reads its head in place, where the rows of this trainer are not");
        }
        found = Some(rows);
    }
    match found {
        Some(found) => Ok(found),
        None => refuse("the new program has as many classes as the old one; plan it for more"),
    }
}

/// Numbers of an entry's rows that are new.
fn new_numbers(entry: &Entry, rows: Growth) -> usize {
    entry.numbers() / rows.new * (rows.new - rows.old)
}

impl<'m> Trainer<'m> {
    /// Goes on with a program whose head tells more classes apart, as [`Trainer::switch`] does with a head of the same
    /// size: the rows of the classes that are there keep their bits, and those of their momentum, so that the same image
    /// has the same logits as before. New classes have the numbers behind the old ones; `begins` says how their rows
    /// begin. Their momentum is zero where the head has one.
    ///
    /// The memory must be large enough for the new program, but where it is the trainer's own: then it grows. Nothing
    /// else is allocated.
    ///
    /// # Errors
    /// [`Error::NoNewClass`] where the new program has no more classes, or other changes than that, or reads its head in
    /// place; [`Error::Length`] where the rows that are given have another length; [`Error::SumsInMomentum`] where a step
    /// was begun by [`Trainer::accumulate`]; and those of [`Trainer::switch`]. Then nothing has changed.
    pub fn add_class(&mut self, new: Program<'m>, begins: NewClass) -> Result<(), Error> {
        let context = self.check_next(&new)?;
        self.check_same_network(&new)?;
        let rows = growth(&self.program, &new)?;
        let due: usize = new.entries().filter(|id| self.grows(&new, *id)).map(|id| new_numbers(&new.entry(id), rows)).sum();
        if let NewClass::Given(numbers) = &begins
            && numbers.len() != due
        {
            return Err(Error::Length { what: "the rows of new classes, weights and then biases", expected: due, got: numbers.len() });
        }
        if self.program.entries().any(|id| self.has_mark(id, SUMMED)) {
            return Err(Error::SumsInMomentum("a step was begun; end it by a step, or forget it by zero_grad, before a class is added"));
        }
        #[cfg(feature = "std")]
        self.block.make_room(new.block_len());
        self.check_room(&new)?;

        self.move_lasting(&new, true);
        let old = self.take_over(new, context, true);
        old.entries().for_each(|id| self.grow(&old, id));
        match begins {
            NewClass::Zero => {}
            NewClass::Drawn(generator) => self.draw(generator, |t, id| t.grows(&old, id).then(|| old.entry(id).numbers())),
            NewClass::Given(mut numbers) => {
                for id in old.entries() {
                    if !self.grows(&old, id) {
                        continue;
                    }
                    let (own, others) = numbers.split_at(new_numbers(&self.program.entry(id), rows));
                    self.set_last(id, own);
                    numbers = others;
                }
            }
        }
        Ok(())
    }

    /// Whether an entry has another shape in another program.
    fn grows(&self, other: &Program, id: EntryId) -> bool {
        self.program.entry(id).shape() != other.entry(id).shape()
    }

    /// Gives the rows of an entry that grows, whose numbers were moved to the front of its new place, the places that they have
    /// among more of them; the new ones are zero. The same with its momentum.
    fn grow(&mut self, old: &Program, id: EntryId) {
        if !self.grows(old, id) {
            return;
        }
        let (before, layout) = (old.entry(id), self.layout(id));
        let len = before.place().len();
        if before.is_borrowed() {
            // It was read in place, and lies in the block from now on.
            let to = self.program.entry(id).place().range();
            self.block.copy_from_file(address(before.place()), to.start);
        }
        let was = layout.and_then(|now| WeightLayout::new(before.shape().0[0], now.c(), now.taps()).ok());
        let spread = |numbers: &mut [f32]| match (layout, was) {
            (Some(layout), Some(was)) => layout.grow(was, numbers),
            _ => numbers[len..].fill(0.0),
        };
        spread(self.entry_mut(id));
        if self.has_momentum(id)
            && let Some(place) = self.program.entry(id).momentum()
        {
            spread(&mut self.block[place.range()]);
        }
    }

    /// Sets the last numbers of an entry in PyTorch's order.
    fn set_last(&mut self, id: EntryId, numbers: &[f32]) {
        let (layout, first) = (self.layout(id), self.program.entry(id).numbers() - numbers.len());
        let to = self.entry_mut(id);
        for (i, number) in (first..).zip(numbers) {
            to[layout.map_or(i, |layout| layout.index_of(i))] = *number;
        }
    }
}
