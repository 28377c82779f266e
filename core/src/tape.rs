//! The tape: what is computed from what, recorded once and walked both ways.
//!
//! The tape knows *that* an operation reads its input or has parameters, not what a convolution is:
//! it is generic over [`Operation`].

use crate::list::List;
use crate::{Error, Shape};

/// A value on the tape: the result of the node with this number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The number of the node that makes the value.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// An entry of the state dict (a parameter, or a buffer such as a running mean), by its number in the
/// order of recording.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EntryId(pub u32);

impl EntryId {
    /// The entry's number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Inputs of one node, as bits.
pub type Inputs = u64;

/// The most inputs that a node can have.
pub const MAX_INPUTS: usize = Inputs::BITS as usize;

/// What the backward passes of an operation read besides the gradient of its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reads {
    /// The inputs, as bits.
    pub x: Inputs,
    /// The result.
    pub y: bool,
    /// What forward left for backward.
    pub saved: bool,
}

/// What the planner must know of an operation. Sizes are in numbers (`f32`). Nothing has a default: an
/// operation that forgets a fact does not compile.
pub trait Operation: Copy {
    /// What sizes depend on besides the shapes: threads, memory setting, …
    type Context;
    /// Stands where a step was absorbed by another.
    const NOTHING: Self;

    /// The parameters that it reads and that can be trained.
    fn params(&self) -> [Option<EntryId>; 2];
    /// What computing the inputs' gradients reads.
    fn backward_input_reads(&self) -> Reads;
    /// What computing the parameters' gradients reads.
    fn backward_weight_reads(&self) -> Reads;
    /// Whether the input at this position has a gradient at all (labels have none).
    fn differentiable(&self, input: usize) -> bool;
    /// Whether the result may be written over the input at this position.
    fn overwrites(&self, input: usize) -> bool;
    /// Whether the gradient of the input at this position may be written over the gradient of the
    /// result.
    fn gradient_overwrites(&self, input: usize) -> bool;
    /// Whether it can add to the gradient of the input at this position; if not, the gradient goes to
    /// a buffer of its own and is added from there.
    fn accumulates(&self, input: usize) -> bool;
    /// Whether, in plans that update during the walk, the backward call steps the parameter at this
    /// position itself: its gradient then lies nowhere.
    fn steps(&self, position: usize) -> bool;
    /// Numbers that are written behind the result, for the steps that read it.
    fn attached_len(&self) -> usize;
    /// What forward leaves for backward.
    fn saved_len(&self, context: &Self::Context) -> usize;
    /// Memory that is dead after the forward call.
    fn forward_scratch_len(&self, context: &Self::Context) -> usize;
    /// Memory that is dead after the backward calls.
    fn backward_scratch_len(&self, context: &Self::Context, input: bool, weight: bool) -> usize;
}

/// One step of the tape.
#[derive(Clone, Copy, Debug)]
pub struct Node<Op> {
    /// What is computed.
    pub op: Op,
    /// The shape of the result.
    pub shape: Shape,
    first: u32,
    count: u32,
    absorbed: bool,
}

impl<Op> Node<Op> {
    /// Whether a later step does the work of this one too, so that it has no result.
    pub const fn is_absorbed(&self) -> bool {
        self.absorbed
    }
}

/// A recorded computation.
#[derive(Debug)]
pub struct Tape<'s, Op> {
    nodes: List<'s, Node<Op>>,
    inputs: List<'s, ValueId>,
}

#[cfg(feature = "std")]
impl<Op: Operation> Tape<'static, Op> {
    /// An empty tape on the heap.
    pub const fn new() -> Self {
        Tape { nodes: List::new(), inputs: List::new() }
    }
}

