//! The tensors of a `.safetensors` in memory, without a heap.

use super::HEADER_MAX;
use super::error::{DtypeName, FormatError, What};
use super::json::{JsonStr, Scanner};
use crate::files::dtype::Dtype;
use crate::name::Name;

/// The tensors of a file, borrowed from its bytes.
#[derive(Clone, Copy)]
pub struct Safetensors<'f> {
    header: &'f str,
    data: &'f [u8],
}

/// A tensor of a file.
#[derive(Clone, Copy)]
pub struct TensorRef<'f> {
    pub(crate) name: JsonStr<'f>,
    pub(crate) dtype: Dtype,
    shape: [usize; 8],
    rank: usize,
    /// Where its data begin, behind the header.
    pub(crate) begin: usize,
    bytes: &'f [u8],
}

impl<'f> TensorRef<'f> {
    /// Whether it has this name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.is(name)
    }
    /// The type of its elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }
    /// Its sizes.
    pub fn shape(&self) -> &[usize] {
        &self.shape[..self.rank]
    }
    /// Its numbers, little-endian, in PyTorch's order.
    pub fn bytes(&self) -> &'f [u8] {
        self.bytes
    }
}

/// What stands in a header.
pub(super) enum Item<'f> {
    Tensor(TensorRef<'f>),
    /// A pair of the metadata, and the byte of the file where it stands.
    #[cfg_attr(not(feature = "std"), allow(dead_code, reason = "metadata is read into memory that only a heap has"))]
    Pair(JsonStr<'f>, JsonStr<'f>, usize),
}

