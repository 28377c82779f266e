//! A planned step as bytes: what was recorded and planned, for something small to execute.
//!
//! A program is position-independent and little-endian; reading needs no alignment, no heap and no table
//! in memory. [`Program::check`] proves its structure once. What the operations' own numbers mean is
//! known to the crate that has the operations.
//!
//! # The program, byte by byte
//!
//! Everything is a word: an unsigned number of 4 bytes, little-endian, or the bits of an IEEE 754
//! binary32. Places count words from the program's start. The length is a multiple of 64 bytes.
//!
//! | word | what |
//! |---|---|
//! | 0, 1 | the bytes `89 6e 75 6e 73 74 65 70`: 0x89 and `nunstep` |
//! | 2 | version of the format: 3 |
//! | 3 | 0x01020304: the bytes `04 03 02 01` |
//! | 4 | words in all |
//! | 5, 6 | checksum: FNV-1a of 64 bits over all bytes, these eight taken as zero; low word first |
//! | 7 | flags, see [`Flags`] |
//! | 8 | instruction-set level: the target's number for it |
//! | 9 | threads at most |
//! | 10 | memory setting: the target's number for it |
//! | 11 | class of CPU that the algorithms were chosen for; 0: none |
//! | 12, 13 | hash of the tuning table that they were chosen by; 0: none |
//! | 14 … 21 | SHA-256 of the weights file that is read in place; 0: none |
//! | 22 | numbers of that file, in units of 64 bytes |
//! | 23 | the root's node + 1; 0: no backward |
//! | 24, 25 | regions: where, how many |
//! | 26, 27 | entries of the state dict: where, how many |
//! | 28, 29 | order of the first draws of an initialisation: where, how many numbers of entries |
//! | 30, 31 | values with a door (inputs, kept values): where, how many |
//! | 32, 33 | forward calls: where, how many words |
//! | 34, 35 | backward calls: where, how many words |
//! | 36, 37 | entries that a step updates: where, how many |
//! | 38, 39 | text: where, how many bytes (padded by zeros to a whole word) |
//! | 40, 41 | the model's description in the text: first byte, bytes |
//! | 42, 43 | the prefix of the head's names in the text: first byte, bytes |
//! | 44 … 49 | units in use at the busiest time: weights, statistics, momentum, gradients, activations, scratch |
//! | 50 | busiest node, doubled; odd: its backward |
//! | 51 | where the lasting state begins in the block, in units |
//! | 52 | where the passing part of the block begins, in units |
//! | 53 … 63 | zero |
//!
//! The sections follow in the order of the table, without gaps.
//!
//! **A region** (4 words): name in the text (first byte, bytes), its length in units, the unit of the block at
//! which it begins. The *block* is what is written: its units are numbered through, region behind region (in any
//! order, with gaps where a region is not used to its end), and no place lies in two regions. On a desktop it
//! is one region. A board has several, each a piece of memory of its own. In places the block is region 0;
//! region [`WEIGHTS`] (not in the list) is the weights file, which is only read. The block begins with what lasts from
//! step to step (parameters, running statistics, momentum, the state); behind it lies what passes (activations,
//! gradients, scratch).
//!
//! **An entry** ([`ENTRY`] words): name (first byte, bytes); kind, rank and flags; shape in PyTorch (4
//! words, 1 beyond the rank); layout (a tag and 4 numbers); place (unit, numbers); momentum (unit);
//! gradient (unit); initialisation (kind, two numbers, bound of the first draw); zeros. [`NO_UNIT`] where
//! there is none.
//!
//! **A value** ([`VALUE`] words): node; flags; name (first byte, bytes); shape (n, c, h, w); unit; unit of
//! the gradient; numbers; zeros.
//!
//! **A call**: operation; words of the call; node; inputs and entries and flags (a byte, a byte, two bytes);
//! a place (region, unit, numbers: 3 words) for each input; a word for each entry (its number); the places
//! of the result, what forward saves, scratch, and what is attached behind a result; a backward call then
//! has the place of the result's gradient, and for each input two: where its gradient is written, whose
//! region word has the flags [`DX_WANTED`] and [`DX_ADDS`], and where it is added to afterwards if the
//! operation can't add. The operation's own numbers fill the rest. Bit 5 of the flags of a call among the backward ones
//! says that it is a forward call, made again: it has a forward call's words.
//!
//! **The lasting state**: counts of batches (8 bytes each, in the order of the entries that count), then how
//! many forward passes there were in train mode (8 bytes: what a dropout draws by), then a byte for each entry (bit 0: it has a gradient, bit 1: it has a momentum, others are the executor's), then a byte for each value
//! with a door (1: it was set since the last forward). From the next unit on, up to the passing part, lies what a
//! forward in train mode may have to take back: the counts of batches and of forward passes as they were before
//! it, then, from the next unit on, the running statistics that it moves, call by call, each in whole units.
//! Programs that move nothing have no room for it.
//!
//! **Versions.** A reader takes its own version and refuses others: a program is made anew from the
//! recording, which is the source.

