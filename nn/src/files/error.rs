//! What can go wrong while reading or writing a checkpoint.
//!
//! One type for reading: where (byte offset, tensor name), what, and what to do next. Whatever is
//! quoted from the file is escaped and cut short, since a hostile name may be 64 KiB of terminal
//! control codes.

#![forbid(unsafe_code)]

use super::native::NativeError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The kind of a [`ReadError`], for programs; people read its [`Display`](fmt::Display) text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadErrorKind {
    /// The bytes are no checkpoint, but something else that could be named (a web page, a tar, …).
    WrongFile,
    /// The file ends before its parts do, or is empty.
    Truncated,
    /// The zip container of a `.pth` file contradicts itself.
    Zip,
    /// A pickle of a `.pth` file is malformed, or asks for something that is never run.
    Pickle,
    /// The header of a `.safetensors` file is malformed.
    Safetensors,
    /// A native file is malformed or damaged.
    Native,
    /// A tensor's description contradicts its bytes.
    Tensor,
    /// Well-formed, but with something in it that this reader leaves out.
    Unsupported,
    /// Several parts of the file are what was asked for, or none is.
    Ambiguous,
    /// Reading on would take more memory than the file's size justifies.
    TooBig,
}

/// Why bytes were refused by [`Checkpoint::parse`](super::Checkpoint::parse) or an
/// [`Entry`](super::Entry)'s readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    kind: ReadErrorKind,
    at: Option<u64>,
    entry: Option<Box<str>>,
    what: String,
    next: Option<&'static str>,
}

impl ReadError {
    pub(crate) fn new(kind: ReadErrorKind, what: impl Into<String>) -> Self {
        Self { kind, at: None, entry: None, what: what.into(), next: None }
    }

    pub(crate) fn at(mut self, offset: usize) -> Self {
        self.at = Some(offset as u64);
        self
    }

    pub(crate) fn entry(mut self, name: &str) -> Self {
        self.entry = Some(quote(name).into());
        self
    }

    pub(crate) fn next(mut self, advice: &'static str) -> Self {
        self.next = Some(advice);
        self
    }

    /// The kind of the error.
    pub fn kind(&self) -> ReadErrorKind {
        self.kind
    }

    /// The byte offset in the file at which it was found, where there is one.
    pub fn offset(&self) -> Option<u64> {
        self.at
    }

    /// The tensor or member concerned, quoted and shortened, where there is one.
    pub fn entry_name(&self) -> Option<&str> {
        self.entry.as_deref()
    }
}

impl From<NativeError> for ReadError {
    fn from(e: NativeError) -> Self {
        let error = ReadError::new(ReadErrorKind::Native, e.kind.to_string()).at(e.at as usize);
        match &e.tensor {
            Some(name) => error.entry(name.as_str()),
            None => error,
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(entry) = &self.entry {
            write!(f, "{entry}: ")?;
        }
        f.write_str(&self.what)?;
        if let Some(at) = self.at {
            write!(f, " (at byte {at})")?;
        }
        if let Some(next) = self.next {
            write!(f, "; {next}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ReadError {}

/// Text of the file made fit for a message: quoted, escaped, at most 80 characters.
pub(crate) fn quote(text: &str) -> String {
    std::format!("\"{}\"", Shown(text))
}

/// The same without quotes.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        const MAX: usize = 80;
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(MAX) {
            c.escape_debug().fmt(f)?;
        }
        if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// Why a checkpoint was not written. The file that stood at the path before is untouched, unless [`WriteError::Io`] says that
/// the new one is there.
#[derive(Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// The file system refused.
    Io {
        /// The file that was to be written.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
        /// Whether the new file is there already, and only may not outlast a power cut.
        replaced: bool,
    },
    /// A tensor's shape asks for another number of elements than its data has.
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The elements that were given.
        given: usize,
    },
    /// Two tensors have one name.
    Duplicate {
        /// The name.
        name: String,
    },
    /// A name that the format cannot hold.
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The format has no room for so much.
    TooBig {
        /// What there is too much of.
        what: &'static str,
        /// How much was given.
        given: u64,
        /// The most that fits.
        limit: u64,
    },
}

impl WriteError {
    pub(crate) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), doing, source, replaced: false }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, doing, source, replaced } => {
                let now = match replaced {
                    false => "what stood there is unchanged",
                    true => "the new file is there, but a power cut may bring back what stood there",
                };
                write!(f, "{}: {doing} failed: {source}; {now}", path.display())
            }
            Self::Shape { name, shape, given } => {
                write!(f, "{}: shape {shape:?} does not have the {given} elements given", quote(name))
            }
            Self::Duplicate { name } => write!(f, "{}: two tensors have this name", quote(name)),
            Self::Name { name, why } => write!(f, "{}: {why}", quote(name)),
            Self::TooBig { what, given, limit } => {
                write!(f, "{what}: {given}, the format holds at most {limit}; write .safetensors or split the file")
            }
        }
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
