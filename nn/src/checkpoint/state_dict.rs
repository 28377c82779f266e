//! From a pickle's tables to named tensors: finds the state_dict, checks every view, makes entries.

#![forbid(unsafe_code)]

use super::budget::Budget;
use super::entry::{Entry, Layout, MAX_RANK};
use super::error::{ReadError, ReadErrorKind, quote};
use super::graph::{Graph, Storage, Tensor, Value};

/// Longest name of a tensor.
const NAME_MAX: usize = 1024;

/// The bytes of each storage of a graph, and their place in the file.
pub(crate) type Storages<'f> = Vec<(&'f [u8], usize)>;

/// Finds the bytes of every storage with `find`, which is asked once per key, in key order.
pub(crate) fn storages<'f>(
    graph: &Graph<'f>,
    budget: &mut Budget,
    mut find: impl FnMut(&'f str, &Storage) -> Result<(&'f [u8], usize), ReadError>,
) -> Result<Storages<'f>, ReadError> {
    let mut found: Storages<'f> = Vec::new();
    budget.reserve(&mut found, graph.storages.len())?;
    found.resize(graph.storages.len(), (&[], 0));
    let mut order: Vec<u32> = Vec::new();
    budget.reserve(&mut order, graph.storages.len())?;
    order.extend(0..graph.storages.len() as u32);
    order.sort_unstable_by_key(|&i| (graph.str_bytes(graph.storages[i as usize].key), i));
    let mut first: Option<usize> = None;
    for &i in &order {
        let storage = &graph.storages[i as usize];
        let key = graph.str(storage.key);
        let known = first.filter(|&f| graph.str_bytes(graph.storages[f].key) == key.as_bytes());
        found[i as usize] = match known {
            Some(f) => {
                let other = &graph.storages[f];
                if (other.dtype, other.elements) != (storage.dtype, storage.elements) {
                    return Err(ReadError::new(
                        ReadErrorKind::Tensor,
                        format!(
                            "storage {} is described twice: {} of {}, and {} of {}",
                            quote(key),
                            other.elements,
                            other.dtype.name(),
                            storage.elements,
                            storage.dtype.name()
                        ),
                    )
                    .at(graph.place(storage.at)));
                }
                found[f]
            }
            None => {
                first = Some(i as usize);
                find(key, storage)?
            }
        };
    }
    Ok(found)
}