mod call;
mod check;
mod write;

pub use call::{Call, Numbers, Place};
pub use check::ProgramError;
pub use write::{Backward, Calls, EntryRecord, Header, InputGradient, RegionRecord, ValueRecord, Writer};

use crate::arena::UNIT;
use crate::fnv::Fnv;
use crate::tape::EntryId;
#[cfg(feature = "std")]
use alloc::vec::Vec;
use core::ops::Range;

/// The first bytes of a program.
pub const MAGIC: [u8; 8] = *b"\x89nunstep";
/// The version that is read and written.
pub const VERSION: u32 = 3;
/// Words of the header.
pub const HEADER: usize = 64;
/// Words of an entry.
pub const ENTRY: usize = 24;
/// Words of a value.
pub const VALUE: usize = 12;
/// Words of a region.
pub const REGION: usize = 4;
/// The most regions of a program.
pub const MOST_REGIONS: usize = 8;
/// Where there is no such place.
pub const NO_UNIT: u32 = u32::MAX;
/// The region of the weights that are read in place.
pub const WEIGHTS: u8 = 255;
/// In the region word of an input's gradient: it is computed.
pub const DX_WANTED: u32 = 1 << 8;
/// In the region word of an input's gradient: it is added to what is there.
pub const DX_ADDS: u32 = 1 << 9;
pub(crate) const BYTE_ORDER: u32 = 0x0102_0304;

/// The flags of a program (word 7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// Parameters are updated during the backward walk.
    pub const DURING: u32 = 1;
    /// There is a momentum buffer for what is trained.
    pub const MOMENTUM: u32 = 2;
    /// Normalisations use the batch's statistics unless they are fixed: train mode.
    pub const TRAIN: u32 = 4;
    /// Gradients are added to the momentum during the backward walk; parameters are updated after several walks.
    pub const SUMMED: u32 = 8;

    /// Whether a flag is set.
    pub const fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}

/// What an entry of the state dict is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A parameter.
    Parameter,
    /// A normalisation's running mean.
    RunningMean,
    /// A normalisation's running variance.
    RunningVar,
    /// How many batches a normalisation has seen: an i64 without dimensions.
    Count,
    /// Words of 32 bits that are no floating-point numbers, such as a layer's weights of 8 bits: one dimension, never
    /// trained.
    Words,
}

impl EntryKind {
    pub(crate) const ALL: [EntryKind; 5] =
        [EntryKind::Parameter, EntryKind::RunningMean, EntryKind::RunningVar, EntryKind::Count, EntryKind::Words];
}

/// A checked program: the caller's bytes, or its own.
#[derive(Clone, Debug)]
pub struct Program<'p>(Bytes<'p>);

#[derive(Clone, Debug)]
enum Bytes<'p> {
    Lent(&'p [u8]),
    #[cfg(feature = "std")]
    Owned(Vec<u8>),
}

/// An entry of the state dict, as a program holds it.
#[derive(Clone, Copy)]
pub struct Entry<'p> {
    program: &'p Program<'p>,
    at: usize,
}

/// A value with a door, as a program holds it.
#[derive(Clone, Copy)]
pub struct Value<'p> {
    program: &'p Program<'p>,
    at: usize,
}

