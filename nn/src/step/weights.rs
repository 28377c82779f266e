//! Weights in place, and going on with another program in the same memory.
//!
//! What has once been in the block stays there for the trainer's life: it may have been trained, and the file
//! knows nothing of that.

use super::Trainer;
use super::trainer::{Phase, checked, count_of};
use crate::files::native::{Hash, Layout, Native, NativeErrorKind, Tensor};
use crate::files::wrong_statistics;
use crate::memory::Block;
use crate::name::Name;
use crate::ops::{HAS_GRADIENT, HAS_MOMENTUM, SUMMED};
use crate::routines::Table;
use crate::{Error, Level, Threads};
use core::ops::Range;
use nunatak_core::arena::{self, UNIT};
use nunatak_core::program::{EntryKind, Program};
use nunatak_core::tape::EntryId;

/// Whether a tensor of a file has the shape of an entry of a program.
fn fits(program: &Program, id: EntryId, tensor: &Tensor) -> bool {
    let (shape, rank) = program.entry(id).shape();
    let kind = program.entry(id).kind();
    let of_kind =
        (kind == EntryKind::Count) == tensor.count().is_some() && (kind == EntryKind::Words) == (tensor.layout() == Layout::Words);
    tensor.shape() == &shape[..rank] && of_kind
}

/// An error for a value that no training could have left.
fn check_values(program: &Program, id: EntryId, tensor: &Tensor) -> Result<(), Error> {
    let wrong = |what: &'static str| Err(NativeErrorKind::Tensor(what).at(tensor.offset()).of(tensor.name()).into());
    match program.entry(id).kind() {
        EntryKind::Count if tensor.count().is_none_or(|n| n < 0) => wrong("the number of batches is negative; the file is damaged"),
        EntryKind::Count => Ok(()),
        kind => wrong_statistics(kind, (0..tensor.numbers()).map(|i| tensor.element(i))).map_or(Ok(()), wrong),
    }
}

/// Checks that a file has every entry of a program, in its shape, and nothing else. The head may have another
/// shape.
fn check_file(program: &Program, file: &Native) -> Result<(), Error> {
    let mut found = 0;
    for id in program.entries() {
        let name = program.entry(id).name();
        let Some(tensor) = file.tensor(name) else {
            match program.entry(id).kind() {
                EntryKind::Count => continue, // files from before PyTorch 0.4.1 have none
                _ => return Err(Error::NotInWeights { name: Name::of(name) }),
            }
        };
        found += 1;
        match fits(program, id, &tensor) {
            true => check_values(program, id, &tensor)?,
            false if in_head(program, name) => {}
            false => return Err(Error::NotInWeights { name: Name::of(name) }),
        }
    }
    match file.tensors().find(|tensor| program.entries().all(|id| program.entry(id).name() != tensor.name())) {
        Some(tensor) if found != file.tensors().count() => Err(Error::NotInNetwork { name: Name::of(tensor.name()) }),
        _ => Ok(()),
    }
}

fn in_head(program: &Program, name: &str) -> bool {
    !program.head().is_empty() && crate::record::in_scope(name, program.head())
}

impl<'m> Trainer<'m> {
    /// Binds a program to memory and to weights: what the program keeps in the block is copied there, the
    /// rest is read where `weights` lie, if the program was planned so (see [`crate::plan::Step::in_place`]).
    /// A head of another shape than the file's is zero until it is initialised or set.
    ///
    /// The data are believed: call [`Native::verify`] before where they may be damaged.
    ///
    /// # Errors
    /// Those of [`Trainer::new`]; [`Error::WrongBase`] where the program was planned for another file;
    /// [`Error::NotInWeights`] where the file lacks a tensor or has it in another shape;
    /// [`Error::NotInNetwork`]; [`Error::Native`], among others where the program reads in place and the bytes do
    /// not begin at a multiple of 64.
    pub fn with_weights(
        program: Program<'m>,
        memory: &'m mut [u8],
        weights: Native<'m>,
        level: Level,
        threads: Threads,
    ) -> Result<Self, Error> {
        Self::with_routines(program, memory, Some(weights), Table::ALL, level, threads)
    }

