//! Writing what was planned as a program.

use super::lasting::{Home, Lasting};
use super::regions::Regions;
use super::{Step, Update};
use crate::Error;
use crate::ops::Op;
use crate::record::{Recording, draw_order};
use crate::select::Mode;
use nunatak_core::List;
use nunatak_core::arena::UNIT;
use nunatak_core::lifetime::Kind as Holds;
use nunatak_core::needs::{Need, Needs};
use nunatak_core::plan::{Plan, Span};
use nunatak_core::program::{Backward, Calls, EntryKind, EntryRecord, Flags, Header, InputGradient, Place, Program, ValueRecord, Writer};
use nunatak_core::tape::{EntryId, MAX_INPUTS, Operation, Tape, ValueId};
use nunatak_kernels::InstructionSet;

/// Everything that was decided.
pub(super) struct Planned<'a, 's> {
    pub(super) step: &'a Step<'a, 's>,
    pub(super) recording: &'a Recording<'s>,
    pub(super) tape: &'a Tape<'a, Op>,
    pub(super) needs: &'a Needs<'a>,
    pub(super) plan: &'a Plan<'a>,
    pub(super) kept: &'a [ValueId],
    pub(super) homes: &'a [Home],
    pub(super) lasting: Lasting,
    pub(super) regions: Regions<'a>,
    pub(super) trainable: &'a dyn Fn(EntryId) -> bool,
}

/// The kinds of calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Forward,
    /// A forward call that is made again, in the backward walk.
    Again,
    Backward,
}

/// Writes the program.
///
/// # Errors
/// [`nunatak_core::Error::ListFull`], [`nunatak_core::Error::TooLarge`].
pub(super) fn encode<'s>(planned: &Planned, bytes: &mut List<'s, u8>, text: &mut List<'s, u8>) -> Result<(), Error> {
    let header = planned.header()?;
    let base = header.passing_unit;
    let mut out = Writer::new(bytes, text)?;
    out.regions(planned.regions.records(&|range| planned.used(range)))?;
    out.entries(planned.entries(base))?;
    out.draws(draw_order(&planned.recording.entries).map(|id| id.0))?;
    out.values(planned.doors().map(|v| planned.value(v, base)))?;
    out.begin_forward();
    for v in planned.tape.values() {
        let node = planned.tape.node(v)?;
        if !matches!(node.op, Op::Nothing | Op::Input(_) | Op::Labels(_)) {
            planned.call(v, base, Kind::Forward, &mut out)?;
        }
    }
    out.begin_backward();
    for v in planned.tape.values().rev() {
        if planned.needs.at(v).backward() {
            planned.plan.again_before(v).try_for_each(|u| planned.call(u, base, Kind::Again, &mut out))?;
            planned.call(v, base, Kind::Backward, &mut out)?;
        }
    }
    let updated = (0..planned.recording.entries.len() as u32).filter(|id| planned.plan.uses(EntryId(*id)).count > 0);
    out.updates(updated)?;
    Ok(out.finish(&header)?)
}

/// The values with a door, in order.
fn doors<'t>(tape: &'t Tape<Op>, kept: &'t [ValueId], keep_gradients: &'t [ValueId]) -> impl Iterator<Item = ValueId> + 't {
    tape.values().filter(move |v| {
        let outside = matches!(tape.nodes()[v.index()].op, Op::Input(_) | Op::Labels(_));
        outside || kept.contains(v) || keep_gradients.contains(v)
    })
}

/// Numbers of the lasting state: counts, marks, doors, what a forward may take back, or the room that is asked for.
pub(super) fn state_len(step: &Step, recording: &Recording, tape: &Tape<Op>, kept: &[ValueId]) -> usize {
    let (counts, doors) = (recording.counts() as usize, doors(tape, kept, step.keep_gradients).count());
    let own = Program::marks(counts) + recording.entries.len() + doors;
    let units = own.div_ceil(4 * UNIT) + undo_units(step, recording, tape, counts);
    units.max(step.state_room.div_ceil(UNIT)) * UNIT
}

/// Units for what a forward may take back: see [`Program::undo`].
fn undo_units(step: &Step, recording: &Recording, tape: &Tape<Op>, counts: usize) -> usize {
    let of_call = |op: &Op| {
        let entries = || op.facts().entries().ids().map(|id| &recording.entries[id.index()]);
        let moves = !matches!(op, Op::Nothing) && entries().any(|entry| entry.kind == EntryKind::Count);
        let statistics = entries().filter(|entry| moves && matches!(entry.kind, EntryKind::RunningMean | EntryKind::RunningVar));
        statistics.map(|entry| entry.len().div_ceil(UNIT)).sum::<usize>()
    };
    let statistics = tape.nodes().iter().map(|node| of_call(&node.op)).sum::<usize>();
    let trains = step.mode == Mode::Train || statistics > 0;
    if trains { Program::marks(counts).div_ceil(4 * UNIT) + statistics } else { 0 }
}

