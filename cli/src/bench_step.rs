//! The steps that `measure`, `plan` and `profile` speak of: training, the head alone, inference.

use crate::args::{self, Compute, MemoryArg, UpdateArg};
use crate::commands::finetune::Statistics;
use crate::failure::Failure;
use crate::max_mem::{MaxMem, Parts, say_again};
use crate::published;
use crate::setup::{Network, Setup, trains};
use crate::weights::Backbone;
use clap::ValueEnum;
use nunatak_core::program::{Flags, ValueRecord};
use nunatak_core::rng::Generator;
use nunatak_nn::files::Checkpoint;
use nunatak_nn::{Error, InstructionSet, Level, Loss, Mode, Native, Optimizer, Program, Select, Sgd, Threads, Trainer, ValueId};
use std::path::{Path, PathBuf};

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
    /// resnet18 (where nothing is given), resnet34, resnet50, resnet101, resnet152,
    /// resnext50_32x4d, resnext101_32x8d, wide_resnet50_2, wide_resnet101_2, mobilenet_v2,
    /// mobilenet_v3_small, resnet8, a recipe in JSON, or a file with one
    #[arg(long, conflicts_with = "weights")]
    pub arch: Option<String>,
    /// A file of weights, or the name of published ones, as of `nunatak finetune`: the network is its, and the weights;
    /// drawn from a seed where not given. --in-place asks for a .nunatak
    #[arg(long, value_name = "FILE_OR_NAME")]
    pub weights: Option<PathBuf>,
    /// A program that `nunatak plan --out` wrote: its step, instead of one that is planned here
    #[arg(long, value_name = "FILE", conflicts_with_all = ["arch", "batch", "size", "mode", "bn_statistics", "algorithm", "update", "memory", "no_fuse", "in_place", "max_mem"])]
    pub program: Option<PathBuf>,
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
    /// How much memory it may take
    #[command(flatten)]
    pub max_mem: MaxMem,
}

impl StepArgs {
    /// Which step.
    pub fn mode(&self) -> Kind {
        self.mode.unwrap_or(if self.in_place { Kind::Head } else { Kind::Train })
    }

    /// Opens the file that `--weights` names.
    ///
    /// # Errors
    /// [`Failure`] that names it.
    pub fn open_weights(&self) -> Result<Option<Backbone>, Failure> {
        let Some(given) = self.weights.as_deref() else { return Ok(None) };
        if self.in_place {
            published::refuse_in_place(given)?;
        }
        let path = published::find(given, None)?;
        Ok(Some(if self.in_place { Backbone::open(&path)? } else { Backbone::open_any(&path)? }))
    }

