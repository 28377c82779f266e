//! Saving to raw flash so that a power cut at any byte leaves something valid: two slots, written in
//! turn. No heap, no operating system.
//!
//! Each slot is half of the flash: a header of 64 bytes (more where the flash is programmed in larger
//! units) and the content.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `nunaslot` |
//! | 8 | 8 | counter, little-endian: one more than the slot's before it, and after 2⁶⁴ − 1 comes 0 |
//! | 16 | 8 | length of the content, little-endian |
//! | 24 | 32 | SHA-256 of the content |
//! | 56 | 8 | the first 8 bytes of the SHA-256 of the 56 bytes before |
//!
//! A save erases the slot that does not hold the newest content, programs the content, reads it back,
//! and programs the header last. Before the header's last byte the slot is not valid, and the other
//! one, which was not touched, counts; from then on this one does. A slot is valid if both hashes are
//! right; of two valid ones the newer is the one that is ahead of the other by less than 2⁶³.
//!
//! ```no_run
//! # use nunatak_nn::files::slots::{Flash, SlotError, Slots};
//! # fn save<F: Flash>(flash: F, trainer: &nunatak_nn::Trainer) -> Result<(), SlotError<F::Error>> {
//! let mut slots = Slots::new(flash)?;
//! let saving = trainer.saving(nunatak_nn::files::save::Save::Delta, &[]).map_err(SlotError::Refused)?;
//! slots.write(saving.len(), |sink| saving.write(sink).map(drop))?;
//! # Ok(())
//! # }
//! ```

use super::flash::{Units, check_units};
use core::fmt;
use sha2::{Digest, Sha256};

pub use super::flash::Flash;

/// Why slots can't be read or written. What was there before counts as before.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SlotError<E> {
    /// The flash refused.
    Flash(E),
    /// The flash's sizes do not fit together.
    Geometry(&'static str),
    /// More than a slot holds, or another number of bytes than was announced.
    Length {
        /// Bytes that were due, or that fit.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// What was read back is not what was programmed: the flash is worn out, or was not erased.
    ReadBack,
    /// What was to be saved could not be.
    Refused(crate::Error),
}

impl<E: fmt::Display> fmt::Display for SlotError<E> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            SlotError::Flash(e) => write!(f, "the flash refused: {e}"),
            SlotError::Geometry(what) => write!(f, "no slots in this flash: {what}"),
            SlotError::Length { expected, got } => write!(f, "{got} bytes for a slot, expected {expected}"),
            SlotError::ReadBack => f.write_str("the flash does not give back what was programmed; what was saved before still counts"),
            SlotError::Refused(e) => e.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for SlotError<E> {}

const MAGIC: [u8; 8] = *b"nunaslot";
const HEADER: usize = 64;

/// A valid slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    slot: usize,
    counter: u64,
    start: usize,
    len: usize,
    hash: [u8; 32],
}

impl Content {
    /// How many saves there have been, this one included.
    pub fn counter(&self) -> u64 {
        self.counter
    }
    /// Where in the flash it begins: where flash is memory, it can be read there.
    pub fn start(&self) -> usize {
        self.start
    }
    /// Its length.
    #[allow(clippy::len_without_is_empty)] // an empty content is content
    pub fn len(&self) -> usize {
        self.len
    }
}

/// Two slots in a flash.
pub struct Slots<F> {
    flash: F,
}

impl<F: Flash> Slots<F> {
    /// Takes a flash; nothing in it is changed.
    ///
    /// # Errors
    /// [`SlotError::Geometry`].
    pub fn new(flash: F) -> Result<Slots<F>, SlotError<F::Error>> {
        let (size, page, unit) = (flash.size(), flash.page(), flash.unit());
        let bad = |what| Err(SlotError::Geometry(what));
        check_units(page, unit).map_err(SlotError::Geometry)?;
        if !size.is_multiple_of(2) || !(size / 2).is_multiple_of(page) || size / 2 < header_room(unit) {
            return bad("half of it must be a multiple of a page, and hold a header");
        }
        Ok(Slots { flash })
    }

    /// The flash.
    pub fn flash(&mut self) -> &mut F {
        &mut self.flash
    }

    /// The most bytes that can be saved.
    pub fn capacity(&self) -> usize {
        self.flash.size() / 2 - header_room(self.flash.unit())
    }

