//! One tensor of a checkpoint: a name, a shape, and a view of the file's bytes.

#![forbid(unsafe_code)]

use super::budget::{Budget, no_memory};
use super::error::{ReadError, ReadErrorKind};
use super::native::{Layout as Lies, Tensor};
use half::{bf16, f16};
use nunatak_kernels::WeightLayout;

/// Most dimensions that a tensor may have.
pub(crate) const MAX_RANK: usize = 8;

/// The type of a tensor's elements in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 64-bit floating point.
    F64,
    /// 32-bit floating point.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `F32`.
    BF16,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 16-bit signed integer.
    I16,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The name that safetensors uses: `"F32"`, `"BF16"`, `"BOOL"`, ….
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }
}

/// A named tensor in a checkpoint's bytes.
#[derive(Debug, Clone)]
pub struct Entry<'f> {
    name: Box<str>,
    dtype: Dtype,
    contiguous: bool,
    len: usize,
    /// The shape, then the strides in elements.
    dims: Box<[usize]>,
    /// From the first to the last element; longer than the elements where strides leave gaps.
    data: &'f [u8],
    at: usize,
    /// Of a weight in the kernels' order.
    packed: Option<WeightLayout>,
}

/// What the file says of a tensor, before anything of it is believed.
pub(crate) struct Layout<'f, 'a> {
    pub(crate) dtype: Dtype,
    pub(crate) shape: &'a [usize],
    pub(crate) strides: &'a [usize],
    /// Where the view begins in `storage`, in elements.
    pub(crate) offset: usize,
    pub(crate) storage: &'f [u8],
    /// Where `storage` begins in the file.
    pub(crate) at: usize,
}

impl<'f> Layout<'f, '_> {
    /// Checks that every element lies in the storage; gives the count, the bytes and their place.
    pub(crate) fn check(&self) -> Result<(usize, &'f [u8], usize), ReadError> {
        let tensor = |what: String| ReadError::new(ReadErrorKind::Tensor, what);
        let (shape, size) = (self.shape, self.dtype.size());
        let room = self.storage.len() / size;
        let overflow = || tensor(format!("shape {shape:?} with strides {:?} overflows", self.strides));
        let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| n.checked_mul(8).is_some());
        let Some(len) = len.or(shape.contains(&0).then_some(0)) else {
            return Err(overflow());
        };
        if len == 0 {
            return Ok((0, &[], self.at));
        }
        let mut last = self.offset;
        for (&d, &stride) in shape.iter().zip(self.strides) {
            let step = (d - 1).checked_mul(stride).ok_or_else(overflow)?;
            last = last.checked_add(step).ok_or_else(overflow)?;
        }
        if last >= room {
            return Err(tensor(format!(
                "shape {shape:?} with strides {:?} from element {} reaches element {last}, its storage has {room}",
                self.strides, self.offset
            )));
        }
        if len > room {
            return Err(tensor(format!(
                "shape {shape:?} with strides {:?} repeats elements: {len} out of a storage of {room}",
                self.strides
            ))
            .next("call .contiguous() before saving"));
        }
        let begin = self.offset * size;
        Ok((len, &self.storage[begin..(last + 1) * size], self.at + begin))
    }

    /// A counted, checked entry.
    pub(crate) fn entry(&self, name: &str, budget: &mut Budget) -> Result<Entry<'f>, ReadError> {
        let (len, data, at) = self.check().map_err(|e| e.entry(name).at(self.at))?;
        let dims: Box<[usize]> = self.shape.iter().chain(self.strides).copied().collect();
        budget.take(name.len() + dims.len() * size_of::<usize>())?;
        let mut dense = 1;
        let mut contiguous = true;
        for (&d, &stride) in self.shape.iter().zip(self.strides).rev() {
            contiguous &= d == 1 || stride == dense;
            dense = dense.saturating_mul(d);
        }
        Ok(Entry { name: name.into(), dtype: self.dtype, contiguous: contiguous || len == 0, len, dims, data, at, packed: None })
    }
}

impl<'f> Entry<'f> {
    /// A tensor of a native file, which was checked there.
    pub(crate) fn native(tensor: &Tensor<'f>) -> Entry<'f> {
        let shape = tensor.shape();
        let stride = |d: usize| shape[d + 1..].iter().product::<usize>();
        let (dtype, packed) = match tensor.layout() {
            Lies::Count => (Dtype::I64, None),
            Lies::Plain => (Dtype::F32, None),
            Lies::Blocks(layout) => (Dtype::F32, Some(layout)),
        };
        Entry {
            name: tensor.name().into(),
            dtype,
            contiguous: packed.is_none(),
            len: tensor.numbers(),
            dims: shape.iter().copied().chain((0..shape.len()).map(stride)).collect(),
            data: tensor.bytes(),
            at: tensor.offset(),
            packed,
        }
    }

    /// The name, as in PyTorch's state_dict: `"layer1.0.conv1.weight"`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of the elements in the file.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The shape; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.dims[..self.dims.len() / 2]
    }

