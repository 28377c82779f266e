//! One tensor of a checkpoint: a name, a shape, and a view of the file's bytes.

#![forbid(unsafe_code)]

use super::budget::{Budget, no_memory};
use super::dtype::Dtype;
use super::error::{ReadError, ReadErrorKind};
use super::native::{Layout as Lies, Tensor};
use super::pth::Payload;
use half::{bf16, f16};
use nunatak_kernels::WeightLayout;

/// Most dimensions that a tensor may have.
pub(crate) const MAX_RANK: usize = 8;

/// A named tensor in a checkpoint's bytes.
#[derive(Debug, Clone)]
pub struct Entry<'f> {
    name: Box<str>,
    /// The name in the file, where it is another.
    in_file: Option<Box<str>>,
    dtype: Dtype,
    contiguous: bool,
    len: usize,
    /// The shape, then the strides in elements.
    dims: Box<[usize]>,
    storage: Payload<'f>,
    /// From the first to the last element in `storage`; longer than the elements where strides leave gaps.
    range: (usize, usize),
    at: usize,
    unread: Option<Unread>,
    /// Of a weight in the kernels' order.
    packed: Option<WeightLayout>,
}

/// Why an entry's numbers are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    /// Of the type.
    Type,
    /// Strides make more elements than the storage has.
    Repeats,
    /// Its numbers are to be negated or conjugated.
    Marked,
}

/// What the file says of a tensor, before anything of it is believed.
pub(crate) struct Layout<'f, 'a> {
    pub(crate) dtype: Dtype,
    pub(crate) shape: &'a [usize],
    pub(crate) strides: &'a [usize],
    /// Where the view begins in `storage`, in elements.
    pub(crate) offset: usize,
    pub(crate) storage: Payload<'f>,
    /// Where `storage` begins in the file.
    pub(crate) at: usize,
}

impl<'f> Layout<'f, '_> {
    /// Checks that every element lies in the storage; gives the count and the range of bytes.
    pub(crate) fn check(&self) -> Result<(usize, (usize, usize)), ReadError> {
        let tensor = |what: String| ReadError::new(ReadErrorKind::Tensor, what);
        let (shape, size) = (self.shape, self.dtype.size());
        let overflow = || tensor(format!("shape {shape:?} with strides {:?} overflows", self.strides));
        let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| n.checked_mul(16).is_some());
        let Some(len) = len.or(shape.contains(&0).then_some(0)) else {
            return Err(overflow());
        };
        if len == 0 {
            return Ok((0, (0, 0)));
        }
        if self.dtype.bits() < 8 {
            return Ok((len, (0, self.storage.len())));
        }
        let room = self.storage.len() / size;
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
        Ok((len, (self.offset * size, (last + 1) * size)))
    }

    /// A counted, checked entry.
    pub(crate) fn entry(self, name: &str, budget: &mut Budget) -> Result<Entry<'f>, ReadError> {
        let (len, range) = self.check().map_err(|e| e.entry(name).at(self.at))?;
        let dims: Box<[usize]> = self.shape.iter().chain(self.strides).copied().collect();
        budget.take(name.len() + dims.len() * size_of::<usize>())?;
        let mut dense = 1;
        let mut contiguous = true;
        for (&d, &stride) in self.shape.iter().zip(self.strides).rev() {
            contiguous &= d == 1 || stride == dense;
            dense = dense.saturating_mul(d);
        }
        let unread = if !self.dtype.is_read() {
            Some(Unread::Type)
        } else {
            (len > self.storage.len() / self.dtype.size()).then_some(Unread::Repeats)
        };
        Ok(Entry {
            name: name.into(),
            in_file: None,
            dtype: self.dtype,
            contiguous: contiguous || len == 0,
            len,
            dims,
            storage: self.storage,
            range,
            at: self.at + range.0,
            unread,
            packed: None,
        })
    }
}

