//! The native file of weights, `.nunatak`: a network in the kernels' own layout, so that what is
//! frozen is used where it lies, in flash or in a memory-mapped file.
//!
//! Reading needs no heap and no operating system. [`Native::parse`] looks at every byte of the head
//! and at none of the data: its time does not depend on the size of the weights. [`Native::verify`]
//! reads them all.
//!
//! # The file, byte by byte
//!
//! All numbers are little-endian and unsigned. The file is a *head* and the *data* after it.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `89 6e 75 6e 61 74 61 6b`: the byte 0x89 and `nunatak` |
//! | 8 | 4 | version of the format: 1 |
//! | 12 | 4 | 0x01020304: the bytes `04 03 02 01` |
//! | 16 | 8 | length of the file, a multiple of 64 |
//! | 24 | 4 | length of the head, a multiple of 64 |
//! | 28 | 4 | number of tensors, at most 1024 |
//! | 32 | 4 | where the metadata begin |
//! | 36 | 4 | their length |
//! | 40 | 1 | layers of the residual network of basic blocks that it is, 1 to 8; 0 where it is another network: then the bytes to 80 are zero but for the one at 45 |
//! | 41 | 4 | the stem: kernel, stride, padding, 1 where a max pooling follows and 0 where not |
//! | 45 | 1 | 0: a whole network. 1: a delta, a part of one, to be laid over its base |
//! | 46 | 2 | zero |
//! | 48 | 8 | blocks of each layer; zero beyond the last |
//! | 56 | 16 | channels of each layer, 2 bytes each; zero beyond the last |
//! | 72 | 4 | channels of the images |
//! | 76 | 4 | classes; 0 without a head |
//! | 80 | 16 | zero |
//! | 96 | 32 | of a delta: the hash of its base. Else zero |
//! | 128 | 32 | the file's hash: SHA-256 of the head without these 32 bytes |
//! | 160 | 32 | zero |
//! | 192 | 40 each | the table: the tensors, in the order of PyTorch's `state_dict` |
//! | after it | | the tensors' names, one after the other, printable ASCII without blanks |
//! | after them | | the metadata: pairs of texts, each as length of the key (4), length of the value (4), key, value, in UTF-8 |
//! | after them | | zeros to the end of the head |
//!
//! An entry of the table:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 16 | the shape in PyTorch, 4 bytes each; 1 beyond the last dimension |
//! | 16 | 4 | where the data begin in the file, in units of 8 bytes |
//! | 20 | 2 | length of the name, 1 to 48 |
//! | 22 | 1 | number of dimensions, 0 to 4 |
//! | 23 | 1 | layout: 0, 1, 2, 16 or 32, see below |
//! | 24 | 16 | checksum: the first 16 bytes of the SHA-256 of the data |
//!
//! | layout | what the data are |
//! |---|---|
//! | 0 | one signed number of 8 bytes, without dimensions: `num_batches_tracked` |
//! | 1 | numbers of IEEE 754 binary32 in PyTorch's order |
//! | 2 | words of 32 bits that are no floats, in one dimension: a layer of 8 bits, see [`crate::int8`] |
//! | 16, 32 | the same in the kernels' order, see [`nunatak_kernels::WeightLayout`]: a weight of k x c x taps lies as `[k / block][c][taps][block]`, with zeros for the output channels beyond k. The block is the one that the kernels choose for k: 16 where that saves a half-empty block of 32 |
//!
//! The data of layout 0 come first, 8 bytes each, in the table's order; then the others in the
//! table's order, each at the next multiple of 64; zeros fill the gaps and the end. So every tensor
//! can lie in one place only, which the offsets must name: no overlap, no hole, and one file for one
//! content.
//!
//! **The hash** of a file covers the head, and through the tensors' checksums everything. A delta
//! names its base by it. A head that does not give its hash is refused before it is believed.
//!
//! A whole network has every line of its `state_dict` and no other; a delta any of them. Whether they
//! are the network's is found out where they are used (see [`crate::Trainer::with_weights`]).

