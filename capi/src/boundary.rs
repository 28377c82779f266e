//! What comes from C, checked; panics, kept from C. The conversions of pointers are here and nowhere
//! else.
//!
//! No check can find a pointer to memory that is not the caller's, or is shorter than the caller says:
//! that much every function's "Safety" asks for.

use crate::handles;
use crate::status::{Failure, fail, nunatak_status};
use core::cell::Cell;
use core::ffi::c_char;
use core::fmt::{self, Write};

/// Longest text that is read.
const TEXT_MAX: usize = 4096;

/// Runs the body of a call; a panic becomes a status (without `std` it ends in the panic handler).
pub(crate) fn call(body: impl FnOnce(&Args) -> Result<(), Failure>) -> nunatak_status {
    let args = Args::new();
    #[cfg(feature = "std")]
    nunatak_heap::begin();
    let body = || body(&args);
    #[cfg(feature = "std")]
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<std::string::String>().map(std::string::String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("");
        Err(fail!(NUNATAK_PANICKED, "a mistake of the library: {text}; please report it"))
    });
    #[cfg(not(feature = "std"))]
    let result = body();
    match result {
        Ok(()) => nunatak_status::NUNATAK_OK,
        // Whatever it led to.
        #[cfg(feature = "std")]
        Err(_) if nunatak_heap::refused() => fail!(NUNATAK_OUT_OF_MEMORY, "the system gave no memory; nothing was changed").0,
        Err(Failure(status)) => status,
    }
}

/// A pointer to `count` of T: not NULL, aligned, of a size that exists. Returns its bytes.
fn check<T>(pointer: *const T, count: usize, what: &str) -> Result<usize, Failure> {
    if pointer.is_null() {
        return Err(fail!(NUNATAK_NULL_POINTER, "{what} is NULL"));
    }
    if !pointer.is_aligned() {
        return Err(fail!(NUNATAK_MISALIGNED, "{what} is at {pointer:p}, which is no multiple of {}", align_of::<T>()));
    }
    let bytes = count.checked_mul(size_of::<T>()).filter(|&bytes| bytes <= isize::MAX as usize);
    match bytes.filter(|&bytes| (pointer as usize).checked_add(bytes).is_some()) {
        Some(bytes) => Ok(bytes),
        None => Err(fail!(NUNATAK_WRONG_LENGTH, "{what}: {count} elements of {} bytes do not fit the address space", size_of::<T>())),
    }
}

/// Addresses in use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    /// No addresses.
    pub(crate) const EMPTY: Span = Span { start: 0, end: 0 };

    /// The addresses of bytes.
    pub(crate) fn of(bytes: &[u8]) -> Span {
        let start = bytes.as_ptr() as usize;
        Span { start, end: start + bytes.len() }
    }

    /// Whether two have an address in common.
    pub(crate) const fn meets(self, other: Span) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// The most buffers that a call has: a config and its recipe's texts, weights, eight pieces of memory, outputs.
const MOST: usize = 16;

/// The buffers of one call: what is written lies apart from the others, from the memory of every trainer that
/// lives, and from what such a trainer reads in place.
pub(crate) struct Args {
    count: Cell<usize>,
    spans: [Cell<Span>; MOST],
    /// A bit for each that is written.
    written: Cell<u16>,
}

impl Args {
    pub(crate) fn new() -> Args {
        Args { count: Cell::new(0), spans: [const { Cell::new(Span::EMPTY) }; MOST], written: Cell::new(0) }
    }

    /// Notes a buffer; `free` says that the memory of trainers is looked at elsewhere.
    fn note(&self, start: usize, bytes: usize, writes: bool, free: bool, what: &str) -> Result<(), Failure> {
        let own = Span { start, end: start + bytes };
        let number = self.count.get();
        for (i, span) in self.spans[..number].iter().enumerate() {
            if span.get().meets(own) && (writes || self.written.get() >> i & 1 == 1) {
                return Err(fail!(NUNATAK_OVERLAP, "{what} lies in memory that another argument has"));
            }
        }
        if let Some(of) = handles::in_use(own, writes, free) {
            return Err(fail!(NUNATAK_OVERLAP, "{what} lies in {of}"));
        }
        if let Some(place) = self.spans.get(number) {
            place.set(own);
            self.written.set(self.written.get() | u16::from(writes) << number);
            self.count.set(number + 1);
        }
        Ok(())
    }

