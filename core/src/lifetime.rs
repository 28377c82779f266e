//! From when to when each buffer of a step is in use.
//!
//! Time runs along the walk: forward at node i is time i; backward at node i is time
//! L + 2·(L − 1 − i), and one later its parameters may be updated (L: the length of the tape).

use crate::Error;
use crate::arena::UNIT;
use crate::needs::Needs;
use crate::tape::{Operation, ParamId, Tape, ValueId};

/// What a buffer holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The result of a node.
    Value(ValueId),
    /// The gradient of a node's result.
    Gradient(ValueId),
    /// What a node's forward call leaves for its backward calls.
    Saved(ValueId),
    /// Dead after a node's forward call.
    ForwardScratch(ValueId),
    /// Dead after a node's backward calls.
    BackwardScratch(ValueId),
    /// An input's gradient of a node that can't add to what is there.
    Addend(ValueId),
    /// A parameter's gradient.
    ParamGradient(ParamId),
}

/// A buffer: what it holds, from when to when (both included), how large, where.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// What it holds; a buffer that is reused in place goes by what it held first.
    pub kind: Kind,
    /// First time at which it is in use.
    pub begin: u16,
    /// Last time at which it is in use.
    pub end: u16,
    /// Its size, in units of [`crate::arena::ALIGN`] bytes.
    pub units: u32,
    /// Where it lies, in the same units; set by [`Slots::place`](crate::plan).
    pub offset: u32,
}

impl Slot {
    /// Whether both are in use at some time.
    pub fn meets(&self, other: &Slot) -> bool {
        self.begin <= other.end && other.begin <= self.end
    }
}

/// When a weight's gradient may be used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Update {
    /// After the whole walk: every gradient is kept, can be read, accumulated, clipped.
    #[default]
    After,
    /// During the walk, as soon as the gradient is complete: its memory is used again.
    During,
}

/// All buffers of a step, at most `S`.
#[derive(Clone)]
pub struct Slots<const S: usize> {
    slots: [Slot; S],
    len: usize,
}

/// Which slot serves which value of the tape.
#[derive(Clone)]
pub(crate) struct SlotOf<const N: usize> {
    pub(crate) value: [u16; N],
    pub(crate) gradient: [u16; N],
}

pub(crate) const NONE: u16 = u16::MAX;

/// Numbers to units, rounded up.
fn units(numbers: usize) -> Result<u32, Error> {
    u32::try_from(numbers.div_ceil(UNIT)).map_err(|_| Error::TooLarge { shape: [1, 1, 1, numbers] })
}

