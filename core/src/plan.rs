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
use crate::lifetime::{Kind, NONE, Slot, SlotOf, Slots, Uses, Walk};
use crate::list::List;
use crate::repeat::{Repeat, Repeats};
use crate::sort::sort_by_key;
use crate::tape::{EntryId, Operation, ValueId};
use core::ops::Range;

/// Where a buffer lies: numbers of the passing region; empty where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    unit: u32,
    len: u32,
}

impl Span {
    /// Fills a slice that is to be lent.
    pub const UNUSED: Span = Span { unit: 0, len: 0 };

    /// The numbers.
    pub const fn range(self) -> Range<usize> {
        let start = self.unit as usize * UNIT;
        start..start + self.len as usize
    }
}

impl Slot {
    fn span(&self) -> Span {
        Span { unit: self.offset, len: self.units * UNIT as u32 }
    }
}

/// The places of a node's buffers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeSpans {
    /// The result.
    pub value: Span,
    /// The gradient of the result.
    pub gradient: Span,
    /// What forward leaves for backward.
    pub saved: Span,
    /// Dead after the forward call.
    pub forward_scratch: Span,
    /// Dead after the backward calls.
    pub backward_scratch: Span,
    /// The gradient that the node can't add itself.
    pub addend: Span,
}

impl NodeSpans {
    /// Fills a slice that is to be lent.
    pub const UNUSED: NodeSpans = NodeSpans {
        value: Span::UNUSED,
        gradient: Span::UNUSED,
        saved: Span::UNUSED,
        forward_scratch: Span::UNUSED,
        backward_scratch: Span::UNUSED,
        addend: Span::UNUSED,
    };
}

/// The places of a step's buffers, and room to find them in.
#[derive(Debug)]
pub struct Plan<'s> {
    nodes: List<'s, NodeSpans>,
    entries: List<'s, Span>,
    slots: Slots<'s>,
    queue: List<'s, u32>,
    best: List<'s, u32>,
    placed: List<'s, u32>,
    units: u32,
    live_units: u64,
    peak: u32,
}

/// The slices in which a plan is made where there is no heap.
pub struct PlanRoom<'s> {
    /// One for each node.
    pub nodes: &'s mut [NodeSpans],
    /// One for each node.
    pub slot_of: &'s mut [SlotOf],
    /// One for each entry of the state dict.
    pub entries: &'s mut [Span],
    /// One for each entry of the state dict.
    pub uses: &'s mut [Uses],
    /// One for each buffer: at most six for each node, and one for each parameter.
    pub slots: &'s mut [Slot],
    /// As many as `slots`, each.
    pub orders: [&'s mut [u32]; 3],
    /// One for each node, where values are computed again; else none.
    pub repeats: &'s mut [Repeat],
}

#[cfg(feature = "std")]
impl Plan<'static> {
    /// No plan yet, on the heap.
    pub const fn new() -> Self {
        Plan {
            nodes: List::new(),
            entries: List::new(),
            slots: Slots { list: List::new(), of: List::new(), uses: List::new(), repeats: Repeats::of(List::new()) },
            queue: List::new(),
            best: List::new(),
            placed: List::new(),
            units: 0,
            live_units: 0,
            peak: 0,
        }
    }
}

