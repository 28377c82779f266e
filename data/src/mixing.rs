//! Batches whose images are mixed in pairs, as torchvision's `MixUp` and `CutMix` (`torchvision.transforms.v2`) mix
//! them: image i of a batch with the one before it, the first with the last, and labels that become probabilities.
//!
//! | | images | label |
//! |---|---|---|
//! | MixUp | λ · own + (1 − λ) · other, of the normalised pixels | λ own, 1 − λ other |
//! | CutMix | own, and within a box the other's pixels | by the area that is really cut |
//!
//! λ is drawn from Beta(α, α), once for a batch. Where both are asked for each batch has one of them, with even odds.
//!
//! What is drawn depends on the seed, the epoch and the number of the batch alone, so that an epoch can be resumed at
//! any batch. The random numbers are this crate's own: torch's depend on how many workers load.

use std::fmt;
use std::ops::Range;

use nunatak_core::rng::Generator;

use crate::loader::{Batch, mix};
use crate::preprocess::Normalize;

/// Tells these draws from those of the random cuts, which come from the same seed.
const STREAM: u64 = 0x6d69_7875_7063_7574;

/// An α that no Beta distribution has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlphaError {
    /// `MixUp` or `CutMix`.
    pub name: &'static str,
    /// The number.
    pub alpha: f64,
}

impl fmt::Display for AlphaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the alpha of {} is {}; it must be a finite number above 0", self.name, self.alpha)
    }
}

impl std::error::Error for AlphaError {}

/// How the batches of a training are mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mixing {
    mixup: Option<f64>,
    cutmix: Option<f64>,
}

impl Mixing {
    /// With these α; not at all where there is none.
    ///
    /// # Errors
    /// [`AlphaError`] where one is no finite number above 0.
    pub fn new(mixup: Option<f64>, cutmix: Option<f64>) -> Result<Self, AlphaError> {
        for (name, alpha) in [("MixUp", mixup), ("CutMix", cutmix)] {
            if let Some(alpha) = alpha.filter(|alpha| !(alpha.is_finite() && *alpha > 0.0)) {
                return Err(AlphaError { name, alpha });
            }
        }
        Ok(Self { mixup, cutmix })
    }

    /// Whether anything is mixed.
    pub fn is_on(&self) -> bool {
        self.mixup.is_some() || self.cutmix.is_some()
    }

    /// Bytes that [`Mix::images`] takes at most for `images` of so many bytes each.
    pub fn bytes(&self, images: usize, image: usize) -> usize {
        let of_byte = if self.mixup.is_some() { size_of::<f32>() } else { usize::from(self.cutmix.is_some()) };
        images.saturating_mul(image).saturating_mul(of_byte)
    }

    /// How a batch of squares with this side is mixed: the batch with this number in this epoch. Nothing where nothing
    /// is mixed.
    pub fn draw(&self, seed: u64, epoch: u64, batch: u64, side: usize) -> Option<Mix> {
        let mut generator = Generator::manual_seed(mix(mix(mix(seed ^ STREAM) ^ epoch) ^ batch));
        let (alpha, cuts) = match (self.mixup, self.cutmix) {
            (None, None) => return None,
            (Some(alpha), None) => (alpha, false),
            (None, Some(alpha)) => (alpha, true),
            (Some(up), Some(cut)) => {
                let cuts = generator.rand_f64() >= 0.5;
                (if cuts { cut } else { up }, cuts)
            }
        };
        let lambda = beta(&mut generator, alpha);
        if !cuts {
            return Some(Mix::Up { lambda });
        }
        // As torch.randint: the remainder of 32 bits.
        let mut below = |n: usize| (u64::from(generator.random32()) % (n.max(1) as u64)) as usize;
        let (x, y) = (below(side), below(side));
        Some(Mix::Cut(Cut::new(lambda, [x, y], [side, side])))
    }
}

/// A box of an image: columns x, rows y.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    x: Range<usize>,
    y: Range<usize>,
    /// Width and height of the image.
    size: [usize; 2],
}

impl Cut {
    /// The box of CutMix around the point `[x, y]` of an image of `[width, height]`: its sides are √(1 − λ) of the
    /// image's, and what lies outside of the image is left out.
    pub fn new(lambda: f64, [x, y]: [usize; 2], [width, height]: [usize; 2]) -> Cut {
        // Half the sides. The cast cuts off what is behind the point, as Python's int() does.
        let half = 0.5 * (1.0 - lambda).max(0.0).sqrt();
        let range = |at: usize, n: usize| {
            let half = (half * n as f64) as usize;
            at.saturating_sub(half).min(n)..at.saturating_add(half).min(n)
        };
        Cut { x: range(x, width), y: range(y, height), size: [width, height] }
    }

    /// Columns.
    pub fn x(&self) -> Range<usize> {
        self.x.clone()
    }

    /// Rows.
    pub fn y(&self) -> Range<usize> {
        self.y.clone()
    }

    /// The part of an image that it leaves.
    pub fn left(&self) -> f64 {
        let area = |[w, h]: [usize; 2]| w as f64 * h as f64;
        1.0 - area([self.x.len(), self.y.len()]) / area(self.size).max(1.0)
    }
}

/// How the images of one batch are mixed.
#[derive(Clone, Debug, PartialEq)]
pub enum Mix {
    /// MixUp.
    Up {
        /// How much of an image stays.
        lambda: f64,
    },
    /// CutMix.
    Cut(Cut),
}

/// Images that were mixed.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixed {
    /// Normalised numbers, `[n, 3, side, side]`: sums of two images are no bytes.
    Numbers(Vec<f32>),
    /// As in [`Batch::pixels`].
    Bytes(Vec<u8>),
}

