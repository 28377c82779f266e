//! Properties of needs and plans, on random graphs and random trainable sets.
//!
//! The main one walks a plan as a trainer does, on memory that only remembers who wrote it last: every
//! read must find what was written for it. This does not trust the lifetimes that the plan was made
//! from.

use nunatak_core::arena::{self, UNIT};
use nunatak_core::lifetime::Slots;
use nunatak_core::{Error, Needs, Operation, ParamId, ParamSet, Plan, Reads, Shape, Tape, Update, ValueId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

const N: usize = 48;
const S: usize = 512;
const PARAMS: usize = 12;

/// An operation of which everything that a plan depends on is random.
#[derive(Clone, Copy, Debug)]
struct Any {
    params: [Option<ParamId>; 2],
    input_reads: Reads,
    weight_reads: Reads,
    differentiable: [bool; 2],
    overwrites: [bool; 2],
    gradient_overwrites: [bool; 2],
    accumulates: [bool; 2],
    saved: usize,
    scratch: [usize; 2],
}

impl Operation for Any {
    type Context = ();
    const NOTHING: Any = Any {
        params: [None; 2],
        input_reads: Reads { x: [false; 2], y: false, saved: false },
        weight_reads: Reads { x: [false; 2], y: false, saved: false },
        differentiable: [false; 2],
        overwrites: [false; 2],
        gradient_overwrites: [false; 2],
        accumulates: [false; 2],
        saved: 0,
        scratch: [0; 2],
    };
    fn params(&self) -> [Option<ParamId>; 2] {
        self.params
    }
    fn backward_input_reads(&self) -> Reads {
        self.input_reads
    }
    fn backward_weight_reads(&self) -> Reads {
        self.weight_reads
    }
    fn differentiable(&self, input: usize) -> bool {
        self.differentiable[input]
    }
    fn overwrites(&self, input: usize) -> bool {
        self.overwrites[input]
    }
    fn gradient_overwrites(&self, input: usize) -> bool {
        self.gradient_overwrites[input]
    }
    fn accumulates(&self, input: usize) -> bool {
        self.accumulates[input]
    }
    fn saved_len(&self, (): &()) -> usize {
        self.saved
    }
    fn forward_scratch_len(&self, (): &()) -> usize {
        self.scratch[0]
    }
    fn backward_scratch_len(&self, (): &(), _: bool, _: bool) -> usize {
        self.scratch[1]
    }
}

/// A random graph with all that a plan is made from.
#[derive(Clone)]
struct Case {
    tape: Tape<Any, N>,
    root: Option<ValueId>,
    trainable: ParamSet,
    keep: Vec<ValueId>,
    update: Update,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        for (i, node) in self.tape.nodes().iter().enumerate() {
            let inputs: Vec<_> = node.inputs().map(|(_, x)| x.index()).collect();
            writeln!(f, "{i}: {inputs:?} -> {} {:?}", node.shape.len(), node.op)?;
        }
        write!(f, "root {:?}, trainable {:?}, keep {:?}, {:?}", self.root, self.trainable, self.keep, self.update)
    }
}

fn param_len(p: ParamId) -> usize {
    1 + 37 * p.index()
}

/// Sizes from few values, so that many operations could work in place.
fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), Just(16), Just(100), Just(640), 1..3000_usize]
}

fn reads() -> impl Strategy<Value = Reads> {
    any::<(bool, bool, bool, bool)>().prop_map(|(a, b, y, saved)| Reads { x: [a, b], y, saved })
}

#[derive(Clone, Debug)]
struct Draft {
    op: Any,
    inputs: Vec<prop::sample::Index>,
    size: Option<usize>,
}

fn draft() -> impl Strategy<Value = Draft> {
    let param = prop::option::weighted(0.3, (0..PARAMS as u16).prop_map(ParamId));
    let flags = || any::<[bool; 2]>();
    let scratch = || prop_oneof![Just(0), 1..2000_usize];
    let op = ((param.clone(), param), (reads(), reads()), (flags(), flags(), flags(), flags()), (scratch(), scratch(), scratch()))
        .prop_map(|((a, b), (input_reads, weight_reads), (d, overwrites, gradient_overwrites, accumulates), (saved, f, s))| Any {
            params: [a, b.filter(|_| a != b)],
            input_reads,
            weight_reads,
            // Mostly differentiable, or no gradient would get far.
            differentiable: [d[0] || d[1], d[1] || !d[0]],
            overwrites,
            gradient_overwrites,
            accumulates,
            saved,
            scratch: [f, s],
        });
    // Near values mostly: chains with branches, as networks are.
    (op, prop::collection::vec(any::<prop::sample::Index>(), 0..=2), prop::option::weighted(0.5, sizes()))
        .prop_map(|(op, inputs, size)| Draft { op, inputs, size })
}

