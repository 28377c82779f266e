//! The text of the last error: of each thread with `std`, of the whole program without. Without the
//! feature `messages` it is the status's name.

use core::ffi::c_char;

#[cfg(feature = "messages")]
pub(crate) use text::set;

#[cfg(not(feature = "messages"))]
pub(crate) use constant::set as set_constant;

#[cfg(feature = "messages")]
mod text {
    use core::ffi::c_char;
    use core::fmt::{self, Write};
    use core::sync::atomic::{AtomicU8, Ordering};

    /// Bytes of the longest text, its end included; a longer one is cut.
    const BYTES: usize = 1024;

    /// A text that C may read while another is written: byte by byte, so that a reader on another thread
    /// (possible without `std` alone) sees old or new bytes and always an end.
    struct Text([AtomicU8; BYTES]);

    impl Text {
        const fn new() -> Text {
            Text([const { AtomicU8::new(0) }; BYTES])
        }
    }

    #[cfg(feature = "std")]
    std::thread_local! {
        static TEXT: Text = const { Text::new() };
    }

    #[cfg(not(feature = "std"))]
    static TEXT: Text = Text::new();

    fn with<R>(then: impl FnOnce(&Text) -> R) -> R {
        #[cfg(feature = "std")]
        return TEXT.with(then);
        #[cfg(not(feature = "std"))]
        then(&TEXT)
    }

    struct Writer<'a> {
        text: &'a Text,
        at: usize,
    }

    impl Write for Writer<'_> {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            for c in s.chars() {
                let mut bytes = [0; 4];
                let bytes = c.encode_utf8(&mut bytes).as_bytes();
                if self.at + bytes.len() >= BYTES {
                    return Err(fmt::Error); // cut between characters
                }
                for byte in bytes {
                    // A text has no end in its middle.
                    self.text.0[self.at].store(if *byte == 0 { b'?' } else { *byte }, Ordering::Relaxed);
                    self.at += 1;
                }
            }
            Ok(())
        }
    }

    /// Leaves a text for `nunatak_last_error`.
    pub(crate) fn set(text: fmt::Arguments) {
        with(|place| {
            let mut writer = Writer { text: place, at: 0 };
            // A text that is cut is still a text.
            let _ = writer.write_fmt(text);
            place.0[writer.at].store(0, Ordering::Relaxed);
        });
    }

    pub(super) fn pointer() -> *const c_char {
        with(|text| text.0.as_ptr().cast())
    }
}

#[cfg(not(feature = "messages"))]
mod constant {
    use core::ffi::{CStr, c_char};
    use core::sync::atomic::{AtomicPtr, Ordering};

    static NAME: AtomicPtr<c_char> = AtomicPtr::new(c"".as_ptr().cast_mut());

    pub(crate) fn set(name: &'static CStr) {
        NAME.store(name.as_ptr().cast_mut(), Ordering::Relaxed);
    }

    pub(super) fn pointer() -> *const c_char {
        NAME.load(Ordering::Relaxed)
    }
}

mod numbers {
    use core::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

    /// The two numbers that disagreed, if there were two.
    pub(super) struct Numbers {
        there: AtomicBool,
        expected: AtomicIsize,
        got: AtomicIsize,
    }

    impl Numbers {
        const fn new() -> Numbers {
            Numbers { there: AtomicBool::new(false), expected: AtomicIsize::new(0), got: AtomicIsize::new(0) }
        }
        pub(super) fn set(&self, numbers: Option<(isize, isize)>) {
            let (expected, got) = numbers.unwrap_or((0, 0));
            self.expected.store(expected, Ordering::Relaxed);
            self.got.store(got, Ordering::Relaxed);
            self.there.store(numbers.is_some(), Ordering::Relaxed);
        }
        pub(super) fn get(&self) -> Option<(isize, isize)> {
            let there = self.there.load(Ordering::Relaxed);
            there.then(|| (self.expected.load(Ordering::Relaxed), self.got.load(Ordering::Relaxed)))
        }
    }

    #[cfg(feature = "std")]
    std::thread_local! {
        static NUMBERS: Numbers = const { Numbers::new() };
    }
    #[cfg(not(feature = "std"))]
    static NUMBERS: Numbers = Numbers::new();

    pub(super) fn with<R>(then: impl FnOnce(&Numbers) -> R) -> R {
        #[cfg(feature = "std")]
        return NUMBERS.with(then);
        #[cfg(not(feature = "std"))]
        then(&NUMBERS)
    }
}

/// The error that is on its way out tells no two numbers.
pub(crate) fn no_numbers() {
    numbers::with(|numbers| numbers.set(None));
}

/// The two numbers of the error that is on its way out.
pub(crate) fn set_numbers(expected: isize, got: isize) {
    numbers::with(|numbers| numbers.set(Some((expected, got))));
}

/// The two numbers of the last call that failed, where two disagreed: `expected` gets what was due (elements,
/// bytes that are needed, classes that there are), `got` what came. Returns 1, or 0 where that error has no such
/// numbers, or an argument is NULL: then nothing is written. It leaves the last error as it is. Each thread has
/// its own, as for `nunatak_last_error`.
///
/// # Safety
/// Both are NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_last_error_numbers(expected: *mut i64, got: *mut i64) -> u32 {
    if expected.is_null() || got.is_null() || !expected.is_aligned() || !got.is_aligned() {
        return 0;
    }
    let Some((due, came)) = numbers::with(|numbers| numbers.get()) else { return 0 };
    // SAFETY: not NULL, aligned, the rest is the caller's promise.
    unsafe {
        expected.write(due as i64);
        got.write(came as i64);
    }
    1
}

/// What went wrong in the last call that failed, in English, with the numbers that disagreed; empty
/// before the first. Never NULL. The text stays as it is until another call fails.
///
/// Each thread has a text of its own. In a library without the standard library there is one for the
/// whole program: read it before another thread calls. In one without the feature `messages` (for boards)
/// it is the status's name alone.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_last_error() -> *const c_char {
    #[cfg(feature = "messages")]
    return text::pointer();
    #[cfg(not(feature = "messages"))]
    constant::pointer()
}
