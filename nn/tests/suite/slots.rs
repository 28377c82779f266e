//! Two slots in raw flash, and the power cut at every byte.

use nunatak_nn::files::slots::{Flash, SlotError, Slots};
use sha2::{Digest, Sha256};

/// Flash that loses power after so many bytes were erased or programmed.
#[derive(Clone)]
struct Chip {
    bytes: Vec<u8>,
    page: usize,
    unit: usize,
    /// Bytes until the power goes.
    left: usize,
    off: bool,
    random: u64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct PowerCut;

impl Chip {
    fn new(unit: usize) -> Chip {
        let mut chip = Chip { bytes: vec![0; 1024], page: 128, unit, left: usize::MAX, off: false, random: 99 + unit as u64 };
        for i in 0..chip.bytes.len() {
            chip.bytes[i] = chip.any();
        }
        chip
    }
    fn any(&mut self) -> u8 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as u8
    }
    /// Whether one more byte is done before the power goes.
    fn spend(&mut self) -> bool {
        self.off |= self.left == 0;
        self.left = self.left.saturating_sub(1);
        !self.off
    }
    /// Power is back, for so many bytes.
    fn reboot(&self, left: usize) -> Chip {
        Chip { left, off: false, ..self.clone() }
    }
}

impl Flash for Chip {
    type Error = PowerCut;
    fn size(&self) -> usize {
        self.bytes.len()
    }
    fn page(&self) -> usize {
        self.page
    }
    fn unit(&self) -> usize {
        self.unit
    }
    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), PowerCut> {
        if self.off {
            return Err(PowerCut);
        }
        out.copy_from_slice(&self.bytes[at..at + out.len()]);
        Ok(())
    }
    fn erase(&mut self, at: usize) -> Result<(), PowerCut> {
        assert!(at.is_multiple_of(self.page));
        for i in at..at + self.page {
            if !self.spend() {
                // Half erased: any of the zeros may have become ones.
                for i in i..at + self.page {
                    let some = self.any();
                    self.bytes[i] |= some;
                }
                return Err(PowerCut);
            }
            self.bytes[i] = 0xff;
        }
        Ok(())
    }
    fn program(&mut self, at: usize, bytes: &[u8]) -> Result<(), PowerCut> {
        assert!(at.is_multiple_of(self.unit) && bytes.len().is_multiple_of(self.unit));
        for (i, byte) in (at..).zip(bytes) {
            if !self.spend() {
                // Half programmed: some of its bits, and of the unit's others.
                for (i, byte) in (i..at + bytes.len()).zip(&bytes[i - at..]) {
                    let some = self.any();
                    self.bytes[i] &= byte | some;
                }
                return Err(PowerCut);
            }
            assert_eq!(self.bytes[i], 0xff, "byte {i} is programmed without having been erased");
            self.bytes[i] &= byte;
        }
        Ok(())
    }
}

fn text(version: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(7) ^ version.wrapping_mul(31)).collect()
}

fn save(chip: Chip, content: &[u8]) -> (Chip, Result<u64, SlotError<PowerCut>>) {
    let mut slots = Slots::new(chip).expect("slots");
    let done = slots.write(content.len(), |sink| content.chunks(13).try_for_each(sink));
    (slots.flash().clone(), done.map(|c| c.counter()))
}

fn load(chip: &Chip) -> Option<Vec<u8>> {
    let mut slots = Slots::new(chip.reboot(usize::MAX)).expect("slots");
    let content = slots.newest().expect("power")?;
    let mut out = vec![0; content.len()];
    slots.read(&content, 0, &mut out).expect("read");
    assert!(slots.read(&content, 1, &mut out).is_err());
    assert_eq!(slots.flash().bytes[content.start()..content.start() + content.len()], out);
    Some(out)
}

/// Bytes that a whole save erases and programs.
fn cost(chip: &Chip, content: &[u8]) -> usize {
    let all = 1 << 30;
    let (after, done) = save(chip.reboot(all), content);
    done.expect("a whole save");
    all - after.left
}

#[test]
fn a_power_cut_at_any_byte_leaves_the_old_or_the_new() {
    for unit in [1, 8, 32, 64] {
        let blank = Chip::new(unit);
        assert_eq!(load(&blank), None, "what a chip holds at first is nothing");
        let (first, done) = save(blank.clone(), &text(1, 300));
        assert_eq!((done, load(&first)), (Ok(1), Some(text(1, 300))));
        let (second, done) = save(first.clone(), &text(2, 77));
        assert_eq!((done, load(&second)), (Ok(2), Some(text(2, 77))));

        // From nothing, from one slot, from two; the new content shorter and longer than the old.
        for (before, old) in [(&blank, None), (&first, Some(text(1, 300))), (&second, Some(text(2, 77)))] {
            for new in [text(3, 0), text(3, 129), text(3, 448)] {
                let cost = cost(before, &new);
                for cut in 0..=cost {
                    let (after, done) = save(before.reboot(cut), &new);
                    let found = load(&after);
                    assert_eq!(done.is_ok(), cut == cost, "cut at {cut} of {cost}");
                    match found == Some(new.clone()) {
                        // The header's last bits may be there though the power went with them.
                        true => assert!(cut + unit >= cost, "cut at {cut} of {cost}"),
                        false => assert_eq!(found, old, "cut at {cut} of {cost}, unit {unit}"),
                    }
                    // The next save succeeds, and is the newest.
                    let (next, done) = save(after.reboot(usize::MAX), &text(4, 200));
                    assert!(done.is_ok() && load(&next) == Some(text(4, 200)), "after a cut at {cut}");
                }
            }
        }
    }
}

