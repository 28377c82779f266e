//! Features of images in raw flash, so that a power cut at any byte loses at most the record that is being written. No
//! heap, no operating system.
//!
//! While only the head is trained, what the network below it makes of an image stays the same. It is computed once and
//! appended here with the image's label; later epochs read it back (see [`Trainer::set_value`](crate::Trainer::set_value))
//! and cost what the head costs. When the flash is full the oldest records make room.
//!
//! The flash is cut into sectors of one or several pages. They are written one after the other, and again from the front;
//! each begins with a head of 64 bytes and is filled with records. All numbers are little-endian.
//!
//! | at in a sector | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `nunaring` |
//! | 8 | 8 | its number: one more than that of the sector that was begun before it; the first is 1 |
//! | 16 | 32 | the key: which network and preprocessing the features are of |
//! | 48 | 4 | numbers of a record |
//! | 52 | 4 | records of a sector |
//! | 56 | 8 | FNV-1a of the 56 bytes before |
//!
//! | at in a record | bytes | what |
//! |---|---|---|
//! | 0 | 8 | the label |
//! | 8 | 8 | FNV-1a of the bytes of the numbers |
//! | 16 | 8 | FNV-1a of the sector's number, the record's place in the sector (8 bytes each) and the 16 bytes before |
//! | 24 | | the numbers, IEEE 754 binary32 |
//!
//! Heads and both parts of a record begin at whole units, which 0xff fills. A record's numbers are programmed first and
//! read back, its front last: a front that gives its checksum is that of a whole record. One that was begun and not
//! ended stays unused until its sector is erased. An erased sector counts when its head is programmed; before it the
//! records of all other sectors count. Nothing is programmed twice: only what reads as erased is taken for erased.
//!
//! ```no_run
//! # use nunatak_nn::files::ring::{Flash, Ring, RingError};
//! # use nunatak_nn::{Trainer, ValueId};
//! # fn train<F: Flash>(flash: F, trainer: &mut Trainer, features: ValueId, key: [u8; 32]) -> Result<(), RingError<F::Error>> {
//! let mut ring = Ring::open(flash, key, 64)?;
//! let mut numbers = [0.0; 64]; // of one image
//! # let (label, labels) = (3, ValueId(0));
//! trainer.value(features, &mut numbers).map_err(RingError::Trainer)?; // after a forward of its pixels
//! ring.append(label, &numbers)?;
//! for i in 0..ring.len() {
//!     let label = ring.read(i, &mut numbers)?;
//!     trainer.set_value(features, &numbers).map_err(RingError::Trainer)?; // in place of its pixels
//!     trainer.set_labels(labels, &[label]).map_err(RingError::Trainer)?;
//!     // forward, backward, step: as with pixels
//! }
//! # Ok(())
//! # }
//! ```

mod places;

use super::flash::Units;
use core::fmt;
use nunatak_core::fnv::{Fnv, fnv};
use places::{HEAD, MARK, Places};

pub use super::flash::Flash;

/// Why a ring can't be read or written.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum RingError<E> {
    /// The flash refused.
    Flash(E),
    /// The flash's sizes, and the numbers of a record, do not fit together.
    Geometry(&'static str),
    /// The ring has features of another network, preprocessing or length. Nothing was changed.
    Other {
        /// The key of what is there.
        key: [u8; 32],
        /// Numbers of its records.
        numbers: usize,
    },
    /// A slice has not the numbers of a record.
    Length {
        /// Numbers of a record.
        expected: usize,
        /// Numbers that came.
        got: usize,
    },
    /// A feature is NaN or infinite: no step could use it.
    NotFinite {
        /// Its place.
        at: usize,
    },
    /// There is no such record.
    NoRecord {
        /// Records that there are.
        count: usize,
        /// The number that was asked for.
        index: usize,
    },
    /// A record's checksum is wrong: flash has lost bits. The other records can be read.
    Damaged {
        /// Its number.
        index: usize,
    },
    /// What was read back is not what was programmed: the flash is worn out, or was not erased.
    ReadBack,
    /// What a caller's trainer says: so that one error serves both.
    Trainer(crate::Error),
}

