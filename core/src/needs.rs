//! Which gradients exist: freezing as absence.
//!
//! The set of trainable parameters decides which backward calls there are. A frozen weight has no
//! weight-gradient call; below the lowest trainable layer there is no input-gradient call; what only
//! an absent call would have read is not kept.

use crate::Error;
use crate::list::List;
use crate::tape::{EntryId, Inputs, Operation, Reads, Tape, ValueId};

/// What the backward walk must compute at one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Need {
    /// The gradient of the result exists.
    pub gradient: bool,
    /// The inputs whose gradient is computed.
    pub dx: Inputs,
    /// The inputs whose gradient is added to what is there, not written over it.
    pub dx_adds: Inputs,
    /// The gradient of each parameter is computed.
    pub dw: [bool; 2],
    /// What the calls of this node read.
    pub reads: Reads,
}

impl Need {
    /// Fills a slice that is to be lent.
    pub const UNUSED: Need = Need { gradient: false, dx: 0, dx_adds: 0, dw: [false; 2], reads: Reads { x: 0, y: false, saved: false } };

    /// Any backward call at all.
    pub fn backward(&self) -> bool {
        self.dx != 0 || self.dw != [false; 2]
    }
    /// Whether the gradient of the input at this position is computed.
    pub const fn dx_at(&self, position: usize) -> bool {
        self.dx >> position & 1 == 1
    }
    /// Whether it is added to what is there.
    pub const fn adds_at(&self, position: usize) -> bool {
        self.dx_adds >> position & 1 == 1
    }
}

/// The backward calls of a tape, from a root value and a set of trainable parameters.
#[derive(Debug)]
pub struct Needs<'s> {
    nodes: List<'s, Need>,
    marks: List<'s, Mark>,
    root: Option<ValueId>,
}

/// What is known of a value while needs are found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// It depends on something whose gradient is wanted.
    depends: bool,
    /// A reader that comes earlier in the backward walk writes its gradient.
    begun: bool,
}

impl Mark {
    /// Fills a slice that is to be lent.
    pub const UNUSED: Mark = Mark { depends: false, begun: false };
}

#[cfg(feature = "std")]
impl Needs<'static> {
    /// No needs, on the heap.
    pub const fn new() -> Self {
        Needs { nodes: List::new(), marks: List::new(), root: None }
    }
}

#[cfg(feature = "std")]
impl Default for Needs<'static> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'s> Needs<'s> {
    /// No needs, in the caller's slices, one place for each node in each.
    pub fn lent(nodes: &'s mut [Need], marks: &'s mut [Mark]) -> Self {
        Needs { nodes: List::lent(nodes), marks: List::lent(marks), root: None }
    }

    /// Finds what the backward walk from `root` must compute so that every trainable parameter that takes
    /// part gets its gradient, and every value that `wanted` names too. Without a root there is no
    /// backward walk: inference.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn find<Op: Operation>(
        &mut self,
        tape: &Tape<Op>,
        root: Option<ValueId>,
        trainable: &dyn Fn(EntryId) -> bool,
        wanted: &[ValueId],
    ) -> Result<(), Error> {
        self.nodes.refill(tape.nodes().len(), Need::default())?;
        self.marks.refill(tape.nodes().len(), Mark::default())?;
        self.root = root;
        let Some(root) = root else { return Ok(()) };
        let is_trainable = |p: Option<EntryId>| p.is_some_and(trainable);

        // Upwards: which values depend on something whose gradient is wanted.
        for v in tape.values() {
            let op = &tape.nodes()[v.index()].op;
            let mut depends = wanted.contains(&v) || op.params().into_iter().any(is_trainable);
            for (position, x) in tape.inputs(v).iter().enumerate() {
                depends |= op.differentiable(position) && self.marks[x.index()].depends;
            }
            self.marks[v.index()].depends = depends;
        }
        // Downwards from the root: which of them the root depends on. The first visitor of a value
        // (the last of its readers on the tape) writes its gradient, the others add.
        self.nodes[root.index()].gradient = self.marks[root.index()].depends;
        self.marks[root.index()].begun = true;
        for v in (0..=root.0).rev().map(ValueId) {
            if !self.nodes[v.index()].gradient {
                continue;
            }
            let op = &tape.nodes()[v.index()].op;
            let mut need = self.nodes[v.index()];
            for (position, x) in tape.inputs(v).iter().enumerate() {
                if op.differentiable(position) && self.marks[x.index()].depends {
                    need.dx |= 1 << position;
                    need.dx_adds |= Inputs::from(self.marks[x.index()].begun) << position;
                    self.marks[x.index()].begun = true;
                    self.nodes[x.index()].gradient = true;
                }
            }
            need.dw = op.params().map(is_trainable);
            let mut reads = |r: Reads| {
                need.reads.x |= r.x;
                need.reads.y |= r.y;
                need.reads.saved |= r.saved;
            };
            if need.dx != 0 {
                reads(op.backward_input_reads());
            }
            if need.dw != [false; 2] {
                reads(op.backward_weight_reads());
            }
            self.nodes[v.index()] = need;
        }
        Ok(())
    }

    /// Where the backward walk starts.
    pub fn root(&self) -> Option<ValueId> {
        self.root
    }

    /// What is to be done at the node that makes `value`.
    ///
    /// # Panics
    /// If the needs were not found for a tape with this value.
    pub fn at(&self, value: ValueId) -> &Need {
        &self.nodes[value.index()]
    }

    /// Whether there is a backward walk.
    pub fn trains(&self) -> bool {
        self.nodes.iter().any(Need::backward)
    }
}
