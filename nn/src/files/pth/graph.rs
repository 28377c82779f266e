//! What a pickle described, as flat tables: values are 8 bytes and refer to each other by index.
//!
//! No value owns another, so a memo bomb costs one value per opcode, a million nested tuples are
//! dropped without recursion, and cycles are harmless. Strings and numbers stay in the pickle; a
//! value is the offset of the opcode that pushed it, decoded again where it is needed.

#![forbid(unsafe_code)]

use crate::files::budget::Budget;
use crate::files::bytes::{array, range, u16_at, u32_at, u64_at};
use crate::files::dtype::Dtype;
use crate::files::error::ReadError;

// A hostile pickle pushes one with each byte.
const _: () = assert!(size_of::<Value>() == 8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    /// Floats, bytes, frozensets, big integers …: data that no tensor's description needs.
    Plain,
    /// The index of its list of items.
    Set(u32),
    /// UTF-8 text, by the offset of its opcode.
    Str(u32),
    /// An integer, by the offset of its opcode.
    Int(u32),
    Global(Global),
    /// The index in `items` of its [`Value::Count`], which the elements follow.
    Tuple(u32),
    /// Only in `items`: the length of a tuple.
    Count(u32),
    List(u32),
    Dict(u32),
    Storage(u32),
    Tensor(u32),
    /// Something that is made by a name which is not known.
    Object(u32),
}

/// The names that a pickle mentions. They are recognised, never resolved to code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    /// `_rebuild_tensor`, as torch wrote it before 0.4.
    RebuildTensorV1,
    RebuildTensor,
    /// A tensor of a class of its own, or with attributes.
    RebuildFromType,
    RebuildParameter,
    RebuildParameterWithState,
    /// A class of storages, by its place in [`STORAGES`](crate::files::dtype::STORAGES).
    Storage(u8),
    /// `set`, as protocols up to 3 write it.
    Set,
    /// Any other; the index in `others`.
    Other(u32),
}

#[derive(Default)]
pub(crate) struct Dict {
    /// How many pairs it got.
    pub(crate) len: u32,
    /// Offset of the first pair whose key is no string.
    pub(crate) odd_key: Option<u32>,
    /// A list of pairs that it was made from, as Python 2 wrote it.
    pub(crate) source: Option<u32>,
    /// Whether its pairs were copied elsewhere, so that no more may come.
    pub(crate) closed: bool,
}

/// A list's length, with what `list_items` leaves out.
#[derive(Default)]
pub(crate) struct List {
    pub(crate) len: u32,
    /// Whether its items were copied elsewhere, so that no more may come.
    pub(crate) closed: bool,
}

/// An opaque object: what made it, what with, and the state that it was given.
pub(crate) struct Object {
    pub(crate) class: Value,
    pub(crate) args: Value,
    pub(crate) state: Value,
    /// The pairs that were set on it, if it is some kind of dict.
    pub(crate) pairs: Option<u32>,
}

/// A pair with a string key; the pairs of all dicts lie in the order in which they were set.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) dict: u32,
    /// The place in the order of all pairs, to which sorting by dict falls back.
    seq: u32,
    pub(crate) key: u32,
    pub(crate) value: Value,
}

#[derive(Clone, Copy)]
pub(crate) struct ListItem {
    pub(crate) list: u32,
    /// The place in the order of all items, to which sorting by list falls back.
    seq: u32,
    pub(crate) value: Value,
}

/// A reference to the bytes of a storage, from a persistent id.
pub(crate) struct Storage {
    pub(crate) key: u32,
    pub(crate) dtype: Dtype,
    pub(crate) elements: usize,
    pub(crate) at: u32,
}

/// A view into a storage. `shape` and `strides` are tuples of integers of one length.
pub(crate) struct Tensor {
    pub(crate) storage: u32,
    pub(crate) offset: usize,
    pub(crate) shape: u32,
    pub(crate) strides: u32,
    pub(crate) at: u32,
    /// Whether it says more of its numbers (that they are to be negated, or conjugated).
    pub(crate) marked: bool,
}

