//! Shares of the channels, and their logarithms.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Attribute, Nodes, OnnxError};
use crate::ops::broadcast::{read_shape, write_shape};
use crate::ops::{Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, Shorter, lend};
use crate::record::Var;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::softmax as kernel;

impl<'g> Var<'g> {
    /// e^x of each channel, divided by the sum over all channels of the pixel. (PyTorch's `softmax(dim=1)`.)
    pub fn softmax(self) -> Var<'g> {
        self.unary(Op::Softmax(Softmax { size: kernel::Softmax::new(self.shape()) }), Ok(self.shape()))
    }

    /// The logarithm of it, which keeps small shares apart. (PyTorch's `log_softmax(dim=1)`.)
    pub fn log_softmax(self) -> Var<'g> {
        self.unary(Op::Softmax(Softmax { size: kernel::Softmax::log(self.shape()) }), Ok(self.shape()))
    }
}

/// Softmax on the tape, or its logarithm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softmax {
    size: kernel::Softmax,
}

impl Facts for Softmax {
    fn name(&self) -> &'static str {
        if self.size.is_log() { "log_softmax" } else { "softmax" }
    }
    fn backward_input_reads(&self) -> Reads {
        Reads { y: true, ..Reads::default() }
    }
    fn differentiable(&self, _: usize) -> bool {
        true
    }
    fn overwrites(&self, _: usize) -> bool {
        true
    }
    fn gradient_overwrites(&self, _: usize) -> bool {
        true
    }
    fn accumulates(&self, _: usize) -> bool {
        true
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        write_shape(self.size.shape(), out)?;
        out.word(self.size.is_log().into())
    }
    fn read(call: &Call) -> Result<Softmax, Misfit> {
        let numbers = &mut call.numbers();
        let shape = read_shape(numbers)?;
        Ok(Softmax { size: if numbers.flag() { kernel::Softmax::log(shape) } else { kernel::Softmax::new(shape) } })
    }
    fn lengths(&self) -> Lengths<'_> {
        let len = self.size.shape().len();
        Lengths { x: Inputs::Few([Some(len), None, None]), y: len, ..Lengths::default() }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        let (x, op) = (nodes.x(0), if self.size.is_log() { "LogSoftmax" } else { "Softmax" });
        nodes.result(x.form, op, &[&x.name], &[Attribute::Int("axis", 1)]);
        Ok(())
    }
    crate::ops::nothing_to_choose!();
    crate::ops::nothing_to_train!();
    crate::ops::nothing_attached!();
    crate::ops::no_memory!();
    crate::ops::no_product!();
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };
pub(crate) static BACKWARD_INPUT: Routine = Routine { part: Part::BackwardInput, run: backward_input };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = Softmax::read(call)?;
    let in_place = call.x(0) == call.y();
    let ([x], [y]) = lend(run.memory, [call.x(0).when(!in_place)], [call.y()])?;
    kernel::forward(&run.cpu, &op.size, (!in_place).then_some(x), y);
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let op = Softmax::read(call)?;
    let in_place = call.dx(position) == call.dy();
    let ([y, dy], [dx]) = lend(run.memory, [call.y(), call.dy().when(!in_place)], [call.dx(position)])?;
    kernel::backward_input(&run.cpu, &op.size, y, (!in_place).then_some(dy), dx, call.adds(position));
    Ok(())
}
