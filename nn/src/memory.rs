//! The memory of a trainer as one space of addresses: the caller's block, which is read and written, in one
//! piece or in regions, and behind it weights that are only read, where they lie (a mapped file, flash).
//!
//! Addresses count numbers. Those from [`FILE`] on are the borrowed weights', so that whoever routes
//! a parameter to a kernel need not know its home.

use core::ops::{Index, IndexMut, Range};
use nunatak_core::program::{MOST_REGIONS, Program};
use nunatak_core::{Error, arena};

/// Where the addresses of the borrowed weights begin: no block reaches so far.
pub(crate) const FILE: usize = usize::MAX / 2 + 1;

/// The block, and what is borrowed. Indexed by a range it is the block alone.
pub(crate) struct Block<'m> {
    block: Numbers<'m>,
    file: &'m [f32],
}

/// Numbers that are the caller's, or the trainer's own.
enum Numbers<'m> {
    Lent(&'m mut [f32]),
    /// Pieces of memory, each with the address at which it begins.
    Regions([(usize, &'m mut [f32]); MOST_REGIONS]),
    /// Bytes, of which the numbers begin at an aligned place.
    #[cfg(feature = "std")]
    Owned(std::vec::Vec<u8>, Range<usize>),
}

/// A part of the region that begins at an address, as places of that region; `None` where it lies elsewhere.
fn within(first: usize, len: usize, range: &Range<usize>) -> Option<Range<usize>> {
    let start = range.start.checked_sub(first)?;
    let end = range.end.checked_sub(first)?;
    (start <= end && end <= len).then_some(start..end)
}

impl<'m> Block<'m> {
    /// A block, and weights that are read in place (empty where there are none).
    pub(crate) fn new(block: &'m mut [f32], file: &'m [f32]) -> Block<'m> {
        Block { block: Numbers::Lent(block), file }
    }

    /// A block of the trainer's own.
    #[cfg(feature = "std")]
    pub(crate) fn owned(numbers: usize, file: &'m [f32]) -> Block<'m> {
        let bytes = std::vec![0_u8; arena::block_bytes(numbers)];
        let start = bytes.as_ptr().align_offset(arena::ALIGN);
        let range = start..start + numbers * size_of::<f32>();
        Block { block: Numbers::Owned(bytes, range), file }
    }

    /// The regions of a program, each in a piece of memory, in the program's order.
    ///
    /// # Errors
    /// [`Error::RegionFull`] where a piece is too short for its region.
    pub(crate) fn in_regions(program: &Program, pieces: &mut [&'m mut [u8]], file: &'m [f32]) -> Result<Block<'m>, Error> {
        let mut regions: [(usize, &mut [f32]); MOST_REGIONS] = core::array::from_fn(|_| Default::default());
        for (number, to) in regions.iter_mut().enumerate().take(program.region_count()) {
            let range = program.region(number).range;
            let piece = pieces.get_mut(number).map(core::mem::take).unwrap_or_default();
            let skip = piece.as_ptr().align_offset(arena::ALIGN);
            let (given, needed) = (piece.len(), range.len() * size_of::<f32>() + if range.is_empty() { 0 } else { skip });
            if given < needed {
                return Err(Error::RegionFull { region: number, given, needed });
            }
            // The whole piece is taken, so that a larger program may follow where it fits; but no address of another
            // region, however long the piece is.
            let starts = |of: Range<usize>| of.map(|other| program.region(other).range.start);
            let next = starts(0..program.region_count()).filter(|start| *start > range.start).min().unwrap_or(usize::MAX);
            // Of regions that begin at one address only the first has any numbers.
            let next = if starts(0..number).any(|start| start == range.start) { range.start } else { next };
            let bytes = piece.get_mut(skip..).unwrap_or_default();
            let whole = (bytes.len() / size_of::<f32>()).min(next - range.start);
            *to = (range.start, bytemuck::cast_slice_mut(&mut bytes[..whole * size_of::<f32>()]));
        }
        Ok(Block { block: Numbers::Regions(regions), file })
    }

    /// Whether another program's regions lie as those that the block was made for.
    ///
    /// # Errors
    /// [`Error::ArenaTooSmall`], [`Error::RegionFull`].
    pub(crate) fn fits(&self, program: &Program) -> Result<(), Error> {
        let Numbers::Regions(regions) = &self.block else {
            let (needed, given) = (program.block_len(), self.len());
            let bytes = arena::block_bytes;
            return if needed > given { Err(Error::ArenaTooSmall { needed: bytes(needed), given: bytes(given) }) } else { Ok(()) };
        };
        for region in 0..program.region_count() {
            let range = program.region(region).range;
            let own = regions.iter().find(|(first, _)| *first == range.start).map_or(0, |(_, numbers)| numbers.len());
            if range.len() > own {
                return Err(Error::RegionFull { region, given: own * size_of::<f32>(), needed: range.len() * size_of::<f32>() });
            }
        }
        Ok(())
    }

    /// Makes a block of the trainer's own large enough for so many numbers; what is in it stays. Others are as they are.
    #[cfg(feature = "std")]
    pub(crate) fn make_room(&mut self, needed: usize) {
        if self.len() >= needed {
            return;
        }
        let Numbers::Owned(old, from) = &self.block else { return };
        let mut larger = Block::owned(needed, self.file);
        if let Numbers::Owned(new, to) = &mut larger.block {
            new[to.start..][..from.len()].copy_from_slice(&old[from.clone()]);
        }
        *self = larger;
    }

    /// Numbers of the block.
    pub(crate) fn len(&self) -> usize {
        match &self.block {
            Numbers::Lent(numbers) => numbers.len(),
            Numbers::Regions(regions) => regions.iter().map(|(first, numbers)| first + numbers.len()).max().unwrap_or(0),
            #[cfg(feature = "std")]
            Numbers::Owned(_, range) => range.len() / size_of::<f32>(),
        }
    }

    /// The numbers at an address of either.
    pub(crate) fn read(&self, place: Range<usize>) -> &[f32] {
        match place.start >= FILE {
            true => &self.file[place.start - FILE..place.end - FILE],
            false => &self[place],
        }
    }

    /// Copies numbers of the borrowed weights, by their address, into the block.
    pub(crate) fn copy_from_file(&mut self, from: Range<usize>, to: usize) {
        let file = self.file;
        self[to..to + from.len()].copy_from_slice(&file[from.start - FILE..from.end - FILE]);
    }

    /// Copies numbers of the block to another address of it; the two may overlap.
    pub(crate) fn copy_within(&mut self, from: Range<usize>, to: usize) {
        match &mut self.block {
            Numbers::Lent(numbers) => numbers.copy_within(from, to),
            Numbers::Regions(regions) => copy_within(regions, from, to),
            #[cfg(feature = "std")]
            Numbers::Owned(bytes, range) => bytemuck::cast_slice_mut::<u8, f32>(&mut bytes[range.clone()]).copy_within(from, to),
        }
    }
}

impl Index<Range<usize>> for Block<'_> {
    type Output = [f32];
    fn index(&self, range: Range<usize>) -> &[f32] {
        match &self.block {
            Numbers::Lent(numbers) => &numbers[range],
            Numbers::Regions(regions) => {
                let part = |(first, numbers): &'_ (usize, &'_ mut [f32])| within(*first, numbers.len(), &range);
                match regions.iter().find_map(|region| part(region).map(|part| &region.1[part])) {
                    Some(numbers) => numbers,
                    None => outside(range),
                }
            }
            #[cfg(feature = "std")]
            Numbers::Owned(bytes, own) => &bytemuck::cast_slice::<u8, f32>(&bytes[own.clone()])[range],
        }
    }
}

impl IndexMut<Range<usize>> for Block<'_> {
    fn index_mut(&mut self, range: Range<usize>) -> &mut [f32] {
        match &mut self.block {
            Numbers::Lent(numbers) => &mut numbers[range],
            Numbers::Regions(regions) => {
                let found = regions.iter_mut().find_map(|(first, numbers)| {
                    let part = within(*first, numbers.len(), &range)?;
                    Some(&mut numbers[part])
                });
                match found {
                    Some(numbers) => numbers,
                    None => outside(range),
                }
            }
            #[cfg(feature = "std")]
            Numbers::Owned(bytes, own) => &mut bytemuck::cast_slice_mut::<u8, f32>(&mut bytes[own.clone()])[range],
        }
    }
}