#[cfg(feature = "std")]
impl Default for Plan<'static> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'s> Plan<'s> {
    /// No plan yet, in the caller's slices.
    pub fn lent(room: PlanRoom<'s>) -> Self {
        let [queue, best, placed] = room.orders;
        Plan {
            nodes: List::lent(room.nodes),
            entries: List::lent(room.entries),
            slots: Slots {
                list: List::lent(room.slots),
                of: List::lent(room.slot_of),
                uses: List::lent(room.uses),
                repeats: Repeats::of(List::lent(room.repeats)),
            },
            queue: List::lent(queue),
            best: List::lent(best),
            placed: List::lent(placed),
            units: 0,
            live_units: 0,
            peak: 0,
        }
    }

    /// Plans a walk. Buffers lie in `regions`, units of the passing part: those that are used most often in the
    /// first regions, and none in two. Without regions there is one, as large as it must be.
    ///
    /// # Errors
    /// [`Error::ListFull`], [`Error::TooLarge`]; [`Error::RegionFull`] where a buffer finds no place.
    pub fn make<Op: Operation>(&mut self, walk: &Walk<Op>, regions: &[Range<u32>]) -> Result<(), Error> {
        self.find(walk)?;
        self.units = if regions.is_empty() { self.place()? } else { self.place_in(regions)? };
        if self.units as usize > MOST_NUMBERS / UNIT {
            return Err(TOO_LARGE);
        }
        self.nodes.refill(walk.tape.nodes().len(), NodeSpans::default())?;
        self.entries.refill(walk.entries, Span::default())?;
        let len_of = |numbers: usize| u32::try_from(numbers).map_err(|_| Error::TooLarge { shape: [1, 1, 1, numbers] });
        for slot in self.slots.list.iter() {
            let whole = Span { unit: slot.offset, len: len_of(slot.units as usize * UNIT)? };
            match slot.kind {
                Kind::Saved(v) => self.nodes[v.index()].saved = whole,
                Kind::ForwardScratch(v) => self.nodes[v.index()].forward_scratch = whole,
                Kind::BackwardScratch(v) => self.nodes[v.index()].backward_scratch = whole,
                Kind::Addend(v) => self.nodes[v.index()].addend = whole,
                Kind::ParamGradient(p) => self.entries[p.index()] = Span { len: len_of((walk.entry_len)(p))?, ..whole },
                Kind::Value(_) | Kind::Gradient(_) => {} // below: a slot may serve several values
                Kind::Again(_) | Kind::AgainScratch(_) => {} // their places are the slots'
            }
        }
        for v in walk.tape.values() {
            let len = len_of(walk.tape.node(v)?.shape.len())?;
            let (of, spans) = (self.slots.of[v.index()], &mut self.nodes[v.index()]);
            for (slot, span) in [(of.value, &mut spans.value), (of.gradient, &mut spans.gradient)] {
                if slot != NONE {
                    *span = Span { unit: self.slots.list[slot as usize].offset, len };
                }
            }
        }
        Ok(())
    }

    /// Finds the buffers of a walk, and the busiest time, without giving them places.
    ///
    /// # Errors
    /// [`Error::ListFull`], [`Error::TooLarge`].
    pub fn find<Op: Operation>(&mut self, walk: &Walk<Op>) -> Result<(), Error> {
        self.slots.find(walk)?;
        (self.peak, self.live_units) = self.slots.peak();
        Ok(())
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
    pub fn peak(&self) -> u32 {
        self.peak
    }
    /// What is done at the busiest time: a node, and whether it is its backward (or something before that).
    pub fn busiest(&self) -> (ValueId, bool) {
        let len = self.slots.of.len() as u32;
        if self.peak < len {
            return (ValueId(self.peak), false);
        }
        let node = match self.slots.repeats.nodes.iter().position(|node| self.peak > node.backward + 1) {
            // Backward of the nodes before is later.
            Some(done) => (done as u32).saturating_sub(1),
            None if !self.slots.repeats.is_empty() => len - 1,
            None => len - 1 - (self.peak.min(3 * len - 1) - len) / 2,
        };
        (ValueId(node), true)
    }
    /// The buffer of a value's first life, if it has one: it may serve other values too.
    ///
    /// # Panics
    /// If the plan is of a tape without this value.
    pub fn slot_of(&self, v: ValueId) -> Option<&Slot> {
        self.slots.list.get(self.slots.of[v.index()].value as usize)
    }
    /// The values that are computed again just before the backward of a node, in their order.
    pub fn again_before(&self, v: ValueId) -> impl Iterator<Item = ValueId> + '_ {
        let nodes = self.slots.repeats.nodes.iter().enumerate();
        nodes.filter(move |(_, node)| node.is_due() && node.before == v.0).map(|(u, _)| ValueId(u as u32))
    }
    /// Where a value lies after it was computed again, and the scratch of that; none where it is kept. `len` is the
    /// value's numbers.
    pub fn again(&self, v: ValueId, len: usize) -> Option<[Span; 2]> {
        let node = self.slots.repeats.at(v).filter(|node| node.is_due())?;
        let span = |slot: u32| self.slots.list.get(slot as usize).map_or(Span::default(), |slot| slot.span());
        Some([Span { len: len as u32, ..span(node.value) }, span(node.scratch)])
    }
    /// The buffers.
    pub fn slots(&self) -> &[Slot] {
        &self.slots.list
    }
    /// Where a node's buffers lie.
    ///
    /// # Panics
    /// If the plan is of a tape without this value.
    pub fn node(&self, v: ValueId) -> &NodeSpans {
        &self.nodes[v.index()]
    }
    /// Where the gradient of an entry of the state dict lies.
    ///
    /// # Panics
    /// If the plan is of a network without this entry.
    pub fn entry(&self, id: EntryId) -> Span {
        self.entries[id.index()]
    }
    /// Where an entry is trained.
    ///
    /// # Panics
    /// If the plan is of a network without this entry.
    pub fn uses(&self, id: EntryId) -> Uses {
        self.slots.uses[id.index()]
    }

    /// Places every slot; returns the units that are needed: the peak at best.
    ///
    /// After each placement the slot that sticks out furthest is placed first the next time.
    fn place(&mut self) -> Result<u32, Error> {
        let mut fewest: Option<u32> = None;
        for order in [Order::Size, Order::Area, Order::Life, Order::Begin] {
            self.line_up(order)?;
            for _ in 0..TRIES {
                let units = self.place_anywhere(false)?;
                if fewest.is_none_or(|fewest| units < fewest) {
                    fewest = Some(units);
                    self.best.copy_from(&self.queue)?;
                }
                if u64::from(units) <= self.live_units {
                    return Ok(units);
                }
                let slots = &self.slots.list;
                let highest = |q: &u32| slots[*q as usize].offset + slots[*q as usize].units == units;
                let Some(at) = self.queue.iter().position(highest) else { break };
                self.queue[..=at].rotate_right(1);
            }
        }
        match fewest {
            Some(_) => self.place_anywhere(true),
            None => Ok(0),
        }
    }

    /// Places the slots in the order of the queue, or the best one, in one region without an end.
    fn place_anywhere(&mut self, best: bool) -> Result<u32, Error> {
        let queue = if best { &self.best } else { &self.queue };
        let endless = 0..u32::MAX;
        let placed = place_in_order(&mut self.slots.list, queue, &mut self.placed, core::slice::from_ref(&endless))?;
        placed.map_err(|_| TOO_LARGE)
    }

    /// Places every slot in regions; returns the units up to the last one's end.
    ///
    /// After a placement that fails the slot that found no place is placed first the next time.
    fn place_in(&mut self, regions: &[Range<u32>]) -> Result<u32, Error> {
        let mut nearest: Option<Full> = None;
        for order in [Order::Use, Order::Size, Order::Area, Order::Life, Order::Begin] {
            self.line_up(order)?;
            for _ in 0..TRIES {
                let full = match place_in_order(&mut self.slots.list, &self.queue, &mut self.placed, regions)? {
                    Ok(units) => return Ok(units),
                    Err(full) => full,
                };
                if nearest.is_none_or(|nearest| full.missing < nearest.missing) {
                    nearest = Some(full);
                }
                self.queue[..=full.position].rotate_right(1);
            }
        }
        let full = nearest.unwrap_or(Full { position: 0, region: 0, missing: 0 });
        let given = regions.get(full.region).map_or(0, |region| region.len()) * ALIGN;
        Err(Error::RegionFull { region: full.region, given, needed: given.saturating_add((full.missing as usize).saturating_mul(ALIGN)) })
    }

    /// The slots in an order.
    fn line_up(&mut self, order: Order) -> Result<(), Error> {
        let slots = &self.slots.list;
        let key = |s: &Slot| {
            let (size, life) = (u64::from(s.units), u64::from(s.end - s.begin) + 1);
            match order {
                Order::Size => (size, life),
                Order::Life => (life, size),
                Order::Area => (size.saturating_mul(life), size),
                Order::Begin => (u64::from(u32::MAX - s.begin), size),
                Order::Use => (s.kind.reuse(), size),
            }
        };
        self.queue.clear();
        self.queue.extend(0..slots.len() as u32)?;
        sort_by_key(&mut self.queue, |i| (core::cmp::Reverse(key(&slots[i as usize])), i));
        Ok(())
    }
}

