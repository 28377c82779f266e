//! BMP, every kind that PIL reads: 1, 4 and 8 bits with a palette, plain or in runs; 16, 24 and 32 bits, with masks.

use super::{DecodeError, Limit, Rgb8, of_palette};

fn broken<T>(reason: impl std::fmt::Display) -> Result<T, DecodeError> {
    Err(DecodeError::new(format!("broken BMP: {reason}")))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, DecodeError> {
    match bytes.get(at..at + 2) {
        Some(b) => Ok(u16::from_le_bytes([b[0], b[1]])),
        None => broken("its header is cut off"),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, DecodeError> {
    Ok(u32::from(u16_at(bytes, at)?) | u32::from(u16_at(bytes, at + 2)?) << 16)
}

const RUNS_8: u32 = 1;
const RUNS_4: u32 = 2;
const MASKS: u32 = 3;

struct Header {
    width: usize,
    height: usize,
    /// The first row of the file is the uppermost.
    downwards: bool,
    bits: u16,
    compression: u32,
    /// Where each pixel's red, green and blue lie.
    layout: Layout,
    palette: Vec<u8>,
    data: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Palette,
    /// Bits of red, green, blue in 16.
    Packed([u32; 3]),
    /// Bytes of red, green, blue.
    Bytes([usize; 3]),
}

impl Header {
    fn parse(file: &[u8]) -> Result<Header, DecodeError> {
        let size = u32_at(file, 14)? as usize;
        let old = size == 12;
        if !matches!(size, 12 | 40 | 52 | 56 | 64 | 108 | 124) {
            return broken(format_args!("a header of {size} bytes is of no known kind"));
        }
        let (width, height, bits) = if old {
            (u32::from(u16_at(file, 18)?), u32::from(u16_at(file, 20)?), u16_at(file, 24)?)
        } else {
            (u32_at(file, 18)?, u32_at(file, 22)?, u16_at(file, 28)?)
        };
        // A negative height, which is how PIL sees it: by the highest byte.
        let downwards = !old && height >> 24 == 0xFF;
        let height = if downwards { height.wrapping_neg() } else { height };
        let compression = if old { 0 } else { u32_at(file, 30)? };
        let colours = match if old { 0 } else { u32_at(file, 46)? } {
            0 if bits <= 8 => 1 << bits,
            n => n as usize,
        };
        let mut after = 14 + size;
        let layout = match (bits, compression) {
            (1 | 4 | 8, 0) | (8, RUNS_8) | (4, RUNS_4) => Layout::Palette,
            (16, 0) => Layout::Packed([0x7C00, 0x3E0, 0x1F]),
            (24 | 32, 0) => Layout::Bytes([2, 1, 0]),
            (16 | 24 | 32, MASKS) => {
                let masks = [54, 58, 62].map(|at| u32_at(file, at));
                let [red, green, blue] = masks;
                if size == 40 {
                    after += 12;
                }
                let alpha = if size >= 56 { u32_at(file, 66)? } else { 0 };
                Self::masked(bits, [red?, green?, blue?], alpha)?
            }
            (1 | 4 | 8 | 16 | 24 | 32, _) => {
                return broken(format_args!("compression {compression} of {bits} bits is not read; save it anew as PNG"));
            }
            _ => return broken(format_args!("{bits} bits a pixel")),
        };
        let entry = if old { 3 } else { 4 };
        let mut data = u32_at(file, 10)? as usize;
        let mut palette = Vec::new();
        if layout == Layout::Palette {
            if !(1..=65_536).contains(&colours) {
                return broken(format_args!("a palette of {colours} colours"));
            }
            // Some writers forget to count the palette in.
            if data == after {
                data += entry * colours;
            }
            let end = file.len().min(after.saturating_add(entry * colours));
            palette = file.get(after..end).unwrap_or_default().chunks_exact(entry).flat_map(|c| [c[2], c[1], c[0]]).collect();
            after += entry * colours;
        }
        let data = if data == 0 { after } else { data };
        Ok(Header { width: width as usize, height: height as usize, downwards, bits, compression, layout, palette, data })
    }

    fn masked(bits: u16, rgb: [u32; 3], alpha: u32) -> Result<Layout, DecodeError> {
        Ok(match (bits, rgb, alpha) {
            (16, [0xF800, 0x7E0, 0x1F] | [0x7C00, 0x3E0, 0x1F], _) => Layout::Packed(rgb),
            (24, [0xFF_0000, 0xFF00, 0xFF], _) => Layout::Bytes([2, 1, 0]),
            (32, [0xFF_0000, 0xFF00, 0xFF], 0 | 0xFF00_0000) | (32, [0, 0, 0], 0) => Layout::Bytes([2, 1, 0]),
            (32, [0xFF00_0000, 0xFF_0000, 0xFF00], 0 | 0xFF) => Layout::Bytes([3, 2, 1]),
            (32, [0xFF00_0000, 0xFF00, 0xFF], 0 | 0xFF_0000) => Layout::Bytes([3, 1, 0]),
            (32, [0xFF, 0xFF00, 0xFF_0000], 0xFF00_0000) => Layout::Bytes([0, 1, 2]),
            _ => return broken(format_args!("masks {rgb:x?} of {bits} bits are not read; save it anew as PNG")),
        })
    }
}

/// Decodes a file.
pub(super) fn decode(file: &[u8]) -> Result<Rgb8, DecodeError> {
    let header = Header::parse(file)?;
    let (width, height) = (header.width, header.height);
    let limit = Limit::new("BMP", width as u64, height as u64)?;
    let stride = ((width * usize::from(header.bits)).div_ceil(8) + 3) & !3;
    let data = file.get(header.data..).unwrap_or_default();
    let runs = matches!(header.compression, RUNS_8 | RUNS_4);
    // Rows without what fills them up: PIL does not ask for the last row's either.
    let needed = stride * (height - 1) + (width * usize::from(header.bits)).div_ceil(8);
    if !runs && data.len() < needed {
        return broken(format_args!("cut off: {} of {needed} bytes", data.len()));
    }
    limit.bytes(4 * (width * height) as u64)?;
    let indices = if runs { unrolled(file, &header)? } else { Vec::new() };
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let y = if header.downwards { y } else { height - 1 - y };
        if runs {
            pixels.extend(indices[y * width..][..width].iter().flat_map(|i| of_palette(&header.palette, *i)));
            continue;
        }
        let row = &data[y * stride..data.len().min((y + 1) * stride)];
        match header.layout {
            Layout::Palette => {
                pixels.extend(super::packed(row, header.bits as u8).take(width).flat_map(|i| of_palette(&header.palette, i)));
            }
            Layout::Packed(masks) => pixels.extend(row.as_chunks::<2>().0.iter().take(width).flat_map(|v| {
                let v = u32::from(u16::from_le_bytes(*v));
                masks.map(|mask| ((v & mask) * 255 / mask) as u8)
            })),
            Layout::Bytes(places) => {
                let step = usize::from(header.bits / 8);
                pixels.extend(row.chunks_exact(step).take(width).flat_map(|v| places.map(|p| v[p])));
            }
        }
    }
    Ok(Rgb8 { width, height, pixels })
}

/// The indices of a picture in runs, in the order of the file's rows; what is skipped has the first colour.
fn unrolled(file: &[u8], header: &Header) -> Result<Vec<u8>, DecodeError> {
    let all = header.width * header.height;
    // Counted before anything is reserved: a few bytes can skip a million pixels.
    let pixels = each_run(file, header, |_| {});
    if pixels < all {
        return broken(format_args!("its runs end after {pixels} of {all} pixels"));
    }
    let mut out = Vec::with_capacity(all);
    each_run(file, header, |run| match run {
        Run::Skip(n) => out.resize(out.len() + n, 0),
        Run::Fill(pair, n) => out.extend(pair.iter().cycle().take(n)),
        Run::Halves(bytes, n) => out.extend(super::packed(bytes, 4).take(n)),
        Run::Bytes(bytes) => out.extend(bytes),
    });
    out.truncate(all);
    Ok(out)
}

enum Run<'a> {
    Skip(usize),
    /// So many pixels, of two in turn.
    Fill([u8; 2], usize),
    /// So many pixels, two in a byte.
    Halves(&'a [u8], usize),
    Bytes(&'a [u8]),
}

/// Hands out the runs up to the picture's end, as PIL cuts them; returns the number of pixels.
fn each_run<'a>(file: &'a [u8], header: &Header, mut run: impl FnMut(Run<'a>)) -> usize {
    let (width, all) = (header.width, header.width * header.height);
    let four = header.compression == RUNS_4;
    let (mut at, mut x, mut done) = (header.data, 0, 0);
    while done < all {
        let Some(&[count, byte]) = file.get(at..at.saturating_add(2)) else { break };
        at += 2;
        let skip = |n: usize| (n, Run::Skip(n));
        let (n, piece) = match (count, byte) {
            (0, 0) => skip(done.next_multiple_of(width) - done),
            (0, 1) => break,
            (0, 2) => {
                let Some(&[right, up]) = file.get(at..at + 2) else { break };
                at += 2;
                skip((usize::from(right) + usize::from(up) * width).min(all - done))
            }
            (0, literal) => {
                let n = usize::from(literal).min(all - done);
                let bytes = if four { n.div_ceil(2) } else { n };
                let Some(data) = file.get(at..at + bytes) else { break };
                // Runs of literals fill whole words.
                at = (at + bytes).next_multiple_of(2);
                x += usize::from(literal);
                (n, if four { Run::Halves(data, n) } else { Run::Bytes(data) })
            }
            (count, byte) => {
                let n = usize::from(count).min(width.saturating_sub(x));
                x += n;
                (n, Run::Fill(if four { [byte >> 4, byte & 15] } else { [byte; 2] }, n))
            }
        };
        run(piece);
        done += n;
        match (count, byte) {
            (0, 0) => x = 0,
            (0, 2) => x = done % width,
            _ => {}
        }
    }
    done
}
