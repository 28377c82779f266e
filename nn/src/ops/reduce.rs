//! The sum and the mean of all numbers.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Attribute, Form, Nodes, OnnxError};
use crate::ops::{Context, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, lend};
use crate::record::Var;
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::reduce as kernel;

impl<'g> Var<'g> {
    /// The sum of all numbers.
    pub fn sum(self) -> Var<'g> {
        self.unary(Op::Sum(Sum { len: self.shape().len() }), Ok(Shape::SCALAR))
    }
    /// The mean of all numbers.
    pub fn mean(self) -> Var<'g> {
        self.unary(Op::Mean(Mean { len: self.shape().len() }), Ok(Shape::SCALAR))
    }
}

macro_rules! reduction {
    ($kind:ident, $name:literal, onnx: $onnx:expr) => {
        #[doc = concat!("`", $name, "` of so many numbers, on the tape.")]
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $kind {
            len: usize,
        }

        impl Facts for $kind {
            fn name(&self) -> &'static str {
                $name
            }
            fn backward_input_reads(&self) -> Reads {
                Reads::default()
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
                true
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
            fn read(call: &Call) -> Result<$kind, Misfit> {
                Ok($kind { len: call.numbers().size() })
            }
            fn lengths(&self) -> Lengths<'_> {
                Lengths { x: Inputs::Few([Some(self.len), None, None]), y: 1, ..Lengths::default() }
            }
            #[cfg(feature = "std")]
            fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
                nodes.without_batch();
                $onnx(nodes);
                Ok(())
            }
            crate::ops::nothing_to_choose!();
            crate::ops::nothing_to_train!();
            crate::ops::nothing_attached!();
            crate::ops::no_product!();
        }
    };
}

reduction!(Sum, "sum", onnx: reduce_sum);
reduction!(Mean, "mean", onnx: reduce_mean);

/// The nodes of a sum over everything, which has one pixel.
#[cfg(feature = "std")]
fn reduce_sum(nodes: &mut Nodes) {
    let (x, axes) = (nodes.images(0), nodes.integers("axes", &[0, 1, 2, 3]));
    nodes.result(Form::Images, "ReduceSum", &[&x, &axes], &[Attribute::Int("keepdims", 1)]);
}

/// The same of a mean, which takes the axes as an attribute.
#[cfg(feature = "std")]
fn reduce_mean(nodes: &mut Nodes) {
    let x = nodes.images(0);
    nodes.result(Form::Images, "ReduceMean", &[&x], &[Attribute::Ints("axes", &[0, 1, 2, 3]), Attribute::Int("keepdims", 1)]);
}

pub(crate) static SUM_FORWARD: Routine = Routine { part: Part::Forward, run: sum };
pub(crate) static SUM_BACKWARD: Routine = Routine { part: Part::BackwardInput, run: sum_backward };
pub(crate) static MEAN_FORWARD: Routine = Routine { part: Part::Forward, run: mean };
pub(crate) static MEAN_BACKWARD: Routine = Routine { part: Part::BackwardInput, run: mean_backward };

fn sum(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let ([x], [y, scratch]) = lend(run.memory, [call.x(0)], [call.y(), call.scratch()])?;
    y[0] = kernel::sum(&run.cpu, x, scratch);
    Ok(())
}

fn mean(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let ([x], [y, scratch]) = lend(run.memory, [call.x(0)], [call.y(), call.scratch()])?;
    y[0] = kernel::mean(&run.cpu, x, scratch);
    Ok(())
}

fn sum_backward(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    spread(run, call, position, |dy| dy)
}

fn mean_backward(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let len = Mean::read(call)?.len;
    spread(run, call, position, |dy| dy / len as f32)
}

/// Writes one number to every place of an input's gradient, or adds it there.
fn spread(run: &mut Run, call: &Call, position: usize, each: impl Fn(f32) -> f32) -> Result<(), Error> {
    let ([dy], [dx]) = lend(run.memory, [call.dy()], [call.dx(position)])?;
    match call.adds(position) {
        true => kernel::fill_accumulate(&run.cpu, each(dy[0]), dx),
        false => kernel::fill(&run.cpu, each(dy[0]), dx),
    }
    Ok(())
}
