//! What is proven of a program before anything relies on it.

use super::call::FRONT;
use super::{BYTE_ORDER, Call, ENTRY, EntryKind, HEADER, MAGIC, MOST_REGIONS, NO_UNIT, Place, Program, REGION, VALUE, VERSION, checksum};
use crate::arena::{MOST_NUMBERS, UNIT};
use core::fmt;
use core::ops::Range;

/// Why bytes are no program that can be executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProgramError {
    /// Too short, not a multiple of 64 bytes, or another length than the header says.
    Length {
        /// The bytes that the header asks for, or a program at least has.
        expected: usize,
        /// The bytes that came.
        got: usize,
    },
    /// The first bytes are not a program's.
    Magic,
    /// Another version of the format.
    Version {
        /// The version of the bytes.
        got: u32,
    },
    /// The bytes were changed.
    Checksum {
        /// What the header says.
        expected: u64,
        /// What the bytes give.
        got: u64,
    },
    /// Something is wrong at a word.
    At {
        /// The word.
        word: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Something is wrong in a node's call.
    Call {
        /// The node.
        node: u32,
        /// What is wrong.
        what: &'static str,
    },
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            ProgramError::Length { expected, got } => write!(f, "a program of {expected} bytes was expected, got {got}"),
            ProgramError::Magic => f.write_str("these bytes are no program: the first eight are others"),
            ProgramError::Version { got } => {
                write!(f, "a program of version {got}; this library reads version {VERSION}. Make the program anew from its recording")
            }
            ProgramError::Checksum { expected, got } => {
                write!(f, "the program is damaged: its checksum is {got:016x}, its header says {expected:016x}")
            }
            ProgramError::At { word, what } => write!(f, "the program is damaged at word {word}: {what}"),
            ProgramError::Call { node, what } => write!(f, "the program's call of node {node} is damaged: {what}"),
        }
    }
}

impl core::error::Error for ProgramError {}

/// The sections: the header's word, and words of an item (0: bytes).
const SECTIONS: [(usize, usize); 8] = [(24, REGION), (26, ENTRY), (28, 1), (30, VALUE), (32, 1), (34, 1), (36, 1), (38, 0)];

