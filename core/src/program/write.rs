//! Writing a program, section by section.

use super::call::AGAIN;
use super::{BYTE_ORDER, DX_ADDS, DX_WANTED, ENTRY, EntryKind, Flags, HEADER, MAGIC, NO_UNIT, Place, REGION, VALUE, VERSION, checksum};
use crate::Error;
use crate::arena::UNIT;
use crate::list::List;

/// What the header says besides where the sections lie.
#[derive(Clone, Copy, Debug, Default)]
pub struct Header<'a> {
    /// Flags.
    pub flags: Flags,
    /// The number of the instruction-set level.
    pub level: u32,
    /// Threads at most.
    pub threads: u32,
    /// The number of the memory setting.
    pub memory: u32,
    /// The class of CPU.
    pub class: u32,
    /// The tuning table's hash.
    pub tuning: u64,
    /// SHA-256 of the weights file, where something is read in place.
    pub weights_hash: [u8; 32],
    /// Units of the weights file.
    pub weights_units: u32,
    /// The root's node.
    pub root: Option<u32>,
    /// The model's description.
    pub model: &'a str,
    /// The prefix of the head's names.
    pub head: &'a str,
    /// Units in use at the busiest time: weights, statistics, momentum, gradients, activations, scratch.
    pub busiest: [u32; 6],
    /// The busiest node, doubled; odd: its backward.
    pub busiest_node: u32,
    /// Where the lasting state begins, in units.
    pub state_unit: u32,
    /// Where the passing part begins, in units.
    pub passing_unit: u32,
}

/// A region of memory to be written.
#[derive(Clone, Copy, Debug)]
pub struct RegionRecord<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its length in units.
    pub units: u32,
    /// The unit of the block at which it begins.
    pub first: u32,
}

/// An entry of the state dict to be written.
#[derive(Clone, Copy, Debug)]
pub struct EntryRecord<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub kind: EntryKind,
    /// Dimensions in PyTorch.
    pub rank: u32,
    /// [`EntryRecord::TRAINED`], [`EntryRecord::BORROWED`].
    pub flags: u32,
    /// Shape in PyTorch, 1 beyond the rank.
    pub shape: [u32; 4],
    /// How it lies: a tag and four numbers.
    pub layout: [u32; 5],
    /// Where it begins.
    pub unit: u32,
    /// Numbers as it lies.
    pub len: u32,
    /// Where its momentum begins.
    pub momentum: Option<u32>,
    /// Where its gradient begins.
    pub gradient: Option<u32>,
    /// How it is initialised: a kind, two numbers, the bound of the first draw.
    pub init: (u32, f32, f32, f32),
}

impl EntryRecord<'_> {
    /// It is trained.
    pub const TRAINED: u32 = 1 << 16;
    /// It is read in place.
    pub const BORROWED: u32 = 1 << 17;
}

/// A value with a door, to be written.
#[derive(Clone, Copy, Debug)]
pub struct ValueRecord<'a> {
    /// The node that makes it.
    pub node: u32,
    /// What it is: see the constants.
    pub flags: u32,
    /// Its name.
    pub name: &'a str,
    /// n, c, h, w.
    pub shape: [u32; 4],
    /// Where it begins.
    pub unit: u32,
    /// Where its gradient begins.
    pub gradient: Option<u32>,
    /// Numbers.
    pub len: u32,
}

impl ValueRecord<'_> {
    /// A tensor from outside.
    pub const INPUT: u32 = 1;
    /// Class indices from outside.
    pub const LABELS: u32 = 2;
    /// It can be read after the step.
    pub const KEPT: u32 = 4;
}

/// A call to be written.
#[derive(Clone, Copy, Debug)]
pub struct Calls<'a> {
    /// The operation's code.
    pub op: u32,
    /// The node.
    pub node: u32,
    /// Its inputs.
    pub inputs: &'a [Place],
    /// Its entries of the state dict.
    pub entries: &'a [u32],
    /// Result, saved, scratch, attached.
    pub places: [Place; 4],
    /// Of a backward call.
    pub backward: Option<Backward<'a>>,
    /// Of a call among the backward ones: it is a forward call that is made again.
    pub again: bool,
}

/// What a backward call has besides.
#[derive(Clone, Copy, Debug)]
pub struct Backward<'a> {
    /// The result's gradient.
    pub dy: Place,
    /// For each input.
    pub dx: &'a [InputGradient],
    /// The gradients of the parameters that are computed.
    pub dw: [bool; 2],
    /// The parameters that are complete.
    pub updates: [bool; 2],
    /// One pass over the weight.
    pub one_pass: bool,
}

