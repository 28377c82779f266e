//! Recording: what a step computes, written down like the formula that it is.
//!
//! ```
//! # use nunatak_nn::{Graph, Mode, Recipe, ResNet};
//! let model = ResNet::new(Recipe::resnet18(1000), Mode::Train)?;
//! let graph = Graph::new();
//! let data = graph.input(1, 3, 64, 64);
//! let labels = graph.input(1, 1000, 1, 1);
//! let prediction = model.forward(data);
//! let loss = (prediction - labels).sum();
//! assert_eq!(loss.shape().len(), 1);
//! # Ok::<(), nunatak_nn::Error>(())
//! ```
//!
//! Nothing is computed here. An operation that can't be (shapes that do not fit, a full tape) makes
//! the whole graph an error, which [`Graph::check`] and every plan report.

use crate::Error;
use crate::op::Op;
use core::cell::RefCell;
use core::ops::{Add, Mul, Sub};
use nunatak_core::{Shape, Tape, ValueId};
use nunatak_kernels::cross_entropy::{CrossEntropy, Reduction};

/// Operations that a recording can hold. ResNet34 with its loss has 128.
pub const MAX_NODES: usize = 192;

/// The tape of a recording.
pub type NetTape = Tape<Op, MAX_NODES>;

/// A recording: values, and how they are computed from each other.
pub struct Graph {
    state: RefCell<State>,
}

struct State {
    tape: NetTape,
    error: Option<Error>,
}

/// A value of a recording. Sums, differences and products of values are recorded too.
#[derive(Clone, Copy)]
pub struct Var<'g> {
    graph: &'g Graph,
    id: ValueId,
    shape: Shape,
}

impl From<Var<'_>> for ValueId {
    fn from(v: Var) -> ValueId {
        v.id
    }
}

impl Default for Graph {
    fn default() -> Self {
        Self::new()
    }
}

impl Graph {
    /// An empty recording.
    pub const fn new() -> Graph {
        Graph { state: RefCell::new(State { tape: Tape::new(), error: None }) }
    }

    /// A tensor of n x c x h x w from outside; a matrix is n x c x 1 x 1.
    pub fn input(&self, n: usize, c: usize, h: usize, w: usize) -> Var<'_> {
        self.record(Op::Input, &[], Shape::new(n, c, h, w).map_err(Error::from))
    }

    /// Class indices from outside, one for each of `n` rows.
    pub fn labels(&self, n: usize) -> Var<'_> {
        self.record(Op::Labels, &[], Shape::new(n, 2, 1, 1).map_err(Error::from))
    }

    /// The first error of the recording, if there was one.
    ///
    /// # Errors
    /// That error.
    pub fn check(&self) -> Result<(), Error> {
        self.state.borrow().error.map_or(Ok(()), Err)
    }

    /// A copy of the tape.
    ///
    /// # Errors
    /// The first error of the recording.
    pub fn tape(&self) -> Result<NetTape, Error> {
        self.check()?;
        Ok(self.state.borrow().tape.clone())
    }

    /// Records an operation; after an error it records nothing, and the value is a placeholder.
    pub(crate) fn record(&self, op: Op, inputs: &[ValueId], shape: Result<Shape, Error>) -> Var<'_> {
        let mut state = self.state.borrow_mut();
        let result = shape.and_then(|shape| Ok((state.tape.push(op, inputs, shape)?, shape)));
        let (id, shape) = result.unwrap_or_else(|e| {
            state.error.get_or_insert(e);
            // Any value that exists will do: no plan is made from a graph with an error.
            (state.tape.values().next().unwrap_or_else(|| placeholder(&mut state.tape)), Shape::SCALAR)
        });
        Var { graph: self, id, shape }
    }
}

/// The value that stands for what could not be recorded.
fn placeholder(tape: &mut NetTape) -> ValueId {
    match tape.push(Op::Input, &[], Shape::SCALAR) {
        Ok(id) => id,
        Err(_) => unreachable!("an empty tape has room for one value"),
    }
}

impl<'g> Var<'g> {
    /// The value's place on the tape, which outlives the graph.
    pub fn id(self) -> ValueId {
        self.id
    }
    /// The value's shape (of a placeholder after an error: one number).
    pub fn shape(self) -> Shape {
        self.shape
    }

