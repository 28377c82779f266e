//! The bytes of a member of a zip file: as they lie in the file, or unpacked when they are needed.

#![forbid(unsafe_code)]

use crate::files::budget::no_memory;
use crate::files::error::{ReadError, ReadErrorKind};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use std::sync::{Arc, OnceLock};

/// Bytes of a file, of which a packed member's are unpacked the first time that they are asked for.
#[derive(Debug, Clone)]
pub(crate) enum Payload<'f> {
    Plain(&'f [u8]),
    Packed(Arc<Packed<'f>>),
}

#[derive(Debug)]
pub(crate) struct Packed<'f> {
    bytes: &'f [u8],
    /// Bytes when unpacked, as the archive declares them.
    len: usize,
    crc: u32,
    /// The member's name, and where its packed bytes lie in the file, for messages.
    name: Box<str>,
    at: usize,
    unpacked: OnceLock<Result<Box<[u8]>, ReadError>>,
}

impl<'f> Payload<'f> {
    /// A deflated member.
    pub(crate) fn deflated(bytes: &'f [u8], len: usize, crc: u32, name: &str, at: usize) -> Self {
        Payload::Packed(Arc::new(Packed { bytes, len, crc, name: name.into(), at, unpacked: OnceLock::new() }))
    }

    /// The bytes when unpacked.
    pub(crate) fn len(&self) -> usize {
        match self {
            Payload::Plain(bytes) => bytes.len(),
            Payload::Packed(packed) => packed.len,
        }
    }

    /// The bytes; unpacked and compared with their checksum, if that has not been done.
    pub(crate) fn get(&self) -> Result<&[u8], ReadError> {
        match self {
            Payload::Plain(bytes) => Ok(bytes),
            Payload::Packed(packed) => match packed.unpacked.get_or_init(|| packed.unpack()) {
                Ok(bytes) => Ok(bytes),
                Err(e) => Err(e.clone()),
            },
        }
    }

    /// The bytes, if they need no unpacking or were unpacked before.
    pub(crate) fn ready(&self) -> Option<&[u8]> {
        match self {
            Payload::Plain(bytes) => Some(bytes),
            Payload::Packed(packed) => packed.unpacked.get()?.as_deref().ok(),
        }
    }
}

impl Packed<'_> {
    fn unpack(&self) -> Result<Box<[u8]>, ReadError> {
        let fail =
            |what: String| Err(ReadError::new(ReadErrorKind::Zip, what).entry(&self.name).at(self.at).next("download or save it again"));
        let mut out = Vec::new();
        out.try_reserve_exact(self.len).map_err(|_| no_memory(self.len, 1).entry(&self.name))?;
        out.resize(self.len, 0);
        let mut state = Box::<DecompressorOxide>::default();
        let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, read, written) = decompress(&mut state, self.bytes, &mut out, 0, flags);
        match status {
            TINFLStatus::Done if written == self.len && read == self.bytes.len() => {}
            TINFLStatus::HasMoreOutput => {
                return fail(format!("grows past its declared size of {} bytes when it is unpacked", self.len));
            }
            _ => {
                return fail(format!(
                    "its deflated bytes are damaged: {written} of {} came out, from {read} of {}",
                    self.len,
                    self.bytes.len()
                ));
            }
        }
        let crc = crc32fast::hash(&out);
        if crc != self.crc {
            return fail(format!("its unpacked bytes have CRC {crc:#010x}, expected {:#010x}: they are damaged", self.crc));
        }
        Ok(out.into_boxed_slice())
    }
}
