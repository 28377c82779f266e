//! The steps of an epoch.

use super::features::Part;
use super::keep::{is_lost, right_answers};
use super::log::{loss_text, short};
use super::run::{Flow, Run, TRAIN};
use crate::block::check_need;
use crate::failure::Failure;
use crate::signals;
use nunatak_data::{Batch, Mix};
use nunatak_nn::{Error, Optimizer, Trainer};
use serde_json::json;
use std::ops::Range;
use std::rc::Rc;

/// What a step gave.
pub(super) struct Stepped {
    /// The mean loss of its images.
    pub(super) loss: f32,
    /// Right answers.
    pub(super) right: u64,
    /// What shows that the run has diverged, if anything does; the step has changed no weight then, or spoilt them all.
    pub(super) lost: Option<String>,
}

impl Stepped {
    fn lost(why: String) -> Stepped {
        Stepped { loss: f32::INFINITY, right: 0, lost: Some(why) }
    }
}

impl Run<'_, '_> {
    /// Trains on what is left of the epoch. The last batch stays in `self.batch`.
    ///
    /// # Errors
    /// [`Failure`] of the trainer, of a save, or where the run has diverged.
    pub(super) fn train_epoch(&mut self) -> Result<Flow, Failure> {
        let (epoch, epochs, total) = (self.position.epoch, self.settings.epochs, self.train.batches() as u64);
        self.begin_epoch();
        let order = self.order();
        let start = usize::try_from(self.position.batch).unwrap_or(usize::MAX);
        let mut batches = self.source(Part::Train, &order, epoch, start)?;
        self.progress.begin(format!("epoch {}/{epochs}", epoch + 1), total, self.position.batch);
        let mut batch = std::mem::take(&mut self.batch);
        let flow = loop {
            if !batches.next_into(&mut batch) {
                if start == 0 {
                    self.all_seen(Part::Train, &order);
                }
                break Flow::On;
            }
            self.name_skipped(&batch);
            check_need()?;
            if !batch.labels.is_empty() {
                self.step(&batch)?;
            }
            self.position.batch += 1;
            self.steps += 1;
            let sums = self.position.sums;
            let text = format!("loss {}  top-1 {:.2} %", loss_text(sums.mean_loss()), sums.percent());
            self.progress.step(self.position.batch, batch.labels.len() as u64, &text, epochs - epoch - 1);
            if let Some(signal) = signals::heard() {
                break Flow::Interrupted(signal);
            }
            if self.args.stop_after.is_some_and(|n| self.steps >= n) || self.is_time_over() {
                break Flow::Enough;
            }
            if self.args.save_every.is_some_and(|n| self.steps.is_multiple_of(n)) {
                self.prove(Some(&batch))?;
                self.save_last()?;
            }
        };
        self.batch = batch;
        if flow == Flow::On && self.position.sums.images == 0 {
            return Err(Failure::with(self.args.folder().display(), "none of the images to train on could be read"));
        }
        Ok(flow)
    }

    /// One step.
    ///
    /// # Errors
    /// [`Failure`] of the trainer, or where the run has diverged.
    pub(super) fn step(&mut self, batch: &Batch) -> Result<(), Failure> {
        let (n, epoch, step) = (batch.labels.len(), self.position.epoch, self.position.batch);
        let factor = self.phase().rate.factor(self.place(epoch, step));
        let Some(Stepped { loss, right, lost }) = self.advance(batch, factor)? else { return Ok(()) };
        if let Some(why) = lost {
            self.position.batch += 1; // the step that this is
            return Err(self.diverged(&why));
        }
        let sums = &mut self.position.sums;
        sums.loss += f64::from(loss) * n as f64;
        sums.right += right;
        sums.images += n as u64;
        self.note(json!({
            "event": "step", "epoch": epoch + 1, "step": step + 1, "of": self.train.batches(),
            "loss": short(loss), "right": right, "images": n, "lr": short(self.phase().lr * factor),
        }));
        Ok(())
    }

