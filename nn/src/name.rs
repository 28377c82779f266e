//! Names without a heap, for messages and tables.

use core::fmt;
use core::fmt::Write;

/// A name, written out without a heap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; 48],
    len: u8,
}

impl Name {
    /// The written form of anything, cut after 48 bytes.
    pub fn of(item: impl fmt::Display) -> Name {
        let mut name = Name { bytes: [0; 48], len: 0 };
        let _ = write!(Cut(&mut name), "{item}");
        name
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len as usize]).unwrap_or("")
    }
}

impl Write for Name {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let start = self.len as usize;
        let room = self.bytes.get_mut(start..start + s.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(s.as_bytes());
        self.len += s.len() as u8;
        Ok(())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Takes characters until the name is full.
struct Cut<'a>(&'a mut Name);

impl Write for Cut<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        s.chars().try_for_each(|c| self.0.write_str(c.encode_utf8(&mut [0; 4])))
    }
}
