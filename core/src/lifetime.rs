//! From when to when each buffer of a step is in use.
//!
//! Time runs along the walk: forward at node i is time i; backward at node i is time
//! L + 2·(L − 1 − i), and one later its parameters may be updated (L: the length of the tape). Where values are
//! computed again in the backward walk, each such computation has a time of its own, and what follows is later by
//! as much (see [`crate::repeat`]).

use crate::Error;
use crate::arena::UNIT;
use crate::list::List;
use crate::needs::{Need, Needs};
use crate::repeat::Repeats;
use crate::tape::{EntryId, Operation, Tape, ValueId};

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
    /// The inputs' gradients of a node that can't add to what is there, one after the other.
    Addend(ValueId),
    /// A parameter's gradient.
    ParamGradient(EntryId),
    /// The result of a node, computed again in the backward walk.
    Again(ValueId),
    /// Dead after that.
    AgainScratch(ValueId),
}

impl Kind {
    /// How often a call goes through such a buffer, in classes: scratch for every part of its work, values and
    /// gradients for every tap and channel, a parameter's gradient once.
    pub(crate) const fn reuse(self) -> u64 {
        match self {
            Kind::ForwardScratch(_) | Kind::BackwardScratch(_) | Kind::AgainScratch(_) => 2,
            Kind::Value(_) | Kind::Gradient(_) | Kind::Saved(_) | Kind::Addend(_) | Kind::Again(_) => 1,
            Kind::ParamGradient(_) => 0,
        }
    }
}

/// A buffer: what it holds, from when to when (both included), how large, where.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// What it holds; a buffer that is reused in place goes by what it held first.
    pub kind: Kind,
    /// First time at which it is in use.
    pub begin: u32,
    /// Last time at which it is in use.
    pub end: u32,
    /// Its size, in units of [`crate::arena::ALIGN`] bytes.
    pub units: u32,
    /// Where it lies, in the same units; set when the plan is made.
    pub offset: u32,
}

impl Slot {
    /// Fills a slice that is to be lent.
    pub const UNUSED: Slot = Slot { kind: Kind::Value(ValueId(0)), begin: 0, end: 0, units: 0, offset: 0 };

    /// Whether both are in use at some time.
    pub const fn meets(&self, other: &Slot) -> bool {
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
    /// After several walks: each gradient is added to the parameter's momentum as soon as it is complete, and its
    /// memory is used again.
    Summed,
}

/// What a plan is made from, besides the tape and its needs.
pub struct Walk<'a, Op: Operation> {
    /// The steps.
    pub tape: &'a Tape<'a, Op>,
    /// Which gradients exist.
    pub needs: &'a Needs<'a>,
    /// What sizes of scratch depend on.
    pub context: &'a Op::Context,
    /// Numbers of an entry of the state dict as it lies in memory.
    pub entry_len: &'a dyn Fn(EntryId) -> usize,
    /// Entries of the state dict.
    pub entries: usize,
    /// Values that stay readable after the walk.
    pub keep: &'a [ValueId],
    /// Values whose gradient stays readable after the walk.
    pub keep_gradients: &'a [ValueId],
    /// When parameters are updated.
    pub update: Update,
    /// Values that are computed again where the backward walk reads them, instead of being kept. Inputs and kept
    /// values among them are kept all the same.
    pub again: &'a [ValueId],
}

pub(crate) const NONE: u32 = u32::MAX;

/// All buffers of a step.
#[derive(Debug)]
pub struct Slots<'s> {
    pub(crate) list: List<'s, Slot>,
    /// Which slot serves which value of the tape, and its gradient.
    pub(crate) of: List<'s, SlotOf>,
    /// Of each entry: where its uses stand.
    pub(crate) uses: List<'s, Uses>,
    /// What is computed again.
    pub(crate) repeats: Repeats<'s>,
}

/// The slots of a value and of its gradient.
#[derive(Clone, Copy, Debug)]
pub struct SlotOf {
    pub(crate) value: u32,
    pub(crate) gradient: u32,
    /// The last time at which the value is read.
    last: u32,
}