    /// The distance in elements between neighbours, for each dimension; of a weight in the kernels'
    /// order (a native file's) what it is once it was read.
    pub fn strides(&self) -> &[usize] {
        &self.dims[self.dims.len() / 2..]
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the first element lies in the file, in bytes.
    pub fn offset(&self) -> u64 {
        self.at as u64
    }

    pub(crate) fn rename(&mut self, name: Box<str>) {
        self.name = name;
    }

    pub(crate) fn bytes(&self) -> &'f [u8] {
        self.data
    }

    /// Reads the elements in row-major order as `f32` into `out`, whatever their type in the file.
    ///
    /// `out` is cleared first and keeps its capacity. Conversions round to the nearest `f32`, as
    /// PyTorch's `.float()` does; NaN and infinity are kept.
    ///
    /// # Errors
    /// When the system has no memory for `len` floats.
    pub fn read_f32(&self, out: &mut Vec<f32>) -> Result<(), ReadError> {
        match self.dtype {
            Dtype::F64 => self.gather(out, |b| f64::from_le_bytes(b) as f32),
            Dtype::F32 => self.gather(out, f32::from_le_bytes),
            Dtype::F16 => self.gather(out, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => self.gather(out, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::I64 => self.gather(out, |b| i64::from_le_bytes(b) as f32),
            Dtype::I32 => self.gather(out, |b| i32::from_le_bytes(b) as f32),
            Dtype::I16 => self.gather(out, |b| i16::from_le_bytes(b).into()),
            Dtype::I8 => self.gather(out, |b| i8::from_le_bytes(b).into()),
            Dtype::U8 => self.gather(out, |[b]| b.into()),
            Dtype::Bool => self.gather(out, |[b]| u8::from(b != 0).into()),
        }
    }

    /// The elements in place, without a copy: for contiguous `F32` whose address is a multiple of
    /// four, on a little-endian machine. Otherwise `None`, and [`read_f32`](Self::read_f32) serves.
    pub fn as_f32(&self) -> Option<&'f [f32]> {
        if self.dtype != Dtype::F32 || !self.contiguous || cfg!(target_endian = "big") {
            return None;
        }
        bytemuck::try_cast_slice(self.data).ok()
    }

    /// Reads the elements in row-major order as integers.
    ///
    /// # Errors
    /// When the file holds floating point, even if all of it is whole numbers: a counter that was
    /// saved as float has lost its meaning somewhere. When there is no memory.
    pub fn read_i64(&self) -> Result<Vec<i64>, ReadError> {
        let mut out = Vec::new();
        match self.dtype {
            Dtype::I64 => self.gather(&mut out, i64::from_le_bytes)?,
            Dtype::I32 => self.gather(&mut out, |b| i32::from_le_bytes(b).into())?,
            Dtype::I16 => self.gather(&mut out, |b| i16::from_le_bytes(b).into())?,
            Dtype::I8 => self.gather(&mut out, |b| i8::from_le_bytes(b).into())?,
            Dtype::U8 => self.gather(&mut out, |[b]| b.into())?,
            Dtype::Bool => self.gather(&mut out, |[b]| (b != 0).into())?,
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
                return Err(ReadError::new(ReadErrorKind::Tensor, format!("holds {} where integers are due", self.dtype.name()))
                    .entry(&self.name)
                    .at(self.at)
                    .next("save it as torch.int64"));
            }
        }
        Ok(out)
    }

    /// All elements in row-major order, each from its `N` bytes.
    fn gather<T, const N: usize>(&self, out: &mut Vec<T>, decode: impl Fn([u8; N]) -> T) -> Result<(), ReadError> {
        out.clear();
        out.try_reserve_exact(self.len).map_err(|_| no_memory(self.len, size_of::<T>()).entry(&self.name))?;
        let (elements, _) = self.data.as_chunks::<N>();
        if let Some(layout) = self.packed {
            out.extend((0..self.len).filter_map(|i| elements.get(layout.index_of(i))).map(|&b| decode(b)));
            return Ok(());
        }
        if self.contiguous {
            out.extend(elements.iter().map(|&b| decode(b)));
            return Ok(());
        }
        // An odometer over all dimensions; the last runs fastest. Wrapping, because the stride of a
        // dimension of 1 may be any number; it is added and taken away again at once.
        let (shape, strides) = (self.shape(), self.strides());
        let mut index = [0usize; MAX_RANK];
        let mut place = 0usize;
        for _ in 0..self.len {
            out.extend(elements.get(place).map(|&b| decode(b)));
            for d in (0..shape.len()).rev() {
                index[d] += 1;
                place = place.wrapping_add(strides[d]);
                if index[d] < shape[d] {
                    break;
                }
                place = place.wrapping_sub(strides[d].wrapping_mul(shape[d]));
                index[d] = 0;
            }
        }
        Ok(())
    }
}
