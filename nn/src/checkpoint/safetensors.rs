//! `.safetensors`: eight bytes of length, a JSON header, the data.
//!
//! ```text
//! u64 n | {"name": {"dtype": "F32", "shape": [64, 3], "data_offsets": [0, 768]}, …} | data
//! ```
//! The header has a fixed depth, so its reader is a scanner without recursion; what other JSON there
//! may be is an error. The tensors must fill the data without hole or overlap, and no name may come
//! twice, as the format's own description asks (<https://github.com/huggingface/safetensors>).

#![forbid(unsafe_code)]

use super::budget::Budget;
use super::bytes::u64_at;
use super::entry::{Dtype, Entry, Layout, MAX_RANK};
use super::error::{ReadError, ReadErrorKind, quote};
use super::json::Scanner;
use std::collections::BTreeMap;

/// The format's own limit.
const HEADER_MAX: u64 = 100_000_000;
/// What a pair in the metadata costs beside its bytes: a share of a tree's node, two strings.
const PAIR_COST: usize = 160;

pub(crate) type Parsed<'f> = (Vec<Entry<'f>>, BTreeMap<String, String>);

pub(crate) fn parse<'f>(bytes: &'f [u8], budget: &mut Budget) -> Result<Parsed<'f>, ReadError> {
    let (header, base) = header(bytes)?;
    let mut scan = Scanner::new(header, 8);
    let mut entries = Vec::new();
    let mut metadata = None;
    scan.expect(b'{')?;
    let mut more = !scan.accept(b'}');
    while more {
        let at = scan.place();
        let name = scan.string(budget)?;
        scan.expect(b':')?;
        if name == "__metadata__" {
            if metadata.is_some() {
                return Err(scan.fail("__metadata__ appears twice").at(at));
            }
            metadata = Some(read_metadata(&mut scan, budget)?);
        } else {
            let entry =
                tensor(&mut scan, &name, bytes, base, budget).map_err(|e| if e.entry_name().is_none() { e.entry(&name) } else { e })?;
            budget.push(&mut entries, entry)?;
        }
        more = scan.comma_or(b'}')?;
    }
    scan.end()?;
    fill(&mut entries, base, bytes.len())?;
    Ok((entries, metadata.unwrap_or_default()))
}

/// The header's text and the place where the data begins.
fn header(bytes: &[u8]) -> Result<(&str, usize), ReadError> {
    let Some(len) = u64_at(bytes, 0) else {
        return Err(truncated(format!("the file has {} bytes, the header's length alone takes 8", bytes.len())));
    };
    let room = bytes.len() as u64 - 8;
    if !(2..=HEADER_MAX).contains(&len) {
        return Err(bad(format!("the header is said to be {len} bytes long, expected 2 to {HEADER_MAX}")).at(0));
    }
    if len > room {
        return Err(truncated(format!("the header is said to be {len} bytes long, {room} follow")));
    }
    let base = 8 + len as usize;
    let raw = &bytes[8..base];
    if raw.first() != Some(&b'{') {
        let what = if raw.starts_with(b"\xef\xbb\xbf") { "a byte order mark".into() } else { format!("{:#04x}", raw[0]) };
        return Err(bad(format!("the header begins with {what}, expected '{{'")).at(8));
    }
    match std::str::from_utf8(raw) {
        Ok(text) => Ok((text, base)),
        Err(e) => Err(bad("the header is not UTF-8").at(8 + e.valid_up_to())),
    }
}

fn bad(what: impl Into<String>) -> ReadError {
    ReadError::new(ReadErrorKind::Safetensors, what)
}

fn truncated(what: String) -> ReadError {
    ReadError::new(ReadErrorKind::Truncated, what).at(0).next("download or save the file again")
}

fn read_metadata(scan: &mut Scanner<'_>, budget: &mut Budget) -> Result<BTreeMap<String, String>, ReadError> {
    let mut map = BTreeMap::new();
    scan.expect(b'{')?;
    let mut more = !scan.accept(b'}');
    while more {
        let at = scan.place();
        let key = scan.string(budget)?;
        scan.expect(b':')?;
        let value = scan.string(budget)?;
        budget.take(PAIR_COST + key.len() + value.len())?;
        if let Some(old) = map.insert(key.into_owned(), value.into_owned()) {
            return Err(bad(format!("a key of __metadata__ appears twice; its first value is {}", quote(&old))).at(at));
        }
        more = scan.comma_or(b'}')?;
    }
    Ok(map)
}

