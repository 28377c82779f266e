//! Writes `.safetensors`.

#![forbid(unsafe_code)]

use super::atomic;
use super::error::WriteError;
use super::tensor_out::{TensorOut, check};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// The data begin at a multiple of this, a cache line, so that a mapped file can be used in place.
const ALIGN: usize = 64;
const HEADER_MAX: usize = 100_000_000;

/// Writes the tensors and `metadata` (for example `format: pt`) to `path`, atomically.
///
/// Counters are put before floats, since 8-byte elements must lie at multiples of 8 for PyTorch to
/// load them; within a type the order is kept. The data are streamed: nothing is copied whole.
///
/// # Errors
/// When a shape does not fit its data, a name is unusable or comes twice, or the system refuses.
/// The file that stood there before is then untouched.
pub fn write_safetensors(path: &Path, tensors: &[TensorOut<'_>], metadata: &BTreeMap<String, String>) -> Result<(), WriteError> {
    check(tensors)?;
    let mut order: Vec<&TensorOut<'_>> = tensors.iter().collect();
    order.sort_by_key(|tensor| std::cmp::Reverse(tensor.data.dtype().size()));
    let header = header(&order, metadata);
    if header.len() > HEADER_MAX {
        return Err(WriteError::TooBig { what: "bytes of header", given: header.len() as u64, limit: HEADER_MAX as u64 });
    }
    atomic::replace(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        order.iter().try_for_each(|tensor| tensor.data.write_to(out))
    })
}

fn header(tensors: &[&TensorOut<'_>], metadata: &BTreeMap<String, String>) -> String {
    let mut text = String::from("{");
    if !metadata.is_empty() {
        text.push_str("\"__metadata__\":{");
        for (i, (key, value)) in metadata.iter().enumerate() {
            text.push_str(if i == 0 { "" } else { "," });
            quote(&mut text, key);
            text.push(':');
            quote(&mut text, value);
        }
        text.push_str(if tensors.is_empty() { "}" } else { "}," });
    }
    let mut at = 0;
    for (i, tensor) in tensors.iter().enumerate() {
        text.push_str(if i == 0 { "" } else { "," });
        quote(&mut text, tensor.name);
        let end = at + tensor.data.byte_len();
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        // Writing to a String cannot fail.
        let _ =
            write!(text, ":{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{at},{end}]}}", tensor.data.dtype().name(), shape.join(","));
        at = end;
    }
    text.push('}');
    while !(text.len() + 8).is_multiple_of(ALIGN) {
        text.push(' ');
    }
    text
}

/// Appends a JSON string.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
