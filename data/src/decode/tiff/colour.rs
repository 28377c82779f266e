//! What a pixel's samples mean, and the colour that PIL makes of them.

use super::chunks::{Compression, number};
use super::directory::Directory;
use super::{Few, Layout, broken, unread};
use crate::decode::{DecodeError, grey_16, grey_float, of_inks, of_palette, packed};

pub(super) enum Colour {
    /// `true` where 0 is white.
    Grey(bool),
    /// Grey of 16 bits with a sign, 32 bits, or floats.
    Wide(Wide),
    Palette(Vec<u8>),
    /// `true` where colours were multiplied by alpha.
    Rgb(bool),
    Cmyk,
    /// Luma and chroma that a JPEG decoder has converted already.
    Converted,
    Luma(Luma),
}

#[derive(Clone, Copy)]
pub(super) enum Wide {
    Signed16,
    Unsigned32,
    Signed32,
    Float,
}

/// Luma and chroma as they are.
pub(super) struct Luma {
    /// Columns and rows that share a chroma.
    shared: (usize, usize),
    /// Fractional bits of green's parts.
    shift: u32,
    /// By chroma: what red, green (from blue, from red) and blue get.
    red: Vec<i32>,
    green: [Vec<i32>; 2],
    blue: Vec<i32>,
    luma: Vec<i32>,
}

impl Colour {
    pub(super) fn of(
        directory: &Directory,
        photometric: u64,
        bits: usize,
        samples: usize,
        extra: &[u64],
        format: u64,
        compression: &Compression,
    ) -> Result<Self, DecodeError> {
        let spare = extra.len();
        // Files that do not say what their fourth sample is have alpha there.
        let rgb = photometric == 2 && (samples == 3 + spare || (samples == 4 && spare == 0));
        Ok(match (photometric, bits, format) {
            (0 | 1, 1 | 2 | 4, 1) if samples == 1 => Self::Grey(photometric == 0),
            (0, 8, 1) if samples == 1 => Self::Grey(true),
            (1, 8, 1 | 2) if samples == 1 => Self::Grey(false),
            (1, 8, 1) if samples == 2 && matches!(extra, [0 | 2]) => Self::Grey(false),
            // PIL does not turn these round, whatever the file says.
            (0 | 1, 12 | 16, 1) if samples == 1 => Self::Grey(false),
            (1, 16, 2) if samples == 1 => Self::Wide(Wide::Signed16),
            (1, 32, 1) if samples == 1 => Self::Wide(Wide::Unsigned32),
            (1, 32, 2) if samples == 1 => Self::Wide(Wide::Signed32),
            (0 | 1, 32, 3) if samples == 1 => Self::Wide(Wide::Float),
            (2, 8 | 16, 1) if rgb => Self::Rgb(extra.first() == Some(&1)),
            (3, 1 | 2 | 4 | 8, 1) if samples == 1 || (bits == 8 && samples == 2) => Self::palette(directory, bits)?,
            (5, 8 | 16, 1) if samples == 4 + spare => Self::Cmyk,
            (6, 8, 1) if samples == 1 => Self::Grey(false),
            (6, 8, 1) if samples == 3 && matches!(compression, Compression::Jpeg(_)) => Self::Converted,
            (6, 8, 1) if samples == 3 && matches!(compression, Compression::Plain) => Self::Luma(Luma::of_pil(directory)?),
            (6, 8, 1) if samples == 3 => Self::Luma(Luma::of(directory)?),
            _ => {
                return unread(format_args!(
                    "photometric {photometric} of {samples} samples of {bits} bits (format {format}, extra {})",
                    Few(extra)
                ));
            }
        })
    }

    fn palette(directory: &Directory, bits: usize) -> Result<Self, DecodeError> {
        let map = directory.all(320)?;
        let n = map.len() / 3;
        if n == 0 || n > 1 << bits {
            return broken(format_args!("a palette of {n} colours for {bits} bits"));
        }
        Ok(Self::Palette((0..n).flat_map(|i| [map[i], map[n + i], map[2 * n + i]]).map(|v| (v >> 8) as u8).collect()))
    }

    /// Luma and chroma that a JPEG decoder is to convert.
    pub(super) fn is_luma(&self) -> bool {
        matches!(self, Self::Converted)
    }

    /// Bytes of a chunk where that is not its samples' alone.
    pub(super) fn chunk_bytes(&self, columns: usize, rows: usize) -> Option<usize> {
        match self {
            Self::Luma(luma) if luma.shared != (1, 1) => Some(luma.units_across(columns) * rows.div_ceil(luma.shared.1) * luma.unit()),
            _ => None,
        }
    }
}

