//! PyTorch's random numbers: a seed means here what it means there.

use crate::boundary::{Args, call, slice_mut};
use crate::handles::Entered;
use crate::status::{Failure, fail, nunatak_status};
use crate::trainer::nunatak_trainer;
use core::mem::MaybeUninit;
use nunatak_core::rng::Generator;

/// PyTorch's generator on the CPU. A plain value: copy it, keep it where you like. What is in it is
/// the library's, of one version.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_random {
    /// sizeof(nunatak_random), which `nunatak_random_seed` sets.
    pub struct_bytes: usize,
    /// The library's.
    pub state: [u64; 320],
}

/// What lies in the state: the mark tells a generator that was not seeded.
#[repr(C)]
struct Seeded {
    struct_bytes: usize,
    mark: u64,
    generator: Generator,
}

const MARK: u64 = 0x6e75_6e61_7461_6b31;
const _: () = assert!(size_of::<Seeded>() <= size_of::<nunatak_random>() && align_of::<Seeded>() <= align_of::<nunatak_random>());

/// # Safety
/// `random` is NULL or can be read and written, and nobody else does.
unsafe fn place<'a>(args: &Args, random: *mut nunatak_random) -> Result<&'a mut MaybeUninit<Seeded>, Failure> {
    // SAFETY: the caller's promise; a `Seeded` fits.
    let place = unsafe { slice_mut(args, random, 1, "random")? };
    // SAFETY: it fits and is aligned, by the assertion above.
    Ok(unsafe { &mut *(&raw mut place[0]).cast() })
}

/// # Safety
/// As for `place`; what has the mark was written by this file.
pub(crate) unsafe fn seeded<'a>(args: &Args, random: *mut nunatak_random) -> Result<&'a mut Generator, Failure> {
    // SAFETY: the caller's promise.
    let place = unsafe { place(args, random)? };
    // SAFETY: the mark is a plain number at the front.
    let mark = unsafe { (&raw const (*place.as_ptr()).mark).read() };
    // SAFETY: a plain number too.
    let bytes = unsafe { (&raw const (*place.as_ptr()).struct_bytes).read() };
    if mark != MARK || bytes != size_of::<nunatak_random>() {
        return Err(fail!(NUNATAK_WRONG_ORDER, "the generator was not seeded; call nunatak_random_seed first"));
    }
    // SAFETY: whoever wrote the mark wrote the generator.
    Ok(unsafe { &mut place.assume_init_mut().generator })
}

/// `torch.manual_seed(seed)`: only the low 32 bits count; what was in the generator does not matter.
/// `struct_bytes` is sizeof(nunatak_random); fewer than this version's are `NUNATAK_BAD_CONFIG`. Any thread; each
/// generator is used by one thread at a time.
///
/// # Safety
/// `random` is NULL, or `struct_bytes` bytes can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_random_seed(random: *mut nunatak_random, struct_bytes: usize, seed: u64) -> nunatak_status {
    call(|args| {
        let own = size_of::<nunatak_random>();
        if !random.is_null() && struct_bytes < own {
            return Err(fail!(
                NUNATAK_BAD_CONFIG,
                "struct_bytes is {struct_bytes}, expected sizeof(nunatak_random), which is {own} in this version"
            )
            .numbers(own, struct_bytes));
        }
        let seeded = Seeded { struct_bytes: own, mark: MARK, generator: Generator::manual_seed(seed) };
        // SAFETY: the caller's promise.
        unsafe { place(args, random)? }.write(seeded);
        Ok(())
    })
}

/// `torch.empty(count).uniform_(low, high)`: `count` numbers from `low` to below `high`; with 0 and 1 it is
/// `torch.rand(count)`. The generator goes on.
///
/// `NUNATAK_WRONG_ORDER` for a generator that was not seeded, `NUNATAK_BAD_SETTING` for a range that is none.
/// Any thread; each generator is used by one thread at a time.
///
/// # Safety
/// `random` is NULL, or was written by `nunatak_random_seed`; `out` is NULL, or `count` floats can be
/// written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_random_uniform(
    random: *mut nunatak_random,
    low: f32,
    high: f32,
    out: *mut f32,
    count: usize,
) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(args, out, count, "out")? };
        // SAFETY: the caller's promise.
        let generator = unsafe { seeded(args, random)? };
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(fail!(NUNATAK_BAD_SETTING, "a range from {low} to {high}"));
        }
        out.iter_mut().for_each(|v| *v = generator.uniform(low, high));
        Ok(())
    })
}

/// `torch.randperm(count)`: the numbers from 0 to `count` - 1 in random order, to shuffle samples. The
/// generator goes on.
///
/// `NUNATAK_WRONG_ORDER` for a generator that was not seeded. Any thread; each generator is used by one
/// thread at a time.
///
/// # Safety
/// `random` is NULL, or was written by `nunatak_random_seed`; `out` is NULL, or `count` uint32_t can be
/// written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_random_permutation(random: *mut nunatak_random, out: *mut u32, count: usize) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(args, out, count, "out")? };
        // SAFETY: the caller's promise.
        let generator = unsafe { seeded(args, random)? };
        if count as u64 > 1 << 32 {
            return Err(fail!(NUNATAK_WRONG_LENGTH, "a permutation of {count} does not fit uint32_t"));
        }
        generator.permutation(out);
        Ok(())
    })
}

/// Draws every weight and sets every statistic as `torchvision.models.resnet18()` does, from a generator
/// that goes on afterwards, as PyTorch's global one. What is read in place stays as it is, and the others get
/// the numbers that they would get without it. Momenta and gradients are forgotten.
///
/// `NUNATAK_WRONG_ORDER` for a generator that was not seeded.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `random` is NULL, or was written by `nunatak_random_seed`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_draw_weights(trainer: *mut nunatak_trainer, random: *mut nunatak_random) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let generator = unsafe { seeded(args, random)? };
        t.trainer.init_from(generator);
        (t.ready, t.headed) = (true, true);
        Ok(())
    })
}

/// Draws `fc` alone, as `torch.nn.Linear(features, classes)` does: a new head. Its momentum is forgotten. A
/// head that is read in place stays as it is.
///
/// `NUNATAK_WRONG_ORDER` for a generator that was not seeded, `NUNATAK_NOT_PLANNED` for a network without a
/// head.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `random` is NULL, or was written by `nunatak_random_seed`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_trainer_draw_head(trainer: *mut nunatak_trainer, random: *mut nunatak_random) -> nunatak_status {
    call(|args| {
        let mut t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let generator = unsafe { seeded(args, random)? };
        if t.trainer.program().head().is_empty() {
            return Err(fail!(NUNATAK_NOT_PLANNED, "this network has no head"));
        }
        t.trainer.init_head(generator);
        t.headed = true;
        Ok(())
    })
}
