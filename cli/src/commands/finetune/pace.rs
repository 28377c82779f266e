//! How long a run takes, by a few steps of each of its parts: for `--dry-run`, and to lay a run out for `--max-minutes`.

use super::Args;
use super::features;
use super::job::Job;
use super::progress::clock;
use super::recipe::{Phase, Recipe};
use super::run::Run;
use super::start::Aim;
use crate::block::reserve_beside;
use crate::failure::Failure;
use crate::model::Model;
use crate::output::say;
use nunatak_data::{Batch, sequential};
use nunatak_nn::Native;
use std::time::Instant;

/// Steps of a part that are timed, after one that is not: it waits for its images and touches its memory for the first
/// time.
const TIMED: usize = 2;
/// The part of the time that is used: other programs may come, files are saved.
const USED: f64 = 0.9;

/// The pace of a part of a run, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pace {
    /// A step.
    pub(super) step: f64,
    /// A step on images whose features are known; as long as any other where none are kept.
    pub(super) later_step: f64,
    /// A validation.
    pub(super) validation: f64,
    /// Steps of an epoch.
    pub(super) steps: f64,
    /// Epochs that compute features.
    pub(super) first: f64,
}

impl Pace {
    /// So many epochs, and what they begin with.
    pub(super) fn epochs(&self, epochs: u64) -> f64 {
        let epochs = epochs as f64;
        let first = epochs.min(self.first);
        let later = epochs - first;
        // Features of the images to validate with are computed once too.
        let keeps = self.later_step < self.step;
        let validations = if keeps { epochs.min(1.0) } else { epochs };
        self.steps * (first * self.step + later * self.later_step) + validations * self.validation
    }
}

impl Run<'_, '_> {
    /// The pace of every part. What the steps leave is worth nothing.
    ///
    /// # Errors
    /// [`Failure`] of the trainer, or of the images.
    pub(super) fn paces(&mut self) -> Result<Vec<Pace>, Failure> {
        let mut paces = Vec::new();
        for stage in 0..self.stages.len() {
            self.enter(stage)?;
            self.position.epoch = self.phase().first;
            self.position.batch = 0;
            paces.push(self.pace()?);
        }
        Ok(paces)
    }

    fn pace(&mut self) -> Result<Pace, Failure> {
        self.begin_epoch();
        let order = self.order();
        let epoch = self.position.epoch;
        let mut batches = self.train.epoch(order, epoch, 0).map_err(|e| Failure::Failed(e.to_string()))?;
        let (mut batch, mut kept, mut seconds) = (Batch::default(), None, Vec::new());
        while seconds.len() <= TIMED {
            let began = Instant::now();
            if !batches.next_into(&mut batch) {
                break;
            }
            if !batch.labels.is_empty() {
                self.step(&batch)?;
                seconds.push(began.elapsed().as_secs_f64());
                // Full ones come first.
                kept = kept.or_else(|| Some(batch.clone()));
            }
        }
        drop(batches);
        let step = mean(if seconds.len() > 1 { &seconds[1..] } else { &seconds });
        let kept =
            kept.ok_or_else(|| Failure::with(self.args.folder().display(), "none of the images that were looked at could be read"))?;
        let shape = self.stages[self.stage].features.filter(|shape| shape.keep);
        let mut later_step = step;
        if shape.is_some() {
            let began = Instant::now();
            for _ in 0..TIMED {
                self.step(&kept)?;
            }
            later_step = (began.elapsed().as_secs_f64() / TIMED as f64).min(step);
        }
        let first = shape.map_or(0.0, |shape| shape.views as f64);
        Ok(Pace { step, later_step, validation: self.validation()?, steps: self.train.batches() as f64, first })
    }

    /// Seconds of a validation, by its first batches.
    fn validation(&mut self) -> Result<f64, Failure> {
        if self.position.images.val == 0 {
            return Ok(0.0);
        }
        let order = sequential(self.position.images.val);
        let mut batches = self.val.epoch(order, 0, 0).map_err(|e| Failure::Failed(e.to_string()))?;
        let (mut batch, mut logits, mut seconds) = (Batch::default(), Vec::new(), Vec::new());
        while seconds.len() <= TIMED {
            let began = Instant::now();
            if !batches.next_into(&mut batch) {
                break;
            }
            if !batch.labels.is_empty() {
                self.logits(features::Part::Val, &batch, &mut logits)?;
                seconds.push(began.elapsed().as_secs_f64());
            }
        }
        Ok(mean(if seconds.len() > 1 { &seconds[1..] } else { &seconds }) * self.val.batches() as f64)
    }
}

fn mean(seconds: &[f64]) -> f64 {
    seconds.iter().sum::<f64>() / seconds.len().max(1) as f64
}

