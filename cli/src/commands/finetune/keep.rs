//! Saving what has proved good: a state is kept only if its weights are finite and gave a loss that is.

use super::average::Average;
use super::features::Part;
use super::paths::config_path;
use super::resume::{BASE_HASH_KEY, Best, Sums, TRAINING_KEY};
use super::run::Run;
use crate::engine::log_softmax;
use crate::failure::Failure;
use crate::model::{BASE_KEY, metadata, replace, save, save_safetensors};
use nunatak_core::program::EntryKind;
use nunatak_data::Batch;
use nunatak_nn::Trainer;
use nunatak_nn::files::state::MOMENTUM_PREFIX;
use std::collections::BTreeSet;

/// A mean loss above this is no training any more: chance among a million classes gives 14.
pub(super) const MOST: f64 = 1e6;

/// Whether a loss tells that the run has diverged.
pub(super) fn is_lost(loss: f64) -> bool {
    !loss.is_finite() || loss > MOST
}

impl Run<'_, '_> {
    /// What to say where a run has diverged.
    pub(super) fn diverged(&self, what: &str) -> Failure {
        let newest = match self.last.exists() {
            true => format!("the newest good state is {}", self.last.display()),
            false => "nothing was saved".into(),
        };
        let epoch = self.position.epoch + 1;
        let at = match self.position.batch {
            0 => format!("epoch {epoch}"),
            batch => format!("epoch {epoch}, step {batch} of {}", self.train.batches()),
        };
        Failure::Failed(format!("{at}: {what}: the run has diverged; {newest}; start anew with a lower --lr than {}", self.settings.lr))
    }

    /// Refuses a state that could not be gone on from: weights or statistics that are not finite, or weights that
    /// give no finite loss on the images of `batch`. The images of no batch, where validation has shown it.
    ///
    /// # Errors
    /// [`Failure`] that names what is wrong.
    pub(super) fn prove(&mut self, batch: Option<&Batch>) -> Result<(), Failure> {
        if let Some(what) = broken(&self.engine.trainer) {
            return Err(self.diverged(&what));
        }
        let Some(batch) = batch.filter(|batch| !batch.labels.is_empty()) else { return Ok(()) };
        let mut logits = Vec::new();
        self.logits(Part::Train, batch, &mut logits)?;
        let mut sums = Sums::default();
        sums.add(&logits, &batch.labels, self.classes().len());
        match sums.mean_loss() {
            loss if is_lost(loss) => Err(self.diverged(&format!("the loss of its last images is then {loss:e}"))),
            _ => Ok(()),
        }
    }

    /// The same, with the images of the last step.
    ///
    /// # Errors
    /// As for [`Run::prove`].
    pub(super) fn prove_with_last_batch(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        let proved = self.prove(Some(&batch));
        self.batch = batch;
        proved
    }

    /// Exchanges the weights and their average, where one is kept.
    ///
    /// # Errors
    /// [`Failure`] of the trainer.
    pub(super) fn exchange_average(&mut self) -> Result<(), Failure> {
        self.average.as_mut().map_or(Ok(()), |average| average.exchange(&mut self.engine.trainer))
    }

    /// Saves the model as the best so far, after so many epochs.
    ///
    /// # Errors
    /// [`Failure`] where it can't be written.
    pub(super) fn save_best(&mut self, epochs: u64, val: &Sums) -> Result<(), Failure> {
        self.save_options()?;
        self.position.best = Some(Best::of(epochs, val));
        self.best_answers = std::mem::take(&mut self.answers);
        let base = self.base.as_ref().map(|base| base.path.as_path());
        save(&self.args.out, &self.engine.trainer, &self.about, base)
    }

    /// Before the first save the options of the run, so that a run that saves nothing leaves nothing.
    fn save_options(&mut self) -> Result<(), Failure> {
        match self.options.take() {
            Some(text) => replace(&config_path(&self.args.out), text.as_bytes()),
            None => Ok(()),
        }
    }

    /// Saves where the run stands.
    ///
    /// # Errors
    /// [`Failure`] where it can't be written.
    pub(super) fn save_last(&mut self) -> Result<(), Failure> {
        self.save_options()?;
        self.position.forwards = self.engine.trainer.forwards();
        self.position.averaged = self.average.as_ref().map_or(0, Average::steps);
        let mut metadata = metadata(&self.about);
        metadata.insert(TRAINING_KEY.into(), self.position.to_json());
        let mut state = self.engine.trainer.state_with_momentum();
        if let Some(base) = &self.base {
            // Only what the base has not: the rest is read from there.
            let borrowed = borrowed(&self.engine.trainer);
            state.tensors.retain(|(name, ..)| name.starts_with(MOMENTUM_PREFIX) || !borrowed.contains(name));
            let name = base.path.file_name().unwrap_or_default().to_string_lossy();
            metadata.insert(BASE_KEY.into(), name.into_owned());
            metadata.insert(BASE_HASH_KEY.into(), base.hash.clone());
        }
        state.tensors.extend(self.average.iter().flat_map(|average| average.tensors(&self.engine.trainer)));
        save_safetensors(&self.last, &state, &metadata)
    }
}

/// The names of what a trainer reads in place. A count goes with the mean before it.
pub(super) fn borrowed(trainer: &Trainer) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut mean = false;
    for id in trainer.program().entries() {
        let entry = trainer.program().entry(id);
        let is = if entry.kind() == EntryKind::Count { mean } else { entry.is_borrowed() };
        if entry.kind() == EntryKind::RunningMean {
            mean = is;
        }
        if is {
            names.insert(entry.name().to_string());
        }
    }
    names
}

/// What of a trainer's numbers is not finite, if anything is.
fn broken(trainer: &Trainer) -> Option<String> {
    let mut room = Vec::new();
    let program = trainer.program();
    let own = |id: &nunatak_nn::EntryId| {
        let entry = program.entry(*id);
        !matches!(entry.kind(), EntryKind::Count | EntryKind::Words) && !entry.is_borrowed()
    };
    program.entries().filter(own).find_map(|id| {
        let entry = program.entry(id);
        room.resize(entry.numbers(), 0.0);
        trainer.entry(id, &mut room).ok()?;
        let count = room.iter().filter(|v| !v.is_finite()).count();
        (count > 0).then(|| format!("{count} of {} numbers of {} are NaN or infinite", room.len(), entry.name()))
    })
}

impl Sums {
    /// Adds the answers to some images.
    pub(super) fn add(&mut self, logits: &[f32], labels: &[i64], classes: usize) {
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            self.loss -= log_softmax(row).nth(label as usize).unwrap_or(f64::NAN);
            // As torch.topk: of equals the first come first.
            let due = row.get(label as usize).copied().unwrap_or(f32::NAN);
            let before = row.iter().enumerate().filter(|(i, v)| **v > due || **v == due && (*i as i64) < label).count();
            self.top5 += u64::from(before < 5 && !due.is_nan());
        }
        self.right += right_answers(logits, labels, classes);
        self.images += labels.len() as u64;
    }
}

/// How many answers are right.
pub(super) fn right_answers(logits: &[f32], labels: &[i64], classes: usize) -> u64 {
    let right = |(row, label): &(&[f32], &i64)| crate::engine::largest(row) as i64 == **label;
    logits.chunks_exact(classes).zip(labels).filter(right).count() as u64
}
