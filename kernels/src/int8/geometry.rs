//! An 8-bit convolution's numbers, checked once, and what a call takes.

use super::dispatch::Way;
use super::{BLOCK, depthwise, padded, product};
use crate::Cpu;
use crate::bounds::checked_product;
use core::fmt;

/// A convolution in 8-bit integers: the geometry, and the zero points. See [`crate::int8`] for the formula.
///
/// A value exists only where all its tensors fit the address space and no sum of products can leave an `i32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conv2d {
    conv: crate::Conv2d,
    x_zero: u8,
    y_zero: u8,
    relu: bool,
    residual: Option<u8>,
}

/// Why there is no 8-bit convolution of some numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Groups of several channels.
    Groups {
        /// The groups.
        groups: usize,
        /// The input channels.
        c: usize,
        /// The output channels.
        k: usize,
    },
    /// So many products for each output that their sum might leave an `i32`.
    Sums {
        /// Products of an output.
        products: usize,
        /// The most there may be.
        most: usize,
    },
    /// A size is wrong, or a tensor does not fit the address space.
    Size(nunatak_core::Error),
}

impl From<nunatak_core::Error> for Error {
    fn from(error: nunatak_core::Error) -> Error {
        Error::Size(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Groups { groups, c, k } => write!(
                f,
                "8-bit convolutions have one group, or a group for each channel; got {groups} groups of {c} input and {k} output channels: \
                 compute this one in f32"
            ),
            Error::Sums { products, most } => write!(
                f,
                "an output of this 8-bit convolution is a sum of {products} products, and 32 bits hold {most} of them for sure: \
                 compute this one in f32"
            ),
            Error::Size(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

/// The most products of an output: with 255 · 127 for each, the sum stays below 2^31.
const MOST_PRODUCTS: usize = ((1 << 31) - 1) / (255 * 127);

/// The tensors of [`Conv2d::forward`].
#[derive(Debug)]
pub struct Forward<'a> {
    /// `[n][h][w][padded(c)]`: read.
    pub x: &'a [u8],
    /// As [`crate::int8`] says, [`Conv2d::weight_len`] bytes: read.
    pub w: &'a [i8],
    /// As [`crate::int8`] says, [`Conv2d::table_len`] words: read.
    pub table: &'a [i32],
    /// As `y`, where the convolution has a residual, else `None`: read.
    pub residual: Option<&'a [u8]>,
    /// `[n][out_h][out_w][padded(k)]`: overwritten.
    pub y: &'a mut [u8],
    /// [`Conv2d::scratch_len`] bytes or more: overwritten.
    pub scratch: &'a mut [u8],
}

impl Conv2d {
    /// The convolution of this geometry. `x_zero` and `y_zero` are the zero points of input and output, `residual` is that
    /// of a residual that is added before the clamping, where there is one.
    ///
    /// # Errors
    /// [`Error`] for groups other than one and depthwise, where a sum of products may leave an `i32`, and where a tensor
    /// does not fit the address space.
    pub fn new(conv: crate::Conv2d, x_zero: u8, y_zero: u8, relu: bool, residual: Option<u8>) -> Result<Conv2d, Error> {
        let (groups, c, k) = (conv.groups(), conv.c(), conv.k());
        if groups != 1 && !conv.is_depthwise() {
            return Err(Error::Groups { groups, c, k });
        }
        let each = c / groups;
        let too_large = nunatak_core::Error::TooLarge { shape: [k, each, conv.kernel()[0], conv.kernel()[1]] };
        let products = each.checked_mul(conv.taps()).ok_or(too_large)?;
        if products > MOST_PRODUCTS {
            return Err(Error::Sums { products, most: MOST_PRODUCTS });
        }
        let fits = |factors: &[usize]| checked_product(factors).is_some_and(|len| len <= isize::MAX as usize);
        let (c4, k4) = (c.checked_next_multiple_of(4).ok_or(too_large)?, k.checked_next_multiple_of(4).ok_or(too_large)?);
        let padded = [0, 1].map(|i| [conv.h(), conv.w()][i] + 2 * conv.pad()[i]);
        if !fits(&[conv.n(), conv.h(), conv.w(), c4])
            || !fits(&[padded[0], padded[1], c4])
            || !fits(&[conv.n(), conv.out_h(), conv.out_w(), k4])
            || !fits(&[k.div_ceil(BLOCK), BLOCK, conv.taps(), if groups == 1 { c4 } else { 1 }])
            || !fits(&[k.div_ceil(BLOCK) + 1, 2 * BLOCK, 4])
        {
            return Err(too_large.into());
        }
        Ok(Conv2d { conv, x_zero, y_zero, relu, residual })
    }

    /// The geometry.
    pub const fn geometry(&self) -> &crate::Conv2d {
        &self.conv
    }
    /// The input's zero point.
    pub const fn x_zero(&self) -> u8 {
        self.x_zero
    }
    /// The output's zero point.
    pub const fn y_zero(&self) -> u8 {
        self.y_zero
    }
    /// Whether outputs below the zero point become the zero point.
    pub const fn relu(&self) -> bool {
        self.relu
    }
    /// The residual's zero point, where there is a residual.
    pub const fn residual(&self) -> Option<u8> {
        self.residual
    }
    /// Whether every channel has a filter of its own.
    pub const fn is_depthwise(&self) -> bool {
        // One channel to one is both, and then the layout is that of one group.
        self.conv.groups() != 1
    }

    /// Bytes of x.
    pub const fn x_len(&self) -> usize {
        self.conv.n() * self.conv.h() * self.conv.w() * padded(self.conv.c())
    }
    /// Bytes of y, and of the residual.
    pub const fn y_len(&self) -> usize {
        self.conv.n() * self.conv.out_h() * self.conv.out_w() * padded(self.conv.k())
    }
    /// Bytes of w.
    pub const fn weight_len(&self) -> usize {
        self.blocks() * self.block_len()
    }
    /// Words of the table.
    pub const fn table_len(&self) -> usize {
        BLOCK + self.blocks() * 2 * BLOCK
    }
    /// Bytes of scratch on so many threads: a function of this value and the number of threads alone. For each thread at
    /// most 16 kB, but for filters that cover more: lines of the input with their padding. 0 without padding.
    pub fn scratch_len(&self, threads: usize) -> usize {
        if self.is_depthwise() { 0 } else { product::scratch_len(self, threads) }
    }

    /// Blocks of 16 output channels.
    pub(super) const fn blocks(&self) -> usize {
        self.conv.k().div_ceil(BLOCK)
    }
    /// Bytes of a block's weights.
    pub(super) const fn block_len(&self) -> usize {
        BLOCK * self.conv.taps() * if self.is_depthwise() { 1 } else { padded(self.conv.c()) }
    }

    /// y from x. See [`crate::int8`] for the formula.
    ///
    /// # Panics
    /// If a slice has another length than its field says, or a residual is there that the convolution has not, or the
    /// other way round.
    pub fn forward(&self, cpu: &Cpu, call: Forward) {
        self.forward_by(Way::of(cpu.level), cpu, call);
    }

    pub(super) fn forward_by(&self, way: Way, cpu: &Cpu, call: Forward) {
        assert_eq!(call.x.len(), self.x_len(), "bytes of x of {self:?}");
        assert_eq!(call.w.len(), self.weight_len(), "bytes of w of {self:?}");
        assert_eq!(call.table.len(), self.table_len(), "words of the table of {self:?}");
        assert_eq!(call.y.len(), self.y_len(), "bytes of y of {self:?}");
        let residual = self.residual.map(|_| self.y_len());
        assert_eq!(call.residual.map(<[u8]>::len), residual, "bytes of the residual of {self:?}");
        let (threads, given) = (cpu.threads.count(), call.scratch.len());
        let needed = self.scratch_len(threads);
        assert!(given >= needed, "{given} bytes of scratch, {needed} are needed on {threads} threads: {self:?}");
        if self.is_depthwise() { depthwise::forward(self, way, cpu, call) } else { product::forward(self, way, cpu, call) }
    }
}