/// Copies numbers inside of a region, or from one to another.
fn copy_within(regions: &mut [(usize, &mut [f32])], from: Range<usize>, to: usize) {
    let place = |range: &Range<usize>| regions.iter().enumerate().find_map(|(i, (first, n))| Some((i, within(*first, n.len(), range)?)));
    let to = to..to + from.len();
    let (Some((source, from)), Some((target, to))) = (place(&from), place(&to)) else { outside(from) };
    if source == target {
        return regions[source].1.copy_within(from, to.start);
    }
    let (low, high) = regions.split_at_mut(source.max(target));
    match source < target {
        true => high[0].1[to].copy_from_slice(&low[source].1[from]),
        false => low[target].1[to].copy_from_slice(&high[0].1[from]),
    }
}

/// A checked program has no such place.
fn outside(range: Range<usize>) -> ! {
    panic!("numbers {} to {} lie in no region", range.start, range.end)
}

/// As [`arena::lend`]; what is read may also lie in the borrowed weights.
///
/// # Errors
/// [`Error::Overlap`] where a writer's range overlaps another, or lies where nothing is written.
pub(crate) fn lend<'a, const R: usize, const W: usize>(
    memory: &'a mut Block<'_>,
    mut reads: [Range<usize>; R],
    writes: [Range<usize>; W],
) -> Result<arena::Lent<'a, R, W>, Error> {
    let mut read: [&[f32]; R] = [&[]; R];
    let mut write: [&mut [f32]; W] = core::array::from_fn(|_| Default::default());
    lend_into(memory, &mut reads, &writes, &mut read, &mut write)?;
    Ok((read, write))
}