pub(crate) struct Graph<'f> {
    pub(crate) text: &'f [u8],
    /// Where `text` begins in the file.
    pub(crate) base: usize,
    /// The bytes of `text` up to and with STOP.
    pub(crate) end: usize,
    pub(crate) root: Value,
    pub(crate) items: Vec<Value>,
    pub(crate) dicts: Vec<Dict>,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) lists: Vec<List>,
    pub(crate) list_items: Vec<ListItem>,
    pub(crate) storages: Vec<Storage>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) objects: Vec<Object>,
    /// Module and name of the globals that are not known.
    pub(crate) others: Vec<[&'f str; 2]>,
}

impl<'f> Graph<'f> {
    pub(crate) fn new(text: &'f [u8], base: usize) -> Self {
        Self {
            text,
            base,
            end: 0,
            root: Value::None,
            items: Vec::new(),
            dicts: Vec::new(),
            pairs: Vec::new(),
            lists: Vec::new(),
            list_items: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
            objects: Vec::new(),
            others: Vec::new(),
        }
    }

    /// The place in the file of an offset in the pickle.
    pub(crate) fn place(&self, at: u32) -> usize {
        self.base.saturating_add(at as usize)
    }

    pub(crate) fn tuple(&self, index: u32) -> &[Value] {
        let index = index as usize;
        match self.items.get(index) {
            Some(&Value::Count(n)) => self.items.get(index + 1..index + 1 + n as usize).unwrap_or(&[]),
            _ => &[],
        }
    }

