//! What can go wrong when a network is recorded, planned and trained.

use crate::checkpoint::native::{Hash, NativeError};
use crate::params::Name;
use core::fmt;
use nunatak_kernels::sgd::SgdError;

/// An error of this crate. It needs no heap and says what was expected, what came and what to do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Error {
    /// Sizes, tape, plan or memory.
    Core(nunatak_core::Error),
    /// A recipe that describes no network.
    Recipe(&'static str),
    /// A network with more parameters than a set can hold.
    TooManyParameters {
        /// The most it can have.
        capacity: usize,
    },
    /// No parameter has this name or prefix.
    UnknownName,
    /// Batch statistics of a single value per channel.
    OneValuePerChannel {
        /// The shape that was to be normalised: n, c, h, w.
        shape: [u32; 4],
    },
    /// A slice has not the length that its place asks for.
    Length {
        /// What it was for.
        what: &'static str,
        /// The length that was due.
        expected: usize,
        /// The length that came.
        got: usize,
    },
    /// A value was asked for that the plan did not keep.
    NotKept,
    /// A value that is no input was to be set.
    NotAnInput,
    /// Two values of different recordings were joined, or one of another graph was used.
    OtherGraph,
    /// `forward` before every input was set.
    InputNotSet {
        /// The input's number on the tape.
        value: usize,
    },
    /// `backward` without a `forward` before it.
    BackwardBeforeForward,
    /// `backward` with a plan that has no backward walk: inference, or nothing is trainable.
    NothingToTrain,
    /// `step` although no gradient exists.
    NoGradients,
    /// Momentum was asked of a plan without room for it, or of a parameter that has none yet.
    NoMomentum,
    /// This needs gradients that are kept: plan with the update after the walk.
    GradientsNotKept,
    /// This needs the update during the walk: `backward_and_step`.
    UpdateIsDuring,
    /// The update during the walk can't be had.
    UpdateDuring(&'static str),
    /// The loss is NaN or infinite.
    LossNotFinite {
        /// The loss.
        loss: f32,
    },
    /// A target that is no class.
    TargetOutOfRange {
        /// The row.
        row: usize,
        /// Its target.
        target: i64,
        /// The classes.
        classes: usize,
    },
    /// Settings of SGD that make no sense.
    Sgd(SgdError),
    /// The network of a new plan is not the trainer's.
    OtherNetwork,
    /// A native file that can't be used.
    Native(NativeError),
    /// The plan reads weights in place, and there are none.
    NeedsWeights,
    /// The weights file lacks a tensor that the network has, or has it in another shape.
    NotInWeights {
        /// The tensor.
        name: Name,
    },
    /// The file has a tensor that the network has not.
    NotInNetwork {
        /// The tensor.
        name: Name,
    },
    /// What is read in place can't be written.
    ReadOnly {
        /// The tensor.
        name: Name,
    },
    /// A delta where a whole network is due, or the reverse.
    Delta(&'static str),
    /// A delta was made over other weights than it is to be laid over.
    WrongBase {
        /// The hash of the weights that it was made over.
        expected: Hash,
        /// The hash of the weights that are there.
        got: Hash,
    },
    /// Whoever looked on ended the walk.
    Stopped,
    /// A maximum norm that is negative or NaN.
    MaxNorm {
        /// The value.
        max_norm: f32,
    },
}

impl From<nunatak_core::Error> for Error {
    fn from(e: nunatak_core::Error) -> Self {
        Error::Core(e)
    }
}

impl From<NativeError> for Error {
    fn from(e: NativeError) -> Self {
        Error::Native(e)
    }
}

impl From<SgdError> for Error {
    fn from(e: SgdError) -> Self {
        Error::Sgd(e)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Error::Core(e) => e.fmt(f),
            Error::Recipe(what) => write!(f, "no network: {what}"),
            Error::TooManyParameters { capacity } => write!(f, "the network has more than {capacity} parameters; use fewer blocks"),
            Error::UnknownName => f.write_str("no parameter has that name, or begins with it and a dot"),
            Error::OneValuePerChannel { shape: [n, c, h, w] } => write!(
                f,
                "Expected more than 1 value per channel when training, got input size [{n}, {c}, {h}, {w}]; use larger images, a larger batch, or eval mode"
            ),
            Error::Length { what, expected, got } => write!(f, "{what}: expected {expected} numbers, got {got}"),
            Error::NotKept => f.write_str("this value is not kept; name it in `keep` when planning"),
            Error::NotAnInput => f.write_str("this value is computed, not an input"),
            Error::OtherGraph => f.write_str("a value of another graph was used"),
            Error::InputNotSet { value } => {
                write!(f, "input {value} was not set since the last forward; set every input before each forward")
            }
            Error::BackwardBeforeForward => f.write_str("backward needs a forward before it, and each forward serves one backward"),
            Error::NothingToTrain => {
                f.write_str("there is nothing to walk back for: the plan is for inference, or no trainable parameter takes part")
            }
            Error::NoGradients => f.write_str("step needs gradients: call backward first"),
            Error::NoMomentum => f.write_str("no momentum here: plan with `momentum: true`, and take a step first"),
            Error::GradientsNotKept => f.write_str("gradients are used up during the walk in this plan; plan with the update after it"),
            Error::UpdateIsDuring => f.write_str("this plan updates during the walk: call backward_and_step"),
            Error::UpdateDuring(why) => write!(f, "no update during the backward walk: {why}"),
            Error::LossNotFinite { loss } => {
                write!(f, "the loss is {loss}; nothing was changed. Lower the learning rate or look at the data")
            }
            Error::TargetOutOfRange { row, target, classes } => {
                write!(f, "the target of row {row} is {target}, but the classes are 0 to {}", classes.saturating_sub(1))
            }
            Error::Sgd(e) => e.fmt(f),
            Error::OtherNetwork => f.write_str("the new plan is for another network than the trainer's; only the head may differ"),
            Error::Native(e) => e.fmt(f),
            Error::NeedsWeights => f.write_str("the plan reads weights in place: make the trainer with Trainer::with_weights"),
            Error::NotInWeights { name } => {
                write!(f, "{}: the weights file has no such tensor, or another shape; take the file of this network", name.as_str())
            }
            Error::NotInNetwork { name } => write!(f, "{}: the network has no such tensor; take the file of this network", name.as_str()),
            Error::ReadOnly { name } => {
                write!(f, "{}: lies read-only in the weights file; plan it trainable, or held in the block", name.as_str())
            }
            Error::Delta(what) => write!(f, "the file {what}"),
            Error::WrongBase { expected, got } => write!(f, "the delta was made over weights with the hash {expected}, these have {got}"),
            Error::Stopped => f.write_str("stopped by its watcher; start again with a forward"),
            Error::MaxNorm { max_norm } => write!(f, "a maximum norm must be a number that is not negative, got {max_norm}"),
        }
    }
}

impl core::error::Error for Error {}
