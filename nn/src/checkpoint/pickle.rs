//! A reader of pickles that describe tensors: not an unpickler.
//!
//! It walks the opcodes of protocols 2 to 5 over a stack of 8-byte values and fills the tables of
//! [`Graph`]. Nothing is ever looked up, imported or called: a GLOBAL is compared with a short list
//! of (module, name) pairs, and REDUCE knows those few by heart. Opcodes: CPython's `pickletools`.

#![forbid(unsafe_code)]

mod globals;

use super::budget::Budget;
use super::bytes::{range, u32_at, u64_at};
use super::error::{ReadError, ReadErrorKind};
use super::graph::{Dict, Graph, Pair, Value};

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
        let here = at as u32;
        match op {
            b'.' => {
                self.graph.root = self.pop()?;
                if !self.stack.is_empty() || !self.marks.is_empty() {
                    return Err(pickle(format!("STOP with {} values and {} marks left", self.stack.len(), self.marks.len())));
                }
                return Ok(true);
            }
            0x95 => {
                let len = self.u64()?;
                let left = (self.graph.text.len() - self.pos) as u64;
                if self.frame_end.is_some() || len > left {
                    return Err(pickle(format!("a frame of {len} bytes inside another, or past the end ({left} left)")));
                }
                self.frame_end = Some(self.pos + len as usize).filter(|_| len > 0);
            }
            // The stack's own.
            b'(' => {
                let height = self.stack.len() as u32;
                self.budget.push(&mut self.marks, height)?;
            }
            b'0' => {
                if self.stack.len() > self.floor() {
                    self.stack.pop();
                } else {
                    self.pop_mark()?;
                }
            }
            b'1' => {
                let mark = self.pop_mark()?;
                self.stack.truncate(mark);
            }
            b'2' => {
                let value = self.top()?;
                self.push(value)?;
            }
            // The memo.
            b'q' => {
                let index = self.byte()?;
                self.put(index.into())?;
            }
            b'r' => {
                let index = self.u32()?;
                self.put(index as usize)?;
            }
            0x94 => self.put(self.memo.len())?,
            b'h' => {
                let index = self.byte()?;
                self.get(index.into())?;
            }
            b'j' => {
                let index = self.u32()?;
                self.get(index as usize)?;
            }
            // Plain values.
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' => self.skip_and_push(1, Value::Int(here))?,
            b'M' => self.skip_and_push(2, Value::Int(here))?,
            b'J' => self.skip_and_push(4, Value::Int(here))?,
            b'G' => self.skip_and_push(8, Value::Plain)?,
            0x8a => {
                let len = self.byte()?;
                self.skip_and_push(len.into(), Value::Int(here))?;
            }
            0x8b => {
                let len = self.u32()?;
                if len > i32::MAX as u32 {
                    return Err(pickle(format!("LONG4 of a negative length, {}", len as i32)));
                }
                self.skip_and_push(len.into(), Value::Plain)?;
            }
            b'X' => {
                let len = self.u32()?;
                self.string(len.into(), here, true)?;
            }
            0x8c => {
                let len = self.byte()?;
                self.string(len.into(), here, true)?;
            }
            0x8d => {
                let len = self.u64()?;
                self.string(len, here, true)?;
            }
            // Python 2's str: text or bytes.
            b'T' => {
                let len = self.u32()?;
                self.string(len.into(), here, false)?;
            }
            b'U' => {
                let len = self.byte()?;
                self.string(len.into(), here, false)?;
            }
            b'B' => {
                let len = self.u32()?;
                self.skip_and_push(len.into(), Value::Plain)?;
            }
            b'C' => {
                let len = self.byte()?;
                self.skip_and_push(len.into(), Value::Plain)?;
            }
            0x8e | 0x96 => {
                let len = self.u64()?;
                self.skip_and_push(len, Value::Plain)?;
            }
            // Containers.
            b')' => self.tuple(self.stack.len())?,
            0x85..=0x87 => {
                let count = usize::from(op - 0x84);
                let from = self.stack.len().checked_sub(count).filter(|&from| from >= self.floor());
                self.tuple(from.ok_or_else(|| pickle(format!("a tuple of {count} from too few values")))?)?;
            }
            b't' => {
                let mark = self.pop_mark()?;
                self.tuple(mark)?;
            }
            b']' => self.list()?,
            b'l' => {
                let mark = self.pop_mark()?;
                let list = self.new_list()?;
                self.append(mark, list)?;
                self.push(list)?;
            }
            b'a' => {
                let from = self.stack.len().saturating_sub(1).max(self.floor());
                self.top()?;
                self.append_below(from)?;
            }
            b'e' => {
                let mark = self.pop_mark()?;
                self.append_below(mark)?;
            }
            b'}' => {
                let dict = self.new_dict(None)?;
                self.push(dict)?;
            }
            b'd' => {
                let mark = self.pop_mark()?;
                let dict = self.new_dict(None)?;
                self.set_items(mark, dict, at)?;
                self.push(dict)?;
            }
            b's' => {
                let from = self.stack.len().checked_sub(2).filter(|&from| from > self.floor());
                let from = from.ok_or_else(|| pickle("SETITEM from too few values"))?;
                self.set_items_below(from, at)?;
            }
            b'u' => {
                let mark = self.pop_mark()?;
                self.set_items_below(mark, at)?;
            }
            0x8f => self.push(Value::Set)?,
            0x90 => {
                let mark = self.pop_mark()?;
                self.stack.truncate(mark);
                if self.top()? != Value::Set {
                    return Err(pickle("ADDITEMS to something that is no set"));
                }
            }
            0x91 => {
                let mark = self.pop_mark()?;
                self.stack.truncate(mark);
                self.push(Value::Plain)?;
            }
            // What would be code elsewhere.
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let (Value::Str(name), Value::Str(module)) = (self.pop()?, self.pop()?) else {
                    return Err(pickle("STACK_GLOBAL from values that are no strings"));
                };
                let (module, name) = (self.graph.str(module), self.graph.str(name));
                self.global(module, name)?;
            }
            b'R' => self.reduce(at)?,
            b'b' => {
                // The state of a state_dict is its `_metadata`: plain data, which is dropped.
                self.pop()?;
                if !matches!(self.top()?, Value::Dict(_)) {
                    return Err(pickle("BUILD sets the state of something that is no dict"));
                }
            }
            b'Q' => self.persistent_id(at)?,
            _ => return Err(refused(op)),
        }
        Ok(false)
    }

    fn skip_and_push(&mut self, len: u64, value: Value) -> Result<(), ReadError> {
        self.take(len)?;
        self.push(value)
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

    fn new_list(&mut self) -> Result<Value, ReadError> {
        let index = self.graph.lists.len() as u32;
        self.budget.push(&mut self.graph.lists, 0)?;
        Ok(Value::List(index))
    }

    fn list(&mut self) -> Result<(), ReadError> {
        let list = self.new_list()?;
        self.push(list)
    }

    fn append_below(&mut self, from: usize) -> Result<(), ReadError> {
        let below = from.checked_sub(1).filter(|&below| below >= self.floor());
        let target = below.and_then(|below| self.stack.get(below).copied());
        self.append(from, target.ok_or_else(|| pickle("APPEND without a list"))?)
    }

    fn append(&mut self, from: usize, target: Value) -> Result<(), ReadError> {
        let Value::List(list) = target else {
            return Err(pickle("APPEND to something that is no list"));
        };
        for i in from..self.stack.len() {
            self.graph.push_list_item(self.budget, list, self.stack[i])?;
        }
        self.stack.truncate(from);
        Ok(())
    }

    fn new_dict(&mut self, source: Option<u32>) -> Result<Value, ReadError> {
        let index = self.graph.dicts.len() as u32;
        self.budget.push(&mut self.graph.dicts, Dict { source, ..Dict::default() })?;
        Ok(Value::Dict(index))
    }

    fn set_items_below(&mut self, from: usize, at: usize) -> Result<(), ReadError> {
        let below = from.checked_sub(1).filter(|&below| below >= self.floor());
        let target = below.and_then(|below| self.stack.get(below).copied());
        self.set_items(from, target.ok_or_else(|| pickle("SETITEMS without a dict"))?, at)
    }

    fn set_items(&mut self, from: usize, target: Value, at: usize) -> Result<(), ReadError> {
        let Value::Dict(dict) = target else {
            return Err(pickle("SETITEMS on something that is no dict"));
        };
        let count = self.stack.len() - from;
        if !count.is_multiple_of(2) {
            return Err(pickle(format!("SETITEMS with an odd number of values, {count}")));
        }
        for i in (from..self.stack.len()).step_by(2) {
            match self.stack[i] {
                Value::Str(key) => {
                    let value = self.stack[i + 1];
                    self.budget.push(&mut self.graph.pairs, Pair { dict, key, value })?;
                }
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
}

/// An opcode that is none, or one that a state_dict never needs.
fn refused(op: u8) -> ReadError {
    let name = match op {
        b'i' => "INST",
        b'o' => "OBJ",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
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
    pickle(format!("opcode {name} makes an object of a class; nothing in a file is ever imported or run"))
        .next("save the state_dict alone: torch.save(model.state_dict(), …)")
}
