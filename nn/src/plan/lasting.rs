//! Where each entry of the state dict lies: in the front of the block, or in the weights file.
//!
//! The block begins with the parameters, then the running statistics, then the momentum, then the state: so
//! a program that trains less only cuts off an end.

use super::Step;
use super::regions::Regions;
use crate::Error;
use crate::files::native::{ALIGN, Layout as FileLayout, Native, NativeErrorKind};
use crate::name::Name;
use crate::ops::Op;
use crate::record::{Layout, Recording, in_scope};
use nunatak_core::List;
use nunatak_core::arena::UNIT;
use nunatak_core::program::EntryKind;
use nunatak_core::tape::{EntryId, Tape};

/// Where an entry lies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Home {
    /// In the weights file.
    pub(crate) borrowed: bool,
    /// Where it begins, in units.
    pub(crate) unit: u32,
    /// Where its momentum begins.
    pub(crate) momentum: Option<u32>,
}

impl Home {
    /// Fills a slice that is to be lent.
    pub(super) const UNUSED: Home = Home { borrowed: false, unit: 0, momentum: None };
}

/// The lasting part of the block, in units.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lasting {
    pub(crate) weights: u32,
    pub(crate) statistics: u32,
    pub(crate) momentum: u32,
    /// Where the state begins, and where it ends: what passes begins there.
    pub(crate) state: u32,
    pub(crate) end: u32,
}

fn too_large() -> Error {
    nunatak_core::Error::TooLarge { shape: [1, 1, 1, usize::MAX] }.into()
}

impl Step<'_, '_> {
    /// Finds every entry's home in these regions, and that of `state` numbers.
    pub(super) fn homes(
        &self,
        recording: &Recording,
        tape: &Tape<Op>,
        trainable: &dyn Fn(EntryId) -> bool,
        (regions, state): (&Regions, usize),
        homes: &mut List<Home>,
    ) -> Result<Lasting, Error> {
        homes.refill(recording.entries.len(), Home::default())?;
        if let Some(file) = &self.weights {
            self.borrow(recording, tape, trainable, file, homes)?;
        }
        let mut at = 0_u32;
        let mut next = |len: usize, all: &mut u32| -> Result<u32, Error> {
            let units = u32::try_from(len.div_ceil(UNIT)).map_err(|_| too_large())?;
            let first = regions.next(at, units)?;
            at = first.checked_add(units).ok_or_else(too_large)?;
            *all += units; // no more than `at`
            Ok(first)
        };
        let mut lasting = Lasting::default();
        let in_block = |homes: &List<Home>, i: usize| !homes[i].borrowed;
        for (i, entry) in recording.entries.iter().enumerate() {
            if matches!(entry.kind, EntryKind::Parameter | EntryKind::Words) && in_block(homes, i) {
                homes[i].unit = next(entry.len(), &mut lasting.weights)?;
            }
        }
        for (i, entry) in recording.entries.iter().enumerate() {
            if matches!(entry.kind, EntryKind::RunningMean | EntryKind::RunningVar) && in_block(homes, i) {
                homes[i].unit = next(entry.len(), &mut lasting.statistics)?;
            }
        }
        for (i, entry) in recording.entries.iter().enumerate() {
            let id = EntryId(i as u32);
            if self.has_momentum(trainable(id)) {
                homes[i].momentum = Some(next(entry.len(), &mut lasting.momentum)?);
            } else if self.momentum_room.is_some_and(|room| room(recording.entry_name(id))) {
                next(entry.len(), &mut lasting.momentum)?; // another program's
            }
        }
        lasting.state = next(state, &mut 0)?;
        lasting.end = at;
        Ok(lasting)
    }

    /// Finds what is read in place: everything of the weights file that is neither trained nor moved nor held
    /// for another program.
    fn borrow(
        &self,
        recording: &Recording,
        tape: &Tape<Op>,
        trainable: &dyn Fn(EntryId) -> bool,
        file: &Native,
        homes: &mut List<Home>,
    ) -> Result<(), Error> {
        if file.base().is_some() {
            return Err(Error::Delta("is a delta; give the file that it names as its base, and lay the delta over it"));
        }
        let head = recording.text(recording.head);
        let moves = |id: EntryId| {
            tape.nodes().iter().any(|node| match &node.op {
                Op::BatchNorm(norm) | Op::BatchNormPool(crate::ops::BatchNormPool { norm, .. }) => {
                    norm.batch && (norm.mean == id || norm.var == id)
                }
                _ => false,
            })
        };
        for (i, entry) in recording.entries.iter().enumerate() {
            let (id, name) = (EntryId(i as u32), recording.entry_name(EntryId(i as u32)));
            if entry.kind == EntryKind::Count || trainable(id) || moves(id) || self.hold.is_some_and(|hold| hold(name)) {
                continue;
            }
            let missing = || Error::NotInWeights { name: Name::of(name) };
            let tensor = file.tensor(name).ok_or_else(missing)?;
            let fits = tensor.shape().len() == entry.rank as usize && tensor.shape().iter().zip(entry.shape).all(|(a, b)| *a == b as usize);
            if !fits && !head.is_empty() && in_scope(name, head) {
                continue; // another head: ours is in the block
            }
            if !fits {
                return Err(missing());
            }
            tensor.check_padding()?;
            let due = match entry.layout {
                Layout::Weight(layout) => FileLayout::Blocks(layout),
                Layout::Words => FileLayout::Words,
                Layout::Plain | Layout::Count => FileLayout::Plain,
            };
            if tensor.layout() != due {
                let what = "its numbers do not lie as the kernels read them, so it can't be used in place";
                return Err(NativeErrorKind::Tensor(what).at(tensor.offset()).of(tensor.name()).into());
            }
            let unit = u32::try_from(tensor.offset() / ALIGN).map_err(|_| NativeErrorKind::TooLarge.at(tensor.offset()))?;
            homes[i] = Home { borrowed: true, unit, momentum: None };
        }
        Ok(())
    }
}
