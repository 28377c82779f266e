//! What decides the result of a run: options as they are given, and as they are settled from what is
//! given, what an earlier run was started with, and the defaults.

use super::rate::Rate;
use super::recipe::Recipe;
use crate::args::UpdateArg;
use crate::engine::batch_sizes;
use crate::failure::Failure;
use crate::max_mem::MicroBatch;
use crate::model::View;
use nunatak_data::Mixing;
use nunatak_nn::{NormPolicy, Optimizer, Sgd, Update};
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

/// Where gradients of micro-batches are added up.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accumulate {
    /// In memory of their own: PyTorch's numbers
    #[default]
    Gradient,
    /// In the momentum: a buffer less for every trained parameter, and sums that are rounded otherwise
    Momentum,
}

impl Display for Accumulate {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(if *self == Accumulate::Gradient { "gradient" } else { "momentum" })
    }
}

/// Options that decide the result, as given.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Choices {
    /// How to go about it [default: auto for pretrained weights where no option says what is trained when and at which rate;
    /// see below]
    #[arg(long, value_enum)]
    pub recipe: Option<Recipe>,
    /// With --recipe auto: so many of the epochs train the head alone [default: chosen]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub head_epochs: Option<u64>,
    /// With --recipe auto: the head's learning rate while it is trained alone; --lr is the highest of the layers below it
    /// after that [default: chosen]
    #[arg(long, value_name = "LR", allow_negative_numbers = true)]
    pub head_lr: Option<f32>,
    /// With --recipe auto: the first layer's rate is so many times lower than --lr, and layers between lie between [default:
    /// chosen]
    #[arg(long, value_name = "TIMES", allow_negative_numbers = true)]
    pub lr_spread: Option<f32>,
    /// What is trained: names or prefixes with commas between (layer4,fc), head, or all [default: the head, which is fc in a
    /// ResNet; all without --weights]
    #[arg(long)]
    pub trainable: Option<String>,
    /// Times that every image is seen [default: 10]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub epochs: Option<u64>,
    /// Images of a step; the last step of an epoch takes what is left [default: 32]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: Option<u32>,
    /// Images that are computed at a time: a step's gradients are added up over as many micro-batches as it takes, in less
    /// memory; batchnorm sees micro-batches. auto: as many as fit into --max-mem [default: all of a step]
    #[arg(long, value_name = "IMAGES")]
    pub micro_batch: Option<MicroBatch>,
    /// Where gradients of micro-batches are added up [default: gradient]
    #[arg(long, value_enum)]
    pub accumulate: Option<Accumulate>,
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
    /// How much a class counts in the loss: none, balanced (all classes as much as one another, however many images they
    /// have), or a number for each class, in the order of their names, with commas between [default: none]
    #[arg(long, value_name = "WEIGHTS")]
    pub class_weights: Option<String>,
    /// Draws the images of an epoch at random, with repeats, so that every class comes as often as the others: as PyTorch's
    /// WeightedRandomSampler with 1 / (images of the class)
    #[arg(long)]
    pub balanced: bool,
    /// Mixes every image of a batch with the one before it, and their labels likewise, as torchvision's MixUp; the share is
    /// drawn from Beta(ALPHA, ALPHA), such as 0.2. With --cutmix too, a batch has one of them, with even odds
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true)]
    pub mixup: Option<f32>,
    /// Pastes into every image of a batch a box of the one before it, as torchvision's CutMix, with labels by area; the
    /// area is drawn from Beta(ALPHA, ALPHA), such as 1
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true)]
    pub cutmix: Option<f32>,
    /// Ends the run where for N epochs no model was better than the best
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub patience: Option<u64>,
    /// Validates and saves an exponential moving average of the weights, of which every step keeps this part, such as
    /// 0.999
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    pub ema: Option<f32>,
    /// Scales gradients down to this norm where theirs is larger
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    pub clip_grad_norm: Option<f32>,
    /// Random cuts and mirroring: RandomResizedCrop, RandomHorizontalFlip
    #[arg(long, overrides_with = "no_augment")]
    pub augment: bool,
    /// No random cuts, where --recipe auto would choose them
    #[arg(long, overrides_with = "augment")]
    pub no_augment: bool,
    /// With --augment, while the head alone is trained: features of so many random cuts of each image are computed once,
    /// and epochs take them in turn
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub views: Option<u32>,
    /// Decides the new head, the order of images, the split, the cuts; as torch.manual_seed [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Side of the square that the network sees [default: the weights' own, 224 where they have none]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub size: Option<u32>,
    /// Shorter side after resizing, before the square is cut out [default: the weights' own, size · 256 / 224 where they have none]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub resize: Option<u32>,
    /// Turn pictures as their EXIF orientation says, as they were meant to be seen; PyTorch's data sets do not
    #[arg(long)]
    pub exif: bool,
    /// Part of each class put aside for validation where DIR has no part to validate with [default: 0.2]
    #[arg(long, visible_alias = "val", allow_negative_numbers = true)]
    pub val_fraction: Option<f64>,
    /// Put the same part of every class aside, which is always done
    #[arg(long)]
    pub stratified: bool,
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
    #[serde(default)]
    pub micro_batch: Option<u32>,
    #[serde(default)]
    pub accumulate: Accumulate,
    pub lr: f32,
    pub momentum: f32,
    pub dampening: f32,
    pub weight_decay: f32,
    pub nesterov: bool,
    pub schedule: String,
    pub label_smoothing: f32,
    pub class_weights: String,
    #[serde(default)]
    pub balanced: bool,
    #[serde(default)]
    pub mixup: Option<f32>,
    #[serde(default)]
    pub cutmix: Option<f32>,
    pub patience: Option<u64>,
    pub ema: Option<f32>,
    pub clip_grad_norm: Option<f32>,
    pub augment: bool,
    pub seed: u64,
    pub size: u32,
    pub resize: u32,
    #[serde(default)]
    pub exif: bool,
    pub val_fraction: f64,
    pub bn_statistics: Statistics,
    #[serde(default)]
    pub recipe: Recipe,
    #[serde(default)]
    pub head_epochs: Option<u64>,
    #[serde(default)]
    pub head_lr: Option<f32>,
    #[serde(default)]
    pub lr_spread: Option<f32>,
    #[serde(default)]
    pub views: Option<u32>,
}

