//! A trainer that changes between plans: training and evaluation, full batches and what is left.
//!
//! All plans share one block, which is made for the largest of them.

use crate::args::Compute;
use crate::block::reserve;
use crate::dataset::{Batch, Evaluation, Loader, LoaderOptions, Normalize, Preset, Sample, sequential};
use crate::failure::Failure;
use crate::model::{Model, ModelFile, View, printable};
use nunatak_nn::state::Head;
use nunatak_nn::{Blueprint, Error, Native, Options, Setup, Trainer, setup::Values};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One kind of step at many batch sizes.
pub struct Plans {
    setup: Setup,
    /// What this plan keeps in the block, these do too.
    held: Option<Box<Blueprint>>,
    ready: BTreeMap<usize, (Box<Blueprint>, Values)>,
}

/// Plans that are kept. Two sizes are usual; others come from broken images.
const KEPT: usize = 16;

impl Plans {
    /// Plans that differ from `setup` in the batch alone.
    pub fn new(setup: Setup) -> Plans {
        Plans { setup, held: None, ready: BTreeMap::new() }
    }

    /// The same, and every plan keeps in the block what `other` does.
    pub fn holding(self, other: Blueprint) -> Plans {
        Plans { held: Some(Box::new(other)), ..self }
    }

    /// The plan for `n` images.
    ///
    /// # Errors
    /// Those of [`Setup::plan`].
    pub fn get(&mut self, n: usize) -> Result<(Box<Blueprint>, Values), Error> {
        if let Some((blueprint, values)) = self.ready.get(&n) {
            return Ok((blueprint.clone(), *values));
        }
        let (mut blueprint, _, values) = Setup { batch: n, ..self.setup }.plan()?;
        if let Some(other) = &self.held {
            blueprint.hold(other)?;
        }
        let blueprint = Box::new(blueprint);
        if self.ready.len() < KEPT {
            self.ready.insert(n, (blueprint.clone(), values));
        }
        Ok((blueprint, values))
    }

    /// Bytes of the block that batches of these sizes need, and smaller ones too: broken images are left
    /// out, and a smaller batch may be computed by algorithms that take more scratch. Of large batches
    /// those are looked at where that can outweigh the images that are missing: small ones, and those that
    /// lack a few.
    ///
    /// # Errors
    /// Those of [`Setup::plan`] for `sizes`.
    pub fn bytes(&mut self, sizes: &[usize]) -> Result<usize, Error> {
        let sizes = || sizes.iter().copied().filter(|&n| n > 0);
        let mut most = sizes().try_fold(0, |most, n| Ok::<_, Error>(most.max(self.get(n)?.0.bytes())))?;
        let largest = sizes().max().unwrap_or(0);
        for n in (1..largest).filter(|n| *n <= 32 || n + 4 >= largest) {
            // One image may be too few to train on: then it is refused when it comes.
            if let Ok((mut blueprint, ..)) = (Setup { batch: n, ..self.setup }).plan()
                && self.held.as_ref().is_none_or(|other| blueprint.hold(other).is_ok())
            {
                most = most.max(blueprint.bytes());
            }
        }
        Ok(most)
    }
}

/// The sizes of an epoch's batches: full, and the last.
pub fn batch_sizes(images: usize, batch: usize) -> [usize; 2] {
    [batch.min(images), images % batch]
}

/// A trainer and its plans.
pub struct Engine<'m> {
    /// The trainer.
    pub trainer: Trainer<'m>,
    plans: Vec<Plans>,
    /// Which plan it has now.
    now: Option<(usize, usize)>,
}

impl<'m> Engine<'m> {
    /// Binds the plans to a block, and to weights that are used in place. The first of `plans` comes
    /// first, for `n` images.
    ///
    /// # Errors
    /// [`Failure`] where a plan can't be made or the block is too small.
    pub fn new(
        mut plans: Vec<Plans>,
        n: usize,
        memory: &'m mut [u8],
        compute: &Compute,
        weights: Option<Native<'m>>,
    ) -> Result<Self, Failure> {
        let Some(first) = plans.first_mut() else { return Err(Failure::Failed("no plan".into())) };
        let (blueprint, _) = first.get(n)?;
        let (level, threads) = (compute.level()?, compute.start_threads()?);
        let trainer = match weights {
            Some(file) => Trainer::with_weights(*blueprint, memory, file, level, threads)?,
            None => Trainer::new(*blueprint, memory, level, threads)?,
        };
        Ok(Engine { trainer, plans, now: Some((0, n)) })
    }

    /// Goes to the plan of `role`, an index into the plans, for `n` images.
    ///
    /// # Errors
    /// [`Error`] where it can't be made or does not fit.
    pub fn enter(&mut self, role: usize, n: usize) -> Result<Values, Error> {
        let (blueprint, values) = self.plans[role].get(n)?;
        if self.now != Some((role, n)) {
            self.trainer.switch(*blueprint)?;
            self.now = Some((role, n));
        }
        Ok(values)
    }

    /// The logits of a batch, by the plan of `role`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn logits(&mut self, role: usize, batch: &Batch, out: &mut Vec<f32>) -> Result<(), Error> {
        let values = self.enter(role, batch.labels.len())?;
        self.trainer.set_input(values.data, &batch.images)?;
        self.trainer.forward()?;
        let classes = self.trainer.blueprint().network().recipe().classes;
        out.resize(batch.labels.len() * classes, 0.0);
        self.trainer.value(values.prediction, out)
    }
}

