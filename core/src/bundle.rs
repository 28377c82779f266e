//! A bundle: several programs of one network that share what lasts from step to step.
//!
//! A board predicts with one program, trains the head with another and everything with a third. All of them
//! have the same lasting part in front of the block: each entry of the state dict, and each momentum, lies at one
//! place in all programs. So switching from one to another moves no number, and the lasting part of a block can be kept
//! apart from what passes.
//!
//! # The bundle, byte by byte
//!
//! Everything is a word: an unsigned number of 4 bytes, little-endian. A unit is 64 bytes. A bundle is a head of 16
//! words, a record of 16 words for each program, and the programs, each at the next unit.
//!
//! | word | what |
//! |---|---|
//! | 0, 1 | the bytes `89 6e 75 6e 62 75 6e 64`: 0x89 and `nunbund` |
//! | 2 | version of the format: 1 |
//! | 3 | 0x01020304: the bytes `04 03 02 01` |
//! | 4 | units in all |
//! | 5, 6 | checksum: FNV-1a of 64 bits over all bytes, these eight taken as zero; low word first |
//! | 7 | programs: 1 to 64 |
//! | 8 | units of the lasting part |
//! | 9, 10 | hash of the lasting part's layout, see [`layout_hash`]; low word first |
//! | 11 … 15 | zero |
//!
//! A record: the program's name (words 0 … 11, UTF-8, 1 to 48 bytes, then zeros); its first unit; its units; two
//! zeros. Names differ. Programs lie in the order of their records, without gaps.

use crate::arena::{ALIGN, UNIT};
use crate::fnv::Fnv;
use crate::program::{BYTE_ORDER, EntryKind, Program, ProgramError, checksum};
#[cfg(feature = "std")]
use alloc::vec::Vec;
use core::fmt;

/// The first bytes of a bundle.
pub const MAGIC: [u8; 8] = *b"\x89nunbund";
/// The version that is read and written.
pub const VERSION: u32 = 1;
/// Programs that a bundle can have.
pub const MOST_PROGRAMS: usize = 64;
/// Bytes of a program's name at most.
pub const MOST_NAME: usize = 48;
/// Bytes of the head, and of a record.
const RECORD: usize = 64;

/// Why bytes are no bundle, or programs can't be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BundleError {
    /// The bytes are too few, or not as many as the head says.
    Length {
        /// Bytes that are due.
        expected: usize,
        /// Bytes that there are.
        got: usize,
    },
    /// The first bytes are others.
    Magic,
    /// Another version.
    Version {
        /// The bundle's.
        got: u32,
    },
    /// The checksum is another.
    Checksum {
        /// What the head says.
        expected: u64,
        /// What the bytes give.
        got: u64,
    },
    /// Something can't be.
    At {
        /// The word of the bundle, counted from 0.
        word: usize,
        /// What.
        what: &'static str,
    },
    /// A program is damaged.
    Program {
        /// Its number in the bundle, from 0.
        number: usize,
        /// What is wrong with it.
        error: ProgramError,
    },
    /// A program's lasting part differs from the first one's.
    Lasting {
        /// Its number in the bundle, from 0.
        number: usize,
    },
    /// There are no programs, or too many.
    Count {
        /// How many there are.
        got: usize,
    },
    /// A name is empty, too long, or another program's.
    Name {
        /// The program's number in the bundle, from 0.
        number: usize,
    },
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            BundleError::Length { expected, got } => write!(f, "a bundle of {expected} bytes was expected, got {got}"),
            BundleError::Magic => f.write_str("these bytes are no bundle of programs: the first eight are others"),
            BundleError::Version { got } => {
                write!(f, "a bundle of version {got}; this library reads version {VERSION}. Export it anew")
            }
            BundleError::Checksum { expected, got } => {
                write!(f, "the bundle is damaged: its checksum is {got:016x}, its head says {expected:016x}")
            }
            BundleError::At { word, what } => write!(f, "the bundle is damaged at word {word}: {what}"),
            BundleError::Program { number, error } => write!(f, "program {number} of the bundle: {error}"),
            BundleError::Lasting { number } => {
                write!(f, "program {number} of the bundle has another lasting part than program 0; plan all programs of a bundle together")
            }
            BundleError::Count { got } => write!(f, "{got} programs; a bundle has 1 to {MOST_PROGRAMS}"),
            BundleError::Name { number } => {
                write!(f, "program {number} of the bundle: its name is empty, longer than {MOST_NAME} bytes, or another program's")
            }
        }
    }
}

