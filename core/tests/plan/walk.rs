//! A plan is walked as a trainer walks it, on memory that only remembers who wrote it last.

use crate::cases::{Case, ENTRIES, entry_len, has};
use nunatak_core::Update;
use nunatak_core::arena::UNIT;
use nunatak_core::needs::Needs;
use nunatak_core::plan::Plan;
use nunatak_core::tape::{EntryId, Operation, Reads, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What was written to a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tag {
    Garbage,
    Value(usize),
    Attached(usize),
    Saved(usize),
    /// The gradient of a value, after so many contributions.
    Gradient(usize, usize),
    ParamGradient(usize, usize),
}

/// Memory that remembers what was written to it.
struct Memory(Vec<Tag>);

impl Memory {
    fn write(&mut self, range: Range<usize>, tag: Tag) {
        self.0[range].fill(tag);
    }
    #[track_caller]
    fn read(&self, range: Range<usize>, tag: Tag) {
        assert!(!range.is_empty(), "{tag:?} has no place");
        let found = self.0[range].iter().find(|t| **t != tag);
        assert_eq!(found, None, "in place of {tag:?}");
    }
}

impl Memory {
    /// Of what may be nothing.
    #[track_caller]
    fn read_if(&self, range: Range<usize>, tag: Tag) {
        if !range.is_empty() {
            self.read(range, tag);
        }
    }
}

fn apart(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.end <= b.start || b.end <= a.start || a.is_empty() || b.is_empty()
}

/// What a walk has done so far.
struct Walked<'c> {
    case: &'c Case,
    needs: Needs<'static>,
    plan: Plan<'static>,
    memory: Memory,
    /// Of each value: contributions to its gradient in this step.
    contributions: Vec<usize>,
    /// Of each parameter: contributions to its gradient since it was last used up.
    passes: BTreeMap<EntryId, usize>,
    updates: Vec<EntryId>,
    /// What was computed again in this step.
    repeated: BTreeSet<ValueId>,
}

/// Walks the plan twice, as two steps of training would.
pub(crate) fn walk(case: &Case, needs: Needs<'static>, plan: Plan<'static>) {
    let memory = Memory(vec![Tag::Garbage; plan.len()]);
    let mut w = Walked {
        case,
        needs,
        plan,
        memory,
        contributions: Vec::new(),
        passes: BTreeMap::new(),
        updates: Vec::new(),
        repeated: BTreeSet::new(),
    };
    for _ in 0..2 {
        w.contributions = vec![0; case.tape.nodes().len()];
        w.updates.clear();
        w.repeated.clear();
        // Inputs are set, all of them, before the walk.
        for v in case.tape.values().filter(|v| case.tape.inputs(*v).is_empty()) {
            w.memory.write(w.value(v), Tag::Value(v.index()));
        }
        case.tape.values().for_each(|v| w.forward(v));
        w.kept_are_there();
        let Some(root) = case.root.filter(|r| w.needs.at(*r).gradient) else { continue };
        w.contributions[root.index()] = 1;
        w.memory.write(w.gradient(root), Tag::Gradient(root.index(), 1));
        case.tape.values().rev().skip_while(|v| *v != root).for_each(|v| w.backward(v));
        w.kept_are_there();
        for v in case.keep_gradients.iter().filter(|v| w.needs.at(**v).gradient) {
            w.memory.read(w.gradient(*v), Tag::Gradient(v.index(), w.contributions[v.index()]));
        }
        w.parameters();
    }
}