    /// The program that `--program` names, or that of a step which is planned here; says on stderr which
    /// convolutions refuse the algorithm that was asked for.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn plan<'f>(&self, trainable: Option<&str>, weights: Option<&Native<'f>>, parts: &Parts) -> Result<Planned<'f>, Failure> {
        if let Some(path) = &self.program {
            return Ok(Planned { program: read_program(path)?, setup: None, parts: 1, again: 0, times: 1.0 });
        }
        let mut setup = self.setup(trainable, weights)?;
        let (plan, parts) = parts.plan(&mut setup, &self.max_mem)?;
        say_again(&plan);
        args::report_refused(&plan.program, &setup.algorithms);
        Ok(Planned { program: plan.program, setup: Some(setup), parts, again: plan.again, times: plan.times })
    }

    /// The instruction set: the one that a program asks for, where no other was asked for.
    ///
    /// # Errors
    /// [`Failure::Usage`] where it does not exist here.
    pub fn level(&self, program: &Program) -> Result<Level, Failure> {
        match InstructionSet::of_code(program.level()).filter(|_| self.compute.level.is_none()) {
            Some(own) => Level::of(own).map_err(|e| Failure::usage(format_args!("the program's level {own}: {e}"))),
            None => self.compute.level(),
        }
    }

    /// Starts the threads: no more than a program allows, where no number was asked for.
    ///
    /// # Errors
    /// [`Failure`] where the system gives none.
    pub fn start_threads(&self, program: &Program) -> Result<Threads, Failure> {
        match self.compute.threads {
            Some(_) => self.compute.start_threads(),
            None => Threads::new(self.compute.thread_count().min(program.threads())).map_err(|e| Failure::Failed(e.to_string())),
        }
    }

    /// The step, with these weights if there are any; `trainable` wins over what the mode trains.
    ///
    /// # Errors
    /// [`Failure::Usage`].
    pub fn setup<'f>(&self, trainable: Option<&str>, weights: Option<&Native<'f>>) -> Result<Setup<'f>, Failure> {
        let mode = self.mode();
        let classes = (mode == Kind::Head).then_some(10);
        let network = match weights {
            Some(file) => network_of(file)?,
            None => args::network(self.arch.as_deref().unwrap_or("resnet18"), classes)?,
        };
        let network = network.with_classes(classes.unwrap_or(network.classes()));
        if self.batch == 0 || self.size == 0 {
            return Err(Failure::usage(format_args!("--batch {} --size {}: expected at least 1", self.batch, self.size)));
        }
        let infer = mode == Kind::Infer;
        let of_mode = match mode {
            Kind::Train => "all",
            Kind::Head => "head",
            Kind::Infer => "none",
        };
        let setup = Setup {
            network,
            batch: self.batch,
            size: [self.size; 2],
            mode: if infer { Mode::Eval } else { Mode::Train },
            norm_policy: self.bn_statistics.into(),
            trainable: trainable.unwrap_or(of_mode).into(),
            loss: if infer { Loss::None } else { Loss::Sum },
            level: self.compute.instruction_set()?,
            threads: self.compute.thread_count(),
            memory: self.memory.unwrap_or(if self.in_place { MemoryArg::Small } else { MemoryArg::Fast }).into(),
            update: self.update.into(),
            momentum: !infer,
            fuse: !self.no_fuse,
            algorithms: args::algorithms(self.algorithm.as_deref())?,
            in_place: weights.copied().filter(|_| self.in_place),
            ..Setup::inference(network, self.batch, self.size)
        };
        if trainable.is_some() {
            setup.check_trainable()?;
        }
        Ok(setup)
    }
}

/// A program, and the choices that it was planned by; none where it was read from a file.
pub struct Planned<'f> {
    /// The program.
    pub program: Program<'static>,
    /// The choices.
    pub setup: Option<Setup<'f>>,
    /// How many walks make a step.
    pub parts: usize,
    /// How many values are computed again in the backward walk.
    pub again: usize,
    /// How much longer the step takes for it, by the planner's cost model.
    pub times: f64,
}

/// Reads a program.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn read_program(path: &Path) -> Result<Program<'static>, Failure> {
    let bytes = crate::weights::read(path)?;
    Program::own(bytes).map_err(|e| Failure::with(path.display(), e))
}

/// The network of a native file: its head says it, or its tensors do.
fn network_of(file: &Native) -> Result<Network, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::with("--weights", e);
    let checkpoint = Checkpoint::parse(file.bytes()).map_err(|e| failed(&e))?;
    Network::of(&checkpoint, None).map_err(|e| failed(&e))
}

/// Whether the head has another shape than the file's.
fn other_head(program: &Program, file: &Native) -> bool {
    let mut entries = program.entries().map(|id| program.entry(id));
    entries.any(|entry| {
        let (shape, rank) = entry.shape();
        Select::Head.has(entry.name(), program.head()) && file.tensor(entry.name()).is_none_or(|tensor| tensor.shape() != &shape[..rank])
    })
}

/// What a step is fed.
enum Input {
    Numbers(Vec<f32>),
    Classes(Vec<i64>),
}

/// A step that can be repeated: a trainer with a file's weights, or some from seed 0, and uniform
/// images and labels.
pub struct Step<'m> {
    trainer: Trainer<'m>,
    optimizer: Optimizer<'static>,
    inputs: Vec<(ValueId, Input)>,
    /// The gradient of the root, all ones; none where there is no walk back.
    gradient: Vec<f32>,
    /// How many walks make a step.
    parts: usize,
}

