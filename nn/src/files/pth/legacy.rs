//! `.pth` as torch wrote it before 1.6 (and with `_use_new_zipfile_serialization=False`):
//!
//! ```text
//! pickle  0x1950a86a20f9469cfc6c
//! pickle  1001, the protocol
//! pickle  {"little_endian": True, …}
//! pickle  the object
//! pickle  [storage keys]
//! per key: number of elements (i64), the elements
//! ```
//! Only the object says what type a storage has, so without it the data cannot even be skipped.

#![forbid(unsafe_code)]

use super::dicts::{self, Dict};
use super::graph::{Graph, Value};
use super::payload::Payload;
use super::pickle;
use crate::files::budget::Budget;
use crate::files::bytes::{range, u64_at};
use crate::files::dtype::Dtype;
use crate::files::error::{ReadError, ReadErrorKind, quote};

/// 0x1950a86a20f9469cfc6c, little-endian, as LONG1 holds it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

pub(crate) fn parse<'f>(bytes: &'f [u8], budget: &mut Budget) -> Result<Vec<Dict<'f>>, ReadError> {
    let magic = pickle::read(bytes, 0, budget)?;
    let is_magic = match magic.root {
        Value::Int(at) => magic.long1(at as usize) == Some(&MAGIC[..]),
        _ => false,
    };
    if !is_magic {
        return Err(ReadError::new(ReadErrorKind::WrongFile, "a bare pickle, not one that torch.save wrote")
            .at(0)
            .next("load it with Python and save it with torch.save(model.state_dict(), …)"));
    }
    let mut at = magic.end;
    drop(magic);
    let mut next = |budget: &mut Budget| -> Result<Graph<'f>, ReadError> {
        let graph = pickle::read(bytes.get(at..).unwrap_or_default(), at, budget)?;
        at += graph.end;
        Ok(graph)
    };

    let protocol = next(budget)?;
    let number = match protocol.root {
        Value::Int(at) => protocol.int(at),
        _ => None,
    };
    if number != Some(PROTOCOL) {
        return Err(ReadError::new(ReadErrorKind::Unsupported, format!("torch's legacy protocol is {number:?}, expected {PROTOCOL}"))
            .at(protocol.base));
    }
    let mut machine = next(budget)?;
    machine.sort();
    system(&machine)?;
    drop(machine);
    let mut object = next(budget)?;
    let mut keys = next(budget)?;
    keys.sort();
    let parts = data(bytes, at, &object, &keys, budget)?;
    drop(keys);
    let storages = dicts::storages(&object, budget, |key, storage| match parts.binary_search_by(|part| part.key.cmp(key)) {
        Ok(i) => Ok((Payload::Plain(parts[i].data), parts[i].at)),
        Err(_) => Err(ReadError::new(ReadErrorKind::Tensor, format!("storage {} is not in the list of storages", quote(key)))
            .at(object.place(storage.at))),
    })?;
    dicts::dicts(&mut object, &storages, budget)
}

/// Refuses a file that a big-endian machine wrote.
fn system(graph: &Graph<'_>) -> Result<(), ReadError> {
    let Value::Dict(dict) = graph.root else {
        return Err(ReadError::new(ReadErrorKind::Pickle, "no description of the machine where one is due").at(graph.base));
    };
    graph.each_pair(dict, |key, value| {
        if graph.str_bytes(key) == b"little_endian" && value != Value::Bool(true) {
            return Err(ReadError::new(ReadErrorKind::Unsupported, "the file was written by a big-endian machine")
                .at(graph.place(key))
                .next("save it again on a little-endian machine"));
        }
        Ok(())
    })
}

struct Part<'f> {
    key: &'f str,
    data: &'f [u8],
    at: usize,
}

/// Walks the data behind the pickles; what follows the last storage is left alone, as PyTorch leaves it.
/// Sorted by key.
fn data<'f>(bytes: &'f [u8], mut at: usize, object: &Graph<'f>, keys: &Graph<'f>, budget: &mut Budget) -> Result<Vec<Part<'f>>, ReadError> {
    let types = types(object, budget)?;
    let bad_list = || ReadError::new(ReadErrorKind::Pickle, "the list of storages is no list of strings").at(keys.base);
    let Value::List(list) = keys.root else {
        return Err(bad_list());
    };
    let items = keys.list(list);
    if keys.list_len(list) != items.len() {
        return Err(bad_list());
    }
    let mut parts = Vec::new();
    budget.reserve(&mut parts, items.len())?;
    for item in items {
        let Value::Str(key_at) = item.value else {
            return Err(bad_list());
        };
        let key = keys.str(key_at);
        let fail = |kind, what: String| Err(ReadError::new(kind, format!("storage {}: {what}", quote(key))).at(at));
        let Ok(found) = types.binary_search_by(|(known, ..)| (*known).cmp(key)) else {
            return fail(ReadErrorKind::Tensor, "no tensor has it, so the type of its elements is unknown".into());
        };
        let (_, dtype, elements) = types[found];
        let Some(count) = u64_at(bytes, at) else {
            return fail(ReadErrorKind::Truncated, "the file ends before its number of elements".into());
        };
        if count != elements as u64 {
            return fail(ReadErrorKind::Tensor, format!("{count} elements here, {elements} in the pickle"));
        }
        let data = usize::try_from(count).ok().and_then(|n| dtype.bytes(n)).and_then(|len| range(bytes, at + 8, len as u64));
        let Some(data) = data else {
            return fail(
                ReadErrorKind::Truncated,
                format!("{count} elements of {}, but the file ends after {} bytes", dtype.name(), bytes.len() - at - 8),
            );
        };
        parts.push(Part { key, data, at: at + 8 });
        at += 8 + data.len();
    }
    parts.sort_unstable_by_key(|part| (part.key, part.at));
    if let Some(pair) = parts.windows(2).find(|pair| pair[0].key == pair[1].key) {
        return Err(ReadError::new(ReadErrorKind::Tensor, format!("storage {} is listed twice", quote(pair[0].key))).at(pair[1].at));
    }
    Ok(parts)
}

/// The storages that the object mentions, by key.
fn types<'f>(object: &Graph<'f>, budget: &mut Budget) -> Result<Vec<(&'f str, Dtype, usize)>, ReadError> {
    let mut types = Vec::new();
    budget.reserve(&mut types, object.storages.len())?;
    types.extend(object.storages.iter().map(|s| (object.str(s.key), s.dtype, s.elements)));
    types.sort_unstable_by_key(|&(key, ..)| key);
    // Two descriptions of one key that differ are refused later, where the place is known.
    types.dedup_by_key(|&mut (key, ..)| key);
    Ok(types)
}
