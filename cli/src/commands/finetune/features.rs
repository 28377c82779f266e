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

/// How much there is to keep, and of what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Numbers of an image.
    pub(super) of: usize,
    /// Images that are computed at a time.
    pub(super) at_once: usize,
    /// The engine's plan that computes them.
    pub(super) plan: usize,
    /// Whether they are kept.
    pub(super) keep: bool,
    /// Random cuts of each image to train on; 1 where images are not cut at random.
    pub(super) views: usize,
    /// Images to train on and to validate with.
    pub(super) images: [usize; 2],
}

impl Shape {
    /// Rows of both parts.
    fn rows(&self) -> [usize; 2] {
        if self.keep { [self.images[0].saturating_mul(self.views), self.images[1]] } else { [0; 2] }
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        let [train, val] = self.rows();
        train.saturating_add(val).saturating_mul(self.of).saturating_mul(size_of::<f32>())
    }
}

/// Features, and how they are computed.
#[derive(Debug)]
pub(super) struct Features {
    shape: Shape,
    /// Which of the random cuts this epoch sees.
    view: usize,
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
    /// Room for them.
    pub(super) fn new(shape: Shape) -> Features {
        let rows = |rows: usize| Rows { numbers: vec![0.0; rows * shape.of], known: vec![Known::Nothing; rows] };
        Features { shape, view: 0, parts: shape.rows().map(rows) }
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.shape.bytes()
    }

    /// The epoch with this number, from 0, begins: cuts are taken in turn.
    pub(super) fn turn(&mut self, epoch: u64) {
        self.view = (epoch % self.shape.views as u64) as usize;
    }

    /// Where the rows of this epoch's cuts begin.
    fn first(&self, part: Part) -> usize {
        if part == Part::Train { self.view * self.shape.images[0] } else { 0 }
    }

    /// What is known of this epoch's cuts; nothing where features are not kept.
    fn known(&self, part: Part) -> &[Known] {
        if self.shape.keep { &self.parts[part as usize].known[self.first(part)..][..self.shape.images[part as usize]] } else { &[] }
    }

    fn all_known(&self, part: Part, indices: &[usize]) -> bool {
        let known = self.known(part);
        self.shape.keep && indices.iter().all(|i| known[*i] == Known::Features)
    }

    /// The features of a batch's images, from its pixels where they are not known.
    fn of_batch(&mut self, engine: &mut Engine, part: Part, batch: &Batch) -> Result<Vec<f32>, Error> {
        let (of, first) = (self.shape.of, self.first(part));
        if self.all_known(part, &batch.indices) {
            let numbers = &self.parts[part as usize].numbers;
            return Ok(batch.indices.iter().flat_map(|i| &numbers[(first + i) * of..][..of]).copied().collect());
        }
        let mut features = Vec::new();
        engine.features(self.shape.plan, self.shape.at_once, batch, &mut features)?;
        if self.shape.keep {
            let rows = &mut self.parts[part as usize];
            for (i, row) in batch.indices.iter().zip(features.chunks_exact(of)) {
                rows.numbers[(first + i) * of..][..of].copy_from_slice(row);
                rows.known[first + i] = Known::Features;
            }
        }
        Ok(features)
    }

    /// After the images of an order were asked for: what of them has no features could not be read. With `--balanced` an
    /// epoch does not see every image.
    pub(super) fn whole(&mut self, part: Part, order: &[u32]) {
        if !self.shape.keep {
            return;
        }
        let first = self.first(part);
        let known = &mut self.parts[part as usize].known;
        for i in order.iter().map(|i| first + *i as usize) {
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
        let known = self.features.as_ref().map(|features| features.known(part)).unwrap_or_default();
        // Cuts of one turn are the same whenever it comes.
        let epoch = self.features.as_ref().filter(|_| part == Part::Train).map_or(epoch, |features| features.view as u64);
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
        let eval = self.plan_of(EVAL);
        match self.features(part, batch)? {
            Some(features) => self.engine.logits_of(eval, &features, batch.labels.len(), out),
            None => self.engine.logits(eval, batch, out),
        }
    }

    /// Notes that an epoch over a part's files, in this order, has come to its end.
    pub(super) fn all_seen(&mut self, part: Part, order: &[u32]) {
        if let Some(features) = &mut self.features {
            features.whole(part, order);
        }
    }
}
