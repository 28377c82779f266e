//! Between real numbers and bytes.

use super::padded;
use crate::isa::Isa;
use crate::{Cpu, Task, parallel::Chunks};

/// Pixels of a part: some thousands of numbers.
fn part(channels: usize) -> usize {
    (1 << 14) / channels.clamp(1, 1 << 14)
}

/// Bytes from real numbers, for each: `clamp(round(x · inverse_scale) + zero, 0, 255)`. The product is one of `f32`, and
/// halves are rounded to even. Infinities become 0 or 255; what is not a number becomes the zero point.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | pixels x channels | read |
/// | `y` | pixels x [`padded`] channels, whose last bytes become the zero point | overwritten |
///
/// No scratch. Reference: [`crate::reference::int8::quantize`].
///
/// # Panics
/// If the slices are not of the same number of pixels.
pub fn quantize(cpu: &Cpu, channels: usize, inverse_scale: f32, zero: u8, x: &[f32], y: &mut [u8]) {
    let (each, pixels) = check(channels, x.len(), y.len(), "quantize");
    let part = part(channels);
    cpu.run_with(Chunks::new(y, part * each, pixels.div_ceil(part)), &mut [], 0, |i, y, _: &mut [u8]| {
        let x = &x[i * part * channels..][..y.len() / each * channels];
        cpu.level.run(Quantize { channels, inverse_scale, zero, x, y });
    });
}

/// Real numbers from bytes, for each: `(q − zero) · scale` in `f32`.
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | pixels x [`padded`] channels | read |
/// | `y` | pixels x channels | overwritten |
///
/// No scratch. Reference: [`crate::reference::int8::dequantize`].
///
/// # Panics
/// If the slices are not of the same number of pixels.
pub fn dequantize(cpu: &Cpu, channels: usize, scale: f32, zero: u8, x: &[u8], y: &mut [f32]) {
    let (each, pixels) = check(channels, y.len(), x.len(), "dequantize");
    let part = part(channels);
    cpu.run_with(Chunks::new(y, part * channels, pixels.div_ceil(part)), &mut [], 0, |i, y, _: &mut [u8]| {
        let x = &x[i * part * each..][..y.len() / channels * each];
        cpu.level.run(Dequantize { channels, scale, zero, x, y });
    });
}

/// Bytes of a pixel, and how many pixels there are.
fn check(channels: usize, numbers: usize, bytes: usize, what: &str) -> (usize, usize) {
    assert!(channels > 0, "{what}: pixels without channels");
    let (each, pixels) = (padded(channels), numbers / channels);
    assert_eq!(numbers, pixels * channels, "{what}: numbers of pixels with {channels} channels");
    assert_eq!(Some(bytes), pixels.checked_mul(each), "{what}: bytes of {pixels} pixels with {channels} channels, {each} bytes each");
    (each, pixels)
}

/// To the next whole number, halves to even, between −most and most, which are at most 2^21. NaN becomes 0.
#[inline(always)]
pub(super) fn round(x: f32, most: f32) -> i32 {
    // 1.5 · 2^23: from here to the next power of two, neighbouring numbers are 1 apart, so the sum is rounded to a whole one.
    const WHOLE: f32 = 12_582_912.0;
    let x = if x.is_nan() { 0.0 } else { x };
    let x = if x > -most { x } else { -most };
    let x = if x < most { x } else { most };
    (x + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits()) as i32
}

struct Quantize<'a> {
    channels: usize,
    inverse_scale: f32,
    zero: u8,
    x: &'a [f32],
    y: &'a mut [u8],
}

/// Numbers that are converted together where a pixel has fewer.
const TOGETHER: usize = 48;

impl Task for Quantize<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let Quantize { channels, inverse_scale, zero, x, y } = self;
        let each = padded(channels);
        if channels == each {
            return bytes(inverse_scale, zero, x, y);
        }
        if channels > TOGETHER / 2 {
            for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(each)) {
                bytes(inverse_scale, zero, x, &mut y[..channels]);
                y[channels..].fill(zero);
            }
            return;
        }
        let pixels = TOGETHER / channels;
        for (x, y) in x.chunks(pixels * channels).zip(y.chunks_mut(pixels * each)) {
            let mut some = [zero; TOGETHER];
            bytes(inverse_scale, zero, x, &mut some[..x.len()]);
            for (y, some) in y.chunks_exact_mut(each).zip(some.chunks_exact(channels)) {
                y.fill(zero);
                y[..channels].copy_from_slice(some);
            }
        }
    }
}

#[inline(always)]
fn bytes(inverse_scale: f32, zero: u8, x: &[f32], y: &mut [u8]) {
    for (x, y) in x.iter().zip(y) {
        // Bytes reach no further than 255 from the zero point.
        *y = (round(x * inverse_scale, 256.0) + i32::from(zero)).clamp(0, 255) as u8;
    }
}

struct Dequantize<'a> {
    channels: usize,
    scale: f32,
    zero: u8,
    x: &'a [u8],
    y: &'a mut [f32],
}

impl Task for Dequantize<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let Dequantize { channels, scale, zero, x, y } = self;
        let each = padded(channels);
        let numbers = |x: &[u8], y: &mut [f32]| {
            for (x, y) in x.iter().zip(y) {
                *y = (i32::from(*x) - i32::from(zero)) as f32 * scale;
            }
        };
        if channels == each {
            return numbers(x, y);
        }
        for (x, y) in x.chunks_exact(each).zip(y.chunks_exact_mut(channels)) {
            numbers(&x[..channels], y);
        }
    }
}
