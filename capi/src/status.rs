//! What calls return.

use crate::last_error;
use core::ffi::c_char;
use core::fmt;
use nunatak_nn::Error;
use nunatak_nn::files::heapless::FileError;
use nunatak_nn::files::native::NativeErrorKind;

/// What a call returns. The numbers are fixed: one that is taken is never given another meaning.
/// After anything but `NUNATAK_OK`, `nunatak_last_error` tells the numbers that disagreed, and no
/// output was written. Unless the call's description says otherwise, nothing else has changed.
///
/// Some come from every call that has such an argument, and are not named at each: with any pointer
/// `NUNATAK_NULL_POINTER`, `NUNATAK_MISALIGNED` and `NUNATAK_OVERLAP`; with a trainer `NUNATAK_BAD_HANDLE`,
/// and `NUNATAK_BUSY`; with a count `NUNATAK_WRONG_LENGTH`; with a text `NUNATAK_BAD_TEXT`; with a struct `NUNATAK_BAD_CONFIG`, where
/// its `struct_bytes` can't be; and from every call `NUNATAK_PANICKED`.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum nunatak_status {
    /// All went well.
    NUNATAK_OK = 0,
    /// A pointer is NULL that must not be.
    NUNATAK_NULL_POINTER = 1,
    /// A pointer is not aligned for what it points to.
    NUNATAK_MISALIGNED = 2,
    /// The handle is none: never made, or released.
    NUNATAK_BAD_HANDLE = 3,
    /// The handle is in use: by another thread, or by the call whose callback this is.
    NUNATAK_BUSY = 4,
    /// The memory handed over is too small: see `nunatak_trainer_required_bytes`.
    NUNATAK_MEMORY_TOO_SMALL = 5,
    /// A buffer for an output is too small.
    NUNATAK_BUFFER_TOO_SMALL = 6,
    /// A count is not what its place asks for.
    NUNATAK_WRONG_LENGTH = 7,
    /// A recipe or configuration that describes nothing, or another network than the trainer's.
    NUNATAK_BAD_CONFIG = 8,
    /// A text that is too long or not UTF-8.
    NUNATAK_BAD_TEXT = 9,
    /// No tensor has this name, or no tensor has this number.
    NUNATAK_UNKNOWN_NAME = 10,
    /// Another call must come before this one.
    NUNATAK_WRONG_ORDER = 11,
    /// Weights must be loaded, drawn or set first; or the program reads weights in place, and none were given.
    NUNATAK_NO_WEIGHTS = 12,
    /// The configuration did not provide for this: no loss, gradients not kept, no momentum, …
    NUNATAK_NOT_PLANNED = 13,
    /// The tensor has no gradient, or no momentum, now.
    NUNATAK_NO_GRADIENT = 14,
    /// The loss is NaN or infinite.
    NUNATAK_LOSS_NOT_FINITE = 15,
    /// A label is no class.
    NUNATAK_LABEL_OUT_OF_RANGE = 16,
    /// A setting of the optimiser or the schedule makes no sense.
    NUNATAK_BAD_SETTING = 17,
    /// The bytes are no file of weights, or a damaged one.
    NUNATAK_BAD_FILE = 18,
    /// The file's tensors are not this network's.
    NUNATAK_WRONG_FILE = 19,
    /// This build or this processor can't do that, or the program is for another machine.
    NUNATAK_UNSUPPORTED = 20,
    /// The progress callback asked to stop.
    NUNATAK_STOPPED = 21,
    /// The memory belongs to a trainer that was not released.
    NUNATAK_MEMORY_IN_USE = 22,
    /// There are too many trainers, threads' counts or groups at once.
    NUNATAK_TOO_MANY = 23,
    /// So many threads were not started (`nunatak_threads_start`), or the system gave none.
    NUNATAK_NO_THREADS = 24,
    /// The library found a mistake of its own. The trainer can only be released.
    NUNATAK_PANICKED = 25,
    /// A buffer that is written lies over another argument, or any buffer in the memory of a trainer that was not
    /// released, or one that is written in such a trainer's program or weights.
    NUNATAK_OVERLAP = 26,
    /// The bytes are no program, a damaged one, or one of another version of the library.
    NUNATAK_BAD_PROGRAM = 27,
    /// A gradient, or running statistics, are NaN or infinite.
    NUNATAK_NOT_FINITE = 28,
    /// The system gave no memory.
    NUNATAK_OUT_OF_MEMORY = 29,
    /// A function that reaches the flash did not return 0, or the flash does not give back what was programmed.
    NUNATAK_FLASH = 30,
    /// The flash has features of another network or preprocessing.
    NUNATAK_OTHER_FEATURES = 31,
    /// A record in flash has lost bits.
    NUNATAK_DAMAGED = 32,
}

