//! What a file is, by its first bytes: one of the four readable formats, or something that is
//! often found under a checkpoint's name, which then gets an error that names it.

#![forbid(unsafe_code)]

use super::Format;
use super::bytes::u64_at;
use super::error::{ReadError, ReadErrorKind};
use super::native::MAGIC;

pub(crate) fn sniff(bytes: &[u8]) -> Result<Format, ReadError> {
    if bytes.is_empty() {
        return Err(ReadError::new(ReadErrorKind::Truncated, "the file is empty").next("download or save it again"));
    }
    if bytes.starts_with(&MAGIC) || (bytes.len() > 1 && MAGIC.starts_with(bytes)) {
        return Ok(Format::Native);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return Ok(Format::PthZip);
    }
    if let [0x80, 0..=5, ..] = bytes
        && bytes.get(8) != Some(&b'{')
    {
        return Ok(Format::PthLegacy);
    }
    if let [b'(' | b'c' | b'}' | b']' | b')' | b'N' | b'I', .., b'.'] = bytes
        && bytes.get(8) != Some(&b'{')
    {
        // Protocols 0 and 1 have no signature; the pickle reader refuses them by name.
        return Ok(Format::PthLegacy);
    }
    if let Some((what, next)) = known_other(bytes) {
        return Err(ReadError::new(ReadErrorKind::WrongFile, format!("this is {what}, no checkpoint")).at(0).next(next));
    }
    let header = u64_at(bytes, 0);
    if bytes.get(8) == Some(&b'{') || header.is_some_and(|n| n <= bytes.len() as u64) {
        return Ok(Format::Safetensors);
    }
    if b"PK\x03\x04".starts_with(bytes) || bytes == [0x80] {
        return Err(ReadError::new(ReadErrorKind::Truncated, format!("the file has {} bytes, the beginning of a .pth file", bytes.len()))
            .next("download or save it again"));
    }
    let shown = &bytes[..bytes.len().min(8)];
    Err(ReadError::new(
        ReadErrorKind::WrongFile,
        match header {
            Some(n) => {
                format!("begins with the bytes {shown:02x?}: neither a .pth file nor .safetensors (whose header would be {n} bytes long)")
            }
            None => format!("has only the bytes {shown:02x?}: neither a .pth file nor .safetensors"),
        },
    )
    .at(0)
    .next("expected what torch.save(model.state_dict(), …) or safetensors writes"))
}

/// Formats that are met under the wrong name, and what to do about each.
fn known_other(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const AGAIN: &str = "download the file itself, not the page about it";
    const PROGRAM: &str = "give the weights; `nunatak inspect` prints a program, `nunatak plan --program` its calls";
    const UNPACK: &str = "unpack it first";
    const CONVERT: &str = "load it with its own library and save a state_dict with torch.save";
    let text = bytes.trim_ascii_start();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start();
    let begins = |word: &[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let tail = |at: usize, word: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(word));
    Some(if bytes.starts_with(&nunatak_core::program::MAGIC) {
        ("a program (a planned step)", PROGRAM)
    } else if text.starts_with(b"version https://git-lfs") {
        ("a git-LFS pointer", "run `git lfs pull` to fetch the file that it stands for")
    } else if begins(b"<!doctype") || begins(b"<html") || begins(b"<head") {
        ("an HTML page", AGAIN)
    } else if begins(b"<?xml") {
        ("an XML page (often a server's error message)", AGAIN)
    } else if text.starts_with(b"{") {
        ("JSON (an index or an error message)", "pass the file with the weights")
    } else if tail(257, b"ustar") {
        ("a tar archive", "unpack it; files of torch 0.1 must be loaded and saved again with a newer torch")
    } else if bytes.starts_with(b"\x1f\x8b") {
        ("gzip-compressed", UNPACK)
    } else if bytes.starts_with(b"\x28\xb5\x2f\xfd") {
        ("zstd-compressed", UNPACK)
    } else if bytes.starts_with(b"BZh") {
        ("bzip2-compressed", UNPACK)
    } else if bytes.starts_with(b"\xfd7zXZ\0") {
        ("xz-compressed", UNPACK)
    } else if bytes.starts_with(b"\x89HDF") {
        ("an HDF5 file (Keras)", CONVERT)
    } else if bytes.starts_with(b"\x93NUMPY") {
        ("a NumPy array", CONVERT)
    } else if bytes.starts_with(b"GGUF") {
        ("a GGUF file", CONVERT)
    } else if matches!(bytes, [0x08, 1..=0x20, 0x12, 1..=0x7f, producer, ..] if producer.is_ascii_alphabetic()) {
        // The version of its format, then who wrote it.
        ("a network in ONNX", "give the weights that it was made from: ONNX is written, not read")
    } else {
        return None;
    })
}