    /// The same with a table of routines.
    pub(super) fn bound_to_weights(
        program: Program<'m>,
        memory: &'m mut [u8],
        weights: Native<'m>,
        routines: Table,
        level: Level,
        threads: Threads,
    ) -> Result<Self, Error> {
        let in_place = read_in_place(&program, &weights)?;
        Ok(Trainer::bound(program, memory, in_place, routines, level, threads)?.over(weights))
    }

    /// As [`Trainer::with_routines`] in several pieces of memory: one for each region of the program, in its order. A
    /// piece needs the bytes of its region, and what is missing to its first multiple of 64 bytes.
    ///
    /// # Errors
    /// As for [`Trainer::with_routines`]; [`Error::Region`] where a piece is too short.
    pub fn in_regions(
        program: Program<'m>,
        pieces: &mut [&'m mut [u8]],
        weights: Option<Native<'m>>,
        routines: Table,
        level: Level,
        threads: Threads,
    ) -> Result<Self, Error> {
        let in_place = match &weights {
            Some(weights) => read_in_place(&program, weights)?,
            None if program.weights_hash().is_some() => return Err(Error::NeedsWeights),
            None => &[],
        };
        let block = Block::in_regions(&program, pieces, in_place).map_err(|e| named(&program, e))?;
        let trainer = Trainer::with_block(program, block, routines, level, threads)?;
        Ok(match weights {
            Some(weights) => trainer.over(weights),
            None => trainer,
        })
    }

    /// Takes from weights what lies in the block.
    fn over(mut self, weights: Native<'m>) -> Self {
        self.weights = Some(weights);
        for id in self.program.entries() {
            self.copy_from_weights(id);
        }
        self
    }

    /// The file that frozen weights are read from, if there is one.
    pub fn weights_file(&self) -> Option<&Native<'m>> {
        self.weights.as_ref()
    }

    /// Copies an entry that lies in the block from the file; a head of another shape becomes zero.
    fn copy_from_weights(&mut self, id: EntryId) {
        let Some(file) = self.weights else { return };
        let tensor = file.tensor(self.program.entry(id).name()).filter(|tensor| fits(&self.program, id, tensor));
        match tensor {
            Some(tensor) => self.copy_tensor(id, &tensor),
            None => self.entry_mut(id).fill(0.0),
        }
    }

    /// Copies a tensor to its home in the block; a count to the state.
    fn copy_tensor(&mut self, id: EntryId, tensor: &Tensor) {
        if let Some(count) = tensor.count() {
            return self.set_count(id, count);
        }
        let layout = self.layout(id);
        let to = self.entry_mut(id);
        if !to.is_empty() {
            tensor.copy_home(layout, to);
        }
    }

    /// Copies a whole network out of a native file into this trainer, whose program must hold everything in
    /// its block. A head that is to be kept, or is of another shape, stays as it is. Momentum and gradients
    /// are forgotten.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] where the program reads in place; else as for [`Trainer::with_weights`].
    /// Nothing has changed then.
    pub fn load_native(&mut self, file: &Native, keep_head: bool) -> Result<(), Error> {
        self.check_writable()?;
        if file.base().is_some() {
            return Err(Error::Delta("is a delta; give the file that it names as its base, and lay the delta over it"));
        }
        check_file(&self.program, file)?;
        for id in self.program.entries() {
            let own = keep_head && self.is_head(id);
            let tensor = file.tensor(self.program.entry(id).name()).filter(|tensor| !own && fits(&self.program, id, tensor));
            if let Some(tensor) = tensor {
                self.copy_tensor(id, &tensor);
            }
        }
        self.forget();
        Ok(())
    }

