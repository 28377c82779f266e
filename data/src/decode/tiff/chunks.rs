//! A strip or tile: its bytes as they were before they were packed.

use super::directory::Directory;
use super::{Layout, broken, unread};
use crate::decode::{DecodeError, jpeg};
use fax::Color;
use fax::decoder::{DecodeStatus, Group3Decoder, decode_g4, pels};
use std::io::Read;

/// How chunks are packed.
pub(super) enum Compression {
    Plain,
    PackBits,
    Lzw,
    Deflate,
    /// Group 3 in one dimension, Group 4.
    Fax3,
    Fax4,
    /// With the tables that all chunks share.
    Jpeg(Vec<u8>),
}

impl Compression {
    pub(super) fn of(number: u64, directory: &Directory) -> Result<Self, DecodeError> {
        Ok(match number {
            1 => Self::Plain,
            3 if directory.one(292)?.unwrap_or(0) & 3 == 0 => Self::Fax3,
            4 => Self::Fax4,
            5 => Self::Lzw,
            7 => Self::Jpeg(directory.bytes(347).to_vec()),
            8 | 32_946 => Self::Deflate,
            32_773 => Self::PackBits,
            n => return unread(format_args!("compression {n}")),
        })
    }

    pub(super) fn is_fax(&self) -> bool {
        matches!(self, Self::Fax3 | Self::Fax4)
    }
}

/// The bytes of a chunk of `rows` rows, as the machine's numbers in the file's order.
pub(super) fn unpacked(layout: &Layout, packed: &[u8], rows: usize) -> Result<Vec<u8>, DecodeError> {
    let stride = layout.row_bytes(layout.chunk.0);
    let expected = layout.colour.chunk_bytes(layout.chunk.0, rows).unwrap_or(stride * rows);
    let flipped: Vec<u8>;
    let packed = if layout.reversed && !matches!(layout.compression, Compression::Jpeg(_)) {
        flipped = packed.iter().map(|b| b.reverse_bits()).collect();
        &flipped
    } else {
        packed
    };
    let mut out = match &layout.compression {
        Compression::Plain => packed[..expected.min(packed.len())].to_vec(),
        Compression::PackBits => packbits(packed, expected),
        Compression::Lzw => lzw(packed, expected)?,
        Compression::Deflate => {
            let mut out = Vec::new();
            // What was read before damage is looked at below: whether it is enough.
            let _ = flate2::read::ZlibDecoder::new(packed).take(expected as u64).read_to_end(&mut out);
            out
        }
        Compression::Fax3 | Compression::Fax4 => fax(layout, packed, rows),
        Compression::Jpeg(tables) => return of_jpeg(layout, packed, tables, rows),
    };
    if out.len() < expected {
        return broken(format_args!("a strip or tile gives {} of {expected} bytes", out.len()));
    }
    out.truncate(expected);
    unpredict(layout, &mut out, stride)?;
    Ok(out)
}

fn packbits(packed: &[u8], expected: usize) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while out.len() < expected {
        let Some(&head) = packed.get(at) else { break };
        at += 1;
        match head as i8 {
            -128 => {}
            n @ 0.. => {
                let end = packed.len().min(at + n as usize + 1);
                out.extend_from_slice(&packed[at..end]);
                at = end;
            }
            n => {
                let Some(&byte) = packed.get(at) else { break };
                at += 1;
                out.resize(out.len() + 1 + usize::from(n.unsigned_abs()), byte);
            }
        }
    }
    out
}

fn lzw(packed: &[u8], expected: usize) -> Result<Vec<u8>, DecodeError> {
    // Very old files have the bits the other way round and another width of codes; libtiff sees it by the first code.
    let old = matches!(packed, [0, second, ..] if second & 1 == 1);
    if old {
        return unread("LZW of the kind before 1988");
    }
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
    let mut out = vec![0; expected];
    let (mut read, mut written) = (0, 0);
    while written < expected {
        let result = decoder.decode_bytes(&packed[read..], &mut out[written..]);
        read += result.consumed_in;
        written += result.consumed_out;
        match result.status {
            Ok(weezl::LzwStatus::Ok) if result.consumed_in + result.consumed_out > 0 => {}
            _ => break,
        }
    }
    out.truncate(written);
    Ok(out)
}