impl Walked<'_> {
    fn value(&self, v: ValueId) -> Range<usize> {
        self.plan.node(v).value.range()
    }
    fn gradient(&self, v: ValueId) -> Range<usize> {
        self.plan.node(v).gradient.range()
    }
    /// What is written behind a value, in whole units.
    fn attached(&self, v: ValueId) -> Range<usize> {
        let start = self.value(v).start + self.value(v).len().next_multiple_of(UNIT);
        start..start + self.case.tape.nodes()[v.index()].op.attached
    }
    fn kept_are_there(&self) {
        self.case.keep.iter().for_each(|v| self.memory.read(self.value(*v), Tag::Value(v.index())));
    }

    /// After a step: which parameters have a gradient, or were updated.
    fn parameters(&self) {
        let trained: BTreeSet<_> = self.passes.keys().copied().collect();
        let used = |id: &EntryId| self.plan.uses(*id).count > 0;
        assert!((0..ENTRIES as u32).map(EntryId).filter(used).eq(trained.iter().copied()), "parameters with a gradient");
        match self.case.update {
            // Gradients survive to be read, and to be added to by the next pass.
            Update::After => {
                let place = |p: &EntryId| self.plan.entry(*p).range();
                self.passes.iter().for_each(|(p, n)| self.memory.read(place(p), Tag::ParamGradient(p.index(), *n)));
            }
            // Each was used up once.
            Update::During | Update::Summed => {
                let once: BTreeSet<_> = self.updates.iter().copied().collect();
                assert_eq!((once.len(), once), (self.updates.len(), trained));
            }
        }
    }

    fn forward(&mut self, v: ValueId) {
        let (case, op) = (self.case, self.case.tape.nodes()[v.index()].op);
        if case.tape.inputs(v).is_empty() {
            return;
        }
        let spans = *self.plan.node(v);
        let (y, saved, scratch, attached) = (self.value(v), spans.saved.range(), spans.forward_scratch.range(), self.attached(v));
        assert_eq!(y.len(), case.tape.nodes()[v.index()].shape.len());
        assert!(saved.len() >= op.saved && scratch.len() >= op.scratch[0]);
        for (_, x) in case.inputs(v) {
            self.memory.read(self.value(x), Tag::Value(x.index()));
            if case.tape.nodes()[x.index()].op.attached > 0 {
                self.memory.read(self.attached(x), Tag::Attached(x.index()));
            }
        }
        self.memory.write(scratch.clone(), Tag::Garbage);
        self.memory.write(saved.clone(), Tag::Saved(v.index()));
        for (position, x) in case.inputs(v) {
            let place = self.value(x);
            // Scratch and what is saved must have spared the inputs.
            self.memory.read(place.clone(), Tag::Value(x.index()));
            let once = case.inputs(v).all(|(p, other)| p == position || other != x);
            let in_place = place == y && has(op.overwrites, position) && once;
            assert!(in_place || apart(&place, &y), "value {} is written over its input {}", v.index(), x.index());
            assert!(apart(&place, &attached), "what is attached to {} lies over its input {}", v.index(), x.index());
        }
        let places = [&y, &saved, &scratch, &attached];
        assert!(places.iter().enumerate().all(|(i, a)| places[..i].iter().all(|b| apart(a, b))));
        self.memory.write(y, Tag::Value(v.index()));
        self.memory.write(attached, Tag::Attached(v.index()));
    }

    /// Where a value lies during the backward walk, and the scratch of its second computation, if there is one.
    fn later(&self, v: ValueId) -> [Range<usize>; 2] {
        let len = self.case.tape.nodes()[v.index()].shape.len();
        self.plan.again(v, len).map_or([self.value(v), 0..0], |spans| spans.map(|span| span.range()))
    }

    /// A value is computed once more, in another place, from what is still there.
    fn again(&mut self, v: ValueId) {
        let (case, op) = (self.case, self.case.tape.nodes()[v.index()].op);
        assert!(case.again.contains(&v) && !case.keep.contains(&v) && self.repeated.insert(v), "{} is computed again once", v.index());
        let [y, scratch] = self.later(v);
        let saved = self.plan.node(v).saved.range();
        let end = y.start + y.len().next_multiple_of(UNIT);
        let attached = end..end + op.attached;
        assert!(y.len() == case.tape.nodes()[v.index()].shape.len() && scratch.len() >= op.scratch[0]);
        let places = [&y, &saved, &scratch, &attached];
        assert!(places.iter().enumerate().all(|(i, a)| places[..i].iter().all(|b| apart(a, b))));
        self.memory.read_if(saved.clone(), Tag::Saved(v.index()));
        for place in [&saved, &scratch, &y, &attached] {
            self.memory.write(place.clone(), Tag::Garbage);
            for (_, x) in case.inputs(v) {
                self.memory.read(self.later(x)[0].clone(), Tag::Value(x.index()));
            }
        }
        self.memory.write(saved, Tag::Saved(v.index()));
        self.memory.write(y, Tag::Value(v.index()));
        self.memory.write(attached, Tag::Attached(v.index()));
    }

    fn check_reads(&self, v: ValueId, r: &Reads) {
        for (_, x) in self.case.inputs(v).filter(|&(position, _)| has(r.x, position)) {
            self.memory.read(self.later(x)[0].clone(), Tag::Value(x.index()));
        }
        if r.y {
            self.memory.read(self.later(v)[0].clone(), Tag::Value(v.index()));
        }
        if r.saved {
            self.memory.read(self.plan.node(v).saved.range(), Tag::Saved(v.index()));
        }
        self.memory.read(self.gradient(v), Tag::Gradient(v.index(), self.contributions[v.index()]));
    }

    /// The parameters whose gradient is computed at a node, with their positions.
    fn trained(&self, v: ValueId) -> impl Iterator<Item = (usize, EntryId)> + use<> {
        let (params, dw) = (self.case.tape.nodes()[v.index()].op.params, self.needs.at(v).dw);
        (0..2).filter(move |i| dw[*i]).map(move |i| (i, params[i].expect("a parameter")))
    }

    /// Whether a parameter's gradient goes through no memory, because the call steps it itself.
    fn is_stepped(&self, v: ValueId, position: usize, id: EntryId) -> bool {
        let op = &self.case.tape.nodes()[v.index()].op;
        self.case.update == Update::During && self.plan.uses(id).count == 1 && op.steps(position)
    }

    fn backward(&mut self, v: ValueId) {
        let need = *self.needs.at(v);
        if !need.backward() {
            return;
        }
        self.plan.again_before(v).collect::<Vec<_>>().into_iter().for_each(|u| self.again(u));
        assert!(self.contributions[v.index()] > 0, "the gradient of {} is read before it is written", v.index());
        let scratch = self.plan.node(v).backward_scratch.range();
        assert!(scratch.len() >= self.case.tape.nodes()[v.index()].op.scratch[1]);
        self.memory.write(scratch, Tag::Garbage);
        // Parameters first.
        if need.dw != [false; 2] {
            self.check_reads(v, &self.case.tape.nodes()[v.index()].op.weight_reads);
        }
        for (position, id) in self.trained(v) {
            let count = *self.passes.entry(id).or_insert(0);
            if self.is_stepped(v, position, id) {
                assert!(self.plan.entry(id).range().is_empty());
                continue;
            }
            let place = self.plan.entry(id).range();
            assert_eq!(place.len(), entry_len(id));
            if count > 0 {
                self.memory.read(place.clone(), Tag::ParamGradient(id.index(), count));
            }
            self.passes.insert(id, count + 1);
            self.memory.write(place, Tag::ParamGradient(id.index(), count + 1));
        }
        if need.dx != 0 {
            self.check_reads(v, &self.case.tape.nodes()[v.index()].op.input_reads);
            self.input_gradients(v);
        }
        // The update reads the complete gradient; other calls at this node have spared it.
        for (position, id) in self.trained(v).filter(|(_, id)| self.plan.uses(*id).first == v.0).collect::<Vec<_>>() {
            if !self.is_stepped(v, position, id) {
                self.memory.read(self.plan.entry(id).range(), Tag::ParamGradient(id.index(), self.passes[&id]));
            }
            if self.case.update != Update::After {
                self.passes.insert(id, 0);
                self.updates.push(id);
            }
        }
    }

    /// The inputs' gradients; the one that is written over dy comes last.
    fn input_gradients(&mut self, v: ValueId) {
        let (need, op, dy) = (*self.needs.at(v), self.case.tape.nodes()[v.index()].op, self.gradient(v));
        let dy_tag = Tag::Gradient(v.index(), self.contributions[v.index()]);
        let mut inputs: Vec<_> = self.case.inputs(v).filter(|&(position, _)| need.dx_at(position)).collect();
        // Of one value that is read twice the first position writes, the others add.
        inputs.sort_by_key(|&(position, x)| (!need.adds_at(position) && self.gradient(x) == dy, need.adds_at(position)));
        for (i, &(position, x)) in inputs.iter().enumerate() {
            let target = self.gradient(x);
            assert_eq!(target.len(), self.case.tape.nodes()[x.index()].shape.len(), "the gradient of {} has a place", x.index());
            self.memory.read(dy.clone(), dy_tag);
            let count = self.contributions[x.index()];
            assert_eq!(need.adds_at(position), count > 0, "the first contribution writes, the others add");
            let over_dy = target == dy;
            if over_dy {
                assert!(has(op.gradient_overwrites, position) && i == inputs.len() - 1, "dy is still needed");
                assert!(!self.case.keep_gradients.contains(&v), "dy is kept");
            } else {
                assert!(apart(&target, &dy));
            }
            if count > 0 {
                self.memory.read(target.clone(), Tag::Gradient(x.index(), count));
                if !has(op.accumulates, position) {
                    let addend = self.plan.node(v).addend.range();
                    assert!(addend.len() >= target.len() && apart(&addend, &target) && apart(&addend, &dy));
                    self.memory.write(addend, Tag::Garbage);
                    self.memory.read(target.clone(), Tag::Gradient(x.index(), count));
                }
            }
            if !over_dy {
                self.memory.read(dy.clone(), dy_tag);
            }
            self.contributions[x.index()] += 1;
            self.memory.write(target, Tag::Gradient(x.index(), count + 1));
        }
    }
}
