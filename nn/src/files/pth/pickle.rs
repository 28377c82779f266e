//! A reader of pickles that describe tensors: not an unpickler.
//!
//! It walks the opcodes of protocols 2 to 5 over a stack of 8-byte values and fills the tables of
//! [`Graph`]. Nothing is ever looked up, imported or called: a GLOBAL is compared with a short list
//! of (module, name) pairs, and REDUCE knows those few by heart. What any other name makes is an
//! opaque object. Opcodes: CPython's `pickletools`.

#![forbid(unsafe_code)]

mod globals;

use super::graph::{Dict, Graph, List, Object, Value};
use crate::files::budget::Budget;
use crate::files::bytes::{range, u32_at, u64_at};
use crate::files::error::{ReadError, ReadErrorKind};

/// Longest name of a global.
const GLOBAL_MAX: usize = 256;

/// Reads one pickle from the beginning of `text`, which lies at `base` in the file.
pub(crate) fn read<'f>(text: &'f [u8], base: usize, budget: &mut Budget) -> Result<Graph<'f>, ReadError> {
    // Offsets in values are 32 bits; the rest of a legacy file may be longer, its pickles are not.
    let text = &text[..text.len().min(u32::MAX as usize)];
    let mut reader = Reader {
        graph: Graph::new(text, base),
        pos: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        frame_end: None,
        budget: &mut *budget,
    };
    let result = reader.run();
    let Reader { stack, marks, memo, graph, .. } = reader;
    budget.give(stack.capacity() * size_of::<Value>() + marks.capacity() * size_of::<u32>() + memo.capacity() * size_of::<Option<Value>>());
    result.map(|()| graph)
}

struct Reader<'f, 'b> {
    graph: Graph<'f>,
    pos: usize,
    stack: Vec<Value>,
    /// Heights of `stack`; what lies below the last may not be popped.
    marks: Vec<u32>,
    memo: Vec<Option<Value>>,
    frame_end: Option<usize>,
    budget: &'b mut Budget,
}

fn pickle(what: impl Into<String>) -> ReadError {
    ReadError::new(ReadErrorKind::Pickle, what)
}