impl<'m> Step<'m> {
    /// Binds a program to memory.
    ///
    /// # Errors
    /// [`Failure`] of [`Trainer::new`] and [`Trainer::with_weights`].
    pub fn new(
        program: Program<'m>,
        memory: &'m mut [u8],
        level: Level,
        threads: Threads,
        weights: Option<Native<'m>>,
        parts: usize,
    ) -> Result<Self, Failure> {
        let trainer = match weights {
            None if program.weights_hash().is_some() => {
                return Err(Failure::usage("the program reads weights in place: name their file with --weights"));
            }
            Some(file) => {
                let mut trainer = Trainer::with_weights(program, memory, file, level, threads)?;
                if other_head(trainer.program(), &file) {
                    trainer.init_head(&mut Generator::manual_seed(0));
                }
                trainer
            }
            None => {
                let mut trainer = Trainer::new(program, memory, level, threads)?;
                trainer.init(0);
                trainer
            }
        };
        let optimizer = Optimizer::new(Sgd { momentum: if has_momentum(trainer.program()) { 0.9 } else { 0.0 }, ..Sgd::new(1e-5) })?;
        let (inputs, gradient) = (inputs(trainer.program()), root_gradient(trainer.program()));
        Ok(Step { trainer, optimizer, inputs, gradient, parts })
    }

    /// Sets the inputs, computes the loss and, where something is trained, walks back and updates.
    ///
    /// # Errors
    /// The trainer's.
    pub fn run(&mut self) -> Result<(), Error> {
        if self.parts == 1 && !self.trainer.sums_in_momentum() {
            self.forward()?;
            if !self.gradient.is_empty() {
                self.trainer.backward_with_and_step(&self.gradient, self.optimizer)?;
            }
            return Ok(());
        }
        for _ in 0..self.parts {
            self.forward()?;
            self.trainer.accumulate(1.0, self.optimizer)?; // a sum over images has no share
        }
        self.trainer.step(self.optimizer)
    }

    fn forward(&mut self) -> Result<(), Error> {
        for (value, input) in &self.inputs {
            match input {
                Input::Numbers(numbers) => self.trainer.set_input(*value, numbers)?,
                Input::Classes(classes) => self.trainer.set_labels(*value, classes)?,
            }
        }
        self.trainer.forward()
    }

    /// The numbers of the prediction, or of the last value that the program keeps.
    ///
    /// # Errors
    /// The trainer's.
    pub fn prediction(&self) -> Result<Vec<f32>, Error> {
        let kept = || self.trainer.program().values().filter(|value| value.flags() & ValueRecord::KEPT != 0);
        let Some(value) = kept().find(|value| value.name() == "prediction").or_else(|| kept().last()) else { return Ok(Vec::new()) };
        let mut numbers = vec![0.0; value.shape().iter().product()];
        self.trainer.value(ValueId(value.node()), &mut numbers)?;
        Ok(numbers)
    }

    /// The trainer.
    pub fn trainer(&mut self) -> &mut Trainer<'m> {
        &mut self.trainer
    }
}

fn has_momentum(program: &Program) -> bool {
    program.flags().has(Flags::MOMENTUM)
}

/// Something for every input of a program: uniform numbers, and the first class.
fn inputs(program: &Program) -> Vec<(ValueId, Input)> {
    let mut generator = Generator::manual_seed(1);
    let outside = program.values().filter(|value| value.flags() & (ValueRecord::INPUT | ValueRecord::LABELS) != 0);
    let input = outside.map(|value| {
        let shape = value.shape();
        let input = match value.flags() & ValueRecord::LABELS != 0 {
            true => Input::Classes(vec![0; shape[0]]),
            false => Input::Numbers((0..shape.iter().product()).map(|_| generator.rand_f32()).collect()),
        };
        (ValueId(value.node()), input)
    });
    input.collect()
}

/// Ones for every number of a program's root; nothing where it does not walk back.
fn root_gradient(program: &Program) -> Vec<f32> {
    let root = program.root().filter(|_| trains(program)).and_then(|root| program.value_of_node(root));
    root.map_or(Vec::new(), |(_, value)| vec![1.0; value.shape().iter().product()])
}
