//! Cross entropy of independent yes-or-no answers: for labels of which several may hold at once.

use crate::Error;
use crate::ops::broadcast::{read_shape, write_shape};
use crate::ops::{Context, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, Shorter, lend};
use crate::record::Var;
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::bce_with_logits as kernel;
use nunatak_kernels::cross_entropy::Reduction;

impl<'g> Var<'g> {
    /// Binary cross entropy of these logits and targets of the same shape, 0 to 1. (PyTorch's
    /// `binary_cross_entropy_with_logits`.) The targets have no gradient.
    pub fn bce_with_logits(self, target: Var<'g>, reduction: Reduction) -> Var<'g> {
        let shape = self.same_shape(target).map(|_| Shape::SCALAR);
        self.binary(self.bce(reduction, false), target, shape)
    }

    /// The same with a weight of the positive answers for each channel (1 x channels): PyTorch's `pos_weight`, which
    /// has no gradient.
    pub fn bce_with_logits_weighted(self, target: Var<'g>, pos_weight: Var<'g>, reduction: Reduction) -> Var<'g> {
        let due = Shape::new(1, self.shape().c(), 1, 1).and_then(|due| due.expect(pos_weight.shape())).map_err(Error::from);
        let shape = self.same_shape(target).and(due).map(|()| Shape::SCALAR);
        self.many(self.bce(reduction, true), &[target, pos_weight], shape)
    }

    fn bce(self, reduction: Reduction, weighted: bool) -> Op {
        let size = kernel::BceWithLogits::new(self.shape(), reduction);
        Op::BceWithLogits(BceWithLogits { size, reduction, weighted })
    }
}

/// The loss on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BceWithLogits {
    size: kernel::BceWithLogits,
    reduction: Reduction,
    /// The third input weighs the positive answers.
    weighted: bool,
}

impl Facts for BceWithLogits {
    fn name(&self) -> &'static str {
        "bce_with_logits"
    }
    fn backward_input_reads(&self) -> Reads {
        Reads { x: 0b111, ..Reads::default() }
    }
    fn differentiable(&self, input: usize) -> bool {
        input == 0
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
        write_shape(self.size.shape(), out)?;
        out.word(matches!(self.reduction, Reduction::Sum).into())?;
        out.word(self.weighted.into())
    }
    fn read(call: &Call) -> Result<BceWithLogits, Misfit> {
        let numbers = &mut call.numbers();
        let shape = read_shape(numbers)?;
        let reduction = if numbers.flag() { Reduction::Sum } else { Reduction::Mean };
        Ok(BceWithLogits { size: kernel::BceWithLogits::new(shape, reduction), reduction, weighted: numbers.flag() })
    }
    fn lengths(&self) -> Lengths<'_> {
        let shape = self.size.shape();
        let (len, weights) = (Some(shape.len()), self.weighted.then_some(shape.c()));
        Lengths { x: Inputs::Few([len, len, weights]), y: 1, ..Lengths::default() }
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
    let BceWithLogits { size, weighted, .. } = BceWithLogits::read(call)?;
    let reads = [call.x(0), call.x(1), call.x(2).when(weighted)];
    let ([x, t, weights], [y, scratch]) = lend(run.memory, reads, [call.y(), call.scratch()])?;
    y[0] = kernel::forward(&run.cpu, &size, x, t, weighted.then_some(weights), scratch);
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let BceWithLogits { size, weighted, .. } = BceWithLogits::read(call)?;
    let reads = [call.x(0), call.x(1), call.x(2).when(weighted), call.dy()];
    let ([x, t, weights, dy], [dx]) = lend(run.memory, reads, [call.dx(position)])?;
    let (pos_weight, dloss, add) = (weighted.then_some(weights), dy[0], call.adds(position));
    kernel::backward_input(&run.cpu, &size, kernel::BackwardInput { x, t, pos_weight, dloss, dx, add });
    Ok(())
}
