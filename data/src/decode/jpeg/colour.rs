//! What the components mean, and the picture made of them.

use super::upsample::Plane;
use super::{Colours, Component, Frame, Samples};

/// What three or four components are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Grey, RGB or CMYK: nothing to convert.
    Plain,
    /// Luma and chroma, then black if there are four.
    Luma,
}

impl Meaning {
    /// As libjpeg decides: JFIF means luma and chroma, Adobe's marker says, then the components' names.
    pub(super) fn of(colours: Colours, jfif: bool, adobe: Option<u8>, components: &[Component]) -> Meaning {
        let names: Vec<u8> = components.iter().map(|c| c.id).collect();
        let luma = match (colours, components.len(), adobe) {
            (_, 1, _) | (Colours::AsTheyAre, ..) => false,
            (Colours::Luma, ..) => true,
            (Colours::Guessed, 3, _) if jfif => true,
            (Colours::Guessed, 3, Some(transform)) => transform != 0,
            (Colours::Guessed, 3, None) => names != *b"RGB",
            (Colours::Guessed, _, Some(transform)) => transform != 0,
            (Colours::Guessed, _, None) => false,
        };
        if luma { Meaning::Luma } else { Meaning::Plain }
    }
}

/// Brings every component to the picture's size and converts the colours.
pub(super) fn picture(frame: &Frame, meaning: Meaning) -> Samples {
    let (width, height, channels) = (frame.width, frame.height, frame.components.len());
    let planes: Vec<Plane> = frame
        .components
        .iter()
        .map(|c| Plane {
            samples: &c.samples,
            stride: 8 * c.across,
            width: c.width,
            height: c.height,
            across: frame.h / c.h,
            down: frame.v / c.v,
        })
        .collect();
    let mut rows = vec![vec![0_u8; width]; channels];
    let mut data = vec![0; width * height * channels];
    for (y, out) in data.chunks_exact_mut(width * channels).enumerate() {
        for (plane, row) in planes.iter().zip(&mut rows) {
            plane.write_row(y, row);
        }
        match (&rows[..], meaning) {
            ([grey], _) => out.copy_from_slice(grey),
            ([a, b, c], Meaning::Plain) => {
                for (out, ((a, b), c)) in out.chunks_exact_mut(3).zip(a.iter().zip(b).zip(c)) {
                    out.copy_from_slice(&[*a, *b, *c]);
                }
            }
            ([luma, blue, red], Meaning::Luma) => {
                for (out, ((y, b), r)) in out.chunks_exact_mut(3).zip(luma.iter().zip(blue).zip(red)) {
                    out.copy_from_slice(&rgb(*y, *b, *r));
                }
            }
            ([a, b, c, k], meaning) => {
                for (out, (((a, b), c), k)) in out.chunks_exact_mut(4).zip(a.iter().zip(b).zip(c).zip(k)) {
                    // Of luma and chroma libjpeg makes the inks, the complement of RGB.
                    let inks = if meaning == Meaning::Luma { rgb(*a, *b, *c).map(|v| 255 - v) } else { [*a, *b, *c] };
                    out.copy_from_slice(&[inks[0], inks[1], inks[2], *k]);
                }
            }
            _ => {}
        }
    }
    Samples { width, height, channels, data }
}

/// From luma and chroma, in libjpeg's fixed point of 16 bits.
#[inline]
pub(in crate::decode) fn rgb(y: u8, blue: u8, red: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, b, r) = (i32::from(y), i32::from(blue) - 128, i32::from(red) - 128);
    let red = y + ((91_881 * r + HALF) >> 16);
    let green = y + ((-22_554 * b - 46_802 * r + HALF) >> 16);
    let blue = y + ((116_130 * b + HALF) >> 16);
    [red, green, blue].map(|v| v.clamp(0, 255) as u8)
}
