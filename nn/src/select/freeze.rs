//! What is trained, and what normalisations do with what is not.

use crate::Error;
use crate::name::Name;
use crate::record::{Recording, in_scope};
use nunatak_core::tape::EntryId;

/// PyTorch's `train()` and `eval()`: whether normalisations use the batch's statistics (and move
/// their running ones) or the running ones. Independent of what is trainable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Statistics of the batch.
    #[default]
    Train,
    /// Running statistics.
    Eval,
}

/// What normalisations do whose parameters are frozen, in train mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NormPolicy {
    /// As PyTorch: freezing gamma and beta changes nothing, statistics come from the batch and the
    /// running ones move.
    #[default]
    Updating,
    /// A frozen normalisation uses its running statistics, which stay as they are.
    Fixed,
}

/// Which parameters are trained.
#[derive(Clone, Copy, Default)]
pub enum Select<'a> {
    /// All.
    #[default]
    All,
    /// None.
    None,
    /// The head that the model names.
    Head,
    /// Names and prefixes with commas between: `layer4,fc`, `layer4.1.conv2.weight`; `all`, `none`, and
    /// `head` for the model's head.
    Names(&'a str),
    /// Those whose name satisfies a condition.
    Where(&'a dyn Fn(&str) -> bool),
}

impl core::fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        match self {
            Select::All => f.write_str("All"),
            Select::None => f.write_str("None"),
            Select::Head => f.write_str("Head"),
            Select::Names(names) => write!(f, "Names({names:?})"),
            Select::Where(_) => f.write_str("Where(..)"),
        }
    }
}

impl<'a> From<&'a str> for Select<'a> {
    fn from(names: &'a str) -> Self {
        Select::Names(names)
    }
}

impl Select<'_> {
    /// Whether a name is selected, where the head's names begin with `head`.
    pub fn has(&self, name: &str, head: &str) -> bool {
        let in_head = || !head.is_empty() && in_scope(name, head);
        match self {
            Select::All => true,
            Select::None => false,
            Select::Head => in_head(),
            Select::Names(names) => names.split(',').map(str::trim).any(|prefix| match prefix {
                "all" => true,
                "none" | "" => false,
                // A model that names no head may have a module of this name.
                "head" if !head.is_empty() => in_head(),
                prefix => in_scope(name, prefix),
            }),
            Select::Where(condition) => condition(name),
        }
    }

    /// An error for a name or prefix that no parameter has, or a head where there is none.
    pub(crate) fn check(&self, recording: &Recording) -> Result<(), Error> {
        let head = recording.text(recording.head);
        let known = |prefix: &str| recording.parameters().any(|id| in_scope(recording.entry_name(id), prefix));
        let unknown = |name: &str| Err(Error::UnknownName { name: Name::of(name) });
        match self {
            Select::Head if head.is_empty() => unknown("head"),
            Select::Names(names) => names.split(',').map(str::trim).try_for_each(|prefix| match prefix {
                "all" | "none" => Ok(()),
                "head" if !head.is_empty() => Ok(()),
                prefix if !prefix.is_empty() && known(prefix) => Ok(()),
                prefix => unknown(prefix),
            }),
            _ => Ok(()),
        }
    }

    /// Whether a recording's entry is a parameter that is selected.
    pub(crate) fn selects(&self, recording: &Recording, id: EntryId) -> bool {
        recording.entries[id.index()].kind == nunatak_core::program::EntryKind::Parameter
            && self.has(recording.entry_name(id), recording.text(recording.head))
    }
}
