//! The operations that can stand on a tape: one file each, which holds all that this crate knows of it.
//!
//! An operation's file has its recorder method with the check of shapes, what its passes read, overwrite,
//! save and need (`Facts`), how a call of it is written into a program and checked again, its nodes of ONNX, and its
//! routines, which lend memory to the kernel and call it. A new operation is one more file and one line in
//! the list below.

mod arithmetic;
mod avg_pool;
mod batch_norm;
mod batch_norm_pool;
mod bce_with_logits;
mod broadcast;
mod choice;
mod concat;
mod conv2d;
mod cross_entropy;
mod dropout;
mod flatten;
mod input;
mod int8_avg_pool;
mod int8_conv2d;
mod int8_dequantize;
mod int8_max_pool;
mod int8_quantize;
mod linear;
mod max_pool;
mod mse;
mod pointwise;
mod reduce;
mod reduce_axes;
mod relu;
mod run;
mod scale;
mod smooth_l1;
mod softmax;
mod window_avg_pool;
mod window_max_pool;

pub(crate) use arithmetic::Add;
pub use batch_norm::Norm;
pub(crate) use batch_norm::{BatchNorm, Then};
pub(crate) use batch_norm_pool::BatchNormPool;
pub(crate) use choice::{Choice, Chosen};
pub use conv2d::Conv;
pub(crate) use conv2d::{Conv2d, Finish};
pub use cross_entropy::CrossEntropyOptions;
use input::Nothing;
pub(crate) use input::{Input, Labels};
pub(crate) use int8_avg_pool::Int8AvgPool;
pub(crate) use int8_conv2d::Int8Conv2d;
#[cfg(feature = "std")]
pub(crate) use int8_conv2d::entry_words;
pub(crate) use int8_dequantize::Int8Dequantize;
pub(crate) use int8_max_pool::Int8MaxPool;
pub(crate) use int8_quantize::Int8Quantize;
#[cfg(feature = "std")]
pub(crate) use int8_quantize::{Scaled, bytes as int8_bytes};
pub use linear::Dense;
pub(crate) use max_pool::MaxPool;
pub(crate) use pointwise::Pointwise;
pub use reduce_axes::Axis;
pub(crate) use relu::Relu;
pub(crate) use run::{HAS_GRADIENT, HAS_MOMENTUM, NOT_FINITE, Run, SUMMED, Shorter, UPDATED, address, lend};

#[cfg(feature = "std")]
use crate::files::onnx::{Nodes, OnnxError};
pub(crate) use crate::routines::{Listed, Part};
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::{EntryId, Operation, Reads};
use nunatak_kernels::{Memory, Pass};

/// What sizes of scratch depend on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// Threads that will work, at most.
    pub threads: usize,
    /// Memory or speed.
    pub memory: Memory,
}

/// Why a call does not fit its operation.
pub(crate) type Misfit = &'static str;

/// The entries of the state dict that an operation reads: first the parameters that can be trained.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entries {
    ids: [u32; 5],
    len: usize,
    params: usize,
}

impl Entries {
    /// Parameters, then buffers.
    pub(crate) fn new(params: &[Option<EntryId>], buffers: &[Option<EntryId>]) -> Entries {
        let mut entries = Entries::default();
        for (i, id) in params.iter().chain(buffers).enumerate() {
            if let Some(id) = id {
                entries.ids[entries.len] = id.0;
                entries.len += 1;
                entries.params += usize::from(i < params.len());
            }
        }
        entries
    }
    /// The numbers.
    pub(crate) fn numbers(&self) -> &[u32] {
        &self.ids[..self.len]
    }
    /// The entries.
    pub(crate) fn ids(&self) -> impl Iterator<Item = EntryId> + use<> {
        let ids = *self;
        (0..ids.len).map(move |i| EntryId(ids.ids[i]))
    }
    /// The parameters.
    pub(crate) fn params(&self) -> [Option<EntryId>; 2] {
        core::array::from_fn(|i| (i < self.params).then(|| EntryId(self.ids[i])))
    }
}