/// The first bytes of a key, enough to tell two apart.
struct Short<'a>(&'a [u8; 32]);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<E: fmt::Display> fmt::Display for RingError<E> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            RingError::Flash(e) => write!(f, "the flash refused: {e}"),
            RingError::Geometry(what) => write!(f, "no ring of features in this flash: {what}"),
            RingError::Other { key, numbers } => write!(
                f,
                "the flash has features of another network or preprocessing (key {}…, {numbers} numbers each); clear it and compute them \
                 anew, or take the network that they were made with",
                Short(key)
            ),
            RingError::Length { expected, got } => write!(f, "a record has {expected} numbers, got {got}"),
            RingError::NotFinite { at } => write!(f, "feature {at} is NaN or infinite; look at the image and the weights"),
            RingError::NoRecord { count, index } => write!(f, "there is no record {index}: there are {count}"),
            RingError::Damaged { index } => {
                write!(f, "record {index} is damaged: the flash has lost bits; leave it out, or clear the ring")
            }
            RingError::ReadBack => f.write_str("the flash does not give back what was programmed; the records of before still count"),
            RingError::Trainer(e) => e.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for RingError<E> {}

const MAGIC: [u8; 8] = *b"nunaring";

/// The front of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    label: i64,
    hash: u64,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Features of images in a flash, the newest that there is room for.
pub struct Ring<F> {
    flash: F,
    key: [u8; 32],
    places: Places,
    /// The sector that was begun last, and its number; 0 where there is none.
    newest: usize,
    sequence: u64,
    /// Sectors whose records count, the newest included.
    used: usize,
    /// Where the next record goes in the newest sector.
    next: usize,
    count: usize,
    /// How many records are before a place in the order of their age: where a search may begin.
    found: (usize, usize),
}

impl<F: Flash> Ring<F> {
    /// Bytes of flash in which the newest `records` records of `numbers` numbers are always there: where pages of `page`
    /// bytes are erased at once, and `unit` bytes programmed.
    ///
    /// # Errors
    /// [`RingError::Geometry`].
    pub fn flash_bytes(numbers: usize, records: usize, page: usize, unit: usize) -> Result<usize, RingError<F::Error>> {
        Places::flash_bytes(numbers, records, page, unit).map_err(RingError::Geometry)
    }

    /// Finds the records that are in a flash; nothing in it is changed. `key` says what they are features of (see
    /// [`Trainer::trunk_key`](crate::Trainer::trunk_key)), `numbers` how many an image has. Reads all heads and fronts, and
    /// the sectors that were begun first and last. Where the oldest sector has a damaged record it is left out: it was about
    /// to be erased.
    ///
    /// # Errors
    /// [`RingError::Other`] where the flash has features of another key, or of other length; [`RingError::Geometry`],
    /// [`RingError::Flash`].
    pub fn open(flash: F, key: [u8; 32], numbers: usize) -> Result<Ring<F>, RingError<F::Error>> {
        let places = Places::new(flash.size(), flash.page(), flash.unit(), numbers).map_err(RingError::Geometry)?;
        let mut ring = Ring { flash, key, places, newest: 0, sequence: 0, used: 0, next: 0, count: 0, found: (0, 0) };
        for sector in 0..places.sectors {
            if let Some(sequence) = ring.head(sector)?.filter(|sequence| *sequence > ring.sequence) {
                (ring.newest, ring.sequence) = (sector, sequence);
            }
        }
        if ring.sequence == 0 {
            return Ok(ring);
        }
        ring.used = 1;
        while ring.used < places.sectors {
            let before = ring.sequence.saturating_sub(ring.used as u64);
            if before == 0 || ring.head(ring.sector(ring.used))? != Some(before) {
                break;
            }
            ring.used += 1;
        }
        ring.next = ring.first_blank()?;
        // A power cut while the oldest sector was erased may have left its head.
        if ring.is_spoilt(ring.used - 1)? {
            ring.used -= 1;
        }
        if ring.used == 0 {
            ring.next = places.slots;
        }
        for place in 0..ring.span() {
            ring.count += usize::from(ring.mark_at(place)?.is_some());
        }
        Ok(ring)
    }

