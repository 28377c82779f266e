//! Features once: while the head alone is trained, what the network below it makes of an image stays the same. It is
//! computed the first time that an image is seen, and kept; later epochs read no files and cost what the head costs.
//!
//! Features come from one program, the evaluating one for a full batch (short ones are filled up), whether they are kept
//! or not. An image's features do not depend on what else is in its batch, so the bits are the same either way.

use super::run::{EVAL, Run};
use crate::engine::Engine;
use crate::failure::Failure;
use nunatak_core::program::Program;
use nunatak_data::{Batch, Batches, Sample};
use nunatak_nn::{Error, Select, Usual};

/// Whether features are kept.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// They are kept in memory
    Once,
    /// They are computed at every step; the same bits
    Never,
}

/// The images that a run trains on, or validates with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Train,
    Val,
}

/// What is known of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It was not seen yet.
    Nothing,
    Features,
    /// It could not be read.
    Broken,
}

/// Features of a part's images, image by image.
#[derive(Debug)]
struct Rows {
    numbers: Vec<f32>,
    known: Vec<Known>,
}

/// How features are computed and kept.
#[derive(Debug)]
pub(super) struct Features {
    /// Numbers of an image.
    of: usize,
    /// Images that are computed at a time.
    at_once: usize,
    keep: bool,
    parts: [Rows; 2],
}

/// Numbers that an image's features have, where a program trains nothing but the head.
pub(super) fn numbers_below_head(program: &Program, values: &Usual) -> Option<usize> {
    let only_head = program.updates().all(|id| Select::Head.has(program.entry(id).name(), program.head()));
    let (_, features) = program.value_of_node(values.features.0).filter(|_| values.features != values.prediction)?;
    let [images, sizes @ ..] = features.shape();
    (only_head && images > 0).then(|| sizes.into_iter().product())
}

impl Features {
    /// Room for the features of so many images to train on and to validate with, of `of` numbers each.
    pub(super) fn new(of: usize, at_once: usize, keep: bool, images: [usize; 2]) -> Features {
        let rows = |images: usize| {
            let kept = if keep { images } else { 0 };
            Rows { numbers: vec![0.0; kept * of], known: vec![Known::Nothing; kept] }
        };
        Features { of, at_once, keep, parts: images.map(rows) }
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|rows| 4 * rows.numbers.len()).sum()
    }

    fn all_known(&self, part: Part, indices: &[usize]) -> bool {
        let known = &self.parts[part as usize].known;
        self.keep && indices.iter().all(|i| known[*i] == Known::Features)
    }

    /// The features of a batch's images, from its pixels where they are not known.
    fn of_batch(&mut self, engine: &mut Engine, part: Part, batch: &Batch) -> Result<Vec<f32>, Error> {
        let of = self.of;
        if self.all_known(part, &batch.indices) {
            let numbers = &self.parts[part as usize].numbers;
            return Ok(batch.indices.iter().flat_map(|i| &numbers[i * of..][..of]).copied().collect());
        }
        let mut features = Vec::new();
        engine.features(EVAL, self.at_once, batch, &mut features)?;
        if self.keep {
            let rows = &mut self.parts[part as usize];
            for (i, row) in batch.indices.iter().zip(features.chunks_exact(of)) {
                rows.numbers[i * of..][..of].copy_from_slice(row);
                rows.known[*i] = Known::Features;
            }
        }
        Ok(features)
    }

    /// After the images of an order were asked for: what of them has no features could not be read. With `--balanced` an
    /// epoch does not see every image.
    pub(super) fn whole(&mut self, part: Part, order: &[u32]) {
        let known = &mut self.parts[part as usize].known;
        if known.is_empty() {
            return;
        }
        for i in order.iter().map(|i| *i as usize) {
            if known[i] == Known::Nothing {
                known[i] = Known::Broken;
            }
        }
    }
}

/// The batches of an epoch: images from their files, or such whose features are all known.
pub(super) enum Source {
    Files(Batches),
    Known { batches: std::vec::IntoIter<Vec<(usize, i64)>>, number: usize },
}

impl Source {
    /// Fills `batch` with the next batch; false if there is none.
    pub(super) fn next_into(&mut self, batch: &mut Batch) -> bool {
        match self {
            Source::Files(files) => files.next_into(batch),
            Source::Known { batches, number } => {
                let Some(images) = batches.next() else { return false };
                batch.pixels.clear();
                batch.skipped.clear();
                (batch.indices, batch.labels) = images.into_iter().unzip();
                batch.number = *number;
                *number += 1;
                true
            }
        }
    }
}

impl Run<'_, '_> {
    /// The batches of an epoch in this order, from the one with the number `start` on.
    ///
    /// # Errors
    /// [`Failure`] of the loader.
    pub(super) fn source(&self, part: Part, order: &[u32], epoch: u64, start: usize) -> Result<Source, Failure> {
        let loader = if part == Part::Train { &self.train } else { &self.val };
        let known = self.features.as_ref().map(|features| &features.parts[part as usize].known[..]).unwrap_or_default();
        if known.is_empty() || order.iter().any(|i| known[*i as usize] == Known::Nothing) {
            return Ok(Source::Files(loader.epoch(order.to_vec(), epoch, start).map_err(|e| Failure::Failed(e.to_string()))?));
        }
        let label = |sample: &Sample| sample.label as i64;
        let images = |chunk: &[u32]| {
            let read = chunk.iter().map(|i| *i as usize).filter(|i| known[*i] == Known::Features);
            read.map(|i| (i, label(&loader.samples()[i]))).collect::<Vec<_>>()
        };
        let batches: Vec<_> = order.chunks(self.settings.batch as usize).skip(start).map(images).collect();
        Ok(Source::Known { batches: batches.into_iter(), number: start })
    }

    /// The features of a batch's images, where the run trains on features.
    ///
    /// # Errors
    /// [`Error`] of the trainer.
    pub(super) fn features(&mut self, part: Part, batch: &Batch) -> Result<Option<Vec<f32>>, Error> {
        self.features.as_mut().map(|features| features.of_batch(&mut self.engine, part, batch)).transpose()
    }

    /// The logits of a batch, in eval mode.
    ///
    /// # Errors
    /// [`Error`] of the trainer.
    pub(super) fn logits(&mut self, part: Part, batch: &Batch, out: &mut Vec<f32>) -> Result<(), Error> {
        match self.features(part, batch)? {
            Some(features) => self.engine.logits_of(EVAL, &features, batch.labels.len(), out),
            None => self.engine.logits(EVAL, batch, out),
        }
    }

    /// Notes that an epoch over a part's files, in this order, has come to its end.
    pub(super) fn all_seen(&mut self, part: Part, order: &[u32]) {
        if let Some(features) = &mut self.features {
            features.whole(part, order);
        }
    }
}
