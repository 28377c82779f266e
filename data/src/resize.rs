//! PIL's `Image.resize(size, Image.BILINEAR)` for RGB8, equal to the byte.
//!
//! PIL's bilinear is antialiased: when it shrinks, the triangle widens with the scale, so
//! that every source pixel counts. Without that ResNet18 loses 0.8 points of top-1, and a
//! resampler that rounds otherwise (`fast_image_resize` does in 1 % of the bytes) gives
//! other tensors than those the weights were trained on. Per output pixel `i` of an axis:
//!
//! ```text
//! scale  = in / out;  support = max(scale, 1);  centre = (i + ½)·scale
//! first  = int(centre − support + ½), last = int(centre + support + ½), cut to [0, in]
//! weight = 1 − |x + ½ − centre| / support, divided by their sum, rounded to 22 bits
//! pixel  = clamp((Σ weight·byte + 2²¹) >> 22)
//! ```
//!
//! One pass per axis, and bytes in between, so their order shows. It is horizontal first,
//! except where the height loses more than twice the pixels that the width does: since
//! Pillow 13 (python-pillow/Pillow#9549) that goes vertically first. Each output pixel stands
//! alone, so a *window* of the result can be made without the rest of it: the centre crop
//! of a 1 x 60000 picture costs no more than any other.

/// Fractional bits of a weight. A sum of weights is 2²² to within rounding, times 255 fits
/// an i32.
const BITS: u32 = 22;

/// A rectangle of an RGB8 picture, to be resized.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pixels: &'a [u8],
    /// Bytes from one row to the next.
    stride: usize,
    width: usize,
    height: usize,
}

impl<'a> Source<'a> {
    /// All of a picture of `width` x `height` pixels, three bytes each.
    ///
    /// # Panics
    /// If a side is 0 or `pixels` has another length than `width · height · 3`.
    pub fn new(pixels: &'a [u8], width: usize, height: usize) -> Self {
        let bytes = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        assert!(bytes == Some(pixels.len()) && !pixels.is_empty(), "{width} x {height} RGB pixels can't lie in {} bytes", pixels.len());
        Self { pixels, stride: width * 3, width, height }
    }

    /// The part of it that begins at (`left`, `top`), like PIL's `crop`.
    ///
    /// # Panics
    /// If the part is empty or reaches past the picture.
    #[must_use]
    pub fn crop(self, left: usize, top: usize, width: usize, height: usize) -> Self {
        let inside = |from: usize, len: usize, all: usize| len > 0 && from.checked_add(len).is_some_and(|end| end <= all);
        assert!(
            inside(left, width, self.width) && inside(top, height, self.height),
            "a crop of {width} x {height} at ({left}, {top}) leaves the {} x {} picture",
            self.width,
            self.height
        );
        Self { pixels: &self.pixels[top * self.stride + left * 3..], width, height, ..self }
    }

    fn row(&self, y: usize) -> &'a [u8] {
        &self.pixels[y * self.stride..][..self.width * 3]
    }
}

/// One axis of the result: `len` pixels from `first` on, of the `full` that PIL would make.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Pixels of the whole result.
    pub full: usize,
    /// The first one wanted.
    pub first: usize,
    /// How many are wanted.
    pub len: usize,
}

impl Axis {
    /// The whole axis.
    pub fn all(full: usize) -> Self {
        Self { full, first: 0, len: full }
    }
}

/// `source.resize((x.full, y.full), BILINEAR)`, cut to the window: `y.len` rows of `x.len`
/// RGB8 pixels.
///
/// # Panics
/// If a window is empty or reaches past its axis.
pub fn resize(source: Source<'_>, x: Axis, y: Axis) -> Vec<u8> {
    let columns = Taps::new(source.width, x);
    let rows = Taps::new(source.height, y);
    // Of the first pass only what the second will read.
    if vertical_first(source, x, y) {
        let (left, right) = columns.span();
        let between = vertical(source.crop(left, 0, right - left, source.height), &rows);
        let between = Source::new(&between, right - left, y.len);
        horizontal(between, &columns.moved(left))
    } else {
        let (top, bottom) = rows.span();
        let between = horizontal(source.crop(0, top, source.width, bottom - top), &columns);
        let between = Source::new(&between, x.len, bottom - top);
        vertical(between, &rows.moved(top))
    }
}

