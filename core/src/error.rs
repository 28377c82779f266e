//! What can go wrong when sizes, graphs and memory are put together.

use core::fmt;

/// An error of this crate; every variant carries the numbers that disagreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// A dimension is zero.
    ZeroDimension {
        /// Which: `n`, `c`, `h` or `w`.
        dimension: &'static str,
    },
    /// A product of sizes does not fit the address space.
    TooLarge {
        /// The four sizes n, c, h, w.
        shape: [usize; 4],
    },
    /// A window (of a convolution or pooling) is larger than the padded input.
    WindowTooLarge {
        /// Size of the window.
        window: usize,
        /// Size of the input with its padding.
        input: usize,
    },
    /// A stride or window of zero.
    ZeroWindow,
    /// Two shapes that must agree do not.
    ShapeMismatch {
        /// The shape that was due: n, c, h, w.
        expected: [u32; 4],
        /// The shape that came.
        got: [u32; 4],
    },
    /// The tape has no room for another operation.
    TapeFull {
        /// Operations it can hold.
        capacity: usize,
    },
    /// The plan has no room for another buffer.
    PlanFull {
        /// Buffers it can hold.
        capacity: usize,
    },
    /// An operation names a value that is not on the tape before it.
    UnknownValue {
        /// The value's number.
        value: usize,
        /// Values on the tape.
        values: usize,
    },
    /// The update during the backward walk is impossible.
    ParameterUsedTwice {
        /// The parameter's number.
        param: usize,
    },
    /// The caller's block of memory is too small.
    ArenaTooSmall {
        /// Bytes that are needed.
        needed: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// A buffer was lent to two writers, or to a reader and a writer: a bug in a plan.
    Overlap {
        /// First number of the second buffer.
        at: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Self::ZeroDimension { dimension } => write!(f, "the size {dimension} is 0; every size must be at least 1"),
            Self::TooLarge { shape: [n, c, h, w] } => write!(f, "a tensor of {n}x{c}x{h}x{w} does not fit the address space"),
            Self::WindowTooLarge { window, input } => {
                write!(f, "a window of {window} does not fit into an input of {input} (padding included); give a larger image")
            }
            Self::ZeroWindow => f.write_str("a window and its stride must be at least 1"),
            Self::ShapeMismatch { expected: e, got: g } => write!(
                f,
                "expected a tensor of {}x{}x{}x{}, got {}x{}x{}x{} (n x c x h x w)",
                e[0], e[1], e[2], e[3], g[0], g[1], g[2], g[3]
            ),
            Self::TapeFull { capacity } => write!(f, "the tape is full: it holds {capacity} operations"),
            Self::PlanFull { capacity } => write!(f, "the plan is full: it holds {capacity} buffers"),
            Self::UnknownValue { value, values } => write!(f, "value {value} is not on this tape, which holds {values}"),
            Self::ParameterUsedTwice { param } => {
                write!(f, "parameter {param} is used twice, so it can't be updated during the backward walk; update after it")
            }
            Self::ArenaTooSmall { needed, given } => write!(f, "the block of memory has {given} bytes, {needed} are needed"),
            Self::Overlap { at } => write!(f, "two buffers overlap at number {at} of the block"),
        }
    }
}

impl core::error::Error for Error {}
