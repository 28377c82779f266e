//! What can be wrong with a native file. No heap: it carries numbers and a short name.

use crate::name::Name;
use core::fmt;

/// Why bytes are no native file, or can't be used as one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NativeError {
    /// What is wrong.
    pub kind: NativeErrorKind,
    /// Where in the file.
    pub at: u64,
    /// The tensor, where it is one's.
    pub tensor: Option<Name>,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NativeErrorKind {
    /// Other first bytes.
    NotNative,
    /// The bytes end before the file does.
    Truncated {
        /// Bytes that are due.
        expected: u64,
        /// Bytes that are there.
        got: u64,
    },
    /// A version that is not read here.
    Version {
        /// The version.
        got: u32,
    },
    /// Written with its bytes the other way round.
    ByteOrder,
    /// The file's length is another than its tensors ask for, or something follows it.
    Length {
        /// Bytes that are due.
        expected: u64,
        /// Bytes that are there.
        got: u64,
    },
    /// The head does not give the hash that it names: it is damaged.
    HeadChecksum,
    /// A number of the head that can't be.
    Head(&'static str),
    /// An entry of the table that can't be.
    Tensor(&'static str),
    /// A tensor that lies elsewhere than the format says.
    Offset {
        /// Where it must lie.
        expected: u64,
        /// Where it says that it lies.
        got: u64,
    },
    /// Two tensors of one name.
    DuplicateName,
    /// Larger than this machine's address space.
    TooLarge,
    /// Data that do not give their checksum: they are damaged.
    TensorChecksum,
    /// Numbers other than zero for output channels that do not exist.
    Padding,
    /// Bytes other than zero between the tensors.
    Gap,
    /// The bytes do not begin at a multiple of 64, so they can't be used in place.
    Misaligned {
        /// How far after one they begin.
        off: usize,
    },
    /// This machine's numbers are big-endian: the weights can be copied, not used in place.
    BigEndian,
}

impl NativeErrorKind {
    pub(crate) fn at(self, at: usize) -> NativeError {
        NativeError { kind: self, at: at as u64, tensor: None }
    }
}

impl NativeError {
    pub(crate) fn of(self, tensor: &str) -> NativeError {
        NativeError { tensor: Some(Name::of(tensor)), ..self }
    }
}

impl fmt::Display for NativeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Self::NotNative => f.write_str("no native file (.nunatak): it begins otherwise; `nunatak convert` makes one"),
            Self::Truncated { expected, got } => write!(f, "the file ends after {got} bytes, {expected} are due; copy it again"),
            Self::Version { got } => {
                write!(f, "the file's version is {got}, this program reads {}; convert the weights again", super::VERSION)
            }
            Self::ByteOrder => f.write_str("the file's numbers have their bytes the other way round; native files are little-endian"),
            Self::Length { expected, got } => write!(f, "the file should have {expected} bytes and has {got}; copy it again"),
            Self::HeadChecksum => f.write_str("the head does not give its checksum: the file is damaged; copy it again"),
            Self::Head(what) | Self::Tensor(what) => write!(f, "{what}: no writer of this format has made this file"),
            Self::Offset { expected, got } => write!(f, "its data must begin at byte {expected}, not at {got}"),
            Self::DuplicateName => f.write_str("two tensors have this name"),
            Self::TooLarge => f.write_str("larger than this machine's address space"),
            Self::TensorChecksum => f.write_str("the data do not give their checksum: the file is damaged; copy it again"),
            Self::Padding => f.write_str("the output channels that fill its last block must be zero"),
            Self::Gap => f.write_str("the bytes between two tensors must be zero"),
            Self::Misaligned { off } => write!(
                f,
                "the bytes begin {off} after a multiple of 64; to be used in place they must begin at one (map the file, or take include_weights!)"
            ),
            Self::BigEndian => f.write_str("weights can't be used in place on a big-endian machine; copy them"),
        }
    }
}

impl fmt::Display for NativeError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if let Some(name) = &self.tensor {
            write!(f, "{}: ", name.as_str())?;
        }
        write!(f, "{} (at byte {})", self.kind, self.at)
    }
}

impl core::error::Error for NativeError {}
