//! The memory that a parser may hold: the file's size and 768 KiB on top.
//!
//! One byte of a pickle can push an object, and a header can name a million empty tensors; so what
//! a hostile file costs is counted before it is allocated. The zip table (at most 3/4 of the file)
//! comes on top, which keeps the whole under the promised 2 × file + 1 MiB. A real checkpoint
//! spends a few kilobytes beside its payloads.

#![forbid(unsafe_code)]

use super::error::{ReadError, ReadErrorKind};

pub(crate) struct Budget {
    limit: usize,
    used: usize,
}

impl Budget {
    pub(crate) fn for_file(len: usize) -> Self {
        Self { limit: len.saturating_add(768 << 10), used: 0 }
    }

    /// For what was counted before.
    pub(crate) fn unlimited() -> Self {
        Self { limit: usize::MAX, used: 0 }
    }

    /// Counts `bytes`, or says that they are too many.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), ReadError> {
        let used = self.used.saturating_add(bytes);
        if used > self.limit {
            return Err(ReadError::new(
                ReadErrorKind::TooBig,
                format!("the file describes more objects than its size justifies: they need over {} bytes of memory", self.limit),
            )
            .next("save the state_dict alone"));
        }
        self.used = used;
        Ok(())
    }

    pub(crate) fn give(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// `vec.push(value)`, counted; while the vector moves, old and new place are both counted.
    pub(crate) fn push<T>(&mut self, vec: &mut Vec<T>, value: T) -> Result<(), ReadError> {
        if vec.len() == vec.capacity() {
            let old = vec.capacity();
            self.reserve(vec, (old / 2).max(8))?;
        }
        vec.push(value);
        Ok(())
    }

    /// `vec.reserve_exact(more)`, counted.
    pub(crate) fn reserve<T>(&mut self, vec: &mut Vec<T>, more: usize) -> Result<(), ReadError> {
        let size = size_of::<T>();
        let old = vec.capacity();
        self.take(vec.len().saturating_add(more).saturating_mul(size))?;
        vec.try_reserve_exact(more).map_err(|_| no_memory(more, size))?;
        self.give(old * size);
        Ok(())
    }
}

pub(crate) fn no_memory(count: usize, size: usize) -> ReadError {
    ReadError::new(ReadErrorKind::TooBig, format!("the system has no memory for {count} elements of {size} bytes"))
}
