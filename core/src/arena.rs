//! One block of memory from the caller, and how parts of it are lent.

use crate::Error;
use crate::sort::sort_by_key;
use core::ops::Range;

/// Every buffer begins at a multiple of this many bytes: a cache line, and a vector of any level.
pub const ALIGN: usize = 64;
/// Numbers in [`ALIGN`] bytes.
pub const UNIT: usize = ALIGN / size_of::<f32>();

/// The most numbers that a block can hold: half the address space. What needs more is refused by the plan,
/// so that no sum of lengths or bytes wraps around, on 32-bit processors either.
pub const MOST_NUMBERS: usize = (isize::MAX as usize - ALIGN) / size_of::<f32>();

/// Bytes that a block must have to hold `numbers` at an aligned place wherever it starts itself; `usize::MAX`,
/// which no block has, where so many do not fit the address space.
pub const fn block_bytes(numbers: usize) -> usize {
    numbers.saturating_mul(size_of::<f32>()).saturating_add(ALIGN - 1)
}

/// The caller's block as numbers, the first at a multiple of [`ALIGN`].
///
/// The length needed is the same wherever the block starts, so that what fits once fits always.
///
/// # Errors
/// [`Error::ArenaTooSmall`] where the block is shorter than [`block_bytes`].
pub fn numbers(block: &mut [u8], numbers: usize) -> Result<&mut [f32], Error> {
    let (needed, given) = (block_bytes(numbers), block.len());
    if given < needed {
        return Err(Error::ArenaTooSmall { needed, given });
    }
    let skip = block.as_ptr().align_offset(ALIGN);
    let bytes = &mut block[skip..][..numbers * size_of::<f32>()];
    Ok(bytemuck::cast_slice_mut(bytes))
}

/// Ranges that [`lend`] can handle at once.
pub const MOST: usize = 12;

/// What [`lend`] gives: slices to read and slices to write.
pub type Lent<'a, const R: usize, const W: usize> = ([&'a [f32]; R], [&'a mut [f32]; W]);

/// Lends parts of `block`: `R` to read, `W` to write.
///
/// Readers may share a range; an empty range is fine anywhere.
///
/// # Errors
/// [`Error::Overlap`] where a writer's range overlaps another.
///
/// # Panics
/// If a range lies outside the block, or more than 12 are asked for.
pub fn lend<const R: usize, const W: usize>(
    block: &mut [f32],
    reads: [Range<usize>; R],
    writes: [Range<usize>; W],
) -> Result<Lent<'_, R, W>, Error> {
    let mut read: [&[f32]; R] = [&[]; R];
    let mut write: [&mut [f32]; W] = core::array::from_fn(|_| Default::default());
    lend_into(block, &reads, &writes, &mut read, &mut write)?;
    Ok((read, write))
}

/// [`lend`] for any number of ranges: compiled once, which matters in a board's flash.
///
/// # Errors
/// As for [`lend`]; the slices that were lent before it are then to be forgotten.
///
/// # Panics
/// As [`lend`], or if there are not as many slices as ranges.
pub fn lend_into<'a>(
    block: &'a mut [f32],
    reads: &[Range<usize>],
    writes: &[Range<usize>],
    read: &mut [&'a [f32]],
    write: &mut [&'a mut [f32]],
) -> Result<(), Error> {
    let (r, all) = (reads.len(), reads.len() + writes.len());
    assert!(all <= MOST && read.len() == r && write.len() == writes.len());
    let range = |i: usize| if i < r { reads[i].clone() } else { writes[i - r].clone() };
    let mut order = [0; MOST];
    let order = &mut order[..all];
    order.iter_mut().enumerate().for_each(|(i, o)| *o = i);
    sort_by_key(order, |i| (range(i).start, range(i).end, i));

    let (mut rest, mut base) = (block, 0);
    let mut last: Option<(Range<usize>, &[f32])> = None;
    for &i in order.iter() {
        let range = range(i);
        if range.is_empty() {
            continue;
        }
        if let Some((same, slice)) = &last
            && i < r
            && *same == range
        {
            read[i] = slice;
            continue;
        }
        let skip = range.start.checked_sub(base).ok_or(Error::Overlap { at: range.start })?;
        let (slice, tail) = core::mem::take(&mut rest)[skip..].split_at_mut(range.len());
        (rest, base) = (tail, range.end);
        if i < r {
            let slice: &[f32] = slice;
            read[i] = slice;
            last = Some((range, slice));
        } else {
            write[i - r] = slice;
            last = None;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_aligned_wherever_it_starts() {
        let mut memory = [0_u8; 1024];
        for start in 0..70 {
            let block = &mut memory[start..start + block_bytes(100)];
            let x = numbers(block, 100).expect("enough");
            assert_eq!((x.len(), x.as_ptr() as usize % ALIGN), (100, 0));
            let short = &mut memory[start..start + block_bytes(100) - 1];
            let given = short.len();
            assert_eq!(numbers(short, 100).err(), Some(Error::ArenaTooSmall { needed: given + 1, given }));
        }
    }

    #[test]
    fn more_numbers_than_there_are_addresses_are_refused() {
        let mut memory = [0_u8; 256];
        for count in [usize::MAX, usize::MAX / 2, usize::MAX / 4, usize::MAX / 4 + 1, usize::MAX / 4 + 2, MOST_NUMBERS + 1] {
            let needed = block_bytes(count);
            assert!(needed > isize::MAX as usize - ALIGN);
            assert_eq!(numbers(&mut memory, count).err(), Some(Error::ArenaTooSmall { needed, given: 256 }));
        }
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn readers_share_writers_do_not() {
        let mut block: [f32; 10] = core::array::from_fn(|i| i as f32);
        let (r, w) = lend(&mut block, [6..8, 0..3, 6..8, 4..4], [3..6, 9..10]).expect("disjoint");
        assert_eq!((r[0], r[1], r[2], r[3]), (&[6.0, 7.0][..], &[0.0, 1.0, 2.0][..], &[6.0, 7.0][..], &[][..]));
        assert_eq!((w[0].len(), w[1][0]), (3, 9.0));
        assert_eq!(lend(&mut block, [0..4], [3..6]).err(), Some(Error::Overlap { at: 3 }));
        assert_eq!(lend(&mut block, [0..4], [0..4]).err(), Some(Error::Overlap { at: 0 }));
        assert_eq!(lend::<0, 2>(&mut block, [], [2..5, 2..5]).err(), Some(Error::Overlap { at: 2 }));
        assert_eq!(lend(&mut block, [0..6, 0..4], []).err(), Some(Error::Overlap { at: 0 }));
    }
}