    /// The same after everything in the flash was erased, whatever it was.
    ///
    /// # Errors
    /// [`RingError::Geometry`], [`RingError::Flash`].
    pub fn erased(mut flash: F, key: [u8; 32], numbers: usize) -> Result<Ring<F>, RingError<F::Error>> {
        let places = Places::new(flash.size(), flash.page(), flash.unit(), numbers).map_err(RingError::Geometry)?;
        for at in (0..flash.size()).step_by(places.page) {
            flash.erase(at).map_err(RingError::Flash)?;
        }
        Ring::open(flash, key, numbers)
    }

    /// Erases all records. A power cut before the end leaves some of them.
    ///
    /// # Errors
    /// [`RingError::Flash`].
    pub fn clear(&mut self) -> Result<(), RingError<F::Error>> {
        // From the oldest on, so that those that are left by a power cut follow each other.
        let (first, sectors) = (self.newest + 1, self.places.sectors);
        (self.used, self.next, self.count, self.found) = (0, self.places.slots, 0, (0, 0));
        for i in 0..sectors {
            self.erase((first + i) % sectors)?;
        }
        (self.newest, self.sequence) = (0, 0);
        Ok(())
    }

    /// The flash.
    pub fn flash(&mut self) -> &mut F {
        &mut self.flash
    }

    /// Records that there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Numbers of a record.
    pub fn numbers(&self) -> usize {
        self.places.numbers
    }

    /// So many of the newest records are kept at least, but for those that power cuts have cost a place.
    pub fn capacity(&self) -> usize {
        (self.places.sectors - 1) * self.places.slots
    }

    /// Appends the features of an image. Where the flash is full the oldest sector of records makes room. After any error,
    /// and after a power cut at any moment, all other records are there.
    ///
    /// # Errors
    /// [`RingError::Length`], [`RingError::NotFinite`]; [`RingError::Flash`], [`RingError::ReadBack`].
    pub fn append(&mut self, label: i64, features: &[f32]) -> Result<(), RingError<F::Error>> {
        let numbers = self.places.numbers;
        if features.len() != numbers {
            return Err(RingError::Length { expected: numbers, got: features.len() });
        }
        if let Some(at) = features.iter().position(|v| !v.is_finite()) {
            return Err(RingError::NotFinite { at });
        }
        if self.sequence == 0 || self.next == self.places.slots {
            self.begin_sector()?;
        }
        let (sector, slot) = (self.newest, self.next);
        // Whatever happens, nothing is programmed here again.
        self.next += 1;
        let (at, of_numbers) = (self.places.record(sector, slot), self.places.numbers_of(sector, slot));
        let mut hash = Fnv::new();
        let mut out = Units::new(&mut self.flash, of_numbers, 4 * numbers);
        for feature in features {
            hash.write(&feature.to_le_bytes());
            out.push(&feature.to_le_bytes()).map_err(RingError::Flash)?;
        }
        out.finish().map_err(RingError::Flash)?;
        let mark = Mark { label, hash: hash.finish() };
        if self.hash(of_numbers)? != mark.hash {
            return Err(RingError::ReadBack);
        }
        let bytes = front(self.sequence, slot, mark);
        self.program(at, &bytes)?;
        if self.mark(sector, self.sequence, slot)? != Some(mark) {
            return Err(RingError::ReadBack);
        }
        self.count += 1;
        Ok(())
    }

