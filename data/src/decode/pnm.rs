//! PBM, PGM, PPM in text or bytes, and the float format PFM of one channel, as PIL scales them.

use super::{DecodeError, Limit, Rgb8, grey_16};

fn broken<T>(reason: impl std::fmt::Display) -> Result<T, DecodeError> {
    Err(DecodeError::new(format!("broken PPM/PGM: {reason}")))
}

/// Numbers in text, over white space and comments.
struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    /// The next token; the white space behind it is passed, one byte of it.
    fn next(&mut self) -> Option<&'a [u8]> {
        let white = |b: &u8| matches!(b, 9..=13 | 32);
        loop {
            self.at += self.bytes.get(self.at..)?.iter().take_while(|b| white(b)).count();
            if *self.bytes.get(self.at)? != b'#' {
                break;
            }
            self.at += self.bytes[self.at..].iter().take_while(|b| !matches!(b, b'\n' | b'\r')).count();
        }
        let rest = &self.bytes[self.at..];
        let token = &rest[..rest.iter().take_while(|b| !white(b) && **b != b'#').count()];
        self.at += token.len();
        if self.bytes.get(self.at).is_some_and(white) {
            self.at += 1;
        }
        Some(token)
    }

    fn number(&mut self) -> Option<u32> {
        let token = self.next().filter(|t| (1..=10).contains(&t.len()))?;
        std::str::from_utf8(token).ok()?.parse().ok()
    }
}

/// Decodes a file.
pub(super) fn decode(file: &[u8]) -> Result<Rgb8, DecodeError> {
    let kind = file.get(1).copied().unwrap_or(0);
    let mut header = Tokens { bytes: file, at: 2 };
    let mut number = |what: &str| match header.number() {
        Some(n) => Ok(n as usize),
        None => broken(format_args!("no {what} in its header")),
    };
    let (width, height) = (number("width")?, number("height")?);
    let limit = Limit::new("PPM/PGM", width as u64, height as u64)?;
    let all = width * height;
    limit.bytes(4 * all as u64)?;
    if kind == b'f' {
        return floats(&mut header, file, width, height);
    }
    let channels = if matches!(kind, b'3' | b'6') { 3 } else { 1 };
    let most = match kind {
        b'1' | b'4' => 1,
        _ => number("largest value")?,
    };
    if !(1..65_536).contains(&most) {
        return broken(format_args!("{most} as the largest value; 1 to 65535 are possible"));
    }
    let data = file.get(header.at..).unwrap_or_default();
    let mut samples = match kind {
        b'1' => bits_in_text(data, all)?,
        b'4' => {
            let stride = width.div_ceil(8);
            enough(data.len(), stride * height)?;
            data.chunks_exact(stride)
                .take(height)
                .flat_map(|row| super::packed(row, 1).take(width))
                .map(|bit| if bit == 0 { 255 } else { 0 })
                .collect()
        }
        b'2' | b'3' => numbers_in_text(data, all * channels, most, channels)?,
        _ if most < 256 => {
            enough(data.len(), all * channels)?;
            data[..all * channels].iter().map(|v| scaled(usize::from(*v), most, channels)).collect()
        }
        _ => {
            enough(data.len(), 2 * all * channels)?;
            let pairs = data.as_chunks::<2>().0.iter().take(all * channels);
            pairs.map(|v| scaled(usize::from(u16::from_be_bytes(*v)), most, channels)).collect()
        }
    };
    if channels == 1 {
        samples = samples.iter().flat_map(|v| [*v; 3]).collect();
    }
    Ok(Rgb8 { width, height, pixels: samples })
}

fn enough(got: usize, needed: usize) -> Result<(), DecodeError> {
    if got < needed { broken(format_args!("cut off: {got} of {needed} bytes")) } else { Ok(()) }
}

/// PIL's scaling: to 255, but grey of more than 8 bits to 65535, which is cut off at 255.
fn scaled(value: usize, most: usize, channels: usize) -> u8 {
    let to = |out: f64| (value as f64 / most as f64 * out).round_ties_even().min(out);
    match (most, channels) {
        (255, _) => value as u8,
        (256.., 1) => grey_16(to(65_535.0) as u16),
        _ => to(255.0) as u8,
    }
}

fn bits_in_text(data: &[u8], all: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    let mut comment = false;
    for byte in data {
        match byte {
            b'\n' | b'\r' => comment = false,
            _ if comment => {}
            b'#' => comment = true,
            9..=13 | 32 => {}
            b'0' => out.push(255),
            b'1' => out.push(0),
            _ => return broken("something else than 0 and 1"),
        }
        if out.len() == all {
            return Ok(out);
        }
    }
    broken(format_args!("cut off: {} of {all} pixels", out.len()))
}

fn numbers_in_text(data: &[u8], all: usize, most: usize, channels: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    let mut tokens = Tokens { bytes: data, at: 0 };
    while out.len() < all {
        match tokens.number() {
            Some(value) if value as usize <= most => out.push(scaled(value as usize, most, channels)),
            Some(value) => return broken(format_args!("{value} where {most} is the largest value")),
            None => return broken(format_args!("cut off, or no number, after {} of {all} numbers", out.len())),
        }
    }
    Ok(out)
}

/// Rows from the lowest on; the sign of the scale tells the order of the bytes.
fn floats(header: &mut Tokens, file: &[u8], width: usize, height: usize) -> Result<Rgb8, DecodeError> {
    let scale: Option<f64> = header.next().and_then(|t| std::str::from_utf8(t).ok()?.parse().ok());
    let Some(scale) = scale.filter(|s| s.is_finite() && *s != 0.0) else { return broken("no scale in its header") };
    let data = file.get(header.at..).unwrap_or_default();
    enough(data.len(), 4 * width * height)?;
    let value = |b: &[u8; 4]| if scale < 0.0 { f32::from_le_bytes(*b) } else { f32::from_be_bytes(*b) };
    let rows = data[..4 * width * height].chunks_exact(4 * width).rev();
    let pixels = rows.flat_map(|row| row.as_chunks::<4>().0.iter().flat_map(|b| [super::grey_float(value(b)); 3])).collect();
    Ok(Rgb8 { width, height, pixels })
}