/// All that is known of an operation. Nothing has a default.
pub(crate) trait Facts {
    /// The field's name of it.
    fn name(&self) -> &'static str;
    /// Decides what is decided for this operation alone, before operations are fused; `shape` is its result's.
    ///
    /// # Errors
    /// [`crate::Error::OneValuePerChannel`].
    fn choose(&mut self, choice: &Choice, shape: Shape) -> Result<Chosen, crate::Error>;
    /// Is told whether a backward pass of it exists.
    fn backward_is(&mut self, exists: bool);
    /// Is told that its result is computed a second time, in the backward walk, where nothing but the result may change.
    /// Whether it can.
    fn repeat(&mut self) -> bool;
    /// What it reads of the state dict.
    fn entries(&self) -> Entries;
    /// Gives what it reads of the state dict other numbers.
    #[cfg(feature = "std")]
    fn renumber(&mut self, number: &dyn Fn(EntryId) -> EntryId);
    /// See [`Operation::backward_input_reads`].
    fn backward_input_reads(&self) -> Reads;
    /// See [`Operation::backward_weight_reads`].
    fn backward_weight_reads(&self) -> Reads;
    /// See [`Operation::differentiable`].
    fn differentiable(&self, input: usize) -> bool;
    /// See [`Operation::overwrites`].
    fn overwrites(&self, input: usize) -> bool;
    /// See [`Operation::gradient_overwrites`].
    fn gradient_overwrites(&self, input: usize) -> bool;
    /// See [`Operation::accumulates`].
    fn accumulates(&self, input: usize) -> bool;
    /// See [`Operation::steps`].
    fn steps(&self, position: usize) -> bool;
    /// See [`Operation::attached_len`].
    fn attached_len(&self) -> usize;
    /// Numbers attached behind the first input that it reads.
    fn reads_attached(&self) -> usize;
    /// See [`Operation::saved_len`].
    fn saved_len(&self, context: &Context) -> usize;
    /// See [`Operation::forward_scratch_len`].
    fn forward_scratch_len(&self, context: &Context) -> usize;
    /// See [`Operation::backward_scratch_len`].
    fn backward_scratch_len(&self, context: &Context, input: bool, weight: bool) -> usize;
    /// Multiplications and additions of one pass of a matrix product or a convolution, however it is
    /// computed; of anything else 0, because there memory counts.
    fn flops(&self) -> u64;
    /// How a pass is computed; `-` where there is one way only.
    fn algorithm(&self, pass: Pass) -> &'static str;
    /// Writes its own numbers into a program.
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error>;
    /// Reads them back, with the entries of the call.
    fn read(call: &Call) -> Result<Self, Misfit>
    where
        Self: Sized;
    /// Numbers of the inputs, of the result, and of each entry.
    fn lengths(&self) -> Lengths<'_>;
    /// Writes the nodes of ONNX that compute its result in eval mode, as it was recorded.
    ///
    /// # Errors
    /// [`OnnxError`], where there are none or a weight is missing.
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError>;
}

/// The lengths that a call's places must have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lengths<'a> {
    /// Inputs.
    pub(crate) x: Inputs<'a>,
    /// The result.
    pub(crate) y: usize,
    /// Entries of the state dict, as they lie; a count is 0.
    pub(crate) entries: [Option<usize>; 5],
}

/// The lengths of an operation's inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inputs<'a> {
    /// At most three; `None` where there is no such input.
    Few([Option<usize>; 3]),
    /// Any number of them, all of so many rows: the numbers of a row of each.
    Rows(usize, &'a [u32]),
}

impl Default for Inputs<'_> {
    fn default() -> Self {
        Inputs::Few([None; 3])
    }
}

impl Inputs<'_> {
    /// How many inputs there are.
    pub(crate) fn count(&self) -> usize {
        match self {
            Inputs::Few(lens) => lens.iter().flatten().count(),
            Inputs::Rows(_, widths) => widths.len(),
        }
    }
    /// The length of the input at a position.
    pub(crate) fn at(&self, position: usize) -> Option<usize> {
        match self {
            Inputs::Few(lens) => lens.iter().flatten().nth(position).copied(),
            Inputs::Rows(rows, widths) => widths.get(position).map(|width| rows * *width as usize),
        }
    }
}