mod aligned;
mod error;
#[cfg(feature = "std")]
mod file;
mod tensor;
mod write;

pub use aligned::Aligned;
pub use error::{NativeError, NativeErrorKind};
#[cfg(feature = "std")]
pub use file::write_native;
pub use tensor::{Layout, Tensor};
pub(crate) use write::{Head, Sink, Source, Spec, emit_floats, emit_unpacked, length, write};

use crate::models::{MAX_LAYERS, Recipe, Stem};
use core::fmt;
use core::ops::Range;
use sha2::{Digest, Sha256};

/// The first bytes of a native file.
pub const MAGIC: [u8; 8] = *b"\x89nunatak";
/// The version that is read and written.
pub const VERSION: u32 = 1;
/// Where the data of numbers lie: at multiples of this.
pub const ALIGN: usize = 64;
/// Tensors that a file can have: more than any network has.
pub const MAX_TENSORS: usize = 1024;
const BYTE_ORDER: u32 = 0x0102_0304;
/// Where the table begins.
const TABLE: usize = 192;
/// Bytes of a table's entry.
const ENTRY: usize = 40;
const HASH: Range<usize> = 128..160;
/// The largest dimension of a tensor.
const MAX_SIZE: u32 = 1 << 28;

/// What tells one native file from any other: see [the format](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A native file, borrowed: its head is checked, its data are not looked at.
#[derive(Clone, Copy)]
pub struct Native<'a> {
    /// The whole file.
    bytes: &'a [u8],
    recipe: Option<Recipe>,
    hash: Hash,
    base: Option<Hash>,
    tensors: u16,
    /// Tensors of layout 0.
    counts: u16,
    head: u32,
    metadata: [u32; 2],
}

