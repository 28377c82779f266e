//! A `.safetensors` as entries of a checkpoint.

#![forbid(unsafe_code)]

use super::error::{FormatError, What};
use super::json::{JsonStr, Scanner};
use super::read::{Item, Safetensors, TensorRef, pairs};
use crate::files::budget::Budget;
use crate::files::entry::{Entry, Layout, MAX_RANK};
use crate::files::error::{ReadError, ReadErrorKind, quote};
use crate::files::pth::Payload;
use std::collections::BTreeMap;

/// What a pair in the metadata costs beside its bytes: a share of a tree's node, two strings.
const PAIR_COST: usize = 160;

pub(crate) type Parsed<'f> = (Vec<Entry<'f>>, BTreeMap<String, String>);

pub(crate) fn parse<'f>(bytes: &'f [u8], budget: &mut Budget) -> Result<Parsed<'f>, ReadError> {
    let file = Safetensors::parse(bytes)?;
    let mut entries: Vec<Entry<'f>> = Vec::new();
    let mut metadata = BTreeMap::new();
    file.items(|item| match item {
        Item::Tensor(tensor) => {
            let entry = entry(&file, &tensor, budget)?;
            budget.push(&mut entries, entry)
        }
        Item::Pair(key, value, at) => add_pair(&mut metadata, key, value, at, budget),
    })?;
    entries.sort_unstable_by(|a, b| (a.offset(), a.len(), a.name()).cmp(&(b.offset(), b.len(), b.name())));
    Ok((entries, metadata))
}

fn add_pair(
    metadata: &mut BTreeMap<String, String>,
    key: JsonStr<'_>,
    value: JsonStr<'_>,
    at: usize,
    budget: &mut Budget,
) -> Result<(), ReadError> {
    budget.take(PAIR_COST + key.raw_len() + value.raw_len())?;
    match metadata.insert(key.chars().collect(), value.chars().collect()) {
        None => Ok(()),
        Some(old) => {
            let what = format!("a key of the metadata appears twice; its first value is {}", quote(&old));
            Err(ReadError::new(ReadErrorKind::Safetensors, what).at(at))
        }
    }
}

/// Reads an object of strings, as [`write_object`](super::write_object) writes it.
pub(crate) fn read_object(text: &str, budget: &mut Budget) -> Result<BTreeMap<String, String>, ReadError> {
    let mut metadata = BTreeMap::new();
    let mut scan = Scanner::new(text);
    pairs(&mut scan, &mut |item| match item {
        Item::Pair(key, value, at) => add_pair(&mut metadata, key, value, at, budget),
        Item::Tensor(_) => Ok(()),
    })?;
    scan.end()?;
    Ok(metadata)
}

fn entry<'f>(file: &Safetensors<'f>, tensor: &TensorRef<'f>, budget: &mut Budget) -> Result<Entry<'f>, ReadError> {
    // The name is held twice for a moment.
    budget.take(tensor.name.raw_len())?;
    let name: String = tensor.name.chars().collect();
    let shape = tensor.shape();
    let mut strides = [1; MAX_RANK];
    for d in (1..shape.len()).rev() {
        strides[d - 1] = shape[d].saturating_mul(strides[d]);
    }
    let layout = Layout {
        dtype: tensor.dtype,
        shape,
        strides: &strides[..shape.len()],
        offset: 0,
        storage: Payload::Plain(tensor.bytes()),
        at: file.data_at() + tensor.begin,
    };
    let entry = layout.entry(&name, budget);
    budget.give(tensor.name.raw_len());
    entry
}

impl From<FormatError> for ReadError {
    fn from(e: FormatError) -> Self {
        const AGAIN: &str = "download or save the file again";
        let (kind, next) = match e.what {
            What::Short(_) | What::HeaderCut { .. } | What::Past { .. } => (ReadErrorKind::Truncated, Some(AGAIN)),
            What::Backwards(_) => (ReadErrorKind::Safetensors, Some(AGAIN)),
            What::Length { .. } => (ReadErrorKind::Tensor, None),
            What::UnknownType(_) => (ReadErrorKind::Unsupported, Some("convert the tensor before saving")),
            _ => (ReadErrorKind::Safetensors, None),
        };
        let mut error = ReadError::new(kind, e.text().to_string()).at(e.offset());
        if let Some(name) = e.name() {
            error = error.entry(name.as_str());
        }
        match next {
            Some(next) => error.next(next),
            None => error,
        }
    }
}