impl<'a> Planned<'a, '_> {
    fn doors(&self) -> impl Iterator<Item = ValueId> + '_ {
        doors(self.tape, self.kept, self.step.keep_gradients)
    }

    /// The unit behind the last that is used of these; the first where none is.
    fn used(&self, range: core::ops::Range<u32>) -> u32 {
        let ends = |first: u32, units: u32| if range.contains(&first) && units > 0 { first + units } else { range.start };
        let units = |numbers: usize| numbers.div_ceil(UNIT) as u32;
        let homes = self.homes.iter().zip(&*self.recording.entries).flat_map(|(home, entry)| {
            let len = units(entry.len());
            let own = if home.borrowed || entry.kind == EntryKind::Count { 0 } else { len };
            [ends(home.unit, own), home.momentum.map_or(range.start, |unit| ends(unit, len))]
        });
        let passing = self.plan.slots().iter().map(|slot| ends(self.lasting.end + slot.offset, slot.units));
        let state = ends(self.lasting.state, self.lasting.end - self.lasting.state);
        homes.chain(passing).max().unwrap_or(range.start).max(state)
    }

    fn header(&self) -> Result<Header<'a>, Error> {
        let step = self.step;
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let block_units = u64::from(self.lasting.end) + (self.plan.len() / UNIT) as u64;
        if block_units > (nunatak_core::arena::MOST_NUMBERS / UNIT) as u64 {
            return Err(nunatak_core::Error::TooLarge { shape: [1, 1, 1, usize::MAX] }.into());
        }
        let borrows = self.homes.iter().any(|home| home.borrowed);
        let file = step.weights.as_ref().filter(|_| borrows);
        Ok(Header {
            flags: Flags(
                flag(step.update == Update::During, Flags::DURING)
                    | flag(step.update == Update::Summed, Flags::SUMMED)
                    | flag(step.momentum, Flags::MOMENTUM)
                    | flag(step.mode == Mode::Train, Flags::TRAIN),
            ),
            level: step.target.level.map_or(0, InstructionSet::code),
            threads: step.target.threads as u32,
            memory: step.target.memory.code(),
            class: step.target.class,
            tuning: step.target.tuning,
            weights_hash: file.map_or([0; 32], |file| file.hash().0),
            weights_units: file.map_or(0, |file| (file.bytes().len() / 64) as u32),
            root: step.root.map(|v| v.0),
            model: self.recording.text(self.recording.model),
            head: self.recording.text(self.recording.head),
            busiest: self.busiest(),
            busiest_node: self.busiest_node(),
            state_unit: self.lasting.state,
            passing_unit: self.lasting.end,
        })
    }

    /// Units in use at the busiest time.
    fn busiest(&self) -> [u32; 6] {
        let mut units = [self.lasting.weights, self.lasting.statistics, self.lasting.momentum, 0, 0, 0];
        let peak = self.plan.peak();
        for slot in self.plan.slots().iter().filter(|s| s.begin <= peak && peak <= s.end) {
            let kind = match slot.kind {
                Holds::ParamGradient(_) => 3,
                Holds::Value(_) | Holds::Again(_) | Holds::Saved(_) | Holds::Gradient(_) | Holds::Addend(_) => 4,
                Holds::ForwardScratch(_) | Holds::AgainScratch(_) | Holds::BackwardScratch(_) => 5,
            };
            units[kind] += slot.units;
        }
        units
    }

    fn busiest_node(&self) -> u32 {
        let (node, backward) = self.plan.busiest();
        2 * node.0 + u32::from(backward)
    }

    /// Where a value lies when it is read: after it was computed again, or since it was computed first.
    fn value_place(&self, v: ValueId, base: u32, later: bool) -> Place {
        let again = if later { self.plan.again(v, self.tape.nodes()[v.index()].shape.len()) } else { None };
        place(again.map_or(self.plan.node(v).value, |[value, _]| value), base)
    }

    fn entries(&self, base: u32) -> impl Iterator<Item = EntryRecord<'_>> {
        self.recording.entries.iter().enumerate().map(move |(i, entry)| {
            let (id, home) = (EntryId(i as u32), self.homes[i]);
            let (kind, a, b) = entry.init.encode(entry.fan_out());
            let gradient = place(self.plan.entry(id), base);
            let flag = |set: bool, flag: u32| if set { flag } else { 0 };
            EntryRecord {
                name: self.recording.entry_name(id),
                kind: entry.kind,
                rank: entry.rank,
                flags: flag((self.trainable)(id), EntryRecord::TRAINED) | flag(home.borrowed, EntryRecord::BORROWED),
                shape: entry.shape,
                layout: entry.layout.encode(),
                unit: if entry.kind == EntryKind::Count { entry.count } else { home.unit },
                len: entry.len() as u32,
                momentum: home.momentum,
                gradient: (!gradient.is_empty()).then_some(gradient.unit),
                init: (kind, a, b, entry.bound),
            }
        })
    }

    fn value(&self, v: ValueId, base: u32) -> ValueRecord<'_> {
        let (node, spans) = (&self.tape.nodes()[v.index()], self.plan.node(v));
        let kind = match node.op {
            Op::Input(_) => ValueRecord::INPUT,
            Op::Labels(_) => ValueRecord::LABELS,
            _ => 0,
        };
        let kept = if self.kept.contains(&v) { ValueRecord::KEPT } else { 0 };
        let (at, gradient) = (place(spans.value, base), place(spans.gradient, base));
        let seen = self.step.keep_gradients.contains(&v) || self.step.root == Some(v);
        ValueRecord {
            node: v.0,
            flags: kind | kept,
            name: self.recording.value_name(v),
            shape: node.shape.sizes(),
            unit: at.unit,
            gradient: (seen && !gradient.is_empty()).then_some(gradient.unit),
            len: node.shape.len() as u32,
        }
    }

    /// Writes a node's call.
    fn call(&self, v: ValueId, base: u32, kind: Kind, out: &mut Writer) -> Result<(), Error> {
        let (op, inputs, spans) = (self.tape.node(v)?.op, self.tape.inputs(v), self.plan.node(v));
        let (backward, later) = (kind == Kind::Backward, kind != Kind::Forward);
        let need = *self.needs.at(v);
        // What a backward call does not read may have been written over by then: it has no place there.
        let mut x = [Place::default(); MAX_INPUTS];
        for (i, input) in inputs.iter().enumerate().filter(|(i, _)| !backward || need.reads.x >> i & 1 == 1) {
            x[i] = self.value_place(*input, base, later);
        }
        let read = |wanted: bool, place: Place| if !backward || wanted { place } else { Place::default() };
        let (y, saved) = (read(need.reads.y, self.value_place(v, base, later)), read(need.reads.saved, place(spans.saved, base)));
        let attached = match (kind, op.facts().attached_len(), op.facts().reads_attached()) {
            (Kind::Backward, ..) | (_, 0, 0) | (Kind::Again, 0, _) => Place::default(),
            (_, 0, len) => behind(x[0], len),
            (_, len, _) => behind(y, len),
        };
        let again = || self.plan.again(v, 0).map_or(Span::default(), |[_, scratch]| scratch);
        let scratch = match kind {
            Kind::Forward => spans.forward_scratch,
            Kind::Again => again(),
            Kind::Backward => spans.backward_scratch,
        };
        let entries = op.facts().entries();
        let mut dx = [InputGradient::default(); MAX_INPUTS];
        let backward = backward.then(|| {
            self.input_gradients(v, &op, &need, base, &mut dx);
            let (during, at_once) = (self.step.update == Update::During, self.step.update != Update::After);
            let uses = op.params().map(|id| id.map(|id| self.plan.uses(id)));
            let completes = |i: usize| uses[i].is_some_and(|uses| need.dw[i] && at_once && uses.first == v.0);
            Backward {
                dy: place(spans.gradient, base),
                dx: &dx[..inputs.len()],
                dw: need.dw,
                updates: [completes(0), completes(1)],
                one_pass: during && completes(0) && op.steps(0) && uses[0].is_some_and(|uses| uses.count == 1),
            }
        });
        let call = Calls {
            op: op.code(),
            node: v.0,
            inputs: &x[..inputs.len()],
            entries: entries.numbers(),
            places: [y, saved, place(scratch, base), attached],
            backward,
            again: kind == Kind::Again,
        };
        Ok(out.call(&call, |out| op.facts().write(out))?)
    }

    fn input_gradients(&self, v: ValueId, op: &Op, need: &Need, base: u32, dx: &mut [InputGradient]) {
        for (position, x) in self.tape.inputs(v).iter().enumerate().filter(|(position, _)| need.dx_at(*position)) {
            let target = place(self.plan.node(*x).gradient, base);
            let adds = need.adds_at(position);
            dx[position] = match adds && !op.accumulates(position) {
                true => {
                    let addend = place(self.plan.node(v).addend, base);
                    InputGradient { place: Place { len: target.len, ..addend }, adds: false, sum: target }
                }
                false => InputGradient { place: target, adds, sum: Place::default() },
            };
        }
    }
}

/// A span of the passing part, in the block.
fn place(span: Span, base: u32) -> Place {
    let range = span.range();
    match range.is_empty() {
        true => Place::default(),
        false => Place { region: 0, unit: (range.start / UNIT) as u32 + base, len: range.len() as u32 },
    }
}

/// The numbers behind a place.
fn behind(place: Place, len: usize) -> Place {
    Place { region: 0, unit: place.unit + (place.len as usize).div_ceil(UNIT) as u32, len: len as u32 }
}
