//! What decides the result of a run: options as they are given, and as they are settled from what is
//! given, what an earlier run was started with, and the defaults.

use super::rate::Rate;
use crate::args::UpdateArg;
use crate::failure::Failure;
use crate::model::View;
use nunatak_nn::{NormPolicy, Optimizer, Sgd};
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// What frozen normalisations do.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistics {
    /// Frozen batchnorm uses its running statistics, which stay as they are
    Fixed,
    /// As PyTorch in train mode: statistics of the batch, running ones move though frozen
    Batch,
}

impl Display for Statistics {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(if *self == Statistics::Fixed { "fixed" } else { "batch" })
    }
}

impl From<Statistics> for NormPolicy {
    fn from(s: Statistics) -> NormPolicy {
        if s == Statistics::Fixed { NormPolicy::Fixed } else { NormPolicy::Updating }
    }
}

/// Options that decide the result, as given.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Choices {
    /// What is trained: names or prefixes with commas between (layer4,fc), or all [default: fc]
    #[arg(long)]
    pub trainable: Option<String>,
    /// Times that every image is seen [default: 10]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub epochs: Option<u64>,
    /// Images of a step; the last step of an epoch takes what is left [default: 32]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: Option<u32>,
    /// Learning rate [default: 0.01]
    #[arg(long, allow_negative_numbers = true)]
    pub lr: Option<f32>,
    /// Momentum of SGD [default: 0.9]
    #[arg(long, allow_negative_numbers = true)]
    pub momentum: Option<f32>,
    /// How much of a gradient is kept out of the momentum [default: 0]
    #[arg(long, allow_negative_numbers = true)]
    pub dampening: Option<f32>,
    /// Weight decay, of everything that is trained [default: 0]
    #[arg(long, allow_negative_numbers = true)]
    pub weight_decay: Option<f32>,
    /// Nesterov's momentum
    #[arg(long)]
    pub nesterov: bool,
    /// constant, step:SIZE:GAMMA, multistep:A,B:GAMMA, cosine[:WARMUP] or onecycle [default: constant]
    #[arg(long)]
    pub schedule: Option<String>,
    /// How much of the target is spread over all classes, 0 to 1 [default: 0]
    #[arg(long, allow_negative_numbers = true)]
    pub label_smoothing: Option<f32>,
    /// Scales gradients down to this norm where theirs is larger
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    pub clip_grad_norm: Option<f32>,
    /// Random cuts and mirroring: RandomResizedCrop, RandomHorizontalFlip
    #[arg(long)]
    pub augment: bool,
    /// Decides the new head, the order of images, the split, the cuts; as torch.manual_seed [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Side of the square that the network sees [default: 224]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub size: Option<u32>,
    /// Shorter side after resizing, before the square is cut out [default: size · 256 / 224]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub resize: Option<u32>,
    /// Part of each class put aside for validation where DIR has no train/ and val/ [default: 0.2]
    #[arg(long, allow_negative_numbers = true)]
    pub val_fraction: Option<f64>,
    /// What frozen batchnorm does [default: fixed]
    #[arg(long, value_enum)]
    pub bn_statistics: Option<Statistics>,
}

/// Options that decide the result, settled; saved with the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "as in `Choices`")]
pub(super) struct Settings {
    pub trainable: String,
    pub epochs: u64,
    pub batch: u32,
    pub lr: f32,
    pub momentum: f32,
    pub dampening: f32,
    pub weight_decay: f32,
    pub nesterov: bool,
    pub schedule: String,
    pub label_smoothing: f32,
    pub clip_grad_norm: Option<f32>,
    pub augment: bool,
    pub seed: u64,
    pub size: u32,
    pub resize: u32,
    pub val_fraction: f64,
    pub bn_statistics: Statistics,
}

/// What is given, else what was saved, else the default. What is given must be what was saved.
fn pick<T: PartialEq + Display>(flag: &str, given: Option<T>, saved: Option<T>, default: T) -> Result<T, Failure> {
    match (given, saved) {
        (Some(given), Some(saved)) if given != saved => Err(differs(flag, &given, &saved)),
        (Some(value), _) | (None, Some(value)) => Ok(value),
        (None, None) => Ok(default),
    }
}

fn differs(flag: &str, given: &dyn Display, saved: &dyn Display) -> Failure {
    Failure::usage(format_args!(
        "--resume: --{flag} is {given}, but the run was started with {saved}; leave it out or give {saved}, or start anew without --resume"
    ))
}

/// The same names in one order.
fn sorted(trainable: &str) -> String {
    let mut names: Vec<&str> = trainable.split(',').map(str::trim).collect();
    names.sort_unstable();
    names.dedup();
    names.join(",")
}

