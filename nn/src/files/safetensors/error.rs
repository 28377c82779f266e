//! Why bytes are no `.safetensors`, with the numbers that disagree and without a heap.

use crate::files::dtype::Dtype;
use crate::name::Name;
use core::fmt;

/// Why bytes are no usable `.safetensors`: where it shows, in which tensor, and what is wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FormatError {
    at: usize,
    name: Option<Name>,
    pub(super) what: What,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum What {
    Text(&'static str),
    /// The file has fewer bytes than the header's length takes.
    Short(usize),
    HeaderLength(u64),
    HeaderCut {
        len: u64,
        room: u64,
    },
    /// The header's first byte.
    Begins(u8),
    FieldTwice(&'static str),
    UnknownField(Name),
    UnknownType(Name),
    Backwards([usize; 2]),
    Past {
        offsets: [usize; 2],
        data: usize,
    },
    /// Data of another length than shape and type ask for.
    Length {
        bytes: usize,
        shape: [u32; 8],
        rank: u8,
        dtype: DtypeName,
    },
    /// Where a tensor begins, and where the one before it in the header ends.
    OutOfPlace {
        begin: usize,
        end: usize,
    },
    /// Bytes after the last tensor.
    After(usize),
}

/// The name of a type, in few bytes: an error is returned by every function of a reader.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct DtypeName([u8; 10]);

impl DtypeName {
    pub(super) fn of(dtype: Dtype) -> DtypeName {
        let mut name = [0; 10];
        name.iter_mut().zip(dtype.name().bytes()).for_each(|(to, from)| *to = from);
        DtypeName(name)
    }
}

impl fmt::Display for DtypeName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(core::str::from_utf8(&self.0).unwrap_or("").trim_end_matches('\0'))
    }
}

impl FormatError {
    pub(super) fn new(at: usize, what: What) -> Self {
        FormatError { at, name: None, what }
    }

    /// The same of a tensor, unless one is named already.
    pub(super) fn of(mut self, name: impl fmt::Display) -> Self {
        self.name.get_or_insert_with(|| Name::of(name));
        self
    }

    /// The byte of the file where it shows.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// The tensor, its name cut to 48 bytes.
    pub fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Text(text) => f.write_str(text),
            What::Short(bytes) => write!(f, "the file has {bytes} bytes, the header's length alone takes 8"),
            What::HeaderLength(len) => {
                write!(f, "the header is said to be {len} bytes long, expected 2 to {}", super::HEADER_MAX)
            }
            What::HeaderCut { len, room } => write!(f, "the header is said to be {len} bytes long, {room} follow"),
            What::Begins(0xef) => f.write_str("the header begins with a byte order mark, expected '{'"),
            What::Begins(byte) => write!(f, "the header begins with {byte:#04x}, expected '{{'"),
            What::FieldTwice(field) => write!(f, "the field \"{field}\" appears twice"),
            What::UnknownField(name) => write!(f, "unknown field \"{name}\""),
            What::UnknownType(name) => write!(f, "the dtype \"{name}\" is unknown, and so is the size of its elements"),
            What::Backwards([begin, end]) => write!(f, "data_offsets [{begin}, {end}] run backwards"),
            What::Past { offsets: [begin, end], data } => {
                write!(f, "data_offsets [{begin}, {end}] reach past the {data} bytes of data")
            }
            What::Length { bytes, shape, rank, dtype } => {
                write!(f, "{bytes} bytes of data for shape {:?} of {dtype}, which needs another number", &shape[..usize::from(*rank)])
            }
            What::OutOfPlace { begin, end } => {
                let what = if begin < end { "overlaps the tensor before it" } else { "leaves a hole before it" };
                write!(f, "{what}: begins at byte {begin} of the data, the one before it in the header ends at {end}")
            }
            What::After(bytes) => write!(f, "{bytes} bytes after the last tensor belong to none"),
        }
    }
}

#[cfg(feature = "std")]
impl FormatError {
    /// What is wrong, without name and place.
    pub(super) fn text(&self) -> impl fmt::Display {
        self.what
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}: ")?;
        }
        write!(f, "{} (byte {})", self.what, self.at)
    }
}

impl core::error::Error for FormatError {}
