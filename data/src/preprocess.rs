//! From a decoded picture to the pixels that a network is shown, as torchvision makes them.
//!
//! *Evaluation*: `Resize(R)`, `CenterCrop(S)`, `ToTensor()`, `Normalize(mean, std)`.
//! *Training*: `RandomResizedCrop(S)`, `RandomHorizontalFlip()`, then the same two.
//! Bit for bit from the bytes on: the resampling is PIL's, and the random numbers are drawn
//! in torchvision's order from PyTorch's generator.
//!
//! Pixels stay bytes here, red, green and blue of each one after the other. They become floats where the network
//! reads them: `set_input_bytes` of nunatak-nn's trainer.

use nunatak_core::rng::Generator;

use crate::decode::Rgb8;
use crate::resize::{Axis, Source, resize};

/// Bytes to floats: `(x / 255 − mean) / std` per channel, in f32 as `ToTensor` and
/// `Normalize` do it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalize {
    /// Of red, green, blue, on the scale 0 to 1.
    pub mean: [f32; 3],
    /// Likewise.
    pub std: [f32; 3],
}

impl Normalize {
    /// What torchvision's ResNets were trained with.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
}

impl Default for Normalize {
    fn default() -> Self {
        Self::IMAGENET
    }
}

/// What is done to every picture of a loader.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Preset {
    /// The same pixels every time.
    Evaluation(Evaluation),
    /// Other pixels every epoch.
    Training(Training),
}

impl Preset {
    /// How the bytes become floats.
    pub fn normalize(&self) -> Normalize {
        match self {
            Self::Evaluation(e) => e.normalize,
            Self::Training(t) => t.normalize,
        }
    }

    /// The side S of the squares.
    pub fn size(&self) -> usize {
        match self {
            Self::Evaluation(e) => e.crop,
            Self::Training(t) => t.size,
        }
    }

    /// Fills `out`, size x size x 3. Only training draws from `generator`.
    ///
    /// # Panics
    /// If `out` is not `3 · size · size` long.
    pub fn apply(&self, picture: &Rgb8, generator: &mut Generator, out: &mut [u8]) {
        match self {
            Self::Evaluation(e) => e.apply(picture, out),
            Self::Training(t) => t.apply(picture, generator, out),
        }
    }
}

/// Resize the shorter side, crop the centre.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// The shorter side after resizing, at least 1.
    pub resize: usize,
    /// The side of the square that is cut out, at least 1. Where the resized picture is
    /// smaller, black is put around it.
    pub crop: usize,
    /// How the bytes become floats.
    pub normalize: Normalize,
}

impl Evaluation {
    /// The usual preset for a crop of `size`: resize to `size · 256 / 224`, ImageNet's mean
    /// and deviation.
    pub fn new(size: usize) -> Self {
        Self { resize: size.saturating_mul(256) / 224, crop: size, normalize: Normalize::IMAGENET }
    }

    /// Fills `out`, crop x crop x 3, with the one crop there is.
    ///
    /// # Panics
    /// If `out` is not `3 · crop · crop` long.
    pub fn apply(&self, picture: &Rgb8, out: &mut [u8]) {
        let size = self.crop;
        assert_len(out, size);
        let resize_to = self.resize.max(1);
        let (short, long) = if picture.width <= picture.height { (picture.width, picture.height) } else { (picture.height, picture.width) };
        // torchvision: int(size * long / short), cut, not rounded.
        let long = (resize_to as u128 * long as u128 / short as u128) as usize;
        let (width, height) = if picture.width <= picture.height { (resize_to, long) } else { (long, resize_to) };
        let (pad_x, x) = centre(width, size);
        let (pad_y, y) = centre(height, size);
        // Only what the crop shows is ever computed.
        let pixels = resize(source(picture), x, y);
        // Padding is black.
        out.fill(0);
        let rows = out.chunks_exact_mut(3 * size).skip(pad_y);
        for (to, from) in rows.zip(pixels.chunks_exact(3 * x.len)) {
            to[3 * pad_x..][..from.len()].copy_from_slice(from);
        }
    }
}

