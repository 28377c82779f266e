//! The memory that a trainer is made in: one piece, or several regions of a board.

use crate::boundary::{Args, Span};
use crate::callbacks::Watcher;
use crate::handles::Claim;
use crate::optimizer::Settings;
use crate::routines;
use crate::status::{Failure, fail};
use crate::threads;
use crate::trainer::{Values, nunatak_trainer};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use nunatak_core::program::MOST_REGIONS;
use nunatak_nn::record::in_scope;
use nunatak_nn::{Level, Native, Program, Threads, Trainer};

/// A piece of memory that a trainer is made in. An array of them is a board's banks. Two members, for good: it never
/// grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_region {
    /// Where it begins.
    pub memory: *mut c_void,
    /// Its bytes.
    pub bytes: usize,
}

/// Where everything begins, and the front of a trainer's memory: the caller's block follows (of several regions the
/// last one's part of it), and behind it a byte for each entry, its group's number.
#[repr(C, align(64))]
struct Front {
    trainer: MaybeUninit<nunatak_trainer>,
    watcher: MaybeUninit<Watcher>,
}

/// Bytes that a trainer takes of its memory (of several regions: of the last) besides a program's numbers and a byte
/// for each tensor, on any machine: so `nunatak export` knows them. `nunatak_program_required_bytes` and
/// `nunatak_program_region_bytes` count them in.
pub const NUNATAK_TRAINER_BYTES: usize = 1024;

const _: () = assert!(size_of::<Front>() + align_of::<Front>() - 1 <= NUNATAK_TRAINER_BYTES);

/// Bytes of one of a program's regions, wherever it begins. The last has the front too.
pub(crate) fn required(program: &Program, region: usize) -> Result<usize, Failure> {
    let own = program.region(region).range.len();
    let own = if own == 0 { 0 } else { nunatak_core::arena::block_bytes(own) };
    let front = if region + 1 == program.region_count() { NUNATAK_TRAINER_BYTES + program.entry_count() } else { 0 };
    possible(own.checked_add(front))
}

fn possible(bytes: Option<usize>) -> Result<usize, Failure> {
    bytes.filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(|| fail!(NUNATAK_BAD_CONFIG, "the step does not fit the address space"))
}

/// Whether a program fits into a region of so many bytes.
pub(crate) fn check_room(program: &Program, region: usize, bytes: usize) -> Result<(), Failure> {
    let needed = required(program, region)?;
    if bytes < needed {
        let name = program.region(region).name;
        return Err(fail!(NUNATAK_MEMORY_TOO_SMALL, "the memory `{name}` has {bytes} bytes, {needed} are needed").numbers(needed, bytes));
    }
    Ok(())
}

/// Memory that is handed over, in pieces: as C describes them, so that a board's stack has no copy.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'a>(&'a [nunatak_region]);

impl<'a> Memory<'a> {
    /// Pieces, which lie apart from each other and from the call's other arguments.
    pub(crate) fn of(args: &Args, regions: &'a [nunatak_region]) -> Result<Memory<'a>, Failure> {
        let count = regions.len();
        if !(1..=MOST_REGIONS).contains(&count) {
            return Err(fail!(NUNATAK_WRONG_LENGTH, "regions: expected 1 to {MOST_REGIONS}, got {count}").numbers(MOST_REGIONS, count));
        }
        // A region of which a program uses nothing need not be there.
        let there = regions.iter().filter(|region| count == 1 || region.bytes > 0);
        there.into_iter().try_for_each(|region| args.memory(region.memory, region.bytes).map(drop))?;
        Ok(Memory(regions))
    }

    /// The addresses of each piece; checked by [`Memory::of`].
    pub(crate) fn spans(self) -> impl Iterator<Item = Span> + Clone + 'a {
        self.0.iter().filter(|region| region.bytes > 0).map(|region| {
            let start = region.memory.addr();
            Span { start, end: start + region.bytes }
        })
    }

    fn check(self, program: &Program) -> Result<(), Failure> {
        let (given, due) = (self.0.len(), program.region_count());
        if given != due {
            return Err(fail!(NUNATAK_WRONG_LENGTH, "the program has {due} regions, {given} were given").numbers(due, given));
        }
        (0..due).try_for_each(|i| check_room(program, i, self.0[i].bytes))
    }
}