fn case() -> impl Strategy<Value = Case> {
    let trainable = any::<u16>().prop_map(|bits| {
        let mut set = ParamSet::EMPTY;
        (0..PARAMS as u16).filter(|i| bits >> i & 1 == 1).for_each(|i| set.insert(ParamId(i)));
        set
    });
    any::<bool>().prop_flat_map(move |during| {
        let nodes = prop::collection::vec(draft(), 1..N);
        let picks = (prop::option::weighted(0.85, any::<prop::sample::Index>()), prop::collection::vec(any::<prop::sample::Index>(), 0..3));
        (nodes, trainable.clone(), picks).prop_map(move |(drafts, trainable, (root, keep))| build(&drafts, trainable, root, &keep, during))
    })
}

fn build(drafts: &[Draft], trainable: ParamSet, root: Option<prop::sample::Index>, keep: &[prop::sample::Index], during: bool) -> Case {
    let mut tape: Tape<Any, N> = Tape::new();
    for (i, draft) in drafts.iter().enumerate() {
        let values: Vec<_> = tape.values().collect();
        let near = &values[values.len().saturating_sub(6)..];
        let inputs: Vec<_> = draft.inputs.iter().filter(|_| !near.is_empty()).map(|x| *x.get(near)).collect();
        let same = inputs.first().map(|x| tape.nodes()[x.index()].shape.len());
        let len = draft.size.or(same).unwrap_or(64);
        let mut op = if inputs.is_empty() { Any::NOTHING } else { draft.op };
        if during {
            // Each parameter is used at most once where the update is during the walk.
            let own = (i % 3 == 0 && i / 3 < PARAMS && !inputs.is_empty()).then_some(ParamId((i / 3) as u16));
            op.params = [own, None];
        }
        // An operation reads only inputs that it has.
        for r in [&mut op.input_reads, &mut op.weight_reads] {
            (inputs.len()..2).for_each(|k| r.x[k] = false);
            r.saved &= op.saved > 0;
        }
        tape.push(op, &inputs, Shape::new(1, len, 1, 1).expect("a shape")).expect("room");
    }
    let values: Vec<_> = tape.values().collect();
    // The root near the end, so that the walk is long.
    let late = &values[values.len() - values.len().min(4)..];
    Case {
        root: root.map(|r| *r.get(late)),
        keep: keep.iter().map(|k| *k.get(&values)).chain(root.map(|r| *r.get(late))).collect(),
        tape,
        trainable,
        update: if during { Update::During } else { Update::After },
    }
}

fn plan(case: &Case) -> (Needs<N>, Plan<N>, Slots<S>) {
    let needs = Needs::new(&case.tape, case.root, case.trainable);
    let (plan, slots) = Plan::new::<Any, S>(&case.tape, &needs, &(), &param_len, &case.keep, case.update).expect("a plan");
    (needs, plan, slots)
}

/// What was written to a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tag {
    Garbage,
    Value(usize),
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

fn apart(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.end <= b.start || b.end <= a.start || a.is_empty() || b.is_empty()
}

/// Walks the plan twice, as two steps of training would.
fn walk(case: &Case) {
    let (needs, plan, _) = plan(case);
    let nodes = case.tape.nodes();
    let mut memory = Memory(vec![Tag::Garbage; plan.len()]);
    let mut passes: BTreeMap<ParamId, usize> = BTreeMap::new();
    for _ in 0..2 {
        // Inputs are set, all of them, before the walk.
        for v in case.tape.values().filter(|v| nodes[v.index()].inputs().next().is_none()) {
            memory.write(plan.value(v), Tag::Value(v.index()));
        }
        for v in case.tape.values() {
            forward(case, &plan, &mut memory, v);
        }
        case.keep.iter().for_each(|v| memory.read(plan.value(*v), Tag::Value(v.index())));
        let Some(root) = case.root.filter(|r| needs.at(*r).backward()) else { continue };
        let mut contributions = [0; N];
        contributions[root.index()] = 1;
        memory.write(plan.gradient(root), Tag::Gradient(root.index(), 1));
        for v in case.tape.values().rev().skip_while(|v| *v != root) {
            backward(case, &needs, &plan, &mut memory, v, &mut contributions, &mut passes);
        }
        case.keep.iter().for_each(|v| memory.read(plan.value(*v), Tag::Value(v.index())));
        if case.update == Update::After {
            // Gradients survive to be read, and to be added to by the next pass.
            passes.iter().for_each(|(p, n)| memory.read(plan.param_gradient(*p), Tag::ParamGradient(p.index(), *n)));
        }
    }
}