use nunatak_status::*;

impl nunatak_status {
    const ALL: [(nunatak_status, &core::ffi::CStr); 33] = [
        (NUNATAK_OK, c"NUNATAK_OK"),
        (NUNATAK_NULL_POINTER, c"NUNATAK_NULL_POINTER"),
        (NUNATAK_MISALIGNED, c"NUNATAK_MISALIGNED"),
        (NUNATAK_BAD_HANDLE, c"NUNATAK_BAD_HANDLE"),
        (NUNATAK_BUSY, c"NUNATAK_BUSY"),
        (NUNATAK_MEMORY_TOO_SMALL, c"NUNATAK_MEMORY_TOO_SMALL"),
        (NUNATAK_BUFFER_TOO_SMALL, c"NUNATAK_BUFFER_TOO_SMALL"),
        (NUNATAK_WRONG_LENGTH, c"NUNATAK_WRONG_LENGTH"),
        (NUNATAK_BAD_CONFIG, c"NUNATAK_BAD_CONFIG"),
        (NUNATAK_BAD_TEXT, c"NUNATAK_BAD_TEXT"),
        (NUNATAK_UNKNOWN_NAME, c"NUNATAK_UNKNOWN_NAME"),
        (NUNATAK_WRONG_ORDER, c"NUNATAK_WRONG_ORDER"),
        (NUNATAK_NO_WEIGHTS, c"NUNATAK_NO_WEIGHTS"),
        (NUNATAK_NOT_PLANNED, c"NUNATAK_NOT_PLANNED"),
        (NUNATAK_NO_GRADIENT, c"NUNATAK_NO_GRADIENT"),
        (NUNATAK_LOSS_NOT_FINITE, c"NUNATAK_LOSS_NOT_FINITE"),
        (NUNATAK_LABEL_OUT_OF_RANGE, c"NUNATAK_LABEL_OUT_OF_RANGE"),
        (NUNATAK_BAD_SETTING, c"NUNATAK_BAD_SETTING"),
        (NUNATAK_BAD_FILE, c"NUNATAK_BAD_FILE"),
        (NUNATAK_WRONG_FILE, c"NUNATAK_WRONG_FILE"),
        (NUNATAK_UNSUPPORTED, c"NUNATAK_UNSUPPORTED"),
        (NUNATAK_STOPPED, c"NUNATAK_STOPPED"),
        (NUNATAK_MEMORY_IN_USE, c"NUNATAK_MEMORY_IN_USE"),
        (NUNATAK_TOO_MANY, c"NUNATAK_TOO_MANY"),
        (NUNATAK_NO_THREADS, c"NUNATAK_NO_THREADS"),
        (NUNATAK_PANICKED, c"NUNATAK_PANICKED"),
        (NUNATAK_OVERLAP, c"NUNATAK_OVERLAP"),
        (NUNATAK_BAD_PROGRAM, c"NUNATAK_BAD_PROGRAM"),
        (NUNATAK_NOT_FINITE, c"NUNATAK_NOT_FINITE"),
        (NUNATAK_OUT_OF_MEMORY, c"NUNATAK_OUT_OF_MEMORY"),
        (NUNATAK_FLASH, c"NUNATAK_FLASH"),
        (NUNATAK_OTHER_FEATURES, c"NUNATAK_OTHER_FEATURES"),
        (NUNATAK_DAMAGED, c"NUNATAK_DAMAGED"),
    ];

