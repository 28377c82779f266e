//! The steps that `measure`, `plan` and `profile` speak of: training, the head alone, inference.

use crate::args::{self, Compute, MemoryArg, UpdateArg};
use crate::commands::finetune::Statistics;
use crate::failure::Failure;
use crate::weights::Backbone;
use clap::ValueEnum;
use nunatak_core::rng::Generator;
use nunatak_nn::setup::Values;
use nunatak_nn::{Blueprint, Error, Level, Loss, Mode, Native, Network, Optimizer, Options, Setup, Sgd, Threads, Trainer};
use std::path::PathBuf;

/// Which step.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Forward, (prediction − labels).sum(), backward, SGD with momentum
    Train,
    /// The same with all frozen but a new fc of 10 classes; normalisations in train mode
    Head,
    /// Forward in eval mode
    Infer,
}

/// Options that say which step.
#[derive(clap::Args, Debug)]
pub struct StepArgs {
    /// resnet18 (where nothing is given), resnet34, resnet8, a recipe in JSON, or a file with one
    #[arg(long, conflicts_with = "weights")]
    pub arch: Option<String>,
    /// A native file (.nunatak): the network is its, and the weights; drawn from a seed where not given
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Read what is frozen where it lies in the mapped file, and keep in memory only what is trained; --mode
    /// is then head and --memory small where not given
    #[arg(long, requires = "weights")]
    pub in_place: bool,
    /// Images of a batch
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Height and width of the images
    #[arg(long, default_value_t = 64)]
    pub size: usize,
    /// Which step [default: train]
    #[arg(long, value_enum)]
    pub mode: Option<Kind>,
    /// What frozen batchnorm does in train mode
    #[arg(long, value_enum, default_value = "batch")]
    pub bn_statistics: Statistics,
    /// Where to compute
    #[command(flatten)]
    pub compute: Compute,
    /// Algorithm of the convolutions: a name, or pass=name with commas between
    #[arg(long)]
    pub algorithm: Option<String>,
    /// When parameters are updated; the bits are the same
    #[arg(long, value_enum, default_value_t)]
    pub update: UpdateArg,
    /// Memory or speed [default: fast]
    #[arg(long, value_enum)]
    pub memory: Option<MemoryArg>,
    /// Compute every operation in a pass of its own
    #[arg(long)]
    pub no_fuse: bool,
}

impl StepArgs {
    /// Which step.
    pub fn mode(&self) -> Kind {
        self.mode.unwrap_or(if self.in_place { Kind::Head } else { Kind::Train })
    }

    /// Maps the file that `--weights` names.
    ///
    /// # Errors
    /// [`Failure`] that names it.
    pub fn open_weights(&self) -> Result<Option<Backbone>, Failure> {
        self.weights.as_deref().map(Backbone::open).transpose()
    }

    /// The step, with these weights if there are any; `trainable` wins over what the mode trains.
    ///
    /// # Errors
    /// [`Failure::Usage`].
    pub fn setup(&self, trainable: Option<&str>, weights: Option<&Native>) -> Result<Setup, Failure> {
        let mode = self.mode();
        let classes = (mode == Kind::Head).then_some(10);
        let recipe = match weights {
            Some(file) => file.recipe().with_classes(classes.unwrap_or(file.recipe().classes)),
            None => args::recipe(self.arch.as_deref().unwrap_or("resnet18"), classes)?,
        };
        if self.batch == 0 || self.size == 0 {
            return Err(Failure::usage(format_args!("--batch {} --size {}: expected at least 1", self.batch, self.size)));
        }
        let network = Network::new(recipe).map_err(Failure::usage)?;
        let infer = mode == Kind::Infer;
        let trainable = match (trainable, mode) {
            (Some(names), _) => args::trainable(names, &network)?,
            (None, Kind::Train) => network.all(),
            (None, Kind::Head) => network.head(),
            (None, Kind::Infer) => nunatak_nn::ParamSet::EMPTY,
        };
        Ok(Setup {
            recipe,
            batch: self.batch,
            height: self.size,
            width: self.size,
            mode: if infer { Mode::Eval } else { Mode::Train },
            norm_policy: self.bn_statistics.into(),
            trainable,
            loss: if infer { Loss::None } else { Loss::Sum },
            options: Options {
                threads: self.compute.thread_count(),
                memory: self.memory.unwrap_or(if self.in_place { MemoryArg::Small } else { MemoryArg::Fast }).into(),
                update: self.update.into(),
                momentum: !infer,
                in_place: self.in_place,
                fuse: !self.no_fuse,
            },
            algorithms: args::algorithms(self.algorithm.as_deref())?,
        })
    }
}

/// A step that can be repeated: a trainer with a file's weights, or some from seed 0, and uniform
/// images and labels.
pub struct Step<'m> {
    trainer: Trainer<'m>,
    optimizer: Optimizer,
    values: Values,
    images: Vec<f32>,
    labels: Vec<f32>,
}

impl<'m> Step<'m> {
    /// Binds a plan of `setup` to memory.
    ///
    /// # Errors
    /// Those of [`Trainer::new`] and [`Trainer::with_weights`].
    #[allow(clippy::too_many_arguments)] // what a trainer is made of
    pub fn new(
        setup: &Setup,
        blueprint: Blueprint,
        values: Values,
        memory: &'m mut [u8],
        level: Level,
        threads: Threads,
        weights: Option<Native<'m>>,
    ) -> Result<Self, Error> {
        let trainer = match weights {
            Some(file) => {
                let mut trainer = Trainer::with_weights(blueprint, memory, file, level, threads)?;
                if file.recipe().classes != setup.recipe.classes {
                    trainer.init_head(&mut Generator::manual_seed(0));
                }
                trainer
            }
            None => {
                let mut trainer = Trainer::new(blueprint, memory, level, threads)?;
                trainer.init(0);
                trainer
            }
        };
        let optimizer = Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(1e-5) })?;
        let mut generator = Generator::manual_seed(1);
        let mut uniform = |len: usize| (0..len).map(|_| generator.rand_f32()).collect::<Vec<_>>();
        let images = uniform(setup.batch * setup.recipe.in_channels * setup.height * setup.width);
        let labels = uniform(setup.batch * setup.recipe.classes);
        Ok(Step { trainer, optimizer, values, images, labels })
    }

    /// Sets the inputs, computes the loss and, where something is trained, walks back and updates.
    ///
    /// # Errors
    /// The trainer's.
    pub fn run(&mut self) -> Result<(), Error> {
        self.trainer.set_input(self.values.data, &self.images)?;
        if let Some(place) = self.values.labels {
            self.trainer.set_input(place, &self.labels)?;
        }
        self.trainer.forward()?;
        if self.trainer.blueprint().trains() {
            self.trainer.backward_and_step(&self.optimizer)?;
        }
        Ok(())
    }

    /// The trainer.
    pub fn trainer(&mut self) -> &mut Trainer<'m> {
        &mut self.trainer
    }
}
