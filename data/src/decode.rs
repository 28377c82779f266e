//! The bytes of an image file becoming RGB8, like PIL's `Image.open(f).convert("RGB")`.
//!
//! What a file holds is told by its first bytes, never by its name. Then as in PIL: the first picture of several, grey
//! replicated, alpha dropped (not blended), palettes expanded, CMYK converted. A JPEG's EXIF orientation is ignored
//! unless it is asked for ([`Options`]); a TIFF's is obeyed, which PIL does on its own. Sixteen bits are treated as PIL
//! treats them, which depends: colour keeps the high byte, grey is *cut off* at 255.
//!
//! Any bytes give pixels or an error. A small file can claim a huge picture, so the number
//! of pixels is looked at before anything is reserved for them ([`MAX_PIXELS`]). A JPEG
//! without its end mark is refused as PIL refuses it.

mod bmp;
mod exif;
mod gif;
mod jpeg;
mod png;
mod pnm;
mod tiff;
mod webp;

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The largest picture that is decoded, in pixels. PIL refuses above the same number: an
/// RGB8 picture of it takes 512 MiB. (For a fuzzer less, whose inputs should take no seconds.)
pub const MAX_PIXELS: u64 = if cfg!(fuzzing) { 1 << 18 } else { 178_956_970 };
/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 30;
/// What a decoder may hold, in bytes, for one picture.
const MAX_ALLOC: u64 = 1 << 30;
/// Above this many pixels pictures are decoded one at a time, whatever the number of threads,
/// so that a folder full of bombs takes no more memory than one.
const LARGE: u64 = 1 << 25;
/// Held while a large picture is decoded.
static ONE_LARGE: Mutex<()> = Mutex::new(());
thread_local! {
    /// Whether this thread holds [`ONE_LARGE`]: a TIFF may hold JPEGs.
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// A decoded picture: `height` rows of `width` pixels of red, green, blue.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb8 {
    /// Pixels in a row, at least 1.
    pub width: usize,
    /// Rows, at least 1.
    pub height: usize,
    /// `width · height · 3` bytes.
    pub pixels: Vec<u8>,
}

impl fmt::Debug for Rgb8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rgb8({} x {})", self.width, self.height)
    }
}

/// Why a file gave no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The file, if there was one.
    pub path: Option<PathBuf>,
    /// What was expected, what was found.
    pub reason: String,
}