/// [`lend`] for any number of ranges, at most [`arena::MOST`]: compiled once, which matters in a board's flash.
fn lend_into<'a>(
    memory: &'a mut Block<'_>,
    reads: &mut [Range<usize>],
    writes: &[Range<usize>],
    read: &mut [&'a [f32]],
    write: &mut [&'a mut [f32]],
) -> Result<(), Error> {
    let mut borrowed: [&[f32]; arena::MOST] = [&[]; arena::MOST];
    borrow(memory.file, reads, writes, &mut borrowed)?;
    match &mut memory.block {
        Numbers::Lent(numbers) => arena::lend_into(numbers, reads, writes, read, write)?,
        Numbers::Regions(regions) => {
            for (first, numbers) in regions.iter_mut().filter(|(_, numbers)| !numbers.is_empty()) {
                let len = numbers.len();
                let mut own: [Range<usize>; arena::MOST] = core::array::from_fn(|_| 0..0);
                for (own, range) in own.iter_mut().zip(reads.iter().chain(writes)) {
                    *own = within(*first, len, range).unwrap_or(0..0);
                }
                let (own_reads, rest) = own.split_at(reads.len());
                arena::lend_into(numbers, own_reads, &rest[..writes.len()], read, write)?;
            }
        }
        #[cfg(feature = "std")]
        Numbers::Owned(bytes, own) => {
            arena::lend_into(bytemuck::cast_slice_mut(&mut bytes[own.clone()]), reads, writes, read, write)?;
        }
    }
    for (slice, from) in read.iter_mut().zip(borrowed).filter(|(_, from)| !from.is_empty()) {
        *slice = from;
    }
    // What lies in two regions, or in none, was not lent.
    let mut due = reads.iter().zip(read.iter().map(|slice| slice.len())).chain(writes.iter().zip(write.iter().map(|slice| slice.len())));
    match due.find(|(range, len)| range.len() > *len) {
        Some((range, _)) => Err(Error::Overlap { at: range.start }),
        None => Ok(()),
    }
}

/// What is read from the borrowed weights; its ranges become empty.
fn borrow<'a>(file: &'a [f32], reads: &mut [Range<usize>], writes: &[Range<usize>], borrowed: &mut [&'a [f32]]) -> Result<(), Error> {
    for (place, slice) in reads.iter_mut().zip(borrowed).filter(|(place, _)| place.start >= FILE) {
        let at = core::mem::take(place);
        *slice = file.get(at.start - FILE..at.end - FILE).ok_or(Error::Overlap { at: at.start })?;
    }
    match writes.iter().find(|place| place.start >= FILE) {
        Some(place) => Err(Error::Overlap { at: place.start }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn borrowed_weights_are_lent_to_readers_alone() {
        let mut block: [f32; 8] = core::array::from_fn(|i| i as f32);
        let file = [10.0, 11.0, 12.0];
        let mut memory = Block::new(&mut block, &file);
        let (r, w) = lend(&mut memory, [FILE + 1..FILE + 3, 0..2, FILE..FILE + 1, 3..3], [2..4]).expect("disjoint");
        assert_eq!((r[0], r[1], r[2], r[3], &*w[0]), (&[11.0, 12.0][..], &[0.0, 1.0][..], &[10.0][..], &[][..], &[2.0, 3.0][..]));
        assert_eq!(lend(&mut memory, [FILE + 1..FILE + 4], []).err(), Some(Error::Overlap { at: FILE + 1 }));
        assert_eq!(lend(&mut memory, [0..1], [FILE..FILE + 1]).err(), Some(Error::Overlap { at: FILE }));
        assert_eq!((memory.read(FILE..FILE + 2), memory.read(6..8)), (&[10.0, 11.0][..], &[6.0, 7.0][..]));
    }
}