    /// Lays a delta over the weights: every tensor that it has takes the place of the file's. The program must
    /// hold them in its block (see [`crate::plan::Step::hold`]). The delta's checksums are verified. Momentum
    /// and gradients are forgotten.
    ///
    /// # Errors
    /// [`Error::WrongBase`] with both hashes where it was made over other weights; [`Error::Delta`]
    /// where it is none, or there are no weights below; [`Error::NotInNetwork`]; [`Error::NotInWeights`];
    /// [`Error::ReadOnly`]; [`Error::Native`]. Nothing has changed then.
    pub fn load_delta(&mut self, delta: &Native) -> Result<(), Error> {
        let Some(expected) = delta.base() else { return Err(Error::Delta("is a whole network, no delta")) };
        let Some(weights) = &self.weights else {
            return Err(Error::Delta("needs its base below it; make the trainer with that file"));
        };
        if weights.hash() != expected {
            return Err(Error::WrongBase { expected, got: weights.hash() });
        }
        delta.verify()?;
        for tensor in delta.tensors() {
            let name = Name::of(tensor.name());
            let id = self.entry_named(tensor.name()).map_err(|_| Error::NotInNetwork { name })?;
            if !fits(&self.program, id, &tensor) {
                return Err(Error::NotInWeights { name });
            }
            check_values(&self.program, id, &tensor)?;
            if self.program.entry(id).is_borrowed() {
                return Err(Error::ReadOnly { name });
            }
        }
        for tensor in delta.tensors() {
            if let Ok(id) = self.entry_named(tensor.name()) {
                self.copy_tensor(id, &tensor);
            }
        }
        self.forget();
        Ok(())
    }

    /// Whether everything can be written.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        match self.program.entries().find(|id| self.program.entry(*id).is_borrowed()) {
            Some(id) => Err(Error::ReadOnly { name: Name::of(self.program.entry(id).name()) }),
            None => Ok(()),
        }
    }

    /// Goes on with another program of the same network in the same memory: more or less frozen, another head,
    /// another batch, evaluation. Parameters, statistics and momentum of what both programs have survive (of gradients
    /// that were added up there too, where the new one does so or does not train); gradients do not. A head of another shape is zero until it is initialised or set. What was read in
    /// place and lies in the block now is copied there.
    ///
    /// # Errors
    /// [`Error::Core`] with `ArenaTooSmall`, or [`Error::Region`], where the new program does not fit, [`Error::OtherNetwork`]
    /// where it is for another network, [`Error::HeldInBlock`] where it reads in place what lies in the block;
    /// and those of [`Trainer::new`]. Then nothing has changed.
    pub fn switch(&mut self, new: Program<'m>) -> Result<(), Error> {
        let context = self.check_next(&new)?;
        self.check_room(&new)?;
        self.check_same_network(&new)?;
        self.move_lasting(&new, false);
        self.take_over(new, context, false);
        Ok(())
    }

    /// Whether another program could be executed here, but for its room.
    pub(super) fn check_next(&self, new: &Program) -> Result<crate::ops::Context, Error> {
        let context = checked(new, self.routines, self.level, &self.threads)?;
        if let Some(hash) = new.weights_hash() {
            check_hash(hash, self.weights.as_ref().ok_or(Error::NeedsWeights)?)?;
        }
        Ok(context)
    }

    /// Whether another program fits the block.
    pub(super) fn check_room(&self, new: &Program) -> Result<(), Error> {
        self.block.fits(new).map_err(|e| named(new, e))
    }

    /// Moves what lasts to its places in another program. Where heads grow, the numbers of what has another shape go to
    /// the front of its place; else they are not moved.
    pub(super) fn move_lasting(&mut self, new: &Program, grows: bool) {
        // Both lasting parts have the same order. What moves down goes first, from the front; what moves up
        // goes last, from the back: so nothing is overwritten before it has moved.
        for down in [true, false] {
            let mut position = 0;
            while let Some((from, to)) = moves(&self.program, new, position, down, grows) {
                position += 1;
                if !from.is_empty() && !to.is_empty() && (to.start < from.start) == down && to.start != from.start {
                    self.block.copy_within(from, to.start);
                }
            }
        }
    }

    /// Whether another program is for the same network; only its head may have another shape.
    pub(super) fn check_same_network(&self, new: &Program) -> Result<(), Error> {
        let old = &self.program;
        if old.entry_count() != new.entry_count() || old.head() != new.head() {
            return Err(Error::OtherNetwork);
        }
        for id in old.entries() {
            let (a, b) = (old.entry(id), new.entry(id));
            if a.name() != b.name() || a.kind() != b.kind() || a.shape() != b.shape() && !in_head(old, a.name()) {
                return Err(Error::OtherNetwork);
            }
            if b.is_borrowed() && !a.is_borrowed() {
                return Err(Error::HeldInBlock { name: Name::of(a.name()) });
            }
        }
        Ok(())
    }

    /// Makes a new program the trainer's, whose numbers have moved to their places; returns the old one. Where heads
    /// grow, what has another shape stays as it lies.
    pub(super) fn take_over(&mut self, new: Program<'m>, context: crate::ops::Context, grows: bool) -> Program<'m> {
        let old = core::mem::replace(&mut self.program, new);
        (self.context, self.counts, self.phase) = (context, count_of(&self.program), Phase::Idle);
        (self.begin, self.began) = (None, None);
        let inputs = Program::marks(self.counts) + self.program.entry_count();
        self.state_bytes_mut()[inputs..].fill(0);
        for id in self.program.entries() {
            let (a, b) = (old.entry(id), self.program.entry(id));
            let grown = grows && a.shape() != b.shape();
            let same = a.shape() == b.shape() || grown;
            let copied = a.is_borrowed() && !b.is_borrowed() && !grown;
            let momentum = same && b.momentum().is_some() && a.momentum().is_some() && b.is_trained();
            if !same {
                self.entry_mut(id).fill(0.0);
            }
            if copied {
                self.copy_from_weights(id);
            }
            // A step that was begun in the momentum goes on after a prediction, and is lost where others train.
            let lost = self.has_mark(id, SUMMED) && self.trains() && !self.sums_in_momentum();
            self.set_mark(id, HAS_GRADIENT | if lost { SUMMED } else { 0 }, false);
            if !momentum || lost {
                self.set_mark(id, HAS_MOMENTUM, false);
            }
        }
        old
    }
}

