//! A ring of features in raw flash, and the power cut at every byte.

use nunatak_nn::files::ring::{Flash, Ring, RingError};

/// Flash that loses power after so many bytes were erased or programmed.
#[derive(Clone)]
struct Chip {
    bytes: Vec<u8>,
    page: usize,
    unit: usize,
    /// For each unit whether it was programmed since it was erased.
    written: Vec<bool>,
    /// Bytes until the power goes.
    left: usize,
    spent: usize,
    off: bool,
    /// A bit that can't be programmed any more.
    stuck: Option<usize>,
    random: u64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct PowerCut;

type Failed = RingError<PowerCut>;

impl Chip {
    /// New flash is not erased.
    fn new(size: usize, page: usize, unit: usize) -> Chip {
        let (written, bytes) = (vec![true; size / unit], vec![0; size]);
        let mut chip = Chip { bytes, page, unit, written, left: usize::MAX, spent: 0, off: false, stuck: None, random: 99 + unit as u64 };
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
    fn below(&mut self, most: usize) -> usize {
        (usize::from(self.any()) << 16 | usize::from(self.any()) << 8 | usize::from(self.any())) % most
    }
    /// Whether one more byte is done before the power goes.
    fn spend(&mut self) -> bool {
        self.off |= self.left == 0;
        self.left = self.left.saturating_sub(1);
        self.spent += usize::from(!self.off);
        !self.off
    }
    /// Power is back, for so many bytes.
    fn reboot(&self, left: usize) -> Chip {
        Chip { left, off: false, spent: 0, ..self.clone() }
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
        // From either end: no flash says in which order its cells become ones.
        let backwards = self.any() & 1 == 1;
        let page = self.page;
        let place = |n: usize| at + if backwards { page - 1 - n } else { n };
        for n in 0..page {
            let i = place(n);
            if !self.spend() {
                // Half erased: any of the zeros of the next bytes, or of all, may have become ones.
                let some = if self.any() & 1 == 1 { 8 } else { page };
                for i in (n..page).take(some).map(place) {
                    let some = self.any() & self.any();
                    self.bytes[i] |= some;
                }
                return Err(PowerCut);
            }
            self.bytes[i] = 0xff;
            self.written[i / self.unit] &= if backwards { !i.is_multiple_of(self.unit) } else { !(i + 1).is_multiple_of(self.unit) };
        }
        Ok(())
    }
    fn program(&mut self, at: usize, bytes: &[u8]) -> Result<(), PowerCut> {
        assert!(at.is_multiple_of(self.unit) && bytes.len().is_multiple_of(self.unit));
        for (n, unit) in bytes.chunks(self.unit).enumerate() {
            let at = at + n * self.unit;
            assert!(!self.written[at / self.unit], "the unit at {at} was programmed before");
            for _ in 0..self.unit {
                if !self.spend() {
                    // Half programmed: any of the bits that should have become zeros.
                    for (i, byte) in (at..).zip(unit) {
                        let some = self.any();
                        self.bytes[i] &= byte | some;
                        self.written[at / self.unit] |= self.bytes[i] != 0xff;
                    }
                    return Err(PowerCut);
                }
            }
            for (i, byte) in (at..).zip(unit) {
                self.bytes[i] &= byte;
                if self.stuck == Some(i) {
                    self.bytes[i] |= 0x10;
                }
            }
            self.written[at / self.unit] = true;
        }
        Ok(())
    }
}

const KEY: [u8; 32] = [7; 32];

/// Pages, units, numbers of a record, bytes: records smaller and larger than a page, units that divide nothing.
const CHIPS: [(usize, usize, usize, usize); 5] =
    [(128, 1, 2, 512), (256, 4, 5, 768), (64, 8, 20, 2048), (256, 64, 3, 1024), (512, 16, 9, 1536)];

fn features(label: i64, numbers: usize) -> Vec<f32> {
    (0..numbers).map(|i| label as f32 * 0.37 - i as f32 * 1.5).collect()
}

fn open(chip: Chip, numbers: usize) -> Ring<Chip> {
    Ring::open(chip, KEY, numbers).expect("it opens")
}

/// The labels of all records, whose features must be theirs.
fn labels(ring: &mut Ring<Chip>) -> Vec<i64> {
    let mut out = vec![0.0; ring.numbers()];
    let mut all = Vec::new();
    for i in 0..ring.len() {
        let label = ring.read(i, &mut out).expect("a record");
        all.push(own(label, &out));
    }
    // In any order they are the same.
    for i in (0..ring.len()).rev() {
        assert_eq!(ring.read(i, &mut out), Ok(all[i]));
    }
    assert_eq!(ring.read(ring.len(), &mut out), Err(RingError::NoRecord { count: ring.len(), index: ring.len() }));
    all
}

/// A label whose features these must be.
fn own(label: i64, out: &[f32]) -> i64 {
    assert_eq!(out, features(label, out.len()), "the features of {label}");
    label
}

fn append(ring: &mut Ring<Chip>, label: i64) -> Result<(), Failed> {
    let numbers = ring.numbers();
    ring.append(label, &features(label, numbers))
}

#[test]
fn a_full_ring_keeps_the_newest() {
    for (page, unit, numbers, size) in CHIPS {
        let mut ring = Ring::erased(Chip::new(size, page, unit), KEY, numbers).expect("a ring");
        assert!(ring.is_empty() && ring.capacity() > 0, "{page} {unit}");
        let most = size / (24 + 4 * numbers);
        for label in 0..4 * most as i64 {
            append(&mut ring, label).expect("appended");
            let there = labels(&mut ring);
            assert!(there.len() >= ring.capacity().min(label as usize + 1) && there.len() <= most);
            assert!(there.iter().copied().eq(label + 1 - there.len() as i64..=label), "{there:?}");
            assert_eq!(labels(&mut open(ring.flash().clone(), numbers)), there, "after a restart");
        }
    }
}

/// Whether what is there after a power cut is right: what had come before the call, whole and in order, but for records
/// of the oldest sector where the call erases it; and at most the new one behind it.
fn is_right(there: &[i64], before: &[i64], after: &[i64]) -> bool {
    let new = *after.last().expect("a record");
    let there = there.strip_suffix(&[new]).unwrap_or(there);
    let kept = &after[..after.len() - 1];
    // Of those that are to be erased any may be there, in their order.
    let going = &before[..before.len() - kept.len()];
    let Some(rest) = there.strip_suffix(kept) else { return false };
    let mut going = going.iter();
    rest.iter().all(|label| going.any(|other| other == label))
}

#[test]
fn no_power_cut_loses_or_makes_up_a_record() {
    for (page, unit, numbers, size) in CHIPS {
        let mut ring = Ring::erased(Chip::new(size, page, unit), KEY, numbers).expect("a ring");
        let rounds = 3 * size / (24 + 4 * numbers);
        for label in 0..rounds as i64 {
            let start = ring.flash().reboot(usize::MAX);
            let before = labels(&mut ring);
            let mut whole = open(start.clone(), numbers);
            append(&mut whole, label).expect("appended");
            let (after, cost) = (labels(&mut whole), whole.flash().spent);
            for left in 0..cost {
                let mut cut = open(start.reboot(left), numbers);
                assert_eq!(append(&mut cut, label), Err(RingError::Flash(PowerCut)), "{left} of {cost}");
                let mut again = open(cut.flash().reboot(usize::MAX), numbers);
                let there = labels(&mut again);
                assert!(is_right(&there, &before, &after), "{page} {unit}: {left} of {cost}: {before:?} became {there:?}");
                // It goes on, also where power fails once more.
                let more = cut.flash().clone().below(2 * cost);
                let mut twice = open(cut.flash().reboot(more), numbers);
                let _ = append(&mut twice, 1000).and_then(|()| append(&mut twice, 1001));
                let mut last = open(twice.flash().reboot(usize::MAX), numbers);
                append(&mut last, 1002).expect("appended");
                let end = labels(&mut last);
                let (mut there, mut new) = (there.iter(), [1000, 1001, 1002].iter());
                let in_order = end.iter().all(|label| if *label < 1000 { there.any(|l| l == label) } else { new.any(|l| l == label) });
                assert!(in_order && end.is_sorted() && end.ends_with(&[1002]), "{before:?} became {end:?}");
            }
            // Once in a while a cut is part of the ring's life, and what it left too.
            if label % 5 == 3 {
                let mut cut = open(start.reboot(cost / 2), numbers);
                let _ = append(&mut cut, label);
                ring = open(cut.flash().reboot(usize::MAX), numbers);
            } else {
                append(&mut ring, label).expect("appended");
            }
        }
    }
}

#[test]
fn a_power_cut_while_it_is_cleared_leaves_the_newest() {
    for (page, unit, numbers, size) in CHIPS {
        let mut ring = Ring::erased(Chip::new(size, page, unit), KEY, numbers).expect("a ring");
        (0..2 * ring.capacity() as i64 + 1).for_each(|label| append(&mut ring, label).expect("appended"));
        let (before, mut whole) = (labels(&mut ring), open(ring.flash().reboot(usize::MAX), numbers));
        whole.clear().expect("cleared");
        for left in 0..whole.flash().spent {
            let mut cut = open(ring.flash().reboot(left), numbers);
            assert_eq!(cut.clear(), Err(RingError::Flash(PowerCut)));
            let mut again = open(cut.flash().reboot(usize::MAX), numbers);
            let there = labels(&mut again);
            assert!(there.last().is_none_or(|last| before.last() == Some(last) || there.len() < before.len()), "{there:?}");
            assert!(there.is_sorted() && there.iter().all(|label| before.contains(label)));
            append(&mut again, 77).expect("appended");
            assert!(labels(&mut again).ends_with(&[77]));
            again.clear().expect("cleared");
            append(&mut again, 78).expect("appended");
            assert_eq!((labels(&mut again), labels(&mut open(again.flash().clone(), numbers))), (vec![78], vec![78]));
        }
        ring.clear().expect("cleared");
        assert!(ring.is_empty() && open(ring.flash().clone(), numbers).is_empty());
    }
}

#[test]
fn features_of_another_network_are_refused() {
    let (page, unit, numbers, size) = CHIPS[1];
    let mut ring = Ring::erased(Chip::new(size, page, unit), KEY, numbers).expect("a ring");
    assert!(Ring::open(ring.flash().clone(), [8; 32], numbers).is_ok_and(|ring| ring.is_empty()), "nothing is there yet");
    append(&mut ring, 1).expect("appended");
    let bytes = ring.flash().bytes.clone();
    for (key, numbers) in [([8; 32], numbers), (KEY, numbers - 1), (KEY, numbers + 1)] {
        let refused = Ring::open(ring.flash().clone(), key, numbers).map(|_| ());
        assert_eq!(refused, Err(RingError::Other { key: KEY, numbers: 5 }));
        let mut other = Ring::erased(ring.flash().clone(), key, numbers).expect("erased");
        other.append(2, &vec![0.5; numbers]).expect("appended");
        assert_eq!((other.len(), other.read(0, &mut vec![0.0; numbers])), (1, Ok(2)));
        assert!(matches!(Ring::open(other.flash().clone(), KEY, 5).map(|_| ()), Err(RingError::Other { .. })));
    }
    assert!(ring.flash().bytes == bytes, "opening changes nothing");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (page, unit, numbers, size) = CHIPS[0];
    let mut ring = Ring::erased(Chip::new(size, page, unit), KEY, numbers).expect("a ring");
    append(&mut ring, 5).expect("appended");
    let bytes = ring.flash().bytes.clone();
    assert_eq!(ring.append(1, &[0.5; 3]), Err(RingError::Length { expected: 2, got: 3 }));
    assert_eq!(ring.append(1, &[]), Err(RingError::Length { expected: 2, got: 0 }));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(ring.append(1, &[0.5, bad]), Err(RingError::NotFinite { at: 1 }));
    }
    assert_eq!(ring.read(0, &mut [0.0; 1]), Err(RingError::Length { expected: 2, got: 1 }));
    assert_eq!(ring.read(1, &mut [0.0; 2]), Err(RingError::NoRecord { count: 1, index: 1 }));
    assert_eq!(ring.read(usize::MAX, &mut [0.0; 2]), Err(RingError::NoRecord { count: 1, index: usize::MAX }));
    assert!(ring.flash().bytes == bytes);
    for numbers in [0, 200, usize::MAX] {
        assert!(matches!(Ring::open(ring.flash().clone(), KEY, numbers).map(|_| ()), Err(RingError::Geometry(_))), "{numbers}");
    }
    // Negative labels, and every bit of a feature.
    for (label, features) in [(-1, [-0.0, f32::MIN_POSITIVE / 4.0]), (i64::MIN, [f32::MAX, f32::MIN])] {
        ring.append(label, &features).expect("appended");
        let mut out = [0.0; 2];
        assert_eq!(ring.read(ring.len() - 1, &mut out), Ok(label));
        assert_eq!(out.map(f32::to_bits), features.map(f32::to_bits));
    }
}

#[test]
fn worn_flash_is_noticed() {
    let (page, unit, numbers, size) = CHIPS[2];
    let good = Ring::erased(Chip::new(size, page, unit), KEY, numbers).expect("a ring").flash().clone();
    let mut noticed = 0;
    for at in 0..size {
        let mut ring = open(Chip { stuck: Some(at), ..good.clone() }, numbers);
        let mut due = Vec::new();
        for label in 0..6 {
            match append(&mut ring, label) {
                Ok(()) => due.push(label),
                Err(e) => {
                    assert_eq!(e, RingError::ReadBack);
                    noticed += 1;
                }
            }
            let there = labels(&mut ring);
            assert!(due.ends_with(&there), "{at}: {there:?} of {due:?}");
            assert_eq!(labels(&mut open(ring.flash().clone(), numbers)), there, "{at}");
        }
    }
    assert!(noticed > 100, "{noticed}");
}

/// Any bytes: no panic, and whatever is read is what was appended.
#[test]
fn damaged_flash_gives_no_wrong_record() {
    for (page, unit, numbers, size) in CHIPS {
        let mut ring = Ring::erased(Chip::new(size, page, unit), KEY, numbers).expect("a ring");
        (0..2 * ring.capacity() as i64 + 1).for_each(|label| append(&mut ring, label).expect("appended"));
        let good = ring.flash().clone();
        let (mut random, mut read, mut damaged, mut refused) = (good.clone(), 0, 0, 0);
        for round in 0..3000 {
            let mut chip = good.clone();
            let (at, to, len) = (random.below(size), random.below(size), 1 + random.below(3 * page / 2));
            match round % 6 {
                0 => chip.bytes[at] ^= 1 << (round % 8),
                1 => (at..(at + len).min(size)).for_each(|i| chip.bytes[i] = random.any()),
                2 => (at..(at + len).min(size)).for_each(|i| chip.bytes[i] = 0xff),
                3 => (at..(at + len).min(size)).for_each(|i| chip.bytes[i] = 0),
                4 => chip.bytes.copy_within(at..at + len.min(size - at).min(size - to), to),
                _ => (0..size).for_each(|i| chip.bytes[i] = random.any()),
            }
            let Ok(mut ring) = Ring::open(chip, KEY, numbers) else {
                refused += 1;
                continue;
            };
            let mut out = vec![0.0; numbers];
            for i in 0..ring.len() {
                match ring.read(i, &mut out) {
                    Ok(label) => {
                        own(label, &out);
                        read += 1;
                    }
                    Err(e) => {
                        assert_eq!(e, RingError::Damaged { index: i });
                        assert!(out.iter().all(|v| *v == 0.0));
                        damaged += 1;
                    }
                }
            }
            // It can be used all the same.
            let flash = ring.flash();
            flash.written = flash.bytes.chunks(unit).map(|unit| unit.iter().any(|byte| *byte != 0xff)).collect();
            append(&mut ring, 50).expect("appended");
            assert_eq!(ring.read(ring.len() - 1, &mut out), Ok(50));
        }
        assert!(read > 1000 && damaged > 20, "{read} read, {damaged} damaged, {refused} refused");
    }
}

/// Sizes of boards: 200 images of ResNet18 and of ResNet-8.
#[test]
fn bytes_of_flash_are_told() {
    for (page, unit) in [(2048, 8), (4096, 1), (131_072, 32)] {
        for numbers in [512, 64] {
            let size = Ring::<Chip>::flash_bytes(numbers, 200, page, unit).expect("bytes");
            assert!(
                size.is_multiple_of(page) && size >= 200 * 4 * numbers && size <= 200 * (4 * numbers + 96) * 9 / 8 + 3 * 131_072,
                "{size}"
            );
            let mut ring = Ring::erased(Chip::new(size, page, unit), KEY, numbers).expect("a ring");
            assert!(ring.capacity() >= 200);
            (0..500).for_each(|label| append(&mut ring, label).expect("appended"));
            assert!(ring.len() >= 200 && labels(&mut open(ring.flash().clone(), numbers)).ends_with(&[499]));
        }
    }
    assert!(matches!(Ring::<Chip>::flash_bytes(0, 200, 2048, 8), Err(RingError::Geometry(_))));
    assert!(matches!(Ring::<Chip>::flash_bytes(64, usize::MAX, 2048, 8), Err(RingError::Geometry(_))));
}