impl<'f> Reader<'f, '_> {
    fn run(&mut self) -> Result<(), ReadError> {
        self.protocol()?;
        loop {
            let at = self.pos;
            let [op] = self.take(1)? else {
                return Err(self.fail(at, "no opcode"));
            };
            // Errors from below get the opcode's place unless they know a better one.
            let stop = self.step(*op, at).map_err(|e| if e.offset().is_none() { e.at(self.place(at)) } else { e })?;
            if let Some(end) = self.frame_end {
                if self.pos > end || stop && self.pos < end {
                    return Err(self.fail(at, format!("the frame ends at byte {}, inside an opcode or after STOP", self.place(end))));
                }
                if self.pos == end {
                    self.frame_end = None;
                }
            }
            if stop {
                self.graph.end = self.pos;
                return Ok(());
            }
        }
    }

    fn protocol(&mut self) -> Result<(), ReadError> {
        let text = self.graph.text;
        match *text {
            [0x80, 2..=5, ..] => {
                self.pos = 2;
                Ok(())
            }
            [] | [0x80] => Err(self.truncated(0, 2)),
            [0x80, protocol, ..] => {
                Err(ReadError::new(ReadErrorKind::Unsupported, format!("a pickle of protocol {protocol}, expected 2 to 5"))
                    .at(self.place(1))
                    .next("save it with torch.save's own protocol"))
            }
            [first, ..] => Err(ReadError::new(
                ReadErrorKind::Unsupported,
                format!("a pickle without protocol (it begins with {first:#04x}): protocol 0 or 1, or none at all"),
            )
            .at(self.place(0))
            .next("save it with torch.save's own protocol, 2")),
        }
    }

    fn place(&self, at: usize) -> usize {
        self.graph.base.saturating_add(at)
    }

    fn fail(&self, at: usize, what: impl Into<String>) -> ReadError {
        pickle(what).at(self.place(at))
    }

    fn truncated(&self, at: usize, wanted: u64) -> ReadError {
        ReadError::new(
            ReadErrorKind::Truncated,
            format!("the pickle needs {wanted} more bytes, {} are left", self.graph.text.len() - at.min(self.graph.text.len())),
        )
        .at(self.place(at))
    }

    fn take(&mut self, len: u64) -> Result<&'f [u8], ReadError> {
        let Some(bytes) = range(self.graph.text, self.pos, len) else {
            return Err(self.truncated(self.pos, len));
        };
        self.pos += bytes.len();
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, ReadError> {
        self.take(1).map(|b| b[0])
    }

    fn u32(&mut self) -> Result<u32, ReadError> {
        self.take(4).map(|b| u32_at(b, 0).unwrap_or(0))
    }

    fn u64(&mut self) -> Result<u64, ReadError> {
        self.take(8).map(|b| u64_at(b, 0).unwrap_or(0))
    }

    fn push(&mut self, value: Value) -> Result<(), ReadError> {
        self.budget.push(&mut self.stack, value)
    }

    fn floor(&self) -> usize {
        self.marks.last().map_or(0, |&m| m as usize)
    }

    fn pop(&mut self) -> Result<Value, ReadError> {
        if self.stack.len() <= self.floor() {
            return Err(pickle("takes a value from an empty stack (or from below a MARK)"));
        }
        self.stack.pop().ok_or_else(|| pickle("takes a value from an empty stack"))
    }

    fn top(&self) -> Result<Value, ReadError> {
        match self.stack.last() {
            Some(&value) if self.stack.len() > self.floor() => Ok(value),
            _ => Err(pickle("needs a value on the stack (above the last MARK)")),
        }
    }

    fn pop_mark(&mut self) -> Result<usize, ReadError> {
        self.marks.pop().map(|m| m as usize).ok_or_else(|| pickle("needs a MARK, and there is none"))
    }

    /// Carries out one opcode; true for STOP.
    fn step(&mut self, op: u8, at: usize) -> Result<bool, ReadError> {
        match op {
            b'.' => return self.stop().map(|()| true),
            0x95 => self.frame(),
            b'(' | b'0' | b'1' | b'2' => self.stack_op(op),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo_op(op),
            b'N' | 0x88 | 0x89 | b'K' | b'M' | b'J' | b'G' | 0x8a | 0x8b | b'B' | b'C' | 0x8e | 0x96 => self.plain(op, at as u32),
            b'X' | 0x8c | 0x8d | b'T' | b'U' => self.text(op, at as u32),
            b')' | 0x85..=0x87 | b't' => self.tuple_op(op),
            b']' | b'l' | b'a' | b'e' => self.list_op(op),
            b'}' | b'd' | b's' | b'u' => self.dict_op(op, at),
            0x8f..=0x91 => self.set_op(op),
            // What would be code elsewhere.
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)
            }
            0x93 => {
                let (Value::Str(name), Value::Str(module)) = (self.pop()?, self.pop()?) else {
                    return Err(pickle("STACK_GLOBAL from values that are no strings"));
                };
                let (module, name) = (self.graph.str(module), self.graph.str(name));
                self.global(module, name)
            }
            b'R' => self.reduce(at),
            0x81 | 0x92 => self.new_object(op),
            b'b' => self.build(),
            b'Q' => self.persistent_id(at),
            _ => Err(refused(op)),
        }?;
        Ok(false)
    }

    fn stop(&mut self) -> Result<(), ReadError> {
        self.graph.root = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() {
            return Err(pickle(format!("STOP with {} values and {} marks left", self.stack.len(), self.marks.len())));
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<(), ReadError> {
        let len = self.u64()?;
        let left = (self.graph.text.len() - self.pos) as u64;
        if self.frame_end.is_some() || len > left {
            return Err(pickle(format!("a frame of {len} bytes inside another, or past the end ({left} left)")));
        }
        self.frame_end = Some(self.pos + len as usize).filter(|_| len > 0);
        Ok(())
    }

    /// MARK, POP, POP_MARK, DUP.
    fn stack_op(&mut self, op: u8) -> Result<(), ReadError> {
        match op {
            b'(' => {
                let height = self.stack.len() as u32;
                self.budget.push(&mut self.marks, height)?;
            }
            b'0' if self.stack.len() > self.floor() => {
                self.stack.pop();
            }
            b'0' => {
                self.pop_mark()?;
            }
            b'1' => {
                let mark = self.pop_mark()?;
                self.stack.truncate(mark);
            }
            _ => {
                let value = self.top()?;
                self.push(value)?;
            }
        }
        Ok(())
    }

    /// BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET.
    fn memo_op(&mut self, op: u8) -> Result<(), ReadError> {
        let index = match op {
            0x94 => self.memo.len(),
            b'q' | b'h' => self.byte()?.into(),
            _ => self.u32()? as usize,
        };
        if matches!(op, b'h' | b'j') { self.get(index) } else { self.put(index) }
    }

    /// None, booleans, numbers, bytes.
    fn plain(&mut self, op: u8, here: u32) -> Result<(), ReadError> {
        let (len, value) = match op {
            b'N' => (0, Value::None),
            0x88 => (0, Value::Bool(true)),
            0x89 => (0, Value::Bool(false)),
            b'K' => (1, Value::Int(here)),
            b'M' => (2, Value::Int(here)),
            b'J' => (4, Value::Int(here)),
            b'G' => (8, Value::Plain),
            0x8a => (self.byte()?.into(), Value::Int(here)),
            0x8b => {
                let len = self.u32()?;
                if len > i32::MAX as u32 {
                    return Err(pickle(format!("LONG4 of a negative length, {}", len as i32)));
                }
                (len.into(), Value::Plain)
            }
            b'B' => (self.u32()?.into(), Value::Plain),
            b'C' => (self.byte()?.into(), Value::Plain),
            _ => (self.u64()?, Value::Plain),
        };
        self.take(len)?;
        self.push(value)
    }

    /// Strings; Python 2's, which may be text or bytes, need not be UTF-8.
    fn text(&mut self, op: u8, here: u32) -> Result<(), ReadError> {
        let len = match op {
            b'X' | b'T' => self.u32()?.into(),
            0x8c | b'U' => self.byte()?.into(),
            _ => self.u64()?,
        };
        self.string(len, here, !matches!(op, b'T' | b'U'))
    }

    fn tuple_op(&mut self, op: u8) -> Result<(), ReadError> {
        match op {
            b')' => self.tuple(self.stack.len()),
            b't' => {
                let mark = self.pop_mark()?;
                self.tuple(mark)
            }
            _ => {
                let count = usize::from(op - 0x84);
                let from = self.stack.len().checked_sub(count).filter(|&from| from >= self.floor());
                self.tuple(from.ok_or_else(|| pickle(format!("a tuple of {count} from too few values")))?)
            }
        }
    }

    /// EMPTY_LIST, LIST, APPEND, APPENDS.
    fn list_op(&mut self, op: u8) -> Result<(), ReadError> {
        match op {
            b']' => {
                let list = self.new_list()?;
                self.push(Value::List(list))
            }
            b'l' => {
                let mark = self.pop_mark()?;
                let list = Value::List(self.new_list()?);
                self.append(mark, list)?;
                self.push(list)
            }
            b'a' => {
                let from = self.stack.len().saturating_sub(1).max(self.floor());
                self.top()?;
                self.append_below(from)
            }
            _ => {
                let mark = self.pop_mark()?;
                self.append_below(mark)
            }
        }
    }

    /// EMPTY_DICT, DICT, SETITEM, SETITEMS.
    fn dict_op(&mut self, op: u8, at: usize) -> Result<(), ReadError> {
        match op {
            b'}' => {
                let dict = self.new_dict(None)?;
                self.push(Value::Dict(dict))
            }
            b'd' => {
                let mark = self.pop_mark()?;
                let dict = Value::Dict(self.new_dict(None)?);
                self.set_items(mark, dict, at)?;
                self.push(dict)
            }
            b's' => {
                let from = self.stack.len().checked_sub(2).filter(|&from| from > self.floor());
                self.set_items_below(from.ok_or_else(|| pickle("SETITEM from too few values"))?, at)
            }
            _ => {
                let mark = self.pop_mark()?;
                self.set_items_below(mark, at)
            }
        }
    }

    /// EMPTY_SET, ADDITEMS, FROZENSET.
    fn set_op(&mut self, op: u8) -> Result<(), ReadError> {
        if op == 0x8f {
            let set = self.new_list()?;
            return self.push(Value::Set(set));
        }
        let mark = self.pop_mark()?;
        if op == 0x91 {
            self.stack.truncate(mark);
            return self.push(Value::Plain);
        }
        let below = mark.checked_sub(1).filter(|&below| below >= self.floor());
        let Some(Value::Set(set)) = below.and_then(|below| self.stack.get(below).copied()) else {
            return Err(pickle("ADDITEMS to something that is no set"));
        };
        self.push_items(mark, set)
    }

    fn string(&mut self, len: u64, here: u32, must: bool) -> Result<(), ReadError> {
        let text = self.take(len)?;
        match std::str::from_utf8(text) {
            Ok(_) => self.push(Value::Str(here)),
            Err(_) if !must => self.push(Value::Plain),
            Err(e) => Err(pickle(format!("a string of {len} bytes is not UTF-8 from its byte {}", e.valid_up_to()))),
        }
    }

    fn line(&mut self) -> Result<&'f str, ReadError> {
        let rest = &self.graph.text[self.pos..];
        let window = &rest[..rest.len().min(GLOBAL_MAX + 1)];
        let Some(len) = window.iter().position(|&b| b == b'\n') else {
            return Err(if window.len() <= GLOBAL_MAX {
                self.truncated(self.pos, window.len() as u64 + 1)
            } else {
                pickle(format!("a GLOBAL's line is longer than {GLOBAL_MAX} bytes"))
            });
        };
        self.pos += len + 1;
        std::str::from_utf8(&window[..len]).map_err(|_| pickle("the name of a GLOBAL is not UTF-8"))
    }

    fn put(&mut self, index: usize) -> Result<(), ReadError> {
        let value = self.top()?;
        // A pickler numbers its memo 0, 1, 2 …, so no slot lies beyond the bytes read so far.
        if index > self.pos {
            return Err(pickle(format!("stores into memo slot {index} after {} bytes", self.pos)));
        }
        while self.memo.len() <= index {
            self.budget.push(&mut self.memo, None)?;
        }
        self.memo[index] = Some(value);
        Ok(())
    }

    fn get(&mut self, index: usize) -> Result<(), ReadError> {
        match self.memo.get(index) {
            Some(&Some(value)) => self.push(value),
            _ => Err(pickle(format!("memo slot {index} was never stored"))),
        }
    }

    /// Makes a tuple of the values from `from` on.
    fn tuple(&mut self, from: usize) -> Result<(), ReadError> {
        let index = self.graph.items.len() as u32;
        let count = (self.stack.len() - from) as u32;
        self.budget.push(&mut self.graph.items, Value::Count(count))?;
        for i in from..self.stack.len() {
            self.budget.push(&mut self.graph.items, self.stack[i])?;
        }
        self.stack.truncate(from);
        self.push(Value::Tuple(index))
    }

    fn new_list(&mut self) -> Result<u32, ReadError> {
        let index = self.graph.lists.len() as u32;
        self.budget.push(&mut self.graph.lists, List::default())?;
        Ok(index)
    }

    fn append_below(&mut self, from: usize) -> Result<(), ReadError> {
        let below = from.checked_sub(1).filter(|&below| below >= self.floor());
        let target = below.and_then(|below| self.stack.get(below).copied());
        self.append(from, target.ok_or_else(|| pickle("APPEND without a list"))?)
    }

    fn append(&mut self, from: usize, target: Value) -> Result<(), ReadError> {
        match target {
            Value::List(list) => self.push_items(from, list),
            // Of a class that behaves like a list: what is in it is of no interest.
            Value::Object(_) => {
                self.stack.truncate(from);
                Ok(())
            }
            _ => Err(pickle("APPEND to something that is no list")),
        }
    }

    /// Moves the values from `from` on into a list.
    fn push_items(&mut self, from: usize, list: u32) -> Result<(), ReadError> {
        if self.graph.lists.get(list as usize).is_some_and(|list| list.closed) {
            return Err(pickle("a list grows after an object was made of it"));
        }
        for i in from..self.stack.len() {
            self.graph.push_list_item(self.budget, list, self.stack[i])?;
        }
        self.stack.truncate(from);
        Ok(())
    }

    /// A dict, of a list of pairs if one is given, which may not grow from now on.
    fn new_dict(&mut self, source: Option<u32>) -> Result<u32, ReadError> {
        if let Some(list) = source.and_then(|list| self.graph.lists.get_mut(list as usize)) {
            list.closed = true;
        }
        let index = self.graph.dicts.len() as u32;
        self.budget.push(&mut self.graph.dicts, Dict { source, ..Dict::default() })?;
        Ok(index)
    }

    /// The dict of the pairs that are set on an object.
    fn pairs_of(&mut self, object: u32) -> Result<u32, ReadError> {
        if let Some(dict) = self.graph.objects.get(object as usize).and_then(|object| object.pairs) {
            return Ok(dict);
        }
        let dict = self.new_dict(None)?;
        if let Some(object) = self.graph.objects.get_mut(object as usize) {
            object.pairs = Some(dict);
        }
        Ok(dict)
    }

    fn set_items_below(&mut self, from: usize, at: usize) -> Result<(), ReadError> {
        let below = from.checked_sub(1).filter(|&below| below >= self.floor());
        let target = below.and_then(|below| self.stack.get(below).copied());
        self.set_items(from, target.ok_or_else(|| pickle("SETITEMS without a dict"))?, at)
    }

    fn set_items(&mut self, from: usize, target: Value, at: usize) -> Result<(), ReadError> {
        let dict = match target {
            Value::Dict(dict) => dict,
            Value::Object(object) => self.pairs_of(object)?,
            _ => return Err(pickle("SETITEMS on something that is no dict")),
        };
        if self.graph.dicts.get(dict as usize).is_some_and(|dict| dict.closed) {
            return Err(pickle("a dict grows after it became an object's state"));
        }
        let count = self.stack.len() - from;
        if !count.is_multiple_of(2) {
            return Err(pickle(format!("SETITEMS with an odd number of values, {count}")));
        }
        for i in (from..self.stack.len()).step_by(2) {
            match self.stack[i] {
                Value::Str(key) => self.graph.push_pair(self.budget, dict, key, self.stack[i + 1])?,
                _ => {
                    if let Some(dict) = self.graph.dicts.get_mut(dict as usize) {
                        dict.odd_key.get_or_insert(at as u32);
                    }
                }
            }
        }
        if let Some(dict) = self.graph.dicts.get_mut(dict as usize) {
            dict.len += (count / 2) as u32;
        }
        self.stack.truncate(from);
        Ok(())
    }

    /// NEWOBJ and NEWOBJ_EX: an object of a class, which here is opaque.
    fn new_object(&mut self, op: u8) -> Result<(), ReadError> {
        if op == 0x92 {
            self.pop()?; // the arguments by name
        }
        let (args, class) = (self.pop()?, self.pop()?);
        if !matches!((args, class), (Value::Tuple(_), Value::Global(_) | Value::Object(_))) {
            return Err(pickle("NEWOBJ of something that is no class and tuple"));
        }
        self.opaque(class, args)
    }

    /// What `class` makes of `args`.
    fn new_opaque(&mut self, class: Value, args: Value) -> Result<Value, ReadError> {
        let index = self.graph.objects.len() as u32;
        self.budget.push(&mut self.graph.objects, Object { class, args, state: Value::None, pairs: None })?;
        Ok(Value::Object(index))
    }

    /// Pushes what `class` makes of `args`.
    fn opaque(&mut self, class: Value, args: Value) -> Result<(), ReadError> {
        let made = self.new_opaque(class, args)?;
        self.push(made)
    }

    /// BUILD: an object is given its state.
    fn build(&mut self) -> Result<(), ReadError> {
        let state = self.pop()?;
        match self.top()? {
            // The state of a state_dict is its `_metadata`: plain data, which is dropped.
            Value::Dict(_) => Ok(()),
            Value::Object(index) => {
                let dict = match state {
                    Value::Tuple(tuple) => self.graph.tuple(tuple).first().copied().unwrap_or(Value::None),
                    state => state,
                };
                if let Value::Dict(dict) = dict
                    && let Some(dict) = self.graph.dicts.get_mut(dict as usize)
                {
                    dict.closed = true;
                }
                match self.graph.objects.get_mut(index as usize) {
                    Some(object) if object.state == Value::None => object.state = dict,
                    _ => return Err(pickle("BUILD gives an object a second state")),
                }
                Ok(())
            }
            _ => Err(pickle("BUILD sets the state of something that is no object")),
        }
    }
}

/// An opcode that is none, or one that a state_dict never needs.
fn refused(op: u8) -> ReadError {
    let name = match op {
        b'i' => "INST",
        b'o' => "OBJ",
        0x82..=0x84 => "EXT",
        0x97 | 0x98 => "NEXT_BUFFER",
        b'P' => "PERSID",
        b'I' | b'L' | b'F' | b'S' | b'V' | b'p' | b'g' => {
            return ReadError::new(ReadErrorKind::Unsupported, format!("opcode {:?} of pickle protocol 0", op as char))
                .next("save it with torch.save's own protocol, 2");
        }
        0x80 => return pickle("a second protocol inside the pickle"),
        _ => return pickle(format!("{op:#04x} is no opcode")),
    };
    pickle(format!("opcode {name}, which torch.save never writes")).next("save the state_dict alone: torch.save(model.state_dict(), …)")
}
