//! Which images an epoch draws, and how those of a batch are mixed.

use super::run::Run;
use crate::engine::largest;
use crate::failure::Failure;
use nunatak_data::{Batch, Mix, Mixed, balanced, shuffled};
use nunatak_nn::{Error, Usual};
use std::ops::Range;

impl Run<'_, '_> {
    /// The order of the next epoch's images to train on.
    pub(super) fn order(&mut self) -> Vec<u32> {
        match self.settings.balanced {
            true => balanced(&mut self.generator, self.train.samples()),
            false => shuffled(&mut self.generator, self.train.samples().len()),
        }
    }

    /// How a batch to train on is mixed. It depends on its place in the run alone, so that a run can be gone on with at any
    /// step.
    pub(super) fn mix(&self, batch: &Batch) -> Option<Mix> {
        let settings = &self.settings;
        self.mixing.draw(settings.seed, self.position.epoch, batch.number as u64, settings.size as usize)
    }

    /// Hands these images of a batch to the trainer, mixed where they are.
    ///
    /// # Errors
    /// [`Error`] of the trainer.
    pub(super) fn set_images(&mut self, values: &Usual, batch: &Batch, part: Range<usize>, mix: Option<&Mix>) -> Result<(), Error> {
        let (trainer, normalize) = (&mut self.engine.trainer, &batch.normalize);
        let image = batch.pixels.len() / batch.labels.len().max(1);
        match mix.map(|mix| mix.images(batch, part.clone())) {
            Some(Mixed::Numbers(numbers)) => trainer.set_input(values.data, &numbers),
            Some(Mixed::Bytes(bytes)) => trainer.set_input_bytes(values.data, &bytes, &normalize.mean, &normalize.std),
            None => {
                let pixels = &batch.pixels[part.start * image..part.end * image];
                trainer.set_input_bytes(values.data, pixels, &normalize.mean, &normalize.std)
            }
        }
    }

    /// Hands the labels of these images to the trainer: classes, or of mixed images their probabilities. Gives the classes
    /// that count as right; of mixed images those with the larger share, as PyTorch's reference training counts them.
    ///
    /// # Errors
    /// [`Failure`] of the trainer.
    pub(super) fn set_labels(&mut self, values: &Usual, batch: &Batch, part: Range<usize>, mix: Option<&Mix>) -> Result<Vec<i64>, Failure> {
        let labels = values.labels.ok_or_else(|| Failure::Failed("the plan has no labels".into()))?;
        let Some(mix) = mix else {
            let classes = batch.labels[part].to_vec();
            self.engine.trainer.set_labels(labels, &classes)?;
            return Ok(classes);
        };
        let classes = self.classes().len();
        // Of the whole batch: an image's pair may lie in another part.
        let targets = mix.targets(&batch.labels, classes);
        let targets = &targets[part.start * classes..part.end * classes];
        self.engine.trainer.set_input(labels, targets)?;
        Ok(targets.chunks_exact(classes).map(|row| largest(row) as i64).collect())
    }
}
