//! Layers of 8 bits for what is frozen: the options, and how such a network is made of one of floats and some images.

use crate::about::About;
use crate::block::reserve;
use crate::engine::{evaluation, loader_options};
use crate::failure::Failure;
use crate::model::{Model, View};
use crate::output::say;
use crate::setup::{Network, Setup};
use clap::ValueEnum;
use nunatak_data::folder::images_below;
use nunatak_data::preprocess::Preset;
use nunatak_data::sampler::shuffled;
use nunatak_data::{Loader, Sample};
use nunatak_nn::files::Head;
use nunatak_nn::files::state::{RECIPE_KEY, State};
use nunatak_nn::int8::Quantizer;
use nunatak_nn::{Level, Select, Threads, Trainer};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What frozen layers compute in.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Integers of 8 bits: a quarter of the memory for weights; results differ a little from those of floats
    Int8,
}

/// Options.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Options {
    /// Convolutions that are frozen, and have nothing that is trained before them, compute in this. Their normalisations
    /// keep their running statistics
    #[arg(long, value_enum)]
    pub frozen: Option<Kind>,
    /// Of --frozen int8: a folder of images as the network will see them; the range of every tensor is taken from some.
    /// `finetune` takes those that it trains on where this is not given
    #[arg(long, value_name = "DIR", requires = "frozen")]
    pub calibrate: Option<PathBuf>,
    /// How many of them
    #[arg(long, value_name = "IMAGES", default_value_t = 128, requires = "frozen",
        value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub calibrate_images: u32,
}

/// Images that are run at a time.
const BATCH: usize = 8;

impl Options {
    /// The images that the ranges are taken from: of all in the folder, or of the usual ones, some, drawn from seed 0.
    ///
    /// # Errors
    /// [`Failure`] where the folder has none.
    fn samples(&self, usual: &[Sample]) -> Result<Vec<Sample>, Failure> {
        let paths = match &self.calibrate {
            Some(folder) => images_below(folder).map_err(|e| Failure::Failed(e.to_string()))?,
            None => usual.iter().map(|sample| sample.path.clone()).collect(),
        };
        if paths.is_empty() {
            return Err(match &self.calibrate {
                Some(folder) => Failure::with(folder.display(), "no image is in it or below"),
                None => {
                    Failure::usage("--frozen int8: --calibrate DIR names a folder of images; the range of every tensor is taken from them")
                }
            });
        }
        let order = shuffled(&mut nunatak_core::rng::Generator::manual_seed(0), paths.len());
        let chosen = order.into_iter().take(self.calibrate_images as usize);
        Ok(chosen.map(|i| Sample { path: paths[i as usize].clone(), label: 0 }).collect())
    }

    /// Makes a network with layers of 8 bits of one of floats, whose numbers `fill` loads: the network, and its state dict. Where
    /// no folder of images is named, ranges are taken from the `usual` ones.
    ///
    /// # Errors
    /// [`Failure`] of `fill`, of the images, or where no layer becomes one of 8 bits.
    pub fn quantize(
        &self,
        network: Network,
        trainable: &str,
        view: View,
        threads: usize,
        usual: &[Sample],
        fill: impl FnOnce(&mut Trainer) -> Result<(), Failure>,
    ) -> Result<(Network, State), Failure> {
        if network.in_channels() != 3 {
            return Err(Failure::usage(format_args!(
                "--frozen int8: the network takes {} channels, images have 3 colours",
                network.in_channels()
            )));
        }
        let samples = self.samples(usual)?;
        let side = view.size as usize;
        let (graph, values) = Setup::inference(network, BATCH, side).record()?;
        let mut quantizer = Quantizer::new(&graph, Select::Names(trainable))?;
        let pool = Threads::new(threads).map_err(|_| nunatak_nn::Error::Threads { count: threads })?;
        let mut trainer = Trainer::owning(quantizer.plan(threads)?, Level::PORTABLE, pool)?;
        fill(&mut trainer)?;
        let options = loader_options(BATCH, Preset::Evaluation(evaluation(view)), view.exif, 0, threads);
        let loader = Loader::new(samples, options).map_err(|e| Failure::Failed(e.to_string()))?;
        let order = (0..loader.samples().len() as u32).collect();
        let mut seen = 0;
        for batch in loader.epoch(order, 0, 0).map_err(|e| Failure::Failed(e.to_string()))? {
            for (path, reason) in &batch.skipped {
                say(format_args!("skipped {path:?}: {reason}"));
            }
            if batch.labels.is_empty() {
                continue;
            }
            // What lacks to a whole batch are images that were seen.
            let pixels: Vec<u8> = batch.pixels.iter().copied().cycle().take(BATCH * 3 * side * side).collect();
            trainer.set_input_bytes(values.data, &pixels, &batch.normalize.mean, &batch.normalize.std)?;
            trainer.forward()?;
            quantizer.observe(&trainer)?;
            seen += batch.labels.len();
        }
        if seen == 0 {
            return Err(Failure::Failed("--calibrate: none of its images could be read".into()));
        }
        let layers: BTreeSet<String> = quantizer.rewritten().layers().map(str::to_string).collect();
        say(format_args!("{} convolutions compute in 8 bits; ranges from {seen} images", layers.len()));
        let state = quantizer.state(&trainer)?;
        Ok((network.with_int8(layers), state))
    }

    /// The same of a model: `then` is given a trainer that holds it, and what is told of it besides.
    ///
    /// # Errors
    /// As for [`Options::quantize`], and those of `then`; [`Failure`] where the model has layers of 8 bits already.
    pub fn rewrite<T>(
        &self,
        model: &Model,
        trainable: &str,
        view: View,
        threads: usize,
        usual: &[Sample],
        then: impl FnOnce(&Trainer, &About) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let Network::Int8(_) = model.network {
            return Err(Failure::with(model.path.display(), "has layers of 8 bits already; take the file of floats that it was made of"));
        }
        let load = |trainer: &mut Trainer| model.load(trainer, Head::Load);
        let (network, state) = self.quantize(model.network, trainable, view, threads, usual, load)?;
        let about = About { classes: model.classes.clone(), view: Some(view), recipe: network.metadata().remove(RECIPE_KEY) };
        let program = network.program()?;
        let mut memory = reserve(Trainer::bytes(&program))?;
        let mut trainer = Trainer::new(program, &mut memory, Level::detect(), Threads::serial())?;
        trainer.set_state(&state)?;
        then(&trainer, &about)
    }
}
