//! The last error as a text.

use crate::shared::Single;
use core::fmt::{self, Write};

struct Text {
    bytes: [u8; 400],
    len: usize,
}

static LAST: Single<Text> = Single::new(Text { bytes: [0; 400], len: 0 });

impl Write for Text {
    /// Keeps what fits.
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let len = s.len().min(room.len());
        room[..len].copy_from_slice(&s.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

pub(crate) fn set(error: &(impl fmt::Display + ?Sized)) {
    LAST.with(|text| {
        text.len = 0;
        let _ = write!(text, "{error}"); // never fails: what does not fit is cut
    });
}

/// Where the last error's text lies, as UTF-8.
#[unsafe(no_mangle)]
pub extern "C" fn error_text() -> *const u8 {
    LAST.with(|text| text.bytes.as_ptr())
}

/// Bytes of [`error_text`].
#[unsafe(no_mangle)]
pub extern "C" fn error_length() -> usize {
    LAST.with(|text| text.len)
}
