//! Little-endian numbers out of a byte slice; `None` instead of a panic past its end.

#![forbid(unsafe_code)]

pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// `at .. at + len` as a slice, for lengths that a file states.
pub(crate) fn range(bytes: &[u8], at: usize, len: u64) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(usize::try_from(len).ok()?)?)
}