impl Luma {
    /// PIL's own tables: it does not leave plain files to libtiff, and does not look at their weights and limits.
    fn of_pil(directory: &Directory) -> Result<Luma, DecodeError> {
        let shared = Self::shared(directory)?;
        // Six fractional bits; adding a half and cutting rounds up what is negative.
        let table = |factor: f64| -> Vec<i32> { (-128..128).map(|x| (factor * 64.0 * f64::from(x) + 0.5) as i32).collect() };
        let whole = |factor: f64| table(factor).iter().map(|v| v >> 6).collect();
        Ok(Luma {
            shared,
            shift: 6,
            red: whole(1.402),
            green: [table(-0.344_14), table(-0.714_14)],
            blue: whole(1.772),
            luma: (0..256).collect(),
        })
    }

    fn shared(directory: &Directory) -> Result<(usize, usize), DecodeError> {
        let shared = match directory.all(530)?[..] {
            [] => (2, 2),
            [h @ (1 | 2 | 4), v @ (1 | 2 | 4), ..] => (h as usize, v as usize),
            ref other => return broken(format_args!("chroma shared by {} pixels", Few(other))),
        };
        if shared != (1, 1) && directory.one(284)? == Some(2) {
            return unread("chroma of fewer pixels in a plane of its own");
        }
        Ok(shared)
    }

    /// libtiff's tables.
    fn of(directory: &Directory) -> Result<Luma, DecodeError> {
        let shared = Self::shared(directory)?;
        let weights = match directory.fractions(529)[..] {
            [r, g, b] if g != 0.0 => [r, g, b],
            _ => [0.299, 0.587, 0.114],
        };
        let limits = match directory.fractions(532)[..] {
            [a, b, c, d, e, f] if a != b && c != d && e != f => [a, b, c, d, e, f],
            _ => [0.0, 255.0, 128.0, 255.0, 128.0, 255.0],
        };
        let weights = weights.map(|w| w as f32);
        let limits = limits.map(|l| l as f32);
        let fix = |x: f32| (f64::from(x) * 65_536.0 + 0.5) as i32;
        let clamp = |x: f32| x.clamp(0.0, 2.0);
        let (from_red, from_blue) = (clamp(2.0 - 2.0 * weights[0]), clamp(2.0 - 2.0 * weights[2]));
        let factors = [
            fix(from_red),
            -fix(clamp(weights[0] * from_red / weights[1])),
            fix(from_blue),
            -fix(clamp(weights[2] * from_blue / weights[1])),
        ];
        let code = |c: i32, black: f32, white: f32, range: f32| {
            let spread = white - black;
            (c as f32 - black) * range / if spread == 0.0 { 1.0 } else { spread }
        };
        let chroma = |black: f32, white: f32| -> Vec<i32> {
            (-128..128).map(|x| code(x, black - 128.0, white - 128.0, 127.0).clamp(-128.0 * 32.0, 128.0 * 32.0) as i32).collect()
        };
        let (blue, red) = (chroma(limits[2], limits[3]), chroma(limits[4], limits[5]));
        const HALF: i32 = 1 << 15;
        Ok(Luma {
            shared,
            shift: 16,
            red: red.iter().map(|v| (factors[0] * v + HALF) >> 16).collect(),
            blue: blue.iter().map(|v| (factors[2] * v + HALF) >> 16).collect(),
            green: [blue.iter().map(|v| factors[3] * v + HALF).collect(), red.iter().map(|v| factors[1] * v).collect()],
            luma: (0..256).map(|x| code(x, limits[0], limits[1], 255.0).clamp(-128.0 * 32.0, 128.0 * 32.0) as i32).collect(),
        })
    }

    fn units_across(&self, columns: usize) -> usize {
        columns.div_ceil(self.shared.0)
    }

    /// Bytes of the pixels that share a chroma.
    fn unit(&self) -> usize {
        self.shared.0 * self.shared.1 + 2
    }

    fn rgb(&self, y: u8, blue: u8, red: u8) -> [u8; 3] {
        let (y, b, r) = (self.luma[usize::from(y)], usize::from(blue), usize::from(red));
        [y + self.red[r], y + ((self.green[0][b] + self.green[1][r]) >> self.shift), y + self.blue[b]].map(|v| v.clamp(0, 255) as u8)
    }