impl fmt::Debug for Native<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Native").field("hash", &self.hash).field("base", &self.base).field("tensors", &self.tensors).finish_non_exhaustive()
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl<'a> Native<'a> {
    /// Reads the head of the file that `bytes` are. They may lie anywhere; only who uses the weights
    /// in place asks that they begin at a multiple of 64.
    ///
    /// # Errors
    /// [`NativeError`] with the place and the cause, for any bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Native<'a>, NativeError> {
        let native = Self::at_front(bytes)?;
        match native.bytes.len() == bytes.len() {
            true => Ok(native),
            false => Err(NativeErrorKind::Length { expected: native.bytes.len() as u64, got: bytes.len() as u64 }.at(16)),
        }
    }

    /// The same where more bytes may follow the file, as in flash.
    ///
    /// # Errors
    /// As for [`Native::parse`].
    pub fn at_front(bytes: &'a [u8]) -> Result<Native<'a>, NativeError> {
        let same = MAGIC.iter().zip(bytes).all(|(a, b)| a == b);
        if !same || bytes.is_empty() {
            return Err(NativeErrorKind::NotNative.at(0));
        }
        let truncated = |expected: u64| NativeErrorKind::Truncated { expected, got: bytes.len() as u64 }.at(bytes.len());
        if bytes.len() < TABLE {
            return Err(truncated(TABLE as u64));
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            got => return Err(NativeErrorKind::Version { got }.at(8)),
        }
        if u32_at(bytes, 12) != BYTE_ORDER {
            return Err(NativeErrorKind::ByteOrder.at(12));
        }
        let length = u64_at(bytes, 16);
        let Ok(whole) = usize::try_from(length) else { return Err(NativeErrorKind::TooLarge.at(16)) };
        let bytes = bytes.get(..whole).ok_or_else(|| truncated(length))?;
        let malformed = |what: &'static str, at: usize| NativeErrorKind::Head(what).at(at);
        if whole < TABLE || !whole.is_multiple_of(ALIGN) {
            return Err(malformed("the file's length can't be", 16));
        }
        let head = u32_at(bytes, 24);
        let fits = head as usize >= TABLE && head as usize <= whole;
        if !fits || !(head as usize).is_multiple_of(ALIGN) {
            return Err(malformed("the head's length can't be", 24));
        }
        let hash = hash_of(&bytes[..head as usize]);
        if hash.0 != bytes[HASH] {
            return Err(NativeErrorKind::HeadChecksum.at(HASH.start));
        }
        let tensors = u32_at(bytes, 28) as usize;
        let table = TABLE + tensors.min(MAX_TENSORS + 1) * ENTRY;
        if tensors > MAX_TENSORS || table > head as usize {
            return Err(malformed("the number of tensors can't be", 28));
        }
        let metadata = [u32_at(bytes, 32), u32_at(bytes, 36)];
        let end = metadata[0].checked_add(metadata[1]).filter(|&end| end <= head);
        let (Some(end), true) = (end, metadata[0] as usize >= table) else {
            return Err(malformed("the place of the metadata can't be", 32));
        };
        let zeros = [46..48, 80..96, 160..TABLE, end as usize..head as usize];
        if let Some(part) = zeros.into_iter().find(|part| bytes[part.clone()].iter().any(|b| *b != 0)) {
            return Err(malformed("there is something where zeros are due", part.start));
        }
        let named = &bytes[96..128];
        let base = match (bytes[45], named.iter().all(|b| *b == 0)) {
            (0, true) => None,
            (1, false) => named.try_into().ok().map(Hash),
            _ => return Err(malformed("a delta names a base, a whole network does not", 45)),
        };
        let layout_at = |i: usize| bytes[TABLE + i * ENTRY + 23];
        let counts = (0..tensors).filter(|&i| layout_at(i) == 0).count() as u16;
        let native = Native { bytes, recipe: recipe_at(bytes)?, hash, base, tensors: tensors as u16, counts, head, metadata };
        native.check_table()?;
        native.check_metadata()?;
        Ok(native)
    }

    /// Every entry once: names, shapes and places.
    fn check_table(&self) -> Result<(), NativeError> {
        let mut walk = self.tensors();
        while let Some(tensor) = walk.step()? {
            let at = TABLE + (walk.next - 1) * ENTRY;
            // A quadratic walk, over at most 1024 names.
            if self.tensors().take(walk.next - 1).any(|other| other.name() == tensor.name()) {
                return Err(NativeErrorKind::DuplicateName.at(at).of(tensor.name()));
            }
        }
        if walk.name != self.metadata[0] as usize {
            return Err(NativeErrorKind::Head("the names do not end where the metadata begin").at(32));
        }
        let end = walk.end();
        if end != Some(self.bytes.len()) {
            let (expected, got) = (end.unwrap_or(usize::MAX) as u64, self.bytes.len() as u64);
            return Err(NativeErrorKind::Length { expected, got }.at(16));
        }
        Ok(())
    }

    fn check_metadata(&self) -> Result<(), NativeError> {
        let mut walk = self.metadata();
        while !walk.rest.is_empty() {
            let at = (self.metadata[0] + self.metadata[1]) as usize - walk.rest.len();
            let (key, _) = walk.next().ok_or(NativeErrorKind::Head("the metadata are no pairs of texts").at(at))?;
            let earlier = self.metadata().take_while(|(other, _)| other.as_ptr() != key.as_ptr());
            if earlier.take(MAX_TENSORS).filter(|(other, _)| *other == key).count() > 0 {
                return Err(NativeErrorKind::Head("a key of the metadata comes twice").at(at));
            }
        }
        Ok(())
    }

    /// Reads all data: checksums, and zeros where the format asks for them. It takes as long as
    /// hashing the file.
    ///
    /// # Errors
    /// [`NativeError`] that names the first tensor whose data are not what was written.
    pub fn verify(&self) -> Result<(), NativeError> {
        let zeros = |part: Range<usize>| match self.bytes[part.clone()].iter().position(|b| *b != 0) {
            Some(i) => Err(NativeErrorKind::Gap.at(part.start + i)),
            None => Ok(()),
        };
        let mut end = self.head as usize + 8 * self.counts as usize;
        for tensor in self.tensors() {
            tensor.verify()?;
            if tensor.layout() != Layout::Count {
                zeros(end..tensor.offset())?;
                end = tensor.offset() + tensor.bytes().len();
            }
        }
        zeros(end..self.bytes.len())
    }

    /// The network, where it is a residual one of basic blocks; others are known by their tensors and what the
    /// metadata say.
    pub fn recipe(&self) -> Option<&Recipe> {
        self.recipe.as_ref()
    }
    /// What tells this file from any other.
    pub fn hash(&self) -> Hash {
        self.hash
    }
    /// Of a delta: the hash of the file that it is laid over.
    pub fn base(&self) -> Option<Hash> {
        self.base
    }
    /// The whole file.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
    /// The tensors, in the order of the table.
    pub fn tensors(&self) -> Tensors<'a> {
        let name = TABLE + self.tensors as usize * ENTRY;
        let counts = self.head as usize;
        let floats = (counts + 8 * self.counts as usize).checked_next_multiple_of(ALIGN);
        Tensors { file: *self, next: 0, name, counts, floats }
    }
    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'a>> {
        self.tensors().find(|tensor| tensor.name() == name)
    }
    /// Pairs of texts: whatever the writer wanted to say besides.
    pub fn metadata(&self) -> Metadata<'a> {
        let start = self.metadata[0] as usize;
        Metadata { rest: &self.bytes[start..start + self.metadata[1] as usize] }
    }
    /// The value of a key of the metadata.
    pub fn metadata_of(&self, key: &str) -> Option<&'a str> {
        self.metadata().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// The whole file as numbers, to be used where it lies.
    ///
    /// # Errors
    /// [`NativeErrorKind::Misaligned`] where it does not begin at a multiple of 64,
    /// [`NativeErrorKind::BigEndian`] on a machine that reads numbers the other way round.
    pub fn in_place(&self) -> Result<&'a [f32], NativeError> {
        if cfg!(target_endian = "big") {
            return Err(NativeErrorKind::BigEndian.at(12));
        }
        let off = self.bytes.as_ptr().addr() % ALIGN;
        let numbers = bytemuck::try_cast_slice(self.bytes).ok().filter(|_| off == 0);
        numbers.ok_or(NativeErrorKind::Misaligned { off }.at(0))
    }
}