fn forward(case: &Case, plan: &Plan<N>, memory: &mut Memory, v: ValueId) {
    let node = &case.tape.nodes()[v.index()];
    if node.inputs().next().is_none() {
        return;
    }
    let (y, saved, scratch) = (plan.value(v), plan.saved(v), plan.forward_scratch(v));
    assert_eq!(y.len(), node.shape.len());
    for (_, x) in node.inputs() {
        memory.read(plan.value(x), Tag::Value(x.index()));
    }
    memory.write(scratch.clone(), Tag::Garbage);
    memory.write(saved.clone(), Tag::Saved(v.index()));
    for (position, x) in node.inputs() {
        let x_place = plan.value(x);
        // Scratch and what is saved must have spared the inputs.
        memory.read(x_place.clone(), Tag::Value(x.index()));
        let in_place = x_place == y && node.op.overwrites[position] && node.inputs().all(|(p, other)| p == position || other != x);
        assert!(in_place || apart(&x_place, &y), "value {} is written over its input {}", v.index(), x.index());
    }
    assert!(apart(&y, &saved) && apart(&y, &scratch) && apart(&saved, &scratch));
    memory.write(y, Tag::Value(v.index()));
}

fn backward(
    case: &Case,
    needs: &Needs<N>,
    plan: &Plan<N>,
    memory: &mut Memory,
    v: ValueId,
    contributions: &mut [usize; N],
    passes: &mut BTreeMap<ParamId, usize>,
) {
    let node = &case.tape.nodes()[v.index()];
    let need = *needs.at(v);
    if !need.backward() {
        return;
    }
    let dy = plan.gradient(v);
    let dy_tag = Tag::Gradient(v.index(), contributions[v.index()]);
    assert!(contributions[v.index()] > 0, "the gradient of {} is read before it is written", v.index());
    memory.write(plan.backward_scratch(v), Tag::Garbage);
    let check_reads = |memory: &Memory, r: &Reads| {
        for (position, x) in node.inputs().filter(|&(position, _)| r.x[position]) {
            let _ = position;
            memory.read(plan.value(x), Tag::Value(x.index()));
        }
        if r.y {
            memory.read(plan.value(v), Tag::Value(v.index()));
        }
        if r.saved {
            memory.read(plan.saved(v), Tag::Saved(v.index()));
        }
        memory.read(dy.clone(), dy_tag);
    };
    // Parameters first.
    if need.dw != [false; 2] {
        check_reads(memory, &node.op.weight_reads);
        for (param, _) in node.op.params.into_iter().zip(need.dw).filter(|(_, dw)| *dw) {
            let p = param.expect("a parameter");
            let count = passes.entry(p).or_insert(0);
            let place = plan.param_gradient(p);
            assert_eq!(place.len(), param_len(p));
            if *count > 0 && case.update == Update::After {
                memory.read(place.clone(), Tag::ParamGradient(p.index(), *count));
            }
            *count += 1;
            memory.write(place, Tag::ParamGradient(p.index(), *count));
        }
    }
    if need.dx != [false; 2] {
        check_reads(memory, &node.op.input_reads);
    }
    // Then inputs; the one that is written over dy comes last.
    let last = |position: usize, x: ValueId| !need.dx_adds[position] && plan.gradient(x) == dy;
    let mut inputs: Vec<_> = node.inputs().filter(|&(position, _)| need.dx[position]).collect();
    inputs.sort_by_key(|&(position, x)| last(position, x));
    for &(position, x) in &inputs {
        let target = plan.gradient(x);
        assert_eq!(target.len(), case.tape.nodes()[x.index()].shape.len(), "the gradient of {} has a place", x.index());
        memory.read(dy.clone(), dy_tag);
        let count = contributions[x.index()];
        assert_eq!(need.dx_adds[position], count > 0, "the first contribution writes, the others add");
        let over_dy = target == dy;
        if over_dy {
            assert!(node.op.gradient_overwrites[position] && inputs.last() == Some(&(position, x)), "dy is still needed");
        } else {
            assert!(apart(&target, &dy));
        }
        if count > 0 {
            memory.read(target.clone(), Tag::Gradient(x.index(), count));
            if !node.op.accumulates[position] {
                let addend = plan.addend(v);
                assert!(addend.len() >= target.len() && apart(&addend, &target) && apart(&addend, &dy));
                memory.write(addend, Tag::Garbage);
                memory.read(target.clone(), Tag::Gradient(x.index(), count));
            }
        }
        if !over_dy {
            memory.read(dy.clone(), dy_tag);
        }
        contributions[x.index()] += 1;
        memory.write(target, Tag::Gradient(x.index(), count + 1));
    }
    // The update reads the complete gradient; other calls at this node have spared it.
    for (param, _) in node.op.params.into_iter().zip(need.dw).filter(|(_, dw)| *dw) {
        let p = param.expect("a parameter");
        memory.read(plan.param_gradient(p), Tag::ParamGradient(p.index(), passes[&p]));
    }
}

