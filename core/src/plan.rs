//! Where every buffer of a step lies, and how many bytes that takes: known before the first step.
//!
//! Buffers that are never in use at the same time may share memory. Placing them in the least
//! memory is bin packing in disguise (NP-hard); as in TensorFlow Lite's planner the buffers are
//! placed greedily, each at the lowest place that is free during its whole life. Four orders are
//! tried (largest first, longest-lived first, largest area first, earliest first), each some times with
//! the buffer that stuck out moved to the front, and the best is kept: for the networks that this is made
//! for the result is the lower bound or within a few percent of it.

use crate::Error;
use crate::arena::{ALIGN, MOST_NUMBERS, UNIT};
use crate::lifetime::{Kind, NONE, Slot, Slots, Update};
use crate::needs::{Needs, ParamSet};
use crate::sort::sort_by_key;
use crate::tape::{Operation, ParamId, Tape, ValueId};
use core::ops::Range;

/// Where a buffer lies: numbers of the passing region; empty where there is none.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    unit: u32,
    len: u32,
}

impl Place {
    fn range(self) -> Range<usize> {
        let start = self.unit as usize * UNIT;
        start..start + self.len as usize
    }
}

/// The places of a step's buffers.
#[derive(Clone)]
pub struct Plan<const N: usize> {
    value: [Place; N],
    gradient: [Place; N],
    saved: [Place; N],
    forward_scratch: [Place; N],
    backward_scratch: [Place; N],
    addend: [Place; N],
    params: [Place; ParamSet::CAPACITY],
    units: u32,
    live_units: u64,
    peak: u16,
}

impl<const N: usize> Plan<N> {
    /// Plans the walk along `tape`; also gives the buffers, for printing and testing.
    ///
    /// `param_len` is the length of a parameter in numbers, `keep` names values that stay readable
    /// after the walk.
    ///
    /// # Errors
    /// [`Error::PlanFull`] (more than `S` buffers), [`Error::TooLarge`],
    /// [`Error::ParameterUsedTwice`].
    pub fn new<Op: Operation, const S: usize>(
        tape: &Tape<Op, N>,
        needs: &Needs<N>,
        context: &Op::Context,
        param_len: &dyn Fn(ParamId) -> usize,
        keep: &[ValueId],
        update: Update,
    ) -> Result<(Self, Slots<S>), Error> {
        let (mut slots, of) = Slots::<S>::new(tape, needs, context, param_len, keep, update)?;
        let (peak, live_units) = slots.peak();
        let units = place::<S>(slots.as_mut_slice(), live_units)?;
        if units as usize > MOST_NUMBERS / UNIT {
            return Err(Error::TooLarge { shape: [1, 1, 1, usize::MAX] });
        }
        let none = [Place::default(); N];
        let mut plan = Plan {
            value: none,
            gradient: none,
            saved: none,
            forward_scratch: none,
            backward_scratch: none,
            addend: none,
            params: [Place::default(); ParamSet::CAPACITY],
            units,
            live_units,
            peak,
        };
        let len_of = |numbers: usize| u32::try_from(numbers).map_err(|_| Error::TooLarge { shape: [1, 1, 1, numbers] });
        for slot in slots.as_slice() {
            let whole = Place { unit: slot.offset, len: len_of(slot.units as usize * UNIT)? };
            match slot.kind {
                Kind::Saved(v) => plan.saved[v.index()] = whole,
                Kind::ForwardScratch(v) => plan.forward_scratch[v.index()] = whole,
                Kind::BackwardScratch(v) => plan.backward_scratch[v.index()] = whole,
                Kind::Addend(v) => plan.addend[v.index()] = whole,
                Kind::ParamGradient(p) => plan.params[p.index()] = Place { len: len_of(param_len(p))?, ..whole },
                Kind::Value(_) | Kind::Gradient(_) => {} // below: a slot may serve several values
            }
        }
        for v in tape.values() {
            let len = len_of(tape.node(v)?.shape.len())?;
            for (slot, place) in [(of.value[v.index()], &mut plan.value), (of.gradient[v.index()], &mut plan.gradient)] {
                if slot != NONE {
                    place[v.index()] = Place { unit: slots.as_slice()[slot as usize].offset, len };
                }
            }
        }
        Ok((plan, slots))
    }

