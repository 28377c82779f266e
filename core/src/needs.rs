//! Which gradients exist: freezing as absence.
//!
//! The set of trainable parameters decides which backward calls there are. A frozen weight has no
//! weight-gradient call; below the lowest trainable layer there is no input-gradient call; what only
//! an absent call would have read is not kept.

use crate::tape::{Operation, ParamId, Reads, Tape, ValueId};

/// A set of parameters, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ParamSet([u64; ParamSet::CAPACITY / 64]);

impl ParamSet {
    /// Parameters that a set can hold.
    pub const CAPACITY: usize = 256;
    /// No parameter.
    pub const EMPTY: ParamSet = ParamSet([0; 4]);

    /// The parameters 0 … `count` − 1.
    pub fn first(count: usize) -> ParamSet {
        let mut set = Self::EMPTY;
        (0..count as u16).for_each(|i| set.insert(ParamId(i)));
        set
    }
    /// Puts a parameter in.
    ///
    /// # Panics
    /// If its number is not below [`ParamSet::CAPACITY`].
    pub fn insert(&mut self, param: ParamId) {
        self.0[param.index() / 64] |= 1 << (param.index() % 64);
    }
    /// Takes a parameter out.
    pub fn remove(&mut self, param: ParamId) {
        self.0[param.index() / 64] &= !(1 << (param.index() % 64));
    }
    /// Whether it is in.
    pub fn contains(&self, param: ParamId) -> bool {
        self.0.get(param.index() / 64).is_some_and(|word| word >> (param.index() % 64) & 1 == 1)
    }
    /// Whether no parameter is in.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }
    /// The parameters in it, in order.
    pub fn iter(self) -> impl Iterator<Item = ParamId> {
        (0..Self::CAPACITY as u16).map(ParamId).filter(move |&p| self.contains(p))
    }
    /// What is in either.
    pub fn union(self, other: ParamSet) -> ParamSet {
        ParamSet(core::array::from_fn(|i| self.0[i] | other.0[i]))
    }
    /// What is in both.
    pub fn intersection(self, other: ParamSet) -> ParamSet {
        ParamSet(core::array::from_fn(|i| self.0[i] & other.0[i]))
    }
}

/// What the backward walk must compute at one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Need {
    /// The gradient of the result exists.
    pub gradient: bool,
    /// The gradient of each input is computed.
    pub dx: [bool; 2],
    /// The gradient of an input is added to what is there, not written over it.
    pub dx_adds: [bool; 2],
    /// The gradient of each parameter is computed.
    pub dw: [bool; 2],
    /// What the calls of this node read.
    pub reads: Reads,
}

impl Need {
    /// Any backward call at all.
    pub fn backward(&self) -> bool {
        self.dx != [false; 2] || self.dw != [false; 2]
    }
}

/// The backward calls of a tape, from a root value and a set of trainable parameters.
#[derive(Clone)]
pub struct Needs<const N: usize> {
    nodes: [Need; N],
    root: Option<ValueId>,
}

impl<const N: usize> Needs<N> {
    /// What the backward walk from `root` must compute so that every parameter of `trainable` that
    /// takes part gets its gradient. Without a root there is no backward walk: inference.
    pub fn new<Op: Operation>(tape: &Tape<Op, N>, root: Option<ValueId>, trainable: ParamSet) -> Self {
        let mut needs = Needs { nodes: [Need::default(); N], root };
        let Some(root) = root else { return needs };
        let is_trainable = |p: Option<ParamId>| p.is_some_and(|p| trainable.contains(p));

        // Upwards: which values depend on a trainable parameter.
        let mut depends = [false; N];
        for (i, node) in tape.nodes().iter().enumerate() {
            depends[i] = node.op.params().into_iter().any(is_trainable)
                || node.inputs().any(|(position, x)| node.op.differentiable(position) && depends[x.index()]);
        }
        // Downwards from the root: which of them the root depends on. The first visitor of a value
        // (the last of its readers on the tape) writes its gradient, the others add.
        let mut begun = [false; N];
        needs.nodes[root.index()].gradient = depends[root.index()];
        begun[root.index()] = true;
        for (i, node) in tape.nodes().iter().enumerate().take(root.index() + 1).rev() {
            if !needs.nodes[i].gradient {
                continue;
            }
            let mut need = needs.nodes[i];
            for (position, x) in node.inputs() {
                if node.op.differentiable(position) && depends[x.index()] {
                    need.dx[position] = true;
                    need.dx_adds[position] = begun[x.index()];
                    begun[x.index()] = true;
                    needs.nodes[x.index()].gradient = true;
                }
            }
            need.dw = node.op.params().map(is_trainable);
            let mut reads = |r: Reads| {
                need.reads.x = [need.reads.x[0] | r.x[0], need.reads.x[1] | r.x[1]];
                need.reads.y |= r.y;
                need.reads.saved |= r.saved;
            };
            if need.dx != [false; 2] {
                reads(node.op.backward_input_reads());
            }
            if need.dw != [false; 2] {
                reads(node.op.backward_weight_reads());
            }
            needs.nodes[i] = need;
        }
        needs
    }

    /// Where the backward walk starts.
    pub fn root(&self) -> Option<ValueId> {
        self.root
    }

    /// What is to be done at the node that makes `value`.
    pub fn at(&self, value: ValueId) -> &Need {
        &self.nodes[value.index()]
    }

    /// The parameters that get a gradient.
    pub fn params<Op: Operation>(&self, tape: &Tape<Op, N>) -> ParamSet {
        let mut set = ParamSet::EMPTY;
        for (node, need) in tape.nodes().iter().zip(&self.nodes) {
            for (param, dw) in node.op.params().into_iter().zip(need.dw) {
                if let (Some(param), true) = (param, dw) {
                    set.insert(param);
                }
            }
        }
        set
    }
}
