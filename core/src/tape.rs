//! The tape: what is computed from what, recorded once and walked both ways.
//!
//! The tape knows *that* an operation reads its input or has parameters, not what a convolution is:
//! it is generic over [`Operation`]. It is a plain value of fixed capacity.

use crate::{Error, Shape};

/// A value on the tape: the result of the node with this number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValueId(pub(crate) u16);

/// A parameter, by its number in the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct ParamId(pub u16);

impl ValueId {
    /// The number of the node that makes the value.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl ParamId {
    /// The parameter's number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What the backward passes of an operation read besides the gradient of its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reads {
    /// The inputs, by position.
    pub x: [bool; 2],
    /// The result.
    pub y: bool,
    /// What forward left for backward.
    pub saved: bool,
}

/// What the planner must know of an operation. Sizes are in numbers (`f32`).
pub trait Operation: Copy {
    /// What sizes depend on besides the shapes: threads, instruction set, …
    type Context;
    /// Fills unused places of a tape.
    const NOTHING: Self;

    /// The parameters that it reads.
    fn params(&self) -> [Option<ParamId>; 2];
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
    fn steps(&self, _position: usize) -> bool {
        false
    }
    /// Numbers that are written behind the result, for the steps that read it.
    fn attached_len(&self) -> usize {
        0
    }
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
    inputs: [u16; 2],
    /// The shape of the result.
    pub shape: Shape,
    /// A later step does this one's work too: see [`Tape::absorb`].
    absorbed: bool,
}

const NO_INPUT: u16 = u16::MAX;

impl<Op> Node<Op> {
    /// The input at a position.
    pub fn input(&self, position: usize) -> Option<ValueId> {
        let value = self.inputs[position];
        (value != NO_INPUT).then_some(ValueId(value))
    }

    /// Whether a later step does the work of this one too, so that it has no result.
    pub fn is_absorbed(&self) -> bool {
        self.absorbed
    }

    /// The inputs with their positions.
    pub fn inputs(&self) -> impl DoubleEndedIterator<Item = (usize, ValueId)> + use<Op> {
        let inputs = self.inputs;
        (0..2).filter(move |&i| inputs[i] != NO_INPUT).map(move |i| (i, ValueId(inputs[i])))
    }
}

/// The numbers of inputs that are made before the step `before`.
fn ids(inputs: &[ValueId], before: usize) -> Result<[u16; 2], Error> {
    let mut ids = [NO_INPUT; 2];
    for (id, value) in ids.iter_mut().zip(inputs) {
        if value.index() >= before {
            return Err(Error::UnknownValue { value: value.index(), values: before });
        }
        *id = value.0;
    }
    Ok(ids)
}

/// A recorded computation of at most `N` operations.
#[derive(Clone)]
pub struct Tape<Op, const N: usize> {
    nodes: [Node<Op>; N],
    len: usize,
}

impl<Op: Operation, const N: usize> Default for Tape<Op, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Op: Operation, const N: usize> Tape<Op, N> {
    /// An empty tape.
    pub const fn new() -> Self {
        const { assert!(N < NO_INPUT as usize / 4, "times on the walk are u16") };
        Tape { nodes: [Node { op: Op::NOTHING, inputs: [NO_INPUT; 2], shape: Shape::SCALAR, absorbed: false }; N], len: 0 }
    }

    /// Records `op` on `inputs`; `shape` is the shape of its result.
    ///
    /// # Errors
    /// [`Error::TapeFull`]; [`Error::UnknownValue`] where an input is not on the tape.
    pub fn push(&mut self, op: Op, inputs: &[ValueId], shape: Shape) -> Result<ValueId, Error> {
        if self.len == N {
            return Err(Error::TapeFull { capacity: N });
        }
        self.nodes[self.len] = Node { op, inputs: ids(inputs, self.len)?, shape, absorbed: false };
        self.len += 1;
        Ok(ValueId(self.len as u16 - 1))
    }

    /// Replaces the step that makes `value` by another whose result has the same shape. The numbers of
    /// all values stay.
    ///
    /// # Errors
    /// [`Error::UnknownValue`] where `value` is not on the tape or an input is not made before it.
    pub fn rewrite(&mut self, value: ValueId, op: Op, inputs: &[ValueId]) -> Result<(), Error> {
        let shape = self.node(value)?.shape;
        self.nodes[value.index()] = Node { op, inputs: ids(inputs, value.index())?, shape, absorbed: false };
        Ok(())
    }

    /// Empties the step that makes `value`, because a later one was rewritten to do its work too. There
    /// is no such value any more: nothing may read it, and it takes no memory.
    ///
    /// # Errors
    /// [`Error::UnknownValue`].
    pub fn absorb(&mut self, value: ValueId) -> Result<(), Error> {
        let shape = self.node(value)?.shape;
        self.nodes[value.index()] = Node { op: Op::NOTHING, inputs: [NO_INPUT; 2], shape, absorbed: true };
        Ok(())
    }

    /// The steps in the order of the forward walk.
    pub fn nodes(&self) -> &[Node<Op>] {
        &self.nodes[..self.len]
    }

    /// The steps, to be rewritten in place (an algorithm chosen, say).
    pub fn nodes_mut(&mut self) -> &mut [Node<Op>] {
        &mut self.nodes[..self.len]
    }

    /// All values, in order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = ValueId> + use<Op, N> {
        (0..self.len as u16).map(ValueId)
    }

    /// The step that makes `value`.
    ///
    /// # Errors
    /// [`Error::UnknownValue`].
    pub fn node(&self, value: ValueId) -> Result<&Node<Op>, Error> {
        self.nodes().get(value.index()).ok_or(Error::UnknownValue { value: value.index(), values: self.len })
    }
}