impl SlotOf {
    /// Fills a slice that is to be lent.
    pub const UNUSED: SlotOf = SlotOf { value: 0, gradient: 0, last: 0 };
    /// No slots yet.
    const NONE: SlotOf = SlotOf { value: NONE, gradient: NONE, last: 0 };
}

/// Where a parameter whose gradient is computed is used.
#[derive(Clone, Copy, Debug)]
pub struct Uses {
    /// How many nodes compute its gradient.
    pub count: u32,
    /// The first of them on the tape, whose backward comes last: after it the gradient is complete.
    pub first: u32,
    pub(crate) slot: u32,
}

impl Uses {
    /// Fills a slice that is to be lent.
    pub const UNUSED: Uses = Uses { count: 0, first: 0, slot: 0 };
    /// Not used yet.
    const NONE: Uses = Uses { count: 0, first: NONE, slot: NONE };
}

/// Numbers to units, rounded up.
fn units(numbers: usize) -> Result<u32, Error> {
    u32::try_from(numbers.div_ceil(UNIT)).map_err(|_| Error::TooLarge { shape: [1, 1, 1, numbers] })
}

impl<Op: Operation> Walk<'_, Op> {
    fn len(&self) -> u32 {
        self.tape.nodes().len() as u32
    }
}

impl Slots<'_> {
    /// Finds the buffers that a walk needs.
    ///
    /// # Errors
    /// [`Error::ListFull`], [`Error::TooLarge`].
    pub(crate) fn find<Op: Operation>(&mut self, walk: &Walk<Op>) -> Result<(), Error> {
        if walk.tape.nodes().len() > u32::MAX as usize / 4 {
            return Err(Error::ListFull { capacity: u32::MAX as usize / 4 });
        }
        self.list.clear();
        self.repeats.find(walk)?;
        self.of.refill(walk.tape.nodes().len(), SlotOf::NONE)?;
        self.uses.refill(walk.entries, Uses::NONE)?;
        self.last_reads(walk);
        for v in walk.tape.values() {
            self.forward(walk, v)?;
        }
        for v in walk.tape.values().rev() {
            for id in trained(walk, v) {
                let uses = &mut self.uses[id.index()];
                (uses.count, uses.first) = (uses.count + 1, v.0);
            }
        }
        for v in walk.tape.values().rev() {
            self.backward(walk, v)?;
        }
        if !self.repeats.is_empty() {
            walk.tape.values().try_for_each(|v| self.again(walk, v))?;
        }
        Ok(())
    }

    /// When backward at a node takes place.
    fn backward_time<Op: Operation>(&self, walk: &Walk<Op>, v: ValueId) -> u32 {
        self.repeats.at(v).map_or_else(|| walk.len() + 2 * (walk.len() - 1 - v.0), |node| node.backward)
    }
    /// After everything.
    fn end_time<Op: Operation>(&self, walk: &Walk<Op>) -> u32 {
        match walk.needs.root() {
            Some(_) if !self.repeats.is_empty() => self.repeats.end(),
            Some(_) => 3 * walk.len(),
            None => walk.len(),
        }
    }

    /// The last time at which each value is read.
    fn last_reads<Op: Operation>(&mut self, walk: &Walk<Op>) {
        for v in walk.tape.values() {
            let need = walk.needs.at(v);
            let backward = self.backward_time(walk, v);
            self.read(v, if need.backward() && need.reads.y { backward } else { v.0 });
            for (position, x) in walk.tape.inputs(v).iter().enumerate() {
                self.read(*x, v.0);
                if need.backward() && need.reads.x >> position & 1 == 1 {
                    self.read(*x, backward);
                }
                if let Some(again) = self.repeats.at(v).filter(|node| node.is_due()).map(|node| node.again) {
                    self.read(*x, again);
                }
            }
        }
        let end = self.end_time(walk);
        for v in walk.keep {
            self.of[v.index()].last = end;
        }
    }

    /// A value is read at this time: in its first life, or in the one after it was computed again.
    fn read(&mut self, v: ValueId, time: u32) {
        let last = match self.repeats.nodes.get_mut(v.index()) {
            Some(node) if node.is_due() && time > node.again => &mut node.last,
            _ => &mut self.of[v.index()].last,
        };
        *last = (*last).max(time);
    }

    /// The buffers of a node that is computed again.
    fn again<Op: Operation>(&mut self, walk: &Walk<Op>, v: ValueId) -> Result<(), Error> {
        let Some(node) = self.repeats.at(v).copied().filter(|node| node.is_due()) else { return Ok(()) };
        let value = self.push(Kind::Again(v), node.again, node.last, result_len(walk, v)?)?;
        let scratch = walk.tape.node(v)?.op.forward_scratch_len(walk.context);
        let scratch = self.push(Kind::AgainScratch(v), node.again, node.again, scratch)?;
        let node = &mut self.repeats.nodes[v.index()];
        (node.value, node.scratch) = (value, scratch);
        Ok(())
    }

    /// The buffers that begin at a node's forward.
    fn forward<Op: Operation>(&mut self, walk: &Walk<Op>, v: ValueId) -> Result<(), Error> {
        let (node, inputs) = (walk.tape.node(v)?, walk.tape.inputs(v));
        let need = walk.needs.at(v);
        let last = self.of[v.index()].last;
        // In place where the input is read here for the last time, and nowhere else here. Behind the input there is
        // no room for what is attached.
        let in_place = inputs.iter().enumerate().find(|&(position, x)| {
            let only_here = inputs.iter().enumerate().all(|(other, y)| other == position || y != x);
            let same_size = walk.tape.nodes()[x.index()].shape.len() == node.shape.len();
            let alone = node.op.overwrites(position) && node.op.attached_len() == 0;
            alone && self.of[x.index()].last == v.0 && only_here && same_size
        });
        self.of[v.index()].value = match in_place {
            Some((_, x)) => {
                let slot = self.of[x.index()].value;
                self.list[slot as usize].end = last;
                slot
            }
            None if node.is_absorbed() => NONE,
            // Inputs are written before the walk begins.
            None if inputs.is_empty() => self.push(Kind::Value(v), 0, last, node.shape.len())?,
            None => self.push(Kind::Value(v), v.0, last, result_len(walk, v)?)?,
        };
        let saved_until = if need.backward() && need.reads.saved { self.backward_time(walk, v) } else { v.0 };
        let saved_until = self.repeats.at(v).filter(|node| node.is_due()).map_or(saved_until, |node| saved_until.max(node.again));
        self.push(Kind::Saved(v), v.0, saved_until, node.op.saved_len(walk.context))?;
        self.push(Kind::ForwardScratch(v), v.0, v.0, node.op.forward_scratch_len(walk.context))?;
        Ok(())
    }

    /// The buffers that begin at a node's backward. A gradient's buffer is made by the step that writes it
    /// first.
    fn backward<Op: Operation>(&mut self, walk: &Walk<Op>, v: ValueId) -> Result<(), Error> {
        let node = walk.tape.node(v)?;
        let need = *walk.needs.at(v);
        if walk.needs.root() == Some(v) && need.gradient {
            self.of[v.index()].gradient = self.push(Kind::Gradient(v), walk.len(), self.gradient_end(walk, v), node.shape.len())?;
        }
        if !need.backward() {
            return Ok(());
        }
        let now = self.backward_time(walk, v);
        self.input_gradients(walk, v, &need)?;
        let weight = need.dw != [false; 2];
        let scratch = node.op.backward_scratch_len(walk.context, need.dx != 0, weight);
        self.push(Kind::BackwardScratch(v), now, now, scratch)?;
        for (position, param) in node.op.params().into_iter().enumerate() {
            let (Some(id), true) = (param, need.dw[position]) else { continue };
            let uses = self.uses[id.index()];
            if uses.slot != NONE || walk.update == Update::During && uses.count == 1 && node.op.steps(position) {
                continue;
            }
            let (begin, end) = match walk.update {
                Update::After => (0, self.end_time(walk)),
                Update::During | Update::Summed => (now, self.backward_time(walk, ValueId(uses.first)) + 1),
            };
            self.uses[id.index()].slot = self.push(Kind::ParamGradient(id), begin, end, (walk.entry_len)(id))?;
        }
        Ok(())
    }

    /// Until when a value's gradient is in use.
    fn gradient_end<Op: Operation>(&self, walk: &Walk<Op>, v: ValueId) -> u32 {
        if walk.keep_gradients.contains(&v) { self.end_time(walk) } else { self.backward_time(walk, v) }
    }

    fn input_gradients<Op: Operation>(&mut self, walk: &Walk<Op>, v: ValueId, need: &Need) -> Result<(), Error> {
        let (node, inputs) = (walk.tape.node(v)?, walk.tape.inputs(v));
        let now = self.backward_time(walk, v);
        // Whether the gradient of the result can still be written over.
        let mut free = !walk.keep_gradients.contains(&v);
        // One buffer serves the inputs whose gradient can't be added to, one after the other.
        let mut addend = 0;
        // A residual, the last input, first: its gradient is often dy as it is.
        for (position, x) in inputs.iter().enumerate().rev().filter(|&(position, _)| need.dx_at(position)) {
            let x_len = walk.tape.nodes()[x.index()].shape.len();
            // x + x: the second contribution reads dy too, which must not have become dx by then.
            let once = inputs.iter().enumerate().all(|(other, y)| other == position || y != x || !need.dx_at(other));
            if need.adds_at(position) {
                if !node.op.accumulates(position) {
                    addend = addend.max(x_len);
                }
            } else if free && once && node.op.gradient_overwrites(position) && x_len == node.shape.len() {
                let slot = self.of[v.index()].gradient;
                self.list[slot as usize].end = self.gradient_end(walk, *x);
                self.of[x.index()].gradient = slot;
                free = false;
            } else {
                self.of[x.index()].gradient = self.push(Kind::Gradient(*x), now, self.gradient_end(walk, *x), x_len)?;
            }
        }
        self.push(Kind::Addend(v), now, now, addend)?;
        Ok(())
    }

    /// Adds a buffer; one of no numbers needs no slot.
    fn push(&mut self, kind: Kind, begin: u32, end: u32, numbers: usize) -> Result<u32, Error> {
        if numbers == 0 {
            return Ok(NONE);
        }
        self.list.push(Slot { kind, begin, end, units: units(numbers)?, offset: 0 })
    }

    /// The time at which most memory is in use, and how many units that is: no placement can do with
    /// less.
    pub(crate) fn peak(&self) -> (u32, u64) {
        let at = |time: u32| -> u64 { self.list.iter().filter(|s| s.begin <= time && time <= s.end).map(|s| u64::from(s.units)).sum() };
        // The sum only grows when a buffer begins.
        self.list.iter().map(|s| (s.begin, at(s.begin))).max_by_key(|&(time, sum)| (sum, core::cmp::Reverse(time))).unwrap_or((0, 0))
    }
}

/// Numbers of a node's result, with what is attached behind it.
fn result_len<Op: Operation>(walk: &Walk<Op>, v: ValueId) -> Result<usize, Error> {
    let node = walk.tape.node(v)?;
    Ok(match node.op.attached_len() {
        0 => node.shape.len(),
        attached => node.shape.len().next_multiple_of(UNIT) + attached,
    })
}

/// The parameters whose gradient is computed at a node.
fn trained<Op: Operation>(walk: &Walk<Op>, v: ValueId) -> impl Iterator<Item = EntryId> + use<Op> {
    let (op, dw) = (walk.tape.nodes()[v.index()].op, walk.needs.at(v).dw);
    op.params().into_iter().zip(dw).filter_map(|(id, wanted)| id.filter(|_| wanted))
}