/// `{"dtype": …, "shape": […], "data_offsets": [begin, end]}`, the three in any order.
fn tensor<'f>(scan: &mut Scanner<'_>, name: &str, bytes: &'f [u8], base: usize, budget: &mut Budget) -> Result<Entry<'f>, ReadError> {
    let at = scan.place();
    let (mut dtype, mut shape, mut offsets) = (None, None, None);
    scan.expect(b'{')?;
    let mut more = !scan.accept(b'}');
    while more {
        let field_at = scan.place();
        let field = scan.string(budget)?;
        scan.expect(b':')?;
        let again = match field.as_ref() {
            "dtype" => {
                let text = scan.string(budget)?;
                dtype.replace(read_dtype(&text).map_err(|e| e.at(field_at))?).is_some()
            }
            "shape" => shape.replace(scan.numbers::<MAX_RANK>("a shape")?).is_some(),
            "data_offsets" => offsets.replace(scan.numbers::<2>("data_offsets")?).is_some(),
            other => return Err(bad(format!("unknown field {}", quote(other))).at(field_at)),
        };
        if again {
            return Err(bad(format!("the field {} appears twice", quote(&field))).at(field_at));
        }
        more = scan.comma_or(b'}')?;
    }
    let (Some(dtype), Some((shape, rank)), Some(([begin, end], 2))) = (dtype, shape, offsets) else {
        return Err(bad("a tensor needs dtype, shape and data_offsets [begin, end]").at(at));
    };
    let data = bytes.get(base..).unwrap_or_default();
    let Some(storage) = data.get(begin..end) else {
        let why = if begin > end {
            format!("data_offsets [{begin}, {end}] run backwards")
        } else {
            format!("data_offsets [{begin}, {end}] reach past the {} bytes of data", data.len())
        };
        let kind = if begin > end { ReadErrorKind::Safetensors } else { ReadErrorKind::Truncated };
        return Err(ReadError::new(kind, why).at(at).next("download or save the file again"));
    };
    let shape = &shape[..rank];
    let len = shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d));
    if len != Some(storage.len()) {
        return Err(ReadError::new(
            ReadErrorKind::Tensor,
            format!(
                "{} bytes of data for shape {shape:?} of {}, which needs {}",
                storage.len(),
                dtype.name(),
                len.map_or("more than there can be".to_string(), |n| n.to_string())
            ),
        )
        .at(at));
    }
    let mut strides = [1; MAX_RANK];
    for d in (1..rank).rev() {
        strides[d - 1] = shape[d].saturating_mul(strides[d]);
    }
    Layout { dtype, shape, strides: &strides[..rank], offset: 0, storage, at: base + begin }.entry(name, budget)
}

fn read_dtype(text: &str) -> Result<Dtype, ReadError> {
    use Dtype::{BF16, Bool, F16, F32, F64, I8, I16, I32, I64, U8};
    let known = [F64, F32, F16, BF16, I64, I32, I16, I8, U8, Bool];
    known.into_iter().find(|d| d.name() == text).ok_or_else(|| {
        ReadError::new(ReadErrorKind::Unsupported, format!("the dtype {}", quote(text)))
            .next("this reader takes F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL; convert the tensor before saving")
    })
}

/// Brings the entries into file order and checks that they fill the data exactly.
fn fill(entries: &mut [Entry<'_>], base: usize, end: usize) -> Result<(), ReadError> {
    entries.sort_unstable_by(|a, b| (a.offset(), a.bytes().len(), a.name()).cmp(&(b.offset(), b.bytes().len(), b.name())));
    let mut at = base as u64;
    for entry in entries.iter() {
        let begin = entry.offset();
        if begin != at {
            let what = if begin < at { "overlaps the tensor before it" } else { "leaves a hole before it" };
            return Err(bad(format!("{what}: begins at byte {begin}, the one before ends at {at}")).entry(entry.name()).at(begin as usize));
        }
        at += entry.bytes().len() as u64;
    }
    if at != end as u64 {
        return Err(bad(format!("{} bytes after the last tensor belong to none", end as u64 - at)).at(at as usize));
    }
    Ok(())
}
