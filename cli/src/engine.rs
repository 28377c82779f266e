//! A trainer that changes between plans: training and evaluation, full batches and what is left.
//!
//! All plans share one block, which is made for the largest of them.

use crate::args::{Compute, Reading};
use crate::block::reserve_beside;
use crate::failure::Failure;
use crate::model::{Model, ModelFile, View};
use crate::output::printable;
use crate::output::say;
use crate::published;
use crate::setup::{Network, Plan, Setup};
use nunatak_data::{Batch, Evaluation, Loader, LoaderOptions, Normalize, Preset, Sample, decode, sequential};
use nunatak_nn::files::Head;
use nunatak_nn::{Error, Loss, Native, Trainer, Usual};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One kind of step at many batch sizes.
pub struct Plans<'f> {
    setup: Setup<'f>,
    ready: BTreeMap<usize, Plan>,
}

/// Plans that are kept. Two sizes are usual; others come from broken images.
const KEPT: usize = 16;

impl<'f> Plans<'f> {
    /// Plans that differ from `setup` in the batch alone.
    pub fn new(setup: Setup<'f>) -> Plans<'f> {
        Plans { setup, ready: BTreeMap::new() }
    }

    /// The plan for `n` images.
    ///
    /// # Errors
    /// Those of [`Setup::plan`].
    pub fn get(&mut self, n: usize) -> Result<Plan, Error> {
        if let Some(plan) = self.ready.get(&n) {
            return Ok(plan.clone());
        }
        let plan = self.setup.with_batch(n).plan()?;
        if self.ready.len() < KEPT {
            self.ready.insert(n, plan.clone());
        }
        Ok(plan)
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
        let mut most = sizes().try_fold(0, |most, n| Ok::<_, Error>(most.max(Trainer::bytes(&self.get(n)?.program))))?;
        let largest = sizes().max().unwrap_or(0);
        if let Some(bound) = self.setup.max_mem {
            // Every plan that comes later keeps it too.
            return Ok(most.max(bound));
        }
        for n in (1..largest).filter(|n| *n <= 32 || n + 4 >= largest) {
            // One image may be too few to train on: then it is refused when it comes.
            if let Ok(plan) = self.setup.with_batch(n).plan() {
                most = most.max(Trainer::bytes(&plan.program));
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
    plans: Vec<Plans<'m>>,
    classes: usize,
    /// Images of which logits are computed at a time, at most.
    pub at_once: usize,
    /// Bytes of the block that all plans share.
    pub bytes: usize,
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
        mut plans: Vec<Plans<'m>>,
        n: usize,
        memory: &'m mut [u8],
        compute: &Compute,
        weights: Option<Native<'m>>,
    ) -> Result<Self, Failure> {
        let Some(first) = plans.first_mut() else { return Err(Failure::Failed("no plan".into())) };
        let (program, classes) = (first.get(n)?.program, first.setup.network.classes());
        let (level, threads) = (compute.level()?, compute.start_threads()?);
        let bytes = memory.len();
        let trainer = match weights {
            Some(file) => Trainer::with_weights(program, memory, file, level, threads)?,
            None => Trainer::new(program, memory, level, threads)?,
        };
        Ok(Engine { trainer, plans, classes, at_once: usize::MAX, bytes, now: Some((0, n)) })
    }

    /// How many plans there are.
    pub fn plans(&self) -> usize {
        self.plans.len()
    }

    /// Goes to the plan of `role`, an index into the plans, for `n` images.
    ///
    /// # Errors
    /// [`Error`] where it can't be made or does not fit.
    pub fn enter(&mut self, role: usize, n: usize) -> Result<Usual, Error> {
        let Plan { program, values, .. } = self.plans[role].get(n)?;
        if self.now != Some((role, n)) {
            self.trainer.switch(program)?;
            self.now = Some((role, n));
        }
        Ok(values)
    }

    /// The plan of `role` for `n` images.
    ///
    /// # Errors
    /// [`Error`] where it can't be made.
    pub fn plan(&mut self, role: usize, n: usize) -> Result<Plan, Error> {
        self.plans[role].get(n)
    }

    /// Goes to the plan of `role` for `n` images, which keeps the gradients that are there: another plan has them elsewhere.
    ///
    /// # Errors
    /// [`Error`].
    pub fn enter_with_gradients(&mut self, role: usize, n: usize) -> Result<Usual, Error> {
        let mut carried = Vec::new();
        if self.now != Some((role, n)) && !self.trainer.updates_during() && !self.trainer.sums_in_momentum() {
            for id in self.trainer.gradients() {
                let mut gradient = vec![0.0; self.trainer.program().entry(id).numbers()];
                self.trainer.gradient(id, &mut gradient)?;
                carried.push((id, gradient));
            }
        }
        let values = self.enter(role, n)?;
        carried.iter().try_for_each(|(id, gradient)| self.trainer.set_gradient(*id, gradient))?;
        Ok(values)
    }

    /// The logits of a batch, by the plan of `role`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn logits(&mut self, role: usize, batch: &Batch, out: &mut Vec<f32>) -> Result<(), Error> {
        let n = batch.labels.len();
        out.resize(n * self.classes, 0.0);
        let (at_once, pixels) = (self.at_once.min(n).max(1), batch.pixels.len() / n.max(1));
        for (logits, pixels) in out.chunks_mut(at_once * self.classes).zip(batch.pixels.chunks(at_once * pixels)) {
            let values = self.enter(role, logits.len() / self.classes)?;
            self.trainer.set_input_bytes(values.data, pixels, &batch.normalize.mean, &batch.normalize.std)?;
            self.trainer.forward()?;
            self.trainer.value(values.prediction, logits)?;
        }
        Ok(())
    }
}

impl Engine<'_> {
    /// The features of a batch's images, by the plan of `role` for `at_once` images: what is left over is filled up.
    ///
    /// # Errors
    /// [`Error`].
    pub fn features(&mut self, role: usize, at_once: usize, batch: &Batch, out: &mut Vec<f32>) -> Result<(), Error> {
        let image = batch.pixels.len() / batch.labels.len().max(1);
        let mut full = Vec::new();
        for pixels in batch.pixels.chunks((at_once * image).max(1)) {
            let values = self.enter(role, at_once)?;
            full.clear();
            full.extend_from_slice(pixels);
            while full.len() < at_once * image {
                full.extend_from_slice(&pixels[..image]);
            }
            self.trainer.set_input_bytes(values.data, &full, &batch.normalize.mean, &batch.normalize.std)?;
            self.trainer.forward()?;
            let of: usize =
                self.trainer.program().value_of_node(values.features.0).map_or(0, |(_, value)| value.shape()[1..].iter().product());
            let begin = out.len();
            out.resize(begin + at_once * of, 0.0);
            self.trainer.value(values.features, &mut out[begin..])?;
            out.truncate(begin + pixels.len() / image * of);
        }
        Ok(())
    }

    /// The logits of `n` images, whose features are given, by the plan of `role`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn logits_of(&mut self, role: usize, features: &[f32], n: usize, out: &mut Vec<f32>) -> Result<(), Error> {
        out.resize(n * self.classes, 0.0);
        let (at_once, of) = (self.at_once.min(n).max(1), features.len() / n.max(1));
        for (logits, features) in out.chunks_mut(at_once * self.classes).zip(features.chunks(at_once * of)) {
            let values = self.enter(role, logits.len() / self.classes)?;
            self.trainer.set_value(values.features, features)?;
            self.trainer.forward()?;
            self.trainer.value(values.prediction, logits)?;
        }
        Ok(())
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
    /// Turn pictures as their EXIF orientation says; as it was trained, where not given
    #[arg(long)]
    pub exif: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub reading: Reading,
    /// Images that are computed at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Use a .nunatak's weights where they lie in the mapped file
    #[arg(long)]
    pub in_place: bool,
    /// Of a delta: the .nunatak that it was made over; the file of that name beside it where not given
    #[arg(long, value_name = "FILE")]
    pub base: Option<PathBuf>,
    /// Of a file with several state dicts: the keys that lead to the one that is meant, with dots between
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,
}

impl Showing {
    /// Opens the model that is to be shown images: a file, or published weights.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn open(&self, model: &Path) -> Result<ModelFile, Failure> {
        if self.in_place {
            published::refuse_in_place(model)?;
        }
        let path = published::find(model, self.reading.arch.as_deref())?;
        Ok(ModelFile::open(&path, self.base.as_deref(), self.in_place)?.with_key(self.key.clone()))
    }

