//! What comes from C, checked; panics, kept from C. The conversions of pointers are here and nowhere
//! else.
//!
//! No check can find a pointer to memory that is not the caller's, or is shorter than the caller says:
//! that much every function's "Safety" asks for.

use crate::status::{Failure, fail, nunatak_status};
use core::ffi::c_char;
use core::fmt::{self, Write};

/// Longest text that is read.
const TEXT_MAX: usize = 4096;

/// Runs the body of a call; a panic becomes a status (without `std` it ends in the panic handler).
pub(crate) fn call(body: impl FnOnce() -> Result<(), Failure>) -> nunatak_status {
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
        Err(Failure(status)) => status,
    }
}

/// A pointer to `count` of T: not NULL, aligned, of a size that exists.
pub(crate) fn check<T>(pointer: *const T, count: usize, what: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(fail!(NUNATAK_NULL_POINTER, "{what} is NULL"));
    }
    if !pointer.is_aligned() {
        return Err(fail!(NUNATAK_MISALIGNED, "{what} is at {pointer:p}, which is no multiple of {}", align_of::<T>()));
    }
    let bytes = count.checked_mul(size_of::<T>()).filter(|&bytes| bytes <= isize::MAX as usize);
    if bytes.is_none_or(|bytes| (pointer as usize).checked_add(bytes).is_none()) {
        return Err(fail!(NUNATAK_WRONG_LENGTH, "{what}: {count} elements of {} bytes do not fit the address space", size_of::<T>()));
    }
    Ok(())
}

/// Addresses of a trainer's memory, or of an argument, which (other) arguments must not touch.
#[derive(Clone, Copy)]
pub(crate) struct Own {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Own {
    /// Nothing is off limits.
    pub(crate) const NOTHING: Own = Own { start: 0, end: 0 };

    /// The memory of one `T`, which another argument must not touch.
    pub(crate) fn of<T>(pointer: *const T) -> Own {
        let start = pointer as usize;
        Own { start, end: start.saturating_add(size_of::<T>()) }
    }

    fn check<T>(self, pointer: *const T, count: usize, what: &str) -> Result<(), Failure> {
        let start = pointer as usize;
        let end = start + count * size_of::<T>();
        if start < self.end && self.start < end {
            return Err(fail!(NUNATAK_OVERLAP, "{what} lies in memory that another argument has"));
        }
        Ok(())
    }
}

/// `count` elements to be read.
///
/// # Safety
/// If `pointer` passes the checks, `count` elements can be read there for `'a`, and nobody writes them.
pub(crate) unsafe fn slice<'a, T>(own: Own, pointer: *const T, count: usize, what: &str) -> Result<&'a [T], Failure> {
    check(pointer, count, what)?;
    own.check(pointer, count, what)?;
    // SAFETY: not NULL, aligned, of a possible size, apart from what is borrowed mutably; the rest is
    // the caller's promise.
    Ok(unsafe { core::slice::from_raw_parts(pointer, count) })
}

/// `count` elements to be written.
///
/// # Safety
/// If `pointer` passes the checks, `count` elements can be written there for `'a`, and nobody else
/// uses them.
pub(crate) unsafe fn slice_mut<'a, T>(own: Own, pointer: *mut T, count: usize, what: &str) -> Result<&'a mut [T], Failure> {
    check(pointer, count, what)?;
    own.check(pointer, count, what)?;
    // SAFETY: as in `slice`.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer, count) })
}

/// A copy of a plain struct.
///
/// # Safety
/// If `pointer` passes the checks, a `T` can be read there; any bytes are a `T`.
pub(crate) unsafe fn copy<T: Copy>(pointer: *const T, what: &str) -> Result<T, Failure> {
    check(pointer, 1, what)?;
    // SAFETY: not NULL, aligned; the rest is the caller's promise.
    Ok(unsafe { pointer.read() })
}

/// A place for an output, written on success.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// If `pointer` passes the checks, a `T` can be written there until the call ends.
    pub(crate) unsafe fn new(own: Own, pointer: *mut T, what: &str) -> Result<Out<T>, Failure> {
        check(pointer, 1, what)?;
        own.check(pointer, 1, what)?;
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
pub(crate) unsafe fn text<'a>(pointer: *const c_char, what: &str) -> Result<&'a str, Failure> {
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
        return Err(fail!(NUNATAK_BUFFER_TOO_SMALL, "{what} takes {needed} bytes, there is room for {given}"));
    }
    let mut writer = Into(out, 0);
    // It fits: just counted.
    let _ = write!(writer, "{item}");
    let end = writer.1;
    writer.0[end] = 0;
    Ok(())
}