macro_rules! operations {
    ($($(#[$gate:meta])* $code:literal $variant:ident($kind:ty) { $($routine:path),* };)+) => {
        /// One step of a recording.
        #[derive(Clone, Copy, Debug)]
        #[repr(u32)] // so that nothing is all zeros, and memory for steps takes no flash
        pub(crate) enum Op {
            /// Another step does the work of this one.
            Nothing,
            $(#[doc = stringify!($variant)] $variant($kind),)+
        }

        impl Op {
            /// The number by which programs name the operation.
            pub(crate) const fn code(&self) -> u32 {
                match self {
                    Op::Nothing => 0,
                    $(Op::$variant(_) => $code,)+
                }
            }

            /// The operation of a program's call.
            pub(crate) fn of(call: &Call) -> Result<Op, Misfit> {
                match call.op() {
                    $($(#[$gate])* $code => <$kind as Facts>::read(call).map(Op::$variant),)+
                    _ => Err("an operation that is unknown, or that this build has not (feature `operations`)"),
                }
            }

            /// What is known of it; nothing where this build has it not.
            #[allow(unreachable_patterns)] // with every operation there is no other
            pub(crate) const fn facts(&self) -> &dyn Facts {
                match self {
                    $($(#[$gate])* Op::$variant(op) => op,)+
                    _ => &Nothing,
                }
            }

            /// The same, to be decided; none where this build has it not.
            #[allow(unreachable_patterns)] // as above
            pub(crate) fn facts_mut(&mut self) -> Option<&mut dyn Facts> {
                match self {
                    $($(#[$gate])* Op::$variant(op) => Some(op),)+
                    _ => None,
                }
            }
        }

        /// Every routine, in the order of codes and parts.
        pub(crate) static ROUTINES: &[&[Listed]] = &[$(
            $(#[$gate])* &[$(Listed::of($code, $routine.part)),*]
        ),+];
        /// The numbers by which programs name the operations of this build.
        pub const CODES: &[u32] = &[$($(#[$gate])* $code),+];

        /// The routine of a part of the operation with this code.
        pub(crate) const fn listed(code: u32, part: Part) -> Option<Listed> {
            match code {
                $($(#[$gate])* $code => Listed::among($code, stringify!($variant), facts_of::<$kind>, &[$($routine),*], part),)+
                _ => None,
            }
        }
    };
}

operations! {
    1 Input(Input) {};
    2 Labels(Labels) {};
    3 Conv2d(Conv2d) { conv2d::FORWARD, conv2d::BACKWARD_WEIGHT, conv2d::BACKWARD_INPUT, conv2d::BACKWARD_STEP };
    4 BatchNorm(BatchNorm) { batch_norm::FORWARD, batch_norm::BACKWARD_WEIGHT, batch_norm::BACKWARD_INPUT };
    5 BatchNormPool(BatchNormPool) { batch_norm_pool::FORWARD, batch_norm_pool::BACKWARD_WEIGHT, batch_norm_pool::BACKWARD_INPUT };
    6 Relu(Relu) { relu::FORWARD, relu::BACKWARD_INPUT };
    7 MaxPool(MaxPool) { max_pool::FORWARD, max_pool::BACKWARD_INPUT };
    8 AvgPool(avg_pool::AvgPool) { avg_pool::FORWARD, avg_pool::BACKWARD_INPUT };
    9 Linear(linear::Linear) { linear::FORWARD, linear::BACKWARD_WEIGHT, linear::BACKWARD_INPUT, linear::BACKWARD_STEP };
    10 Add(Add) { arithmetic::ADD_FORWARD, arithmetic::ADD_BACKWARD };
    11 Sub(arithmetic::Sub) { arithmetic::SUB_FORWARD, arithmetic::SUB_BACKWARD };
    12 Mul(arithmetic::Mul) { arithmetic::MUL_FORWARD, arithmetic::MUL_BACKWARD };
    13 Scale(scale::Scale) { scale::FORWARD, scale::BACKWARD_INPUT };
    14 Sum(reduce::Sum) { reduce::SUM_FORWARD, reduce::SUM_BACKWARD };
    15 Mean(reduce::Mean) { reduce::MEAN_FORWARD, reduce::MEAN_BACKWARD };
    16 Mse(mse::Mse) { mse::FORWARD, mse::BACKWARD_INPUT };
    17 CrossEntropy(cross_entropy::CrossEntropy) { cross_entropy::FORWARD, cross_entropy::BACKWARD_INPUT };
    #[cfg(feature = "operations")] 18 Pointwise(Pointwise) { pointwise::FORWARD, pointwise::BACKWARD_INPUT };
    #[cfg(feature = "operations")] 19 Broadcast(broadcast::Broadcast) { broadcast::FORWARD, broadcast::BACKWARD_INPUT };
    #[cfg(feature = "operations")] 20 Flatten(flatten::Flatten) { flatten::FORWARD, flatten::BACKWARD_INPUT };
    #[cfg(feature = "operations")] 21 Concat(concat::Concat) { concat::FORWARD, concat::BACKWARD_INPUT };
    #[cfg(feature = "operations")] 22 Dropout(dropout::Dropout) { dropout::FORWARD, dropout::BACKWARD_INPUT };
    #[cfg(feature = "operations")] 23 ReduceAxes(reduce_axes::ReduceAxes) { reduce_axes::FORWARD, reduce_axes::BACKWARD_INPUT };
    #[cfg(feature = "operations")] 24 Softmax(softmax::Softmax) { softmax::FORWARD, softmax::BACKWARD_INPUT };
    #[cfg(feature = "operations")] 25 SmoothL1(smooth_l1::SmoothL1) { smooth_l1::FORWARD, smooth_l1::BACKWARD_INPUT };
    #[cfg(feature = "operations")] 26 BceWithLogits(bce_with_logits::BceWithLogits) { bce_with_logits::FORWARD, bce_with_logits::BACKWARD_INPUT };
    #[cfg(feature = "operations")] 27 WindowAvgPool(window_avg_pool::WindowAvgPool) { window_avg_pool::FORWARD, window_avg_pool::BACKWARD_INPUT };
    #[cfg(feature = "operations")] 28 WindowMaxPool(window_max_pool::WindowMaxPool) { window_max_pool::FORWARD, window_max_pool::BACKWARD_INPUT };
    #[cfg(feature = "operations")] 29 Int8Quantize(Int8Quantize) { int8_quantize::FORWARD };
    #[cfg(feature = "operations")] 30 Int8Conv2d(Int8Conv2d) { int8_conv2d::FORWARD };
    #[cfg(feature = "operations")] 31 Int8MaxPool(Int8MaxPool) { int8_max_pool::FORWARD };
    #[cfg(feature = "operations")] 32 Int8AvgPool(Int8AvgPool) { int8_avg_pool::FORWARD };
    #[cfg(feature = "operations")] 33 Int8Dequantize(Int8Dequantize) { int8_dequantize::FORWARD };
}

/// The operations whose result is bytes, four in the room of a number: those that make tensors of 8 bits.
pub(crate) const GIVE_BYTES: core::ops::RangeInclusive<u32> = 29..=31;

impl Op {
    /// Whether this build has it: without the feature `operations` it has those of residual networks.
    pub(crate) fn is_built(&self) -> bool {
        matches!(self, Op::Nothing) || CODES.contains(&self.code())
    }
}

/// One part of an operation, ready to be called: memory is lent to a kernel. Parts that a table of
/// routines does not name are not linked.
#[derive(Clone, Copy)]
pub(crate) struct Routine {
    pub(crate) part: Part,
    /// Runs the part; the last number is the input whose gradient is computed.
    pub(crate) run: fn(&mut Run, &Call, usize) -> Result<(), crate::Error>,
}

/// Reads a call's operation, and hands on what is known of it.
fn facts_of<K: Facts>(call: &Call, with: &mut dyn FnMut(&dyn Facts) -> Result<(), Misfit>) -> Result<(), Misfit> {
    with(&K::read(call)?)
}

impl Operation for Op {
    type Context = Context;
    const NOTHING: Op = Op::Nothing;

    fn params(&self) -> [Option<EntryId>; 2] {
        self.facts().entries().params()
    }
    fn backward_input_reads(&self) -> Reads {
        self.facts().backward_input_reads()
    }
    fn backward_weight_reads(&self) -> Reads {
        self.facts().backward_weight_reads()
    }
    fn differentiable(&self, input: usize) -> bool {
        self.facts().differentiable(input)
    }
    fn overwrites(&self, input: usize) -> bool {
        self.facts().overwrites(input)
    }
    fn gradient_overwrites(&self, input: usize) -> bool {
        self.facts().gradient_overwrites(input)
    }
    fn accumulates(&self, input: usize) -> bool {
        self.facts().accumulates(input)
    }
    fn steps(&self, position: usize) -> bool {
        self.facts().steps(position)
    }
    fn attached_len(&self) -> usize {
        self.facts().attached_len()
    }
    fn saved_len(&self, context: &Context) -> usize {
        self.facts().saved_len(context)
    }
    fn forward_scratch_len(&self, context: &Context) -> usize {
        self.facts().forward_scratch_len(context)
    }
    fn backward_scratch_len(&self, context: &Context, input: bool, weight: bool) -> usize {
        self.facts().backward_scratch_len(context, input, weight)
    }
}

macro_rules! nothing_to_train {
    () => {
        fn backward_weight_reads(&self) -> nunatak_core::tape::Reads {
            nunatak_core::tape::Reads::default()
        }
        fn steps(&self, _: usize) -> bool {
            false
        }
        fn entries(&self) -> crate::ops::Entries {
            crate::ops::Entries::default()
        }
        #[cfg(feature = "std")]
        fn renumber(&mut self, _: &dyn Fn(nunatak_core::tape::EntryId) -> nunatak_core::tape::EntryId) {}
    };
}

/// For operations that no gradient passes.
macro_rules! no_gradient {
    () => {
        fn backward_input_reads(&self) -> nunatak_core::tape::Reads {
            nunatak_core::tape::Reads::default()
        }
        fn backward_weight_reads(&self) -> nunatak_core::tape::Reads {
            nunatak_core::tape::Reads::default()
        }
        fn differentiable(&self, _: usize) -> bool {
            false
        }
        fn gradient_overwrites(&self, _: usize) -> bool {
            false
        }
        fn accumulates(&self, _: usize) -> bool {
            false
        }
        fn steps(&self, _: usize) -> bool {
            false
        }
    };
}

macro_rules! nothing_attached {
    () => {
        fn attached_len(&self) -> usize {
            0
        }
        fn reads_attached(&self) -> usize {
            0
        }
    };
}

macro_rules! no_memory {
    () => {
        fn saved_len(&self, _: &crate::ops::Context) -> usize {
            0
        }
        fn forward_scratch_len(&self, _: &crate::ops::Context) -> usize {
            0
        }
        fn backward_scratch_len(&self, _: &crate::ops::Context, _: bool, _: bool) -> usize {
            0
        }
    };
}

macro_rules! no_product {
    () => {
        fn flops(&self) -> u64 {
            0
        }
        fn algorithm(&self, _: nunatak_kernels::Pass) -> &'static str {
            "-"
        }
    };
}

/// For operations that compute a loss, or that only fusing makes: why there are no nodes of ONNX.
macro_rules! no_onnx {
    ($why:literal) => {
        #[cfg(feature = "std")]
        fn onnx(&self, nodes: &mut crate::files::onnx::Nodes) -> Result<(), crate::files::OnnxError> {
            Err(nodes.refused($why))
        }
    };
    (loss) => {
        crate::ops::no_onnx!("a loss is for training; ask for the value that it judges");
    };
    (int8) => {
        crate::ops::no_onnx!("it computes in integers of 8 bits; export the network of floats that it was made of");
    };
    (fused) => {
        crate::ops::no_onnx!("it is made by fusing, and no recording has it");
    };
}

#[cfg(all(test, feature = "std"))]
mod tests;

pub(crate) use choice::nothing_to_choose;
pub(crate) use {no_gradient, no_memory, no_onnx, no_product, nothing_attached, nothing_to_train};