impl<'p> Program<'p> {
    /// Checks the structure of a program: header, checksum, that every section, name and place lies where
    /// it may.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn check(bytes: &'p [u8]) -> Result<Program<'p>, ProgramError> {
        let program = Program(Bytes::Lent(bytes));
        program.check_structure()?;
        Ok(program)
    }

    /// A program whose structure was proven before.
    pub(crate) fn proven(bytes: &'p [u8]) -> Program<'p> {
        Program(Bytes::Lent(bytes))
    }

    /// The same with bytes of its own.
    ///
    /// # Errors
    /// [`ProgramError`].
    #[cfg(feature = "std")]
    pub fn own(bytes: Vec<u8>) -> Result<Program<'static>, ProgramError> {
        let program = Program(Bytes::Owned(bytes));
        program.check_structure()?;
        Ok(program)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Lent(bytes) => bytes,
            #[cfg(feature = "std")]
            Bytes::Owned(bytes) => bytes,
        }
    }

    /// A view that borrows this program.
    pub fn view(&self) -> Program<'_> {
        Program(Bytes::Lent(self.bytes()))
    }

    #[inline]
    pub(crate) fn word(&self, at: usize) -> u32 {
        let bytes = self.bytes();
        u32::from_le_bytes([bytes[4 * at], bytes[4 * at + 1], bytes[4 * at + 2], bytes[4 * at + 3]])
    }

    fn size(&self, at: usize) -> usize {
        self.word(at) as usize
    }

    /// A part of the text.
    fn text(&self, first: usize, len: usize) -> &str {
        let start = 4 * self.size(38) + first;
        core::str::from_utf8(&self.bytes()[start..start + len]).unwrap_or("")
    }

    /// The checksum.
    pub fn hash(&self) -> u64 {
        u64::from(self.word(5)) | u64::from(self.word(6)) << 32
    }
    /// The flags.
    pub fn flags(&self) -> Flags {
        Flags(self.word(7))
    }
    /// The number of the instruction-set level.
    pub fn level(&self) -> u32 {
        self.word(8)
    }
    /// Threads at most.
    pub fn threads(&self) -> usize {
        self.size(9)
    }
    /// The number of the memory setting.
    pub fn memory(&self) -> u32 {
        self.word(10)
    }
    /// The class of CPU that its algorithms were chosen for; 0: none.
    pub fn class(&self) -> u32 {
        self.word(11)
    }
    /// The hash of the tuning table that its algorithms were chosen by; 0: none.
    pub fn tuning(&self) -> u64 {
        u64::from(self.word(12)) | u64::from(self.word(13)) << 32
    }
    /// The SHA-256 of the weights file that is read in place, if there is one.
    pub fn weights_hash(&self) -> Option<[u8; 32]> {
        let mut hash = [0; 32];
        hash.copy_from_slice(&self.bytes()[4 * 14..4 * 22]);
        (self.size(22) > 0).then_some(hash)
    }
    /// Numbers of the weights file.
    pub fn weights_len(&self) -> usize {
        self.size(22) * UNIT
    }
    /// The node of the root: where backward begins.
    pub fn root(&self) -> Option<u32> {
        self.word(23).checked_sub(1)
    }
    /// The model's description.
    pub fn model(&self) -> &str {
        self.text(self.size(40), self.size(41))
    }
    /// The prefix of the head's names; empty where there is no head.
    pub fn head(&self) -> &str {
        self.text(self.size(42), self.size(43))
    }
    /// How many regions the block has.
    pub fn region_count(&self) -> usize {
        self.size(25)
    }
    /// The region of the block with this number.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn region(&self, i: usize) -> Region<'_> {
        assert!(i < self.region_count(), "region {i} of {}", self.region_count());
        let at = self.size(24) + i * REGION;
        let first = self.size(at + 3) * UNIT;
        Region { name: self.text(self.size(at), self.size(at + 1)), range: first..first + self.size(at + 2) * UNIT }
    }
    /// Numbers of the block, as far as its last region reaches.
    pub fn block_len(&self) -> usize {
        (0..self.region_count()).map(|i| self.region(i).range.end).max().unwrap_or(0)
    }
    /// Numbers of the block that last from step to step.
    pub fn lasting_len(&self) -> usize {
        self.size(52) * UNIT
    }
    /// The byte of the lasting state where the marks of entries begin, behind so many counts of batches and the
    /// number of forward passes.
    pub const fn marks(counts: usize) -> usize {
        8 * (counts + 1)
    }
    /// Where in the block the lasting state lies.
    pub fn state(&self) -> Range<usize> {
        self.size(51) * UNIT..self.lasting_len()
    }
    /// Where in the block, behind so many counts of batches, marks and doors, lies what a forward may take back.
    pub fn undo(&self, counts: usize) -> Range<usize> {
        let bytes = Program::marks(counts) + self.entry_count() + self.value_count();
        let state = self.state();
        (state.start + bytes.div_ceil(4 * UNIT) * UNIT).min(state.end)..state.end
    }
    /// Bytes in use at the busiest time: weights, statistics, momentum, gradients, activations, scratch.
    pub fn busiest_bytes(&self) -> [usize; 6] {
        core::array::from_fn(|i| self.size(44 + i) * crate::arena::ALIGN)
    }
    /// The busiest node, and whether it is its backward.
    pub fn busiest_node(&self) -> (u32, bool) {
        (self.word(50) / 2, self.word(50) % 2 == 1)
    }

    /// How many entries the state dict has.
    pub fn entry_count(&self) -> usize {
        self.size(27)
    }
    /// An entry of the state dict.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn entry(&self, id: EntryId) -> Entry<'_> {
        assert!(id.index() < self.entry_count(), "entry {} of {}", id.0, self.entry_count());
        Entry { program: self.as_lent(), at: self.size(26) + ENTRY * id.index() }
    }

    /// The program with the lifetime of the borrow.
    fn as_lent(&self) -> &Program<'_> {
        self
    }

    /// The entries' numbers, in PyTorch's order.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = EntryId> + Clone + use<'p> {
        (0..self.word(27)).map(EntryId)
    }
    /// The entries in the order of the first draws of an initialisation.
    pub fn draws(&self) -> impl Iterator<Item = EntryId> + '_ {
        (0..self.size(29)).map(|i| EntryId(self.word(self.size(28) + i)))
    }
    /// The entries that a step updates, in its order.
    pub fn updates(&self) -> impl Iterator<Item = EntryId> + '_ {
        (0..self.size(37)).map(|i| EntryId(self.word(self.size(36) + i)))
    }
    /// How many values have a door.
    pub fn value_count(&self) -> usize {
        self.size(31)
    }
    /// The value with this number among those that have a door.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn value(&self, i: usize) -> Value<'_> {
        assert!(i < self.value_count(), "value {i} of {}", self.value_count());
        Value { program: self.as_lent(), at: self.size(30) + VALUE * i }
    }
    /// The values with a door.
    pub fn values(&self) -> impl Iterator<Item = Value<'_>> {
        (0..self.value_count()).map(|i| self.value(i))
    }
    /// The value that a node makes, with its number, if it has a door.
    pub fn value_of_node(&self, node: u32) -> Option<(usize, Value<'_>)> {
        (0..self.value_count()).map(|i| (i, self.value(i))).find(|(_, value)| value.node() == node)
    }
    /// The calls of the forward walk, in order.
    pub fn forward(&self) -> Walk<'_> {
        Walk { program: self.as_lent(), at: self.size(32), end: self.size(32) + self.size(33), backward: false }
    }
    /// The calls of the backward walk, in order, with the forward calls that are made again among them.
    pub fn backward(&self) -> Walk<'_> {
        Walk { program: self.as_lent(), at: self.size(34), end: self.size(34) + self.size(35), backward: true }
    }
}

