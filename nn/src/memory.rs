//! The memory of a trainer as one space of addresses: the caller's block, which is read and written,
//! and behind it weights that are only read, where they lie (a mapped file, flash).
//!
//! Addresses count numbers. Those from [`FILE`] on are the borrowed weights', so that whoever routes
//! a parameter to a kernel need not know its home.

use core::ops::{Deref, DerefMut, Range};
use nunatak_core::{Error, arena};

/// Where the addresses of the borrowed weights begin: no block reaches so far.
pub(crate) const FILE: usize = usize::MAX / 2 + 1;

/// The block, and what is borrowed. As a slice it is the block alone.
pub(crate) struct Block<'m> {
    block: &'m mut [f32],
    file: &'m [f32],
}

impl<'m> Block<'m> {
    /// A block, and weights that are read in place (empty where there are none).
    pub(crate) fn new(block: &'m mut [f32], file: &'m [f32]) -> Block<'m> {
        Block { block, file }
    }

    /// The numbers at an address of either.
    pub(crate) fn read(&self, place: Range<usize>) -> &[f32] {
        match place.start >= FILE {
            true => &self.file[place.start - FILE..place.end - FILE],
            false => &self.block[place],
        }
    }
}

impl Deref for Block<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        self.block
    }
}

impl DerefMut for Block<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.block
    }
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
    let mut borrowed: [&[f32]; R] = [&[]; R];
    borrow(memory.file, &mut reads, &writes, &mut borrowed)?;
    arena::lend_into(memory.block, &reads, &writes, &mut read, &mut write)?;
    for (slice, from) in read.iter_mut().zip(borrowed).filter(|(_, from)| !from.is_empty()) {
        *slice = from;
    }
    Ok((read, write))
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
