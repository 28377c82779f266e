//! max(x, 0)

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Nodes, OnnxError};
use crate::ops::{Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, Shorter, lend};
use crate::record::Var;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::relu as kernel;

impl<'g> Var<'g> {
    /// max(x, 0)
    pub fn relu(self) -> Var<'g> {
        self.unary(Op::Relu(Relu { len: self.shape().len() }), Ok(self.shape()))
    }
}

/// Relu on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relu {
    len: usize,
}

impl Facts for Relu {
    fn name(&self) -> &'static str {
        "relu"
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
        false
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        out.size(self.len)
    }
    fn read(call: &Call) -> Result<Relu, Misfit> {
        Ok(Relu { len: call.numbers().size() })
    }
    fn lengths(&self) -> Lengths<'_> {
        Lengths { x: Inputs::Few([Some(self.len), None, None]), y: self.len, ..Lengths::default() }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        let x = nodes.x(0);
        nodes.result(x.form, "Relu", &[&x.name], &[]);
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
    let in_place = call.x(0) == call.y();
    let ([x], [y]) = lend(run.memory, [call.x(0).when(!in_place)], [call.y()])?;
    kernel::forward(&run.cpu, (!in_place).then_some(x), y);
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let in_place = call.dx(position) == call.dy();
    let ([y, dy], [dx]) = lend(run.memory, [call.y(), call.dy().when(!in_place)], [call.dx(position)])?;
    kernel::backward_input(&run.cpu, y, (!in_place).then_some(dy), dx);
    Ok(())
}
