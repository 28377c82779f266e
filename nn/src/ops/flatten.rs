//! Images as rows, in PyTorch's order of channels, lines and columns.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Attribute, Form, Nodes, OnnxError};
use crate::ops::broadcast::{read_shape, write_shape};
use crate::ops::{Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, lend};
use crate::record::Var;
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::flatten as kernel;

impl<'g> Var<'g> {
    /// Each image as one row of c·h·w numbers, in PyTorch's order: before a linear layer that reads an image's
    /// pixels. Images of one pixel are rows already: then the value itself, and nothing is computed.
    pub fn flatten(self) -> Var<'g> {
        let s = self.shape();
        if s.h() * s.w() == 1 {
            return self;
        }
        let shape = Shape::new(s.n(), s.len() / s.n(), 1, 1).map_err(Error::from);
        self.unary(Op::Flatten(Flatten { size: kernel::Flatten::new(s) }), shape)
    }
}

/// Rows of images on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flatten {
    size: kernel::Flatten,
}

impl Facts for Flatten {
    fn name(&self) -> &'static str {
        "flatten"
    }
    fn backward_input_reads(&self) -> Reads {
        Reads::default()
    }
    fn differentiable(&self, _: usize) -> bool {
        true
    }
    fn overwrites(&self, _: usize) -> bool {
        self.size.is_view()
    }
    fn gradient_overwrites(&self, _: usize) -> bool {
        self.size.is_view()
    }
    fn accumulates(&self, _: usize) -> bool {
        true
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        write_shape(self.size.shape(), out)
    }
    fn read(call: &Call) -> Result<Flatten, Misfit> {
        Ok(Flatten { size: kernel::Flatten::new(read_shape(&mut call.numbers())?) })
    }
    fn lengths(&self) -> Lengths<'_> {
        let len = self.size.shape().len();
        Lengths { x: Inputs::Few([Some(len), None, None]), y: len, ..Lengths::default() }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        let x = nodes.x(0);
        nodes.result(Form::Rows, "Flatten", &[&x.name], &[Attribute::Int("axis", 1)]);
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
    let op = Flatten::read(call)?;
    if call.x(0) == call.y() {
        return Ok(()); // one channel: the same numbers in the same order
    }
    let ([x], [y]) = lend(run.memory, [call.x(0)], [call.y()])?;
    kernel::forward(&run.cpu, &op.size, x, y);
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let op = Flatten::read(call)?;
    if call.dx(position) == call.dy() {
        return Ok(());
    }
    let ([dy], [dx]) = lend(run.memory, [call.dy()], [call.dx(position)])?;
    kernel::backward_input(&run.cpu, &op.size, dy, dx, call.adds(position));
    Ok(())
}
