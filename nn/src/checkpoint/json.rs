//! The little JSON that a safetensors header needs: objects opened and closed by the caller,
//! strings, and lists of sizes. No values of unknown depth, so no recursion and no stack.

#![forbid(unsafe_code)]

use super::budget::Budget;
use super::error::{ReadError, ReadErrorKind};
use std::borrow::Cow;

pub(crate) struct Scanner<'t> {
    text: &'t str,
    pos: usize,
    /// Where `text` begins in the file.
    base: usize,
}

impl<'t> Scanner<'t> {
    pub(crate) fn new(text: &'t str, base: usize) -> Self {
        Self { text, pos: 0, base }
    }

    /// The place in the file of the next character.
    pub(crate) fn place(&self) -> usize {
        self.base + self.pos
    }

    pub(crate) fn fail(&self, what: impl Into<String>) -> ReadError {
        ReadError::new(ReadErrorKind::Safetensors, what).at(self.place())
    }

    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.pos), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.pos += 1;
        }
        bytes.get(self.pos).copied()
    }

    /// Steps over `byte` if it comes next.
    pub(crate) fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.pos += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), ReadError> {
        if self.accept(byte) { Ok(()) } else { Err(self.unexpected(&format!("{:?}", byte as char))) }
    }

    fn unexpected(&self, expected: &str) -> ReadError {
        match self.text.get(self.pos..).and_then(|rest| rest.chars().next()) {
            Some(c) => self.fail(format!("the header has {c:?}, expected {expected}")),
            None => self.fail(format!("the header ends, expected {expected}")),
        }
    }

    /// True after a comma, false after `close`.
    pub(crate) fn comma_or(&mut self, close: u8) -> Result<bool, ReadError> {
        if self.accept(b',') {
            Ok(true)
        } else if self.accept(close) {
            Ok(false)
        } else {
            Err(self.unexpected(&format!("',' or {:?}", close as char)))
        }
    }

    /// Nothing but white space may follow: writers pad with it.
    pub(crate) fn end(&mut self) -> Result<(), ReadError> {
        if self.peek().is_some() { Err(self.unexpected("its end")) } else { Ok(()) }
    }

    /// A list of at most `N` sizes, and how many there are.
    pub(crate) fn numbers<const N: usize>(&mut self, what: &str) -> Result<([usize; N], usize), ReadError> {
        let mut list = [0; N];
        let mut count = 0;
        self.expect(b'[')?;
        let mut more = !self.accept(b']');
        while more {
            let number = self.number()?;
            let Some(slot) = list.get_mut(count) else {
                return Err(self.fail(format!("{what} of more than {N} numbers")));
            };
            *slot = number;
            count += 1;
            more = self.comma_or(b']')?;
        }
        Ok((list, count))
    }

    fn number(&mut self) -> Result<usize, ReadError> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.unexpected("a whole number"));
        }
        let rest = &self.text[self.pos..];
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let digits = &rest[..len];
        if len > 1 && digits.starts_with('0') {
            return Err(self.fail("a number with a leading zero"));
        }
        let Some(number) = (len <= 20).then(|| digits.parse().ok()).flatten() else {
            return Err(self.fail(format!("a number of {len} digits, too large for a size")));
        };
        self.pos += len;
        Ok(number)
    }

    /// A string; borrowed from the header unless it has escapes.
    pub(crate) fn string(&mut self, budget: &mut Budget) -> Result<Cow<'t, str>, ReadError> {
        self.expect(b'"')?;
        let rest = &self.text[self.pos..];
        let mut escapes = false;
        let mut bytes = rest.bytes().enumerate();
        let len = loop {
            match bytes.next() {
                Some((i, b'"')) => break i,
                Some((_, b'\\')) => {
                    escapes = true;
                    bytes.next();
                }
                Some((i, 0..0x20)) => {
                    self.pos += i;
                    return Err(self.fail("a control character in a string"));
                }
                Some(_) => {}
                None => return Err(self.fail("a string without end")),
            }
        };
        let raw = &rest[..len];
        let text = if escapes {
            budget.take(len)?;
            let text = unescape(raw).map_err(|what| self.fail(what))?;
            budget.give(len);
            Cow::Owned(text)
        } else {
            Cow::Borrowed(raw)
        };
        self.pos += len + 1;
        Ok(text)
    }
}

fn unescape(raw: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(i) = rest.find('\\') {
        out.push_str(&rest[..i]);
        let code = rest.as_bytes().get(i + 1).copied();
        rest = rest.get(i + 2..).ok_or("a cut or unknown escape in a string")?;
        out.push(match code {
            Some(c @ (b'"' | b'\\' | b'/')) => c as char,
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let (c, after) = unicode(rest).ok_or("a \\u escape that is no character")?;
                rest = after;
                c
            }
            _ => return Err("a cut or unknown escape in a string"),
        });
    }
    out.push_str(rest);
    Ok(out)
}

/// The character of `XXXX`, or of a surrogate pair `XXXX\uXXXX`, and what follows.
fn unicode(text: &str) -> Option<(char, &str)> {
    let four = |text: &str| {
        let digits = text.get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    };
    let high = four(text)?;
    let rest = &text[4..];
    if !(0xd800..0xdc00).contains(&high) {
        return Some((char::from_u32(high)?, rest));
    }
    let rest = rest.strip_prefix("\\u")?;
    let low = four(rest).filter(|low| (0xdc00..0xe000).contains(low))?;
    let c = char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?;
    Some((c, &rest[4..]))
}