/// What is given, else what was saved, else the default. What is given must be what was saved.
fn pick<T: PartialEq + Display>(flag: &str, given: Option<T>, saved: Option<T>, default: T) -> Result<T, Failure> {
    match (given, saved) {
        (Some(given), Some(saved)) if given != saved => Err(differs(flag, &given, &saved)),
        (Some(value), _) | (None, Some(value)) => Ok(value),
        (None, None) => Ok(default),
    }
}

/// The same of an option without a default.
fn pick_or_none<T: PartialEq + Display>(flag: &str, given: Option<T>, saved: Option<Option<T>>) -> Result<Option<T>, Failure> {
    match (given, saved) {
        (Some(given), Some(saved)) if saved.as_ref() != Some(&given) => {
            Err(differs(flag, &given, &saved.map_or("none".into(), |value| value.to_string())))
        }
        (given, saved) => Ok(given.or(saved.flatten())),
    }
}

fn differs(flag: &str, given: &dyn Display, saved: &dyn Display) -> Failure {
    Failure::usage(format_args!(
        "--resume: --{flag} is {given}, but the run was started with {saved}; leave it out or give {saved}, or start anew without --resume"
    ))
}

/// What is trained where nothing is said, until the network is known: then the name of its head.
pub(super) const HEAD: &str = "head";

/// The same names in one order.
fn sorted(trainable: &str) -> String {
    let mut names: Vec<&str> = trainable.split(',').map(str::trim).collect();
    names.sort_unstable();
    names.dedup();
    names.join(",")
}

