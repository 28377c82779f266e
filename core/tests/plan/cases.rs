//! Random graphs with all that a plan is made from.

use nunatak_core::lifetime::Walk;
use nunatak_core::needs::Needs;
use nunatak_core::tape::{EntryId, Inputs, MAX_INPUTS, Operation, Reads, Tape, ValueId};
use nunatak_core::{Shape, Update};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Nodes of a random graph, at most.
pub(crate) const N: usize = 48;
pub(crate) const ENTRIES: usize = 12;

/// An operation of which everything that a plan depends on is random.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Any {
    pub(crate) params: [Option<EntryId>; 2],
    pub(crate) input_reads: Reads,
    pub(crate) weight_reads: Reads,
    pub(crate) differentiable: Inputs,
    pub(crate) overwrites: Inputs,
    pub(crate) gradient_overwrites: Inputs,
    pub(crate) accumulates: Inputs,
    pub(crate) steps: bool,
    pub(crate) attached: usize,
    pub(crate) saved: usize,
    pub(crate) scratch: [usize; 2],
}

impl Operation for Any {
    type Context = ();
    const NOTHING: Any = Any {
        params: [None; 2],
        input_reads: Reads { x: 0, y: false, saved: false },
        weight_reads: Reads { x: 0, y: false, saved: false },
        differentiable: 0,
        overwrites: 0,
        gradient_overwrites: 0,
        accumulates: 0,
        steps: false,
        attached: 0,
        saved: 0,
        scratch: [0; 2],
    };
    fn params(&self) -> [Option<EntryId>; 2] {
        self.params
    }
    fn backward_input_reads(&self) -> Reads {
        self.input_reads
    }
    fn backward_weight_reads(&self) -> Reads {
        self.weight_reads
    }
    fn differentiable(&self, input: usize) -> bool {
        has(self.differentiable, input)
    }
    fn overwrites(&self, input: usize) -> bool {
        has(self.overwrites, input)
    }
    fn gradient_overwrites(&self, input: usize) -> bool {
        has(self.gradient_overwrites, input)
    }
    fn accumulates(&self, input: usize) -> bool {
        has(self.accumulates, input)
    }
    fn steps(&self, position: usize) -> bool {
        position == 0 && self.steps
    }
    fn attached_len(&self) -> usize {
        self.attached
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

pub(crate) fn has(inputs: Inputs, position: usize) -> bool {
    inputs >> position & 1 == 1
}

/// A random graph with all that a plan is made from.
pub(crate) struct Case {
    pub(crate) tape: Tape<'static, Any>,
    pub(crate) root: Option<ValueId>,
    pub(crate) trainable: BTreeSet<u32>,
    pub(crate) keep: Vec<ValueId>,
    pub(crate) keep_gradients: Vec<ValueId>,
    pub(crate) update: Update,
    /// Values that are computed again.
    pub(crate) again: Vec<ValueId>,
}

impl Clone for Case {
    fn clone(&self) -> Case {
        let mut tape = Tape::new();
        tape.copy_from(&self.tape).expect("memory");
        let Case { root, trainable, keep, keep_gradients, update, again, .. } = self;
        Case {
            tape,
            root: *root,
            trainable: trainable.clone(),
            keep: keep.clone(),
            keep_gradients: keep_gradients.clone(),
            update: *update,
            again: again.clone(),
        }
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        for v in self.tape.values() {
            let node = self.tape.node(v).expect("a node");
            writeln!(f, "{}: {:?} -> {} {:?}", v.0, self.tape.inputs(v), node.shape.len(), node.op)?;
        }
        let Case { root, trainable, keep, keep_gradients, update, again, .. } = self;
        write!(f, "root {root:?}, trainable {trainable:?}, keep {keep:?}, their gradients {keep_gradients:?}, {update:?}, again {again:?}")
    }
}

impl Case {
    pub(crate) fn needs(&self, trainable: &BTreeSet<u32>) -> Needs<'static> {
        let mut needs = Needs::new();
        needs.find(&self.tape, self.root, &|id| trainable.contains(&id.0), &self.keep_gradients).expect("memory");
        needs
    }

    pub(crate) fn inputs(&self, v: ValueId) -> impl Iterator<Item = (usize, ValueId)> + '_ {
        self.tape.inputs(v).iter().copied().enumerate()
    }

    pub(crate) fn walk<'a>(&'a self, needs: &'a Needs<'a>) -> Walk<'a, Any> {
        Walk {
            tape: &self.tape,
            needs,
            context: &(),
            entry_len: &entry_len,
            entries: ENTRIES,
            keep: &self.keep,
            keep_gradients: &self.keep_gradients,
            update: self.update,
            again: &self.again,
        }
    }
}

pub(crate) fn entry_len(id: EntryId) -> usize {
    1 + 37 * id.index()
}