    pub(crate) fn unary(self, op: Op, shape: Result<Shape, Error>) -> Var<'g> {
        self.graph.record(op, &[self.id], shape)
    }

    fn binary(self, op: Op, other: Var, shape: Result<Shape, Error>) -> Var<'g> {
        let shape = if core::ptr::eq(self.graph, other.graph) { shape } else { Err(Error::OtherGraph) };
        self.graph.record(op, &[self.id, other.id], shape)
    }

    fn same_shape(self, other: Var) -> Result<Shape, Error> {
        self.shape.expect(other.shape)?;
        Ok(self.shape)
    }

    /// max(x, 0)
    pub fn relu(self) -> Var<'g> {
        self.unary(Op::Relu, Ok(self.shape))
    }
    /// The sum of all numbers.
    pub fn sum(self) -> Var<'g> {
        self.unary(Op::Sum(self.shape.len()), Ok(Shape::SCALAR))
    }
    /// The mean of all numbers.
    pub fn mean(self) -> Var<'g> {
        self.unary(Op::Mean(self.shape.len()), Ok(Shape::SCALAR))
    }
    /// The mean of (self − other)² over all numbers.
    pub fn mse(self, other: Var) -> Var<'g> {
        self.binary(Op::MeanSquaredError(self.shape.len()), other, self.same_shape(other).map(|_| Shape::SCALAR))
    }

    /// Cross entropy of these logits (n x classes) and `target`: class indices from
    /// [`Graph::labels`], or probabilities of the same shape as the logits.
    pub fn cross_entropy(self, target: Var, options: CrossEntropyOptions) -> Var<'g> {
        let (n, classes) = (self.shape.n(), self.shape.c());
        let CrossEntropyOptions { label_smoothing, ignore_index, reduction } = options;
        let p = CrossEntropy { n, classes, label_smoothing, ignore_index, reduction };
        let indices = target.is_labels();
        let due = Shape::new(n, if indices { 2 } else { classes }, 1, 1);
        let shape = due.and_then(|due| due.expect(target.shape)).map(|()| Shape::SCALAR).map_err(Error::from);
        let matrix = if self.shape.h() * self.shape.w() == 1 {
            shape
        } else {
            Err(Error::Core(nunatak_core::Error::ShapeMismatch { expected: [n as u32, classes as u32, 1, 1], got: self.shape.sizes() }))
        };
        self.binary(if indices { Op::CrossEntropy(p) } else { Op::CrossEntropyProbabilities(p) }, target, matrix)
    }

    fn is_labels(self) -> bool {
        let state = self.graph.state.borrow();
        state.tape.node(self.id).is_ok_and(|node| matches!(node.op, Op::Labels))
    }
}

/// PyTorch's options of cross entropy, with its defaults.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CrossEntropyOptions {
    /// How much of the target is spread over all classes: 0 to 1.
    pub label_smoothing: f32,
    /// Rows with this class index count nothing.
    pub ignore_index: i64,
    /// Mean or sum.
    pub reduction: Reduction,
}

impl Default for CrossEntropyOptions {
    fn default() -> Self {
        CrossEntropyOptions { label_smoothing: 0.0, ignore_index: -100, reduction: Reduction::Mean }
    }
}

impl<'g> Add for Var<'g> {
    type Output = Var<'g>;
    fn add(self, other: Var<'g>) -> Var<'g> {
        self.binary(Op::Add, other, self.same_shape(other))
    }
}

impl<'g> Sub for Var<'g> {
    type Output = Var<'g>;
    fn sub(self, other: Var<'g>) -> Var<'g> {
        self.binary(Op::Sub, other, self.same_shape(other))
    }
}

impl<'g> Mul for Var<'g> {
    type Output = Var<'g>;
    fn mul(self, other: Var<'g>) -> Var<'g> {
        self.binary(Op::Mul, other, self.same_shape(other))
    }
}

impl<'g> Mul<f32> for Var<'g> {
    type Output = Var<'g>;
    fn mul(self, factor: f32) -> Var<'g> {
        self.unary(Op::Scale(factor), Ok(self.shape))
    }
}