    #[cfg(not(feature = "messages"))]
    fn name(self) -> &'static core::ffi::CStr {
        let number = self as i32;
        Self::ALL.iter().find(|(status, _)| *status as i32 == number).map_or(c"unknown", |(_, name)| name)
    }
}

/// The name of a status, for messages; "unknown" for a number that is none. The text is constant.
/// Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_status_name(status: i32) -> *const c_char {
    let known = nunatak_status::ALL.iter().find(|(s, _)| *s as i32 == status);
    known.map_or(c"unknown", |(_, name)| name).as_ptr()
}

/// A status on its way out. Whoever makes one has left the text.
pub(crate) struct Failure(pub(crate) nunatak_status);

impl Failure {
    /// Leaves the two numbers that disagreed, too.
    pub(crate) fn numbers(self, expected: usize, got: usize) -> Failure {
        last_error::set_numbers(expected as isize, got as isize);
        self
    }
}

/// Leaves a text and gives the status.
#[inline]
pub(crate) fn failure(status: nunatak_status, text: fmt::Arguments) -> Failure {
    last_error::no_numbers();
    #[cfg(feature = "messages")]
    last_error::set(text);
    #[cfg(not(feature = "messages"))]
    {
        let _ = text;
        last_error::set_constant(status.name());
    }
    Failure(status)
}

macro_rules! fail {
    ($status:ident, $($text:tt)+) => {
        $crate::status::failure($crate::status::nunatak_status::$status, format_args!($($text)+))
    };
}
pub(crate) use fail;

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let status = match e {
            Error::Core(e) => of_core(e),
            // A recording or a plan that can't be.
            Error::Recipe(_) | Error::Threads { .. } | Error::OneValuePerChannel { .. } => NUNATAK_BAD_CONFIG,
            Error::NameTaken { .. } | Error::BadName { .. } | Error::Init { .. } | Error::Norm { .. } => NUNATAK_BAD_CONFIG,
            Error::Window { .. } | Error::LabelSmoothing { .. } | Error::Probability { .. } => NUNATAK_BAD_CONFIG,
            Error::OtherNetwork | Error::OtherGraph | Error::NoNewClass(_) => NUNATAK_BAD_CONFIG,
            Error::Region { .. } | Error::Budget { .. } => NUNATAK_MEMORY_TOO_SMALL,
            Error::UnknownName { .. } => NUNATAK_UNKNOWN_NAME,
            Error::Program(_) | Error::Bundle(_) | Error::Misfit(_) => NUNATAK_BAD_PROGRAM,
            Error::OtherTarget(_) => NUNATAK_UNSUPPORTED,
            Error::Length { .. } => NUNATAK_WRONG_LENGTH,
            Error::NotAnInput | Error::NotComputed | Error::NoBeginning => NUNATAK_NOT_PLANNED,
            Error::SumsInMomentum(what) => return fail!(NUNATAK_NOT_PLANNED, "this program adds gradients up in the momentum: {what}"),
            Error::UpdateIsDuring => return fail!(NUNATAK_NOT_PLANNED, "this config updates during the walk; call nunatak_trainer_step"),
            Error::GradientsNotKept => {
                return fail!(
                    NUNATAK_NOT_PLANNED,
                    "this config updates during the walk, which keeps no gradients; plan with NUNATAK_UPDATE_AFTER"
                );
            }
            Error::NoMomentum => {
                return fail!(
                    NUNATAK_NOT_PLANNED,
                    "the settings have a momentum, or one is to be set, but the config has none: set its momentum to 1"
                );
            }
            Error::NoGradients => return fail!(NUNATAK_NO_GRADIENT, "there are no gradients: call nunatak_trainer_backward first"),
            Error::InputNotSet { .. } => {
                return fail!(NUNATAK_WRONG_ORDER, "images or labels were not set since the last forward; set both before each forward");
            }
            Error::BackwardBeforeForward => {
                return fail!(
                    NUNATAK_WRONG_ORDER,
                    "there was no forward since: each forward serves one backward, and setting images or labels ends it"
                );
            }
            Error::NothingToTrain => {
                return fail!(NUNATAK_NOT_PLANNED, "the config trains nothing: it has no loss, or no trainable parameter takes part");
            }
            Error::NotKept => return fail!(NUNATAK_NOT_PLANNED, "the program does not keep this value"),
            Error::ReadOnly { name } => {
                return fail!(
                    NUNATAK_NOT_PLANNED,
                    "{name} is read in place from the config's weights and can't be written; make it trainable, or plan without weights"
                );
            }
            Error::HeldInBlock { name } => {
                return fail!(
                    NUNATAK_NOT_PLANNED,
                    "{name} lies in the trainer's memory, where it may have been trained; plan it trainable, or without weights"
                );
            }
            Error::NeedsWeights => {
                return fail!(NUNATAK_NO_WEIGHTS, "the program reads weights in place, and there are none: hand over its native file");
            }
            Error::LossNotFinite { .. } => NUNATAK_LOSS_NOT_FINITE,
            Error::GradientNotFinite { .. } | Error::StatisticsNotFinite { .. } => NUNATAK_NOT_FINITE,
            Error::TargetOutOfRange { .. } => NUNATAK_LABEL_OUT_OF_RANGE,
            Error::Sgd(_) | Error::MaxNorm { .. } => NUNATAK_BAD_SETTING,
            Error::Stopped => NUNATAK_STOPPED,
            Error::Native(e) if matches!(e.kind, NativeErrorKind::Misaligned { .. }) => NUNATAK_MISALIGNED,
            Error::Native(_) => NUNATAK_BAD_FILE,
            Error::NotInWeights { .. } | Error::NotInNetwork { .. } | Error::WrongBase { .. } => NUNATAK_WRONG_FILE,
            Error::Delta(_) => NUNATAK_NOT_PLANNED,
            // Rust asks for this line, since nn may get further errors: what it can't do, this build can't.
            _ => NUNATAK_UNSUPPORTED,
        };
        let failure = failure(status, format_args!("{e}"));
        match e {
            Error::Length { expected, got, .. } => failure.numbers(expected, got),
            Error::TargetOutOfRange { target, classes, .. } => failure.numbers(classes, target as usize),
            Error::Core(nunatak_core::Error::ArenaTooSmall { needed, given }) | Error::Region { needed, given, .. } => {
                failure.numbers(needed, given)
            }
            Error::Budget { asked, least } => failure.numbers(least, asked),
            _ => failure,
        }
    }
}

