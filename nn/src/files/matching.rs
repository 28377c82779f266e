//! The one place that says which entry of a network a tensor of a file is, and whether it fits:
//! for every format, with and without a heap.

use crate::files::heapless::{Head, MOMENTUM_PREFIX};
use crate::record::in_scope;
use nunatak_core::program::{EntryKind, Program};
use nunatak_core::tape::EntryId;

/// A name in a file, however it is written there.
pub(crate) trait FileName {
    /// Its characters.
    fn chars(&self) -> impl Iterator<Item = char>;

    /// Whether it is this text after the first `skip` characters.
    fn is_after(&self, skip: usize, text: &str) -> bool {
        self.chars().skip(skip).eq(text.chars())
    }

    /// Whether it is this scope's, as `fc.weight` is `fc`'s.
    fn is_in(&self, scope: &str) -> bool {
        let mut own = self.chars();
        !scope.is_empty() && scope.chars().all(|c| own.next() == Some(c)) && own.next().is_none_or(|c| c == '.')
    }
}

impl FileName for &str {
    fn chars(&self) -> impl Iterator<Item = char> {
        str::chars(self)
    }
}

/// What a tensor of a file is to a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// An entry of the network.
    Entry(EntryId),
    /// The momentum of a parameter.
    Momentum(EntryId),
    /// Of another head, which is passed over since the network's own is kept.
    OtherHead,
    /// Nothing.
    Unknown,
}

/// What the tensor of this name is to a network.
pub(crate) fn role(program: &Program, name: &impl FileName, head: Head) -> Role {
    if let Some(id) = program.entries().find(|id| name.is_after(0, program.entry(*id).name())) {
        return Role::Entry(id);
    }
    let is_parameter = |id: &EntryId| program.entry(*id).kind() == EntryKind::Parameter;
    let momentum = MOMENTUM_PREFIX.chars().eq(name.chars().take(MOMENTUM_PREFIX.len()));
    let of = |id: &EntryId| is_parameter(id) && name.is_after(MOMENTUM_PREFIX.len(), program.entry(*id).name());
    match program.entries().find(|id| momentum && of(id)) {
        Some(id) => Role::Momentum(id),
        None if head == Head::Keep && name.is_in(program.head()) => Role::OtherHead,
        None => Role::Unknown,
    }
}

/// Whether an entry belongs to the network's head.
pub(crate) fn is_head(program: &Program, id: EntryId) -> bool {
    !program.head().is_empty() && in_scope(program.entry(id).name(), program.head())
}

/// Whether an entry is taken from the file: all but a head that is kept.
pub(crate) fn is_taken(program: &Program, id: EntryId, head: Head) -> bool {
    head == Head::Load || !is_head(program, id)
}

/// Whether a file must have an entry. Files from before PyTorch 0.4.1 have no counts.
pub(crate) fn is_due(program: &Program, id: EntryId, head: Head) -> bool {
    program.entry(id).kind() != EntryKind::Count && is_taken(program, id, head)
}

/// Whether a tensor has an entry's shape. A count may have the shape `[1]`, as PyTorch takes it.
pub(crate) fn has_shape(program: &Program, id: EntryId, shape: &[usize]) -> bool {
    let entry = program.entry(id);
    let (due, rank) = entry.shape();
    shape == &due[..rank] || (entry.kind() == EntryKind::Count && shape == [1])
}

/// What is wrong with a count.
pub(crate) fn wrong_count(count: i64) -> Option<&'static str> {
    (count < 0).then_some("the number of batches is negative; the file is damaged")
}