/// Pillow 13's choice, found by experiment: 150 sizes around the border agree.
fn vertical_first(source: Source<'_>, x: Axis, y: Axis) -> bool {
    let lost = |from: usize, to: usize| from as i128 - to as i128;
    let height = lost(source.height, y.full);
    height > 0 && height > 2 * lost(source.width, x.full)
}

/// All rows of `source`.
fn horizontal(source: Source<'_>, columns: &Taps) -> Vec<u8> {
    let width = columns.bounds.len() * 3;
    let mut result = vec![0; source.height * width];
    for (y, out) in result.chunks_exact_mut(width).enumerate() {
        let row = source.row(y);
        for (tap, pixel) in columns.iter().zip(out.chunks_exact_mut(3)) {
            let mut sum = [1_i32 << (BITS - 1); 3];
            let from = row[tap.first * 3..].chunks_exact(3);
            for (rgb, &weight) in from.zip(tap.weights) {
                for (s, &byte) in sum.iter_mut().zip(rgb) {
                    *s += weight * i32::from(byte);
                }
            }
            for (byte, s) in pixel.iter_mut().zip(sum) {
                *byte = to_byte(s);
            }
        }
    }
    result
}

/// All columns of `source`. Whole rows at a time, which the compiler turns into SIMD.
fn vertical(source: Source<'_>, rows: &Taps) -> Vec<u8> {
    let width = source.width * 3;
    let mut result = vec![0; rows.bounds.len() * width];
    let mut sums = vec![0_i32; width];
    for (tap, out) in rows.iter().zip(result.chunks_exact_mut(width)) {
        sums.fill(1 << (BITS - 1));
        for (y, &weight) in (tap.first..).zip(tap.weights) {
            for (sum, &byte) in sums.iter_mut().zip(source.row(y)) {
                *sum += weight * i32::from(byte);
            }
        }
        for (byte, &sum) in out.iter_mut().zip(&sums) {
            *byte = to_byte(sum);
        }
    }
    result
}

fn to_byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// The weights of a window of an axis, `stride` places apart.
struct Taps {
    /// First source pixel and number of weights, per output pixel.
    bounds: Vec<(usize, usize)>,
    weights: Vec<i32>,
    stride: usize,
}

struct Tap<'a> {
    first: usize,
    weights: &'a [i32],
}

impl Taps {
    /// Every operation is PIL's, in PIL's order, in double: a weight that rounds to the
    /// other side changes bytes.
    fn new(input: usize, axis: Axis) -> Self {
        assert!(
            axis.len > 0 && axis.first.checked_add(axis.len).is_some_and(|e| e <= axis.full),
            "a window of {} pixels from {} on is not in a result of {}",
            axis.len,
            axis.first,
            axis.full
        );
        let scale = input as f64 / axis.full as f64;
        let support = scale.max(1.0);
        let stride = support.ceil() as usize * 2 + 1;
        let mut taps = Self { bounds: Vec::with_capacity(axis.len), weights: vec![0; axis.len * stride], stride };
        let mut exact = Vec::with_capacity(stride);
        let slots = taps.weights.chunks_exact_mut(stride);
        for (i, slot) in (axis.first..).zip(slots) {
            let centre = (i as f64 + 0.5) * scale;
            // `as` cuts towards zero and saturates at 0, which is PIL's own clamp.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(input);
            exact.clear();
            exact.extend((first..end).map(|x| {
                let away = ((x as f64 - centre + 0.5) * (1.0 / support)).abs();
                if away < 1.0 { 1.0 - away } else { 0.0 }
            }));
            let total: f64 = exact.iter().sum();
            for (w, e) in slot.iter_mut().zip(&exact) {
                *w = (0.5 + e / total * f64::from(1 << BITS)) as i32;
            }
            taps.bounds.push((first, end - first));
        }
        taps
    }

    fn iter(&self) -> impl Iterator<Item = Tap<'_>> {
        let slots = self.weights.chunks_exact(self.stride);
        self.bounds.iter().zip(slots).map(|(&(first, n), w)| Tap { first, weights: &w[..n] })
    }

    /// The same weights on a source that begins at pixel `from`.
    fn moved(mut self, from: usize) -> Self {
        for (first, _) in &mut self.bounds {
            *first -= from;
        }
        self
    }

    /// The source pixels that any of the weights touches.
    fn span(&self) -> (usize, usize) {
        let low = self.bounds.first().map_or(0, |b| b.0);
        let high = self.bounds.last().map_or(0, |b| b.0 + b.1);
        (low, high)
    }
}
