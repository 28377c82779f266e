//! What can go wrong when sizes, graphs and memory are put together.

use core::fmt;

/// An error of this crate; every variant carries the numbers that disagreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
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
    /// A padding of more than half a window.
    PadTooLarge {
        /// Cells added on a side.
        pad: usize,
        /// Size of the window.
        window: usize,
    },
    /// A window of more cells than a place in it can be written down.
    TooManyCells {
        /// Cells of the window.
        cells: usize,
        /// The most there may be.
        most: usize,
    },
    /// A stride or window of zero.
    ZeroWindow,
    /// Channels that can't be cut into so many equal groups.
    Groups {
        /// The channels.
        channels: usize,
        /// The groups.
        groups: usize,
    },
    /// Two shapes that must agree do not.
    ShapeMismatch {
        /// The shape that was due: n, c, h, w.
        expected: [u32; 4],
        /// The shape that came.
        got: [u32; 4],
    },
    /// An operation names a value that is not on the tape before it.
    UnknownValue {
        /// The value's number.
        value: usize,
        /// Values on the tape.
        values: usize,
    },
    /// A list in the caller's slice is full.
    ListFull {
        /// What it can hold.
        capacity: usize,
    },
    /// The caller's block of memory is too small.
    ArenaTooSmall {
        /// Bytes that are needed.
        needed: usize,
        /// Bytes that were given.
        given: usize,
    },
    /// A region of memory is too small for what is to lie in it.
    RegionFull {
        /// Its number, in the order in which the regions were given.
        region: usize,
        /// Bytes that were given.
        given: usize,
        /// Bytes that would have done for what found no place.
        needed: usize,
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
            Self::PadTooLarge { pad, window } => {
                write!(f, "a padding of {pad} is more than half the window, which is {window}")
            }
            Self::TooManyCells { cells, most } => write!(f, "a window of {cells} cells; at most {most} are possible"),
            Self::ZeroWindow => f.write_str("a window and its stride must be at least 1"),
            Self::Groups { channels, groups } => write!(f, "{channels} channels can't be cut into {groups} equal groups"),
            Self::ShapeMismatch { expected: e, got: g } => write!(
                f,
                "expected a tensor of {}x{}x{}x{}, got {}x{}x{}x{} (n x c x h x w)",
                e[0], e[1], e[2], e[3], g[0], g[1], g[2], g[3]
            ),
            Self::UnknownValue { value, values } => write!(f, "value {value} is not on this tape, which holds {values}"),
            Self::ListFull { capacity } => write!(f, "a list is full: it holds {capacity}; lend a longer slice, or use the feature `std`"),
            Self::ArenaTooSmall { needed, given } => write!(f, "the block of memory has {given} bytes, {needed} are needed"),
            Self::RegionFull { region, given, needed } => {
                write!(f, "region {region} has {given} bytes, {needed} would do for what finds no place in any region")
            }
            Self::Overlap { at } => write!(f, "two buffers overlap at number {at} of the block"),
        }
    }
}

impl core::error::Error for Error {}
