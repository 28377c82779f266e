//! Raw flash with any content: slots and rings of features are found or refused, and serve on; the power goes after any
//! byte. What was read before a save is read after it, where it was cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nunatak_core::fnv::fnv;
use nunatak_nn::files::ring::Ring;
use nunatak_nn::files::slots::{Flash, Slots};
use sha2::{Digest, Sha256};

/// Flash in memory that loses power after so many bytes were erased or programmed.
#[derive(Clone)]
struct Chip {
    bytes: Vec<u8>,
    page: usize,
    unit: usize,
    left: usize,
}

impl Flash for Chip {
    type Error = ();
    fn size(&self) -> usize {
        self.bytes.len()
    }
    fn page(&self) -> usize {
        self.page
    }
    fn unit(&self) -> usize {
        self.unit
    }
    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), ()> {
        out.copy_from_slice(&self.bytes[at..at + out.len()]);
        Ok(())
    }
    fn erase(&mut self, at: usize) -> Result<(), ()> {
        assert!(at.is_multiple_of(self.page));
        let page = self.page.min(self.left);
        self.left -= page;
        self.bytes[at..at + page].fill(0xff);
        if page < self.page { Err(()) } else { Ok(()) }
    }
    fn program(&mut self, at: usize, bytes: &[u8]) -> Result<(), ()> {
        assert!(at.is_multiple_of(self.unit) && bytes.len().is_multiple_of(self.unit));
        let some = bytes.len().min(self.left);
        self.left -= some;
        self.bytes[at..].iter_mut().zip(&bytes[..some]).for_each(|(old, new)| *old &= new);
        if some < bytes.len() { Err(()) } else { Ok(()) }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [how, page, unit, numbers, cut, more, content @ ..] = bytes else { return };
    let (page, unit) = (usize::from(*page % 16) * 32, usize::from(*unit % 72));
    let mut bytes = content.to_vec();
    bytes.resize(bytes.len().next_multiple_of((2 * page).max(1)), 0xff);
    let left = usize::from(u16::from_le_bytes([*cut, *more]));
    let mut chip = Chip { bytes, page, unit, left };
    match how & 1 == 0 {
        true => slots(&mut chip, how & 2 != 0),
        false => ring(&mut chip, usize::from(*numbers % 24), how & 2 != 0),
    }
});

/// Half of the flash each: headers get the hashes that they should have.
fn slots(chip: &mut Chip, repaired: bool) {
    let (half, header) = (chip.bytes.len() / 2, if chip.unit == 0 { 64 } else { 64_usize.next_multiple_of(chip.unit) });
    let size = chip.bytes.len();
    for slot in [0, half].into_iter().filter(|slot| repaired && slot + header <= size) {
        chip.bytes[slot..slot + 8].copy_from_slice(b"nunaslot");
        let len = u64::from_le_bytes(chip.bytes[slot + 16..slot + 24].try_into().expect("eight"));
        let start = slot + header;
        let content = usize::try_from(len).ok().and_then(|len| chip.bytes.get(start..start.checked_add(len)?));
        let hash: [u8; 32] = Sha256::digest(content.unwrap_or_default()).into();
        chip.bytes[slot + 24..slot + 56].copy_from_slice(&hash);
        let hash: [u8; 32] = Sha256::digest(&chip.bytes[slot..slot + 56]).into();
        chip.bytes[slot + 56..slot + 64].copy_from_slice(&hash[..8]);
    }
    let Ok(mut slots) = Slots::new(chip.clone()) else { return };
    let read = |slots: &mut Slots<Chip>| {
        let content = slots.newest().expect("power")?;
        let mut out = vec![0; content.len()];
        slots.read(&content, 0, &mut out).expect("inside");
        Some(out)
    };
    let before = read(&mut slots);
    let new = vec![7; slots.capacity().min(100)];
    let saved = slots.write(new.len(), |sink| new.chunks(13).try_for_each(sink)).is_ok();
    let after = read(&mut slots);
    assert!(after.as_ref() == Some(&new) || !saved && after == before, "{before:?}, then {after:?}");
}

/// Heads of sectors get the checksums that they should have, where a sector is a page.
fn ring(chip: &mut Chip, numbers: usize, repaired: bool) {
    let size = chip.bytes.len();
    for head in (0..size).step_by(chip.page.max(64)).filter(|at| repaired && at + 64 <= size) {
        let sum = fnv(&chip.bytes[head..head + 56]).to_le_bytes();
        chip.bytes[head + 56..head + 64].copy_from_slice(&sum);
    }
    let Ok(mut ring) = Ring::open(chip.clone(), [1; 32], numbers).or_else(|_| Ring::erased(chip.clone(), [1; 32], numbers)) else { return };
    let mut out = vec![0.0; numbers];
    let before = (0..ring.len()).filter(|i| ring.read(*i, &mut out).is_ok()).count();
    let appended = (0..5).filter(|label| ring.append(*label, &vec![0.5; numbers]).is_ok()).count();
    let here = (0..ring.len()).filter(|i| ring.read(*i, &mut out).is_ok()).count();
    let chip = Chip { left: usize::MAX, ..ring.flash().clone() };
    let mut again = Ring::open(chip, [1; 32], numbers).unwrap_or_else(|e| panic!("{before}, {appended}: {e:?}"));
    let there = (0..again.len()).filter(|i| again.read(*i, &mut out).is_ok()).count();
    assert!(there >= appended.min(again.capacity()) && here <= before + appended, "{before} + {appended}: {here}, then {there}");
    again.clear().expect("power");
    assert!(again.is_empty());
}