impl core::error::Error for BundleError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            BundleError::Program { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// A checked bundle: the caller's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'b>(&'b [u8]);

/// A hash over where everything lies that lasts: FNV-1a of 64 bits over the bytes of the lasting part's length and the
/// state's begin in units, and of each entry its kind, whether it is read in place, its shape and layout, and its
/// place. Momentum is not in it: what a program does not train has none there.
pub fn layout_hash(program: &Program) -> u64 {
    let mut hash = Fnv::new();
    let mut word = |word: u32| hash.write(&word.to_le_bytes());
    word((program.lasting_len() / UNIT) as u32);
    word((program.state().start / UNIT) as u32);
    for id in program.entries() {
        let entry = program.entry(id);
        let kind = EntryKind::ALL.iter().position(|kind| *kind == entry.kind()).unwrap_or(0) as u32;
        word(kind | u32::from(entry.is_borrowed()) << 8);
        entry.shape().0.iter().for_each(|size| word(*size as u32));
        entry.layout().into_iter().for_each(&mut word);
        word(entry.place().unit);
        word(entry.place().len);
    }
    hash.finish()
}

/// Whether two programs have one lasting part: they can stand in one bundle.
fn share(a: &Program, b: &Program) -> bool {
    let momentum = |p: &Program, id| p.entry(id).momentum().map(|place| place.unit);
    let same = |id| {
        let apart = matches!((momentum(a, id), momentum(b, id)), (Some(a), Some(b)) if a != b);
        a.entry(id).name() == b.entry(id).name() && !apart
    };
    a.entry_count() == b.entry_count() && a.weights_hash() == b.weights_hash() && layout_hash(a) == layout_hash(b) && a.entries().all(same)
}

impl<'b> Bundle<'b> {
    /// Checks a bundle: head, checksum, every program's structure, and that all programs share one lasting part.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn check(bytes: &'b [u8]) -> Result<Bundle<'b>, BundleError> {
        let bundle = Bundle(bytes);
        let bad = |word, what| Err(BundleError::At { word, what });
        if bytes.len() < 2 * RECORD || !bytes.len().is_multiple_of(ALIGN) {
            return Err(BundleError::Length { expected: 2 * RECORD, got: bytes.len() });
        }
        if bytes[..8] != MAGIC {
            return Err(BundleError::Magic);
        }
        if bundle.word(2) != VERSION {
            return Err(BundleError::Version { got: bundle.word(2) });
        }
        if bundle.word(3) != BYTE_ORDER {
            return bad(3, "another order of bytes");
        }
        if bundle.word(4) as usize != bytes.len() / ALIGN {
            return Err(BundleError::Length { expected: (bundle.word(4) as usize).saturating_mul(ALIGN), got: bytes.len() });
        }
        let (expected, got) = (u64::from(bundle.word(5)) | u64::from(bundle.word(6)) << 32, checksum(bytes));
        if expected != got {
            return Err(BundleError::Checksum { expected, got });
        }
        let count = bundle.count();
        if count == 0 || count > MOST_PROGRAMS || (count + 1) * RECORD > bytes.len() {
            return bad(7, "a number of programs that can't be");
        }
        if bytes[4 * 11..RECORD].iter().any(|byte| *byte != 0) {
            return bad(11, "words that must be zero");
        }
        bundle.check_records()?;
        bundle.check_programs()?;
        Ok(bundle)
    }

    /// Names and places of the programs.
    fn check_records(&self) -> Result<(), BundleError> {
        let mut at = self.count() as u64 + 1;
        for i in 0..self.count() {
            let word = 16 * (i + 1);
            let record = &self.0[4 * word..4 * word + RECORD];
            let name = self.name(i);
            if name.is_empty() || record[name.len()..MOST_NAME].iter().any(|byte| *byte != 0) {
                return Err(BundleError::At { word, what: "a name that is none" });
            }
            if (0..i).any(|before| self.name(before) == name) {
                return Err(BundleError::At { word, what: "two programs of one name" });
            }
            if record[MOST_NAME + 8..].iter().any(|byte| *byte != 0) || u64::from(self.word(word + 12)) != at {
                return Err(BundleError::At { word: word + 12, what: "a program does not begin where the one before it ends" });
            }
            at += u64::from(self.word(word + 13));
            if at > self.word(4).into() {
                return Err(BundleError::At { word: word + 13, what: "a program reaches past the bundle" });
            }
        }
        match at == u64::from(self.word(4)) {
            true => Ok(()),
            false => Err(BundleError::At { word: 4, what: "units that belong to no program" }),
        }
    }

