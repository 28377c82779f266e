//! `.safetensors` read from and written to memory, without a heap: for boards, and for C.
//!
//! The readers of [`crate::files`] take more (other types, `.pth`, names with `module.`) and
//! report all differences at once, but need a heap. Here a file is a slice of bytes, walked where it
//! lies: numbers are `F32`, counts are `I64`, and the first difference is the error.
//!
//! | file | what it does |
//! |---|---|
//! | `load` | from a file into a trainer |
//! | `save` | from a trainer into a file |

mod load;
mod save;

pub use super::safetensors::{FormatError, Safetensors, TensorRef};

use super::dtype::Dtype;
use crate::models::Stem;
use crate::name::Name;
use core::fmt;
use nunatak_core::program::EntryKind;

/// Whether a file's head is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Head {
    /// Every entry of the network must be in the file.
    Load,
    /// All but the head, which stays as it is whatever the file has.
    Keep,
}

/// Why a file can't be read, does not fit the network, or has no room.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum FileError {
    /// The bytes are no `.safetensors`, or contradict themselves.
    Format(FormatError),
    /// An entry that the network has and the file has not.
    Missing {
        /// The first such entry.
        name: Name,
        /// How many more there are.
        more: usize,
    },
    /// An entry that the file has and the network has not.
    Unexpected {
        /// Its name, cut to 48 bytes.
        name: Name,
    },
    /// An entry of another shape.
    Misshapen {
        /// Its name.
        name: Name,
        /// The shape in the network, and the number of its dimensions.
        expected: ([u32; 4], u8),
        /// The shape in the file, its first four sizes, and the number of its dimensions.
        got: ([u32; 4], u8),
        /// Whether it belongs to the head.
        head: bool,
    },
    /// An entry that holds what can't be.
    Value {
        /// Its name.
        name: Name,
        /// What is wrong.
        what: &'static str,
    },
    /// The room for a file is too small.
    Room {
        /// Bytes that it takes.
        needed: usize,
        /// Bytes that there are.
        given: usize,
    },
    /// The trainer refused.
    Trainer(crate::Error),
}

impl From<FormatError> for FileError {
    fn from(e: FormatError) -> Self {
        FileError::Format(e)
    }
}

impl From<crate::Error> for FileError {
    fn from(e: crate::Error) -> Self {
        FileError::Trainer(e)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            FileError::Format(e) => write!(f, "no usable .safetensors: {e}"),
            FileError::Missing { name, more: 0 } => write!(f, "the file has no {name}"),
            FileError::Missing { name, more } => write!(f, "the file has no {name}, nor {more} other entries of this network"),
            FileError::Unexpected { name } => write!(f, "this network has no entry {name}, which is in the file"),
            FileError::Misshapen { name, expected, got, head } => {
                write!(
                    f,
                    "{name} has the shape {:?} in the file, {:?} was expected",
                    &got.0[..usize::from(got.1.min(4))],
                    &expected.0[..usize::from(expected.1.min(4))]
                )?;
                if *head {
                    f.write_str("; the head has another number of classes: ask for that number, or keep a head of your own")?;
                }
                Ok(())
            }
            FileError::Value { name, what } => write!(f, "{name}: {what}"),
            FileError::Room { needed, given } => write!(f, "the file takes {needed} bytes, there is room for {given}"),
            FileError::Trainer(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for FileError {}

/// The key of the metadata under which a recipe is saved.
pub const RECIPE_KEY: &str = "nunatak.recipe";

/// How the names of momentum buffers begin in a file of a run; the parameter's name follows.
pub const MOMENTUM_PREFIX: &str = "momentum.";
/// How the names of averaged weights begin in a file of a run; the entry's name follows.
pub const AVERAGE_PREFIX: &str = "ema.";
/// What a run writes beside a state dict: no state dicts of their own.
pub const BESIDE: [&str; 2] = [MOMENTUM_PREFIX, AVERAGE_PREFIX];

/// The type by which an entry of a kind is written.
fn dtype_of(kind: EntryKind) -> Dtype {
    match kind {
        EntryKind::Count => Dtype::I64,
        EntryKind::Words => Dtype::I32,
        EntryKind::Parameter | EntryKind::RunningMean | EntryKind::RunningVar => Dtype::F32,
    }
}

/// What a state dict does not tell of a recipe, as it is written into the metadata.
pub struct StemText(pub Stem);

impl fmt::Display for StemText {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Stem { kernel, stride, pad, pool } = self.0;
        write!(f, "stem {kernel} {stride} {pad} {}", u8::from(pool))
    }
}
