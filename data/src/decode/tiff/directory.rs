//! The first directory of a file: tags with numbers, classic or big.

use super::{broken, unread};
use crate::decode::DecodeError;

/// Numbers of one tag that are read; a picture of the largest size in strips of one row has fewer.
const MOST: u64 = 1 << 24;

pub(super) struct Directory<'a> {
    file: &'a [u8],
    pub(super) little: bool,
    big: bool,
    /// Where its entries begin, and how many there are.
    entries: usize,
    count: usize,
}

impl<'a> Directory<'a> {
    pub(super) fn first(file: &'a [u8]) -> Result<Self, DecodeError> {
        let little = file.starts_with(b"II");
        let big = matches!(file.get(2..4), Some([43, 0] | [0, 43]));
        let mut directory = Directory { file, little, big, entries: 0, count: 0 };
        let (at, size) = if big { (8, 8) } else { (4, 4) };
        let start = directory.number(at, size).and_then(|n| usize::try_from(n).ok());
        let wide = if big { 8 } else { 2 };
        let Some((start, count)) = start.and_then(|s| Some((s, directory.number(s as u64, wide)?))) else {
            return broken("its directory is not in the file");
        };
        directory.entries = start + wide;
        directory.count = count.min(1 << 16) as usize;
        Ok(directory)
    }

    /// A number of `size` bytes in the file's order.
    fn number(&self, at: u64, size: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.file.get(at..at.checked_add(size)?)?;
        let add = |n: u64, b: &u8| n << 8 | u64::from(*b);
        Some(if self.little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    }

    /// Type, count, and place of a tag's values.
    fn entry(&self, tag: u16) -> Option<(u64, u64, u64)> {
        let (size, width) = if self.big { (20, 8) } else { (12, 4) };
        let at = (0..self.count).map(|i| (self.entries + size * i) as u64).find(|at| self.number(*at, 2) == Some(tag.into()))?;
        let (kind, count) = (self.number(at + 2, 2)?, self.number(at + 4, width)?);
        let inline = at + 4 + width as u64;
        let bytes = count.saturating_mul(Self::size(kind) as u64);
        let place = if bytes <= width as u64 { inline } else { self.number(inline, width)? };
        Some((kind, count, place))
    }

    fn size(kind: u64) -> usize {
        match kind {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16 | 17 | 18 => 8,
            _ => 0,
        }
    }

    pub(super) fn has(&self, tag: u16) -> bool {
        self.entry(tag).is_some()
    }

    /// All numbers of a tag, none if it is not there.
    pub(super) fn all(&self, tag: u16) -> Result<Vec<u64>, DecodeError> {
        let Some((kind, count, place)) = self.entry(tag) else { return Ok(Vec::new()) };
        if !matches!(kind, 1 | 3 | 4 | 7 | 13 | 16) {
            return unread(format_args!("type {kind} in tag {tag}"));
        }
        let size = Self::size(kind);
        let end = place.saturating_add(count.saturating_mul(size as u64));
        if count > MOST || end > self.file.len() as u64 {
            return broken(format_args!("tag {tag} has {count} numbers, which are not in the file"));
        }
        Ok((0..count).filter_map(|i| self.number(place + i * size as u64, size)).collect())
    }

    /// The first number of a tag.
    pub(super) fn one(&self, tag: u16) -> Result<Option<u64>, DecodeError> {
        Ok(self.all(tag)?.first().copied())
    }

    /// The fractions of a tag.
    pub(super) fn fractions(&self, tag: u16) -> Vec<f64> {
        let Some((5, count @ 0..=16, place)) = self.entry(tag) else { return Vec::new() };
        let part = |at: u64| self.number(at, 4).map(|n| n as f64);
        (0..count).filter_map(|i| Some(part(place + 8 * i)? / part(place + 8 * i + 4)?)).collect()
    }

    /// The bytes of a tag, none if it is not there.
    pub(super) fn bytes(&self, tag: u16) -> &'a [u8] {
        let Some((1 | 7, count, place)) = self.entry(tag) else { return &[] };
        let (Ok(from), Ok(count)) = (usize::try_from(place), usize::try_from(count)) else { return &[] };
        self.file.get(from..from.saturating_add(count)).unwrap_or_default()
    }
}
