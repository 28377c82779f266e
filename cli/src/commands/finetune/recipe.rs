//! `--recipe`: what is trained when, at which rates.
//!
//! `pytorch` is the plain script: one part, in which everything is as the options say. `auto` has two parts: the head alone
//! over features that are computed once, then everything, with lower rates for lower layers; each with one cycle of the
//! rate. What the options leave open is chosen by
//! [`Plain::of`] from the number of images, their size, and how many features the head sees.

use super::rate::Rate;
use super::settings::{Choices, HEAD, Settings};
use crate::failure::Failure;
use crate::max_mem::MicroBatch;
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// How a run goes about it.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// The head first, then everything, with lower rates for lower layers; the rest is chosen from the number of images
    Auto,
    /// The plain script: everything as the options say, or as their defaults
    #[default]
    Pytorch,
}

impl Display for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(if *self == Recipe::Auto { "auto" } else { "pytorch" })
    }
}

/// The head's rate in the second part, as a part of `--head-lr`.
const SECOND: f32 = 0.2;
/// `OneCycleLR(div_factor)` of the first part; PyTorch's.
const FIRST_DIV: f32 = 25.0;
/// The same of the second part, which begins with weights that are good already.
const SECOND_DIV: f32 = 5.0;

/// What the choice depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Known {
    /// Images to train on.
    pub(super) images: usize,
    /// Numbers of an image's features, on which the head works.
    pub(super) features: usize,
}

/// What `auto` takes where the options say nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Plain {
    batch: u32,
    head_epochs: u64,
    /// Of the second part.
    epochs: u64,
    /// Of the head, in the first part.
    head_lr: f32,
    /// Of the layers below it, the highest.
    lr: f32,
    lr_spread: f32,
    weight_decay: f32,
    label_smoothing: f32,
    augment: bool,
}

/// Steps that the head is to have; its epochs are cheap.
const HEAD_STEPS: u64 = 600;
/// Steps that everything is to have.
const STEPS: u64 = 1000;

impl Plain {
    /// The choice for images that the network sees as squares of this side.
    fn of(known: Known, side: u32) -> Plain {
        let batch = batch_for(known.images);
        let steps = known.images.div_ceil(batch as usize).max(1) as u64;
        Plain {
            batch,
            head_epochs: HEAD_STEPS.div_ceil(steps).clamp(2, 30),
            epochs: STEPS.div_ceil(steps).clamp(3, 20),
            // The steepness of the head's loss grows with the square of the features, the sum of so many.
            head_lr: (10.0 / known.features.max(1) as f32).clamp(0.002, 0.2),
            lr: 0.02,
            lr_spread: 5.0,
            weight_decay: 1e-4,
            label_smoothing: 0.1,
            augment: side >= 128 && known.images >= 200,
        }
    }

    /// Of so many epochs those that the head has alone: in proportion, and where there are two, one at least.
    fn share_of_head(self, epochs: u64) -> u64 {
        let share = self.head_epochs as f64 / (self.head_epochs + self.epochs) as f64;
        ((epochs as f64 * share).round() as u64).clamp(1, epochs.max(2) - 1)
    }
}

/// Images of a step: 32; of few images so many that an epoch has eight steps, but at least 8. A last step of less than a
/// quarter is avoided: batchnorm would see too few images there.
fn batch_for(images: usize) -> u32 {
    let most = (images / 8).next_power_of_two().clamp(8, 32) as u32;
    let odd = |batch: &u32| !(images as u32).is_multiple_of(*batch) && images as u32 % batch < batch / 4 && images as u32 > *batch;
    (most / 2..=most).rev().find(|batch| !odd(batch)).unwrap_or(most)
}

/// Rates of layers, beside the highest below the head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layers {
    /// The head's.
    pub(super) head: f32,
    /// The first layer's is so many times lower.
    pub(super) spread: f32,
}

