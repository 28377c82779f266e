//! Pictures that the demo draws itself: textures and shapes with random colours, phase, scale,
//! direction and noise, all from one generator, so that a seed means the same pictures everywhere.

use nunatak_core::rng::Generator;
use std::f32::consts::{PI, TAU};

/// Lines and columns of a picture.
pub(super) const SIZE: usize = 32;
/// Numbers of a picture: three colours in PyTorch's order c, h, w.
pub(super) const NUMBERS: usize = 3 * SIZE * SIZE;

/// What a picture shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Motif {
    /// Bars from left to right.
    HorizontalStripes,
    /// Circles around a point.
    Rings,
    /// Discs on a grid.
    Dots,
    /// One filled triangle.
    Triangle,
    /// Bars from top to bottom.
    VerticalStripes,
    /// Bars from corner to corner.
    DiagonalStripes,
    /// Squares that alternate.
    Checkerboard,
    /// From one colour to the other across the picture.
    Gradient,
}

impl Motif {
    /// What the network learns from nothing.
    pub(super) const FIRST: [Motif; 4] = [Motif::HorizontalStripes, Motif::Rings, Motif::Dots, Motif::Triangle];
    /// What only its new head learns.
    pub(super) const SECOND: [Motif; 4] = [Motif::VerticalStripes, Motif::DiagonalStripes, Motif::Checkerboard, Motif::Gradient];

    /// Its name in a sentence.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Motif::HorizontalStripes => "horizontal stripes",
            Motif::Rings => "rings",
            Motif::Dots => "dots",
            Motif::Triangle => "triangles",
            Motif::VerticalStripes => "vertical stripes",
            Motif::DiagonalStripes => "diagonal stripes",
            Motif::Checkerboard => "checkerboards",
            Motif::Gradient => "gradients",
        }
    }

    /// Draws one picture, normalised to about −2 … 2.
    pub(super) fn draw(self, random: &mut Generator, out: &mut [f32]) {
        let [paper, ink] = colours(random);
        let noise = random.uniform(0.1, 0.5);
        let pattern = Pattern::new(self, random);
        for y in 0..SIZE {
            for x in 0..SIZE {
                let place = |i: usize| (i as f32 + 0.5) / SIZE as f32 - 0.5;
                let cover = pattern.cover(place(x), place(y));
                for channel in 0..3 {
                    let colour = paper[channel] + (ink[channel] - paper[channel]) * cover;
                    let grain = noise * random.uniform(-1.0, 1.0);
                    out[(channel * SIZE + y) * SIZE + x] = ((colour + grain).clamp(0.0, 1.0) - 0.5) * 4.0;
                }
            }
        }
    }
}

/// Two colours that can be told apart: at least 0.5 between them, summed over the channels.
fn colours(random: &mut Generator) -> [[f32; 3]; 2] {
    loop {
        let mut colour = || [random.rand_f32(), random.rand_f32(), random.rand_f32()];
        let pair = [colour(), colour()];
        let distance: f32 = pair[0].iter().zip(&pair[1]).map(|(a, b)| (a - b).abs()).sum();
        if distance >= 0.5 {
            return pair;
        }
    }
}

/// A motif with its random numbers; lengths are in pictures, so that 1 is from edge to edge.
struct Pattern {
    motif: Motif,
    /// The direction across the stripes, or of the grid.
    across: [f32; 2],
    /// Periods per picture.
    periods: f32,
    phase: [f32; 2],
    centre: [f32; 2],
    radius: f32,
}

impl Pattern {
    fn new(motif: Motif, random: &mut Generator) -> Pattern {
        let tilt = random.uniform(-0.2, 0.2);
        let angle = match motif {
            Motif::HorizontalStripes => PI / 2.0 + tilt,
            Motif::VerticalStripes => tilt,
            Motif::DiagonalStripes if random.rand_f32() < 0.5 => PI / 4.0 + tilt,
            Motif::DiagonalStripes => 3.0 * PI / 4.0 + tilt,
            _ => random.uniform(0.0, TAU),
        };
        Pattern {
            motif,
            across: [angle.cos(), angle.sin()],
            periods: random.uniform(2.0, 6.0),
            phase: [random.uniform(0.0, TAU), random.uniform(0.0, TAU)],
            centre: [random.uniform(-0.25, 0.25), random.uniform(-0.25, 0.25)],
            radius: random.uniform(0.2, 0.4),
        }
    }