impl Choices {
    /// What holds for a run: `saved` is what an earlier one was started with.
    ///
    /// # Errors
    /// [`Failure::Usage`] where something given differs from it and would change the result.
    pub(super) fn settle(&self, saved: Option<&Settings>) -> Result<Settings, Failure> {
        let was = |flag: &str, given: bool, saved: Option<bool>| pick(flag, given.then_some(true), saved, false);
        let size = pick("size", self.size, saved.map(|s| s.size), 224)?;
        let schedule = pick("schedule", self.schedule.clone(), saved.map(|s| s.schedule.clone()), "constant".into())?;
        let epochs = match (self.epochs, saved) {
            // More or fewer epochs are the same run, unless the rate looks at their end.
            (Some(given), Some(saved)) if given != saved.epochs && Rate::parse(&schedule)?.looks_ahead() => {
                return Err(differs("epochs", &given, &saved.epochs));
            }
            (given, saved) => given.or(saved.map(|s| s.epochs)).unwrap_or(10),
        };
        Ok(Settings {
            trainable: pick("trainable", self.trainable.as_deref().map(sorted), saved.map(|s| s.trainable.clone()), "fc".into())?,
            epochs,
            batch: pick("batch", self.batch, saved.map(|s| s.batch), 32)?,
            lr: pick("lr", self.lr, saved.map(|s| s.lr), 0.01)?,
            momentum: pick("momentum", self.momentum, saved.map(|s| s.momentum), 0.9)?,
            dampening: pick("dampening", self.dampening, saved.map(|s| s.dampening), 0.0)?,
            weight_decay: pick("weight-decay", self.weight_decay, saved.map(|s| s.weight_decay), 0.0)?,
            nesterov: was("nesterov", self.nesterov, saved.map(|s| s.nesterov))?,
            schedule,
            label_smoothing: pick("label-smoothing", self.label_smoothing, saved.map(|s| s.label_smoothing), 0.0)?,
            clip_grad_norm: match (self.clip_grad_norm, saved) {
                (Some(given), Some(saved)) if saved.clip_grad_norm != Some(given) => {
                    let saved = saved.clip_grad_norm.map_or("none".into(), |v| v.to_string());
                    return Err(differs("clip-grad-norm", &given, &saved));
                }
                (given, saved) => given.or(saved.and_then(|s| s.clip_grad_norm)),
            },
            augment: was("augment", self.augment, saved.map(|s| s.augment))?,
            seed: pick("seed", self.seed, saved.map(|s| s.seed), 0)?,
            size,
            resize: pick("resize", self.resize, saved.map(|s| s.resize), View::of(size).resize)?,
            val_fraction: pick("val-fraction", self.val_fraction, saved.map(|s| s.val_fraction), 0.2)?,
            bn_statistics: pick("bn-statistics", self.bn_statistics, saved.map(|s| s.bn_statistics), Statistics::Fixed)?,
        })
    }
}

impl Settings {
    /// When parameters are updated, where nothing was asked for.
    pub(super) fn update(&self) -> UpdateArg {
        if self.clip_grad_norm.is_some() { UpdateArg::After } else { UpdateArg::During }
    }

    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// [`Failure::Usage`] that names the option.
    pub(super) fn check(&self, update: Option<UpdateArg>) -> Result<(), Failure> {
        self.optimizer()?;
        self.rate()?;
        let refuse = |flag: &str, value: &dyn Display, due: &str| Err(Failure::usage(format_args!("--{flag} {value}: must be {due}")));
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return refuse("label-smoothing", &self.label_smoothing, "from 0 to 1");
        }
        if !(0.0..1.0).contains(&self.val_fraction) {
            return refuse("val-fraction", &self.val_fraction, "at least 0 and below 1");
        }
        if let Some(norm) = self.clip_grad_norm {
            if !(norm.is_finite() && norm > 0.0) {
                return refuse("clip-grad-norm", &norm, "a finite number above 0");
            }
            if update == Some(UpdateArg::During) {
                return Err(Failure::usage("--clip-grad-norm needs all gradients before the first update: leave out --update during"));
            }
        }
        if self.batch == 0 || self.size == 0 || self.resize == 0 || self.epochs == 0 {
            return Err(Failure::usage("--batch, --size, --resize and --epochs must be at least 1"));
        }
        if matches!(self.trainable.as_str(), "none" | "") {
            return Err(Failure::usage("--trainable: nothing would be trained; name what is, for example fc"));
        }
        Ok(())
    }

    /// How images are shown where they are not cut at random.
    pub(super) fn view(&self) -> View {
        View { size: self.size, resize: self.resize }
    }

    /// SGD with these numbers.
    ///
    /// # Errors
    /// [`Failure::Usage`] where they make no sense.
    pub(super) fn optimizer(&self) -> Result<Optimizer, Failure> {
        let sgd = Sgd {
            momentum: self.momentum,
            dampening: self.dampening,
            weight_decay: self.weight_decay,
            nesterov: self.nesterov,
            ..Sgd::new(self.lr)
        };
        Optimizer::new(sgd).map_err(|e| Failure::usage(format_args!("--lr, --momentum, --dampening, --weight-decay or --nesterov: {e}")))
    }

    /// How the learning rate moves.
    ///
    /// # Errors
    /// [`Failure::Usage`] where the text is no schedule.
    pub(super) fn rate(&self) -> Result<Rate, Failure> {
        Rate::parse(&self.schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_as_it_was() {
        let first = Choices { lr: Some(0.5), trainable: Some("layer4,fc".into()), ..Choices::default() };
        let saved = first.settle(None).unwrap();
        assert_eq!((saved.lr, saved.batch, saved.resize, saved.trainable.as_str()), (0.5, 32, 256, "fc,layer4"));
        assert_eq!(Choices::default().settle(Some(&saved)).unwrap(), saved);
        let other = |c: Choices| matches!(c.settle(Some(&saved)), Err(Failure::Usage(text)) if text.contains("was started with"));
        assert!(other(Choices { lr: Some(0.25), ..Choices::default() }));
        assert!(other(Choices { augment: true, ..Choices::default() }));
        assert!(other(Choices { clip_grad_norm: Some(1.0), ..Choices::default() }));
        assert!(!other(Choices { trainable: Some("fc,layer4".into()), epochs: Some(99), ..Choices::default() }));
        let text = serde_json::to_string(&saved).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), saved);
    }

    #[test]
    fn a_rate_that_looks_ahead_fixes_the_epochs() {
        let saved = Choices { schedule: Some("cosine".into()), ..Choices::default() }.settle(None).unwrap();
        assert!(Choices { epochs: Some(11), ..Choices::default() }.settle(Some(&saved)).is_err());
    }
}