impl<'f> Entry<'f> {
    /// A tensor of a native file, which was checked there.
    pub(crate) fn native(tensor: &Tensor<'f>) -> Entry<'f> {
        let shape = tensor.shape();
        let stride = |d: usize| shape[d + 1..].iter().product::<usize>();
        let (dtype, packed) = match tensor.layout() {
            Lies::Count => (Dtype::I64, None),
            Lies::Words => (Dtype::I32, None),
            Lies::Plain => (Dtype::F32, None),
            Lies::Blocks(layout) => (Dtype::F32, Some(layout)),
        };
        Entry {
            name: tensor.name().into(),
            in_file: None,
            dtype,
            contiguous: packed.is_none(),
            len: tensor.numbers(),
            dims: shape.iter().copied().chain((0..shape.len()).map(stride)).collect(),
            storage: Payload::Plain(tensor.bytes()),
            range: (0, tensor.bytes().len()),
            at: tensor.offset(),
            unread: None,
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

    /// Whether its numbers are read: not those of [`Dtype::Other`], of a tensor that repeats its
    /// elements, or of one that is a negated or conjugated view.
    pub fn is_read(&self) -> bool {
        self.unread.is_none()
    }

    /// The name in the file, where names were translated or a prefix was removed.
    pub fn name_in_file(&self) -> &str {
        self.in_file.as_deref().unwrap_or(&self.name)
    }

    /// Gives it another name than the file does.
    pub(crate) fn rename(&mut self, name: Box<str>) {
        if name != self.name {
            let old = std::mem::replace(&mut self.name, name);
            self.in_file.get_or_insert(old);
        }
    }

    /// Whether two entries are one view of the same bytes.
    pub(crate) fn is_same_view(&self, other: &Entry<'_>) -> bool {
        (self.dtype, self.at, self.range, &self.dims) == (other.dtype, other.at, other.range, &other.dims)
    }

    pub(crate) fn marked(mut self) -> Self {
        self.unread = Some(Unread::Marked);
        self
    }

    /// Unpacks what is packed, so that reading can't fail for the file's sake.
    pub(crate) fn prepare(&self) -> Result<(), ReadError> {
        self.bytes().map(drop)
    }

    fn bytes(&self) -> Result<&[u8], ReadError> {
        let fail = |what: String, next| Err(ReadError::new(ReadErrorKind::Unsupported, what).entry(&self.name).at(self.at).next(next));
        match self.unread {
            None => Ok(self.storage.get()?.get(self.range.0..self.range.1).unwrap_or_default()),
            Some(Unread::Type) => fail(
                format!("holds {}, which this reader does not convert", self.dtype.name()),
                "convert it (for example with .float()) and save it again",
            ),
            Some(Unread::Repeats) => fail(
                format!("shape {:?} with strides {:?} repeats elements: {} of them", self.shape(), self.strides(), self.len),
                "call .contiguous() before saving",
            ),
            Some(Unread::Marked) => fail("is a negated or conjugated view".into(), "call .resolve_neg() and .resolve_conj() before saving"),
        }
    }

    /// Reads the elements in row-major order as `f32` into `out`, whatever their type in the file.
    ///
    /// `out` is cleared first and keeps its capacity. Conversions round to the nearest `f32`, as
    /// PyTorch's `.float()` does; NaN and infinity are kept.
    ///
    /// # Errors
    /// When its numbers are not read ([`Entry::is_read`]); when it was packed and its bytes are damaged;
    /// when the system has no memory for `len` floats.
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
            Dtype::U64 => self.gather(out, |b| u64::from_le_bytes(b) as f32),
            Dtype::U32 => self.gather(out, |b| u32::from_le_bytes(b) as f32),
            Dtype::U16 => self.gather(out, |b| u16::from_le_bytes(b).into()),
            Dtype::U8 => self.gather(out, |[b]| b.into()),
            Dtype::Bool => self.gather(out, |[b]| u8::from(b != 0).into()),
            Dtype::Other { .. } => self.prepare(),
        }
    }

    /// The elements in place, without a copy: for contiguous `F32` whose address is a multiple of
    /// four, on a little-endian machine, and not packed (or unpacked before). Otherwise `None`, and
    /// [`read_f32`](Self::read_f32) serves.
    pub fn as_f32(&self) -> Option<&[f32]> {
        if self.dtype != Dtype::F32 || !self.contiguous || self.unread.is_some() || self.packed.is_some() || cfg!(target_endian = "big") {
            return None;
        }
        bytemuck::try_cast_slice(self.storage.ready()?.get(self.range.0..self.range.1)?).ok()
    }

    /// Reads the elements in row-major order as integers.
    ///
    /// # Errors
    /// When the file holds floating point, even if all of it is whole numbers (for a counter there is
    /// [`read_count`](Self::read_count)); when a number is above 2⁶³ − 1; else as for
    /// [`read_f32`](Self::read_f32).
    pub fn read_i64(&self) -> Result<Vec<i64>, ReadError> {
        let mut out = Vec::new();
        match self.dtype {
            Dtype::I64 => self.gather(&mut out, i64::from_le_bytes)?,
            Dtype::I32 => self.gather(&mut out, |b| i32::from_le_bytes(b).into())?,
            Dtype::I16 => self.gather(&mut out, |b| i16::from_le_bytes(b).into())?,
            Dtype::I8 => self.gather(&mut out, |b| i8::from_le_bytes(b).into())?,
            Dtype::U64 => {
                self.gather(&mut out, |b| i64::try_from(u64::from_le_bytes(b)).unwrap_or(-1))?;
                if out.contains(&-1) {
                    return Err(ReadError::new(ReadErrorKind::Tensor, "holds a number above 9223372036854775807")
                        .entry(&self.name)
                        .at(self.at));
                }
            }
            Dtype::U32 => self.gather(&mut out, |b| u32::from_le_bytes(b).into())?,
            Dtype::U16 => self.gather(&mut out, |b| u16::from_le_bytes(b).into())?,
            Dtype::U8 => self.gather(&mut out, |[b]| b.into())?,
            Dtype::Bool => self.gather(&mut out, |[b]| (b != 0).into())?,
            Dtype::Other { .. } => self.prepare()?,
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
                return Err(ReadError::new(ReadErrorKind::Tensor, format!("holds {} where integers are due", self.dtype.name()))
                    .entry(&self.name)
                    .at(self.at)
                    .next("save it as torch.int64"));
            }
        }
        Ok(out)
    }