/// Epochs of the head alone and in all, so many at most of each part, that fit into some seconds; the least there can be
/// where nothing fits.
fn fitting(phases: &[Phase], paces: &[Pace], head_is_given: bool, seconds: f64) -> [u64; 2] {
    let of = |part: f64, epochs: u64| ((epochs as f64 * part).ceil() as u64).max(1);
    let [first, rest @ ..] = phases else { return [1, 1] };
    let cost = |epochs: &[u64]| paces.iter().zip(epochs).map(|(pace, epochs)| pace.epochs(*epochs)).sum::<f64>();
    for percent in (1..=100).rev() {
        let part = f64::from(percent) / 100.0;
        let head = if head_is_given { first.epochs } else { of(part, first.epochs) };
        let epochs = match rest {
            [] => vec![of(part, first.epochs)],
            [second, ..] => vec![head, of(part, second.epochs)],
        };
        if cost(&epochs) <= seconds {
            return [epochs[0], epochs.iter().sum()];
        }
    }
    // The head alone, then.
    let head = (1..=first.epochs).rev().find(|epochs| cost(&[*epochs]) <= seconds).unwrap_or(1);
    [head, head]
}

impl Job {
    /// With `--max-minutes`, where the rate looks at the end of the run and no option says how many epochs there are: as
    /// many as fit, and no more than without the option. Says so.
    ///
    /// # Errors
    /// [`Failure`] where the run could not begin either.
    pub(super) fn fit_minutes(&mut self, args: &Args, weights: Option<Native>, model: Option<&Model>) -> Result<(), Failure> {
        let Some(minutes) = args.max_minutes.filter(|_| !args.resume && args.choices.epochs.is_none()) else { return Ok(()) };
        if !self.phases.iter().any(|phase| phase.rate.looks_ahead()) {
            return Ok(());
        }
        let paces = {
            let (plans, [bytes, beside]) = self.planned(args, weights)?;
            let mut memory = reserve_beside(bytes, beside)?;
            let mut engine = self.engine(args, plans, &mut memory, weights, None)?;
            let (position, generator) = self.load(args, &mut engine, None, model)?;
            self.ready(args, Aim::Rehearse, engine, (position, generator, None), None)?.paces()?
        };
        let seconds = (60.0 * minutes - self.began.elapsed().as_secs_f64()) * USED;
        let before = self.settings.epochs;
        let [head, epochs] = fitting(&self.phases, &paces, args.choices.head_epochs.is_some(), seconds);
        self.settings.lay_out(head, epochs.min(before));
        self.phases = self.settings.phases()?;
        let epochs = self.settings.epochs;
        let took: f64 = self.phases.iter().zip(&paces).map(|(phase, pace)| pace.epochs(phase.epochs)).sum();
        let of_head = match self.settings.recipe {
            Recipe::Auto => format!(", {} of them of the head alone", self.settings.head_epochs.unwrap_or(0)),
            Recipe::Pytorch => String::new(),
        };
        say(format_args!("--max-minutes {minutes}: laid out for {epochs} epochs of {before}{of_head}, about {}", clock(took)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Choices;
    use super::*;

    #[test]
    fn as_many_epochs_as_fit() {
        let choices = Choices { recipe: Some(Recipe::Auto), head_epochs: Some(20), epochs: Some(30), ..Choices::default() };
        let phases = choices.settle(None, None).unwrap().phases().unwrap();
        let head = Pace { step: 1.0, later_step: 0.0, validation: 2.0, steps: 4.0, first: 1.0 };
        let all = Pace { step: 3.0, later_step: 3.0, validation: 2.0, steps: 4.0, first: 0.0 };
        assert_eq!([head.epochs(1), head.epochs(20), all.epochs(1), all.epochs(10), all.epochs(0)], [6.0, 6.0, 14.0, 140.0, 0.0]);
        let paces = [head, all];
        assert_eq!(fitting(&phases, &paces, false, 1e9), [20, 30]);
        assert_eq!(fitting(&phases, &paces, false, 146.0), [20, 30]);
        assert_eq!(fitting(&phases, &paces, false, 80.0), [10, 15]);
        assert_eq!(fitting(&phases, &paces, true, 80.0), [20, 25]);
        assert_eq!(fitting(&phases, &paces, false, 10.0), [20, 20], "the head alone");
        assert_eq!(fitting(&phases, &paces, false, 0.0), [1, 1], "nothing fits");
        let plain = Choices { schedule: Some("cosine".into()), ..Choices::default() }.settle(None, None).unwrap().phases().unwrap();
        assert_eq!(fitting(&plain, &[all], false, 71.0), [5, 5]);
        assert_eq!(fitting(&plain, &[all], false, -1.0), [1, 1]);
    }
}
