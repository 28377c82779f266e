//! Sums and means over some axes.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Attribute, Form, Nodes, OnnxError};
use crate::ops::broadcast::{read_shape, write_shape};
use crate::ops::{Context, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, lend};
use crate::record::Var;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::cross_entropy::Reduction;
use nunatak_kernels::reduce_axes as kernel;

/// An axis of a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Axis {
    /// Images.
    N,
    /// Channels.
    C,
    /// Lines.
    H,
    /// Columns.
    W,
}

impl<'g> Var<'g> {
    /// The sums over these axes, which then have size 1. (PyTorch's `sum(dim, keepdim=True)`.)
    pub fn sum_over(self, axes: &[Axis]) -> Var<'g> {
        self.reduce(axes, Reduction::Sum)
    }

    /// The means over these axes, which then have size 1. (PyTorch's `mean(dim, keepdim=True)`.)
    pub fn mean_over(self, axes: &[Axis]) -> Var<'g> {
        self.reduce(axes, Reduction::Mean)
    }

    fn reduce(self, axes: &[Axis], reduction: Reduction) -> Var<'g> {
        let [n, c, h, w] = [Axis::N, Axis::C, Axis::H, Axis::W].map(|axis| axes.contains(&axis));
        let axes = kernel::Axes { n, c, h, w };
        let size = kernel::ReduceAxes::new(self.shape(), axes, reduction);
        self.unary(Op::ReduceAxes(ReduceAxes { size, axes }), Ok(size.y_shape()))
    }
}

/// A sum or mean over axes, on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReduceAxes {
    size: kernel::ReduceAxes,
    axes: kernel::Axes,
}

impl Facts for ReduceAxes {
    fn name(&self) -> &'static str {
        if self.size.is_mean() { "mean_over" } else { "sum_over" }
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
        self.size.scratch_len()
    }
    fn backward_scratch_len(&self, _: &Context, _: bool, _: bool) -> usize {
        0
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        write_shape(self.size.x_shape(), out)?;
        let kernel::Axes { n, c, h, w } = self.axes;
        [n, c, h, w, self.size.is_mean()].into_iter().try_for_each(|flag| out.word(flag.into()))
    }
    fn read(call: &Call) -> Result<ReduceAxes, Misfit> {
        let numbers = &mut call.numbers();
        let shape = read_shape(numbers)?;
        let axes = kernel::Axes { n: numbers.flag(), c: numbers.flag(), h: numbers.flag(), w: numbers.flag() };
        let reduction = if numbers.flag() { Reduction::Mean } else { Reduction::Sum };
        Ok(ReduceAxes { size: kernel::ReduceAxes::new(shape, axes, reduction), axes })
    }
    fn lengths(&self) -> Lengths<'_> {
        Lengths { x: Inputs::Few([Some(self.size.x_shape().len()), None, None]), y: self.size.y_shape().len(), ..Lengths::default() }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        let x = nodes.images(0);
        let kernel::Axes { n, c, h, w } = self.axes;
        if n {
            nodes.without_batch();
        }
        let axes: std::vec::Vec<usize> = [n, c, h, w].into_iter().enumerate().filter(|(_, summed)| *summed).map(|(axis, _)| axis).collect();
        if axes.is_empty() {
            nodes.result(Form::Images, "Identity", &[&x], &[]);
        } else if self.size.is_mean() {
            nodes.result(Form::Images, "ReduceMean", &[&x], &[Attribute::Ints("axes", &axes), Attribute::Int("keepdims", 1)]);
        } else {
            // Of this set of operators the sum alone takes the axes as a tensor.
            let axes = nodes.integers("axes", &axes.iter().map(|axis| *axis as i64).collect::<std::vec::Vec<_>>());
            nodes.result(Form::Images, "ReduceSum", &[&x, &axes], &[Attribute::Int("keepdims", 1)]);
        }
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
    let op = ReduceAxes::read(call)?;
    let ([x], [y, scratch]) = lend(run.memory, [call.x(0)], [call.y(), call.scratch()])?;
    kernel::forward(&run.cpu, &op.size, x, y, scratch);
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let op = ReduceAxes::read(call)?;
    let ([dy], [dx]) = lend(run.memory, [call.dy()], [call.dx(position)])?;
    kernel::backward_input(&run.cpu, &op.size, dy, dx, call.adds(position));
    Ok(())
}