/// A piece of the block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region<'p> {
    /// Its name.
    pub name: &'p str,
    /// Its numbers in the block.
    pub range: Range<usize>,
}

/// The calls of a walk.
#[derive(Clone)]
pub struct Walk<'p> {
    program: &'p Program<'p>,
    at: usize,
    end: usize,
    backward: bool,
}

impl<'p> Iterator for Walk<'p> {
    type Item = Call<'p>;
    fn next(&mut self) -> Option<Call<'p>> {
        if self.at >= self.end {
            return None;
        }
        let call = Call::new(self.program, self.at, self.backward);
        self.at += self.program.size(self.at + 1);
        Some(call)
    }
}

impl<'p> Entry<'p> {
    /// Its name.
    pub fn name(&self) -> &'p str {
        self.program.text(self.program.size(self.at), self.program.size(self.at + 1))
    }
    fn bits(&self) -> u32 {
        self.program.word(self.at + 2)
    }
    pub(crate) fn kind_number(&self) -> usize {
        (self.bits() & 0xff) as usize
    }
    /// What it is.
    pub fn kind(&self) -> EntryKind {
        // A number that is none was refused.
        EntryKind::ALL.get(self.kind_number()).copied().unwrap_or(EntryKind::Words)
    }
    /// Its shape in PyTorch; the number of dimensions is the second value.
    pub fn shape(&self) -> ([usize; 4], usize) {
        (core::array::from_fn(|i| self.program.size(self.at + 3 + i)), (self.bits() >> 8 & 7) as usize)
    }
    /// Numbers in PyTorch.
    pub fn numbers(&self) -> usize {
        self.shape().0.iter().product()
    }
    /// Whether it is trained.
    pub fn is_trained(&self) -> bool {
        self.bits() & EntryRecord::TRAINED != 0
    }
    /// Whether it is read in place from the weights file.
    pub fn is_borrowed(&self) -> bool {
        self.bits() & EntryRecord::BORROWED != 0
    }
    /// How it lies: a tag and four numbers.
    pub fn layout(&self) -> [u32; 5] {
        core::array::from_fn(|i| self.program.word(self.at + 7 + i))
    }
    /// Where it lies; of a count the number among the counts is the unit.
    pub fn place(&self) -> Place {
        let region = if self.is_borrowed() { WEIGHTS } else { 0 };
        Place { region, unit: self.program.word(self.at + 12), len: self.program.word(self.at + 13) }
    }
    fn beside(&self, word: usize) -> Option<Place> {
        let unit = self.program.word(self.at + word);
        (unit != NO_UNIT).then_some(Place { region: 0, unit, len: self.program.word(self.at + 13) })
    }
    /// Where its momentum lies.
    pub fn momentum(&self) -> Option<Place> {
        self.beside(14)
    }
    /// Where its gradient lies.
    pub fn gradient(&self) -> Option<Place> {
        self.beside(15)
    }
    /// How it is initialised: a kind, two numbers, and the bound of the first draw.
    pub fn init(&self) -> (u32, f32, f32, f32) {
        let number = |i| f32::from_bits(self.program.word(self.at + i));
        (self.program.word(self.at + 16), number(17), number(18), number(19))
    }
}

