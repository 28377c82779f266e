//! From a pickle's tables to named tensors: every dict of tensors wherever it is nested, and the
//! parameters and buffers of every pickled module, as its `state_dict()` would give them.

#![forbid(unsafe_code)]

use super::graph::{Graph, Storage, Tensor, Value};
use super::payload::Payload;
use crate::files::budget::Budget;
use crate::files::dtype::Dtype;
use crate::files::entry::{Entry, Layout, MAX_RANK};
use crate::files::error::{ReadError, ReadErrorKind, quote};
use std::collections::BTreeSet;

/// Longest name of a tensor.
const NAME_MAX: usize = 1024;
/// How deep dicts and modules are searched.
const DEPTH_MAX: usize = 32;

/// A dict of tensors, or a module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dict<'f> {
    /// The keys that lead to it, with dots between; empty for the file's own object.
    pub(crate) path: String,
    pub(crate) entries: Vec<Entry<'f>>,
    /// Names in it of what is neither a tensor nor plain data, and what would make it.
    pub(crate) opaque: Vec<(String, String)>,
    /// The place in the file of a key that is no string, if it has one.
    pub(crate) odd_key: Option<usize>,
}

/// The bytes of each storage of a graph, and their place in the file.
pub(super) type Storages<'f> = Vec<(Payload<'f>, usize)>;

/// Finds the bytes of every storage with `find`, which is asked once per key, in key order.
pub(super) fn storages<'f, 't>(
    graph: &Graph<'t>,
    budget: &mut Budget,
    mut find: impl FnMut(&'t str, &Storage) -> Result<(Payload<'f>, usize), ReadError>,
) -> Result<Storages<'f>, ReadError> {
    let mut found: Storages<'f> = Vec::new();
    budget.reserve(&mut found, graph.storages.len())?;
    found.resize(graph.storages.len(), (Payload::Plain(&[]), 0));
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
                    return Err(described_twice(key, other, storage).at(graph.place(storage.at)));
                }
                found[f].clone()
            }
            None => {
                first = Some(i as usize);
                find(key, storage)?
            }
        };
    }
    Ok(found)
}

fn described_twice(key: &str, first: &Storage, second: &Storage) -> ReadError {
    let [a, b] = [first, second].map(|storage| format!("{} of {}", storage.elements, storage.dtype.name()));
    ReadError::new(ReadErrorKind::Tensor, format!("storage {} is described twice: {a}, and {b}", quote(key)))
}

/// Every dict of tensors and every module that can be reached from the file's object by string keys and
/// lists, in the file's order. What lies under other keys (an optimizer's state) is not searched.
pub(super) fn dicts<'f>(graph: &mut Graph<'_>, storages: &Storages<'f>, budget: &mut Budget) -> Result<Vec<Dict<'f>>, ReadError> {
    graph.sort();
    let graph = &*graph;
    let mut seen = Seen::default();
    for (seen, len) in [
        (&mut seen.dicts, graph.dicts.len()),
        (&mut seen.lists, graph.lists.len()),
        (&mut seen.tuples, graph.items.len()),
        (&mut seen.objects, graph.objects.len()),
    ] {
        budget.reserve(seen, len)?;
        seen.resize(len, false);
    }
    let mut search = Search { graph, storages, budget, seen, found: Vec::new(), work: 2 * graph.text.len() };
    search.walk(graph.root, "", 0)?;
    let found = search.found;
    // Tensors elsewhere in the file (an optimizer's) are not handed out, but a lie is a lie.
    for tensor in &graph.tensors {
        with_layout(graph, storages, tensor, |layout| layout.check().map_err(|e| e.at(graph.place(tensor.at))))?;
    }
    if found.is_empty() { Err(no_tensors(graph)) } else { Ok(found) }
}

/// What was searched already: a dict that is reached by two paths is one.
#[derive(Default)]
struct Seen {
    dicts: Vec<bool>,
    lists: Vec<bool>,
    tuples: Vec<bool>,
    objects: Vec<bool>,
}

fn first_time(seen: &mut [bool], index: u32) -> bool {
    seen.get_mut(index as usize).is_some_and(|seen| !std::mem::replace(seen, true))
}

struct Search<'a, 'f, 't> {
    graph: &'a Graph<'t>,
    storages: &'a Storages<'f>,
    budget: &'a mut Budget,
    seen: Seen,
    found: Vec<Dict<'f>>,
    /// How many parts of modules may still be visited: a module may have several names, but what a pickle
    /// describes grows with its length.
    work: usize,
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}

