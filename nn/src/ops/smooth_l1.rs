//! The distance of two tensors: absolute differences, with a rounded kink or without.

use crate::Error;
use crate::ops::{Context, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, lend};
use crate::record::Var;
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::cross_entropy::Reduction;
use nunatak_kernels::smooth_l1 as kernel;

impl<'g> Var<'g> {
    /// The mean, or the sum, of |self − other| over all numbers. (PyTorch's `l1_loss`.)
    pub fn l1(self, other: Var<'g>, reduction: Reduction) -> Var<'g> {
        self.smooth_l1(other, 0.0, reduction)
    }

    /// The same with d²/(2·beta) instead of d where a difference d is below `beta`, and d − beta/2 above. (PyTorch's
    /// `smooth_l1_loss`.)
    pub fn smooth_l1(self, other: Var<'g>, beta: f32, reduction: Reduction) -> Var<'g> {
        let shape = match beta.is_finite() && beta >= 0.0 {
            true => self.same_shape(other).map(|_| Shape::SCALAR),
            false => Err(Error::Beta { got: beta }),
        };
        self.binary(Op::SmoothL1(SmoothL1 { beta, reduction, len: self.shape().len() }), other, shape)
    }
}

/// The loss on the tape, over so many numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SmoothL1 {
    /// Up to this difference it is a square; 0: nowhere.
    beta: f32,
    reduction: Reduction,
    len: usize,
}

impl Facts for SmoothL1 {
    fn name(&self) -> &'static str {
        if self.beta == 0.0 { "l1" } else { "smooth_l1" }
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
        out.float(self.beta)?;
        out.word(matches!(self.reduction, Reduction::Sum).into())?;
        out.size(self.len)
    }
    fn read(call: &Call) -> Result<SmoothL1, Misfit> {
        let numbers = &mut call.numbers();
        let (beta, sum, len) = (numbers.float(), numbers.flag(), numbers.size());
        match beta.is_finite() && beta >= 0.0 {
            true => Ok(SmoothL1 { beta, reduction: if sum { Reduction::Sum } else { Reduction::Mean }, len }),
            false => Err("a beta that is none"),
        }
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
    let SmoothL1 { beta, reduction, .. } = SmoothL1::read(call)?;
    let ([a, b], [y, scratch]) = lend(run.memory, [call.x(0), call.x(1)], [call.y(), call.scratch()])?;
    y[0] = kernel::forward(&run.cpu, beta, reduction, a, b, scratch);
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let SmoothL1 { beta, reduction, .. } = SmoothL1::read(call)?;
    let reads = [call.x(position), call.x(1 - position), call.dy()];
    let ([a, b, dy], [da]) = lend(run.memory, reads, [call.dx(position)])?;
    let (dloss, add) = (dy[0], call.adds(position));
    kernel::backward_input(&run.cpu, beta, reduction, kernel::BackwardInput { a, b, dloss, da, add });
    Ok(())
}