/// Where an input's gradient goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InputGradient {
    /// Where the operation writes it; nothing where it is not computed.
    pub place: Place,
    /// The operation adds it to what is there.
    pub adds: bool,
    /// Where it is added to afterwards, if the operation can't add.
    pub sum: Place,
}

/// Writes a program into a list of bytes, in the order of its sections.
pub struct Writer<'w, 's> {
    bytes: &'w mut List<'s, u8>,
    text: &'w mut List<'s, u8>,
}

impl<'w, 's> Writer<'w, 's> {
    /// Begins a program in an emptied list; names are gathered in another.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn new(bytes: &'w mut List<'s, u8>, text: &'w mut List<'s, u8>) -> Result<Self, Error> {
        text.clear();
        bytes.clear();
        bytes.resize(4 * HEADER, 0)?;
        Ok(Writer { bytes, text })
    }

    /// Adds a word.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn word(&mut self, word: u32) -> Result<(), Error> {
        self.bytes.extend(word.to_le_bytes())
    }

    /// Adds a float.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn float(&mut self, number: f32) -> Result<(), Error> {
        self.word(number.to_bits())
    }

    /// Adds a size.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where it does not fit a word; [`Error::ListFull`].
    pub fn size(&mut self, size: usize) -> Result<(), Error> {
        self.word(u32::try_from(size).map_err(|_| Error::TooLarge { shape: [1, 1, 1, size] })?)
    }

    fn at(&self) -> u32 {
        (self.bytes.len() / 4) as u32
    }

    fn set(&mut self, word: usize, value: u32) {
        self.bytes[4 * word..4 * word + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Puts a name into the text: first byte, bytes.
    fn name(&mut self, name: &str) -> Result<[u32; 2], Error> {
        let first = self.text.len() as u32;
        self.text.extend(name.bytes())?;
        Ok([first, name.len() as u32])
    }

    fn words(&mut self, words: &[u32]) -> Result<(), Error> {
        words.iter().try_for_each(|word| self.word(*word))
    }

    /// Begins a section whose place and length stand at a word of the header.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    fn section(&mut self, word: usize, count: u32) {
        let at = self.at();
        self.set(word, at);
        self.set(word + 1, count);
    }

    /// The regions that are written.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn regions<'a>(&mut self, regions: impl Iterator<Item = RegionRecord<'a>>) -> Result<(), Error> {
        self.section(24, 0);
        let mut count = 0;
        for region in regions {
            let [first, len] = self.name(region.name)?;
            let words: [u32; REGION] = [first, len, region.units, region.first];
            self.words(&words)?;
            count += 1;
        }
        self.set(25, count);
        Ok(())
    }

    /// The entries of the state dict.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn entries<'a>(&mut self, entries: impl Iterator<Item = EntryRecord<'a>>) -> Result<(), Error> {
        self.section(26, 0);
        let mut count = 0;
        for e in entries {
            let [first, len] = self.name(e.name)?;
            let kind = EntryKind::ALL.iter().position(|k| *k == e.kind).unwrap_or(0) as u32;
            self.words(&[first, len, kind | e.rank << 8 | e.flags])?;
            self.words(&e.shape)?;
            self.words(&e.layout)?;
            self.words(&[e.unit, e.len, e.momentum.unwrap_or(NO_UNIT), e.gradient.unwrap_or(NO_UNIT), e.init.0])?;
            self.words(&[e.init.1.to_bits(), e.init.2.to_bits(), e.init.3.to_bits()])?;
            self.words(&[0; ENTRY - 20])?;
            count += 1;
        }
        self.set(27, count);
        Ok(())
    }

    /// A section of numbers: the order of draws (word 28), the updates (word 36).
    fn list(&mut self, word: usize, numbers: impl Iterator<Item = u32>) -> Result<(), Error> {
        self.section(word, 0);
        let mut count = 0;
        for number in numbers {
            self.word(number)?;
            count += 1;
        }
        self.set(word + 1, count);
        Ok(())
    }

    /// The entries in the order of their first draws.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn draws(&mut self, entries: impl Iterator<Item = u32>) -> Result<(), Error> {
        self.list(28, entries)
    }

    /// The values with a door.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn values<'a>(&mut self, values: impl Iterator<Item = ValueRecord<'a>>) -> Result<(), Error> {
        self.section(30, 0);
        let mut count = 0;
        for v in values {
            let [first, len] = self.name(v.name)?;
            self.words(&[v.node, v.flags, first, len])?;
            self.words(&v.shape)?;
            self.words(&[v.unit, v.gradient.unwrap_or(NO_UNIT), v.len])?;
            self.words(&[0; VALUE - 11])?;
            count += 1;
        }
        self.set(31, count);
        Ok(())
    }

    /// Begins the calls of the forward walk.
    pub fn begin_forward(&mut self) {
        self.section(32, 0);
    }

    /// Ends them, and begins those of the backward walk.
    pub fn begin_backward(&mut self) {
        let words = self.at() - word_at(self.bytes, 32);
        self.set(33, words);
        self.section(34, 0);
    }

    /// Ends the calls, and writes the entries that a step updates.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn updates(&mut self, entries: impl Iterator<Item = u32>) -> Result<(), Error> {
        let words = self.at() - word_at(self.bytes, 34);
        self.set(35, words);
        self.list(36, entries)
    }

    /// Writes a call; `numbers` writes the operation's own.
    ///
    /// # Errors
    /// [`Error::ListFull`], those of `numbers`.
    pub fn call(&mut self, call: &Calls, numbers: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        let start = self.at() as usize;
        let mut flags = 0;
        if let Some(b) = &call.backward {
            let bits = [b.dw[0], b.dw[1], b.updates[0], b.updates[1], b.one_pass];
            flags = bits.iter().enumerate().map(|(i, bit)| u32::from(*bit) << i).sum();
        }
        if call.again {
            flags |= AGAIN;
        }
        if call.inputs.len() > 0xff || call.entries.len() > 0xff {
            return Err(Error::ListFull { capacity: 0xff });
        }
        let counts = call.inputs.len() as u32 | (call.entries.len() as u32) << 8 | flags << 16;
        self.words(&[call.op, 0, call.node, counts])?;
        for place in call.inputs {
            self.place(*place, 0)?;
        }
        self.words(call.entries)?;
        for place in call.places {
            self.place(place, 0)?;
        }
        if let Some(b) = &call.backward {
            self.place(b.dy, 0)?;
            for dx in b.dx {
                let wanted = if dx.place.is_empty() { 0 } else { DX_WANTED };
                self.place(dx.place, wanted | if dx.adds { DX_ADDS } else { 0 })?;
                self.place(dx.sum, 0)?;
            }
        }
        numbers(self)?;
        let words = self.at() - start as u32;
        self.set(start + 1, words);
        Ok(())
    }

    fn place(&mut self, place: Place, flags: u32) -> Result<(), Error> {
        self.words(&[u32::from(place.region) | flags, place.unit, place.len])
    }

    /// Ends the program: text, header, checksum.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn finish(mut self, header: &Header) -> Result<(), Error> {
        let model = self.name(header.model)?;
        let head = self.name(header.head)?;
        self.section(38, self.text.len() as u32);
        for i in 0..self.text.len() {
            let byte = self.text[i];
            self.bytes.push(byte)?;
        }
        let padded = self.bytes.len().next_multiple_of(4 * UNIT);
        self.bytes.resize(padded, 0)?;
        self.bytes[..8].copy_from_slice(&MAGIC);
        let words = self.at();
        for (word, value) in [(2, VERSION), (3, BYTE_ORDER), (4, words), (7, header.flags.0), (8, header.level)] {
            self.set(word, value);
        }
        for (word, value) in [(9, header.threads), (10, header.memory), (11, header.class), (12, header.tuning as u32)] {
            self.set(word, value);
        }
        self.set(13, (header.tuning >> 32) as u32);
        self.bytes[4 * 14..4 * 22].copy_from_slice(&header.weights_hash);
        self.set(22, header.weights_units);
        self.set(23, header.root.map_or(0, |node| node + 1));
        for (i, value) in model.into_iter().chain(head).chain(header.busiest).enumerate() {
            self.set(40 + i, value);
        }
        for (word, value) in [(50, header.busiest_node), (51, header.state_unit), (52, header.passing_unit)] {
            self.set(word, value);
        }
        let hash = checksum(self.bytes);
        self.set(5, hash as u32);
        self.set(6, (hash >> 32) as u32);
        Ok(())
    }
}

fn word_at(bytes: &[u8], word: usize) -> u32 {
    u32::from_le_bytes([bytes[4 * word], bytes[4 * word + 1], bytes[4 * word + 2], bytes[4 * word + 3]])
}