impl<'p> Value<'p> {
    /// The node that makes it.
    pub fn node(&self) -> u32 {
        self.program.word(self.at)
    }
    /// Its flags: see [`ValueRecord`].
    pub fn flags(&self) -> u32 {
        self.program.word(self.at + 1)
    }
    /// Its name; empty where it was given none.
    pub fn name(&self) -> &'p str {
        self.program.text(self.program.size(self.at + 2), self.program.size(self.at + 3))
    }
    /// n, c, h, w.
    pub fn shape(&self) -> [usize; 4] {
        core::array::from_fn(|i| self.program.size(self.at + 4 + i))
    }
    /// Where it lies.
    pub fn place(&self) -> Place {
        Place { region: 0, unit: self.program.word(self.at + 8), len: self.program.word(self.at + 10) }
    }
    /// Where its gradient lies, if there is one that can be read.
    pub fn gradient(&self) -> Option<Place> {
        let unit = self.program.word(self.at + 9);
        (unit != NO_UNIT).then_some(Place { region: 0, unit, len: self.program.word(self.at + 10) })
    }
}

/// FNV-1a of 64 bits, as the program's checksum: of all bytes, those of the checksum taken as zero.
pub fn checksum(bytes: &[u8]) -> u64 {
    let (before, rest) = bytes.split_at(bytes.len().min(20));
    let (own, after) = rest.split_at(rest.len().min(8));
    let mut hash = Fnv::new();
    hash.write(before);
    hash.write(&[0; 8][..own.len()]);
    hash.write(after);
    hash.finish()
}