    /// How images are shown: as is asked for, else as to the model when it was trained.
    pub fn view(&self, model: &Model) -> View {
        let trained = model.view.unwrap_or(View::of(224));
        let view = self.size.filter(|&size| size != trained.size).map_or(trained, View::of);
        View { resize: self.resize.unwrap_or(view.resize), exif: self.exif || trained.exif, ..view }
    }

    /// The images as the model sees them.
    ///
    /// # Errors
    /// [`Failure`] where they are too large or too many.
    pub fn loader(&self, model: &Model, samples: Vec<Sample>) -> Result<Loader, Failure> {
        let (view, threads) = (self.view(model), self.compute.thread_count());
        let options = loader_options(self.batch as usize, Preset::Evaluation(evaluation(view)), view.exif, 0, threads);
        Loader::new(samples, options).map_err(failed)
    }

    /// How images are shown, and with what is computed, for a report.
    pub fn settings(&self, model: &Model) -> Vec<(String, String)> {
        let view = self.view(model);
        let level = self.compute.level().map_or(String::new(), |level| level.name().to_string());
        let pairs = [
            ("model", model.path.to_string_lossy().into_owned()),
            ("size", view.size.to_string()),
            ("resize", view.resize.to_string()),
            ("exif", view.exif.to_string()),
            ("batch", self.batch.to_string()),
            ("threads", self.compute.thread_count().to_string()),
            ("instruction set", level),
        ];
        pairs.map(|(key, value)| (key.to_string(), value)).to_vec()
    }