impl<'f> Safetensors<'f> {
    /// Checks a whole file's bytes: the header's form, types that are known, data as long as shapes
    /// say, which fill the file without hole or overlap. Takes time in proportion to the header,
    /// whatever its order. Whether a name comes twice is left to whoever looks for names.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(bytes: &'f [u8]) -> Result<Self, FormatError> {
        let fail = |at, what| Err(FormatError::new(at, what));
        let Some((len, rest)) = bytes.split_first_chunk::<8>() else { return fail(0, What::Short(bytes.len())) };
        let (len, room) = (u64::from_le_bytes(*len), rest.len() as u64);
        if !(2..=HEADER_MAX).contains(&len) {
            return fail(0, What::HeaderLength(len));
        }
        if len > room {
            return fail(0, What::HeaderCut { len, room });
        }
        let (header, data) = rest.split_at(len as usize);
        if header[0] != b'{' {
            return fail(8, What::Begins(header[0]));
        }
        let header = match core::str::from_utf8(header) {
            Ok(header) => header,
            Err(e) => return fail(8 + e.valid_up_to(), What::Text("the header is not UTF-8")),
        };
        let file = Safetensors { header, data };
        file.check_fill()?;
        Ok(file)
    }

    /// Where the data begin in the file.
    pub(super) fn data_at(&self) -> usize {
        8 + self.header.len()
    }

    /// Calls `each` with every tensor, in the header's order.
    ///
    /// # Errors
    /// The first that `each` gives.
    pub fn each<E: From<FormatError>>(&self, mut each: impl FnMut(TensorRef<'f>) -> Result<(), E>) -> Result<(), E> {
        self.items(|item| match item {
            Item::Tensor(tensor) => each(tensor),
            Item::Pair(..) => Ok(()),
        })
    }

    /// Calls `each` with every tensor and every pair of the metadata, in the header's order.
    pub(super) fn items<E: From<FormatError>>(&self, mut each: impl FnMut(Item<'f>) -> Result<(), E>) -> Result<(), E> {
        let mut scan = Scanner::new(self.header);
        let mut metadata = false;
        scan.expect(b'{', "the header does not begin with a brace")?;
        let mut more = !scan.accept(b'}');
        while more {
            let before = scan.clone();
            let name = scan.string()?;
            scan.expect(b':', "the header lacks a colon here")?;
            if name.is("__metadata__") {
                if metadata {
                    return Ok(before.fail("__metadata__ appears twice")?);
                }
                metadata = true;
                pairs(&mut scan, &mut each)?;
            } else {
                let tensor = self.tensor(&mut scan, name).map_err(|e| e.of(name))?;
                each(Item::Tensor(tensor))?;
            }
            more = scan.more(b'}')?;
        }
        Ok(scan.end()?)
    }

    /// `{"dtype": …, "shape": […], "data_offsets": [begin, end]}`, the three in any order.
    fn tensor(&self, scan: &mut Scanner<'f>, name: JsonStr<'f>) -> Result<TensorRef<'f>, FormatError> {
        let start = scan.clone();
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        scan.expect(b'{', "a tensor lacks its brace")?;
        let mut more = !scan.accept(b'}');
        while more {
            let before = scan.clone();
            let field = scan.string()?;
            scan.expect(b':', "the header lacks a colon here")?;
            let (field, again) = if field.is("dtype") {
                ("dtype", dtype.replace(scan.string()?).is_some())
            } else if field.is("shape") {
                ("shape", shape.replace(scan.sizes::<8>()?).is_some())
            } else if field.is("data_offsets") {
                ("data_offsets", offsets.replace(scan.sizes::<2>()?).is_some())
            } else {
                return before.fail_with(What::UnknownField(Name::of(field)));
            };
            if again {
                return before.fail_with(What::FieldTwice(field));
            }
            more = scan.more(b'}')?;
        }
        let (Some(dtype), Some((shape, rank)), Some(([begin, end], 2))) = (dtype, shape, offsets) else {
            return start.fail("a tensor needs dtype, shape and data_offsets [begin, end]");
        };
        let known = Dtype::READ.into_iter().chain(Dtype::UNREAD).find(|known| dtype.is(known.name()));
        let Some(dtype) = known else {
            return start.fail_with(What::UnknownType(Name::of(dtype)));
        };
        let Some(bytes) = self.data.get(begin..end) else {
            let offsets = [begin, end];
            return start.fail_with(if begin > end { What::Backwards(offsets) } else { What::Past { offsets, data: self.data.len() } });
        };
        let elements = shape[..rank].iter().try_fold(1, |n: usize, &d| n.checked_mul(d));
        if elements.and_then(|n| dtype.bytes(n)) != Some(bytes.len()) {
            let short = shape.map(|d| u32::try_from(d).unwrap_or(u32::MAX));
            return start.fail_with(What::Length { bytes: bytes.len(), shape: short, rank: rank as u8, dtype: DtypeName::of(dtype) });
        }
        Ok(TensorRef { name, dtype, shape, rank, begin, bytes })
    }

    /// Whether the tensors fill the data, by one walk over the header.
    ///
    /// Where the header is in the order of the data, each tensor begins where the one before it ends.
    /// In another order the set of all beginnings and the data's end must be the set of all ends and 0:
    /// then a chain of tensors leads from 0 to the end, and no tensor lies outside it. The two sets are
    /// compared by a sum over mixed numbers, so that no memory is needed. Who builds two sets of one
    /// sum gets a file whose tensors share bytes, as they may in a `.pth`.
    fn check_fill(&self) -> Result<(), FormatError> {
        let (mut at, mut first_out_of_place) = (0, None);
        let mut difference = mixed(self.data.len()).wrapping_sub(mixed(0));
        self.each(|tensor| {
            let (begin, end) = (tensor.begin, tensor.begin + tensor.bytes.len());
            if begin != at {
                let place = FormatError::new(self.data_at() + begin, What::OutOfPlace { begin, end: at });
                first_out_of_place.get_or_insert((place, tensor.name));
            }
            difference = difference.wrapping_add(mixed(begin)).wrapping_sub(mixed(end));
            at = end;
            Ok::<_, FormatError>(())
        })?;
        match first_out_of_place {
            None if at == self.data.len() => Ok(()),
            None => Err(FormatError::new(self.data_at() + at, What::After(self.data.len() - at))),
            Some(_) if difference == 0 => Ok(()),
            Some((error, name)) => Err(error.of(name)),
        }
    }
}

/// A number of which sums tell sets of places apart: two rounds of a mixing function.
fn mixed(place: usize) -> u128 {
    let mix = |start: u64, factor: u64| {
        let mut x = (place as u64).wrapping_add(start);
        for shift in [30, 27, 31] {
            x = (x ^ (x >> shift)).wrapping_mul(factor);
        }
        x ^ (x >> 29)
    };
    u128::from(mix(0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9)) << 64 | u128::from(mix(0x2545_f491_4f6c_dd1d, 0x94d0_49bb_1331_11eb))
}

/// Calls `each` with every pair of an object of strings.
pub(super) fn pairs<'f, E: From<FormatError>>(scan: &mut Scanner<'f>, each: &mut impl FnMut(Item<'f>) -> Result<(), E>) -> Result<(), E> {
    scan.expect(b'{', "__metadata__ lacks its brace")?;
    let mut more = !scan.accept(b'}');
    while more {
        let at = scan.place();
        let key = scan.string()?;
        scan.expect(b':', "the header lacks a colon here")?;
        each(Item::Pair(key, scan.string()?, at))?;
        more = scan.more(b'}')?;
    }
    Ok(())
}
