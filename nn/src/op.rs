//! The operations that can stand on a tape, and what the planner must know of each.

use crate::params::NormId;
use nunatak_core::tape::Operation;
use nunatak_core::{ParamId, Reads};
use nunatak_kernels::avgpool::AdaptiveAvgPool;
use nunatak_kernels::batchnorm::{BatchNorm, pooled};
use nunatak_kernels::cross_entropy::CrossEntropy;
use nunatak_kernels::maxpool::MaxPool;
use nunatak_kernels::{Algorithm, Conv2d, Linear, Memory, Pass, reduce};

/// One step of a recording.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// An unused place.
    Nothing,
    /// A tensor from outside.
    Input,
    /// Class indices from outside: n numbers of 64 bits, in the room of 2·n.
    Labels,
    /// Convolution.
    Conv2d {
        /// Its numbers.
        conv: Conv2d,
        /// How each pass is computed, in the order of [`Pass`].
        algorithms: [Algorithm; 3],
        /// Its weight.
        weight: ParamId,
        /// What happens to its output before it leaves the cache.
        then: ConvThen,
    },
    /// Batch normalisation; the second input, if there is one, is a residual that is added to it.
    BatchNorm {
        /// Its numbers.
        size: BatchNorm,
        /// Which of the network's normalisations.
        norm: NormId,
        /// gamma.
        gamma: ParamId,
        /// beta.
        beta: ParamId,
        /// Statistics of the batch (which also move the running ones), or the running ones.
        batch: bool,
        /// What follows in the same pass.
        then: NormThen,
    },
    /// Batch normalisation with the batch's statistics, max(…, 0), and the largest value of a window.
    BatchNormPool {
        /// The normalisation's numbers.
        size: BatchNorm,
        /// Which of the network's normalisations.
        norm: NormId,
        /// gamma.
        gamma: ParamId,
        /// beta.
        beta: ParamId,
        /// As in [`NormThen`].
        moments: bool,
        /// The pooling's numbers.
        pool: MaxPool,
        /// Whether it leaves for backward where the maxima were.
        places: bool,
    },
    /// max(x, 0)
    Relu,
    /// Largest value of a window.
    MaxPool {
        /// Its numbers.
        pool: MaxPool,
        /// Whether it leaves for backward where the maxima were.
        places: bool,
    },
    /// Mean of a window.
    AvgPool(AdaptiveAvgPool),
    /// x·Wᵀ + b
    Linear {
        /// Its numbers.
        size: Linear,
        /// W.
        weight: ParamId,
        /// b.
        bias: ParamId,
    },
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a · b, element by element
    Mul,
    /// x times a number
    Scale(f32),
    /// The sum of so many numbers.
    Sum(usize),
    /// The mean of so many numbers.
    Mean(usize),
    /// The mean of (a − b)² over so many numbers.
    MeanSquaredError(usize),
    /// Cross entropy of logits and class indices.
    CrossEntropy(CrossEntropy),
    /// Cross entropy of logits and class probabilities.
    CrossEntropyProbabilities(CrossEntropy),
}

/// What a convolution does to its output besides, once it was fused.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum ConvThen {
    /// Nothing.
    #[default]
    Nothing,
    /// Leaves mean and squared deviations of each channel behind it, for the normalisation that follows.
    Moments,
    /// Normalises with running statistics, of which nothing is trained.
    Normalise {
        /// Which of the network's normalisations.
        norm: NormId,
        /// gamma.
        gamma: ParamId,
        /// beta.
        beta: ParamId,
        /// Added to the variance.
        eps: f32,
        /// What follows the normalisation; the residual is the second input.
        then: NormThen,
    },
}

/// What a normalisation does besides, in the same pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NormThen {
    /// Adds the second input.
    pub add: bool,
    /// Then max(…, 0).
    pub relu: bool,
    /// Takes the batch's statistics from what the convolution before it left behind its output.
    pub moments: bool,
}

