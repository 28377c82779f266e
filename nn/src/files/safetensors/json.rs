//! The little JSON that a safetensors header needs, read where it lies.

use super::error::{FormatError, What};
use core::fmt;

/// A string of the header as it stands between its quotes; its escapes are known to be good.
#[derive(Clone, Copy)]
pub(crate) struct JsonStr<'f>(&'f str);

impl JsonStr<'_> {
    /// The characters that it means.
    pub(crate) fn chars(&self) -> impl Iterator<Item = char> {
        let mut rest = self.0.chars();
        core::iter::from_fn(move || {
            let c = rest.next()?;
            if c != '\\' {
                return Some(c);
            }
            Some(match rest.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'u' => {
                    let high = four(&mut rest)?;
                    let code = if (0xd800..0xdc00).contains(&high) {
                        rest.nth(1)?; // the second half's \u
                        0x10000 + ((high - 0xd800) << 10) + (four(&mut rest)?.wrapping_sub(0xdc00) & 0x3ff)
                    } else {
                        high
                    };
                    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
                c => c,
            })
        })
    }

    /// Bytes of the text as it stands in the header, which is not shorter than what it means.
    #[cfg(feature = "std")]
    pub(crate) fn raw_len(&self) -> usize {
        self.0.len()
    }

    /// Whether it means this text.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.chars().eq(text.chars())
    }
}

impl fmt::Display for JsonStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // Control codes of a hostile name stay harmless.
        self.chars().try_for_each(|c| write!(f, "{}", c.escape_debug()))
    }
}

fn four(chars: &mut core::str::Chars) -> Option<u32> {
    let mut code = 0;
    for _ in 0..4 {
        code = code * 16 + chars.next()?.to_digit(16)?;
    }
    Some(code)
}

/// Reads the header from front to back.
#[derive(Clone)]
pub(crate) struct Scanner<'f> {
    text: &'f str,
    at: usize,
}

impl<'f> Scanner<'f> {
    pub(crate) fn new(text: &'f str) -> Self {
        Scanner { text, at: 0 }
    }

    pub(super) fn fail<T>(&self, what: &'static str) -> Result<T, FormatError> {
        self.fail_with(What::Text(what))
    }

    pub(super) fn fail_with<T>(&self, what: What) -> Result<T, FormatError> {
        // The header begins after eight bytes of length.
        Err(FormatError::new(self.at + 8, what))
    }

    /// The byte of the file that comes next.
    pub(super) fn place(&self) -> usize {
        self.at + 8
    }

    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Steps over `byte` if it comes next.
    pub(crate) fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), FormatError> {
        if self.accept(byte) { Ok(()) } else { self.fail(what) }
    }

    /// True after a comma, false after `close`.
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, FormatError> {
        if self.accept(b',') {
            Ok(true)
        } else if self.accept(close) {
            Ok(false)
        } else {
            self.fail("the header lacks a comma or a closing bracket here")
        }
    }

    pub(crate) fn end(&mut self) -> Result<(), FormatError> {
        if self.peek().is_none() { Ok(()) } else { self.fail("the header goes on after its end") }
    }

    /// A string.
    pub(crate) fn string(&mut self) -> Result<JsonStr<'f>, FormatError> {
        self.expect(b'"', "the header lacks a string here")?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                None => return self.fail("the header ends within a string"),
                Some(0..=0x1f) => return self.fail("a control code within a string"),
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        // Quotes are ASCII, so both ends stand between characters.
        Ok(JsonStr(&self.text[start..self.at - 1]))
    }

    fn escape(&mut self) -> Result<(), FormatError> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let code = self.code(self.at)?;
                self.at += 6;
                match code {
                    0xd800..=0xdbff => {
                        if !matches!(self.code(self.at), Ok(0xdc00..=0xdfff)) {
                            return self.fail("half a surrogate pair");
                        }
                        self.at += 6;
                    }
                    0xdc00..=0xdfff => return self.fail("half a surrogate pair"),
                    _ => {}
                }
            }
            _ => return self.fail("an unknown escape"),
        }
        Ok(())
    }

    /// The code of the `\uXXXX` at `at`.
    fn code(&self, at: usize) -> Result<u32, FormatError> {
        let digits = self.text.as_bytes().get(at..at + 6).filter(|d| d.starts_with(b"\\u"));
        let mut code = 0;
        for digit in digits.unwrap_or_default().iter().skip(2) {
            match (*digit as char).to_digit(16) {
                Some(value) => code = code * 16 + value,
                None => return self.fail("an unknown escape"),
            }
        }
        if digits.is_some() { Ok(code) } else { self.fail("an unknown escape") }
    }

    /// A list of at most `N` sizes; the second value is their number.
    pub(crate) fn sizes<const N: usize>(&mut self) -> Result<([usize; N], usize), FormatError> {
        let (mut list, mut count) = ([0; N], 0);
        self.expect(b'[', "the header lacks a list here")?;
        let mut more = !self.accept(b']');
        while more {
            let value = self.size()?;
            let Some(place) = list.get_mut(count) else {
                return self.fail(if N == 2 { "data_offsets of more than 2 numbers" } else { "a shape of more than 8 numbers" });
            };
            *place = value;
            count += 1;
            more = self.more(b']')?;
        }
        Ok((list, count))
    }

    fn size(&mut self) -> Result<usize, FormatError> {
        self.peek();
        let bytes = self.text.as_bytes();
        let (start, mut value) = (self.at, 0_usize);
        while let Some(digit @ b'0'..=b'9') = bytes.get(self.at) {
            let next = value.checked_mul(10).and_then(|v| v.checked_add(usize::from(digit - b'0')));
            let Some(next) = next else { return self.fail("a size is too large for this machine") };
            value = next;
            self.at += 1;
        }
        if self.at == start || (self.at > start + 1 && bytes[start] == b'0') {
            return self.fail("the header lacks a size here");
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_mean_what_they_escape() {
        let text = |json| Scanner::new(json).string();
        assert!(text(r#""f\u0063.weight""#).is_ok_and(|s| s.is("fc.weight") && !s.is("fc")));
        assert!(text(r#""\ud83d\ude00\n\/""#).is_ok_and(|s| s.is("\u{1f600}\n/")));
        for bad in [r#""\ud83d""#, r#""\udc00""#, r#""\ud83d\u0041""#, r#""\x""#, "\"\n\"", "\"", r#""\u12"#, r#""\u00g0""#, r#""\"#] {
            assert!(text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_numbers_without_frills() {
        let sizes = |json| Scanner::new(json).sizes::<2>();
        assert_eq!(sizes(" [ 3 ,40]"), Ok(([3, 40], 2)));
        assert_eq!(sizes("[]"), Ok(([0, 0], 0)));
        for bad in ["[1,2,3]", "[-1]", "[01]", "[1.0]", "[1", "[1,]", "[99999999999999999999]", "3"] {
            assert!(sizes(bad).is_err(), "{bad}");
        }
    }
}