/// A part of a run: what is trained in it, and how.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Phase {
    /// Its first epoch, from 0.
    pub(super) first: u64,
    /// How many it has.
    pub(super) epochs: u64,
    /// As `--trainable` names it.
    pub(super) trainable: String,
    /// The highest rate of what is trained; of what is below the head, where that has a rate of its own.
    pub(super) lr: f32,
    /// Where layers have rates of their own.
    pub(super) layers: Option<Layers>,
    /// How rates move.
    pub(super) rate: Rate,
    /// Whether images are cut at random.
    pub(super) augment: bool,
    /// Of how many random cuts of each image features are kept.
    pub(super) views: Option<u32>,
    /// Whether images are mixed, where options ask for that.
    pub(super) mixes: bool,
}

impl Phase {
    /// The epoch after its last.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.epochs)
    }
}

impl Choices {
    /// What is given of the options that say what is trained when, and how: any of them means the plain recipe.
    pub(super) fn course(&self) -> Vec<&'static str> {
        let given = [
            ("--trainable", self.trainable.is_some()),
            ("--epochs", self.epochs.is_some()),
            ("--batch", self.batch.is_some()),
            ("--lr", self.lr.is_some()),
            ("--momentum", self.momentum.is_some()),
            ("--dampening", self.dampening.is_some()),
            ("--weight-decay", self.weight_decay.is_some()),
            ("--nesterov", self.nesterov),
            ("--schedule", self.schedule.is_some()),
            ("--bn-statistics", self.bn_statistics.is_some()),
            ("--views", self.views.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(option, _)| option).collect()
    }
}

impl Settings {
    /// Chooses what the options of a new run leave open, where the recipe is `auto`.
    pub(super) fn complete(&mut self, given: &Choices, known: Known) {
        if self.recipe != Recipe::Auto {
            return;
        }
        let mut plain = Plain::of(known, self.size);
        if let Some(batch) = given.batch {
            let scale = f64::from(batch) / f64::from(plain.batch);
            // As many steps as with the batch that would be chosen.
            plain.head_epochs = ((plain.head_epochs as f64 * scale).round() as u64).clamp(2, 60);
            plain.epochs = ((plain.epochs as f64 * scale).round() as u64).clamp(3, 40);
        }
        self.batch = given.batch.unwrap_or(plain.batch);
        if given.micro_batch == Some(MicroBatch::Auto) {
            self.micro_batch = Some(self.batch);
        }
        self.lr = given.lr.unwrap_or(plain.lr);
        self.head_lr = Some(given.head_lr.unwrap_or(plain.head_lr));
        self.lr_spread = Some(given.lr_spread.unwrap_or(plain.lr_spread));
        self.weight_decay = given.weight_decay.unwrap_or(plain.weight_decay);
        self.label_smoothing = given.label_smoothing.unwrap_or(plain.label_smoothing);
        self.augment = given.augment || (plain.augment && !given.no_augment);
        let head = match (given.head_epochs, given.epochs) {
            (Some(head), _) => head,
            (None, None) => plain.head_epochs,
            (None, Some(epochs)) => plain.share_of_head(epochs),
        };
        self.head_epochs = Some(head);
        self.epochs = given.epochs.unwrap_or(plain.epochs.saturating_add(head));
    }

    /// Lays the run out for so many epochs in all.
    pub(super) fn lay_out(&mut self, head_epochs: u64, epochs: u64) {
        self.epochs = epochs.max(1);
        self.head_epochs = self.head_epochs.map(|_| head_epochs.min(self.epochs));
    }

    /// The parts of the run, one or two, each with an epoch at least.
    ///
    /// # Errors
    /// [`Failure::Usage`] where `--schedule` is none.
    pub(super) fn phases(&self) -> Result<Vec<Phase>, Failure> {
        let rate = Rate::parse(&self.schedule)?;
        let head = self.head_epochs.unwrap_or(0).min(self.epochs);
        let whole = Phase {
            first: 0,
            epochs: self.epochs,
            trainable: self.trainable.clone(),
            lr: self.lr,
            layers: None,
            rate,
            augment: self.augment,
            views: self.views,
            mixes: true,
        };
        if self.recipe == Recipe::Pytorch {
            return Ok(vec![whole]);
        }
        let head_lr = self.head_lr.unwrap_or(self.lr);
        let first = Phase {
            epochs: head,
            trainable: HEAD.into(),
            lr: head_lr,
            rate: Rate::OneCycle { div: FIRST_DIV },
            augment: self.views.is_some(),
            mixes: false,
            ..whole.clone()
        };
        let second = Phase {
            first: head,
            epochs: self.epochs - head,
            layers: Some(Layers { head: head_lr * SECOND, spread: self.lr_spread.unwrap_or(1.0) }),
            rate: Rate::OneCycle { div: SECOND_DIV },
            views: None,
            ..whole
        };
        Ok([first, second].into_iter().filter(|phase| phase.epochs > 0).collect())
    }