impl Choices {
    /// What holds for a run: `saved` is what an earlier one was started with, `view` how images were shown to the
    /// weights.
    ///
    /// # Errors
    /// [`Failure::Usage`] where something given differs from it and would change the result.
    pub(super) fn settle(&self, saved: Option<&Settings>, view: Option<View>) -> Result<Settings, Failure> {
        let was = |flag: &str, given: bool, saved: Option<bool>| pick(flag, given.then_some(true), saved, false);
        let turned = view.is_some_and(|view| view.exif);
        let view = view.unwrap_or(View::of(224));
        let size = pick("size", self.size, saved.map(|s| s.size), view.size)?;
        let view = if size == view.size { view } else { View::of(size) };
        let recipe = pick("recipe", self.recipe, saved.map(|s| s.recipe), Recipe::Pytorch)?;
        let usual = if recipe == Recipe::Auto { "onecycle" } else { "constant" };
        let schedule = pick("schedule", self.schedule.clone(), saved.map(|s| s.schedule.clone()), usual.into())?;
        let epochs = match (self.epochs, saved) {
            // More or fewer epochs are the same run, unless the rate looks at their end.
            (Some(given), Some(saved)) if given != saved.epochs && Rate::parse(&schedule)?.looks_ahead() => {
                return Err(differs("epochs", &given, &saved.epochs));
            }
            (given, saved) => given.or(saved.map(|s| s.epochs)).unwrap_or(10_u64.saturating_add(self.head_epochs.unwrap_or(0))),
        };
        let batch = pick("batch", self.batch, saved.map(|s| s.batch), 32)?;
        let micro_batch = match (self.micro_batch, saved) {
            (Some(MicroBatch::Of(images)), _) => Some(images),
            // As many as it was started with; else all of a step, until it is known what fits.
            (Some(MicroBatch::Auto), None) => Some(batch),
            (Some(MicroBatch::Auto), Some(_)) | (None, _) => None,
        };
        Ok(Settings {
            trainable: pick("trainable", self.trainable.as_deref().map(sorted), saved.map(|s| s.trainable.clone()), HEAD.into())?,
            epochs,
            batch,
            micro_batch: pick_or_none("micro-batch", micro_batch, saved.map(|s| s.micro_batch))?,
            accumulate: pick("accumulate", self.accumulate, saved.map(|s| s.accumulate), Accumulate::Gradient)?,
            lr: pick("lr", self.lr, saved.map(|s| s.lr), 0.01)?,
            momentum: pick("momentum", self.momentum, saved.map(|s| s.momentum), 0.9)?,
            dampening: pick("dampening", self.dampening, saved.map(|s| s.dampening), 0.0)?,
            weight_decay: pick("weight-decay", self.weight_decay, saved.map(|s| s.weight_decay), 0.0)?,
            nesterov: was("nesterov", self.nesterov, saved.map(|s| s.nesterov))?,
            schedule,
            label_smoothing: pick("label-smoothing", self.label_smoothing, saved.map(|s| s.label_smoothing), 0.0)?,
            class_weights: pick("class-weights", self.class_weights.clone(), saved.map(|s| s.class_weights.clone()), "none".into())?,
            balanced: was("balanced", self.balanced, saved.map(|s| s.balanced))?,
            mixup: pick_or_none("mixup", self.mixup, saved.map(|s| s.mixup))?,
            cutmix: pick_or_none("cutmix", self.cutmix, saved.map(|s| s.cutmix))?,
            // It decides when a run ends, not what it gives until then.
            patience: self.patience.or(saved.and_then(|s| s.patience)),
            ema: pick_or_none("ema", self.ema, saved.map(|s| s.ema))?,
            clip_grad_norm: pick_or_none("clip-grad-norm", self.clip_grad_norm, saved.map(|s| s.clip_grad_norm))?,
            augment: was("augment", self.augment, saved.map(|s| s.augment))?,
            seed: pick("seed", self.seed, saved.map(|s| s.seed), 0)?,
            size,
            resize: pick("resize", self.resize, saved.map(|s| s.resize), view.resize)?,
            exif: was("exif", self.exif || (saved.is_none() && turned), saved.map(|s| s.exif))?,
            val_fraction: pick("val-fraction", self.val_fraction, saved.map(|s| s.val_fraction), 0.2)?,
            bn_statistics: pick("bn-statistics", self.bn_statistics, saved.map(|s| s.bn_statistics), Statistics::Fixed)?,
            recipe,
            head_epochs: pick_or_none("head-epochs", self.head_epochs, saved.map(|s| s.head_epochs))?,
            head_lr: pick_or_none("head-lr", self.head_lr, saved.map(|s| s.head_lr))?,
            lr_spread: pick_or_none("lr-spread", self.lr_spread, saved.map(|s| s.lr_spread))?,
            views: pick_or_none("views", self.views, saved.map(|s| s.views))?,
        })
    }
}

