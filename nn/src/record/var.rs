//! Values of a recording.

use super::Recorder;
use crate::Error;
use crate::ops::Op;
use nunatak_core::Shape;
use nunatak_core::tape::{MAX_INPUTS, ValueId};

/// A value of a recording. Sums, differences and products of values are recorded too.
#[derive(Clone, Copy)]
pub struct Var<'g> {
    graph: &'g dyn Recorder,
    id: ValueId,
    shape: Shape,
}

impl core::fmt::Debug for Var<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        write!(f, "Var({}: {})", self.id.0, self.shape)
    }
}

impl From<Var<'_>> for ValueId {
    fn from(v: Var) -> ValueId {
        v.id
    }
}

impl<'g> Var<'g> {
    /// Records an operation; after an error it records nothing, and the value is a placeholder.
    pub(crate) fn record(graph: &'g dyn Recorder, op: Op, inputs: &[Var<'g>], shape: Result<Shape, Error>) -> Var<'g> {
        let mut ids = [ValueId(0); MAX_INPUTS];
        let shape = match inputs.len() > MAX_INPUTS {
            true => Err(Error::Length { what: "inputs of one operation", expected: MAX_INPUTS, got: inputs.len() }),
            false => shape,
        };
        let shape = match inputs.iter().all(|x| core::ptr::addr_eq(x.graph, graph)) {
            true => shape,
            false => Err(Error::OtherGraph),
        };
        let count = inputs.len().min(MAX_INPUTS);
        ids.iter_mut().zip(inputs).for_each(|(to, x)| *to = x.id);
        let (id, shape) = graph.push(op, &ids[..count], shape);
        Var { graph, id, shape }
    }

    /// A value that was recorded before.
    pub(crate) fn recorded(graph: &'g dyn Recorder, (id, shape): (ValueId, Shape)) -> Var<'g> {
        Var { graph, id, shape }
    }

    /// The value's place on the tape, which outlives the graph.
    pub fn id(self) -> ValueId {
        self.id
    }
    /// The value's shape (of a placeholder after an error: one number).
    pub fn shape(self) -> Shape {
        self.shape
    }

    /// The same value. Where it has another number of channels, the recording becomes an error.
    pub fn expect_channels(self, channels: usize) -> Var<'g> {
        let [n, _, h, w] = self.shape.sizes().map(|size| size as usize);
        let fits = Shape::new(n, channels, h, w).and_then(|due| due.expect(self.shape));
        match fits {
            Ok(()) => self,
            Err(e) => Var::record(self.graph, Op::Nothing, &[self], Err(e.into())),
        }
    }

    pub(crate) fn unary(self, op: Op, shape: Result<Shape, Error>) -> Var<'g> {
        Var::record(self.graph, op, &[self], shape)
    }

    pub(crate) fn binary(self, op: Op, other: Var<'g>, shape: Result<Shape, Error>) -> Var<'g> {
        Var::record(self.graph, op, &[self, other], shape)
    }

    /// An operation on this value and up to two others.
    pub(crate) fn many(self, op: Op, others: &[Var<'g>], shape: Result<Shape, Error>) -> Var<'g> {
        match others {
            [a, b] => Var::record(self.graph, op, &[self, *a, *b], shape),
            _ => Var::record(self.graph, op, &[self], Err(Error::OtherGraph)),
        }
    }

    pub(crate) fn same_shape(self, other: Var) -> Result<Shape, Error> {
        self.shape.expect(other.shape)?;
        Ok(self.shape)
    }

    /// A number of its own for each layer of the recording that asks for one.
    pub(crate) fn next_layer(self) -> u32 {
        self.graph.next_layer()
    }

    pub(crate) fn is_labels(self) -> bool {
        self.graph.is_labels(self.id)
    }
}