    /// Numbers in the passing region: everything that a step needs besides parameters, statistics and
    /// momentum.
    pub fn len(&self) -> usize {
        self.units as usize * UNIT
    }
    /// Whether a step needs no memory at all.
    pub fn is_empty(&self) -> bool {
        self.units == 0
    }
    /// Bytes in use at the busiest time: no placement needs less.
    pub fn live_bytes(&self) -> u64 {
        self.live_units * ALIGN as u64
    }
    /// The busiest time, as [`crate::lifetime`] counts.
    pub fn peak(&self) -> u16 {
        self.peak
    }
    /// The result of a node.
    pub fn value(&self, v: ValueId) -> Range<usize> {
        self.value[v.index()].range()
    }
    /// The `len` numbers behind the result of a node: its [`Operation::attached_len`].
    pub fn attached(&self, v: ValueId, len: usize) -> Range<usize> {
        let start = self.value(v).end.next_multiple_of(UNIT);
        start..start + len
    }
    /// The gradient of a node's result.
    pub fn gradient(&self, v: ValueId) -> Range<usize> {
        self.gradient[v.index()].range()
    }
    /// What a node's forward leaves for its backward.
    pub fn saved(&self, v: ValueId) -> Range<usize> {
        self.saved[v.index()].range()
    }
    /// Scratch of a node's forward call.
    pub fn forward_scratch(&self, v: ValueId) -> Range<usize> {
        self.forward_scratch[v.index()].range()
    }
    /// Scratch of a node's backward calls.
    pub fn backward_scratch(&self, v: ValueId) -> Range<usize> {
        self.backward_scratch[v.index()].range()
    }
    /// The gradient that a node can't add itself.
    pub fn addend(&self, v: ValueId) -> Range<usize> {
        self.addend[v.index()].range()
    }
    /// The gradient of a parameter.
    pub fn param_gradient(&self, p: ParamId) -> Range<usize> {
        self.params[p.index()].range()
    }
}

/// In which order buffers are placed.
#[derive(Clone, Copy)]
enum Order {
    Size,
    Life,
    Area,
    Begin,
}

/// Placements that are tried from each order, at most.
const TRIES: usize = 12;

/// Places every slot; returns the units that are needed: `least` at best.
///
/// After each placement the slot that sticks out furthest is placed first the next time.
fn place<const S: usize>(slots: &mut [Slot], least: u64) -> Result<u32, Error> {
    let mut best: Option<(u32, [u16; S])> = None;
    for order in [Order::Size, Order::Area, Order::Life, Order::Begin] {
        let mut queue = queue::<S>(slots, order);
        for _ in 0..TRIES {
            let units = place_in_order::<S>(slots, &queue[..slots.len()])?;
            if best.is_none_or(|(fewest, _)| units < fewest) {
                best = Some((units, queue));
            }
            if u64::from(units) <= least {
                return Ok(units);
            }
            let highest = |q: &&u16| slots[usize::from(**q)].offset + slots[usize::from(**q)].units == units;
            let Some(at) = queue[..slots.len()].iter().position(|q| highest(&q)) else { break };
            queue[..=at].rotate_right(1);
        }
    }
    best.map_or(Ok(0), |(_, queue)| place_in_order::<S>(slots, &queue[..slots.len()]))
}

/// The slots in an order.
fn queue<const S: usize>(slots: &[Slot], order: Order) -> [u16; S] {
    let key = |s: &Slot| {
        let (size, life) = (u64::from(s.units), u64::from(s.end - s.begin) + 1);
        match order {
            Order::Size => (size, life),
            Order::Life => (life, size),
            Order::Area => (size * life, size),
            Order::Begin => (u64::from(u16::MAX - s.begin), size),
        }
    };
    let mut queue = [0_u16; S];
    queue.iter_mut().enumerate().for_each(|(i, q)| *q = i as u16);
    sort_by_key(&mut queue[..slots.len()], |i| (core::cmp::Reverse(key(&slots[i as usize])), i));
    queue
}

/// Places each slot of the queue at the lowest place that is free.
fn place_in_order<const S: usize>(slots: &mut [Slot], queue: &[u16]) -> Result<u32, Error> {
    let mut placed = [0_u16; S]; // by offset
    let mut total = 0;
    for (count, &i) in queue.iter().enumerate() {
        let slot = slots[i as usize];
        let offset = lowest_free(slots, &placed[..count], &slot);
        // `slots.len()` offsets of u32 units can only overflow for sizes that no machine has.
        let end = offset.checked_add(slot.units).ok_or(Error::TooLarge { shape: [1, 1, 1, usize::MAX] })?;
        slots[i as usize].offset = offset;
        total = total.max(end);
        let at = placed[..count].partition_point(|&p| slots[p as usize].offset < offset);
        placed.copy_within(at..count, at + 1);
        placed[at] = i;
    }
    Ok(total)
}

/// The lowest place at which `slot` meets none of the slots `placed` (ordered by place).
fn lowest_free(slots: &[Slot], placed: &[u16], slot: &Slot) -> u32 {
    let mut offset = 0_u32;
    for other in placed.iter().map(|&p| &slots[p as usize]).filter(|other| other.meets(slot)) {
        if other.offset >= offset.saturating_add(slot.units) {
            break;
        }
        offset = offset.max(other.offset + other.units);
    }
    offset
}