impl Mix {
    /// How much of its own label an image keeps; the rest is that of the image that was mixed into it.
    pub fn lambda(&self) -> f64 {
        match self {
            Mix::Up { lambda } => *lambda,
            Mix::Cut(cut) => cut.left(),
        }
    }

    /// The probabilities of the classes, n x `classes`.
    ///
    /// # Panics
    /// If a label is no class.
    pub fn targets(&self, labels: &[i64], classes: usize) -> Vec<f32> {
        let (own, other) = parts(self.lambda());
        let mut targets = vec![0.0; labels.len() * classes];
        for (i, row) in targets.chunks_exact_mut(classes.max(1)).enumerate() {
            for (label, part) in [(labels[before(i, labels.len())], other), (labels[i], own)] {
                assert!((0..classes as i64).contains(&label), "the label {label} is none of {classes} classes");
                row[label as usize] += part;
            }
        }
        targets
    }

    /// These images of a batch, mixed.
    ///
    /// # Panics
    /// If the batch has fewer images, or they are no squares.
    pub fn images(&self, batch: &Batch, part: Range<usize>) -> Mixed {
        let n = batch.labels.len();
        assert!(part.end <= n && part.start <= part.end, "images {part:?} of {n}");
        let image = batch.pixels.len() / n.max(1);
        let pixels = |i: usize| &batch.pixels[i * image..][..image];
        match self {
            Mix::Up { lambda } => {
                let tables = Tables::new(&batch.normalize, *lambda);
                let mut numbers = Vec::with_capacity(part.len() * image);
                part.for_each(|i| tables.add(pixels(i), pixels(before(i, n)), &mut numbers));
                Mixed::Numbers(numbers)
            }
            Mix::Cut(cut) => {
                let [width, height] = cut.size;
                assert!(n == 0 || image == 3 * width * height, "images of {image} bytes, cut as {width} x {height}");
                let mut bytes = batch.pixels[part.start * image..part.end * image].to_vec();
                for (i, own) in part.zip(bytes.chunks_exact_mut(image.max(1))) {
                    let other = pixels(before(i, n));
                    for row in cut.y() {
                        let columns = 3 * (row * width + cut.x.start)..3 * (row * width + cut.x.end);
                        own[columns.clone()].copy_from_slice(&other[columns]);
                    }
                }
                Mixed::Bytes(bytes)
            }
        }
    }
}

/// The image that is mixed into image `i` of `n`: torch's `roll(1, 0)`.
fn before(i: usize, n: usize) -> usize {
    if i == 0 { n.saturating_sub(1) } else { i - 1 }
}

/// λ and 1 − λ, rounded as torch rounds a factor of float tensors.
fn parts(lambda: f64) -> (f32, f32) {
    (lambda as f32, (1.0 - lambda) as f32)
}

/// What each byte of each channel adds to a sum: normalised, times λ or 1 − λ. Rounded at every step, as torch does.
struct Tables {
    own: [[f32; 256]; 3],
    other: [[f32; 256]; 3],
}

impl Tables {
    fn new(normalize: &Normalize, lambda: f64) -> Tables {
        let table = |part: f32| {
            std::array::from_fn(|c| std::array::from_fn(|byte| (byte as f32 / 255.0 - normalize.mean[c]) / normalize.std[c] * part))
        };
        let (own, other) = parts(lambda);
        Tables { own: table(own), other: table(other) }
    }

    /// Adds an image, channel by channel.
    fn add(&self, own: &[u8], other: &[u8], out: &mut Vec<f32>) {
        for (c, (of_own, of_other)) in self.own.iter().zip(&self.other).enumerate() {
            let bytes = own.iter().zip(other).skip(c).step_by(3);
            out.extend(bytes.map(|(own, other)| of_other[usize::from(*other)] + of_own[usize::from(*own)]));
        }
    }
}

/// A number from Beta(α, α): a / (a + b) of two numbers from Gamma(α, 1). By their logarithms, because for a small α
/// both are below the smallest f64 more often than not.
fn beta(generator: &mut Generator, alpha: f64) -> f64 {
    let (a, b) = (log_gamma(generator, alpha), log_gamma(generator, alpha));
    1.0 / (1.0 + (b - a).exp())
}

/// The logarithm of a number from Gamma(α, 1): G. Marsaglia and W. W. Tsang, A simple method for generating gamma
/// variables, ACM Transactions on Mathematical Software 26 (2000), 363–372. For α below 1 as they say in its section 6: a
/// number from Gamma(α + 1, 1) times u^(1/α).
fn log_gamma(generator: &mut Generator, alpha: f64) -> f64 {
    if alpha < 1.0 {
        return log_gamma(generator, alpha + 1.0) + above_0(generator).ln() / alpha;
    }
    let d = alpha - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(generator);
        let v = (1.0 + c * x).powi(3);
        // In this order v near 1, of a large α, loses no digits.
        if v > 0.0 && above_0(generator).ln() < 0.5 * x * x + d * (1.0 - v + v.ln()) {
            return d.ln() + v.ln();
        }
    }
}

/// Uniform in (0, 1], so that the logarithm is finite.
fn above_0(generator: &mut Generator) -> f64 {
    1.0 - generator.rand_f64()
}

/// A normal of mean 0 and deviation 1, by Box and Muller's formula; the second one is not kept.
fn normal(generator: &mut Generator) -> f64 {
    let radius = (-2.0 * above_0(generator).ln()).sqrt();
    radius * (2.0 * std::f64::consts::PI * generator.rand_f64()).cos()
}
