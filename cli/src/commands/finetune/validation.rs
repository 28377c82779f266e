//! How good the model is on the images to validate with.

use super::features::Part;
use super::log::loss_text;
use super::resume::Sums;
use super::run::Run;
use crate::block::check_need;
use crate::failure::Failure;
use crate::report::answers::Answer;
use crate::signals;
use nunatak_data::{Batch, sequential};

impl Run<'_, '_> {
    /// The loss and right answers of the validation images; nothing if it was interrupted.
    ///
    /// # Errors
    /// [`Failure`] where no image could be read, or the loss shows that the run has diverged.
    pub(super) fn validate(&mut self) -> Result<Option<Sums>, Failure> {
        let mut sums = Sums::default();
        self.answers.0.clear();
        let count = self.position.images.val;
        if count == 0 {
            return Ok(Some(sums));
        }
        let order = sequential(count);
        let mut batches = self.source(Part::Val, &order, 0, 0)?;
        self.progress.begin("validation".into(), self.val.batches() as u64, 0);
        let (mut logits, mut batch) = (Vec::new(), Batch::default());
        while batches.next_into(&mut batch) {
            self.name_skipped(&batch);
            check_need()?;
            if !batch.labels.is_empty() {
                self.logits(Part::Val, &batch, &mut logits)?;
                sums.add(&logits, &batch.labels, self.classes().len());
                self.remember_answers(&batch, &logits);
            }
            let text = format!("val loss {}  val top-1 {:.2} %", loss_text(sums.mean_loss()), sums.percent());
            self.progress.step(batch.number as u64 + 1, batch.labels.len() as u64, &text, 0);
            if signals::heard().is_some() {
                return Ok(None);
            }
        }
        self.all_seen(Part::Val, &order);
        self.progress.validation_took(self.progress.seconds());
        if sums.images == 0 {
            return Err(Failure::with(self.args.folder().display(), "none of the images to validate with could be read"));
        }
        Ok(Some(sums))
    }

    /// Keeps answers for the report.
    fn remember_answers(&mut self, batch: &Batch, logits: &[f32]) {
        if self.args.no_report {
            return;
        }
        let (classes, images) = (self.classes().len(), batch.indices.iter().zip(&batch.labels));
        let answers = images.zip(logits.chunks_exact(classes)).map(|((&index, &label), row)| Answer::of(index, label as usize, row));
        self.answers.0.extend(answers);
    }
}
