//! Digests of what each call of a step wrote: to compare two machines call by call.

use super::watch::{Event, Watcher};
use crate::memory::Block;
use crate::ops::{GIVE_BYTES, Run};
use nunatak_core::program::{Call, EntryKind, Place, Program};
use nunatak_core::tape::EntryId;

/// What is left of the numbers that a call wrote: equal bits give equal digests, and numbers that differ by rounding
/// give sums that differ by rounding.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Digest {
    /// Over the bits of the numbers, in their order in memory: from 0x811c9dc5, for each number
    /// `h = (h ^ bits) * 0x01000193` modulo 2^32, then `h ^= h >> 15`.
    pub hash: u32,
    /// The sum of the numbers; of a tensor of 8 bits that of its bytes.
    pub sum: f32,
    /// The sum of their absolute values.
    pub magnitude: f32,
}

/// A digest that is not finished.
struct Digesting {
    hash: u32,
    sum: f64,
    magnitude: f64,
}

/// Numbers that are summed in single precision: boards without double precision take many instructions for each sum.
const PIECE: usize = 64;

impl Digesting {
    fn new() -> Digesting {
        Digesting { hash: 0x811c_9dc5, sum: 0.0, magnitude: 0.0 }
    }

    fn add(&mut self, numbers: &[f32]) {
        for piece in numbers.chunks(PIECE) {
            let (mut sum, mut magnitude) = (0.0, 0.0);
            for v in piece {
                self.hash = (self.hash ^ v.to_bits()).wrapping_mul(0x0100_0193);
                self.hash ^= self.hash >> 15;
                sum += v;
                magnitude += v.abs();
            }
            self.sum += f64::from(sum);
            self.magnitude += f64::from(magnitude);
        }
    }

    /// Bytes: the hash is over the same words, the sums are those of the bytes.
    fn add_bytes(&mut self, numbers: &[f32]) {
        for word in numbers.iter().map(|number| number.to_bits()) {
            self.hash = (self.hash ^ word).wrapping_mul(0x0100_0193);
            self.hash ^= self.hash >> 15;
            let sum = word.to_le_bytes().map(u32::from).iter().sum::<u32>();
            self.sum += f64::from(sum);
            self.magnitude += f64::from(sum);
        }
    }

    fn add_place(&mut self, memory: &Block, place: Place) {
        if place.region == 0 {
            self.add(&memory[place.range()]);
        }
    }

    fn finish(self) -> Digest {
        Digest { hash: self.hash, sum: self.sum as f32, magnitude: self.magnitude as f32 }
    }
}

/// The result of a forward call, and the running statistics beside it.
fn forward(digest: &mut Digesting, memory: &Block, call: &Call) {
    match GIVE_BYTES.contains(&call.op()) {
        true => digest.add_bytes(&memory[call.y().range()]),
        false => digest.add_place(memory, call.y()),
    }
    for i in 0..call.entry_count() {
        let entry = call.program().entry(call.entry(i));
        if matches!(entry.kind(), EntryKind::RunningMean | EntryKind::RunningVar) && !entry.is_borrowed() {
            digest.add_place(memory, entry.place());
        }
    }
}

/// The gradients of a call's parameters, but for what one pass over the weight has updated.
fn weights(digest: &mut Digesting, memory: &Block, call: &Call) {
    for i in (0..2).filter(|i| call.wants_weight(*i) && !(*i == 0 && call.is_one_pass())) {
        digest.add_place(memory, call.program().entry(call.entry(i)).gradient().unwrap_or_default());
    }
}

/// The gradients of a call's inputs, or what they were added to.
fn inputs(digest: &mut Digesting, memory: &Block, call: &Call) {
    for i in (0..call.inputs()).filter(|i| call.wants_input(*i)) {
        digest.add_place(memory, if call.sum(i).is_empty() { call.dx(i) } else { call.sum(i) });
    }
}

/// A parameter and its momentum, after an update.
fn updated(digest: &mut Digesting, memory: &Block, program: &Program, id: EntryId) {
    let entry = program.entry(id);
    digest.add_place(memory, entry.place());
    if let Some(momentum) = entry.momentum() {
        digest.add_place(memory, momentum);
    }
}

/// What a call wrote, in the trainer's memory.
pub struct Written<'w> {
    memory: &'w Block<'w>,
    event: Event,
    program: &'w Program<'w>,
    /// None of an update.
    call: Option<&'w Call<'w>>,
}

impl Written<'_> {
    /// The digest of the numbers: of a forward call its result and the running statistics, of backward calls the
    /// gradients, of an update the parameter and its momentum.
    pub fn digest(&self) -> Digest {
        let Written { memory, event, program, call } = self;
        let mut digest = Digesting::new();
        match (event, call) {
            (Event::Forward(_) | Event::Again(_), Some(call)) => forward(&mut digest, memory, call),
            (Event::BackwardInput(_), Some(call)) => inputs(&mut digest, memory, call),
            (Event::BackwardWeight(_), Some(call)) => weights(&mut digest, memory, call),
            (Event::BackwardStep(_), Some(call)) => {
                updated(&mut digest, memory, program, call.entry(0));
                inputs(&mut digest, memory, call);
            }
            (Event::Sum(id) | Event::Update(id), _) => updated(&mut digest, memory, program, *id),
            (Event::Input(_), _) | (_, None) => {}
        }
        digest.finish()
    }
}

impl Watcher<'_> {
    /// Shows what a call wrote, or an update, to whoever asks for it.
    pub(crate) fn wrote(self, event: Event, run: &Run, program: &Program, call: Option<&Call>) {
        if let Some(watch) = self.0 {
            watch.wrote(event, &Written { memory: run.memory, event, program, call });
        }
    }
}
