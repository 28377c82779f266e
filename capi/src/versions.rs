//! Structs that grow: a program that was built with an older or newer header works with this library.
//!
//! Every struct begins with its size as its user's compiler knew it. Members are only ever added at the end, and 0
//! (or what the default function sets) is what they meant before they were there.

use crate::boundary::{Args, slice, slice_mut};
use crate::status::{Failure, fail};
use core::mem::MaybeUninit;

/// A struct that may grow.
///
/// # Safety
/// `#[repr(C)]`, the first member is its `struct_bytes`, and any bytes of the length are a valid value.
pub(crate) unsafe trait Versioned: Copy {
    /// What the caller calls it.
    const NAME: &'static str;
    /// Bytes of the shortest that is taken: up to the members without which it means nothing.
    const OLDEST: usize;
    /// What is meant where a caller's struct ends.
    fn defaults() -> Self;
}

/// Longer than any struct will ever be.
const LONGEST: usize = 1 << 16;

fn check_size<T: Versioned>(bytes: usize) -> Result<(), Failure> {
    if (T::OLDEST..=LONGEST).contains(&bytes) && bytes.is_multiple_of(align_of::<T>()) {
        return Ok(());
    }
    let (name, due) = (T::NAME, size_of::<T>());
    Err(fail!(
        NUNATAK_BAD_CONFIG,
        "struct_bytes is {bytes}, expected sizeof({name}), which is {due} in this version: fill it by the default function, or set it by hand"
    )
    .numbers(due, bytes))
}

fn check_aligned<T>(pointer: *const T, what: &str) -> Result<(), Failure> {
    // SAFETY: a slice of nothing is not read.
    unsafe { slice(&Args::new(), pointer, 0, what).map(|_: &[T]| ()) }
}

/// The struct behind a pointer, whatever version its size says.
///
/// # Safety
/// If `pointer` passes the checks, its `struct_bytes` can be read there, and as many bytes as it says.
pub(crate) unsafe fn read<T: Versioned>(args: &Args, pointer: *const T, what: &str) -> Result<T, Failure> {
    check_aligned(pointer, what)?;
    // SAFETY: the caller's promise: the size is the first member. It is noted as a whole below.
    let bytes = unsafe { slice(&Args::new(), pointer.cast::<usize>(), 1, what)? }[0];
    check_size::<T>(bytes)?;
    // SAFETY: the caller's promise.
    let given = unsafe { slice(args, pointer.cast::<MaybeUninit<u8>>(), bytes, what)? };
    let known = bytes.min(size_of::<T>());
    let mut value = MaybeUninit::new(T::defaults());
    // SAFETY: both have so many bytes, and lie apart. Padding is copied as it is.
    unsafe { value.as_mut_ptr().cast::<MaybeUninit<u8>>().copy_from_nonoverlapping(given.as_ptr(), known) };
    // SAFETY: a newer caller's members; its compiler has no padding there that we know of, and has set them.
    let later = given[known..].iter().position(|byte| unsafe { byte.assume_init() } != 0);
    if let Some(at) = later {
        let at = known + at;
        return Err(fail!(
            NUNATAK_BAD_CONFIG,
            "{what} has a member at byte {at} that this library does not know, and it is not 0: use a library as new as the header"
        ));
    }
    // From here on it is this version's.
    // SAFETY: the size is the first member.
    unsafe { value.as_mut_ptr().cast::<usize>().write(size_of::<T>()) };
    // SAFETY: any bytes are valid.
    Ok(unsafe { value.assume_init() })
}

/// A place for a struct of the size that the caller knows, written on success.
pub(crate) struct OutStruct<'a>(&'a mut [MaybeUninit<u8>]);

impl<'a> OutStruct<'a> {
    /// # Safety
    /// If `pointer` passes the checks, so many bytes can be written there until the call ends.
    pub(crate) unsafe fn new<T: Versioned>(args: &Args, pointer: *mut T, bytes: usize, what: &str) -> Result<OutStruct<'a>, Failure> {
        check_aligned(pointer, what)?;
        check_size::<T>(bytes)?;
        // SAFETY: the caller's promise.
        Ok(OutStruct(unsafe { slice_mut(args, pointer.cast::<MaybeUninit<u8>>(), bytes, what)? }))
    }

    /// Writes as much of a value as the caller knows, zeros behind it, and the caller's size in front.
    pub(crate) fn put<T: Versioned>(self, value: &T) {
        let given = self.0.len();
        let known = given.min(size_of::<T>());
        self.0[known..].fill(MaybeUninit::new(0));
        // SAFETY: so many bytes are in both, which lie apart. Padding is copied as it is.
        unsafe { self.0.as_mut_ptr().copy_from_nonoverlapping((&raw const *value).cast(), known) };
        let size = given.to_ne_bytes().map(MaybeUninit::new);
        self.0[..size.len()].copy_from_slice(&size);
    }
}