fn hash_of(head: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(&head[..HASH.start]);
    hash.update(&head[HASH.end..]);
    Hash(hash.finalize().into())
}

fn recipe_at(bytes: &[u8]) -> Result<Option<Recipe>, NativeError> {
    let layers = bytes[40] as usize;
    let wrong = |what: &'static str, at: usize| NativeErrorKind::Head(what).at(at);
    if bytes[40..80].iter().enumerate().all(|(i, b)| *b == 0 || i == 5) {
        return Ok(None);
    }
    if layers == 0 || layers > MAX_LAYERS {
        return Err(wrong("a network has 1 to 8 layers", 40));
    }
    let pool = match bytes[44] {
        0 => false,
        1 => true,
        _ => return Err(wrong("the stem pools, 1, or does not, 0", 44)),
    };
    let stem = Stem { kernel: bytes[41].into(), stride: bytes[42].into(), pad: bytes[43].into(), pool };
    let (mut blocks, mut widths) = ([0; MAX_LAYERS], [0; MAX_LAYERS]);
    for (i, (block, width)) in blocks.iter_mut().zip(&mut widths).enumerate() {
        (*block, *width) = (bytes[48 + i].into(), u16_at(bytes, 56 + 2 * i).into());
    }
    if blocks[layers..].iter().chain(&widths[layers..]).any(|n| *n != 0) {
        return Err(wrong("there are blocks beyond the last layer", 48));
    }
    let (in_channels, classes) = (u32_at(bytes, 72) as usize, u32_at(bytes, 76) as usize);
    Recipe::new(&blocks[..layers], &widths[..layers], stem, in_channels, classes).map(Some).map_err(|e| match e {
        crate::Error::Recipe(what) => wrong(what, 40),
        _ => wrong("this network can't be", 40),
    })
}

