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