#[cfg(feature = "std")]
impl<Op: Operation> Default for Tape<'static, Op> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'s, Op: Operation> Tape<'s, Op> {
    /// An empty tape in the caller's slices: for the nodes, and for the inputs of all nodes.
    pub fn lent(nodes: &'s mut [Node<Op>], inputs: &'s mut [ValueId]) -> Self {
        Tape { nodes: List::lent(nodes), inputs: List::lent(inputs) }
    }

    /// Fills a slice that is to be lent. Where `Op::NOTHING` is all zeros, so is this: a static of it takes no
    /// flash.
    pub const fn unused() -> Node<Op> {
        Node { op: Op::NOTHING, shape: Shape::UNUSED, first: 0, count: 0, absorbed: false }
    }

    fn node_of(&mut self, op: Op, inputs: &[ValueId], shape: Shape, before: usize) -> Result<Node<Op>, Error> {
        if inputs.len() > MAX_INPUTS {
            return Err(Error::ListFull { capacity: MAX_INPUTS });
        }
        if let Some(value) = inputs.iter().find(|x| x.index() >= before) {
            return Err(Error::UnknownValue { value: value.index(), values: before });
        }
        let first = self.inputs.len() as u32;
        self.inputs.extend(inputs.iter().copied())?;
        Ok(Node { op, shape, first, count: inputs.len() as u32, absorbed: false })
    }

    /// Records `op` on `inputs`; `shape` is the shape of its result.
    ///
    /// # Errors
    /// [`Error::ListFull`]; [`Error::UnknownValue`] where an input is not on the tape.
    pub fn push(&mut self, op: Op, inputs: &[ValueId], shape: Shape) -> Result<ValueId, Error> {
        let node = self.node_of(op, inputs, shape, self.nodes.len())?;
        self.nodes.push(node).map(ValueId)
    }

    /// Replaces the step that makes `value` by another whose result has the same shape. The numbers of
    /// all values stay.
    ///
    /// # Errors
    /// [`Error::UnknownValue`] where `value` is not on the tape or an input is not made before it.
    pub fn rewrite(&mut self, value: ValueId, op: Op, inputs: &[ValueId]) -> Result<(), Error> {
        let shape = self.node(value)?.shape;
        self.nodes[value.index()] = self.node_of(op, inputs, shape, value.index())?;
        Ok(())
    }

    /// Empties the step that makes `value`, because a later one was rewritten to do its work too. There
    /// is no such value any more: nothing may read it, and it takes no memory.
    ///
    /// # Errors
    /// [`Error::UnknownValue`].
    pub fn absorb(&mut self, value: ValueId) -> Result<(), Error> {
        let shape = self.node(value)?.shape;
        self.nodes[value.index()] = Node { shape, absorbed: true, ..Self::unused() };
        Ok(())
    }

    /// Makes every reader of `value` read `instead`, which is made before it.
    ///
    /// # Errors
    /// [`Error::UnknownValue`] where `instead` is not made before `value`.
    pub fn replace(&mut self, value: ValueId, instead: ValueId) -> Result<(), Error> {
        if instead >= value {
            return Err(Error::UnknownValue { value: instead.index(), values: value.index() });
        }
        self.inputs.iter_mut().filter(|x| **x == value).for_each(|x| *x = instead);
        Ok(())
    }

    /// Takes over everything that is on another tape.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub fn copy_from(&mut self, other: &Tape<Op>) -> Result<(), Error> {
        self.nodes.copy_from(&other.nodes)?;
        self.inputs.copy_from(&other.inputs)
    }

    /// The steps in the order of the forward walk.
    pub fn nodes(&self) -> &[Node<Op>] {
        &self.nodes
    }

    /// The steps, to be rewritten in place (an algorithm chosen, say).
    pub fn nodes_mut(&mut self) -> &mut [Node<Op>] {
        &mut self.nodes
    }

    /// How many inputs all steps have, with those of steps that were rewritten.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// All values, in order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = ValueId> + use<Op> {
        (0..self.nodes.len() as u32).map(ValueId)
    }

    /// The step that makes `value`.
    ///
    /// # Errors
    /// [`Error::UnknownValue`].
    pub fn node(&self, value: ValueId) -> Result<&Node<Op>, Error> {
        self.nodes.get(value.index()).ok_or(Error::UnknownValue { value: value.index(), values: self.nodes.len() })
    }

    /// What the step that makes `value` reads, in order.
    ///
    /// # Panics
    /// If `value` is not on the tape.
    pub fn inputs(&self, value: ValueId) -> &[ValueId] {
        let node = &self.nodes[value.index()];
        &self.inputs[node.first as usize..][..node.count as usize]
    }
}
