//! Cross entropy of logits and class indices, or class probabilities.

use crate::Error;
use crate::ops::{Context, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, Shorter, lend};
use crate::record::Var;
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::cross_entropy::{self as kernel, Reduction, Targets};
use nunatak_kernels::elementwise;

/// PyTorch's options of cross entropy, with its defaults.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CrossEntropyOptions {
    /// How much of the target is spread over all classes: 0 to 1.
    pub label_smoothing: f32,
    /// Rows with this class index count nothing.
    pub ignore_index: i64,
    /// Mean or sum.
    pub reduction: Reduction,
}

impl Default for CrossEntropyOptions {
    fn default() -> Self {
        CrossEntropyOptions { label_smoothing: 0.0, ignore_index: -100, reduction: Reduction::Mean }
    }
}

impl<'g> Var<'g> {
    /// Cross entropy of these logits (n x classes) and `target`: class indices from
    /// [`crate::record::Graph::labels`], or probabilities of the same shape as the logits.
    pub fn cross_entropy(self, target: Var<'g>, options: CrossEntropyOptions) -> Var<'g> {
        let (op, shape) = self.entropy(target, options, false);
        self.binary(op, target, shape)
    }

    /// The same with a weight for each class (1 x classes): a row counts as its target's weight says.
    pub fn cross_entropy_weighted(self, target: Var<'g>, weights: Var<'g>, options: CrossEntropyOptions) -> Var<'g> {
        let (op, shape) = self.entropy(target, options, true);
        let due = Shape::new(1, self.shape().c(), 1, 1).and_then(|due| due.expect(weights.shape())).map_err(Error::from);
        self.many(op, &[target, weights], due.and(shape))
    }

    fn entropy(self, target: Var<'g>, options: CrossEntropyOptions, weighted: bool) -> (Op, Result<Shape, Error>) {
        let s = self.shape();
        let CrossEntropyOptions { label_smoothing, ignore_index, reduction } = options;
        let size = kernel::CrossEntropy { n: s.n(), classes: s.c(), label_smoothing, ignore_index, reduction };
        let indices = target.is_labels();
        let due = Shape::new(s.n(), if indices { 2 } else { s.c() }, 1, 1);
        let matrix = Shape::new(s.n(), s.c(), 1, 1).and_then(|due| due.expect(s));
        let shape = due.and_then(|due| due.expect(target.shape())).and(matrix).map(|()| Shape::SCALAR).map_err(Error::from);
        let shape = match (0.0..=1.0).contains(&label_smoothing) {
            true => shape,
            false => Err(Error::LabelSmoothing { got: label_smoothing }),
        };
        (Op::CrossEntropy(CrossEntropy { size, indices, weighted }), shape)
    }
}

/// The loss on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrossEntropy {
    size: kernel::CrossEntropy,
    /// The targets are class indices, else probabilities.
    indices: bool,
    /// The third input weighs the classes.
    weighted: bool,
}

impl Facts for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }
    fn backward_input_reads(&self) -> Reads {
        Reads { saved: true, ..Reads::default() }
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
        self.size.saved_len()
    }
    fn forward_scratch_len(&self, _: &Context) -> usize {
        self.size.scratch_len()
    }
    fn backward_scratch_len(&self, _: &Context, _: bool, _: bool) -> usize {
        0
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        out.size(self.size.n)?;
        out.size(self.size.classes)?;
        out.float(self.size.label_smoothing)?;
        out.word(self.size.ignore_index as u32)?;
        out.word((self.size.ignore_index >> 32) as u32)?;
        let sum = matches!(self.size.reduction, Reduction::Sum);
        [sum, self.indices, self.weighted].into_iter().try_for_each(|flag| out.word(flag.into()))
    }
    fn read(call: &Call) -> Result<CrossEntropy, Misfit> {
        let numbers = &mut call.numbers();
        let (n, classes, label_smoothing, ignore_index) = (numbers.size(), numbers.size(), numbers.float(), numbers.wide() as i64);
        let reduction = if numbers.flag() { Reduction::Sum } else { Reduction::Mean };
        let size = kernel::CrossEntropy { n, classes, label_smoothing, ignore_index, reduction };
        let (indices, weighted) = (numbers.flag(), numbers.flag());
        match Shape::new(n, classes.max(2), 1, 1).is_ok() && classes > 0 && (0.0..=1.0).contains(&label_smoothing) {
            true => Ok(CrossEntropy { size, indices, weighted }),
            false => Err("sizes that are no cross entropy's"),
        }
    }
    fn lengths(&self) -> Lengths<'_> {
        let logits = self.size.saved_len();
        let targets = if self.indices { 2 * self.size.n } else { logits };
        let weights = self.weighted.then_some(self.size.classes);
        Lengths { x: Inputs::Few([Some(logits), Some(targets), weights]), y: 1, ..Lengths::default() }
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
    let CrossEntropy { size, indices, weighted } = CrossEntropy::read(call)?;
    let reads = [call.x(0), call.x(1), call.x(2).when(weighted)];
    let ([x, target, weights], [y, saved, scratch]) = lend(run.memory, reads, [call.y(), call.saved(), call.scratch()])?;
    let target = if indices { Targets::Indices(bytemuck::cast_slice(target)) } else { Targets::Probabilities(target) };
    let saved = &mut saved[..size.saved_len()];
    y[0] = kernel::forward(&run.cpu, &size, x, target, weighted.then_some(weights), saved, scratch)?;
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let size = CrossEntropy::read(call)?.size;
    let ([saved, dy], [dx]) = lend(run.memory, [call.saved(), call.dy()], [call.dx(position)])?;
    match call.adds(position) {
        true => elementwise::scaled_add_assign(&run.cpu, dy[0], &saved[..size.saved_len()], dx),
        false => kernel::backward_input(&run.cpu, &saved[..size.saved_len()], dy[0], dx),
    }
    Ok(())
}
