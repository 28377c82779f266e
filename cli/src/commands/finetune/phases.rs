//! The parts of a run, one after the other: each has its plans, its images, its rates.

use super::average::Average;
use super::features::{Features, Shape};
use super::layers::Rates;
use super::log::short;
use super::rate::Place;
use super::recipe::Phase;
use super::run::{ROLES, Run, TRAIN};
use crate::failure::Failure;
use nunatak_data::{Loader, Mixing};
use serde_json::json;
use std::rc::Rc;

/// A part of a run, and what it works with.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// How it trains.
    pub(super) phase: Phase,
    /// The images that it trains on.
    pub(super) train: Loader,
    /// What it keeps of them, where that is possible.
    pub(super) features: Option<Shape>,
    /// Images that its first step computes at a time.
    pub(super) at_once: usize,
}

impl Run<'_, '_> {
    /// The part that the run is in.
    pub(super) fn phase(&self) -> &Phase {
        &self.stages[self.stage].phase
    }

    /// The number of this part's plan for a role.
    pub(super) fn plan_of(&self, role: usize) -> usize {
        ROLES * self.stage + role
    }

    /// Where a step of an epoch stands in the course of its part's rate.
    pub(super) fn place(&self, epoch: u64, batch: u64) -> Place {
        let phase = &self.stages[stage_of(&self.stages, epoch)].phase;
        Place { epoch: epoch - phase.first, batch, batches: self.train.batches() as u64, epochs: phase.epochs }
    }

    /// The highest rate of a step of an epoch.
    pub(super) fn rate_at(&self, epoch: u64, batch: u64) -> f32 {
        let phase = &self.stages[stage_of(&self.stages, epoch)].phase;
        phase.lr * phase.rate.factor(self.place(epoch, batch))
    }

    /// Takes what this part works with. The average, where one is kept, begins anew with the weights as they are.
    ///
    /// # Errors
    /// [`Failure`] of the trainer.
    pub(super) fn enter(&mut self, stage: usize) -> Result<(), Failure> {
        self.stage = stage;
        let Stage { phase, train, features, at_once } = self.stages[stage].clone();
        // What the part before has kept goes first.
        self.features = None;
        self.features = features.map(Features::new);
        self.train = train;
        self.mixing = if phase.mixes { self.settings.mixing()? } else { Mixing::default() };
        let plan = self.engine.plan(self.plan_of(TRAIN), at_once)?;
        self.rates = Rc::new(Rates::of(&self.settings, &phase, &plan.program));
        self.engine.enter(self.plan_of(TRAIN), at_once)?;
        if let Some(decay) = self.settings.ema {
            self.average = Some(Average::new(&self.engine.trainer, decay)?);
        }
        Ok(())
    }

    /// Goes to the next part where this one has had its epochs. Says so.
    ///
    /// # Errors
    /// [`Failure`] of the trainer.
    pub(super) fn go_on(&mut self) -> Result<(), Failure> {
        let due = stage_of(&self.stages, self.position.epoch);
        if due == self.stage {
            return Ok(());
        }
        self.enter(due)?;
        let Phase { trainable, epochs, lr, .. } = self.phase().clone();
        self.progress.line(&format!("now training {trainable} for {epochs} epochs"));
        self.note(json!({
            "event": "part", "epoch": self.position.epoch + 1, "trainable": trainable, "epochs": epochs, "lr": short(lr),
        }));
        Ok(())
    }

    /// Before the images of an epoch are asked for.
    pub(super) fn begin_epoch(&mut self) {
        let epoch = self.position.epoch - self.phase().first;
        if let Some(features) = &mut self.features {
            features.turn(epoch);
        }
    }
}

/// Which part an epoch belongs to, counted from 0; the last one where all are done.
pub(super) fn stage_of(stages: &[Stage], epoch: u64) -> usize {
    stages.iter().rposition(|stage| stage.phase.first <= epoch).unwrap_or(0)
}
