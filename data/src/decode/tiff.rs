//! TIFF, the first picture, as PIL opens it: strips or tiles, together or in planes, 1 to 32 bits; grey, palette, RGB,
//! CMYK, YCbCr; plain, PackBits, LZW, Deflate, fax and JPEG; turned as its orientation says.
//!
//! ```text
//! directory    what the file says of the picture              directory.rs
//! chunks       a strip or tile → its bytes, predictor undone  chunks.rs
//! colour       bytes → RGB                                    colour.rs
//! ```

mod chunks;
mod colour;
mod directory;

use super::{DecodeError, Limit, Rgb8, exif};
use chunks::Compression;
use colour::Colour;
use directory::Directory;

fn broken<T>(reason: impl std::fmt::Display) -> Result<T, DecodeError> {
    Err(DecodeError::new(format!("broken TIFF: {reason}")))
}

fn unread<T>(what: impl std::fmt::Display) -> Result<T, DecodeError> {
    Err(DecodeError::new(format!("a TIFF with {what} is not read; save it anew as PNG")))
}

/// The first numbers of a tag: a damaged file may have thousands.
struct Few<'a>(&'a [u64]);

impl std::fmt::Display for Few<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}{}", &self.0[..self.0.len().min(4)], if self.0.len() > 4 { " and more" } else { "" })
    }
}

/// What every strip or tile has in common.
struct Layout {
    little: bool,
    width: usize,
    height: usize,
    /// Columns and rows of a chunk. The last strip is shorter, tiles are always whole.
    chunk: (usize, usize),
    tiled: bool,
    /// Samples of a pixel, and how many of them lie in one chunk.
    samples: usize,
    together: usize,
    bits: usize,
    compression: Compression,
    predictor: u64,
    colour: Colour,
    /// Bits of a byte the wrong way round.
    reversed: bool,
}

impl Layout {
    fn of(directory: &Directory) -> Result<(Layout, Limit), DecodeError> {
        let one = |tag: u16, default: u64| directory.one(tag).map(|v| v.unwrap_or(default));
        let (width, height) = (one(256, 0)?, one(257, 0)?);
        let limit = Limit::new("TIFF", width, height)?;
        let (width, height) = (width as usize, height as usize);
        let compression = Compression::of(one(259, 1)?, directory)?;
        let mut samples = one(277, 1)? as usize;
        let mut extra = directory.all(338)?;
        let apart = one(284, 1)? == 2;
        if apart && !extra.is_empty() && extra.iter().all(|e| *e == 0) {
            // Planes of unknown meaning at the end are left out.
            samples = samples.saturating_sub(extra.len());
            extra.clear();
        }
        let all_bits = directory.all(258)?;
        let bits = all_bits.first().copied().unwrap_or(1) as usize;
        if !(1..=6).contains(&samples) || all_bits.iter().take(samples).any(|b| *b as usize != bits) || !(1..=32).contains(&bits) {
            return unread(format_args!("{samples} samples of {} bits", Few(&all_bits)));
        }
        let formats = directory.all(339)?;
        let format = formats.first().copied().unwrap_or(1);
        if formats.iter().any(|f| *f != format) {
            return unread("samples of several types");
        }
        let colour = Colour::of(directory, one(262, 0)?, bits, samples, &extra, format, &compression)?;
        let tiled = directory.has(324);
        let chunk =
            if tiled { (one(322, 0)? as usize, one(323, 0)? as usize) } else { (width, (one(278, u64::MAX)?.min(height as u64)) as usize) };
        if chunk.0 == 0 || chunk.1 == 0 || chunk.0 > 1 << 24 || chunk.1 > 1 << 24 {
            return broken(format_args!("chunks of {} x {} pixels", chunk.0, chunk.1));
        }
        let layout = Layout {
            little: directory.little,
            width,
            height,
            chunk,
            tiled,
            samples,
            together: if apart { 1 } else { samples },
            bits,
            compression,
            predictor: one(317, 1)?,
            colour,
            reversed: one(266, 1)? == 2,
        };
        let bytes = layout.row_bytes(chunk.0).saturating_mul(chunk.1).saturating_mul(layout.planes());
        limit.bytes((bytes as u64).saturating_add(4 * (width * height) as u64))?;
        Ok((layout, limit))
    }

    fn planes(&self) -> usize {
        self.samples / self.together
    }

    /// Bytes of a chunk's row.
    fn row_bytes(&self, columns: usize) -> usize {
        (columns * self.together * self.bits).div_ceil(8)
    }
}

/// Decodes a file.
pub(super) fn decode(file: &[u8]) -> Result<Rgb8, DecodeError> {
    let directory = Directory::first(file)?;
    let (layout, _limit) = Layout::of(&directory)?;
    let (offsets, lengths) = if layout.tiled { (324, 325) } else { (273, 279) };
    let (offsets, lengths) = (directory.all(offsets)?, directory.all(lengths)?);
    let (across, down) = (layout.width.div_ceil(layout.chunk.0), layout.height.div_ceil(layout.chunk.1));
    let needed = across * down * layout.planes();
    if offsets.len() < needed {
        return broken(format_args!("{} strips or tiles of {needed}", offsets.len()));
    }
    // No compression but a fax's makes more than 2731 bytes of one (LZW: 4096 of a code of 12 bits).
    let bytes = (layout.width * layout.height).saturating_mul(layout.samples * layout.bits) / 8;
    if !layout.compression.is_fax() && bytes / 2731 > file.len() {
        return broken(format_args!("claims {} x {} pixels, for which its {} bytes are too few", layout.width, layout.height, file.len()));
    }
    let mut pixels = vec![0; layout.width * layout.height * 3];
    for place in 0..across * down {
        let (x, y) = (place % across * layout.chunk.0, place / across * layout.chunk.1);
        let rows = layout.chunk.1.min(layout.height - y);
        let mut planes = Vec::new();
        for plane in 0..layout.planes() {
            let i = plane * across * down + place;
            let from = usize::try_from(offsets[i]).unwrap_or(usize::MAX);
            let rest = file.get(from..).unwrap_or_default();
            // A length that is missing or too large: to the end of the file.
            let length = lengths.get(i).map_or(rest.len(), |l| usize::try_from(*l).unwrap_or(usize::MAX));
            planes.push(chunks::unpacked(&layout, &rest[..length.min(rest.len())], if layout.tiled { layout.chunk.1 } else { rows })?);
        }
        let columns = layout.chunk.0.min(layout.width - x);
        for row in 0..rows {
            let out = &mut pixels[3 * ((y + row) * layout.width + x)..][..3 * columns];
            colour::row(&layout, &planes, row, out);
        }
    }
    let picture = Rgb8 { width: layout.width, height: layout.height, pixels };
    let orientation = directory.one(274)?.unwrap_or(1);
    Ok(if (2..=8).contains(&orientation) { exif::turned(&picture, orientation as u8) } else { picture })
}