impl<'f, 't> Search<'_, 'f, 't> {
    /// Searches a value and what it holds.
    fn walk(&mut self, value: Value, path: &str, depth: usize) -> Result<(), ReadError> {
        if depth > DEPTH_MAX {
            return Ok(());
        }
        let graph = self.graph;
        match value {
            Value::Dict(dict) if first_time(&mut self.seen.dicts, dict) => self.dict(dict, path, depth),
            Value::List(list) if first_time(&mut self.seen.lists, list) => {
                // Strings and numbers are no state dicts; a list of a million of them is passed over.
                let inner = graph.list(list).iter().filter(|item| matches!(item.value, Value::Dict(_) | Value::Object(_)));
                for (i, item) in inner.enumerate() {
                    self.walk(item.value, &joined(path, &i.to_string()), depth + 1)?;
                }
                Ok(())
            }
            Value::Tuple(tuple) if first_time(&mut self.seen.tuples, tuple) => {
                for (i, &value) in graph.tuple(tuple).iter().enumerate() {
                    if matches!(value, Value::Dict(_) | Value::Object(_)) {
                        self.walk(value, &joined(path, &i.to_string()), depth + 1)?;
                    }
                }
                Ok(())
            }
            Value::Object(index) if first_time(&mut self.seen.objects, index) => self.object(index, path, depth),
            _ => Ok(()),
        }
    }

    fn object(&mut self, index: u32, path: &str, depth: usize) -> Result<(), ReadError> {
        let Some(object) = self.graph.objects.get(index as usize) else { return Ok(()) };
        if self.module_parts(index).is_some() {
            let mut dict = Dict { path: path.to_string(), ..Dict::default() };
            self.module(index, "", &mut dict, 0)?;
            return if dict.entries.is_empty() { Ok(()) } else { self.budget.push(&mut self.found, dict) };
        }
        if let Some(pairs) = object.pairs {
            self.walk(Value::Dict(pairs), path, depth + 1)?;
        }
        // A dict that some class was made of, and the attributes of an object.
        if let Value::Tuple(args) = object.args {
            for &arg in self.graph.tuple(args).iter().filter(|arg| matches!(arg, Value::Dict(_))) {
                self.walk(arg, path, depth + 1)?;
            }
        }
        self.walk(object.state, path, depth + 1)
    }

    fn dict(&mut self, dict: u32, path: &str, depth: usize) -> Result<(), ReadError> {
        let graph = self.graph;
        self.check_keys(dict)?;
        let mut own = Dict { path: path.to_string(), ..Dict::default() };
        graph.each_pair(dict, |key, value| self.pair(key, value, "", &mut own))?;
        if !own.entries.is_empty() {
            own.odd_key = graph.dicts.get(dict as usize).and_then(|d| d.odd_key).map(|odd| graph.place(odd));
            self.budget.push(&mut self.found, own)?;
        }
        graph.each_pair(dict, |key, value| {
            if matches!(value, Value::Dict(_) | Value::List(_) | Value::Tuple(_) | Value::Object(_))
                && graph.str_bytes(key).len() <= NAME_MAX
            {
                return self.walk(value, &joined(path, graph.str(key)), depth + 1);
            }
            Ok(())
        })
    }

    /// Refuses a key that is set twice: Python keeps the last value, whatever its type. Gives the number of keys.
    fn check_keys(&mut self, dict: u32) -> Result<usize, ReadError> {
        let graph = self.graph;
        let mut keys: Vec<(&[u8], u32)> = Vec::new();
        graph.each_pair(dict, |key, _| self.budget.push(&mut keys, (graph.str_bytes(key), key)))?;
        keys.sort_unstable();
        let twice = keys.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1);
        self.budget.give(keys.capacity() * size_of::<(&[u8], u32)>());
        match twice {
            Some(key) => Err(ReadError::new(ReadErrorKind::Pickle, "this key is set twice: two tensors, or a tensor and something else")
                .entry(graph.str(key))
                .at(graph.place(key))),
            None => Ok(keys.len()),
        }
    }

    /// Takes a value that is a tensor, or would be one.
    fn pair(&mut self, key: u32, value: Value, prefix: &str, to: &mut Dict<'f>) -> Result<(), ReadError> {
        let graph = self.graph;
        let name_len = prefix.len() + graph.str_bytes(key).len();
        let (Value::Tensor(_) | Value::Object(_)) = value else { return Ok(()) };
        if name_len > NAME_MAX {
            return match value {
                Value::Tensor(_) => {
                    let what = format!("a name of {name_len} bytes, expected at most {NAME_MAX}");
                    Err(ReadError::new(ReadErrorKind::Tensor, what).at(graph.place(key)))
                }
                _ => Ok(()),
            };
        }
        match value {
            Value::Tensor(t) => {
                let name = format!("{prefix}{}", graph.str(key));
                let (storages, budget) = (self.storages, &mut *self.budget);
                let entry = graph.tensors.get(t as usize).ok_or_else(|| ReadError::new(ReadErrorKind::Pickle, "no such tensor")).and_then(
                    |tensor| {
                        let entry = with_layout(graph, storages, tensor, |layout| layout.entry(&name, budget))?;
                        Ok(if tensor.marked { entry.marked() } else { entry })
                    },
                )?;
                self.budget.push(&mut to.entries, entry)
            }
            Value::Object(object) => {
                let name = format!("{prefix}{}", graph.str(key));
                let class = graph.class_of(object);
                self.budget.take(name.len() + class.len())?;
                self.budget.push(&mut to.opaque, (name, class))
            }
            _ => Ok(()),
        }
    }

    /// The state of an object, if it is a module's.
    fn module_parts(&self, index: u32) -> Option<[Option<u32>; 3]> {
        let Value::Dict(state) = self.graph.objects.get(index as usize)?.state else { return None };
        let part = |key: &[u8]| match self.graph.value_of(state, key) {
            Some(Value::Dict(dict)) => Some(dict),
            Some(Value::Object(object)) => self.graph.objects.get(object as usize)?.pairs,
            _ => None,
        };
        let modules = self.graph.value_of(state, b"_modules")?;
        matches!(modules, Value::Dict(_) | Value::Object(_)).then(|| [part(b"_parameters"), part(b"_buffers"), part(b"_modules")])
    }

    /// Takes the parameters and buffers of a module, then its children's, as `state_dict()` does.
    fn module(&mut self, index: u32, prefix: &str, to: &mut Dict<'f>, depth: usize) -> Result<(), ReadError> {
        let graph = self.graph;
        let too_much = || ReadError::new(ReadErrorKind::Pickle, "modules nest without end").next("save the state_dict alone");
        if depth > DEPTH_MAX {
            return Err(too_much());
        }
        first_time(&mut self.seen.objects, index);
        let Some([parameters, buffers, modules]) = self.module_parts(index) else { return Ok(()) };
        let mut work = 1;
        for dict in [parameters, buffers, modules].into_iter().flatten() {
            work += self.check_keys(dict)?;
        }
        self.work = self.work.checked_sub(work).ok_or_else(too_much)?;
        if let Some(dict) = parameters {
            graph.each_pair(dict, |key, value| self.pair(key, value, prefix, to))?;
        }
        if let Some(dict) = buffers {
            let passing = self.passing(index);
            graph.each_pair(dict, |key, value| match passing.contains(graph.str_bytes(key)) {
                true => Ok(()),
                false => self.pair(key, value, prefix, to),
            })?;
        }
        if let Some(dict) = modules {
            graph.each_pair(dict, |key, value| {
                let Value::Object(child) = value else { return Ok(()) };
                let name = graph.str(key);
                if prefix.len() + name.len() > NAME_MAX {
                    return Err(too_much());
                }
                self.module(child, &format!("{prefix}{name}."), to, depth + 1)
            })?;
        }
        Ok(())
    }

    /// The buffers that a module leaves out of its state dict (`persistent=False`).
    fn passing(&self, module: u32) -> BTreeSet<&'t [u8]> {
        let graph = self.graph;
        let state = graph.objects.get(module as usize).map(|object| object.state);
        let set = match state {
            Some(Value::Dict(state)) => graph.value_of(state, b"_non_persistent_buffers_set"),
            _ => None,
        };
        let Some(Value::Set(set)) = set else { return BTreeSet::new() };
        let name = |value: Value| if let Value::Str(at) = value { Some(graph.str_bytes(at)) } else { None };
        graph.list(set).iter().filter_map(|item| name(item.value)).collect()
    }
}