    /// Reads the record `index`, 0 being the oldest: copies its features out and returns its label. Records in their order
    /// are found at once, whatever power cuts have left between them. After an error `out` has no features.
    ///
    /// # Errors
    /// [`RingError::NoRecord`], [`RingError::Length`], [`RingError::Damaged`], [`RingError::Flash`].
    pub fn read(&mut self, index: usize, out: &mut [f32]) -> Result<i64, RingError<F::Error>> {
        let (expected, got) = (self.places.numbers, out.len());
        if index >= self.count {
            return Err(RingError::NoRecord { count: self.count, index });
        }
        if got != expected {
            return Err(RingError::Length { expected, got });
        }
        let place = self.place(index)?;
        let (sector, _, slot) = self.at(place);
        let damaged = RingError::Damaged { index };
        let mark = self.mark_at(place)?.ok_or(damaged)?;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
        let at = self.places.numbers_of(sector, slot);
        let read = self.flash.read(at, bytes).map_err(RingError::Flash);
        if read.is_err() || fnv(bytes) != mark.hash {
            out.fill(0.0);
            return read.and(Err(RingError::Damaged { index }));
        }
        out.iter_mut().for_each(|v| *v = f32::from_bits(u32::from_le(v.to_bits())));
        Ok(mark.label)
    }

    /// Places of records, from the oldest sector's first on: of records and of what was begun and not ended.
    fn span(&self) -> usize {
        match self.used {
            0 => 0,
            used => (used - 1) * self.places.slots + self.next,
        }
    }

    /// The sector that was begun so many sectors before the newest.
    fn sector(&self, before: usize) -> usize {
        (self.newest + self.places.sectors - before) % self.places.sectors
    }

    /// Sector, its number and slot of a place.
    fn at(&self, place: usize) -> (usize, u64, usize) {
        let before = self.used - 1 - place / self.places.slots;
        (self.sector(before), self.sequence - before as u64, place % self.places.slots)
    }

    fn mark_at(&mut self, place: usize) -> Result<Option<Mark>, RingError<F::Error>> {
        let (sector, sequence, slot) = self.at(place);
        self.mark(sector, sequence, slot)
    }

    /// The place of a record.
    fn place(&mut self, index: usize) -> Result<usize, RingError<F::Error>> {
        let span = self.span();
        if self.count == span {
            return Ok(index);
        }
        let (mut before, first) = if self.found.0 <= index { self.found } else { (0, 0) };
        for place in first..span {
            if self.mark_at(place)?.is_some() {
                if before == index {
                    self.found = (index, place);
                    return Ok(place);
                }
                before += 1;
            }
        }
        Err(RingError::Damaged { index })
    }