impl<const S: usize> Slots<S> {
    /// The buffers that the walk along `tape` needs.
    ///
    /// `param_len` gives the size of a parameter; `keep` names values that must stay readable after
    /// the walk.
    ///
    /// # Errors
    /// [`Error::PlanFull`], [`Error::TooLarge`], [`Error::ParameterUsedTwice`] (update during).
    pub(crate) fn new<Op: Operation, const N: usize>(
        tape: &Tape<Op, N>,
        needs: &Needs<N>,
        context: &Op::Context,
        param_len: &dyn Fn(ParamId) -> usize,
        keep: &[ValueId],
        update: Update,
    ) -> Result<(Self, SlotOf<N>), Error> {
        let len = tape.nodes().len() as u16;
        let walk_end = if needs.root().is_some() { 3 * len } else { len };
        let backward = |v: ValueId| len + 2 * (len - 1 - v.0);

        // The last time at which each value is read.
        let mut last = [0_u16; N];
        for v in tape.values() {
            let node = tape.node(v)?;
            let need = needs.at(v);
            last[v.index()] = last[v.index()].max(v.0);
            if need.backward() && need.reads.y {
                last[v.index()] = backward(v);
            }
            for (position, x) in node.inputs() {
                let read = if need.backward() && need.reads.x[position] { backward(v) } else { v.0 };
                last[x.index()] = last[x.index()].max(read);
            }
        }
        keep.iter().for_each(|v| last[v.index()] = walk_end);

        let empty = Slot { kind: Kind::ParamGradient(ParamId(0)), begin: 0, end: 0, units: 0, offset: 0 };
        let mut slots = Slots { slots: [empty; S], len: 0 };
        let mut of = SlotOf { value: [NONE; N], gradient: [NONE; N] };

        for v in tape.values() {
            let node = tape.node(v)?;
            let need = *needs.at(v);
            // In place where the input is read here for the last time, and nowhere else here.
            let in_place = node.inputs().find(|&(position, x)| {
                let only_here = node.inputs().all(|(other, y)| other == position || y != x);
                let same_size = tape.nodes()[x.index()].shape.len() == node.shape.len();
                node.op.overwrites(position) && last[x.index()] == v.0 && only_here && same_size
            });
            of.value[v.index()] = match in_place {
                Some((_, x)) => {
                    let slot = of.value[x.index()];
                    slots.slots[slot as usize].end = last[v.index()];
                    slot
                }
                None if node.is_absorbed() => NONE,
                // Inputs are written before the walk begins.
                None if node.inputs().next().is_none() => slots.push(Kind::Value(v), 0, last[v.index()], node.shape.len())?,
                None => {
                    let len = match node.op.attached_len() {
                        0 => node.shape.len(),
                        attached => node.shape.len().next_multiple_of(UNIT) + attached,
                    };
                    slots.push(Kind::Value(v), v.0, last[v.index()], len)?
                }
            };
            let saved_until = if need.backward() && need.reads.saved { backward(v) } else { v.0 };
            slots.push(Kind::Saved(v), v.0, saved_until, node.op.saved_len(context))?;
            slots.push(Kind::ForwardScratch(v), v.0, v.0, node.op.forward_scratch_len(context))?;
        }

        // The backward walk. A gradient's buffer is made by whoever writes it first.
        let mut used = crate::needs::ParamSet::EMPTY;
        for v in tape.values().rev() {
            let node = tape.node(v)?;
            let need = *needs.at(v);
            if needs.root() == Some(v) && need.gradient {
                of.gradient[v.index()] = slots.push(Kind::Gradient(v), len, backward(v), node.shape.len())?;
            }
            if !need.backward() {
                continue;
            }
            let now = backward(v);
            let mut free = true; // the gradient of the result can still be written over
            // A residual, the last input, first: its gradient is often dy as it is.
            for (position, x) in node.inputs().rev().filter(|&(position, _)| need.dx[position]) {
                let x_len = tape.nodes()[x.index()].shape.len();
                // x + x: the second contribution reads dy too, which must not have become dx by then.
                let once = node.inputs().all(|(other, y)| other == position || y != x || !need.dx[other]);
                if need.dx_adds[position] {
                    if !node.op.accumulates(position) {
                        slots.push(Kind::Addend(v), now, now, x_len)?;
                    }
                } else if free && once && node.op.gradient_overwrites(position) && x_len == node.shape.len() {
                    let slot = of.gradient[v.index()];
                    slots.slots[slot as usize].end = backward(x);
                    of.gradient[x.index()] = slot;
                    free = false;
                } else {
                    of.gradient[x.index()] = slots.push(Kind::Gradient(x), now, backward(x), x_len)?;
                }
            }
            let weight = need.dw != [false; 2];
            let scratch = node.op.backward_scratch_len(context, need.dx != [false; 2], weight);
            slots.push(Kind::BackwardScratch(v), now, now, scratch)?;
            for (position, (param, dw)) in node.op.params().into_iter().zip(need.dw).enumerate() {
                let (Some(param), true) = (param, dw) else { continue };
                let (begin, end) = match update {
                    Update::After => (0, walk_end),
                    Update::During => (now, now + 1),
                };
                if used.contains(param) {
                    match update {
                        Update::After => continue,
                        Update::During => return Err(Error::ParameterUsedTwice { param: param.index() }),
                    }
                }
                used.insert(param);
                if update == Update::During && node.op.steps(position) {
                    continue;
                }
                slots.push(Kind::ParamGradient(param), begin, end, param_len(param))?;
            }
        }
        Ok((slots, of))
    }

    /// Adds a buffer; one of no numbers needs no slot.
    fn push(&mut self, kind: Kind, begin: u16, end: u16, numbers: usize) -> Result<u16, Error> {
        if numbers == 0 {
            return Ok(NONE);
        }
        if self.len == S {
            return Err(Error::PlanFull { capacity: S });
        }
        self.slots[self.len] = Slot { kind, begin, end, units: units(numbers)?, offset: 0 };
        self.len += 1;
        Ok(self.len as u16 - 1)
    }

    /// The buffers.
    pub fn as_slice(&self) -> &[Slot] {
        &self.slots[..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Slot] {
        &mut self.slots[..self.len]
    }

    /// The time at which most memory is in use, and how many units that is: no placement can do with
    /// less.
    pub fn peak(&self) -> (u16, u64) {
        let at =
            |time: u16| -> u64 { self.as_slice().iter().filter(|s| s.begin <= time && time <= s.end).map(|s| u64::from(s.units)).sum() };
        // The sum only grows when a buffer begins.
        self.as_slice().iter().map(|s| (s.begin, at(s.begin))).max_by_key(|&(time, sum)| (sum, core::cmp::Reverse(time))).unwrap_or((0, 0))
    }
}
