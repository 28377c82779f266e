//! What a pickle described, as flat tables: values are 8 bytes and refer to each other by index.
//!
//! No value owns another, so a memo bomb costs one value per opcode, a million nested tuples are
//! dropped without recursion, and cycles are harmless. Strings and numbers stay in the pickle; a
//! value is the offset of the opcode that pushed it, decoded again where it is needed.

#![forbid(unsafe_code)]

use super::budget::Budget;
use super::bytes::{array, range, u16_at, u32_at, u64_at};
use super::entry::Dtype;
use super::error::ReadError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    /// Floats, bytes, frozensets, big integers …: data that no tensor's description needs.
    Plain,
    Set,
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
}

/// The names that a pickle may mention. They are recognised, never resolved to code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    RebuildParameterWithState,
    /// A storage class whose elements this reader converts.
    Storage(Dtype),
}

#[derive(Default)]
pub(crate) struct Dict {
    /// How many pairs it got.
    pub(crate) len: u32,
    /// Offset of the first pair whose key is no string.
    pub(crate) odd_key: Option<u32>,
    /// A list of pairs that it was made from, as Python 2 wrote it.
    pub(crate) source: Option<u32>,
}

/// A pair with a string key; the pairs of all dicts lie in the order in which they were set.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) dict: u32,
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
    /// The length of each list, with what `list_items` leaves out.
    pub(crate) lists: Vec<u32>,
    pub(crate) list_items: Vec<ListItem>,
    pub(crate) storages: Vec<Storage>,
    pub(crate) tensors: Vec<Tensor>,
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
        if let Some(len) = self.lists.get_mut(list as usize) {
            *len += 1;
        }
        // A history of a million losses is plain data; it need not be kept.
        if matches!(value, Value::None | Value::Bool(_) | Value::Plain | Value::Set | Value::Int(_)) {
            return Ok(());
        }
        let seq = self.list_items.len() as u32;
        budget.push(&mut self.list_items, ListItem { list, seq, value })
    }

    /// Brings the items of each list together, so that [`Graph::list`] finds them.
    pub(crate) fn sort_lists(&mut self) {
        self.list_items.sort_unstable_by_key(|item| (item.list, item.seq));
    }

    /// The strings and containers in a list; needs [`Graph::sort_lists`].
    pub(crate) fn list(&self, list: u32) -> &[ListItem] {
        let from = self.list_items.partition_point(|item| item.list < list);
        let to = self.list_items.partition_point(|item| item.list <= list);
        &self.list_items[from..to]
    }

    /// Calls `visit` with each string key and its value, in the order in which they were set.
    /// Needs [`Graph::sort_lists`]. Takes time in proportion to *all* pairs: for few dicts.
    pub(crate) fn each_pair<E>(&self, dict: u32, mut visit: impl FnMut(u32, Value) -> Result<(), E>) -> Result<(), E> {
        let source = self.dicts.get(dict as usize).and_then(|d| d.source);
        for item in source.map_or(&[][..], |list| self.list(list)) {
            match item.value {
                Value::Tuple(t) => {
                    if let [Value::Str(key), value] = *self.tuple(t) {
                        visit(key, value)?;
                    }
                }
                Value::List(l) if self.lists.get(l as usize) == Some(&2) => {
                    if let [ListItem { value: Value::Str(key), .. }, rest @ ..] = self.list(l) {
                        visit(*key, rest.first().map_or(Value::Plain, |item| item.value))?;
                    }
                }
                _ => {}
            }
        }
        for pair in self.pairs.iter().filter(|pair| pair.dict == dict) {
            visit(pair.key, pair.value)?;
        }
        Ok(())
    }
}