/// Rows of bits, 1 for black.
fn fax(layout: &Layout, packed: &[u8], rows: usize) -> Vec<u8> {
    let (width, stride) = (layout.chunk.0, layout.row_bytes(layout.chunk.0));
    let Ok(narrow) = u16::try_from(width) else { return Vec::new() };
    let mut out = Vec::new();
    let mut line = |transitions: &[u16]| {
        if out.len() == stride * rows {
            return;
        }
        let from = out.len();
        out.resize(from + stride, 0);
        for (x, colour) in pels(transitions, narrow).enumerate() {
            if colour == Color::Black {
                out[from + x / 8] |= 0x80 >> (x % 8);
            }
        }
    };
    if matches!(layout.compression, Compression::Fax4) {
        let _ = decode_g4(packed.iter().copied(), narrow, Some(rows.min(65_535) as u16), &mut line);
        return out;
    }
    let Ok(mut decoder) = Group3Decoder::new(packed.iter().map(|b| Ok::<u8, std::convert::Infallible>(*b))) else { return out };
    loop {
        let status = decoder.advance();
        // The last row need not have a mark at its end; the decoder calls that an error.
        line(decoder.transitions());
        if !matches!(status, Ok(DecodeStatus::Incomplete)) {
            return out;
        }
    }
}

/// A chunk that is a JPEG: its samples side by side.
fn of_jpeg(layout: &Layout, packed: &[u8], tables: &[u8], rows: usize) -> Result<Vec<u8>, DecodeError> {
    let meaning = if layout.colour.is_luma() { jpeg::Colours::Luma } else { jpeg::Colours::AsTheyAre };
    let samples = jpeg::decode_with(packed, tables, meaning)?;
    if samples.channels != layout.together || samples.width < layout.chunk.0.min(layout.width) || samples.height < rows.min(layout.height) {
        return broken(format_args!(
            "a JPEG of {} x {} pixels of {} samples in it, for {} x {rows} of {}",
            samples.width, samples.height, samples.channels, layout.chunk.0, layout.together
        ));
    }
    let stride = layout.row_bytes(layout.chunk.0);
    let mut out = vec![0; stride * rows];
    for (to, from) in out.chunks_exact_mut(stride).zip(samples.data.chunks_exact(samples.width * samples.channels)) {
        let n = to.len().min(from.len());
        to[..n].copy_from_slice(&from[..n]);
    }
    Ok(out)
}

/// Undoes the predictor: differences to the pixel on the left, or of floats' bytes sorted by weight.
fn unpredict(layout: &Layout, data: &mut [u8], stride: usize) -> Result<(), DecodeError> {
    if matches!(layout.compression, Compression::Plain | Compression::PackBits | Compression::Fax3 | Compression::Fax4) {
        return Ok(());
    }
    let step = layout.together;
    match (layout.predictor, layout.bits) {
        (0 | 1, _) => {}
        (2, 8) => {
            for row in data.chunks_exact_mut(stride) {
                for i in step..row.len() {
                    row[i] = row[i].wrapping_add(row[i - step]);
                }
            }
        }
        (2, 16) => {
            for row in data.chunks_exact_mut(stride) {
                for i in step..row.len() / 2 {
                    let sum = number::<2>(row, i, layout.little).wrapping_add(number::<2>(row, i - step, layout.little));
                    set::<2>(row, i, sum, layout.little);
                }
            }
        }
        (2, 32) => {
            for row in data.chunks_exact_mut(stride) {
                for i in step..row.len() / 4 {
                    let sum = number::<4>(row, i, layout.little).wrapping_add(number::<4>(row, i - step, layout.little));
                    set::<4>(row, i, sum, layout.little);
                }
            }
        }
        (3, 32) => {
            for row in data.chunks_exact_mut(stride) {
                for i in step..row.len() {
                    row[i] = row[i].wrapping_add(row[i - step]);
                }
                let sorted = row.to_vec();
                let n = row.len() / 4;
                for i in 0..n {
                    let value = u32::from_be_bytes([sorted[i], sorted[n + i], sorted[2 * n + i], sorted[3 * n + i]]);
                    set::<4>(row, i, value, layout.little);
                }
            }
        }
        (predictor, bits) => return unread(format_args!("predictor {predictor} of {bits} bits")),
    }
    Ok(())
}

/// The number `i` of `SIZE` bytes, in the file's order.
pub(super) fn number<const SIZE: usize>(row: &[u8], i: usize, little: bool) -> u32 {
    let bytes = &row[SIZE * i..][..SIZE];
    let add = |n: u32, b: &u8| n << 8 | u32::from(*b);
    if little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
}

fn set<const SIZE: usize>(row: &mut [u8], i: usize, value: u32, little: bool) {
    let out = &mut row[SIZE * i..][..SIZE];
    for (k, byte) in out.iter_mut().enumerate() {
        let place = if little { k } else { SIZE - 1 - k };
        *byte = (value >> (8 * place)) as u8;
    }
}
