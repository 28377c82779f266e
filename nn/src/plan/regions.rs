//! Several pieces of memory: which units of the block each of them has.

use crate::Error;
use crate::name::Name;
use core::ops::Range;
use nunatak_core::arena::ALIGN;
use nunatak_core::program::{MOST_REGIONS, RegionRecord};

/// A piece of memory that a board has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region<'a> {
    /// Its name: `dtcm`, `axi`, `psram`.
    pub name: &'a str,
    /// Its bytes. It begins at a multiple of 64, or has fewer to use.
    pub bytes: usize,
}

/// Where the regions begin and end in the block. The block begins with the slowest, so that what lasts lies there
/// and what passes has the fastest.
#[derive(Clone, Copy)]
pub(super) struct Regions<'a> {
    list: &'a [Region<'a>],
    ranges: [(u32, u32); MOST_REGIONS],
}

impl<'a> Regions<'a> {
    /// Of regions in the order of their speed, the fastest first. None: one, as large as it must be.
    ///
    /// # Errors
    /// [`Error::Length`] where there are more than eight; [`nunatak_core::Error::TooLarge`].
    pub(super) fn new(list: &'a [Region<'a>]) -> Result<Regions<'a>, Error> {
        if list.len() > MOST_REGIONS {
            return Err(Error::Length { what: "regions", expected: MOST_REGIONS, got: list.len() });
        }
        let (mut ranges, mut at) = ([(0, 0); MOST_REGIONS], 0_u32);
        for (range, region) in ranges.iter_mut().zip(list).rev() {
            let too_large = nunatak_core::Error::TooLarge { shape: [1, 1, 1, region.bytes] };
            let units = u32::try_from(region.bytes / ALIGN).map_err(|_| too_large)?;
            let end = at.checked_add(units).ok_or(too_large)?;
            *range = (at, end);
            at = end;
        }
        Ok(Regions { list, ranges })
    }

    fn range(&self, i: usize) -> Range<u32> {
        let (first, end) = self.ranges[i];
        first..end
    }

    /// The first place from unit `at` on where so many units lie in one region.
    ///
    /// # Errors
    /// [`Error::Region`].
    pub(super) fn next(&self, at: u32, units: u32) -> Result<u32, Error> {
        if self.list.is_empty() {
            return Ok(at);
        }
        let places = (0..self.list.len()).rev().map(|i| (self.range(i), at.max(self.ranges[i].0)));
        match places.into_iter().find(|(range, first)| u64::from(*first) + u64::from(units) <= u64::from(range.end)) {
            Some((_, first)) => Ok(first),
            None => {
                let (first, given) = (at.max(self.ranges[0].0) - self.ranges[0].0, self.list[0].bytes);
                Err(self.full(0, given, (first as usize + units as usize).saturating_mul(ALIGN)))
            }
        }
    }

    /// What is left of each for what passes, which begins at a unit: units from there on.
    pub(super) fn passing(&self, from: u32) -> [Range<u32>; MOST_REGIONS] {
        core::array::from_fn(|i| {
            let (first, end) = self.ranges[i];
            first.max(from) - from..end.max(from) - from
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The error of planning with the region's name, and the bytes that it has in all.
    pub(super) fn named(&self, error: nunatak_core::Error) -> Error {
        match error {
            nunatak_core::Error::RegionFull { region, given, needed } if region < self.list.len() => {
                let bytes = self.list[region].bytes;
                self.full(region, bytes, bytes.saturating_add(needed.saturating_sub(given)))
            }
            other => other.into(),
        }
    }

    fn full(&self, region: usize, given: usize, needed: usize) -> Error {
        Error::Region { name: Name::of(self.list[region].name), given, needed }
    }

    /// As they are written, when every place in them is known: `used` ends are units of the block.
    pub(super) fn records(&self, used: &'a dyn Fn(Range<u32>) -> u32) -> impl Iterator<Item = RegionRecord<'a>> {
        let one = self.list.is_empty().then(|| RegionRecord { name: "block", units: used(0..u32::MAX), first: 0 });
        let (list, ranges) = (self.list, self.ranges);
        one.into_iter().chain(list.iter().zip(ranges).map(move |(region, (first, end))| {
            let units = used(first..end).saturating_sub(first);
            RegionRecord { name: region.name, units, first }
        }))
    }
}