    /// The memory that a trainer is to be made in: whether another one lives there is found by the claim.
    pub(crate) fn memory(&self, memory: *mut core::ffi::c_void, bytes: usize) -> Result<Span, Failure> {
        check(memory.cast::<u8>(), bytes, "memory")?;
        self.note(memory as usize, bytes, true, true, "memory")?;
        Ok(Span { start: memory as usize, end: memory as usize + bytes })
    }
}

/// `count` elements to be read.
///
/// # Safety
/// If `pointer` passes the checks, `count` elements can be read there for `'a`, and nobody writes them.
pub(crate) unsafe fn slice<'a, T>(args: &Args, pointer: *const T, count: usize, what: &str) -> Result<&'a [T], Failure> {
    let bytes = check(pointer, count, what)?;
    args.note(pointer as usize, bytes, false, false, what)?;
    // SAFETY: not NULL, aligned, of a possible size, apart from what is borrowed mutably; the rest is
    // the caller's promise.
    Ok(unsafe { core::slice::from_raw_parts(pointer, count) })
}

/// `count` elements to be written.
///
/// # Safety
/// If `pointer` passes the checks, `count` elements can be written there for `'a`, and nobody else
/// uses them.
pub(crate) unsafe fn slice_mut<'a, T>(args: &Args, pointer: *mut T, count: usize, what: &str) -> Result<&'a mut [T], Failure> {
    let bytes = check(pointer, count, what)?;
    args.note(pointer as usize, bytes, true, false, what)?;
    // SAFETY: as in `slice`.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer, count) })
}

/// A place for an output, written on success.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// If `pointer` passes the checks, a `T` can be written there until the call ends.
    pub(crate) unsafe fn new(args: &Args, pointer: *mut T, what: &str) -> Result<Out<T>, Failure> {
        let bytes = check(pointer, 1, what)?;
        args.note(pointer as usize, bytes, true, false, what)?;
        Ok(Out(pointer))
    }

    pub(crate) fn put(self, value: T) {
        // SAFETY: checked in `new`, promised by its caller.
        unsafe { self.0.write(value) }
    }
}

/// A text that ends with a zero.
///
/// # Safety
/// If `pointer` is not NULL, bytes can be read there up to a zero, or 4096 of them.
pub(crate) unsafe fn text<'a>(args: &Args, pointer: *const c_char, what: &str) -> Result<&'a str, Failure> {
    check(pointer, 1, what)?;
    let start = pointer.cast::<u8>();
    let mut len = 0;
    // SAFETY: no byte after the zero is read, and at most 4096.
    while unsafe { start.add(len).read() } != 0 {
        len += 1;
        if len == TEXT_MAX {
            return Err(fail!(NUNATAK_BAD_TEXT, "{what} is longer than {TEXT_MAX} bytes"));
        }
    }
    args.note(start as usize, len + 1, false, false, what)?;
    // SAFETY: these bytes were just read.
    let bytes = unsafe { core::slice::from_raw_parts(start, len) };
    core::str::from_utf8(bytes).map_err(|e| fail!(NUNATAK_BAD_TEXT, "{what} is not UTF-8 (byte {})", e.valid_up_to()))
}

/// Bytes that an item's text takes, its zero included.
pub(crate) fn text_bytes(item: impl fmt::Display) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            self.0 += s.len();
            Ok(())
        }
    }
    let mut count = Count(1);
    // Counting can't fail.
    let _ = write!(count, "{item}");
    count.0
}

/// A buffer has fewer bytes than an output takes.
pub(crate) fn too_small(what: &str, needed: usize, given: usize) -> Failure {
    fail!(NUNATAK_BUFFER_TOO_SMALL, "{what} takes {needed} bytes, there is room for {given}").numbers(needed, given)
}

/// Writes an item's text and a zero to the front of a buffer.
pub(crate) fn put_text(item: impl fmt::Display, out: &mut [u8], what: &str) -> Result<(), Failure> {
    struct Into<'a>(&'a mut [u8], usize);
    impl Write for Into<'_> {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            let room = self.0.get_mut(self.1..self.1 + s.len()).ok_or(fmt::Error)?;
            room.copy_from_slice(s.as_bytes());
            self.1 += s.len();
            Ok(())
        }
    }
    let (needed, given) = (text_bytes(&item), out.len());
    if needed > given {
        return Err(too_small(what, needed, given));
    }
    let mut writer = Into(out, 0);
    // It fits: just counted.
    let _ = write!(writer, "{item}");
    let end = writer.1;
    writer.0[end] = 0;
    Ok(())
}