/// An error with the name of the region that it speaks of.
fn named(program: &Program, error: nunatak_core::Error) -> Error {
    match error {
        nunatak_core::Error::RegionFull { region, given, needed } if region < program.region_count() => {
            Error::Region { name: Name::of(program.region(region).name), given, needed }
        }
        other => other.into(),
    }
}

/// The weights as numbers, where a program reads them in place; whether they fit the program.
fn read_in_place<'m>(program: &Program, weights: &Native<'m>) -> Result<&'m [f32], Error> {
    let in_place = match program.weights_hash() {
        Some(hash) => {
            check_hash(hash, weights)?;
            weights.in_place()?
        }
        None => &[],
    };
    if weights.base().is_some() {
        return Err(Error::Delta("is a delta; give the file that it names as its base, and lay the delta over it"));
    }
    check_file(program, weights)?;
    // What the program reads in place was checked to lie within the length that it gives.
    if in_place.len() < program.weights_len() {
        return Err(Error::Misfit("the weights file is shorter than it says"));
    }
    Ok(in_place)
}

fn check_hash(expected: [u8; 32], file: &Native) -> Result<(), Error> {
    let (expected, got) = (Hash(expected), file.hash());
    if expected == got { Ok(()) } else { Err(Error::WrongBase { expected, got }) }
}

/// From where to where a thing of the lasting part moves, by its position in the order of the block (from the
/// front, or from the back); empty where it does not survive. `None` behind the last.
fn moves(old: &Program, new: &Program, position: usize, front: bool, grows: bool) -> Option<(Range<usize>, Range<usize>)> {
    let entries = old.entry_count();
    let all = 3 * entries + 1;
    let i = if front { position } else { all.checked_sub(position + 1)? };
    if i >= all {
        return None;
    }
    // Parameters, running statistics, momentum, and at the end the state.
    if i == 3 * entries {
        let state = |p: &Program| p.state().start..p.state().start + (Program::marks(count_of(p)) + entries).div_ceil(4);
        return Some((state(old), state(new)));
    }
    let id = EntryId((i % entries) as u32);
    let (a, b) = (old.entry(id), new.entry(id));
    let nothing = (0..0, 0..0);
    if a.shape() != b.shape() && !grows {
        return Some(nothing);
    }
    let home = |e: &nunatak_core::program::Entry| match (e.is_borrowed(), e.kind(), i / entries) {
        (false, EntryKind::Parameter, 0) | (false, EntryKind::RunningMean | EntryKind::RunningVar, 1) => e.place().range(),
        (_, _, 2) => e.momentum().map_or(0..0, |place| place.range()),
        _ => 0..0,
    };
    Some((home(&a), home(&b)))
}

const _: () = assert!(UNIT * size_of::<f32>() == arena::ALIGN);