impl DecodeError {
    fn new(reason: impl Into<String>) -> Self {
        Self { path: None, reason: reason.into() }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            // Quoted, because a file name may hold line ends and terminal commands.
            Some(path) => write!(f, "{path:?}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for DecodeError {}

/// What may be chosen of decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Turn a JPEG, PNG or WebP as its EXIF orientation says, like PIL's `ImageOps.exif_transpose`. PIL's
    /// `Image.open` alone does not, and neither do PyTorch's data sets.
    pub exif: bool,
}

impl Options {
    /// Nothing is turned.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with [`exif`](Options::exif).
    #[must_use]
    pub fn with_exif(self, exif: bool) -> Self {
        Self { exif }
    }
}

/// Reads and decodes a file.
///
/// # Errors
/// [`DecodeError`], with the path: what can't be read, is no picture, is damaged, or is too large.
pub fn read(path: &Path) -> Result<Rgb8, DecodeError> {
    read_with(path, Options::new())
}

/// [`read`], with options.
///
/// # Errors
/// As [`read`].
pub fn read_with(path: &Path, options: Options) -> Result<Rgb8, DecodeError> {
    let with_path = |e: DecodeError| DecodeError { path: Some(path.to_owned()), ..e };
    let bytes = read_bytes(path).map_err(with_path)?;
    decode_with(&bytes, options).map_err(with_path)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, DecodeError> {
    let cannot = |e: std::io::Error| DecodeError::new(format!("cannot be read: {e}"));
    // Before opening: to open a pipe is to wait for a writer.
    let meta = std::fs::metadata(path).map_err(cannot)?;
    if !meta.is_file() {
        return Err(DecodeError::new("is not a file"));
    }
    let too_big = |len: u64| DecodeError::new(format!("the file has {len} bytes; at most {MAX_FILE} are read"));
    if meta.len() > MAX_FILE {
        return Err(too_big(meta.len()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    // The length may be out of date, so the limit holds while reading too.
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(too_big(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Decodes the bytes of a JPEG, PNG, GIF, BMP, TIFF, WebP, PBM, PGM or PPM file.
///
/// # Errors
/// [`DecodeError`], without a path.
pub fn decode(bytes: &[u8]) -> Result<Rgb8, DecodeError> {
    decode_with(bytes, Options::new())
}

/// [`decode`], with options.
///
/// # Errors
/// As [`decode`].
pub fn decode_with(bytes: &[u8], options: Options) -> Result<Rgb8, DecodeError> {
    let format = recognise(bytes)?;
    // The decoders are meant not to panic on any bytes; should one do so all the same, one
    // broken picture must not end a night of training.
    catch_unwind(AssertUnwindSafe(|| {
        let picture = format.decode(bytes)?;
        let orientation = if options.exif { exif::orientation(bytes) } else { None };
        Ok(match orientation {
            Some(orientation) => exif::turned(&picture, orientation),
            None => picture,
        })
    }))
    .unwrap_or_else(|_| {
        Err(DecodeError::new(format!("the {} decoder failed on it (a bug there); remove the file or save it anew", format.name())))
    })
}

#[derive(Clone, Copy)]
enum Format {
    Jpeg,
    Png,
    Gif,
    Bmp,
    Tiff,
    WebP,
    Pnm,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::WebP => "WebP",
            Self::Pnm => "PPM/PGM",
        }
    }

    fn decode(self, bytes: &[u8]) -> Result<Rgb8, DecodeError> {
        match self {
            Self::Jpeg => jpeg::decode(bytes).map(Rgb8::from),
            Self::Png => png::decode(bytes),
            Self::Gif => gif::decode(bytes),
            Self::Bmp => bmp::decode(bytes),
            Self::Tiff => tiff::decode(bytes),
            Self::WebP => webp::decode(bytes),
            Self::Pnm => pnm::decode(bytes),
        }
    }
}

fn recognise(bytes: &[u8]) -> Result<Format, DecodeError> {
    const KNOWN: &str = "JPEG, PNG, GIF, BMP, TIFF, WebP, PBM, PGM and PPM can be read";
    let other = match bytes {
        [] => return Err(DecodeError::new("the file is empty")),
        [0xFF, 0xD8, 0xFF, ..] => return Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => return Ok(Format::Png),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => return Ok(Format::Gif),
        [b'B', b'M', ..] => return Ok(Format::Bmp),
        [b'M', b'M', 0, 42 | 43, ..] | [b'I', b'I', 42 | 43, 0, ..] => return Ok(Format::Tiff),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => return Ok(Format::WebP),
        [b'P', b'1'..=b'6' | b'f', 9..=13 | 32 | b'#', ..] => return Ok(Format::Pnm),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f' | b's', ..] => "AVIF",
        [_, _, _, _, b'f', b't', b'y', b'p', b'h' | b'm', b'e' | b'i', ..] => "HEIF (a telephone's HEIC)",
        [0, 0, 0, 12, b'j', b'P', ..] | [0xFF, 0x4F, 0xFF, 0x51, ..] => "JPEG 2000",
        [0xFF, 0x0A, ..] | [0, 0, 0, 12, b'J', b'X', b'L', ..] => "JPEG XL",
        [b'8', b'B', b'P', b'S', ..] => "Photoshop's",
        [0, 0, 1, 0, ..] => "ICO",
        [b'q', b'o', b'i', b'f', ..] => "QOI",
        [b'<', b's', b'v', b'g', ..] => "SVG",
        _ => {
            let head = &bytes[..bytes.len().min(8)];
            return Err(DecodeError::new(format!("is no picture (begins with the bytes {head:02x?}); {KNOWN}")));
        }
    };
    Err(DecodeError::new(format!("holds a picture in {other} format; save it anew, for instance as PNG: {KNOWN}")))
}

/// A picture's claim that was found to be allowed. While it lives no other thread decodes a large picture, if this one
/// is large.
struct Limit {
    claim: String,
    turn: Option<MutexGuard<'static, ()>>,
}

impl Limit {
    fn new(format: &str, width: u64, height: u64) -> Result<Limit, DecodeError> {
        let claim = format!("{width} x {height} pixels");
        let pixels = width.saturating_mul(height);
        if pixels == 0 {
            return Err(DecodeError::new(format!("broken {format}: claims {claim}")));
        }
        if pixels > MAX_PIXELS {
            return Err(DecodeError::new(format!(
                "claims {claim}, more than the {MAX_PIXELS} allowed; make it smaller if it really is that large"
            )));
        }
        let large = pixels > LARGE && !HAS_TURN.get();
        let turn = large.then(|| ONE_LARGE.lock().unwrap_or_else(PoisonError::into_inner));
        HAS_TURN.set(HAS_TURN.get() || large);
        Ok(Limit { claim, turn })
    }

    /// Whether decoding may hold so many bytes at a time.
    fn bytes(&self, bytes: u64) -> Result<(), DecodeError> {
        if bytes > MAX_ALLOC {
            return Err(DecodeError::new(format!("{} take {bytes} bytes to decode, more than the {MAX_ALLOC} allowed", self.claim)));
        }
        Ok(())
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if self.turn.is_some() {
            HAS_TURN.set(false);
        }
    }
}

/// Grey of 16 bits is not scaled by PIL but cut off (its mode I;16): it comes out white mostly, and that is what a
/// network trained with torchvision has seen.
fn grey_16(value: u16) -> u8 {
    value.min(255) as u8
}

/// Grey of a float (PIL's mode F): cut off at both ends, and its fraction dropped.
fn grey_float(value: f32) -> u8 {
    value as u8
}

/// Colour of 16 bits keeps its high byte.
fn high(value: u16) -> u8 {
    (value >> 8) as u8
}

/// Numbers of 1, 2, 4 or 8 bits, the highest first in each byte.
fn packed(row: &[u8], bits: u8) -> impl Iterator<Item = u8> + '_ {
    let mask = (0xFF_u16 >> (8 - bits)) as u8;
    row.iter().flat_map(move |byte| (0..8 / bits).rev().map(move |i| byte >> (i * bits) & mask))
}

/// A colour of a palette; black where it has none, as in PIL.
fn of_palette(palette: &[u8], index: u8) -> [u8; 3] {
    palette.get(3 * usize::from(index)..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; 3])
}

/// PIL's conversion of CMYK with 255 for full ink.
fn of_inks([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let light = i32::from(255 - k);
    [c, m, y].map(|ink| {
        let product = i32::from(ink) * light + 128;
        (light - ((product + (product >> 8)) >> 8)).clamp(0, 255) as u8
    })
}

impl From<jpeg::Samples> for Rgb8 {
    fn from(samples: jpeg::Samples) -> Self {
        let pixels = match samples.channels {
            1 => samples.data.iter().flat_map(|v| [*v; 3]).collect(),
            3 => samples.data,
            // PIL takes every CMYK JPEG for Adobe's, which count light and not ink.
            _ => samples.data.as_chunks::<4>().0.iter().flat_map(|v| of_inks(v.map(|v| 255 - v))).collect(),
        };
        Rgb8 { width: samples.width, height: samples.height, pixels }
    }
}