/// How much more than the largest sum of live buffers a plan takes.
fn excess(case: &Case) -> f64 {
    let (_, plan, slots) = plan(case);
    let slots = slots.as_slice();
    let end = slots.iter().map(|s| s.end).max().unwrap_or(0);
    let live = |time: u16| slots.iter().filter(|s| s.begin <= time && time <= s.end).map(|s| s.units as usize).sum::<usize>();
    let least = (0..=end).map(live).max().unwrap_or(0);
    assert_eq!(plan.live_bytes() as usize, least * arena::ALIGN);
    assert!(plan.len() >= least * UNIT, "no plan can do with less than what lives at once");
    plan.len() as f64 / (least * UNIT).max(1) as f64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_read_finds_what_was_written_for_it(case in case()) {
        walk(&case);
    }

    #[test]
    fn no_two_live_buffers_overlap(case in case()) {
        let (_, plan, slots) = plan(&case);
        let slots = slots.as_slice();
        for (i, a) in slots.iter().enumerate() {
            prop_assert!((a.offset + a.units) as usize * UNIT <= plan.len());
            prop_assert!(a.begin <= a.end);
            for b in &slots[..i] {
                let shares = a.offset < b.offset + b.units && b.offset < a.offset + a.units;
                prop_assert!(!(shares && a.meets(b)), "{a:?} {b:?}");
            }
        }
    }

    /// Freezing is absence: what is computed for a smaller set is part of what is for a larger one.
    #[test]
    fn fewer_parameters_need_no_more(case in case(), mask in any::<u16>()) {
        let mut fewer = ParamSet::EMPTY;
        case.trainable.iter().filter(|p| mask >> p.index() & 1 == 1).for_each(|p| fewer.insert(p));
        let (more, less) = (Needs::new(&case.tape, case.root, case.trainable), Needs::new(&case.tape, case.root, fewer));
        for v in case.tape.values() {
            let (more, less) = (more.at(v), less.at(v));
            for i in 0..2 {
                prop_assert!(more.dx[i] || !less.dx[i]);
                prop_assert!(more.dw[i] || !less.dw[i]);
            }
            prop_assert!(more.gradient || !less.gradient);
        }
        prop_assert_eq!(less.params(&case.tape).intersection(fewer), less.params(&case.tape));
        let none = Needs::new(&case.tape, case.root, ParamSet::EMPTY);
        prop_assert!(case.tape.values().all(|v| !none.at(v).backward()));
    }

    /// A block of exactly the bytes will do wherever it starts; one byte less names both numbers.
    #[test]
    fn bytes_suffice_and_one_less_does_not(case in case(), start in 0..64_usize) {
        let (_, plan, _) = plan(&case);
        let bytes = arena::block_bytes(plan.len());
        let mut block = vec![0_u8; start + bytes];
        prop_assert_eq!(arena::numbers(&mut block[start..], plan.len()).map(|b| b.len()), Ok(plan.len()));
        let less = arena::numbers(&mut block[start + 1..], plan.len()).map(|b| b.len());
        prop_assert_eq!(less, Err(Error::ArenaTooSmall { needed: bytes, given: bytes - 1 }));
    }
}

/// Over many random graphs: never below what lives at once, and seldom much above it.
#[test]
fn plans_are_tight() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    // Always the same graphs: a percentile must not fail by chance.
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let cases = case();
    let mut all: Vec<f64> = (0..2000).map(|_| excess(&cases.new_tree(&mut runner).expect("a case").current())).collect();
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
    println!("peak over live: median {:.3}, 99th percentile {:.3}, worst {:.3}", at(0.5), at(0.99), at(1.0));
    assert!(at(0.99) <= 1.2, "the 99th percentile is {}", at(0.99));
}

#[test]
fn full_tapes_and_plans_say_so() {
    let mut tape: Tape<Any, 3> = Tape::new();
    let shape = Shape::new(1, 40, 1, 1).expect("a shape");
    let x = tape.push(Any::NOTHING, &[], shape).expect("room");
    let y = tape.push(Any { saved: 5, scratch: [7, 0], ..Any::NOTHING }, &[x], shape).expect("room");
    tape.push(Any::NOTHING, &[y], shape).expect("room");
    assert_eq!(tape.push(Any::NOTHING, &[y], shape), Err(Error::TapeFull { capacity: 3 }));
    let needs = Needs::new(&tape, None, ParamSet::EMPTY);
    let full = Plan::new::<Any, 4>(&tape, &needs, &(), &param_len, &[], Update::After).map(|(plan, _)| plan.len());
    assert_eq!(full, Err(Error::PlanFull { capacity: 4 }));
    let fits = Plan::new::<Any, 5>(&tape, &needs, &(), &param_len, &[], Update::After).map(|(plan, _)| plan.len());
    assert!(fits.is_ok_and(|len| len >= 80));
}