    /// Refuses options of one recipe that the other does not have.
    ///
    /// # Errors
    /// [`Failure::Usage`] that names the option.
    pub(super) fn check_recipe(&self) -> Result<(), Failure> {
        if let Some(views) = self.views {
            if !self.augment {
                return Err(Failure::usage(format_args!("--views {views} keeps random cuts of each image: give --augment too")));
            }
            if self.balanced {
                return Err(Failure::usage("--views can't go with --balanced, which draws an image more than once in an epoch"));
            }
            if !self.mixing_options().is_empty() && self.recipe == Recipe::Pytorch {
                let options = self.mixing_options();
                return Err(Failure::usage(format_args!(
                    "--views keeps features of images: {options} makes new ones of them at every step"
                )));
            }
        }
        if self.recipe == Recipe::Pytorch {
            let given = [
                ("--head-epochs", self.head_epochs.is_some()),
                ("--head-lr", self.head_lr.is_some()),
                ("--lr-spread", self.lr_spread.is_some()),
            ];
            return match given.into_iter().find(|(_, given)| *given) {
                Some((option, _)) => Err(Failure::usage(format_args!("{option} is an option of --recipe auto: give that too"))),
                None => Ok(()),
            };
        }
        if self.schedule != "onecycle" {
            return Err(Failure::usage(format_args!(
                "--schedule {}: --recipe auto has one cycle in each of its parts (onecycle); leave one of the two options out",
                self.schedule
            )));
        }
        if let Some(spread) = self.lr_spread.filter(|spread| !(spread.is_finite() && *spread >= 1.0)) {
            return Err(Failure::usage(format_args!("--lr-spread {spread}: must be a finite number of 1 or more")));
        }
        if let Some(lr) = self.head_lr.filter(|lr| !(lr.is_finite() && *lr >= 0.0)) {
            return Err(Failure::usage(format_args!("--head-lr {lr}: must be a finite number of 0 or more")));
        }
        match self.head_epochs {
            Some(head) if head > self.epochs => {
                Err(Failure::usage(format_args!("--head-epochs {head}: the run has {} epochs in all (--epochs)", self.epochs)))
            }
            _ => Ok(()),
        }
    }