    /// Says what the model's file does not tell and is assumed here.
    fn say_assumed(&self, model: &Model, view: View) {
        let mut assumed: Vec<String> = model.assumed.iter().cloned().collect();
        if model.view.is_none() && self.size.is_none() {
            assumed.push(format!(
                "images are shown as {0} x {0}, cut out of a shorter side of {1} (--size, --resize)",
                view.size, view.resize
            ));
        }
        if model.is_taken_for_imagenet() {
            assumed.push("the 1000 classes are ImageNet's".into());
        }
        if !assumed.is_empty() {
            say(format_args!("assumed, for {} does not tell: {}", model.path.display(), assumed.join("; ")));
        }
    }
}

/// The preset of a view.
pub fn evaluation(view: View) -> Evaluation {
    Evaluation { resize: view.resize as usize, crop: view.size as usize, normalize: Normalize::IMAGENET }
}

/// How a loader with this preset works beside the computation. `exif`: see [`View`].
pub fn loader_options(batch: usize, preset: Preset, exif: bool, seed: u64, threads: usize) -> LoaderOptions {
    let decode = decode::Options::new().with_exif(exif);
    LoaderOptions { decode, seed, threads: threads.max(1), ahead: 2 * batch, ..LoaderOptions::new(batch, preset) }
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
    show_by(model, samples, showing, Depth::Logits, |_, batch, logits| each(batch, logits))
}

/// How much of a finished model is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// What it says.
    Logits,
    /// The feature map that this follows from too, and its gradient after a backward walk from the logits.
    Map,
}

impl Depth {
    /// The step that shows images of this side to a network.
    pub fn setup<'a>(self, network: Network, batch: usize, side: usize) -> Setup<'a> {
        let keep_map = self == Depth::Map;
        let loss = if keep_map { Loss::Outside } else { Loss::None };
        Setup { keep_map, loss, ..Setup::inference(network, batch, side) }
    }
}

/// Shows images to a model as [`show`] does; `each` also gets the engine, in which the batch's values still are (of the
/// engine's plan 0 for as many images).
///
/// # Errors
/// As for [`show`].
pub fn show_by(
    model: &Model,
    samples: Vec<Sample>,
    showing: &Showing,
    depth: Depth,
    mut each: impl FnMut(&mut Engine, &Batch, &[f32]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    model.takes_images()?;
    model.tells_classes()?;
    let compute = &showing.compute;
    let (count, batch) = (samples.len(), showing.batch as usize);
    let view = showing.view(model);
    showing.say_assumed(model, view);
    let side = view.size as usize;
    let weights = model.weights().filter(|_| showing.in_place || model.delta().is_some());
    if showing.in_place && weights.is_none() {
        return Err(in_place_needs_native(&model.path));
    }
    let sizes = batch_sizes(count, batch);
    let mut plans = Plans::new(Setup {
        threads: compute.thread_count(),
        in_place: weights.filter(|_| showing.in_place),
        hold: model.delta().iter().flat_map(|delta| delta.tensors()).map(|tensor| tensor.name().to_string()).collect(),
        ..depth.setup(model.network, batch, side)
    });
    // Decoded images wait in the loader, and one batch of them is on its way. Maps are copied, and their gradients.
    let images = 3 * side * side * (4 * batch.min(count) + compute.thread_count());
    let maps = plans.get(sizes[0])?.map_shape().map_or(0, |shape| 8 * shape.iter().product::<usize>());
    let mut memory = reserve_beside(plans.bytes(&sizes)?, images + maps)?;
    let mut engine = Engine::new(vec![plans], sizes[0], &mut memory, compute, weights)?;
    model.load(&mut engine.trainer, Head::Load)?;

    let loader = showing.loader(model, samples)?;
    let mut logits = Vec::new();
    for batch in loader.epoch(sequential(count), 0, 0).map_err(failed)? {
        logits.clear();
        if !batch.labels.is_empty() {
            engine.logits(0, &batch, &mut logits)?;
        }
        if let Some(at) = logits.iter().position(|v| !v.is_finite()) {
            let image = &loader.samples()[batch.indices[at / model.network.classes()]].path;
            return Err(Failure::with(
                printable(&image.to_string_lossy()),
                format_args!(
                    "{} gives {} for class {}: its weights or statistics are too large or broken; train it anew, with a lower rate",
                    model.path.display(),
                    logits[at],
                    at % model.network.classes(),
                ),
            ));
        }
        each(&mut engine, &batch, &logits)?;
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
