//! PNG: the picture's own chunks, and nothing else of the file.
//!
//! What is not needed for the pixels (profiles, text, time, animation …) is dropped before the decoder sees it: a
//! compressed profile of some kilobytes can ask for gigabytes. A file without its end chunk is read, as PIL does.

use super::{DecodeError, Limit, Rgb8, grey_16, high};
use png::{BitDepth, ColorType, DecodeOptions, Decoder, Limits};
use std::io::Cursor;

const SIGNATURE: usize = 8;

fn broken<T>(reason: impl std::fmt::Display) -> Result<T, DecodeError> {
    Err(DecodeError::new(format!("broken PNG: {reason}")))
}

/// The file with the chunks that make the picture alone, its palette, and whether its data was cut off.
struct Essence {
    bytes: Vec<u8>,
    palette: Vec<u8>,
    cut: bool,
}

fn essence(file: &[u8]) -> Result<Essence, DecodeError> {
    let mut kept = Essence { bytes: file.get(..SIGNATURE).unwrap_or_default().to_vec(), palette: Vec::new(), cut: false };
    let (mut at, mut seen_data) = (SIGNATURE, false);
    while let Some(head) = file.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let [l3, l2, l1, l0, kind @ ..] = *head;
        let length = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
        if !kind.iter().all(|b| b.is_ascii_alphanumeric()) && !seen_data {
            return broken(format_args!("no chunk at byte {at}"));
        }
        let data = &file[at + 8..];
        let cut = data.len() < length;
        let data = &data[..length.min(data.len())];
        at = (at + 8).saturating_add(length).saturating_add(4);
        match &kind {
            b"IDAT" => {
                seen_data = true;
                kept.cut = cut;
                put(&mut kept.bytes, kind, data);
            }
            // Data lies in one row of chunks.
            _ if seen_data => break,
            _ if cut => return broken("a chunk is cut off"),
            b"IHDR" | b"PLTE" => {
                let mut sum = crc32fast::Hasher::new();
                sum.update(&kind);
                sum.update(data);
                if file.get(at - 4..at) != Some(&sum.finalize().to_be_bytes()) {
                    return broken(format_args!("the checksum of {} is wrong", kind.escape_ascii()));
                }
                if &kind == b"PLTE" {
                    kept.palette = data.to_vec();
                }
                put(&mut kept.bytes, kind, data);
            }
            b"IEND" => break,
            _ => {}
        }
    }
    if !seen_data {
        return broken("no picture in it");
    }
    put(&mut kept.bytes, *b"IEND", &[]);
    Ok(kept)
}

fn put(bytes: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(kind);
    bytes.extend(data);
    // Not looked at: PIL does not check the data's either.
    bytes.extend([0; 4]);
}

/// Decodes a file.
pub(super) fn decode(file: &[u8]) -> Result<Rgb8, DecodeError> {
    let essence = essence(file)?;
    // The header first, so that nothing is reserved for a claim.
    let claim = |at: usize| essence.bytes.get(at..at + 4).map_or(0, |b| u64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]])));
    let limit = Limit::new("PNG", claim(16), claim(20))?;
    let mut options = DecodeOptions::default();
    options.set_ignore_crc(true);
    options.set_ignore_adler32(essence.cut);
    let mut decoder = Decoder::new_with_options(Cursor::new(&essence.bytes), options);
    decoder.set_limits(Limits { bytes: super::MAX_ALLOC as usize });
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().or_else(broken)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    let (colour, depth) = reader.output_color_type();
    let size = reader.output_buffer_size().ok_or_else(|| DecodeError::new("broken PNG: too large"))?;
    limit.bytes(size as u64 + (width * height * 3) as u64)?;
    // Deflate makes at most 1032 bytes of one.
    if size / 1032 > essence.bytes.len() {
        return broken(format_args!("claims {width} x {height} pixels, for which its {} bytes are too few", file.len()));
    }
    let mut data = vec![0; size];
    reader.next_frame(&mut data).or_else(broken)?;
    let mut pixels = Vec::with_capacity(width * height * 3);
    for row in data.chunks_exact(size / height) {
        expand(row, width, colour, depth, &essence.palette, &mut pixels);
    }
    Ok(Rgb8 { width, height, pixels })
}

/// Appends a row as PIL converts it: alpha dropped, 16 bits of colour cut to their high byte, of grey at 255.
fn expand(row: &[u8], width: usize, colour: ColorType, depth: BitDepth, palette: &[u8], pixels: &mut Vec<u8>) {
    let wide = depth == BitDepth::Sixteen;
    match colour {
        ColorType::Grayscale if wide => pixels.extend(row.as_chunks::<2>().0.iter().flat_map(|v| [grey_16(u16::from_be_bytes(*v)); 3])),
        ColorType::Grayscale => {
            let scale = 255 / ((1_u16 << depth as u8) - 1) as u8;
            pixels.extend(super::packed(row, depth as u8).take(width).flat_map(|v| [v * scale; 3]));
        }
        ColorType::Indexed => pixels.extend(super::packed(row, depth as u8).take(width).flat_map(|i| super::of_palette(palette, i))),
        ColorType::GrayscaleAlpha => {
            let step = if wide { 4 } else { 2 };
            pixels.extend(row.chunks_exact(step).flat_map(|v| [v[0]; 3]));
        }
        ColorType::Rgb | ColorType::Rgba if wide => {
            let step = if colour == ColorType::Rgb { 6 } else { 8 };
            let big = |pair: &[u8; 2]| high(u16::from_be_bytes(*pair));
            pixels.extend(row.chunks_exact(step).flat_map(|v| v[..6].as_chunks::<2>().0.iter().map(big)));
        }
        ColorType::Rgb => pixels.extend_from_slice(row),
        ColorType::Rgba => pixels.extend(row.as_chunks::<4>().0.iter().flat_map(|v| [v[0], v[1], v[2]])),
    }
}
