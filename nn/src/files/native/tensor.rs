//! One tensor of a native file.

use super::{MAX_SIZE, NativeError, NativeErrorKind, u32_at};
use core::fmt;
use nunatak_kernels::WeightLayout;
use sha2::{Digest, Sha256};

/// How a tensor's data lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// One signed number of 64 bits.
    Count,
    /// Words of 32 bits that are no floats, in one dimension.
    Words,
    /// Floats in PyTorch's order.
    Plain,
    /// Floats of a weight in the kernels' order.
    Blocks(WeightLayout),
}

impl Layout {
    /// As it stands in the table.
    pub const fn code(&self) -> u8 {
        match self {
            Layout::Count => 0,
            Layout::Plain => 1,
            Layout::Words => 2,
            Layout::Blocks(layout) => layout.block() as u8,
        }
    }
}

/// The kernels' layout of a weight of this shape; `None` where it is no weight, or overflows.
fn weight_layout(shape: &[usize; 4], rank: usize) -> Option<WeightLayout> {
    let [k, c, h, w] = *shape;
    let layout = WeightLayout::new(k, c, h.checked_mul(w)?).ok()?;
    (rank == 2 || rank == 4).then_some(layout)
}

/// Layout, length in numbers, shape and dimensions of an entry of the table.
pub(super) fn layout(entry: &[u8]) -> Result<(Layout, usize, [usize; 4], usize), NativeErrorKind> {
    let wrong = NativeErrorKind::Tensor;
    let rank = entry[22] as usize;
    let mut shape = [0; 4];
    for (i, size) in shape.iter_mut().enumerate() {
        let n = u32_at(entry, 4 * i);
        if n == 0 || n > MAX_SIZE {
            return Err(wrong("a dimension is 0, or above 268435456"));
        }
        *size = n as usize;
    }
    if rank > 4 || shape[rank..].iter().any(|n| *n != 1) {
        return Err(wrong("it has dimensions beyond its last"));
    }
    let (layout, numbers) = match entry[23] {
        0 if rank == 0 => (Layout::Count, Some(1)),
        0 => return Err(wrong("a count has no dimensions")),
        2 if rank == 1 => (Layout::Words, Some(shape[0])),
        2 => return Err(wrong("words have one dimension")),
        1 => (Layout::Plain, shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size))),
        code => {
            let weight = weight_layout(&shape, rank).ok_or(wrong("this shape has no blocks of output channels"))?;
            if weight.block() != code as usize {
                return Err(wrong("its block is not the one for its output channels"));
            }
            (Layout::Blocks(weight), Some(weight.len()))
        }
    };
    Ok((layout, numbers.ok_or(NativeErrorKind::TooLarge)?, shape, rank))
}

/// A named tensor in the bytes of a native file.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    name: &'a str,
    shape: [usize; 4],
    rank: usize,
    layout: Layout,
    data: &'a [u8],
    offset: usize,
    checksum: &'a [u8],
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {:?} {:?} at {}", self.name, self.shape(), self.layout, self.offset)
    }
}

