//! Writes the header of a `.safetensors`, piece by piece and without a heap.

use super::ALIGN;
use core::fmt::{self, Display, Write};

/// A header that is being written. Tensors get their places in the data in the order in which they come.
pub(crate) struct HeaderWriter<W> {
    out: W,
    /// Bytes of data so far.
    at: u64,
    first: bool,
}

impl<W: Write> HeaderWriter<W> {
    /// Begins a header with these pairs of metadata.
    pub(crate) fn new<K: Display, V: Display>(mut out: W, metadata: impl IntoIterator<Item = (K, V)>) -> Result<Self, fmt::Error> {
        out.write_char('{')?;
        let mut pairs = metadata.into_iter().peekable();
        let first = pairs.peek().is_none();
        if !first {
            out.write_str("\"__metadata__\":")?;
            write_pairs(&mut out, pairs)?;
        }
        Ok(HeaderWriter { out, at: 0, first })
    }

    /// The next tensor, whose data take `bytes`.
    pub(crate) fn tensor(&mut self, name: impl Display, dtype: &str, shape: &[usize], bytes: u64) -> fmt::Result {
        let comma = if self.first { "" } else { "," };
        self.first = false;
        write!(self.out, "{comma}{}:{{\"dtype\":\"{dtype}\",\"shape\":[", Quoted(name))?;
        for (i, size) in shape.iter().enumerate() {
            write!(self.out, "{}{size}", if i == 0 { "" } else { "," })?;
        }
        let end = self.at + bytes;
        write!(self.out, "],\"data_offsets\":[{},{end}]}}", self.at)?;
        self.at = end;
        Ok(())
    }

    /// Ends the header; [`padding`] follows it.
    pub(crate) fn finish(mut self) -> Result<W, fmt::Error> {
        self.out.write_char('}')?;
        Ok(self.out)
    }
}

/// Writes an object of strings.
pub(super) fn write_pairs<K: Display, V: Display>(out: &mut impl Write, pairs: impl IntoIterator<Item = (K, V)>) -> fmt::Result {
    out.write_char('{')?;
    for (i, (key, value)) in pairs.into_iter().enumerate() {
        write!(out, "{}{}:{}", if i == 0 { "" } else { "," }, Quoted(key), Quoted(value))?;
    }
    out.write_char('}')
}

/// The spaces after a header of so many bytes.
pub(crate) fn padding(header: usize) -> usize {
    (8 + header).next_multiple_of(ALIGN) - 8 - header
}

/// A JSON string.
struct Quoted<T>(T);

impl<T: Display> Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write!(Escaping(f), "{}", self.0)?;
        f.write_char('"')
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            '"' => self.0.write_str("\\\""),
            '\\' => self.0.write_str("\\\\"),
            '\0'..='\x1f' => write!(self.0, "\\u{:04x}", c as u32),
            c => self.0.write_char(c),
        })
    }
}