    /// What the recipe is going to do, for people.
    pub(super) fn recipe_text(&self, images: usize) -> String {
        let (head, spread, head_lr) = (self.head_epochs.unwrap_or(0), self.lr_spread.unwrap_or(1.0), self.head_lr.unwrap_or(self.lr));
        let parts = [
            (head > 0).then(|| format!("the head alone for {head} epochs, rate {head_lr}")),
            (self.epochs > head).then(|| {
                let what = if self.trainable == "all" { "everything" } else { &self.trainable };
                let (first, of_head) = (self.lr / spread, head_lr * SECOND);
                format!("{what} for {} epochs, rates from {first} (first layer) to {} (last), head {of_head}", self.epochs - head, self.lr)
            }),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let augment = if self.augment { "random cuts and mirroring" } else { "no augmentation" };
        format!(
            "recipe auto, from {images} images: {}; one cycle each, batch {}, weight decay {}, label smoothing {}, {augment} (--recipe pytorch \
             is the plain one)",
            parts.join(", then "),
            self.batch,
            self.weight_decay,
            self.label_smoothing,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(choices: Choices, images: usize) -> Settings {
        let choices = Choices { recipe: Some(Recipe::Auto), ..choices };
        let mut settings = choices.settle(None, None).unwrap();
        settings.complete(&choices, Known { images, features: 512 });
        settings.trainable = "all".into();
        settings
    }

    #[test]
    fn no_last_batch_is_too_small() {
        for images in 1..3000 {
            let batch = batch_for(images) as usize;
            assert!((4..=32).contains(&batch), "{images}: {batch}");
            let last = images % batch;
            assert!(last == 0 || last >= batch / 4 || images < batch, "{images}: {batch}, {last} are left");
        }
        assert_eq!([batch_for(24), batch_for(200), batch_for(1024), batch_for(100_000)], [8, 32, 32, 32]);
    }

    #[test]
    fn small_sets_have_more_epochs() {
        let of = |images| Plain::of(Known { images, features: 512 }, 224);
        let mut before = of(2);
        for images in [50, 200, 1000, 10_000, 1_000_000] {
            let plain = of(images);
            assert!(plain.epochs <= before.epochs && plain.head_epochs <= before.head_epochs && plain.epochs > 0, "{plain:?}");
            before = plain;
        }
    }

    #[test]
    fn parts_follow_one_another() {
        let settings = auto(Choices::default(), 300);
        assert!(settings.check(None).is_ok());
        let phases = settings.phases().unwrap();
        assert_eq!((phases.len(), phases[0].first, phases[0].end(), phases[1].end()), (2, 0, phases[1].first, settings.epochs));
        assert_eq!((phases[0].trainable.as_str(), phases[1].trainable.as_str()), ("head", "all"));
        let layers = phases[1].layers.unwrap();
        assert!(layers.head < phases[0].lr && layers.spread > 1.0 && phases[0].layers.is_none() && !phases[0].augment && phases[1].augment);
        let few = auto(Choices { epochs: Some(2), ..Choices::default() }, 300);
        assert_eq!((few.head_epochs, few.epochs), (Some(1), 2));
        assert_eq!(auto(Choices { epochs: Some(1), ..Choices::default() }, 300).phases().unwrap().len(), 1);
        let only = auto(Choices { head_epochs: Some(0), ..Choices::default() }, 300).phases().unwrap();
        assert_eq!((only.len(), only[0].first, only[0].trainable.as_str()), (1, 0, "all"));
        let plain = Choices::default().settle(None, None).unwrap().phases().unwrap();
        assert!(plain.len() == 1 && plain[0].rate == Rate::Constant && plain[0].layers.is_none());
    }

    /// The file that a run leaves has every choice: completed again, nothing of it changes.
    #[test]
    fn what_was_chosen_is_not_chosen_again() {
        let settings = auto(Choices::default(), 77);
        let again = Choices {
            epochs: Some(settings.epochs),
            head_epochs: settings.head_epochs,
            lr_spread: settings.lr_spread,
            head_lr: settings.head_lr,
            batch: Some(settings.batch),
            lr: Some(settings.lr),
            weight_decay: Some(settings.weight_decay),
            label_smoothing: Some(settings.label_smoothing),
            augment: settings.augment,
            no_augment: !settings.augment,
            ..Choices::default()
        };
        assert_eq!(auto(again, 77), settings);
    }

    #[test]
    fn options_of_the_other_recipe_are_refused() {
        let plain = |choices: Choices| choices.settle(None, None).unwrap().check_recipe();
        assert!(plain(Choices { head_epochs: Some(1), ..Choices::default() }).is_err());
        assert!(plain(Choices { head_lr: Some(1.0), ..Choices::default() }).is_err());
        assert!(plain(Choices { lr_spread: Some(2.0), ..Choices::default() }).is_err());
        assert!(plain(Choices { views: Some(2), ..Choices::default() }).is_err());
        assert!(plain(Choices { views: Some(2), augment: true, ..Choices::default() }).is_ok());
        for bad in [
            Choices { schedule: Some("cosine".into()), ..Choices::default() },
            Choices { lr_spread: Some(0.5), ..Choices::default() },
            Choices { head_lr: Some(f32::NAN), ..Choices::default() },
            Choices { head_epochs: Some(5), epochs: Some(4), ..Choices::default() },
        ] {
            assert!(matches!(auto(bad, 100).check(None), Err(Failure::Usage(_))));
        }
    }
}
