//! One call of a program.

use super::{DX_ADDS, DX_WANTED, Program, WEIGHTS};
use crate::arena::UNIT;
use crate::tape::EntryId;

/// Where numbers lie: a region, a unit of 64 bytes in it, and how many numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// 0: the block; [`WEIGHTS`]: the weights file.
    pub region: u8,
    /// Where it begins.
    pub unit: u32,
    /// Numbers; 0 where there is nothing.
    pub len: u32,
}

impl Place {
    /// The numbers in their region.
    pub const fn range(self) -> core::ops::Range<usize> {
        let start = self.unit as usize * UNIT;
        start..start + self.len as usize
    }
    /// Whether there is nothing.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
    /// Numbers.
    pub const fn len(self) -> usize {
        self.len as usize
    }
    /// Whether both have a number in common.
    pub fn meets(self, other: Place) -> bool {
        let (a, b) = (self.range(), other.range());
        self.region == other.region && !a.is_empty() && !b.is_empty() && a.start < b.end && b.start < a.end
    }
    pub(crate) const fn is_read_only(self) -> bool {
        self.region == WEIGHTS
    }
}

/// Words of a call before its places.
pub(crate) const FRONT: usize = 4;

/// In the flags of a call among the backward ones: it is a forward call that is made again.
pub(crate) const AGAIN: u32 = 1 << 5;

/// A call of a program, read in place.
#[derive(Clone, Copy)]
pub struct Call<'p> {
    program: &'p Program<'p>,
    at: usize,
    inputs: usize,
    entries: usize,
    backward: bool,
}

impl<'p> Call<'p> {
    pub(crate) fn new(program: &'p Program<'p>, at: usize, backward: bool) -> Call<'p> {
        let counts = program.word(at + 3);
        let backward = backward && counts >> 16 & AGAIN == 0;
        Call { program, at, inputs: (counts & 0xff) as usize, entries: (counts >> 8 & 0xff) as usize, backward }
    }

    /// The program.
    pub fn program(&self) -> &'p Program<'p> {
        self.program
    }
    /// The operation's code.
    pub fn op(&self) -> u32 {
        self.program.word(self.at)
    }
    /// The node.
    pub fn node(&self) -> u32 {
        self.program.word(self.at + 2)
    }
    /// Whether it is a call of the backward walk.
    pub fn is_backward(&self) -> bool {
        self.backward
    }
    /// Whether it is a forward call that is made again, in the backward walk: it computes the result once more, in another
    /// place, reads what the first one saved, and moves no statistics.
    pub fn is_again(&self) -> bool {
        self.flags() & AGAIN != 0
    }
    fn flags(&self) -> u32 {
        self.program.word(self.at + 3) >> 16
    }
    /// Of a backward call: whether the gradient of the parameter at this position is computed.
    pub fn wants_weight(&self, position: usize) -> bool {
        self.flags() >> position & 1 == 1
    }
    /// Of a backward call: whether the parameter at this position is complete after it, and updated in a
    /// program that updates during the walk.
    pub fn updates(&self, position: usize) -> bool {
        self.flags() >> (2 + position) & 1 == 1
    }
    /// Of a backward call: whether the weight's gradient, its step and the input's gradient are one pass.
    pub fn is_one_pass(&self) -> bool {
        self.flags() >> 4 & 1 == 1
    }

    /// How many inputs it has.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
    /// How many entries of the state dict it has.
    pub fn entry_count(&self) -> usize {
        self.entries
    }
    fn place(&self, at: usize) -> Place {
        let word = |i| self.program.word(self.at + at + i);
        Place { region: word(0) as u8, unit: word(1), len: word(2) }
    }
    /// The input at a position; nothing where there are not so many.
    pub fn x(&self, position: usize) -> Place {
        if position < self.inputs { self.place(FRONT + 3 * position) } else { Place::default() }
    }
    /// The entry of the state dict at a position.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn entry(&self, position: usize) -> EntryId {
        assert!(position < self.entries, "entry {position} of {}", self.entries);
        EntryId(self.program.word(self.at + FRONT + 3 * self.inputs + position))
    }
    /// Where the entry at a position lies.
    pub fn param(&self, position: usize) -> Place {
        self.program.entry(self.entry(position)).place()
    }
    fn fixed(&self, i: usize) -> Place {
        self.place(FRONT + 3 * self.inputs + self.entries + 3 * i)
    }
    /// The result.
    pub fn y(&self) -> Place {
        self.fixed(0)
    }
    /// What forward saves for backward.
    pub fn saved(&self) -> Place {
        self.fixed(1)
    }
    /// Scratch.
    pub fn scratch(&self) -> Place {
        self.fixed(2)
    }
    /// What is attached behind the result of this call, or behind its first input.
    pub fn attached(&self) -> Place {
        self.fixed(3)
    }
    /// The result's gradient.
    pub fn dy(&self) -> Place {
        if self.backward { self.fixed(4) } else { Place::default() }
    }
    fn dx_at(&self, position: usize) -> usize {
        FRONT + 3 * self.inputs + self.entries + 15 + 6 * position
    }
    fn dx_flags(&self, position: usize) -> u32 {
        if self.backward && position < self.inputs { self.program.word(self.at + self.dx_at(position)) } else { 0 }
    }
    /// Whether the gradient of the input at a position is computed.
    pub fn wants_input(&self, position: usize) -> bool {
        self.dx_flags(position) & DX_WANTED != 0
    }
    /// Whether it is added to what is there.
    pub fn adds(&self, position: usize) -> bool {
        self.dx_flags(position) & DX_ADDS != 0
    }
    /// Where the gradient of the input at a position goes.
    pub fn dx(&self, position: usize) -> Place {
        if self.wants_input(position) { self.place(self.dx_at(position)) } else { Place::default() }
    }
    /// Where the gradient of the input at a position is added to, if the operation can't add to what is
    /// there: it goes to [`Call::dx`] first.
    pub fn sum(&self, position: usize) -> Place {
        if self.wants_input(position) { self.place(self.dx_at(position) + 3) } else { Place::default() }
    }
    /// Words before the operation's own numbers.
    pub(crate) fn front(&self) -> usize {
        FRONT + 3 * self.inputs + self.entries + 12 + if self.backward { 3 + 6 * self.inputs } else { 0 }
    }
    /// The operation's own numbers.
    pub fn numbers(&self) -> Numbers<'p> {
        let end = self.at + self.program.word(self.at + 1) as usize;
        Numbers { program: self.program, at: self.at + self.front(), end }
    }
}

/// The own numbers of an operation, one after the other.
#[derive(Clone)]
pub struct Numbers<'p> {
    program: &'p Program<'p>,
    at: usize,
    end: usize,
}

impl Numbers<'_> {
    /// The next word; zero behind the end.
    pub fn word(&mut self) -> u32 {
        if self.at >= self.end {
            return 0;
        }
        self.at += 1;
        self.program.word(self.at - 1)
    }
    /// The next word as a size.
    pub fn size(&mut self) -> usize {
        self.word() as usize
    }
    /// The next word as a float.
    pub fn float(&mut self) -> f32 {
        f32::from_bits(self.word())
    }
    /// The next word as yes or no.
    pub fn flag(&mut self) -> bool {
        self.word() != 0
    }
    /// Two words as a number of 64 bits, low word first.
    pub fn wide(&mut self) -> u64 {
        u64::from(self.word()) | u64::from(self.word()) << 32
    }
    /// Words that are left.
    pub fn left(&self) -> usize {
        self.end - self.at
    }
}