/// Sizes from few values, so that many operations could work in place.
pub(crate) fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), Just(16), Just(100), Just(640), 1..3000_usize]
}

pub(crate) fn reads() -> impl Strategy<Value = Reads> {
    (any::<Inputs>(), any::<bool>(), any::<bool>()).prop_map(|(x, y, saved)| Reads { x, y, saved })
}

#[derive(Clone, Debug)]
pub(crate) struct Draft {
    op: Any,
    inputs: Vec<prop::sample::Index>,
    size: Option<usize>,
}

pub(crate) fn draft() -> impl Strategy<Value = Draft> {
    let param = prop::option::weighted(0.3, (0..ENTRIES as u32).prop_map(EntryId));
    let flags = || any::<Inputs>();
    let scratch = || prop_oneof![Just(0), 1..2000_usize];
    let attached = prop_oneof![5 => Just(0), 1 => 1..100_usize];
    let lengths = (attached, scratch(), scratch(), scratch());
    let op = ((param.clone(), param), (reads(), reads()), (flags(), flags(), flags(), flags(), flags()), any::<bool>(), lengths);
    let op = op.prop_map(|((a, b), (input_reads, weight_reads), flags, steps, (attached, saved, forward, backward))| {
        let (d, more, overwrites, gradient_overwrites, accumulates) = flags;
        Any {
            params: [a, b.filter(|_| a != b)],
            input_reads,
            weight_reads,
            differentiable: d | more, // mostly, or no gradient would get far
            overwrites,
            gradient_overwrites,
            accumulates,
            steps,
            attached,
            saved,
            scratch: [forward, backward],
        }
    });
    // Few inputs mostly, sometimes as many as there can be.
    let inputs = |most| prop::collection::vec(any::<prop::sample::Index>(), 0..=most);
    (op, prop_oneof![20 => inputs(2), 4 => inputs(4), 1 => inputs(MAX_INPUTS)], prop::option::weighted(0.5, sizes()))
        .prop_map(|(op, inputs, size)| Draft { op, inputs, size })
}

pub(crate) type Picks = Vec<prop::sample::Index>;

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let trainable = any::<u16>().prop_map(|bits| (0..ENTRIES as u32).filter(|i| bits >> i & 1 == 1).collect());
    let nodes = prop::collection::vec(draft(), 1..N);
    let picks = || prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let root = prop::option::weighted(0.85, any::<prop::sample::Index>());
    let update = prop::sample::select(vec![Update::After, Update::During, Update::Summed]);
    // Of most walks nothing is computed again; of some every second value, of some all.
    let again = (prop_oneof![2 => Just(0), 2 => Just(1), 1 => Just(2)], prop::collection::vec(any::<bool>(), N));
    (nodes, trainable, root, picks(), picks(), update, again).prop_map(|(drafts, trainable, root, keep, gradients, update, again)| {
        let mut case = build(&drafts, trainable, root, &keep, &gradients, update);
        let picked = |v: &ValueId| again.0 == 2 || again.0 == 1 && again.1[v.index()];
        case.again = case.tape.values().filter(picked).collect();
        case
    })
}

pub(crate) fn build(
    drafts: &[Draft],
    trainable: BTreeSet<u32>,
    root: Option<prop::sample::Index>,
    keep: &Picks,
    gradients: &Picks,
    update: Update,
) -> Case {
    let mut tape: Tape<Any> = Tape::new();
    for draft in drafts {
        let values: Vec<_> = tape.values().collect();
        // Near values mostly: chains with branches, as networks are.
        let near = &values[values.len().saturating_sub(6)..];
        let inputs: Vec<_> = draft.inputs.iter().filter(|_| !near.is_empty()).map(|x| *x.get(near)).collect();
        let same = inputs.first().map(|x| tape.nodes()[x.index()].shape.len());
        let len = draft.size.or(same).unwrap_or(64);
        let mut op = if inputs.is_empty() { Any::NOTHING } else { draft.op };
        // An operation reads only inputs that it has.
        let there = if inputs.len() < MAX_INPUTS { (1 << inputs.len()) - 1 } else { Inputs::MAX };
        for r in [&mut op.input_reads, &mut op.weight_reads] {
            r.x &= there;
            r.saved &= op.saved > 0;
        }
        tape.push(op, &inputs, Shape::new(1, len, 1, 1).expect("a shape")).expect("room");
    }
    let values: Vec<_> = tape.values().collect();
    // The root near the end, so that the walk is long.
    let late = &values[values.len() - values.len().min(4)..];
    let root = root.map(|r| *r.get(late));
    Case {
        root,
        keep: keep.iter().map(|k| *k.get(&values)).chain(root).collect(),
        keep_gradients: gradients.iter().map(|k| *k.get(&values)).collect(),
        tape,
        trainable,
        update,
        again: Vec::new(),
    }
}