    /// The pixel of a chunk.
    fn pixel(&self, chunk: &[u8], columns: usize, x: usize, y: usize) -> [u8; 3] {
        let (h, v) = self.shared;
        let unit = &chunk[(y / v * self.units_across(columns) + x / h) * self.unit()..][..self.unit()];
        self.rgb(unit[y % v * h + x % h], unit[h * v], unit[h * v + 1])
    }
}

/// Writes a row of a chunk as RGB.
pub(super) fn row(layout: &Layout, planes: &[Vec<u8>], y: usize, out: &mut [u8]) {
    let columns = layout.chunk.0;
    let stride = layout.row_bytes(columns);
    let line = |plane: usize| planes[plane].get(y * stride..).map_or(&[][..], |rest| &rest[..stride.min(rest.len())]);
    // Sample `s` of pixel `x`: its high byte, or all of it.
    let place = |x: usize, s: usize| if layout.together == 1 { (s, x) } else { (0, x * layout.samples + s) };
    let byte = |x: usize, s: usize| {
        let (plane, i) = place(x, s);
        match layout.bits {
            16 => (number::<2>(line(plane), i, layout.little) >> 8) as u8,
            _ => line(plane)[i],
        }
    };
    let pixels = out.as_chunks_mut::<3>().0.iter_mut().enumerate();
    match &layout.colour {
        Colour::Grey(inverted) => {
            let flip = if *inverted { 255 } else { 0 };
            match layout.bits {
                bits @ (1 | 2 | 4) => {
                    let scale = 255 / ((1_u16 << bits) - 1) as u8;
                    pixels.zip(packed(line(0), bits as u8)).for_each(|((_, out), v)| *out = [(v * scale) ^ flip; 3]);
                }
                8 => pixels.for_each(|(x, out)| *out = [byte(x, 0) ^ flip; 3]),
                12 => pixels.for_each(|(x, out)| *out = [grey_16(twelve(line(0), x)); 3]),
                _ => pixels.for_each(|(x, out)| *out = [grey_16(number::<2>(line(0), x, layout.little) as u16); 3]),
            }
        }
        Colour::Wide(wide) => pixels.for_each(|(x, out)| *out = [wide_grey(*wide, line(0), x, layout.little); 3]),
        Colour::Palette(palette) if layout.bits == 8 => pixels.for_each(|(x, out)| *out = of_palette(palette, byte(x, 0))),
        Colour::Palette(palette) => {
            pixels.zip(packed(line(0), layout.bits as u8)).for_each(|((_, out), i)| *out = of_palette(palette, i));
        }
        Colour::Rgb(false) | Colour::Converted => pixels.for_each(|(x, out)| *out = [byte(x, 0), byte(x, 1), byte(x, 2)]),
        Colour::Rgb(true) => pixels.for_each(|(x, out)| {
            let alpha = u32::from(byte(x, 3));
            // PIL divides what was multiplied.
            *out = [0, 1, 2].map(|s| (u32::from(byte(x, s)) * 255).checked_div(alpha).unwrap_or(0).min(255) as u8);
        }),
        Colour::Cmyk => pixels.for_each(|(x, out)| *out = of_inks([byte(x, 0), byte(x, 1), byte(x, 2), byte(x, 3)])),
        Colour::Luma(luma) if luma.shared == (1, 1) => pixels.for_each(|(x, out)| *out = luma.rgb(byte(x, 0), byte(x, 1), byte(x, 2))),
        Colour::Luma(luma) => pixels.for_each(|(x, out)| *out = luma.pixel(&planes[0], columns, x, y)),
    }
}

/// The number `x` of 12 bits.
fn twelve(row: &[u8], x: usize) -> u16 {
    let pair = &row[x / 2 * 3..];
    let at = |i: usize| u16::from(pair.get(i).copied().unwrap_or(0));
    if x.is_multiple_of(2) { at(0) << 4 | at(1) >> 4 } else { (at(1) & 15) << 8 | at(2) }
}

/// PIL's modes I and F, cut off at both ends.
fn wide_grey(wide: Wide, row: &[u8], x: usize, little: bool) -> u8 {
    match wide {
        Wide::Signed16 => (number::<2>(row, x, little) as i16).clamp(0, 255) as u8,
        Wide::Unsigned32 | Wide::Signed32 => (number::<4>(row, x, little) as i32).clamp(0, 255) as u8,
        Wide::Float => grey_float(f32::from_bits(number::<4>(row, x, little))),
    }
}