/// The checksum of a tensor's data.
pub(super) fn checksum(hash: Sha256) -> [u8; 16] {
    let whole: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

impl<'a> Tensor<'a> {
    pub(super) fn new(
        name: &'a str,
        shape: [usize; 4],
        rank: usize,
        layout: Layout,
        data: &'a [u8],
        offset: usize,
        checksum: &'a [u8],
    ) -> Tensor<'a> {
        Tensor { name, shape, rank, layout, data, offset, checksum }
    }

    /// The name, as in PyTorch's `state_dict`.
    pub fn name(&self) -> &'a str {
        self.name
    }
    /// The shape in PyTorch.
    pub fn shape(&self) -> &[usize] {
        &self.shape[..self.rank]
    }
    /// The number of elements in PyTorch.
    pub fn numbers(&self) -> usize {
        self.shape.iter().product()
    }
    /// How the data lie.
    pub fn layout(&self) -> Layout {
        self.layout
    }
    /// The data.
    pub fn bytes(&self) -> &'a [u8] {
        self.data
    }
    /// Where they begin in the file.
    pub fn offset(&self) -> usize {
        self.offset
    }
    /// The number of a [`Layout::Count`].
    pub fn count(&self) -> Option<i64> {
        (self.layout == Layout::Count).then_some(())?;
        self.data.try_into().ok().map(i64::from_le_bytes)
    }
    /// The checksum as the table names it.
    pub fn checksum(&self) -> &'a [u8] {
        self.checksum
    }

    /// Compares the data with their checksum, and what the layout pads with zero.
    ///
    /// # Errors
    /// [`NativeError`] that names the tensor.
    pub fn verify(&self) -> Result<(), NativeError> {
        let mut hash = Sha256::new();
        hash.update(self.data);
        if checksum(hash) != self.checksum {
            return Err(NativeErrorKind::TensorChecksum.at(self.offset).of(self.name));
        }
        self.check_padding()
    }

    /// Kernels rely on zeros for the output channels that fill the last block.
    pub(crate) fn check_padding(&self) -> Result<(), NativeError> {
        let Layout::Blocks(layout) = self.layout else { return Ok(()) };
        let (block, last) = (layout.block(), layout.k() % layout.block());
        if last == 0 {
            return Ok(());
        }
        let start = 4 * (layout.blocks() - 1) * layout.block_len();
        for (i, row) in self.data[start..].chunks_exact(4 * block).enumerate() {
            if row[4 * last..].iter().any(|b| *b != 0) {
                return Err(NativeErrorKind::Padding.at(self.offset + start + 4 * (i * block + last)).of(self.name));
            }
        }
        Ok(())
    }

    fn number(&self, i: usize) -> f32 {
        match self.data.get(4 * i..4 * i + 4) {
            Some(&[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            _ => f32::NAN,
        }
    }

    /// Element `i` of PyTorch's order.
    ///
    /// # Panics
    /// If it is a count, or has no such element.
    pub fn element(&self, i: usize) -> f32 {
        assert!(self.layout != Layout::Count && i < self.numbers(), "element {i} of {self:?}");
        match self.layout {
            Layout::Blocks(layout) => self.number(layout.index_of(i)),
            _ => self.number(i),
        }
    }

    /// Copies the numbers out in PyTorch's order.
    ///
    /// # Panics
    /// If it is a count, or `out` has another length than [`Tensor::numbers`].
    pub fn read(&self, out: &mut [f32]) {
        assert!(self.layout != Layout::Count && out.len() == self.numbers(), "room for {} numbers of {self:?}", out.len());
        match (self.layout, bytemuck::try_cast_slice(self.data)) {
            (Layout::Blocks(layout), Ok(packed)) if cfg!(target_endian = "little") => layout.unpack(packed, out),
            _ => out.iter_mut().enumerate().for_each(|(i, v)| *v = self.element(i)),
        }
    }

    /// Copies the numbers to a home in the block: in the kernels' layout where `home` names one, in
    /// PyTorch's order where not.
    ///
    /// # Panics
    /// If `out` has not the length of that home.
    pub(crate) fn copy_home(&self, home: Option<WeightLayout>, out: &mut [f32]) {
        let lies_so = match (self.layout, home) {
            (Layout::Blocks(layout), Some(home)) => layout == home,
            (Layout::Plain | Layout::Words, None) => true,
            _ => false,
        };
        if lies_so {
            assert_eq!(out.len() * 4, self.data.len());
            out.iter_mut().enumerate().for_each(|(i, v)| *v = self.number(i));
            return;
        }
        out.fill(0.0);
        for i in 0..self.numbers() {
            out[home.map_or(i, |home| home.index_of(i))] = self.element(i);
        }
    }
}