    /// How much ink lies at a place: 0 to 1, with soft edges.
    fn cover(&self, x: f32, y: f32) -> f32 {
        let [c, s] = self.across;
        let (u, v) = (x * c + y * s, y * c - x * s);
        let wave = |t: f32, phase: f32| (TAU * self.periods * t + phase).sin();
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        let soft = |t: f32| (0.5 + 0.5 * t).clamp(0.0, 1.0);
        match self.motif {
            Motif::HorizontalStripes | Motif::VerticalStripes | Motif::DiagonalStripes => soft(3.0 * wave(u, self.phase[0])),
            Motif::Rings => soft(3.0 * wave((dx * dx + dy * dy).sqrt(), self.phase[0])),
            Motif::Checkerboard => soft(4.0 * wave(u, self.phase[0]) * wave(v, self.phase[1])),
            // The tops of two waves that cross.
            Motif::Dots => soft(3.0 * (wave(u, self.phase[0]) + wave(v, self.phase[1]) - 0.9)),
            Motif::Gradient => (0.5 + 0.8 * u).clamp(0.0, 1.0),
            Motif::Triangle => {
                // The least distance to the three sides, from inside.
                let inside = (0..3).map(|i| {
                    let (sin, cos) = (self.phase[0] + TAU / 3.0 * i as f32).sin_cos();
                    0.6 * self.radius - dx * cos - dy * sin
                });
                soft(SIZE as f32 * inside.fold(f32::INFINITY, f32::min))
            }
        }
    }
}

/// Pictures and what they show.
pub(super) struct Pictures {
    /// One after the other.
    pub(super) images: Vec<f32>,
    /// The motif of each, by its place among those that were asked for.
    pub(super) labels: Vec<i64>,
}

impl Pictures {
    /// `each` pictures of every motif.
    pub(super) fn draw(motifs: &[Motif], each: usize, seed: u64) -> Pictures {
        let mut random = Generator::manual_seed(seed);
        let count = motifs.len() * each;
        let labels: Vec<i64> = (0..count).map(|i| (i % motifs.len()) as i64).collect();
        let mut images = vec![0.0; count * NUMBERS];
        for (image, label) in images.chunks_exact_mut(NUMBERS).zip(&labels) {
            motifs[*label as usize].draw(&mut random, image);
        }
        Pictures { images, labels }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// The pictures `order`, one after the other, and their labels.
    pub(super) fn batch(&self, order: &[u32], images: &mut Vec<f32>, labels: &mut Vec<i64>) {
        images.clear();
        labels.clear();
        for &i in order {
            images.extend_from_slice(&self.images[i as usize * NUMBERS..][..NUMBERS]);
            labels.push(self.labels[i as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_pictures_and_every_motif_has_contrast() {
        for motif in Motif::FIRST.into_iter().chain(Motif::SECOND) {
            let one = Pictures::draw(&[motif], 20, 7);
            assert_eq!(one.images, Pictures::draw(&[motif], 20, 7).images);
            assert_ne!(one.images, Pictures::draw(&[motif], 20, 8).images);
            assert!(one.images.iter().all(|v| (-2.0..=2.0).contains(v)));
            for seed in 0..20 {
                let pattern = Pattern::new(motif, &mut Generator::manual_seed(seed));
                let cover: Vec<f32> =
                    (0..400).map(|i| pattern.cover((i % 20) as f32 / 20.0 - 0.475, (i / 20) as f32 / 20.0 - 0.475)).collect();
                let (low, high) = cover.iter().fold((1.0_f32, 0.0_f32), |(l, h), v| (l.min(*v), h.max(*v)));
                assert!(high - low > 0.5, "{motif:?} with seed {seed}: {low} to {high}");
            }
        }
    }
}
