//! The epochs: train, validate, save, in this order, until all are done or someone says stop.
//!
//! Random numbers come from one generator, in the order of the plain PyTorch script: the new head
//! (`torch.manual_seed(seed); model.fc = nn.Linear(…)`) or the new network, then for each epoch what
//! `DataLoader(train, shuffle=True)` (or, with `--balanced`, with a `WeightedRandomSampler`) and, for the validation, `DataLoader(val)` draw.

use super::Args;
use super::average::Average;
use super::features::Features;
use super::history::{self, Line};
use super::keep::is_lost;
use super::layers::Rates;
use super::log::{Log, loss_text, short, short_json};
use super::phases::Stage;
use super::progress::Progress;
use super::report::Took;
use super::resume::{Base, Position, Sums};
use super::settings::Settings;
use crate::about::About;
use crate::args::MemoryArg;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::outln;
use crate::output::say;
use crate::report::answers::Answers;
use crate::signals;
use nunatak_core::rng::Generator;
use nunatak_data::{Batch, Loader, Mixing};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

/// The plans of a part of a run: see [`Run::plan_of`].
pub(super) const TRAIN: usize = 0;
pub(super) const EVAL: usize = 1;
/// How many there are.
pub(super) const ROLES: usize = 2;

/// How a part of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It goes on.
    On,
    /// By this signal.
    Interrupted(i32),
    /// `--stop-after` or `--max-minutes`
    Enough,
}

/// A run, from its first step on.
pub(super) struct Run<'a, 'm> {
    pub(super) args: &'a Args,
    pub(super) settings: Settings,
    pub(super) last: PathBuf,
    /// What the model needs besides its tensors; its classes are known.
    pub(super) about: About,
    /// Of a run that saves deltas: what they are laid over.
    pub(super) base: Option<Base>,
    pub(super) engine: Engine<'m>,
    /// The parts of the run, one after the other.
    pub(super) stages: Vec<Stage>,
    /// Which it is in.
    pub(super) stage: usize,
    pub(super) train: Loader,
    pub(super) val: Loader,
    /// Where the head alone is trained: what is below it is computed apart, once where they are kept.
    pub(super) features: Option<Features>,
    pub(super) generator: Generator,
    /// The rates of this part.
    pub(super) rates: Rc<Rates>,
    pub(super) log: Log,
    pub(super) progress: Progress,
    /// Broken images that were named, once is enough, and what is wrong with them.
    pub(super) named: BTreeMap<PathBuf, String>,
    /// The last validation's answers, for the report.
    pub(super) answers: Answers,
    /// The best model's.
    pub(super) best_answers: Answers,
    /// How long the epochs of this invocation took.
    pub(super) took: Vec<Took>,
    /// The last batch that was trained on.
    pub(super) batch: Batch,
    /// The average of the weights, where one is kept.
    pub(super) average: Option<Average>,
    /// What each class counts in the loss, where that is not 1.
    pub(super) class_weights: Option<Vec<f32>>,
    /// How batches to train on are mixed.
    pub(super) mixing: Mixing,
    /// The options of a new run, until they are saved.
    pub(super) options: Option<String>,
    /// When this invocation began.
    pub(super) began: Instant,
    /// Steps of this invocation.
    pub(super) steps: u64,
    pub(super) position: Position,
}

impl Run<'_, '_> {
    /// The names of the classes.
    pub(super) fn classes(&self) -> &[String] {
        self.about.classes.as_deref().unwrap_or_default()
    }