impl NormThen {
    const fn choose(self, [neither, relu, add, both]: [&'static str; 4]) -> &'static str {
        match (self.add, self.relu) {
            (false, false) => neither,
            (false, true) => relu,
            (true, false) => add,
            (true, true) => both,
        }
    }
}

impl Op {
    /// Whether forward computes anything: inputs come from outside.
    pub const fn computes(&self) -> bool {
        !matches!(self, Op::Nothing | Op::Input | Op::Labels)
    }

    /// The convolution in it, how each pass computes it (in the order of [`Pass`]), and its weight.
    pub const fn convolution(&self) -> Option<(Conv2d, [Algorithm; 3], ParamId)> {
        match *self {
            Op::Conv2d { conv, algorithms, weight, .. } => Some((conv, algorithms, weight)),
            _ => None,
        }
    }

    /// The convolution whose weight's gradient, step and input's gradient can be one pass over the
    /// weight, and that weight: both backward passes are by `stream`.
    pub fn one_pass(&self) -> Option<(Conv2d, ParamId)> {
        match *self {
            Op::Conv2d { conv, algorithms: [_, Algorithm::Stream, Algorithm::Stream], weight, .. } => Some((conv, weight)),
            Op::Linear { size, weight, .. } if matches!(size.algorithm(), Algorithm::Stream) => Some((size.conv(), weight)),
            _ => None,
        }
    }

    /// Multiplications and additions of one pass of a matrix product or a convolution, however it is
    /// computed; of anything else 0, because there memory counts.
    pub const fn flops(&self) -> u64 {
        match self {
            Op::Linear { size, .. } => 2 * (size.n * size.inputs * size.outputs) as u64,
            _ => match self.convolution() {
                Some((conv, ..)) => 2 * conv.products(),
                None => 0,
            },
        }
    }

    /// The field's name of the operation.
    pub const fn name(&self) -> &'static str {
        match self {
            Op::Nothing => "nothing",
            Op::Input => "input",
            Op::Labels => "labels",
            Op::Conv2d { then: ConvThen::Nothing, .. } => "conv2d",
            Op::Conv2d { then: ConvThen::Moments, .. } => "conv2d+moments",
            Op::Conv2d { then: ConvThen::Normalise { then, .. }, .. } => {
                then.choose(["conv2d+batchnorm", "conv2d+batchnorm+relu", "conv2d+batchnorm+add", "conv2d+batchnorm+add+relu"])
            }
            Op::BatchNorm { then, .. } => then.choose(["batchnorm", "batchnorm+relu", "batchnorm+add", "batchnorm+add+relu"]),
            Op::BatchNormPool { .. } => "batchnorm+relu+maxpool",
            Op::Relu => "relu",
            Op::MaxPool { .. } => "maxpool",
            Op::AvgPool(_) => "avgpool",
            Op::Linear { .. } => "linear",
            Op::Add => "add",
            Op::Sub => "sub",
            Op::Mul => "mul",
            Op::Scale(_) => "scale",
            Op::Sum(_) => "sum",
            Op::Mean(_) => "mean",
            Op::MeanSquaredError(_) => "mse",
            Op::CrossEntropy(_) | Op::CrossEntropyProbabilities(_) => "cross_entropy",
        }
    }
}

/// What sizes of scratch depend on.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Threads that will work.
    pub threads: usize,
    /// Memory or speed.
    pub memory: Memory,
}

const fn reads(x0: bool, x1: bool, y: bool, saved: bool) -> Reads {
    Reads { x: [x0, x1], y, saved }
}

impl Operation for Op {
    type Context = Context;
    const NOTHING: Op = Op::Nothing;

    fn params(&self) -> [Option<ParamId>; 2] {
        match *self {
            Op::Conv2d { weight, .. } => [Some(weight), None],
            Op::BatchNorm { gamma, beta, .. } | Op::BatchNormPool { gamma, beta, .. } => [Some(gamma), Some(beta)],
            Op::Linear { weight, bias, .. } => [Some(weight), Some(bias)],
            _ => [None, None],
        }
    }

    fn backward_input_reads(&self) -> Reads {
        match self {
            // Through the batch's statistics x comes back; running statistics are constants.
            Op::BatchNorm { batch, then, .. } => reads(*batch, false, then.relu && !recomputes_relu(*batch, *then), *batch),
            Op::BatchNormPool { .. } => reads(true, false, false, true),
            Op::Relu => reads(false, false, true, false),
            Op::MaxPool { .. } | Op::CrossEntropy(_) | Op::CrossEntropyProbabilities(_) => reads(false, false, false, true),
            Op::Mul | Op::MeanSquaredError(_) => reads(true, true, false, false),
            _ => Reads::default(),
        }
    }

    fn backward_weight_reads(&self) -> Reads {
        match self {
            Op::BatchNorm { batch, then, .. } => reads(true, false, then.relu && !recomputes_relu(*batch, *then), *batch),
            Op::BatchNormPool { .. } => reads(true, false, false, true),
            Op::Conv2d { .. } | Op::Linear { .. } => reads(true, false, false, false),
            _ => Reads::default(),
        }
    }

    fn differentiable(&self, input: usize) -> bool {
        !(matches!(self, Op::CrossEntropy(_) | Op::CrossEntropyProbabilities(_)) && input == 1)
    }

    fn overwrites(&self, input: usize) -> bool {
        match self {
            Op::BatchNorm { .. } => input == 0,
            Op::Relu => true,
            Op::Add | Op::Sub | Op::Mul | Op::Scale(_) => input == 0,
            _ => false,
        }
    }

    fn gradient_overwrites(&self, input: usize) -> bool {
        match self {
            Op::BatchNorm { .. } | Op::Relu | Op::Scale(_) => true,
            Op::Add => true,
            Op::Sub => input == 0,
            _ => false,
        }
    }