impl Settings {
    /// When parameters are updated.
    pub(super) fn update(&self, asked: Option<UpdateArg>) -> Update {
        match (self.micro_batch, self.accumulate) {
            (Some(_), Accumulate::Momentum) => Update::Summed,
            (Some(_), Accumulate::Gradient) => Update::After,
            (None, _) if self.clip_grad_norm.is_some() => Update::After,
            (None, _) => asked.map_or(Update::During, Update::from),
        }
    }

    /// Images that are computed at a time, of so many that a step has.
    pub(super) fn at_once(&self, images: usize) -> usize {
        self.micro_batch.map_or(images, |most| images.min(most as usize))
    }

    /// The sizes of what is computed at a time in an epoch of so many images.
    pub(super) fn sizes(&self, images: usize) -> Vec<usize> {
        let steps = batch_sizes(images, self.batch as usize);
        let parts = |n: &usize| batch_sizes(*n, self.at_once(*n).max(1));
        steps.iter().flat_map(parts).collect()
    }

    /// Refuses what micro-batches exclude.
    fn check_micro_batch(&self, update: Option<UpdateArg>) -> Result<(), Failure> {
        if self.micro_batch.is_some() && update == Some(UpdateArg::During) {
            return Err(Failure::usage("--micro-batch needs all gradients before the first update: leave out --update during"));
        }
        if self.accumulate == Accumulate::Momentum {
            for (given, option) in [(self.clip_grad_norm.is_some(), "--clip-grad-norm"), (self.nesterov, "--nesterov")] {
                if given {
                    return Err(Failure::usage(format_args!("{option} needs the gradients apart: leave out --accumulate momentum")));
                }
            }
            if self.micro_batch.is_none() {
                return Err(Failure::usage("--accumulate momentum needs --micro-batch, the images that are computed at a time"));
            }
            if self.momentum == 0.0 || update == Some(UpdateArg::After) {
                return Err(Failure::usage("--accumulate momentum needs a --momentum above 0, and no --update"));
            }
        }
        Ok(())
    }

