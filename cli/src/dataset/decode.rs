//! The bytes of an image file becoming RGB8, like PIL's `Image.open(f).convert("RGB")`.
//!
//! What a file holds is told by its first bytes, never by its name. Then as in PIL: grey is
//! replicated, alpha is dropped (not blended), palettes are expanded, CMYK is converted,
//! EXIF orientation is ignored. Sixteen bits are treated as PIL treats them, which depends:
//! colour keeps the high byte, grey is *cut off* at 255.
//!
//! Any bytes give pixels or an error. A small file can claim a huge picture, so the number
//! of pixels is looked at before anything is reserved for them ([`MAX_PIXELS`]). A JPEG
//! without its end mark is refused as PIL refuses it: the decoder would fill the missing
//! half with grey and say nothing.

use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

/// The largest picture that is decoded, in pixels. PIL refuses above the same number: an
/// RGB8 picture of it takes 512 MiB.
pub const MAX_PIXELS: u64 = 178_956_970;
/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 30;
/// What a decoder may reserve, in bytes, for a picture of [`MAX_PIXELS`]. Measured: a
/// progressive JPEG of 1 KiB that claims 13000 x 13000 pixels takes 1.0 GB for 1.2 s.
const MAX_ALLOC: u64 = 1 << 30;
/// Above this many pixels pictures are decoded one at a time, whatever the number of threads,
/// so that a folder full of bombs takes no more memory than one.
const LARGE: u64 = 1 << 25;
/// Held while a large picture is decoded.
static ONE_LARGE: Mutex<()> = Mutex::new(());

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

/// Reads and decodes a file.
pub fn read(path: &Path) -> Result<Rgb8, DecodeError> {
    let with_path = |e: DecodeError| DecodeError { path: Some(path.to_owned()), ..e };
    let bytes = read_bytes(path).map_err(with_path)?;
    decode(&bytes).map_err(with_path)
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

/// Decodes the bytes of a JPEG, PNG, BMP, TIFF, WebP, PPM or PGM file.
pub fn decode(bytes: &[u8]) -> Result<Rgb8, DecodeError> {
    let format = recognise(bytes)?;
    // The decoders are meant not to panic on any bytes; should one do so all the same, one
    // broken picture must not end a night of training.
    catch_unwind(AssertUnwindSafe(|| decode_as(bytes, format))).unwrap_or_else(|_| {
        Err(DecodeError::new(format!("the {} decoder failed on it (a bug there); remove the file or save it anew", name(format))))
    })
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Pnm => "PPM/PGM",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Avif => "AVIF",
        _ => "other",
    }
}

fn recognise(bytes: &[u8]) -> Result<ImageFormat, DecodeError> {
    const KNOWN: &str = "JPEG, PNG, BMP, TIFF, WebP, PPM and PGM can be read";
    if bytes.is_empty() {
        return Err(DecodeError::new("the file is empty"));
    }
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Bmp | ImageFormat::Pnm | ImageFormat::Tiff | ImageFormat::WebP),
        ) => Ok(format),
        Ok(other) => Err(DecodeError::new(format!("holds a picture in {} format; {KNOWN}", name(other)))),
        Err(_) => {
            let head = &bytes[..bytes.len().min(8)];
            Err(DecodeError::new(format!("is no picture (begins with the bytes {head:02x?}); {KNOWN}")))
        }
    }
}

fn decode_as(bytes: &[u8], format: ImageFormat) -> Result<Rgb8, DecodeError> {
    let broken = |e: image::ImageError| DecodeError::new(format!("broken {}: {e}", name(format)));
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(DecodeError::new(format!("broken JPEG: cut off after {} bytes, before its end mark", bytes.len())));
    }
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(DecodeError::new(format!("broken {}: claims {width} x {height} pixels", name(format))));
    }
    if pixels > MAX_PIXELS {
        return Err(DecodeError::new(format!(
            "claims {width} x {height} pixels, more than the {MAX_PIXELS} allowed; \
             make it smaller if it really is that large"
        )));
    }
    let _turn = (pixels > LARGE).then(|| ONE_LARGE.lock().unwrap_or_else(PoisonError::into_inner));
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_ALLOC);
    if decoder.total_bytes() > MAX_ALLOC {
        return Err(DecodeError::new(format!(
            "{width} x {height} pixels take {} bytes, more than the {MAX_ALLOC} allowed",
            decoder.total_bytes()
        )));
    }
    decoder.set_limits(limits).map_err(broken)?;
    let picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    Ok(Rgb8 { width: width as usize, height: height as usize, pixels: to_rgb(picture, format) })
}

/// PIL's `convert("RGB")`.
fn to_rgb(picture: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let high = |v: u16| (v >> 8) as u8;
    // PIL scales PNM's samples to their new maximum instead of cutting bytes off.
    let colour = |v: u16| match format {
        ImageFormat::Pnm => ((u32::from(v) * 255 + 32_767) / 65_535) as u8,
        _ => high(v),
    };
    // Grey of 16 bits is not scaled but cut off (PIL's mode I;16): it comes out white
    // mostly, and that is what a network trained with torchvision has seen.
    let grey = |v: u16| v.min(255) as u8;
    match picture {
        DynamicImage::ImageRgb8(p) => p.into_raw(),
        DynamicImage::ImageLuma8(p) => p.as_raw().iter().flat_map(|&v| [v; 3]).collect(),
        DynamicImage::ImageLumaA8(p) => p.pixels().flat_map(|p| [p[0]; 3]).collect(),
        DynamicImage::ImageRgba8(p) => p.pixels().flat_map(|p| [p[0], p[1], p[2]]).collect(),
        DynamicImage::ImageLuma16(p) => p.pixels().flat_map(|p| [grey(p[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(p) => p.pixels().flat_map(|p| [high(p[0]); 3]).collect(),
        DynamicImage::ImageRgb16(p) => p.as_raw().iter().map(|&v| colour(v)).collect(),
        DynamicImage::ImageRgba16(p) => p.pixels().flat_map(|p| [colour(p[0]), colour(p[1]), colour(p[2])]).collect(),
        // Colour in floats, which PIL does not read, and whatever the crate learns next.
        other => other.into_rgb8().into_raw(),
    }
}

/// Whether a JPEG reaches its end mark. Walks the segments; inside a scan only a 0xFF that
/// is followed by neither 0 nor a restart mark ends it.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2; // past the start mark, which `recognise` has seen
    loop {
        // Between segments and in scans alike: on to the next mark, over fill bytes.
        let Some(skip) = bytes.get(at..).and_then(|b| b.iter().position(|&x| x == 0xFF)) else {
            return false;
        };
        at += skip + 1;
        match bytes.get(at) {
            None => return false,
            Some(0xD9) => return true,
            // Stuffing, a mark without length (TEM, restarts, start), or fill: no segment.
            Some(0x00 | 0x01 | 0xD0..=0xD8) => at += 1,
            Some(0xFF) => {}
            Some(_) => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3) else {
                    return false;
                };
                at += 1 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
}