/// In which order buffers are placed.
#[derive(Clone, Copy)]
enum Order {
    Size,
    Life,
    Area,
    Begin,
    /// What a call goes through most often first, then the largest.
    Use,
}

/// No machine has so much.
const TOO_LARGE: Error = Error::TooLarge { shape: [1, 1, 1, usize::MAX] };

/// Placements that are tried from each order, at most.
const TRIES: usize = 12;

/// A slot found no place.
#[derive(Clone, Copy)]
struct Full {
    /// Its place in the queue.
    position: usize,
    /// The region that lacks least.
    region: usize,
    /// The units that it lacks.
    missing: u32,
}

/// Places each slot of the queue at the lowest free place of the first region that has one; tells the units up to the
/// last one's end.
fn place_in_order(slots: &mut [Slot], queue: &[u32], placed: &mut List<u32>, regions: &[Range<u32>]) -> Result<Result<u32, Full>, Error> {
    placed.refill(queue.len(), 0)?; // by offset
    let mut total = 0;
    for (count, &i) in queue.iter().enumerate() {
        let slot = slots[i as usize];
        let mut full = Full { position: count, region: 0, missing: u32::MAX };
        let place = regions.iter().enumerate().find_map(|(region, range)| {
            let offset = lowest_free(slots, &placed[..count], &slot, range.start);
            let missing = offset.checked_add(slot.units).map_or(u32::MAX, |end| end.saturating_sub(range.end));
            if missing > 0 && missing < full.missing {
                full = Full { region, missing, ..full };
            }
            (missing == 0).then_some(offset)
        });
        let Some(offset) = place else { return Ok(Err(full)) };
        slots[i as usize].offset = offset;
        total = total.max(offset + slot.units);
        let at = placed[..count].partition_point(|&p| slots[p as usize].offset < offset);
        placed.copy_within(at..count, at + 1);
        placed[at] = i;
    }
    Ok(Ok(total))
}

/// The lowest place from `from` on at which `slot` meets none of the slots `placed` (ordered by place).
fn lowest_free(slots: &[Slot], placed: &[u32], slot: &Slot, from: u32) -> u32 {
    let mut offset = from;
    for other in placed.iter().map(|&p| &slots[p as usize]).filter(|other| other.meets(slot)) {
        if other.offset >= offset.saturating_add(slot.units) {
            break;
        }
        offset = offset.max(other.offset + other.units);
    }
    offset
}