/// How images are shown to a finished model.
#[derive(clap::Args, Clone, Debug)]
pub struct Showing {
    /// Side of the square that the network sees; as it was trained, or 224, where not given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub size: Option<u32>,
    /// Shorter side after resizing, before the square is cut out; as it was trained, or size · 256 / 224
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub resize: Option<u32>,
    /// Images that are computed at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Use a .nunatak's weights where they lie in the mapped file
    #[arg(long)]
    pub in_place: bool,
    /// Of a delta: the .nunatak that it was made over; the file of that name beside it where not given
    #[arg(long, value_name = "FILE")]
    pub base: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,
}

impl Showing {
    /// Opens the model that is to be shown images.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn open(&self, path: &Path) -> Result<ModelFile, Failure> {
        ModelFile::open(path, self.base.as_deref(), self.in_place)
    }

    fn view(&self, model: &Model) -> View {
        let trained = model.view.unwrap_or(View::of(224));
        let view = self.size.filter(|&size| size != trained.size).map_or(trained, View::of);
        View { resize: self.resize.unwrap_or(view.resize), ..view }
    }
}

/// The preset of a view.
pub fn evaluation(view: View) -> Evaluation {
    Evaluation { resize: view.resize as usize, crop: view.size as usize, normalize: Normalize::IMAGENET }
}

/// How a loader with this preset works beside the computation.
pub fn loader_options(batch: usize, preset: Preset, seed: u64, threads: usize) -> LoaderOptions {
    LoaderOptions { seed, threads: threads.max(1), ahead: 2 * batch, ..LoaderOptions::new(batch, preset) }
}

/// Shows images to a model. `each` gets every batch, its logits, and what had to be left out.
///
/// # Errors
/// [`Failure`] of the model, the memory, or `each`; also where the model finds a number that is not finite.
pub fn show(
    model: &Model,
    samples: Vec<Sample>,
    showing: &Showing,
    mut each: impl FnMut(&Batch, &[f32]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    model.takes_images()?;
    model.tells_classes()?;
    let compute = &showing.compute;
    let (count, batch) = (samples.len(), showing.batch as usize);
    let view = showing.view(model);
    let side = view.size as usize;
    let mut setup = Setup::inference(model.recipe, batch, side, side);
    setup.options = Options { threads: compute.thread_count(), in_place: showing.in_place, ..setup.options };
    let weights = model.weights().filter(|_| showing.in_place || model.delta().is_some());
    if showing.in_place && weights.is_none() {
        return Err(in_place_needs_native(&model.path));
    }
    let sizes = batch_sizes(count, batch);
    let mut plans = Plans::new(setup);
    if let Some(delta) = model.delta() {
        let (mut blueprint, ..) = Setup { batch: 1, ..setup }.plan()?;
        blueprint.hold_delta(delta)?;
        plans = plans.holding(blueprint);
    }
    let mut memory = reserve(plans.bytes(&sizes)?)?;
    let mut engine = Engine::new(vec![plans], sizes[0], &mut memory, compute, weights)?;
    model.load(&mut engine.trainer, Head::Load)?;

    let preset = Preset::Evaluation(evaluation(view));
    let loader = Loader::new(samples, loader_options(batch, preset, 0, compute.thread_count())).map_err(failed)?;
    let mut logits = Vec::new();
    for batch in loader.epoch(sequential(count), 0, 0).map_err(failed)? {
        logits.clear();
        if !batch.labels.is_empty() {
            engine.logits(0, &batch, &mut logits)?;
        }
        if let Some(at) = logits.iter().position(|v| !v.is_finite()) {
            let image = &loader.samples()[batch.indices[at / model.recipe.classes]].path;
            return Err(Failure::with(
                printable(&image.to_string_lossy()),
                format_args!(
                    "{} gives {} for class {}: its weights or statistics are too large or broken; train it anew, with a lower rate",
                    model.path.display(),
                    logits[at],
                    at % model.recipe.classes,
                ),
            ));
        }
        each(&batch, &logits)?;
    }
    Ok(())
}

/// What to do where weights can't be used in place.
pub fn in_place_needs_native(path: &Path) -> Failure {
    Failure::usage(format_args!(
        "--in-place: {} is no .nunatak; make one with `nunatak convert {} OUT.nunatak`",
        path.display(),
        path.display()
    ))
}

fn failed(e: impl std::fmt::Display) -> Failure {
    Failure::Failed(e.to_string())
}

/// The index of the largest number, the first of equals; NaN is never the largest.
pub fn largest(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in logits.iter().enumerate() {
        if *v > logits[best] || (logits[best].is_nan() && !v.is_nan()) {
            best = i;
        }
    }
    best
}

/// The natural logarithm of each class's probability, in double.
pub fn log_softmax(logits: &[f32]) -> impl Iterator<Item = f64> + '_ {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&v| (f64::from(v) - most).exp()).sum();
    let log = most + sum.ln();
    logits.iter().map(move |&v| f64::from(v) - log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_and_winners() {
        let p: Vec<f64> = log_softmax(&[1.0, 2.0, 3.0]).map(f64::exp).collect();
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12 && (p[2] - 0.665_240_955).abs() < 1e-8);
        assert!(log_softmax(&[1e4, -1e4]).all(f64::is_finite));
        assert_eq!([largest(&[1.0, 3.0, 3.0]), largest(&[f32::NAN, 0.0]), largest(&[0.0])], [1, 1, 0]);
    }

    #[test]
    fn sizes_of_batches() {
        assert_eq!([batch_sizes(10, 4), batch_sizes(3, 4), batch_sizes(8, 4)], [[4, 2], [3, 3], [4, 0]]);
    }
}