    fn accumulates(&self, input: usize) -> bool {
        // A residual's gradient is dy.
        let residual = matches!(self, Op::BatchNorm { .. }) && input == 1;
        residual
            || !matches!(
                self,
                Op::BatchNorm { .. } | Op::BatchNormPool { .. } | Op::Relu | Op::MaxPool { .. } | Op::AvgPool(_) | Op::MeanSquaredError(_)
            )
    }

    fn steps(&self, position: usize) -> bool {
        position == 0 && self.one_pass().is_some()
    }

    fn attached_len(&self) -> usize {
        match self {
            Op::Conv2d { conv, then: ConvThen::Moments, .. } => moments_len(conv.k),
            _ => 0,
        }
    }

    fn saved_len(&self, _: &Context) -> usize {
        match self {
            Op::BatchNorm { size, batch: true, then, .. } => saved_per_channel(*then) * size.channels,
            Op::MaxPool { pool, places } => places_room(pool, *places),
            Op::BatchNormPool { size, pool, places, .. } => pool_tables_room(size) + places_room(pool, *places),
            Op::CrossEntropy(p) | Op::CrossEntropyProbabilities(p) => p.saved_len(),
            _ => 0,
        }
    }

    fn forward_scratch_len(&self, context: &Context) -> usize {
        match self {
            Op::Conv2d { conv, algorithms, then, .. } => {
                let own = conv.scratch_len(Pass::Forward, algorithms[0], context.memory, context.threads);
                match then {
                    ConvThen::Nothing => own,
                    ConvThen::Moments => conv.moments_scratch_len(algorithms[0], context.memory) + own,
                    ConvThen::Normalise { .. } => tables_room(conv.k) + own,
                }
            }
            Op::Linear { size, .. } => size.scratch_len(Pass::Forward, context.memory, context.threads),
            Op::BatchNorm { size, .. } => size.scratch_len(context.threads),
            Op::BatchNormPool { size, pool, .. } => pooled::scratch_len(size, pool, context.threads),
            Op::Sum(n) | Op::Mean(n) | Op::MeanSquaredError(n) => reduce::scratch_len(*n),
            Op::CrossEntropy(p) | Op::CrossEntropyProbabilities(p) => p.scratch_len(),
            _ => 0,
        }
    }

    fn backward_scratch_len(&self, context: &Context, input: bool, weight: bool) -> usize {
        let either = |f: &dyn Fn(Pass) -> usize| {
            let dx = if input { f(Pass::BackwardInput) } else { 0 };
            dx.max(if weight { f(Pass::BackwardWeight) } else { 0 })
        };
        match self {
            Op::Conv2d { conv, algorithms, .. } => {
                either(&|pass| conv.scratch_len(pass, algorithms[pass as usize], context.memory, context.threads))
            }
            Op::Linear { size, .. } => either(&|pass| size.scratch_len(pass, context.memory, context.threads)),
            // The sums come first in the scratch, in a room of whole units.
            Op::BatchNorm { size, .. } => sums_room(size) + size.scratch_len(context.threads),
            // The pooling's own gradient needs a place where no gradient of x is asked for.
            Op::BatchNormPool { size, pool, .. } => {
                sums_room(size) + size.scratch_len(context.threads) + if input { 0 } else { pool.x_len() }
            }
            _ => 0,
        }
    }
}

/// Whether backward computes anew where relu let dy through: from x, which it reads anyway, and what
/// forward saved. A residual is not in x.
pub(crate) const fn recomputes_relu(batch: bool, then: NormThen) -> bool {
    batch && then.relu && !then.add
}

/// Numbers that a normalisation with the batch's statistics leaves for backward, for each channel.
pub(crate) const fn saved_per_channel(then: NormThen) -> usize {
    if recomputes_relu(true, then) { 4 } else { 2 }
}

/// Room for the places of a pooling's maxima, a byte each.
fn places_room(pool: &MaxPool, places: bool) -> usize {
    if places { pool.y_len().div_ceil(4) } else { 0 }
}

/// Room for what [`Op::BatchNormPool`] saves of its normalisation, before the maxima's places.
pub(crate) const fn pool_tables_room(size: &BatchNorm) -> usize {
    (4 * size.channels).next_multiple_of(nunatak_core::arena::UNIT)
}

/// Room for the moments of `k` channels: two numbers of 64 bits each.
pub(crate) const fn moments_len(k: usize) -> usize {
    4 * k
}

/// Room for three tables of `k` channels, so that what follows is aligned.
pub(crate) const fn tables_room(k: usize) -> usize {
    (3 * k).next_multiple_of(nunatak_core::arena::UNIT)
}

/// Room for a normalisation's two sums per channel, so that what follows is aligned.
pub(crate) const fn sums_room(size: &BatchNorm) -> usize {
    (2 * size.channels).next_multiple_of(nunatak_core::arena::UNIT)
}