    /// How batches to train on are mixed.
    ///
    /// # Errors
    /// [`Failure::Usage`] where a number makes no sense.
    pub(super) fn mixing(&self) -> Result<Mixing, Failure> {
        for (flag, alpha) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            if let Some(alpha) = alpha.filter(|alpha| !(alpha.is_finite() && *alpha > 0.0)) {
                return Err(Failure::usage(format_args!("--{flag} {alpha}: must be a finite number above 0; leave it out to mix nothing")));
            }
        }
        Mixing::new(self.mixup.map(f64::from), self.cutmix.map(f64::from)).map_err(Failure::usage)
    }

    /// The options that mix batches, as they are given.
    pub(super) fn mixing_options(&self) -> &'static str {
        match (self.mixup, self.cutmix) {
            (None, None) => "",
            (Some(_), None) => "--mixup",
            (None, Some(_)) => "--cutmix",
            (Some(_), Some(_)) => "--mixup and --cutmix",
        }
    }

    /// Refuses what mixed batches exclude.
    fn check_mixing(&self) -> Result<(), Failure> {
        if !self.mixing()?.is_on() {
            return Ok(());
        }
        let options = self.mixing_options();
        if self.class_weights != "none" {
            return Err(Failure::usage(format_args!(
                "{options} can't go with --class-weights, for a mixed image is of two classes: leave it out, or see rare classes more often with --balanced"
            )));
        }
        if self.batch < 2 {
            return Err(Failure::usage(format_args!(
                "{options} mixes the images of a batch: take a --batch of 2 or more, not {}",
                self.batch
            )));
        }
        Ok(())
    }

    /// Refuses numbers that make no sense.
    ///
    /// # Errors
    /// [`Failure::Usage`] that names the option.
    pub(super) fn check(&self, update: Option<UpdateArg>) -> Result<(), Failure> {
        self.phases()?;
        self.check_recipe()?;
        let refuse = |flag: &str, value: &dyn Display, due: &str| Err(Failure::usage(format_args!("--{flag} {value}: must be {due}")));
        for (flag, value) in [("lr", self.lr), ("momentum", self.momentum), ("weight-decay", self.weight_decay)] {
            if !(value.is_finite() && value >= 0.0) {
                return refuse(flag, &value, "a finite number of 0 or more");
            }
        }
        if !self.dampening.is_finite() {
            return refuse("dampening", &self.dampening, "a finite number");
        }
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            return Err(Failure::usage(format_args!(
                "--nesterov needs a --momentum above 0 and a --dampening of 0; they are {} and {}",
                self.momentum, self.dampening
            )));
        }
        Optimizer::new(self.sgd(self.lr)).map_err(Failure::usage)?;
        self.check_micro_batch(update)?;
        self.check_mixing()?;
        if !matches!(self.class_weights.as_str(), "none" | "balanced") {
            self.class_weights(&[])?;
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return refuse("label-smoothing", &self.label_smoothing, "from 0 to 1");
        }
        if !(0.0..1.0).contains(&self.val_fraction) {
            return refuse("val-fraction", &self.val_fraction, "at least 0 and below 1");
        }
        if let Some(decay) = self.ema.filter(|decay| !(*decay > 0.0 && *decay < 1.0)) {
            return refuse("ema", &decay, "above 0 and below 1, such as 0.999");
        }
        if let Some(norm) = self.clip_grad_norm {
            if !(norm.is_finite() && norm > 0.0) {
                return refuse("clip-grad-norm", &norm, "a finite number above 0");
            }
            if update == Some(UpdateArg::During) {
                return Err(Failure::usage("--clip-grad-norm needs all gradients before the first update: leave out --update during"));
            }
        }
        // Of options clap has looked at them; a saved run may say anything.
        let within = [
            ("batch", self.batch.into(), 65536),
            ("micro-batch", self.micro_batch.unwrap_or(1).into(), 65536),
            ("size", self.size.into(), 8192),
            ("resize", self.resize.into(), 16384),
            ("epochs", self.epochs, 1_000_000),
        ];
        if let Some((flag, value, most)) = within.into_iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
            return refuse(flag, &value, &format!("from 1 to {most}"));
        }
        if matches!(self.trainable.as_str(), "none" | "") {
            return Err(Failure::usage("--trainable: nothing would be trained; name what is, for example head"));
        }
        Ok(())
    }

    /// The weights of the classes, of which `counts` says how many images each has to train on; none where all are 1.
    ///
    /// # Errors
    /// [`Failure::Usage`] where the text is no list of weights, or has another number of them.
    pub(super) fn class_weights(&self, counts: &[usize]) -> Result<Option<Vec<f32>>, Failure> {
        let wrong = |why: &str| {
            let classes = counts.len();
            Failure::usage(format_args!(
                "--class-weights {}: {why}; expected none, balanced, or {classes} numbers above 0 with commas between",
                self.class_weights
            ))
        };
        match self.class_weights.as_str() {
            "none" => Ok(None),
            "balanced" => {
                let images: usize = counts.iter().sum();
                let weight = |count: &usize| (images as f64 / (counts.len() * count) as f64) as f32;
                if counts.contains(&0) {
                    return Err(wrong("a class has no image to train on"));
                }
                Ok(Some(counts.iter().map(weight).collect()))
            }
            list => {
                let weights = list.split(',').map(|word| word.trim().parse::<f32>().ok().filter(|w| w.is_finite() && *w > 0.0));
                let weights: Option<Vec<f32>> = weights.collect();
                let weights = weights.ok_or_else(|| wrong("that is no list of numbers above 0"))?;
                if counts.is_empty() || weights.len() == counts.len() {
                    Ok(Some(weights))
                } else {
                    Err(wrong("that is another number of them"))
                }
            }
        }
    }

    /// How images are shown where they are not cut at random.
    pub(super) fn view(&self) -> View {
        View { size: self.size, resize: self.resize, exif: self.exif }
    }

    /// SGD with these numbers, at this rate.
    pub(super) fn sgd(&self, lr: f32) -> Sgd {
        Sgd { momentum: self.momentum, dampening: self.dampening, weight_decay: self.weight_decay, nesterov: self.nesterov, ..Sgd::new(lr) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_as_it_was() {
        let first = Choices { lr: Some(0.5), trainable: Some("layer4,fc".into()), ..Choices::default() };
        let saved = first.settle(None, None).unwrap();
        assert_eq!((saved.lr, saved.batch, saved.resize, saved.trainable.as_str()), (0.5, 32, 256, "fc,layer4"));
        assert_eq!(Choices::default().settle(Some(&saved), None).unwrap(), saved);
        let other = |c: Choices| matches!(c.settle(Some(&saved), None), Err(Failure::Usage(text)) if text.contains("was started with"));
        assert!(other(Choices { lr: Some(0.25), ..Choices::default() }));
        assert!(other(Choices { augment: true, ..Choices::default() }));
        assert!(other(Choices { clip_grad_norm: Some(1.0), ..Choices::default() }));
        assert!(other(Choices { balanced: true, ..Choices::default() }));
        assert!(other(Choices { mixup: Some(0.2), ..Choices::default() }));
        assert!(other(Choices { cutmix: Some(1.0), ..Choices::default() }));
        let older = serde_json::to_string(&saved).unwrap().replace("\"balanced\":false,\"mixup\":null,\"cutmix\":null,", "");
        assert_eq!(serde_json::from_str::<Settings>(&older).unwrap(), saved, "a run that was saved before there were these options");
        assert!(!other(Choices { trainable: Some("fc,layer4".into()), epochs: Some(99), ..Choices::default() }));
        let text = serde_json::to_string(&saved).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), saved);
    }

    /// A file may say what no option takes.
    #[test]
    fn saved_numbers_are_within_those_of_the_options() {
        let saved = Choices::default().settle(None, None).unwrap();
        saved.check(None).unwrap();
        let changed = |change: fn(&mut Settings)| {
            let mut settings = saved.clone();
            change(&mut settings);
            settings
        };
        type Bad = (&'static str, fn(&mut Settings));
        let bad: [Bad; 7] = [
            ("--micro-batch 0: must be from 1 to 65536", |s| s.micro_batch = Some(0)),
            ("--micro-batch 65537", |s| s.micro_batch = Some(65537)),
            ("--batch 0", |s| s.batch = 0),
            ("--size 8193", |s| s.size = 8193),
            ("--resize 4294967295: must be from 1 to 16384", |s| s.resize = u32::MAX),
            ("--epochs 0", |s| s.epochs = 0),
            ("--epochs 18446744073709551615", |s| s.epochs = u64::MAX),
        ];
        for (what, change) in bad {
            assert!(matches!(changed(change).check(None), Err(Failure::Usage(text)) if text.contains(what)), "{what}");
        }
        changed(|s| s.micro_batch = Some(65536)).check(None).unwrap();
    }

    /// sklearn: `compute_class_weight("balanced", classes=[0, 1, 2], y=[0] * 6 + [1] * 3 + [2])`
    #[test]
    fn balanced_weights_are_those_of_sklearn() {
        let of = |text: &str| Choices { class_weights: Some(text.into()), ..Choices::default() }.settle(None, None).unwrap();
        assert_eq!(of("balanced").class_weights(&[6, 3, 1]).unwrap(), Some(vec![0.555_555_6, 1.111_111_2, 3.333_333_3]));
        assert_eq!(of("none").class_weights(&[6, 3]).unwrap(), None);
        assert_eq!(of("1, 2.5").class_weights(&[6, 3]).unwrap(), Some(vec![1.0, 2.5]));
        for bad in ["1", "1,2,3", "1,-2", "1,x", "1,0", "", "1,inf"] {
            assert!(matches!(of(bad).class_weights(&[6, 3]), Err(Failure::Usage(text)) if text.contains("2 numbers")), "{bad}");
        }
    }

    #[test]
    fn a_rate_that_looks_ahead_fixes_the_epochs() {
        let saved = Choices { schedule: Some("cosine".into()), ..Choices::default() }.settle(None, None).unwrap();
        assert!(Choices { epochs: Some(11), ..Choices::default() }.settle(Some(&saved), None).is_err());
    }
}
