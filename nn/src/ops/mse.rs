//! The mean of squared differences.

use crate::Error;
use crate::ops::{Context, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, lend};
use crate::record::Var;
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::mse as kernel;

impl<'g> Var<'g> {
    /// The mean of (self − other)² over all numbers.
    pub fn mse(self, other: Var<'g>) -> Var<'g> {
        self.binary(Op::Mse(Mse { len: self.shape().len() }), other, self.same_shape(other).map(|_| Shape::SCALAR))
    }
}

/// The loss on the tape, over so many numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mse {
    len: usize,
}

impl Facts for Mse {
    fn name(&self) -> &'static str {
        "mse"
    }
    fn backward_input_reads(&self) -> Reads {
        Reads { x: 0b11, ..Reads::default() }
    }
    fn differentiable(&self, _: usize) -> bool {
        true
    }
    fn overwrites(&self, _: usize) -> bool {
        false
    }
    fn gradient_overwrites(&self, _: usize) -> bool {
        false
    }
    fn accumulates(&self, _: usize) -> bool {
        false
    }
    fn saved_len(&self, _: &Context) -> usize {
        0
    }
    fn forward_scratch_len(&self, _: &Context) -> usize {
        kernel::scratch_len(self.len)
    }
    fn backward_scratch_len(&self, _: &Context, _: bool, _: bool) -> usize {
        0
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        out.size(self.len)
    }
    fn read(call: &Call) -> Result<Mse, Misfit> {
        Ok(Mse { len: call.numbers().size() })
    }
    fn lengths(&self) -> Lengths<'_> {
        Lengths { x: Inputs::Few([Some(self.len), Some(self.len), None]), y: 1, ..Lengths::default() }
    }
    crate::ops::no_onnx!(loss);
    crate::ops::nothing_to_choose!();
    crate::ops::nothing_to_train!();
    crate::ops::nothing_attached!();
    crate::ops::no_product!();
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };
pub(crate) static BACKWARD_INPUT: Routine = Routine { part: Part::BackwardInput, run: backward_input };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let ([a, b], [y, scratch]) = lend(run.memory, [call.x(0), call.x(1)], [call.y(), call.scratch()])?;
    y[0] = kernel::forward(&run.cpu, a, b, scratch);
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let reads = [call.x(position), call.x(1 - position), call.dy()];
    let ([a, b, dy], [dx]) = lend(run.memory, reads, [call.dx(position)])?;
    kernel::backward_input(&run.cpu, a, b, dy[0], dx);
    Ok(())
}