/// The bytes of a piece, all zero: so that no number is ever undefined.
///
/// # Safety
/// The piece is nobody else's for `'static`.
unsafe fn bytes_of(region: &nunatak_region) -> &'static mut [u8] {
    let nunatak_region { memory, bytes } = *region;
    if bytes == 0 {
        return Default::default();
    }
    // SAFETY: the caller's promise.
    let piece: &'static mut [MaybeUninit<u8>] = unsafe { core::slice::from_raw_parts_mut(memory.cast(), bytes) };
    piece.fill(MaybeUninit::new(0));
    // SAFETY: just filled.
    unsafe { core::slice::from_raw_parts_mut(piece.as_mut_ptr().cast(), bytes) }
}

/// What a trainer is made of.
pub(crate) struct Parts {
    pub(crate) program: Program<'static>,
    pub(crate) weights: Option<Native<'static>>,
    pub(crate) level: Level,
    pub(crate) threads: usize,
}

/// Whether a file has the head of a program, in its shape: another is zero at first.
fn head_fits(program: &Program, file: &Native) -> bool {
    let head = program.entries().map(|id| program.entry(id)).filter(|entry| in_scope(entry.name(), program.head()));
    program.head().is_empty()
        || head.into_iter().all(|entry| {
            let (shape, rank) = entry.shape();
            file.tensor(entry.name()).is_some_and(|tensor| tensor.shape() == &shape[..rank])
        })
}

/// A trainer in the program's regions, of which `last` is the last one's bytes.
///
/// # Safety
/// The bytes of `others` are nobody else's for `'static`.
unsafe fn bound(
    program: Program<'static>,
    others: &[nunatak_region],
    last: &'static mut [u8],
    weights: Option<Native<'static>>,
    level: Level,
    pool: Threads,
) -> Result<Trainer<'static>, Failure> {
    let mut pieces: [&'static mut [u8]; MOST_REGIONS] = Default::default();
    for (piece, region) in pieces.iter_mut().zip(others) {
        // SAFETY: the caller's promise.
        *piece = unsafe { bytes_of(region) };
    }
    pieces[others.len()] = last;
    Ok(Trainer::in_regions(program, &mut pieces[..=others.len()], weights, routines::table()?, level, pool)?)
}

/// Makes a trainer in memory.
///
/// # Safety
/// The bytes of `memory` can be read and written until the release, and no part borrows of them.
pub(crate) unsafe fn make(parts: Parts, memory: Memory<'_>) -> Result<*mut nunatak_trainer, Failure> {
    let Parts { program, weights, level, threads } = parts;
    memory.check(&program)?;
    let (values, entries, ready) = (Values::of(&program), program.entry_count(), weights.is_some());
    let headed = weights.as_ref().map_or_else(|| program.head().is_empty(), |file| head_fits(&program, file));
    let in_place = weights.as_ref().map_or(Span::EMPTY, |file| Span::of(file.bytes()));
    let pool = threads::of(threads)?;
    let claim = Claim::new(memory.spans())?;
    let (last, others) = memory.0.split_last().ok_or_else(|| fail!(NUNATAK_WRONG_LENGTH, "no region"))?;
    // SAFETY: the caller's promise, and the claim says that it is nobody else's.
    let last = unsafe { bytes_of(last) };
    let skip = last.as_ptr().align_offset(align_of::<Front>());
    let (front, block) = last[skip..].split_at_mut(size_of::<Front>());
    let front = front.as_mut_ptr().cast::<Front>();
    let (block, groups) = block.split_at_mut(block.len() - entries);
    // SAFETY: `front` is aligned, inside the memory, and apart from the block.
    let (place, watcher) = unsafe { (&raw mut (*front).trainer, &raw mut (*front).watcher) };
    // SAFETY: the watcher is written before it is referred to, and then only read: it has its own
    // cells.
    let watcher: &'static Watcher = unsafe {
        watcher.write(MaybeUninit::new(Watcher::new()));
        &*watcher.cast::<Watcher>()
    };
    // SAFETY: the caller's promise, and the claim's.
    let trainer = unsafe { bound(program, others, block, weights, level, pool)? };
    let place = place.cast::<nunatak_trainer>();
    // SAFETY: aligned, inside the memory; nobody refers to it.
    unsafe {
        place.write(nunatak_trainer { trainer, values, settings: Settings::new(groups), threads, ready, headed, watcher });
        let program = Span::of((*place).trainer.program().bytes());
        Ok(claim.commit(place, [program, in_place]))
    }
}