    /// Makes the sector behind the newest the newest; if it was the oldest, its records are gone.
    fn begin_sector(&mut self) -> Result<(), RingError<F::Error>> {
        let sector = if self.sequence == 0 { 0 } else { self.sector(self.places.sectors - 1) };
        let sequence = self.sequence + 1;
        if self.used == self.places.sectors {
            let (old, number, _) = self.at(0);
            for slot in 0..self.places.slots {
                self.count -= usize::from(self.mark(old, number, slot)?.is_some()).min(self.count);
            }
            self.used -= 1;
            self.found = (0, 0);
        }
        self.erase(sector)?;
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&MAGIC);
        head[8..16].copy_from_slice(&sequence.to_le_bytes());
        head[16..48].copy_from_slice(&self.key);
        head[48..52].copy_from_slice(&(self.places.numbers as u32).to_le_bytes());
        head[52..56].copy_from_slice(&(self.places.slots as u32).to_le_bytes());
        let check = fnv(&head[..56]);
        head[56..].copy_from_slice(&check.to_le_bytes());
        self.program(sector * self.places.sector, &head)?;
        if self.head(sector)? != Some(sequence) {
            return Err(RingError::ReadBack);
        }
        (self.newest, self.sequence, self.next) = (sector, sequence, 0);
        self.used += 1;
        Ok(())
    }

    /// Erases a sector, the page with its head first.
    fn erase(&mut self, sector: usize) -> Result<(), RingError<F::Error>> {
        let begin = sector * self.places.sector;
        let mut pages = (begin..begin + self.places.sector).step_by(self.places.page);
        pages.try_for_each(|at| self.flash.erase(at)).map_err(RingError::Flash)
    }

    fn program(&mut self, at: usize, bytes: &[u8]) -> Result<(), RingError<F::Error>> {
        let mut out = Units::new(&mut self.flash, at, bytes.len());
        out.push(bytes).and_then(|()| out.finish()).map_err(RingError::Flash)
    }

    /// The number of a sector whose head is whole.
    fn head(&mut self, sector: usize) -> Result<Option<u64>, RingError<F::Error>> {
        let mut head = [0; HEAD];
        self.flash.read(sector * self.places.sector, &mut head).map_err(RingError::Flash)?;
        let sequence = number(&head[8..16]);
        if head[..8] != MAGIC || number(&head[56..]) != fnv(&head[..56]) || !(1..u64::MAX / 2).contains(&sequence) {
            return Ok(None);
        }
        let (numbers, slots) = (number(&head[48..52]) as usize, number(&head[52..56]) as usize);
        if head[16..48] != self.key || numbers != self.places.numbers || slots != self.places.slots {
            let mut key = [0; 32];
            key.copy_from_slice(&head[16..48]);
            return Err(RingError::Other { key, numbers });
        }
        Ok(Some(sequence))
    }

    /// The front of a record, if it is whole.
    fn mark(&mut self, sector: usize, sequence: u64, slot: usize) -> Result<Option<Mark>, RingError<F::Error>> {
        let mut bytes = [0; MARK];
        self.flash.read(self.places.record(sector, slot), &mut bytes).map_err(RingError::Flash)?;
        let mark = Mark { label: number(&bytes[..8]) as i64, hash: number(&bytes[8..16]) };
        Ok((bytes == front(sequence, slot, mark)).then_some(mark))
    }

    /// The hash of the bytes of a record's numbers.
    fn hash(&mut self, at: usize) -> Result<u64, RingError<F::Error>> {
        let mut hash = Fnv::new();
        self.pieces(at, 4 * self.places.numbers, |piece| hash.write(piece))?;
        Ok(hash.finish())
    }

    /// Reads bytes piece by piece.
    fn pieces(&mut self, at: usize, len: usize, mut each: impl FnMut(&[u8])) -> Result<(), RingError<F::Error>> {
        let mut buffer = [0; 64];
        for from in (0..len).step_by(buffer.len()) {
            let piece = &mut buffer[..(len - from).min(64)];
            self.flash.read(at + from, piece).map_err(RingError::Flash)?;
            each(piece);
        }
        Ok(())
    }

    /// The first slot of the newest sector behind which all are erased.
    fn first_blank(&mut self) -> Result<usize, RingError<F::Error>> {
        for slot in (0..self.places.slots).rev() {
            let mut blank = true;
            let at = self.places.record(self.newest, slot);
            self.pieces(at, self.places.stride, |piece| blank &= piece.iter().all(|byte| *byte == 0xff))?;
            if !blank {
                return Ok(slot + 1);
            }
        }
        Ok(0)
    }

    /// Whether a sector has a record whose numbers are not those of its front.
    fn is_spoilt(&mut self, before: usize) -> Result<bool, RingError<F::Error>> {
        let (sector, sequence) = (self.sector(before), self.sequence - before as u64);
        for slot in 0..self.places.slots {
            if let Some(mark) = self.mark(sector, sequence, slot)?
                && self.hash(self.places.numbers_of(sector, slot))? != mark.hash
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The bytes of a record's front.
fn front(sequence: u64, slot: usize, mark: Mark) -> [u8; MARK] {
    let mut bytes = [0; MARK];
    bytes[..8].copy_from_slice(&mark.label.to_le_bytes());
    bytes[8..16].copy_from_slice(&mark.hash.to_le_bytes());
    let mut check = Fnv::new();
    check.write(&sequence.to_le_bytes());
    check.write(&(slot as u64).to_le_bytes());
    check.write(&bytes[..16]);
    bytes[16..].copy_from_slice(&check.finish().to_le_bytes());
    bytes
}
