//! What a forward in train mode may have to take back: running statistics, counts of batches and of forward
//! passes. They are kept before they move, so that a step whose loss or gradients are not finite changes nothing.

use super::Trainer;
use crate::Error;
use crate::name::Name;
use core::ops::Range;
use nunatak_core::arena::UNIT;
use nunatak_core::program::{Call, EntryKind, Flags, Program};
use nunatak_core::tape::EntryId;

/// The running statistics that a call of the forward walk moves: those beside a count of batches.
fn moved<'p>(call: &Call<'p>) -> impl Iterator<Item = EntryId> + use<'p> {
    let call = *call;
    let kind = move |i: usize| call.program().entry(call.entry(i)).kind();
    let moves = (0..call.entry_count()).any(|i| kind(i) == EntryKind::Count);
    let all = (0..call.entry_count()).filter(move |i| moves && matches!(kind(*i), EntryKind::RunningMean | EntryKind::RunningVar));
    all.map(move |i| call.entry(i))
}

/// The running statistics that a forward moves, with the numbers that they take behind each other.
fn statistics<'p>(program: &'p Program<'p>) -> impl Iterator<Item = (EntryId, usize)> + use<'p> {
    let all = program.forward().flat_map(|call| moved(&call));
    all.map(|id| (id, program.entry(id).place().len().next_multiple_of(UNIT)))
}

/// Numbers of the counts in the room, whole units.
const fn counts_room(counts: usize) -> usize {
    Program::marks(counts).div_ceil(4 * UNIT) * UNIT
}

/// Whether a program has room for what its forward may take back.
pub(super) fn check_room(program: &Program, counts: usize) -> Result<(), Error> {
    let statistics = statistics(program).map(|(_, numbers)| numbers as u64).sum::<u64>();
    let needed = if moves(program, statistics > 0) { counts_room(counts) as u64 + statistics } else { 0 };
    match program.undo(counts).len() as u64 >= needed {
        true => Ok(()),
        false => Err(Error::Misfit("no room for the statistics that a forward may take back")),
    }
}

fn moves(program: &Program, statistics: bool) -> bool {
    statistics || program.flags().has(Flags::TRAIN)
}

impl Trainer<'_> {
    /// Copies what the next forward moves to its room, or back from there.
    fn copy_moved(&mut self, back: bool) {
        let (program, block, counts) = (&self.program, &mut self.block, self.counts);
        let room = program.undo(counts);
        if room.is_empty() {
            return;
        }
        let mut copy = |own: Range<usize>, room: usize| match back {
            true => block.copy_within(room..room + own.len(), own.start),
            false => block.copy_within(own, room),
        };
        let state = program.state().start;
        copy(state..state + Program::marks(counts) / size_of::<f32>(), room.start);
        let mut at = room.start + counts_room(counts);
        for (id, numbers) in statistics(program) {
            copy(program.entry(id).place().range(), at);
            at += numbers;
        }
    }

    /// Keeps what the next forward moves.
    pub(super) fn keep_moved(&mut self) {
        self.copy_moved(false);
    }

    /// Makes what the last forward moved what it was before.
    pub(super) fn take_back(&mut self) {
        self.copy_moved(true);
    }

    /// The first running statistics that the last forward moved to a number that is not finite.
    pub(super) fn check_moved(&self) -> Result<(), Error> {
        let bad = |id: &EntryId| !self.block[self.program.entry(*id).place().range()].iter().all(|v| v.is_finite());
        match statistics(&self.program).map(|(id, _)| id).find(bad) {
            Some(id) => Err(Error::StatisticsNotFinite { name: Name::of(self.program.entry(id).name()) }),
            None => Ok(()),
        }
    }
}
