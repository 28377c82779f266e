//! Which way up a camera held its picture, and turning it.

use super::Rgb8;

/// The orientation that a JPEG's, PNG's or WebP's EXIF data says, if that is not upright. A TIFF is turned by its own
/// decoder.
pub(super) fn orientation(file: &[u8]) -> Option<u8> {
    let exif = match file {
        [0xFF, 0xD8, ..] => of_jpeg(file),
        [0x89, b'P', ..] => {
            of_chunks(&file[8..], |head| (u32::from_be_bytes([head[0], head[1], head[2], head[3]]), 4, &head[4..] == b"eXIf"))
        }
        [b'R', b'I', b'F', b'F', ..] => of_chunks(file.get(12..)?, |head| {
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            (length, length as usize & 1, &head[..4] == b"EXIF")
        }),
        _ => None,
    }?;
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    of_directory(tiff).filter(|o| (2..=8).contains(o))
}

/// The EXIF segment before the first scan.
fn of_jpeg(file: &[u8]) -> Option<&[u8]> {
    let mut at = 2;
    loop {
        at += file.get(at..)?.iter().position(|b| *b == 0xFF)?;
        at += file[at..].iter().take_while(|b| **b == 0xFF).count();
        let marker = *file.get(at)?;
        at += 1;
        if matches!(marker, 0x00 | 0x01 | 0xD0..=0xD8) {
            continue;
        }
        let length = usize::from(u16::from_be_bytes(*file.get(at..)?.first_chunk()?)).max(2);
        let segment = file.get(at + 2..at + length)?;
        match marker {
            0xDA | 0xD9 => return None,
            0xE1 if segment.starts_with(b"Exif\0\0") => return Some(segment),
            _ => at += length,
        }
    }
}

/// The wanted one of chunks with heads of eight bytes, of which `parse` tells the length, what follows the data, and
/// whether it is the one.
fn of_chunks(mut rest: &[u8], parse: impl Fn(&[u8; 8]) -> (u32, usize, bool)) -> Option<&[u8]> {
    loop {
        let (length, after, found) = parse(rest.first_chunk()?);
        let data = rest.get(8..8_usize.checked_add(length as usize)?)?;
        if found {
            return Some(data);
        }
        rest = rest.get(8 + data.len() + after..)?;
    }
}

/// The tag 0x0112 of the first directory of TIFF data.
fn of_directory(tiff: &[u8]) -> Option<u8> {
    let little = match tiff.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<2>()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let low = |at: usize| Some((usize::from(u16_at(at)?), usize::from(u16_at(at + 2)?)));
    let first = match low(4)? {
        (a, b) if little => a | b << 16,
        (a, b) => a << 16 | b,
    };
    let count = usize::from(u16_at(first)?);
    let entry = (0..count).map(|i| first + 2 + 12 * i).find(|at| u16_at(*at) == Some(0x0112))?;
    match u16_at(entry + 2)? {
        3 => u8::try_from(u16_at(entry + 8)?).ok(),
        1 => tiff.get(entry + 8).copied(),
        _ => None,
    }
}

/// The picture as orientation 2 to 8 means it to be seen; any other leaves it.
pub(super) fn turned(picture: &Rgb8, orientation: u8) -> Rgb8 {
    let (w, h) = (picture.width, picture.height);
    let aside = orientation >= 5;
    let (width, height) = if aside { (h, w) } else { (w, h) };
    // Where the pixel (x, y) of the result comes from.
    let source = |x: usize, y: usize| match orientation {
        2 => (w - 1 - x, y),
        3 => (w - 1 - x, h - 1 - y),
        4 => (x, h - 1 - y),
        5 => (y, x),
        6 => (y, h - 1 - x),
        7 => (w - 1 - y, h - 1 - x),
        8 => (w - 1 - y, x),
        _ => (x, y),
    };
    let mut pixels = Vec::with_capacity(picture.pixels.len());
    for y in 0..height {
        for x in 0..width {
            let (x, y) = source(x, y);
            pixels.extend_from_slice(&picture.pixels[3 * (y * w + x)..][..3]);
        }
    }
    Rgb8 { width, height, pixels }
}
