//! Writes `.safetensors` from named tensors.

#![forbid(unsafe_code)]

use super::header::{HeaderWriter, padding, write_pairs};
use crate::files::atomic;
use crate::files::error::WriteError;
use crate::files::tensor_out::{TensorOut, check};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::path::Path;

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
    // Writing to a String can't fail.
    let header = header(&order, metadata).unwrap_or_default();
    let limit = super::HEADER_MAX;
    if header.len() as u64 > limit {
        return Err(WriteError::TooBig { what: "bytes of header", given: header.len() as u64, limit });
    }
    atomic::replace(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        order.iter().try_for_each(|tensor| tensor.data.write_to(out))
    })
}

/// An object of strings in JSON.
pub(crate) fn write_object(metadata: &BTreeMap<String, String>) -> Result<String, fmt::Error> {
    let mut text = String::new();
    write_pairs(&mut text, metadata)?;
    Ok(text)
}

fn header(tensors: &[&TensorOut<'_>], metadata: &BTreeMap<String, String>) -> Result<String, fmt::Error> {
    let mut header = HeaderWriter::new(String::new(), metadata)?;
    for tensor in tensors {
        header.tensor(tensor.name, tensor.data.dtype().name(), tensor.shape, tensor.data.byte_len())?;
    }
    let mut text = header.finish()?;
    text.extend(std::iter::repeat_n(' ', padding(text.len())));
    Ok(text)
}