    fn check_programs(&self) -> Result<(), BundleError> {
        for number in 0..self.count() {
            Program::check(self.program_bytes(number)).map_err(|error| BundleError::Program { number, error })?;
        }
        let first = self.program(0);
        if (first.lasting_len() / UNIT) as u64 != self.word(8).into() || layout_hash(&first) != self.layout_hash() {
            return Err(BundleError::At { word: 8, what: "the lasting part of program 0 is another" });
        }
        // Each with each: the first program need not have the momentum that two others have.
        match (1..self.count()).find(|i| (0..*i).any(|other| !share(&self.program(other), &self.program(*i)))) {
            Some(number) => Err(BundleError::Lasting { number }),
            None => Ok(()),
        }
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[4 * at], self.0[4 * at + 1], self.0[4 * at + 2], self.0[4 * at + 3]])
    }

    /// The bytes.
    pub fn bytes(&self) -> &'b [u8] {
        self.0
    }
    /// How many programs there are.
    pub fn count(&self) -> usize {
        self.word(7) as usize
    }
    /// Numbers of the lasting part of every program's block.
    pub fn lasting_len(&self) -> usize {
        self.word(8) as usize * UNIT
    }
    /// The hash of the lasting part's layout: equal hashes, equal places.
    pub fn layout_hash(&self) -> u64 {
        u64::from(self.word(9)) | u64::from(self.word(10)) << 32
    }
    /// A program's name.
    ///
    /// # Panics
    /// If there are not so many programs.
    pub fn name(&self, number: usize) -> &'b str {
        assert!(number < self.count(), "program {number} of {}", self.count());
        let name = &self.0[RECORD * (number + 1)..][..MOST_NAME];
        let len = name.iter().position(|byte| *byte == 0).unwrap_or(MOST_NAME);
        core::str::from_utf8(&name[..len]).unwrap_or("")
    }
    /// The bytes of a program.
    ///
    /// # Panics
    /// If there are not so many programs.
    pub fn program_bytes(&self, number: usize) -> &'b [u8] {
        assert!(number < self.count(), "program {number} of {}", self.count());
        let word = 16 * (number + 1);
        let start = ALIGN * self.word(word + 12) as usize;
        &self.0[start..start + ALIGN * self.word(word + 13) as usize]
    }
    /// A program.
    ///
    /// # Panics
    /// If there are not so many programs.
    pub fn program(&self, number: usize) -> Program<'b> {
        Program::proven(self.program_bytes(number))
    }
    /// The number of the program with this name.
    pub fn named(&self, name: &str) -> Option<usize> {
        (0..self.count()).find(|number| self.name(*number) == name)
    }
    /// Numbers of the largest program's block: what all of them run in.
    pub fn block_len(&self) -> usize {
        (0..self.count()).map(|number| self.program(number).block_len()).max().unwrap_or(0)
    }
}

/// Writes a bundle.
///
/// # Errors
/// [`BundleError::Count`], [`BundleError::Name`], [`BundleError::Lasting`]; [`BundleError::Length`] where it is too
/// large for its numbers.
#[cfg(feature = "std")]
pub fn write(programs: &[(&str, Program)]) -> Result<Vec<u8>, BundleError> {
    let count = programs.len();
    if count == 0 || count > MOST_PROGRAMS {
        return Err(BundleError::Count { got: count });
    }
    for (number, (name, program)) in programs.iter().enumerate() {
        let named = !name.is_empty() && name.len() <= MOST_NAME && !name.contains('\0');
        if !named || programs[..number].iter().any(|(other, _)| other == name) {
            return Err(BundleError::Name { number });
        }
        if programs[..number].iter().any(|(_, other)| !share(other, program)) {
            return Err(BundleError::Lasting { number });
        }
    }
    let first = &programs[0].1;
    let bytes = RECORD * (count + 1) + programs.iter().map(|(_, program)| program.bytes().len()).sum::<usize>();
    let units = u32::try_from(bytes / ALIGN).map_err(|_| BundleError::Length { expected: u32::MAX as usize, got: bytes })?;
    let hash = layout_hash(first);
    let mut out = Vec::with_capacity(bytes);
    out.extend(MAGIC);
    let lasting = (first.lasting_len() / UNIT) as u32;
    for word in [VERSION, BYTE_ORDER, units, 0, 0, count as u32, lasting, hash as u32, (hash >> 32) as u32] {
        out.extend(word.to_le_bytes());
    }
    out.resize(RECORD, 0);
    let mut at = count + 1;
    for (name, program) in programs {
        let end = out.len() + MOST_NAME;
        out.extend(name.bytes());
        out.resize(end, 0);
        let units = program.bytes().len() / ALIGN;
        [at as u32, units as u32, 0, 0].iter().for_each(|word| out.extend(word.to_le_bytes()));
        at += units;
    }
    programs.iter().for_each(|(_, program)| out.extend(program.bytes()));
    let sum = checksum(&out);
    out[20..28].copy_from_slice(&sum.to_le_bytes());
    Ok(out)
}