    /// Reads words that are no floating-point numbers, such as a layer's of 8 bits.
    ///
    /// # Errors
    /// When the file holds another type than 32-bit integers; else as for [`read_f32`](Self::read_f32).
    pub fn read_words(&self) -> Result<Vec<i32>, ReadError> {
        let mut out = Vec::new();
        match self.dtype {
            Dtype::I32 => self.gather(&mut out, i32::from_le_bytes)?,
            other => {
                let what = format!("holds {} where words of 32 bits are due", other.name());
                return Err(ReadError::new(ReadErrorKind::Tensor, what)
                    .entry(&self.name)
                    .at(self.at)
                    .next("keep the file as it was saved"));
            }
        }
        Ok(out)
    }

    /// Reads a counter (batchnorm's `num_batches_tracked`): one number of any type, which becomes an
    /// integer as PyTorch makes it one, without what follows the point.
    ///
    /// # Errors
    /// When there is not just one number, or it does not fit; else as for [`read_f32`](Self::read_f32).
    pub fn read_count(&self) -> Result<i64, ReadError> {
        let wrong = |what: String| Err(ReadError::new(ReadErrorKind::Tensor, what).entry(&self.name).at(self.at));
        if self.len != 1 {
            return wrong(format!("holds {} numbers where one count is due", self.len));
        }
        if !self.dtype.is_float() {
            return Ok(self.read_i64()?.first().copied().unwrap_or(0));
        }
        let number = match self.dtype {
            Dtype::F64 => {
                let mut wide = Vec::new();
                self.gather(&mut wide, f64::from_le_bytes)?;
                wide.first().copied()
            }
            _ => {
                let mut out = Vec::new();
                self.read_f32(&mut out)?;
                out.first().map(|v| f64::from(*v))
            }
        };
        match number {
            // 2⁶³ is the first that does not fit.
            Some(n) if n.abs() < 9_223_372_036_854_775_808.0 => Ok(n as i64),
            Some(n) => wrong(format!("holds {n} where a count is due")),
            None => Ok(0),
        }
    }

    /// All elements in row-major order, each from its `N` bytes.
    fn gather<T, const N: usize>(&self, out: &mut Vec<T>, decode: impl Fn([u8; N]) -> T) -> Result<(), ReadError> {
        out.clear();
        let (elements, _) = self.bytes()?.as_chunks::<N>();
        out.try_reserve_exact(self.len).map_err(|_| no_memory(self.len, size_of::<T>()).entry(&self.name))?;
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