/// Cuts in a row, each in the repair of the one before.
#[test]
fn cuts_in_a_row_lose_nothing() {
    let (start, _) = save(Chip::new(8), &text(1, 300));
    let new = text(2, 200);
    let cost = cost(&start, &new);
    for first in (0..cost).step_by(7) {
        let (mut chip, _) = save(start.reboot(first), &new);
        for (i, cut) in (0..cost).step_by(61).enumerate() {
            let before = load(&chip).expect("something valid");
            let content = text(3 + i as u8, 150 + i);
            chip = save(chip.reboot(cut), &content).0;
            let found = load(&chip).expect("something valid");
            assert!(found == before || found == content);
        }
    }
}

#[test]
fn damage_to_the_newest_leaves_the_older() {
    let (first, _) = save(Chip::new(1), &text(1, 300));
    let (second, _) = save(first, &text(2, 300));
    for i in 512..512 + 64 + 300 {
        let mut chip = second.clone();
        // The second save lies in the second slot.
        chip.bytes[i] ^= 0x10;
        assert_eq!(load(&chip), Some(text(1, 300)), "byte {i}");
        let (next, done) = save(chip, &text(3, 10));
        assert!(done.is_ok() && load(&next) == Some(text(3, 10)));
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_erased() {
    let (chip, _) = save(Chip::new(32), &text(1, 300));
    let mut slots = Slots::new(chip.clone()).expect("slots");
    assert_eq!(slots.capacity(), 448);
    let error = slots.write(449, |_| panic!("not asked for")).expect_err("too long");
    assert_eq!(error, SlotError::Length { expected: 448, got: 449 });
    assert!(slots.flash().bytes == chip.bytes);
    // Other lengths than announced: the old content counts.
    for given in [0, 99, 101] {
        let error = slots.write(100, |sink| sink(&text(2, given))).expect_err("another length");
        assert_eq!(error, SlotError::Length { expected: 100, got: given });
        assert_eq!(load(slots.flash()), Some(text(1, 300)));
    }
    for (size, page, unit) in
        [(1024, 128, 0), (1024, 128, 65), (1024, 100, 8), (1000, 128, 8), (64, 32, 8), (1025, 1, 1), (0, 1, 1), (1024, 0, 1)]
    {
        let chip = Chip { bytes: vec![0; size], page, unit, ..Chip::new(1) };
        assert!(matches!(Slots::new(chip), Err(SlotError::Geometry(_))), "{size} {page} {unit}");
    }
}

/// A worn chip, some of whose bits can't be programmed any more.
struct Worn(Chip);

impl Flash for Worn {
    type Error = PowerCut;
    fn size(&self) -> usize {
        self.0.size()
    }
    fn page(&self) -> usize {
        self.0.page()
    }
    fn unit(&self) -> usize {
        self.0.unit()
    }
    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), PowerCut> {
        self.0.read(at, out)
    }
    fn erase(&mut self, at: usize) -> Result<(), PowerCut> {
        self.0.erase(at)
    }
    fn program(&mut self, at: usize, bytes: &[u8]) -> Result<(), PowerCut> {
        self.0.program(at, bytes)?;
        if (at..at + bytes.len()).contains(&700) {
            self.0.bytes[700] |= 1;
        }
        Ok(())
    }
}

#[test]
fn worn_flash_is_noticed() {
    let (chip, _) = save(Chip::new(1), &text(1, 300));
    let mut slots = Slots::new(Worn(chip)).expect("slots");
    let content = vec![0; 300];
    assert_eq!(slots.write(300, |sink| sink(&content)).expect_err("worn"), SlotError::ReadBack);
    assert_eq!(load(&slots.flash().0), Some(text(1, 300)));
}

/// Headers with right hashes and the highest counters: a save is still the newest.
#[test]
fn after_the_highest_counter_comes_zero() {
    let (first, _) = save(Chip::new(8), &text(1, 50));
    let (mut chip, _) = save(first.reboot(usize::MAX), &text(2, 60));
    for (slot, counter) in [(0, u64::MAX - 1), (512, u64::MAX)] {
        chip.bytes[slot + 8..slot + 16].copy_from_slice(&counter.to_le_bytes());
        let hash = Sha256::digest(&chip.bytes[slot..slot + 56]);
        chip.bytes[slot + 56..slot + 64].copy_from_slice(&hash[..8]);
    }
    assert_eq!(load(&chip), Some(text(2, 60)));
    for (version, counter) in [(3, 0), (4, 1), (5, 2)] {
        let (after, done) = save(chip.reboot(usize::MAX), &text(version, 70));
        assert_eq!((done, load(&after)), (Ok(counter), Some(text(version, 70))));
        chip = after;
    }
}