    /// Forward, backward and update with `factor` times the learning rate. Nothing where the batch has lost too many images to be trained on.
    ///
    /// # Errors
    /// [`Failure`] of the trainer.
    pub(super) fn advance(&mut self, batch: &Batch, factor: f32) -> Result<Option<Stepped>, Failure> {
        let n = batch.labels.len();
        let rates = Rc::clone(&self.rates);
        let optimizer = rates.optimizer(factor)?;
        let train = self.plan_of(TRAIN);
        let features = self.features(Part::Train, batch)?;
        let mix = self.mix(batch);
        let at_once = self.settings.at_once(n);
        // Planned batches have enough values; this one lost images to `skipped`.
        for size in [at_once, n % at_once].into_iter().filter(|size| *size > 0) {
            match self.engine.plan(train, size) {
                Err(Error::OneValuePerChannel { .. }) => {
                    self.progress.line(&format!("skipped a batch of {n}: batchnorm needs more values"));
                    return Ok(None);
                }
                plan => drop(plan?),
            }
        }
        let mut all = Stepped { loss: 0.0, right: 0, lost: None };
        for start in (0..n).step_by(at_once) {
            let part = start..n.min(start + at_once);
            let share = share(&batch.labels, part.clone(), self.class_weights.as_deref());
            let of = features.as_ref().map(|features| &features[part.start * features.len() / n..part.end * features.len() / n]);
            let stepped = self.compute(batch, part, (of, mix.as_ref()), share, optimizer)?;
            if stepped.lost.is_some() {
                return Ok(Some(stepped));
            }
            all.loss += share * stepped.loss;
            all.right += stepped.right;
        }
        if self.settings.micro_batch.is_some()
            && let Err(e) = clip_and_step(&mut self.engine.trainer, optimizer, self.settings.clip_grad_norm)
        {
            return Ok(Some(Stepped::lost(not_finite(&e).ok_or(e)?)));
        }
        if let Some(average) = &mut self.average {
            average.add(&self.engine.trainer)?;
        }
        Ok(Some(all))
    }

    /// Forward, backward and, where the batch is not cut into micro-batches, the update, of these images, or from their
    /// features, or of their mixtures. Gradients of micro-batches are added up with `share`.
    fn compute(
        &mut self,
        batch: &Batch,
        part: Range<usize>,
        (features, mix): (Option<&[f32]>, Option<&Mix>),
        share: f32,
        optimizer: Optimizer,
    ) -> Result<Stepped, Failure> {
        let n = part.len();
        let values = self.engine.enter_with_gradients(self.plan_of(TRAIN), n)?;
        let loss = values.loss.ok_or_else(|| Failure::Failed("the plan has no loss".into()))?;
        match features {
            Some(features) => self.engine.trainer.set_value(values.features, features)?,
            None => self.set_images(&values, batch, part.clone(), mix)?,
        }
        let due = self.set_labels(&values, batch, part, mix)?;
        let trainer = &mut self.engine.trainer;
        if let (Some(of_classes), Some(numbers)) = (values.weights, &self.class_weights) {
            trainer.set_input(of_classes, numbers)?;
        }
        let spoilt = match trainer.forward() {
            Ok(()) => None,
            Err(e) => Some(not_finite(&e).ok_or(e)?),
        };
        let loss = trainer.scalar(loss)?;
        if is_lost(loss.into()) {
            return Ok(Stepped::lost(format!("the loss is {loss:e}")));
        }
        if let Some(what) = spoilt {
            return Ok(Stepped::lost(what));
        }
        let mut logits = vec![0.0; n * self.classes().len()];
        let trainer = &mut self.engine.trainer;
        trainer.value(values.prediction, &mut logits)?;
        let done = match self.settings.micro_batch {
            Some(_) => trainer.accumulate(share, optimizer),
            None => update(trainer, optimizer, self.settings.clip_grad_norm),
        };
        if let Err(e) = done {
            return Ok(Stepped::lost(not_finite(&e).ok_or(e)?));
        }
        Ok(Stepped { loss, right: right_answers(&logits, &due, self.classes().len()), lost: None })
    }
}

/// What is not finite, where an error is of that kind.
fn not_finite(e: &Error) -> Option<String> {
    match e {
        Error::StatisticsNotFinite { name } => Some(format!("{name} would become NaN or infinite")),
        Error::GradientNotFinite { name, .. } => Some(format!("the gradient of {name} is not finite")),
        _ => None,
    }
}

/// Backward and update; with a largest norm of the gradients, where one is given.
fn update(trainer: &mut Trainer, optimizer: Optimizer, clip: Option<f32>) -> Result<(), Error> {
    if clip.is_none() {
        return trainer.backward_and_step(optimizer);
    }
    trainer.backward()?;
    clip_and_step(trainer, optimizer, clip)
}

/// The update by gradients that are there.
fn clip_and_step(trainer: &mut Trainer, optimizer: Optimizer, clip: Option<f32>) -> Result<(), Error> {
    if let Some(norm) = clip {
        trainer.clip_grad_norm(norm)?;
    }
    trainer.step(optimizer)?;
    trainer.zero_grad();
    Ok(())
}

/// The share that some images of a batch have in its mean loss: their part of the images, or of the class weights.
fn share(labels: &[i64], part: Range<usize>, weights: Option<&[f32]>) -> f32 {
    let sum = |labels: &[i64]| -> f64 {
        let weight = |label: &i64| weights.map_or(1.0, |weights| f64::from(weights[*label as usize]));
        labels.iter().map(weight).sum()
    };
    (sum(&labels[part]) / sum(labels)) as f32
}
