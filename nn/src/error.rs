//! What can go wrong when a network is recorded, planned and trained.

use crate::files::native::{Hash, NativeError};
use crate::name::Name;
use core::fmt;
use nunatak_core::bundle::BundleError;
use nunatak_core::program::ProgramError;
use nunatak_kernels::cross_entropy::TargetOutOfRange;
use nunatak_kernels::sgd::SgdError;

/// An error of this crate. It needs no heap and says what was expected, what came and what to do.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Sizes, tape, plan or memory.
    Core(nunatak_core::Error),
    /// A recipe that describes no network.
    Recipe(&'static str),
    /// The system gave no threads.
    Threads {
        /// The number asked for.
        count: usize,
    },
    /// A region of memory is too small.
    Region {
        /// The region.
        name: Name,
        /// Bytes that it has.
        given: usize,
        /// Bytes that would do for what finds no place.
        needed: usize,
    },
    /// No choice of values to be computed again was found that fits.
    Budget {
        /// Bytes that the block may take.
        asked: usize,
        /// Bytes that the smallest takes that was found.
        least: usize,
    },
    /// Nothing has this name or prefix.
    UnknownName {
        /// The name that was asked for.
        name: Name,
    },
    /// A name that another entry of the state dict has.
    NameTaken {
        /// The name.
        name: Name,
    },
    /// A name that is empty, or has other characters than printable ASCII.
    BadName {
        /// The name.
        name: Name,
    },
    /// An initialisation with numbers that are not finite, or a negative deviation.
    Init {
        /// The parameter.
        name: Name,
    },
    /// A normalisation's eps or momentum that is none.
    Norm {
        /// Added to the variance.
        eps: f32,
        /// How far a batch moves the running statistics.
        momentum: f32,
    },
    /// A pooling's window that can't be.
    Window {
        /// Pixels of the window in each direction.
        kernel: usize,
        /// Pixels around the image.
        pad: usize,
    },
    /// A beta of the rounded absolute error that is none.
    Beta {
        /// What was given.
        got: f32,
    },
    /// A dropout's probability that is none.
    Probability {
        /// What was given.
        got: f32,
    },
    /// A label smoothing that is no share.
    LabelSmoothing {
        /// What was given.
        got: f32,
    },
    /// Bytes that are no program, or one that this build can't execute.
    Program(ProgramError),
    /// Bytes that are no bundle of programs, or programs that can't be one.
    Bundle(BundleError),
    /// A program for another machine.
    OtherTarget(&'static str),
    /// A call of a program does not fit its operation.
    Misfit(&'static str),
    /// What the new program reads in place lies in the block: it may have been trained there.
    HeldInBlock {
        /// The entry.
        name: Name,
    },
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
    /// A value was asked for that comes before the one behind which the last forward began.
    NotComputed,
    /// A forward can't begin behind this value.
    NoBeginning,
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
    /// Gradients are added up in the momentum by this program, and this needs them apart.
    SumsInMomentum(&'static str),
    /// The loss is NaN or infinite.
    LossNotFinite {
        /// The loss.
        loss: f32,
    },
    /// A parameter's gradient has a number that is NaN or infinite.
    GradientNotFinite {
        /// The parameter.
        name: Name,
        /// How many parameters were updated before it was found: 0 unless updates come during the walk. Which:
        /// [`crate::Trainer::updated`].
        updated: usize,
    },
    /// A forward would have made running statistics NaN or infinite.
    StatisticsNotFinite {
        /// The statistics.
        name: Name,
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
    /// No layer can be computed in 8 bits: none is frozen, or none has such a form; or no image was observed.
    NoInt8,
    /// A layer's numbers can't be rounded to 8 bits.
    NotFiniteInt8 {
        /// The layer.
        name: Name,
    },
    /// A program or a trainer for which no class can be added.
    NoNewClass(&'static str),
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

impl From<BundleError> for Error {
    fn from(e: BundleError) -> Self {
        Error::Bundle(e)
    }
}
impl From<ProgramError> for Error {
    fn from(e: ProgramError) -> Self {
        Error::Program(e)
    }
}

impl From<&'static str> for Error {
    fn from(what: &'static str) -> Self {
        Error::Misfit(what)
    }
}

impl From<TargetOutOfRange> for Error {
    fn from(e: TargetOutOfRange) -> Self {
        Error::TargetOutOfRange { row: e.row, target: e.target, classes: e.classes }
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

impl Error {
    /// What is said of errors without numbers and names.
    const fn text(&self) -> &'static str {
        match self {
            Error::NotKept => "this value is not kept; name it in `keep` when planning",
            Error::NotComputed => "this value was not computed: the last forward began behind it, with a value that was set",
            Error::NoBeginning => {
                "a forward can't begin behind this value: something later also reads what comes before it, or parameters before it are trained"
            }
            Error::NotAnInput => "this value is computed, not an input",
            Error::OtherGraph => "a value of another graph was used",
            Error::BackwardBeforeForward => "backward needs a forward before it, and each forward serves one backward",
            Error::NothingToTrain => "there is nothing to walk back for: the plan is for inference, or no trainable parameter takes part",
            Error::NoGradients => "there are no gradients to update by: compute them first, by a backward",
            Error::NoMomentum => "there is no momentum here: plan the step with momentum, and update once before it is read",
            Error::GradientsNotKept => "gradients are used up during the walk in this plan; plan with the update after it",
            Error::UpdateIsDuring => "this plan updates during the walk: call backward_and_step",
            Error::OtherNetwork => "the new plan is for another network than the trainer's; only the head may differ",
            Error::NoInt8 => {
                "no layer can be computed in 8 bits: a convolution that is frozen, behind frozen ones alone, of one group or one for each \
                 channel is needed, and images to find the scales by"
            }
            Error::NeedsWeights => "the plan reads weights in place: make the trainer with Trainer::with_weights",
            Error::Stopped => "stopped by its watcher; start again with a forward",
            _ => "",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Error::Core(e) => e.fmt(f),
            Error::Recipe(what) => write!(f, "no network: {what}"),
            Error::Threads { count } => write!(f, "the system gives no {count} threads; ask for 1 to do without"),
            Error::Budget { asked, least } => write!(
                f,
                "the step takes {least} bytes at least, {asked} were asked for; fewer or smaller images, or fewer trained parameters, \
                 take less"
            ),
            Error::Region { name, given, needed } => {
                write!(f, "region `{name}` has {given} bytes, {needed} would do for what finds no place in any region")
            }
            Error::UnknownName { name } => write!(f, "nothing is called `{name}`, or begins with it and a dot"),
            Error::NameTaken { name } => write!(
                f,
                "there is an entry `{name}` already: give the layer another name or scope, or say `shared()` to use the same numbers, of the same shape"
            ),
            Error::BadName { name } => write!(f, "`{name}` is no name: use printable ASCII without blanks, at least one character"),
            Error::Init { name } => write!(f, "{name}: an initialisation needs finite numbers, and a deviation that is not negative"),
            Error::Norm { eps, momentum } => {
                write!(f, "a normalisation's eps must be finite and not negative, its momentum 0 to 1; got eps {eps}, momentum {momentum}")
            }
            Error::Window { kernel, pad } => {
                write!(
                    f,
                    "a pooling's window has 1 to 15 pixels in each direction, its padding is at most half of it; got {kernel} and {pad}"
                )
            }
            Error::Beta { got } => write!(f, "a beta is a finite number that is not negative, got {got}"),
            Error::Probability { got } => write!(f, "a dropout's probability is 0 to 1, got {got}"),
            Error::LabelSmoothing { got } => write!(f, "a label smoothing is 0 to 1, got {got}"),
            Error::Program(e) => e.fmt(f),
            Error::Bundle(e) => e.fmt(f),
            Error::OtherTarget(what) => write!(f, "the program was planned for another machine: {what}"),
            Error::Misfit(what) => write!(f, "the program is damaged: {what}"),
            Error::HeldInBlock { name } => {
                write!(f, "{name}: lies in the block, where it may have been trained; plan the new program with `hold`")
            }
            Error::OneValuePerChannel { shape: [n, c, h, w] } => write!(
                f,
                "Expected more than 1 value per channel when training, got input size [{n}, {c}, {h}, {w}]; use larger images, a larger batch, or eval mode"
            ),
            Error::Length { what, expected, got } => write!(f, "{what}: expected {expected} numbers, got {got}"),
            Error::InputNotSet { value } => {
                write!(f, "an input (value {value}) was not set since the last forward; set every input before each forward")
            }
            Error::SumsInMomentum(what) => write!(f, "this plan adds gradients up in the momentum: {what}"),
            Error::LossNotFinite { loss } => {
                write!(f, "the loss is {loss}; nothing was changed. Lower the learning rate or look at the data")
            }
            Error::GradientNotFinite { name, updated: 0 } => {
                write!(f, "the gradient of {name} is not finite; no parameter was changed. Lower the learning rate or look at the data")
            }
            Error::GradientNotFinite { name, updated } => write!(
                f,
                "the gradient of {name} is not finite; {updated} parameters were updated before it was found. Load the last good state, then lower the learning rate or look at the data"
            ),
            Error::StatisticsNotFinite { name } => {
                write!(f, "{name} would become NaN or infinite; nothing was changed. Look at the images, or lower the learning rate")
            }
            Error::TargetOutOfRange { row, target, classes } => {
                write!(f, "the target of row {row} is {target}, but the classes are 0 to {}", classes.saturating_sub(1))
            }
            Error::Sgd(e) => e.fmt(f),
            Error::NotFiniteInt8 { name } => {
                write!(f, "{name}: its weights or statistics are not finite, so they can't be rounded to 8 bits; look at the weights")
            }
            Error::NoNewClass(what) => write!(f, "no class can be added: {what}"),
            Error::Native(e) => e.fmt(f),
            Error::NotInWeights { name } => {
                write!(f, "{}: the weights file has no such tensor, or another shape; take the file of this network", name.as_str())
            }
            Error::NotInNetwork { name } => write!(f, "{}: the network has no such tensor; take the file of this network", name.as_str()),
            Error::ReadOnly { name } => {
                write!(f, "{}: lies read-only in the weights file; plan it trainable, or held in the block", name.as_str())
            }
            Error::Delta(what) => write!(f, "the file {what}"),
            Error::WrongBase { expected, got } => write!(f, "the delta was made over weights with the hash {expected}, these have {got}"),
            Error::MaxNorm { max_norm } => write!(f, "a maximum norm must be a number that is not negative, got {max_norm}"),
            Error::NotKept
            | Error::NotComputed
            | Error::NoBeginning
            | Error::NotAnInput
            | Error::OtherGraph
            | Error::BackwardBeforeForward
            | Error::NothingToTrain
            | Error::NoGradients
            | Error::NoMomentum
            | Error::GradientsNotKept
            | Error::UpdateIsDuring
            | Error::OtherNetwork
            | Error::NoInt8
            | Error::NeedsWeights
            | Error::Stopped => f.write_str(self.text()),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Error::Core(e) => Some(e),
            Error::Program(e) => Some(e),
            Error::Bundle(e) => Some(e),
            Error::Native(e) => Some(e),
            Error::Sgd(e) => Some(e),
            _ => None,
        }
    }
}
