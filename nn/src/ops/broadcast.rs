//! Sums, differences, products and quotients of tensors of different shapes, where a size of 1 is repeated; and
//! quotients of equal shapes.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Nodes, OnnxError};
use crate::ops::{Context, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, Shorter, lend};
use crate::record::Var;
use nunatak_core::Shape;
use nunatak_core::program::{Call, Numbers, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::broadcast::{self as kernel, Binary, Operand};

impl<'g> Var<'g> {
    /// Records two tensors of any shapes that fit each other.
    pub(crate) fn broadcast(self, binary: Binary, other: Var<'g>) -> Var<'g> {
        let (a, b) = (self.shape(), other.shape());
        let made = a.broadcast(b).and_then(|y| Ok((kernel::Broadcast::new(a, b, y)?, y))).map_err(Error::from);
        match made {
            Ok((size, y)) => self.binary(Op::Broadcast(Broadcast { binary, size }), other, Ok(y)),
            Err(e) => self.binary(Op::Nothing, other, Err(e)),
        }
    }
}

impl<'g> core::ops::Div for Var<'g> {
    type Output = Var<'g>;
    /// A size of 1 is repeated.
    fn div(self, other: Var<'g>) -> Var<'g> {
        self.broadcast(Binary::Div, other)
    }
}

/// Two tensors on the tape, either of them repeated along axes of size 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broadcast {
    binary: Binary,
    size: kernel::Broadcast,
}

const OPERANDS: [Operand; 2] = [Operand::A, Operand::B];
const BINARIES: [Binary; 4] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div];

impl Broadcast {
    /// Whether an operand is not repeated: then the result, or its gradient, may lie in its place.
    fn is_whole(&self, input: usize) -> bool {
        self.size.operand(OPERANDS[input]) == self.size.result()
    }
}

pub(crate) fn write_shape(shape: Shape, out: &mut Writer) -> Result<(), nunatak_core::Error> {
    shape.sizes().into_iter().try_for_each(|size| out.word(size))
}

pub(crate) fn read_shape(numbers: &mut Numbers) -> Result<Shape, Misfit> {
    let [n, c, h, w] = [numbers.size(), numbers.size(), numbers.size(), numbers.size()];
    Shape::new(n, c, h, w).map_err(|_| "sizes that are no shape's")
}

impl Facts for Broadcast {
    fn name(&self) -> &'static str {
        self.binary.name()
    }
    fn backward_input_reads(&self) -> Reads {
        let reads = OPERANDS.map(|operand| self.binary.backward_reads(operand));
        let x = u64::from(reads.iter().any(|r| r.0)) | u64::from(reads.iter().any(|r| r.1)) << 1;
        Reads { x, ..Reads::default() }
    }
    fn differentiable(&self, _: usize) -> bool {
        true
    }
    fn overwrites(&self, input: usize) -> bool {
        input == 0 && self.is_whole(0)
    }
    fn gradient_overwrites(&self, input: usize) -> bool {
        self.is_whole(input)
    }
    fn accumulates(&self, _: usize) -> bool {
        true
    }
    fn saved_len(&self, _: &Context) -> usize {
        0
    }
    fn forward_scratch_len(&self, _: &Context) -> usize {
        0
    }
    fn backward_scratch_len(&self, _: &Context, _: bool, _: bool) -> usize {
        let [a, b] = OPERANDS.map(|operand| self.size.scratch_len(self.binary, operand));
        a.max(b)
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        out.size(BINARIES.iter().position(|b| *b == self.binary).unwrap_or(BINARIES.len()))?;
        write_shape(self.size.operand(Operand::A), out)?;
        write_shape(self.size.operand(Operand::B), out)
    }
    fn read(call: &Call) -> Result<Broadcast, Misfit> {
        let numbers = &mut call.numbers();
        let binary = *BINARIES.get(numbers.size()).ok_or("an unknown function of two tensors")?;
        let (a, b) = (read_shape(numbers)?, read_shape(numbers)?);
        let size = a.broadcast(b).and_then(|y| kernel::Broadcast::new(a, b, y)).map_err(|_| "shapes that do not fit each other")?;
        Ok(Broadcast { binary, size })
    }
    fn lengths(&self) -> Lengths<'_> {
        let [a, b] = OPERANDS.map(|operand| Some(self.size.operand(operand).len()));
        Lengths { x: Inputs::Few([a, b, None]), y: self.size.result().len(), ..Lengths::default() }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        let op = match self.binary {
            Binary::Add => "Add",
            Binary::Sub => "Sub",
            Binary::Mul => "Mul",
            Binary::Div => "Div",
        };
        let (form, x) = nodes.alike();
        nodes.result(form, op, &[&x[0], &x[1]], &[]);
        Ok(())
    }
    crate::ops::nothing_to_choose!();
    crate::ops::nothing_to_train!();
    crate::ops::nothing_attached!();
    crate::ops::no_product!();
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };
pub(crate) static BACKWARD_INPUT: Routine = Routine { part: Part::BackwardInput, run: backward_input };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = Broadcast::read(call)?;
    let in_place = call.x(0) == call.y();
    let ([a, b], [y]) = lend(run.memory, [call.x(0).when(!in_place), call.x(1)], [call.y()])?;
    kernel::forward(&run.cpu, op.binary, &op.size, (!in_place).then_some(a), b, y);
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let (op, operand) = (Broadcast::read(call)?, OPERANDS[position]);
    let in_place = call.dx(position) == call.dy();
    let (reads_a, reads_b) = op.binary.backward_reads(operand);
    let reads = [call.x(0).when(reads_a), call.x(1).when(reads_b), call.dy().when(!in_place)];
    let scratch = call.scratch().first(op.size.scratch_len(op.binary, operand));
    let ([a, b, dy], [dx, scratch]) = lend(run.memory, reads, [call.dx(position), scratch])?;
    let (dy, add) = ((!in_place).then_some(dy), call.adds(position));
    kernel::backward_input(&run.cpu, op.binary, &op.size, operand, kernel::BackwardInput { a, b, dy, dx, add, scratch });
    Ok(())
}