/// Makes an entry of each tensor in the state_dict.
pub(crate) fn entries<'f>(graph: &mut Graph<'f>, storages: &[(&'f [u8], usize)], budget: &mut Budget) -> Result<Vec<Entry<'f>>, ReadError> {
    graph.sort_lists();
    let graph = &*graph;
    let dict = find_state_dict(graph)?;
    if let Some(at) = graph.dicts.get(dict as usize).and_then(|d| d.odd_key) {
        return Err(ReadError::new(ReadErrorKind::Pickle, "the state_dict has a key that is no string").at(graph.place(at)));
    }
    let mut entries = Vec::new();
    let mut others = Vec::new();
    graph.each_pair(dict, |key, value| {
        let raw = graph.str_bytes(key);
        if raw.len() > NAME_MAX {
            return Err(ReadError::new(ReadErrorKind::Tensor, format!("a name of {} bytes, expected at most {NAME_MAX}", raw.len()))
                .at(graph.place(key)));
        }
        match value {
            Value::Tensor(t) => {
                let name = graph.str(key);
                let entry = graph
                    .tensors
                    .get(t as usize)
                    .ok_or_else(|| ReadError::new(ReadErrorKind::Pickle, "no such tensor"))
                    .and_then(|tensor| with_layout(graph, storages, tensor, |layout| layout.entry(name, budget)))?;
                budget.push(&mut entries, entry)
            }
            // Epochs, names, options: plain data beside the tensors, of no use here.
            _ => {
                if others.len() < 8 {
                    others.push((key, matches!(value, Value::Dict(_))));
                }
                Ok(())
            }
        }
    })?;
    if entries.is_empty() {
        return Err(no_tensors(graph, &others));
    }
    // Tensors elsewhere in the file (an optimizer's) are not handed out, but a lie is a lie.
    for tensor in &graph.tensors {
        with_layout(graph, storages, tensor, |layout| layout.check().map_err(|e| e.at(graph.place(tensor.at))))?;
    }
    Ok(entries)
}

/// The dict under `state_dict` or `model` at the top, or else the top itself.
fn find_state_dict(graph: &Graph<'_>) -> Result<u32, ReadError> {
    let Value::Dict(root) = graph.root else {
        let what = match graph.root {
            Value::Tensor(_) => "a single tensor",
            Value::List(_) | Value::Tuple(_) => "a list",
            _ => "a plain value",
        };
        return Err(ReadError::new(ReadErrorKind::WrongFile, format!("the file holds {what}, expected a state_dict"))
            .next("save it with torch.save(model.state_dict(), …)"));
    };
    let mut nested: Option<(u32, u32)> = None;
    graph.each_pair(root, |key, value| {
        let Value::Dict(dict) = value else {
            return Ok(());
        };
        if !matches!(graph.str_bytes(key), b"state_dict" | b"model") {
            return Ok(());
        }
        if let Some((other, _)) = nested.replace((key, dict)) {
            return Err(ReadError::new(
                ReadErrorKind::Unsupported,
                format!("the file has two state_dicts, under {} and {}", quote(graph.str(other)), quote(graph.str(key))),
            )
            .at(graph.place(key))
            .next("save the one that is meant alone"));
        }
        Ok(())
    })?;
    Ok(nested.map_or(root, |(_, dict)| dict))
}

fn no_tensors(graph: &Graph<'_>, others: &[(u32, bool)]) -> ReadError {
    let keys: Vec<String> = others.iter().map(|&(key, _)| quote(graph.str(key))).collect();
    let error = ReadError::new(
        ReadErrorKind::WrongFile,
        if keys.is_empty() {
            "the state_dict holds nothing".to_string()
        } else {
            format!("the state_dict holds no tensor; its first keys are {}", keys.join(", "))
        },
    );
    error.next(if others.iter().any(|&(_, dict)| dict) {
        "a state_dict is looked for at the top, under `state_dict` and under `model`; save the inner one alone"
    } else {
        "save it with torch.save(model.state_dict(), …)"
    })
}

/// Calls `then` with the description of `tensor`.
fn with_layout<'f, T>(
    graph: &Graph<'f>,
    storages: &[(&'f [u8], usize)],
    tensor: &Tensor,
    then: impl FnOnce(Layout<'f, '_>) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let (mut shape, mut strides) = ([0; MAX_RANK], [0; MAX_RANK]);
    let read = |tuple: u32, to: &mut [usize; MAX_RANK]| {
        let values = graph.tuple(tuple);
        for (to, &value) in to.iter_mut().zip(values) {
            *to = graph.size(value).unwrap_or(0);
        }
        values.len().min(MAX_RANK)
    };
    let rank = read(tensor.shape, &mut shape);
    read(tensor.strides, &mut strides);
    let storage = tensor.storage as usize;
    let (Some(info), Some(&(bytes, at))) = (graph.storages.get(storage), storages.get(storage)) else {
        return Err(ReadError::new(ReadErrorKind::Pickle, "a tensor without storage").at(graph.place(tensor.at)));
    };
    then(Layout { dtype: info.dtype, shape: &shape[..rank], strides: &strides[..rank], offset: tensor.offset, storage: bytes, at })
}

/// Takes off the `module.` of `DataParallel` when every name has it.
pub(crate) fn strip_module(entries: &mut [Entry<'_>]) {
    const PREFIX: &str = "module.";
    if entries.iter().all(|e| e.name().len() > PREFIX.len() && e.name().starts_with(PREFIX)) {
        for entry in entries {
            let bare = entry.name()[PREFIX.len()..].into();
            entry.rename(bare);
        }
    }
}