/// torchvision's `center_crop` along one axis: the padding before, and what is seen.
fn centre(full: usize, crop: usize) -> (usize, Axis) {
    if crop > full {
        ((crop - full) / 2, Axis::all(full))
    } else {
        // Python's round: a half goes to the even neighbour (341 → 58, 343 → 60, 345 → 60).
        let first = ((full - crop) as f64 / 2.0).round_ties_even() as usize;
        (0, Axis { full, first, len: crop })
    }
}

/// A random part of the picture, resized, and mirrored every other time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// The side of the result, at least 1.
    pub size: usize,
    /// Smallest and largest part of the picture's area.
    pub scale: (f32, f32),
    /// Smallest and largest width : height.
    pub ratio: (f64, f64),
    /// How often the picture is mirrored.
    pub flip: f32,
    /// How the bytes become floats.
    pub normalize: Normalize,
}

/// A part of a picture and whether it is mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Mirrored, left to right.
    pub flip: bool,
}

impl Training {
    /// torchvision's defaults: 8 % to 100 % of the area, 3:4 to 4:3, mirrored half the time.
    pub fn new(size: usize) -> Self {
        Self { size, scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), flip: 0.5, normalize: Normalize::IMAGENET }
    }

    /// What `RandomResizedCrop` and `RandomHorizontalFlip` would choose for a picture of
    /// `width` x `height`.
    ///
    /// Draws 2 for each of at most ten tries, 2 more for the place of one that fits, and 1
    /// for the mirror.
    pub fn cut(&self, width: usize, height: usize, generator: &mut Generator) -> Cut {
        let (top, left, height, width) = self.part(width, height, generator);
        Cut { top, left, height, width, flip: generator.rand_f32() < self.flip }
    }

    fn part(&self, width: usize, height: usize, g: &mut Generator) -> (usize, usize, usize, usize) {
        let area = width as f64 * height as f64;
        let (narrow, wide) = self.ratio;
        let logs = ((narrow as f32).ln(), (wide as f32).ln());
        for _ in 0..10 {
            let target = area * f64::from(g.uniform(self.scale.0, self.scale.1));
            let ratio = f64::from(g.uniform(logs.0, logs.1).exp());
            let w = (target * ratio).sqrt().round_ties_even() as usize;
            let h = (target / ratio).sqrt().round_ties_even() as usize;
            if 0 < w && w <= width && 0 < h && h <= height {
                let top = below(g, height - h + 1);
                let left = below(g, width - w + 1);
                return (top, left, h, w);
            }
        }
        // None fitted: the middle, as much of it as the ratios allow.
        let ratio = width as f64 / height as f64;
        let (w, h) = if ratio < narrow {
            (width, (width as f64 / narrow).round_ties_even() as usize)
        } else if ratio > wide {
            ((height as f64 * wide).round_ties_even() as usize, height)
        } else {
            (width, height)
        };
        // Within the picture by arithmetic, unless the ratios themselves are absurd.
        let (w, h) = (w.clamp(1, width), h.clamp(1, height));
        ((height - h) / 2, (width - w) / 2, h, w)
    }

    /// Fills `out`, size x size x 3, with a random cut.
    ///
    /// # Panics
    /// If `out` is not `3 · size · size` long.
    pub fn apply(&self, picture: &Rgb8, generator: &mut Generator, out: &mut [u8]) {
        let size = self.size;
        assert_len(out, size);
        let cut = self.cut(picture.width, picture.height, generator);
        let part = source(picture).crop(cut.left, cut.top, cut.width, cut.height);
        let pixels = resize(part, Axis::all(size), Axis::all(size));
        out.copy_from_slice(&pixels);
        if cut.flip {
            for row in out.chunks_exact_mut(3 * size) {
                row.as_chunks_mut::<3>().0.reverse();
            }
        }
    }
}

/// `torch.randint(0, n, (1,))`.
fn below(g: &mut Generator, n: usize) -> usize {
    g.random32() as usize % n
}

fn source(picture: &Rgb8) -> Source<'_> {
    Source::new(&picture.pixels, picture.width, picture.height)
}

#[track_caller]
fn assert_len(out: &[u8], size: usize) {
    assert_eq!(out.len(), 3 * size * size, "a picture of {size} x {size} needs another number of bytes");
}
