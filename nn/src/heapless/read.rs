//! The tensors of a `.safetensors` in memory.

use super::FileError;
use super::json::{JsonStr, Scanner};

/// Longest header: ResNet34's has some 25 000 bytes. It bounds the time that a file can take, since
/// a header in another order than its data is walked once for each tensor.
const HEADER_MAX: usize = 1 << 18;

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
    dtype: JsonStr<'f>,
    shape: [usize; 8],
    rank: usize,
    begin: usize,
    bytes: &'f [u8],
}

impl<'f> TensorRef<'f> {
    /// Whether it has this name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.is(name)
    }
    /// Whether it has this type, as the format writes it: `F32`, `I64`, …
    pub fn is_of(&self, dtype: &str) -> bool {
        self.dtype.is(dtype)
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

impl<'f> Safetensors<'f> {
    /// Checks a whole file's bytes: the header's form, types that are known, data as long as shapes
    /// say, which fill the file without hole or overlap. Whether a name comes twice is left to
    /// whoever looks for names.
    ///
    /// # Errors
    /// [`FileError::Format`].
    pub fn parse(bytes: &'f [u8]) -> Result<Self, FileError> {
        let bad = |at, what| Err(FileError::Format { at, what });
        let Some((len, rest)) = bytes.split_first_chunk::<8>() else { return bad(0, "fewer than 8 bytes") };
        let len = u64::from_le_bytes(*len);
        if len > HEADER_MAX as u64 {
            return bad(0, "a header longer than 262144 bytes");
        }
        let Some((header, data)) = rest.split_at_checked(len as usize) else { return bad(0, "the file ends within its header") };
        let Ok(header) = core::str::from_utf8(header) else { return bad(8, "the header is not UTF-8") };
        if !header.starts_with('{') {
            return bad(8, "the header does not begin with a brace");
        }
        let file = Safetensors { header, data };
        file.check()?;
        Ok(file)
    }

    /// Calls `each` with every tensor, in the header's order.
    ///
    /// # Errors
    /// The first that `each` gives.
    pub fn each(&self, mut each: impl FnMut(TensorRef<'f>) -> Result<(), FileError>) -> Result<(), FileError> {
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
                    return before.fail("__metadata__ appears twice");
                }
                metadata = true;
                pass_over_metadata(&mut scan)?;
            } else {
                each(self.tensor(&mut scan, name)?)?;
            }
            more = scan.more(b'}')?;
        }
        scan.end()
    }

    /// `{"dtype": …, "shape": […], "data_offsets": [begin, end]}`, the three in any order.
    fn tensor(&self, scan: &mut Scanner<'f>, name: JsonStr<'f>) -> Result<TensorRef<'f>, FileError> {
        let start = scan.clone();
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        scan.expect(b'{', "a tensor lacks its brace")?;
        let mut more = !scan.accept(b'}');
        while more {
            let field = scan.string()?;
            scan.expect(b':', "the header lacks a colon here")?;
            let again = if field.is("dtype") {
                dtype.replace(scan.string()?).is_some()
            } else if field.is("shape") {
                shape.replace(scan.sizes::<8>()?).is_some()
            } else if field.is("data_offsets") {
                offsets.replace(scan.sizes::<2>()?).is_some()
            } else {
                return scan.fail("an unknown field of a tensor");
            };
            if again {
                return scan.fail("a field of a tensor appears twice");
            }
            more = scan.more(b'}')?;
        }
        let (Some(dtype), Some((shape, rank)), Some(([begin, end], 2))) = (dtype, shape, offsets) else {
            return start.fail("a tensor needs dtype, shape and data_offsets");
        };
        let Some(bytes) = self.data.get(begin..end) else {
            return start.fail("data_offsets run backwards or past the end of the file");
        };
        let sizes =
            [("F64", 8), ("I64", 8), ("F32", 4), ("I32", 4), ("F16", 2), ("BF16", 2), ("I16", 2), ("I8", 1), ("U8", 1), ("BOOL", 1)];
        let Some((_, size)) = sizes.into_iter().find(|(name, _)| dtype.is(name)) else {
            return start.fail("a tensor of an unknown dtype");
        };
        if shape[..rank].iter().try_fold(size, |n: usize, &d| n.checked_mul(d)) != Some(bytes.len()) {
            return start.fail("a tensor's shape and data differ in length");
        }
        Ok(TensorRef { name, dtype, shape, rank, begin, bytes })
    }

    /// Walks everything once, and more often only where the data lie in another order.
    fn check(&self) -> Result<(), FileError> {
        let (mut at, mut in_order, mut count) = (0, true, 0_usize);
        self.each(|tensor| {
            in_order &= tensor.begin == at;
            at = tensor.begin + tensor.bytes.len();
            count += 1;
            Ok(())
        })?;
        if !in_order {
            at = 0;
            // Every round finds the tensor that begins where the last one ended.
            for _ in 0..count {
                let mut next = None;
                self.each(|tensor| {
                    if tensor.begin == at && !tensor.bytes.is_empty() {
                        next = Some(at + tensor.bytes.len());
                    }
                    Ok(())
                })?;
                match next {
                    Some(end) => at = end,
                    None => break,
                }
            }
            // Without hole or overlap the lengths add up.
            let mut sum = 0_usize;
            self.each(|tensor| {
                sum = sum.saturating_add(tensor.bytes.len());
                Ok(())
            })?;
            if sum != at {
                return Err(FileError::Format { at: 8 + self.header.len() + at, what: "tensors overlap, or leave a hole here" });
            }
        }
        if at != self.data.len() {
            return Err(FileError::Format { at: 8 + self.header.len() + at, what: "bytes that belong to no tensor" });
        }
        Ok(())
    }
}

fn pass_over_metadata(scan: &mut Scanner) -> Result<(), FileError> {
    scan.expect(b'{', "__metadata__ lacks its brace")?;
    let mut more = !scan.accept(b'}');
    while more {
        scan.string()?;
        scan.expect(b':', "the header lacks a colon here")?;
        scan.string()?;
        more = scan.more(b'}')?;
    }
    Ok(())
}