    /// Runs it. With `compete` the model competes as it is.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) fn epochs(&mut self, compete: bool) -> Result<(), Failure> {
        self.position.level = self.engine.trainer.level().name().to_string();
        self.position.memory = memory_name(self.args.memory).to_string();
        self.note(json!({
            "event": "start", "epoch": self.position.epoch + 1, "batch": self.position.batch, "settings": short_json(&self.settings),
            "train": self.position.images.train, "val": self.position.images.val, "classes": self.classes(), "level": self.position.level,
        }));
        if self.position.epoch >= self.settings.epochs {
            say(format_args!("nothing to do: all {} epochs are done; ask for more with --epochs", self.settings.epochs));
        }
        if compete && let Some(flow) = self.compete()? {
            return self.stop(flow);
        }
        while self.position.epoch < self.settings.epochs && !self.is_patient_no_more() {
            self.go_on()?;
            let flow = match self.train_epoch()? {
                Flow::On => self.finish_epoch()?,
                stopped => stopped,
            };
            self.progress.end();
            match flow {
                Flow::On if self.position.epoch < self.settings.epochs && self.is_time_over() => return self.stop(Flow::Enough),
                Flow::On => {}
                flow => return self.stop(flow),
            }
        }
        self.summary()
    }

    /// Whether the minutes of `--max-minutes` are over.
    pub(super) fn is_time_over(&self) -> bool {
        self.args.max_minutes.is_some_and(|most| self.began.elapsed().as_secs_f64() / 60.0 >= most)
    }

    /// Whether no model was better for as many epochs as `--patience` allows. Says so.
    fn is_patient_no_more(&mut self) -> bool {
        let (Some(patience), Some(best)) = (self.settings.patience, self.position.best) else { return false };
        // A part that is to follow has not had its turn.
        let first = self.phase().first;
        if self.position.epoch < self.settings.epochs && self.phase().end() < self.settings.epochs {
            return false;
        }
        let waited = self.position.epoch - best.epochs.max(first).min(self.position.epoch);
        // Within an epoch it was decided to go on.
        let ended = waited >= patience && self.position.batch == 0 && best.images > 0;
        if ended {
            say(format_args!("no model was better for {waited} epochs (--patience {patience}): ended after epoch {}", self.position.epoch));
            self.note(json!({"event": "patience", "epoch": self.position.epoch, "best": best.epochs}));
        }
        ended
    }

    /// The model as it is, before the first step: whatever training makes of it must be better to be kept. How the
    /// run was stopped, if it was.
    fn compete(&mut self) -> Result<Option<Flow>, Failure> {
        // A PyTorch script does not do this, so nothing is drawn for it.
        let Some(val) = self.validate()? else { return Ok(signals::heard().map(Flow::Interrupted)) };
        self.progress.end();
        if val.images == 0 || is_lost(val.mean_loss()) {
            return Ok(None);
        }
        self.progress.line(&format!("as it is  val loss {}  val top-1 {:.2} %", loss_text(val.mean_loss()), val.percent()));
        self.note(json!({
            "event": "epoch", "epoch": 0, "val_loss": val.mean_loss(), "val_top1": val.top1(), "val_right": val.right,
            "val_images": val.images, "best": true,
        }));
        self.save_best(0, &val)?;
        self.remember(0, &Sums::default(), &val);
        self.save_last()?;
        Ok(None)
    }

    /// Saves where the run stands, inside an epoch.
    fn stop(&mut self, flow: Flow) -> Result<(), Failure> {
        self.prove_with_last_batch()?;
        self.save_last()?;
        let (epoch, batch, batches) = (self.position.epoch + 1, self.position.batch, self.train.batches());
        let why = if matches!(flow, Flow::Interrupted(_)) { "interrupted" } else { "stopped" };
        let by = if let Flow::Interrupted(signal) = flow { format!(" by {}", signals::name(signal)) } else { String::new() };
        self.note(json!({"event": why, "epoch": epoch, "batch": batch}));
        say(format_args!(
            "{why}{by} in epoch {epoch} after batch {batch} of {batches}; saved {}; go on with --resume",
            self.last.display()
        ));
        if let Flow::Interrupted(signal) = flow { Err(Failure::Interrupted(signal)) } else { self.log.whole() }
    }

    /// Validates, saves, and goes to the next epoch; or stops before any of it.
    fn finish_epoch(&mut self) -> Result<Flow, Failure> {
        let trained = self.position.sums;
        let (seconds, rate) = (self.progress.seconds(), self.progress.rate());
        if self.position.images.val > 0 {
            // What the iterator of DataLoader(val) draws: the base seed of its workers.
            self.generator.skip(2);
        }
        // What is judged is the average, where there is one. The model is saved before the state that says it is
        // there: whoever is killed between goes on from the state before, and makes both again.
        self.exchange_average()?;
        let judged = self.judge()?;
        self.exchange_average()?;
        let Some((val, better)) = judged else { return Ok(Flow::Interrupted(signals::heard().unwrap_or(0))) };
        if self.average.is_some() {
            self.prove_with_last_batch()?;
        }
        self.position.epoch += 1;
        self.position.batch = 0;
        self.position.sums = Sums::default();
        self.position.draws = self.generator.draws();
        self.remember(self.position.epoch, &trained, &val);
        self.took.push(Took { epoch: self.position.epoch, seconds, rate });
        self.save_last()?;
        self.tell_epoch(&trained, &val, better, seconds, rate);
        Ok(Flow::On)
    }

    /// Adds an epoch to the history.
    fn remember(&mut self, epoch: u64, trained: &Sums, val: &Sums) {
        let best = self.position.best.map(|best| best.epochs);
        history::remember(&mut self.position.history, Line::of(epoch, trained, val), best);
    }

    /// Validates the epoch's model, and saves it if it is the best. Nothing if it was interrupted.
    fn judge(&mut self) -> Result<Option<(Sums, bool)>, Failure> {
        let Some(val) = self.validate()? else { return Ok(None) };
        if val.images > 0 && is_lost(val.mean_loss()) {
            return Err(self.diverged(&format!("the loss on the validation images is {:e}", val.mean_loss())));
        }
        if val.images > 0 {
            self.prove(None)?
        } else {
            self.prove_with_last_batch()?
        }
        let better = self.position.best.is_none_or(|best| val.images == 0 || best.is_beaten_by(&val));
        if better {
            self.save_best(self.position.epoch + 1, &val)?;
        }
        Ok(Some((val, better)))
    }

    /// The line of an epoch that has just been done, for people and for the log.
    fn tell_epoch(&mut self, trained: &Sums, val: &Sums, better: bool, seconds: f64, rate: Option<f64>) {
        let (epoch, epochs) = (self.position.epoch, self.settings.epochs);
        self.progress.end();
        let best = if better { "  best" } else { "" };
        let checked = match val.images {
            0 => String::new(),
            _ => format!("  val loss {}  val top-1 {:.2} %{best}", loss_text(val.mean_loss()), val.percent()),
        };
        // All of a resumed epoch may have been done before.
        let speed = rate.map_or(String::new(), |rate| format!("  {rate:.1} images/s"));
        let loss = loss_text(trained.mean_loss());
        self.progress.line(&format!("epoch {epoch}/{epochs}  loss {loss}  top-1 {:.2} %{checked}{speed}", trained.percent()));
        let (val_loss, val_top1) = if val.images > 0 { (Some(val.mean_loss()), Some(val.top1())) } else { (None, None) };
        let lr = self.rate_at(epoch - 1, (self.train.batches() as u64).saturating_sub(1));
        self.note(json!({
            "event": "epoch", "epoch": epoch, "train_loss": trained.mean_loss(), "train_top1": trained.top1(),
            "val_loss": val_loss, "val_top1": val_top1, "val_top5": (val.images > 0).then(|| val.top5()), "val_right": val.right,
            "val_images": val.images, "lr": short(lr), "best": better, "seconds": seconds, "images_per_second": rate,
        }));
    }

    /// Names what could not be read, each file once.
    pub(super) fn name_skipped(&mut self, batch: &Batch) {
        for (path, reason) in &batch.skipped {
            if self.named.insert(path.clone(), reason.clone()).is_none() {
                self.progress.line(&format!("skipped {path:?}: {reason}"));
                self.note(json!({"event": "skipped", "path": path.to_string_lossy(), "reason": reason}));
            }
        }
    }

    pub(super) fn note(&mut self, value: serde_json::Value) {
        if let Some(warning) = self.log.line(value) {
            self.progress.warn(&warning);
        }
    }

    fn summary(&mut self) -> Result<(), Failure> {
        let Some(best) = self.position.best else { return self.log.whole() };
        history::text(&self.position.history, Some(best.epochs)).iter().for_each(say);
        let reported = self.report();
        let out = self.args.out.display();
        let when = match best.epochs {
            0 => "as it was before the first epoch".to_string(),
            epochs => format!("after epoch {epochs}"),
        };
        match best.images {
            0 => outln!("{out}: the model {when}"),
            n => outln!("{out}: top-1 {:.2} % ({} of {n}) {when}", 100.0 * best.right as f64 / n as f64, best.right),
        }?;
        // The model is saved; what was asked for besides is told last, by the exit code too.
        reported.and(self.log.whole())
    }
}

pub(super) fn memory_name(memory: MemoryArg) -> &'static str {
    nunatak_nn::Memory::from(memory).name()
}