impl Program<'_> {
    fn bad(&self, word: usize, what: &'static str) -> ProgramError {
        ProgramError::At { word, what }
    }

    pub(super) fn check_structure(&self) -> Result<(), ProgramError> {
        let bytes = self.bytes();
        if bytes.len() < 4 * HEADER || !bytes.len().is_multiple_of(4 * UNIT) || bytes.len() > u32::MAX as usize {
            return Err(ProgramError::Length { expected: 4 * HEADER, got: bytes.len() });
        }
        if bytes[..8] != MAGIC {
            return Err(ProgramError::Magic);
        }
        if self.word(2) != VERSION {
            return Err(ProgramError::Version { got: self.word(2) });
        }
        if self.word(3) != BYTE_ORDER {
            return Err(self.bad(3, "another order of bytes"));
        }
        if self.size(4) != bytes.len() / 4 {
            return Err(ProgramError::Length { expected: self.size(4).saturating_mul(4), got: bytes.len() });
        }
        let (expected, got) = (self.hash(), checksum(bytes));
        if expected != got {
            return Err(ProgramError::Checksum { expected, got });
        }
        self.check_sections()?;
        self.check_regions()?;
        self.check_entries()?;
        self.check_values()?;
        for walk in [self.forward(), self.backward()] {
            self.check_calls(walk.at, walk.end, walk.backward)?;
        }
        match self.root() {
            Some(root) if !self.values().any(|value| value.node() == root) => Err(self.bad(23, "the root has no door")),
            _ => Ok(()),
        }
    }

    /// The sections follow each other without gaps, and the text is text.
    fn check_sections(&self) -> Result<(), ProgramError> {
        let (mut at, end) = (HEADER as u64, self.bytes().len() as u64 / 4);
        for (word, size) in SECTIONS {
            if u64::from(self.word(word)) != at {
                return Err(self.bad(word, "a section does not begin where the one before it ends"));
            }
            let count = u64::from(self.word(word + 1));
            at += if size == 0 { count.div_ceil(4) } else { count * size as u64 };
            if at > end {
                return Err(self.bad(word + 1, "a section reaches past the program"));
            }
        }
        if at.next_multiple_of(UNIT as u64) != end {
            return Err(self.bad(4, "words that belong to no section"));
        }
        let text = 4 * self.size(38);
        if core::str::from_utf8(&self.bytes()[text..text + self.size(39)]).is_err() {
            return Err(self.bad(38, "the text is not UTF-8"));
        }
        self.check_name(40)?;
        self.check_name(42)
    }

    /// A name lies in the text, and begins and ends between characters.
    fn check_name(&self, word: usize) -> Result<(), ProgramError> {
        let (first, len) = (u64::from(self.word(word)), u64::from(self.word(word + 1)));
        if first + len > self.size(39) as u64 {
            return Err(self.bad(word, "a name reaches past the text"));
        }
        let start = 4 * self.size(38) + first as usize;
        match core::str::from_utf8(&self.bytes()[start..start + len as usize]) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.bad(word, "a name cuts a character")),
        }
    }

    fn check_regions(&self) -> Result<(), ProgramError> {
        let count = self.size(25);
        if !(1..=MOST_REGIONS).contains(&count) {
            return Err(self.bad(25, "no region, or more than eight"));
        }
        let most = (MOST_NUMBERS / UNIT) as u64;
        let units = |i: usize| {
            let at = self.size(24) + i * REGION;
            u64::from(self.word(at + 3))..u64::from(self.word(at + 3)) + u64::from(self.word(at + 2))
        };
        if self.size(22) as u64 > most {
            return Err(self.bad(22, "the weights file does not fit the address space"));
        }
        for i in 0..count {
            let at = self.size(24) + i * REGION;
            self.check_name(at)?;
            let own = units(i);
            if own.end > most {
                return Err(self.bad(at + 2, "a region does not fit the address space"));
            }
            if (0..i).map(units).any(|other| own.start < other.end && other.start < own.end) {
                return Err(self.bad(at + 3, "regions overlap"));
            }
        }
        let block = self.block_len() / UNIT;
        if self.size(51) > self.size(52) || self.size(52) > block {
            return Err(self.bad(51, "the lasting state lies behind the lasting part, or this behind the block"));
        }
        if !self.in_one_region(self.state()) {
            return Err(self.bad(51, "the lasting state lies in no region, or in two"));
        }
        let counts = self.entries().filter(|id| self.entry(*id).kind() == EntryKind::Count).count();
        let state = Program::marks(counts) as u64 + self.entry_count() as u64 + self.value_count() as u64;
        if (self.state().len() as u64) * 4 < state {
            return Err(self.bad(51, "the lasting state is too short for its counts and marks"));
        }
        if self.threads() == 0 {
            return Err(self.bad(9, "no thread"));
        }
        Ok(())
    }

    /// A place lies in one region.
    fn holds(&self, place: Place, read_only: bool) -> bool {
        let end = u64::from(place.unit) * UNIT as u64 + u64::from(place.len);
        match place.is_read_only() {
            _ if place.is_empty() => true,
            true => read_only && end <= self.weights_len() as u64,
            // What ends behind the block may not fit a `usize`.
            false => place.region == 0 && end <= self.block_len() as u64 && self.in_one_region(place.range()),
        }
    }

    fn in_one_region(&self, numbers: Range<usize>) -> bool {
        numbers.is_empty()
            || (0..self.region_count()).any(|i| {
                let region = self.region(i).range;
                region.start <= numbers.start && numbers.end <= region.end
            })
    }

    fn check_entries(&self) -> Result<(), ProgramError> {
        let (mut counts, lasting) = (0, self.size(51));
        for (i, id) in self.entries().enumerate() {
            let at = self.size(26) + i * ENTRY;
            self.check_name(at)?;
            let entry = self.entry(id);
            let (shape, rank) = entry.shape();
            if entry.kind_number() >= EntryKind::ALL.len() {
                return Err(self.bad(at + 2, "an entry of a kind that there is not"));
            }
            if entry.kind() == EntryKind::Words && (entry.is_trained() || rank != 1) {
                return Err(self.bad(at + 2, "words that are trained, or have not one dimension"));
            }
            if rank > 4 || shape.iter().skip(rank).any(|size| *size != 1) {
                return Err(self.bad(at + 2, "a rank above 4, or sizes beyond the rank"));
            }
            let numbers = shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size).filter(|n| *n <= MOST_NUMBERS && *n > 0));
            let Some(numbers) = numbers else { return Err(self.bad(at + 3, "a shape of no numbers, or too many")) };
            let place = entry.place();
            if entry.kind() == EntryKind::Count {
                if place.unit != counts || place.len != 0 || rank != 0 {
                    return Err(self.bad(at + 12, "counts are not numbered in their order"));
                }
                if entry.is_trained() || entry.is_borrowed() || entry.momentum().is_some() || entry.gradient().is_some() {
                    return Err(self.bad(at + 2, "a count that is trained, or read in place"));
                }
                counts += 1;
                continue;
            }
            if place.len() < numbers || !self.holds(place, true) {
                return Err(self.bad(at + 12, "an entry is shorter than its shape, or lies outside its region"));
            }
            let beside = entry.momentum().is_some() || entry.gradient().is_some();
            if beside && (!entry.is_trained() || entry.is_borrowed() || entry.kind() != EntryKind::Parameter) {
                return Err(self.bad(at + 14, "a momentum or gradient of what is not trained"));
            }
            let behind = |p: Place| u64::from(p.unit) + u64::from(p.len).div_ceil(UNIT as u64) > lasting as u64;
            if !entry.is_borrowed() && behind(place) {
                return Err(self.bad(at + 12, "an entry does not lie in the lasting part"));
            }
            if entry.momentum().is_some_and(|p| !self.holds(p, false) || p.meets(place) || behind(p)) {
                return Err(self.bad(at + 14, "a momentum lies outside the lasting part, or over the entry"));
            }
            if entry.gradient().is_some_and(|p| !self.holds(p, false) || p.unit < self.word(52)) {
                return Err(self.bad(at + 15, "a gradient lies outside the passing part of the block"));
            }
            let (_, a, b, bound) = entry.init();
            if !(a.is_finite() && b.is_finite() && bound.is_finite()) {
                return Err(self.bad(at + 17, "an initialisation that is not finite"));
            }
        }
        self.check_order()?;
        for (word, ids) in [(28, self.size(29)), (36, self.size(37))] {
            let first = self.size(word);
            if (first..first + ids).any(|at| self.size(at) >= self.entry_count()) {
                return Err(self.bad(first, "an entry that there is not"));
            }
        }
        for id in self.draws() {
            let entry = self.entry(id);
            if entry.kind() != EntryKind::Parameter {
                return Err(self.bad(28, "a first draw of what is no parameter"));
            }
        }
        for id in self.updates() {
            let entry = self.entry(id);
            if entry.is_borrowed() || entry.kind() != EntryKind::Parameter || !entry.is_trained() {
                return Err(self.bad(36, "an update of what is not trained"));
            }
        }
        Ok(())
    }

    /// The lasting part has its order, so that nothing in it overlaps: parameters, running statistics, momentum,
    /// each in the order of the entries (words are among the parameters).
    fn check_order(&self) -> Result<(), ProgramError> {
        let mut end = 0;
        for class in 0..3 {
            for (i, id) in self.entries().enumerate() {
                let entry = self.entry(id);
                let place = match (class, entry.kind()) {
                    (0, EntryKind::Parameter | EntryKind::Words) | (1, EntryKind::RunningMean | EntryKind::RunningVar)
                        if !entry.is_borrowed() =>
                    {
                        Some(entry.place())
                    }
                    (2, EntryKind::Parameter | EntryKind::RunningMean | EntryKind::RunningVar) => entry.momentum(),
                    _ => None,
                };
                let Some(place) = place else { continue };
                if place.range().start < end {
                    return Err(self.bad(self.size(26) + i * ENTRY + 12, "entries overlap, or are not in their order"));
                }
                end = place.range().end;
            }
        }
        Ok(())
    }

    fn check_values(&self) -> Result<(), ProgramError> {
        for i in 0..self.value_count() {
            let at = self.size(30) + i * VALUE;
            self.check_name(at + 2)?;
            let value = self.value(i);
            let [n, c, h, w] = value.shape();
            if crate::Shape::new(n, c, h, w).map(|shape| shape.len()) != Ok(value.place().len()) {
                return Err(self.bad(at + 4, "a value whose shape and length differ"));
            }
            let passes = |p: Place| self.holds(p, false) && p.unit >= self.word(52);
            if !passes(value.place()) || value.gradient().is_some_and(|p| !passes(p)) {
                return Err(self.bad(at + 8, "a value lies outside the passing part of the block"));
            }
            if i > 0 && value.node() <= self.value(i - 1).node() {
                return Err(self.bad(at, "values are not in the order of their nodes"));
            }
        }
        Ok(())
    }

    fn check_calls(&self, mut at: usize, end: usize, backward: bool) -> Result<(), ProgramError> {
        let mut last: Option<u32> = None;
        while at < end {
            if end - at < FRONT {
                return Err(self.bad(at, "a call is cut off"));
            }
            let words = self.size(at + 1);
            if words < FRONT || words > end - at {
                return Err(self.bad(at + 1, "a call is longer than its section, or too short"));
            }
            let call = Call::new(self, at, backward);
            if call.front() > words {
                return Err(self.bad(at + 3, "a call is too short for its places"));
            }
            let node = call.node();
            if call.is_again() {
                if !backward {
                    return Err(self.bad(at + 3, "a forward call that is made again in the forward walk"));
                }
                self.check_call(&call)?;
                at += words;
                continue;
            }
            if last.is_some_and(|last| if backward { node >= last } else { node <= last }) {
                return Err(self.bad(at + 2, "calls are not in the order of the walk"));
            }
            last = Some(node);
            self.check_call(&call)?;
            at += words;
        }
        Ok(())
    }

    fn check_call(&self, call: &Call) -> Result<(), ProgramError> {
        let bad = |what| Err(ProgramError::Call { node: call.node(), what });
        let places = [call.y(), call.saved(), call.scratch(), call.attached(), call.dy()];
        let passes = |place: Place| place.is_empty() || place.unit >= self.word(52);
        if places.iter().any(|place| !self.holds(*place, false) || !passes(*place)) {
            return bad("a place lies outside the passing part of the block");
        }
        for i in 0..call.inputs() {
            if [call.x(i), call.dx(i), call.sum(i)].iter().any(|place| !self.holds(*place, false) || !passes(*place)) {
                return bad("an input or its gradient lies outside the passing part of the block");
            }
            if call.wants_input(i) && call.dx(i).is_empty() {
                return bad("an input's gradient of no numbers");
            }
            if !call.sum(i).is_empty() && (call.sum(i).len() != call.dx(i).len() || call.sum(i).meets(call.dx(i))) {
                return bad("an input's gradient is added to what has another length, or to itself");
            }
        }
        for i in 0..call.entry_count() {
            if call.entry_number(i) >= self.entry_count() {
                return bad("an entry that there is not");
            }
        }
        if call.is_backward() {
            for i in (0..2).filter(|i| call.wants_weight(*i)) {
                if i >= call.entry_count() {
                    return bad("a gradient of a parameter that there is not");
                }
                let entry = self.entry(call.entry(i));
                let stepped = call.is_one_pass() && i == 0;
                if entry.is_borrowed() || !entry.is_trained() || entry.kind() != EntryKind::Parameter {
                    return bad("a gradient of what is not trained");
                }
                if !stepped && entry.gradient().is_none_or(|place| place.unit == NO_UNIT) {
                    return bad("a gradient without a place");
                }
            }
        }
        Ok(())
    }
}

impl Call<'_> {
    fn entry_number(&self, i: usize) -> usize {
        self.entry(i).index()
    }
}