fn no_tensors(graph: &Graph<'_>) -> ReadError {
    let what = match graph.root {
        Value::Tensor(_) => "the file holds a single tensor, expected a state_dict".to_string(),
        Value::List(_) | Value::Tuple(_) => "the file holds a list without any dict of tensors, expected a state_dict".to_string(),
        Value::Object(object) => format!(
            "the file holds an object of {} without parameters of modules or a dict of tensors; nothing in a file is ever imported or run",
            quote(&graph.class_of(object))
        ),
        Value::Dict(root) => {
            let mut keys = Vec::new();
            let Ok(()) = graph.each_pair::<std::convert::Infallible>(root, |key, _| {
                if keys.len() < 8 {
                    keys.push(quote(graph.str(key)));
                }
                Ok(())
            });
            match keys.is_empty() {
                true => "the state_dict holds nothing".to_string(),
                false => format!("the file holds no dict of tensors; its first keys are {}", keys.join(", ")),
            }
        }
        _ => "the file holds a plain value, expected a state_dict".to_string(),
    };
    ReadError::new(ReadErrorKind::WrongFile, what).next("save it with torch.save(model.state_dict(), …)")
}

/// Calls `then` with the description of `tensor`.
fn with_layout<'f, T>(
    graph: &Graph<'_>,
    storages: &Storages<'f>,
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
    let (Some(info), Some((bytes, at))) = (graph.storages.get(storage), storages.get(storage)) else {
        return Err(ReadError::new(ReadErrorKind::Pickle, "a tensor without storage").at(graph.place(tensor.at)));
    };
    let dtype: Dtype = info.dtype;
    then(Layout { dtype, shape: &shape[..rank], strides: &strides[..rank], offset: tensor.offset, storage: bytes.clone(), at: *at })
}
