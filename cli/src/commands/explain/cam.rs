//! Grad-CAM: which places of the last feature map speak for a class.
//!
//! R. R. Selvaraju and others, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017.
//! With activations A of channels k on h x w places, and the logit y of the class:
//!
//! ```text
//! weight[k]    = mean of ∂y/∂A[k] over all places
//! map[i, j]    = max(0, Σ weight[k] · A[k, i, j]), divided by its largest number
//! ```

use crate::engine::Engine;
use nunatak_nn::Error;

/// Where in an image a class is seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HeatMap {
    /// Columns.
    pub(super) width: usize,
    /// Row by row, from 0 to 1; zeros alone where nothing speaks for the class.
    pub(super) numbers: Vec<f64>,
    /// The largest number before it was scaled to 1: if the head is linear, what its place adds to the logit.
    pub(super) peak: f64,
}

impl HeatMap {
    /// From the activations of an image and their gradient, channel by channel of `plane` numbers in rows of `width`. None
    /// where one of them is not finite.
    pub(super) fn new(activations: &[f32], gradient: &[f32], plane: usize, width: usize) -> Option<HeatMap> {
        let mut numbers = vec![0.0; plane];
        for (channel, slopes) in activations.chunks_exact(plane).zip(gradient.chunks_exact(plane)) {
            let weight = slopes.iter().map(|&slope| f64::from(slope)).sum::<f64>() / plane as f64;
            numbers.iter_mut().zip(channel).for_each(|(sum, &a)| *sum += weight * f64::from(a));
        }
        // Asked before relu, which makes a zero of NaN.
        if !numbers.iter().all(|sum| sum.is_finite()) {
            return None;
        }
        numbers.iter_mut().for_each(|sum| *sum = sum.max(0.0));
        let peak = numbers.iter().copied().fold(0.0, f64::max);
        if peak > 0.0 {
            numbers.iter_mut().for_each(|number| *number /= peak);
        }
        Some(HeatMap { width, numbers, peak })
    }

    /// Rows.
    pub(super) fn height(&self) -> usize {
        self.numbers.len() / self.width.max(1)
    }

    /// The map enlarged to a square of `side` pixels, bilinearly, row by row: the numbers of PyTorch's `interpolate` with
    /// `mode="bilinear"` and `align_corners=False`.
    pub(super) fn enlarged(&self, side: usize) -> impl Iterator<Item = f64> + '_ {
        let columns: Vec<Between> = (0..side).map(|x| Between::of(x, side, self.width)).collect();
        (0..side).flat_map(move |y| {
            let row = Between::of(y, side, self.height());
            let line = |row: usize| &self.numbers[row * self.width..][..self.width];
            let (above, below) = (line(row.first), line(row.second));
            let pixels =
                columns.iter().map(move |at| row.mix(at.mix(above[at.first], above[at.second]), at.mix(below[at.first], below[at.second])));
            pixels.collect::<Vec<f64>>()
        })
    }
}

/// Where a pixel's centre lies between two numbers of a smaller axis.
struct Between {
    first: usize,
    second: usize,
    /// How far from the first to the second.
    share: f64,
}

impl Between {
    fn of(pixel: usize, pixels: usize, numbers: usize) -> Between {
        let at = ((pixel as f64 + 0.5) * numbers as f64 / pixels as f64 - 0.5).max(0.0);
        let first = (at as usize).min(numbers.saturating_sub(1));
        Between { first, second: (first + 1).min(numbers.saturating_sub(1)), share: at - first as f64 }
    }

    fn mix(&self, first: f64, second: f64) -> f64 {
        first + (second - first) * self.share
    }
}

/// The heat maps of the images whose logits the engine computed last, by its plan 0, each for its class: one backward
/// walk for all of them, since in eval mode no image's logits follow from another image.
///
/// # Errors
/// Those of [`nunatak_nn::Trainer::backward_with`]; [`Error::NotKept`] where the plan keeps no map.
pub(super) fn heat_maps(engine: &mut Engine, classes: usize, chosen: &[usize]) -> Result<Vec<Option<HeatMap>>, Error> {
    let plan = engine.plan(0, chosen.len())?;
    let (Some(map), Some([_, channels, height, width])) = (plan.map, plan.map_shape()) else { return Err(Error::NotKept) };
    let mut one_hot = vec![0.0; chosen.len() * classes];
    for (row, &class) in one_hot.chunks_exact_mut(classes).zip(chosen) {
        row[class] = 1.0;
    }
    engine.trainer.backward_with(&one_hot)?;
    let image = channels * height * width;
    let (mut activations, mut gradient) = (vec![0.0; chosen.len() * image], vec![0.0; chosen.len() * image]);
    engine.trainer.value(map, &mut activations)?;
    engine.trainer.value_gradient(map, &mut gradient)?;
    let images = activations.chunks_exact(image).zip(gradient.chunks_exact(image));
    Ok(images.map(|(activations, gradient)| HeatMap::new(activations, gradient, height * width, width)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_the_formula() {
        // Two channels of 2 x 2, whose mean gradients are 1 and -0.5.
        let activations = [1.0, 2.0, 3.0, 4.0, 0.0, 6.0, 0.0, 4.0];
        let gradient = [4.0, 0.0, 0.0, 0.0, -0.5, -0.5, -0.5, -0.5];
        let map = HeatMap::new(&activations, &gradient, 4, 2).unwrap();
        assert_eq!((map.numbers.as_slice(), map.peak, map.height()), ([1.0 / 3.0, 0.0, 1.0, 2.0 / 3.0].as_slice(), 3.0, 2));
        let cold = HeatMap::new(&activations, &gradient.map(|g| -g.abs()), 4, 2).unwrap();
        assert_eq!((cold.numbers.as_slice(), cold.peak), ([0.0; 4].as_slice(), 0.0));
        for bad in [f32::NAN, f32::INFINITY] {
            assert_eq!(HeatMap::new(&activations, &gradient.map(|g| if g == 4.0 { bad } else { g }), 4, 2), None);
        }
    }

    /// PyTorch 2: `interpolate(tensor([[[[0., 1.], [2., 4.]]]]) / 4, (5, 5), mode="bilinear")`.
    #[test]
    fn enlarged_maps_are_pytorchs() {
        let map = HeatMap { width: 2, numbers: vec![0.0, 0.25, 0.5, 1.0], peak: 1.0 };
        let due = [
            [0.0, 0.025, 0.125, 0.225, 0.25],
            [0.05, 0.0775, 0.1875, 0.2975, 0.325],
            [0.25, 0.2875, 0.4375, 0.5875, 0.625],
            [0.45, 0.4975, 0.6875, 0.8775, 0.925],
            [0.5, 0.55, 0.75, 0.95, 1.0],
        ];
        assert!(map.enlarged(5).zip(due.into_iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-6) && map.enlarged(5).count() == 25);
        assert_eq!(map.enlarged(2).collect::<Vec<_>>(), map.numbers);
        let one = HeatMap { width: 1, numbers: vec![1.0], peak: 1.0 };
        assert!(one.enlarged(3).all(|number| number == 1.0));
    }
}