/// The tensors of a file, in order.
#[derive(Clone)]
pub struct Tensors<'a> {
    file: Native<'a>,
    next: usize,
    /// Where the next name begins, the next data of layout 0, and the next others.
    name: usize,
    counts: usize,
    floats: Option<usize>,
}

impl<'a> Tensors<'a> {
    /// Where the file must end, once all were seen.
    fn end(&self) -> Option<usize> {
        // Without floats the counts are last.
        self.floats?.max(self.counts).checked_next_multiple_of(ALIGN)
    }

    fn step(&mut self) -> Result<Option<Tensor<'a>>, NativeError> {
        if self.next == self.file.tensors as usize {
            return Ok(None);
        }
        let bytes = self.file.bytes;
        let at = TABLE + self.next * ENTRY;
        let entry = &bytes[at..at + ENTRY];
        let len = u16_at(entry, 20) as usize;
        let wrong = |what: &'static str| NativeErrorKind::Tensor(what).at(at);
        let text = bytes.get(self.name..self.name + len).filter(|_| self.name + len <= self.file.metadata[0] as usize);
        let name = text.filter(|t| (1..=48).contains(&t.len()) && t.iter().all(u8::is_ascii_graphic));
        let name = name.and_then(|t| core::str::from_utf8(t).ok()).ok_or(wrong("its name is no name"))?;
        let (layout, numbers, shape, rank) = tensor::layout(entry).map_err(|kind| kind.at(at).of(name))?;
        let too_large = || NativeErrorKind::TooLarge.at(at).of(name);
        let (offset, data_len) = match layout {
            Layout::Count => (self.counts, 8),
            _ => (self.floats.ok_or_else(too_large)?, numbers.checked_mul(4).ok_or_else(too_large)?),
        };
        let end = offset.checked_add(data_len).ok_or_else(too_large)?;
        let named = u64::from(u32_at(entry, 16)) * 8;
        if named != offset as u64 {
            return Err(NativeErrorKind::Offset { expected: offset as u64, got: named }.at(at + 16).of(name));
        }
        let data = bytes.get(offset..end).ok_or_else(|| {
            let (expected, got) = (end as u64, bytes.len() as u64);
            NativeErrorKind::Truncated { expected, got }.at(at).of(name)
        })?;
        match layout {
            Layout::Count => self.counts = end,
            _ => self.floats = end.checked_next_multiple_of(ALIGN),
        }
        self.name += len;
        self.next += 1;
        Ok(Some(Tensor::new(name, shape, rank, layout, data, offset, &entry[24..])))
    }
}

impl<'a> Iterator for Tensors<'a> {
    type Item = Tensor<'a>;
    fn next(&mut self) -> Option<Tensor<'a>> {
        // Whoever holds a `Native` has had every entry checked.
        self.step().ok().flatten()
    }
}

/// The metadata of a file, in order.
#[derive(Clone)]
pub struct Metadata<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Metadata<'a> {
    type Item = (&'a str, &'a str);
    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let rest = self.rest;
        let lengths = rest.get(..8)?;
        let key = usize::try_from(u32_at(lengths, 0)).ok()?.checked_add(8)?;
        let value = usize::try_from(u32_at(lengths, 4)).ok()?.checked_add(key)?;
        let pair = (core::str::from_utf8(rest.get(8..key)?).ok()?, core::str::from_utf8(rest.get(key..value)?).ok()?);
        self.rest = &rest[value..];
        Some(pair)
    }
}