    /// What was saved last, if anything was. Reads both slots.
    ///
    /// # Errors
    /// [`SlotError::Flash`].
    pub fn newest(&mut self) -> Result<Option<Content>, SlotError<F::Error>> {
        let slots = [self.header(0)?, self.header(1)?];
        // The newer first; where its content is damaged the older one counts.
        let ahead = |[a, b]: [Content; 2]| b.counter.wrapping_sub(a.counter) as i64 > 0;
        let order = if slots[0].zip(slots[1]).is_some_and(|(a, b)| ahead([a, b])) { [1, 0] } else { [0, 1] };
        for content in order.into_iter().filter_map(|i| slots[i]) {
            if self.hash(content.start, content.len)? == content.hash {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }

    /// Reads bytes of a content, from its byte `at` on.
    ///
    /// # Errors
    /// [`SlotError::Length`] past its end, [`SlotError::Flash`].
    pub fn read(&mut self, content: &Content, at: usize, out: &mut [u8]) -> Result<(), SlotError<F::Error>> {
        match at.checked_add(out.len()) {
            Some(end) if end <= content.len => self.flash.read(content.start + at, out).map_err(SlotError::Flash),
            end => Err(SlotError::Length { expected: content.len, got: end.unwrap_or(usize::MAX) }),
        }
    }

    /// Saves `len` bytes, which `fill` hands over piece by piece. After any error, and after a power
    /// cut at any moment, what was saved before is still the newest.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn write(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), SlotError<F::Error>>) -> Result<(), SlotError<F::Error>>,
    ) -> Result<Content, SlotError<F::Error>> {
        if len > self.capacity() {
            return Err(SlotError::Length { expected: self.capacity(), got: len });
        }
        let newest = self.newest()?;
        // The other slot goes; where no content is valid, none is in the way.
        let (slot, counter) = newest.map_or((0, 1), |n| (1 - n.slot, n.counter.wrapping_add(1)));
        let (half, page, unit) = (self.flash.size() / 2, self.flash.page(), self.flash.unit());
        let begin = slot * half;
        for at in (begin..begin + half).step_by(page) {
            self.flash.erase(at).map_err(SlotError::Flash)?;
        }
        let start = begin + header_room(unit);
        let mut out = Units::new(&mut self.flash, start, len);
        let (mut hash, mut came) = (Sha256::new(), 0_usize);
        fill(&mut |bytes| {
            came = came.saturating_add(bytes.len());
            if came > len {
                return Err(SlotError::Length { expected: len, got: came });
            }
            hash.update(bytes);
            out.push(bytes).map_err(SlotError::Flash)
        })?;
        if came != len {
            return Err(SlotError::Length { expected: len, got: came });
        }
        out.finish().map_err(SlotError::Flash)?;
        let hash: [u8; 32] = hash.finalize().into();
        if self.hash(start, len)? != hash {
            return Err(SlotError::ReadBack);
        }

        let mut header = [0xff; HEADER];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&counter.to_le_bytes());
        header[16..24].copy_from_slice(&(len as u64).to_le_bytes());
        header[24..56].copy_from_slice(&hash);
        let check = check_of(&header);
        header[56..].copy_from_slice(&check);
        let mut out = Units::new(&mut self.flash, begin, HEADER);
        out.push(&header).and_then(|()| out.finish()).map_err(SlotError::Flash)?;
        let content = Content { slot, counter, start, len, hash };
        if self.header(slot)? == Some(content) { Ok(content) } else { Err(SlotError::ReadBack) }
    }

    /// The header of a slot, if it is whole.
    fn header(&mut self, slot: usize) -> Result<Option<Content>, SlotError<F::Error>> {
        let begin = slot * (self.flash.size() / 2);
        let mut header = [0; HEADER];
        self.flash.read(begin, &mut header).map_err(SlotError::Flash)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let len = usize::try_from(number(16)).ok().filter(|&len| len <= self.capacity());
        let (Some(len), true, true) = (len, header[..8] == MAGIC, header[56..] == check_of(&header)) else { return Ok(None) };
        let mut hash = [0; 32];
        hash.copy_from_slice(&header[24..56]);
        Ok(Some(Content { slot, counter: number(8), start: begin + header_room(self.flash.unit()), len, hash }))
    }

    fn hash(&mut self, start: usize, len: usize) -> Result<[u8; 32], SlotError<F::Error>> {
        let mut hash = Sha256::new();
        let mut buffer = [0; 256];
        for at in (0..len).step_by(buffer.len()) {
            let piece = &mut buffer[..(len - at).min(256)];
            self.flash.read(start + at, piece).map_err(SlotError::Flash)?;
            hash.update(&*piece);
        }
        Ok(hash.finalize().into())
    }
}

/// Bytes of a slot before its content.
const fn header_room(unit: usize) -> usize {
    HEADER.next_multiple_of(unit)
}

fn check_of(header: &[u8; HEADER]) -> [u8; 8] {
    let hash: [u8; 32] = Sha256::digest(&header[..56]).into();
    let mut check = [0; 8];
    check.copy_from_slice(&hash[..8]);
    check
}