/// Errors of sizes, recordings, plans and memory.
fn of_core(e: nunatak_core::Error) -> nunatak_status {
    use nunatak_core::Error as Core;
    match e {
        Core::ArenaTooSmall { .. } | Core::RegionFull { .. } => NUNATAK_MEMORY_TOO_SMALL,
        Core::Overlap { .. } => NUNATAK_PANICKED,
        Core::ZeroDimension { .. } | Core::TooLarge { .. } | Core::ShapeMismatch { .. } => NUNATAK_BAD_CONFIG,
        Core::WindowTooLarge { .. } | Core::PadTooLarge { .. } | Core::TooManyCells { .. } | Core::ZeroWindow => NUNATAK_BAD_CONFIG,
        Core::Groups { .. } | Core::UnknownValue { .. } | Core::ListFull { .. } => NUNATAK_BAD_CONFIG,
        _ => NUNATAK_BAD_CONFIG,
    }
}

impl From<FileError> for Failure {
    fn from(e: FileError) -> Self {
        let status = match e {
            FileError::Trainer(e) => return e.into(),
            FileError::Format { .. } | FileError::Value { .. } => NUNATAK_BAD_FILE,
            FileError::Missing { .. } | FileError::Unexpected { .. } | FileError::Misshapen { .. } => NUNATAK_WRONG_FILE,
            FileError::Room { .. } => NUNATAK_BUFFER_TOO_SMALL,
        };
        let failure = failure(status, format_args!("{e}"));
        match e {
            FileError::Room { needed, given } => failure.numbers(needed, given),
            _ => failure,
        }
    }
}