    /// The bytes of the string that the opcode at `at` pushed.
    pub(crate) fn str_bytes(&self, at: u32) -> &'f [u8] {
        let at = at as usize;
        let found = match self.text.get(at) {
            Some(b'X' | b'T') => u32_at(self.text, at + 1).and_then(|n| range(self.text, at + 5, n.into())),
            Some(0x8c | b'U') => array::<1>(self.text, at + 1).and_then(|[n]| range(self.text, at + 2, n.into())),
            Some(0x8d) => u64_at(self.text, at + 1).and_then(|n| range(self.text, at + 9, n)),
            _ => None,
        };
        found.unwrap_or_default()
    }

    /// The same as text; it was found to be UTF-8 when it was pushed.
    pub(crate) fn str(&self, at: u32) -> &'f str {
        std::str::from_utf8(self.str_bytes(at)).unwrap_or_default()
    }

    /// The integer that the opcode at `at` pushed, unless it takes more than 64 bits.
    pub(crate) fn int(&self, at: u32) -> Option<i64> {
        let at = at as usize;
        match self.text.get(at)? {
            b'K' => array::<1>(self.text, at + 1).map(|[n]| n.into()),
            b'M' => u16_at(self.text, at + 1).map(i64::from),
            b'J' => array(self.text, at + 1).map(|n| i32::from_le_bytes(n).into()),
            0x8a => {
                let raw = self.long1(at)?;
                if raw.len() > 8 {
                    return None;
                }
                let negative = raw.last().is_some_and(|&b| b >= 0x80);
                let mut all = [if negative { 0xff } else { 0 }; 8];
                all[..raw.len()].copy_from_slice(raw);
                Some(i64::from_le_bytes(all))
            }
            _ => None,
        }
    }

    /// The little-endian bytes of a LONG1.
    pub(crate) fn long1(&self, at: usize) -> Option<&'f [u8]> {
        let [len] = array::<1>(self.text, at + 1)?;
        range(self.text, at + 2, len.into())
    }

    /// An integer that is no negative number, as a size.
    pub(crate) fn size(&self, value: Value) -> Option<usize> {
        match value {
            Value::Int(at) => self.int(at).and_then(|n| usize::try_from(n).ok()),
            _ => None,
        }
    }

    pub(crate) fn push_list_item(&mut self, budget: &mut Budget, list: u32, value: Value) -> Result<(), ReadError> {
        if let Some(list) = self.lists.get_mut(list as usize) {
            list.len += 1;
        }
        // A history of a million losses is plain data; it need not be kept.
        if matches!(value, Value::None | Value::Bool(_) | Value::Plain | Value::Int(_)) {
            return Ok(());
        }
        let seq = self.list_items.len() as u32;
        budget.push(&mut self.list_items, ListItem { list, seq, value })
    }

    pub(crate) fn push_pair(&mut self, budget: &mut Budget, dict: u32, key: u32, value: Value) -> Result<(), ReadError> {
        let seq = self.pairs.len() as u32;
        budget.push(&mut self.pairs, Pair { dict, seq, key, value })
    }

    /// Brings the items of each list and the pairs of each dict together, so that [`Graph::list`] and
    /// [`Graph::each_pair`] find them.
    pub(crate) fn sort(&mut self) {
        self.list_items.sort_unstable_by_key(|item| (item.list, item.seq));
        self.pairs.sort_unstable_by_key(|pair| (pair.dict, pair.seq));
    }

    /// The strings and containers in a list; needs [`Graph::sort`].
    pub(crate) fn list(&self, list: u32) -> &[ListItem] {
        let from = self.list_items.partition_point(|item| item.list < list);
        let to = self.list_items.partition_point(|item| item.list <= list);
        &self.list_items[from..to]
    }

    /// The length of a list, with what [`Graph::list`] leaves out.
    pub(crate) fn list_len(&self, list: u32) -> usize {
        self.lists.get(list as usize).map_or(0, |list| list.len as usize)
    }

    /// Calls `visit` with each string key and its value, in the order in which they were set.
    /// Needs [`Graph::sort`].
    pub(crate) fn each_pair<E>(&self, dict: u32, mut visit: impl FnMut(u32, Value) -> Result<(), E>) -> Result<(), E> {
        let source = self.dicts.get(dict as usize).and_then(|d| d.source);
        for item in source.map_or(&[][..], |list| self.list(list)) {
            match item.value {
                Value::Tuple(t) => {
                    if let [Value::Str(key), value] = *self.tuple(t) {
                        visit(key, value)?;
                    }
                }
                Value::List(l) if self.list_len(l) == 2 => {
                    if let [ListItem { value: Value::Str(key), .. }, rest @ ..] = self.list(l) {
                        visit(*key, rest.first().map_or(Value::Plain, |item| item.value))?;
                    }
                }
                _ => {}
            }
        }
        let from = self.pairs.partition_point(|pair| pair.dict < dict);
        for pair in self.pairs[from..].iter().take_while(|pair| pair.dict == dict) {
            visit(pair.key, pair.value)?;
        }
        Ok(())
    }

    /// The value of a string key in a dict, the last if there are several.
    pub(crate) fn value_of(&self, dict: u32, key: &[u8]) -> Option<Value> {
        let mut found = None;
        let Ok(()) = self.each_pair::<std::convert::Infallible>(dict, |at, value| {
            if self.str_bytes(at) == key {
                found = Some(value);
            }
            Ok(())
        });
        found
    }

    /// What made an object, for messages: `torch.nn.modules.conv.Conv2d`.
    pub(crate) fn class_of(&self, object: u32) -> String {
        // What makes may itself be an object: of an object's method, of a class made at run time.
        match self.objects.get(object as usize).map(|object| object.class) {
            Some(Value::Global(global)) => self.name_of(global),
            _ => "an object that was called".into(),
        }
    }

    /// The name of a global, for messages.
    pub(crate) fn name_of(&self, global: Global) -> String {
        match global {
            Global::OrderedDict => "collections.OrderedDict".into(),
            Global::RebuildTensorV1 => "torch._utils._rebuild_tensor".into(),
            Global::RebuildTensor => "torch._utils._rebuild_tensor_v2".into(),
            Global::RebuildFromType => "torch._tensor._rebuild_from_type_v2".into(),
            Global::RebuildParameter => "torch._utils._rebuild_parameter".into(),
            Global::RebuildParameterWithState => "torch._utils._rebuild_parameter_with_state".into(),
            Global::Storage(_) => "a storage class".into(),
            Global::Set => "builtins.set".into(),
            Global::Other(index) => match self.others.get(index as usize) {
                Some([module, name]) => format!("{module}.{name}"),
                None => "an unknown name".into(),
            },
        }
    }
}
