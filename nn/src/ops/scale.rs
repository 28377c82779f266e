//! A tensor times a number.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Nodes, OnnxError};
use crate::ops::{Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, Shorter, lend};
use crate::record::Var;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::elementwise as kernel;

impl<'g> core::ops::Mul<f32> for Var<'g> {
    type Output = Var<'g>;
    fn mul(self, factor: f32) -> Var<'g> {
        self.unary(Op::Scale(Scale { factor, len: self.shape().len() }), Ok(self.shape()))
    }
}

/// A multiple on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    factor: f32,
    len: usize,
}

impl Facts for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }
    fn backward_input_reads(&self) -> Reads {
        Reads::default()
    }
    fn differentiable(&self, _: usize) -> bool {
        true
    }
    fn overwrites(&self, input: usize) -> bool {
        input == 0
    }
    fn gradient_overwrites(&self, _: usize) -> bool {
        true
    }
    fn accumulates(&self, _: usize) -> bool {
        true
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        out.float(self.factor)?;
        out.size(self.len)
    }
    fn read(call: &Call) -> Result<Scale, Misfit> {
        let numbers = &mut call.numbers();
        Ok(Scale { factor: numbers.float(), len: numbers.size() })
    }
    fn lengths(&self) -> Lengths<'_> {
        Lengths { x: Inputs::Few([Some(self.len), None, None]), y: self.len, ..Lengths::default() }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        let (x, factor) = (nodes.x(0), nodes.number("factor", self.factor));
        nodes.result(x.form, "Mul", &[&x.name, &factor], &[]);
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
    let factor = Scale::read(call)?.factor;
    let in_place = call.x(0) == call.y();
    let ([x], [y]) = lend(run.memory, [call.x(0).when(!in_place)], [call.y()])?;
    match in_place {
        true => kernel::scale_assign(&run.cpu, factor, y),
        false => kernel::scale(&run.cpu, x, factor, y),
    }
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let factor = Scale::read(call)?.factor;
    let in_place = call.dx(position) == call.dy();
    let ([dy], [dx]) = lend(run.memory, [call.dy().when(!in_place)], [call.dx(position)])?;
    match (in_place, call.adds(position)) {
        (true, _) => kernel::scale_assign(&run.cpu, factor, dx),
        (false, true) => kernel::scaled_add_assign(&run.cpu, factor, dy, dx),
        (false, false) => kernel::scale(&run.cpu, dy, factor, dx),
    }
    Ok(())
}
