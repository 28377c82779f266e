//! What a run is to do, settled: settings, folder, classes, plans, memory, what it begins with.

use super::Args;
use super::features::{Keep, Shape, numbers_below_head};
use super::head::{Choice, choose, keep_rows, number_as};
use super::paths::last_path;
use super::recipe::{Known, Phase, Recipe};
use super::resume::{Images, Last, Position};
use super::run::{EVAL, ROLES, TRAIN, memory_name};
use super::settings::{HEAD, Settings, Statistics};
use super::survey::counts;
use crate::about::About;
use crate::engine::{Engine, Plans, batch_sizes};
use crate::failure::Failure;
use crate::max_mem::MicroBatch;
use crate::model::{Model, ModelFile};
use crate::output::say;
use crate::setup::{Asked, Network, Plan, Setup, parameters};
use nunatak_core::rng::Generator;
use nunatak_data::folder::{FolderError, class_list};
use nunatak_data::{ImageFolder, SplitOptions};
use nunatak_nn::files::Head;
use nunatak_nn::{CrossEntropyOptions, Error, Loss, Mode, Native, Select, Trainer, Update};
use std::time::Instant;

/// What a run is to do, settled.
pub(super) struct Job {
    /// When it began.
    pub(super) began: Instant,
    pub(super) settings: Settings,
    /// Its parts, one after the other.
    pub(super) phases: Vec<Phase>,
    pub(super) folder: ImageFolder,
    pub(super) images: Images,
    /// What each class counts in the loss, where that is not 1.
    pub(super) class_weights: Option<Vec<f32>>,
    pub(super) network: Network,
    pub(super) head: Head,
    /// Rows of a new head that are the file's.
    pub(super) known: usize,
    /// Why the head is kept or new, for people.
    pub(super) head_why: String,
}

impl Job {
    /// From the options, the folder, the file of an earlier run and the weights.
    pub(super) fn settle(args: &Args, saved: Option<&Last>, model: Option<&Model>) -> Result<Job, Failure> {
        let view = model.and_then(|model| model.view);
        let mut settings = args.choices.settle(saved.map(|saved| &saved.position.settings), view)?;
        settings.check(args.update)?;
        let split = SplitOptions { seed: settings.seed, val_fraction: settings.val_fraction };
        let told = |e: FolderError| Failure::Failed(e.to_string());
        let mut folder = ImageFolder::open(args.folder(), &split).map_err(told)?;
        let listed = args.classes.as_deref().map(class_list).transpose().map_err(told)?;
        if let Some(names) = &listed {
            folder.number_as(names, args.folder()).map_err(told)?;
        }
        if folder.classes.len() < 2 {
            return Err(Failure::with(args.folder().display(), "has one class only; there is nothing to tell apart"));
        }
        let names = match saved {
            Some(saved) => saved.about.classes.as_ref(),
            None => model.and_then(|model| model.classes.as_ref()).filter(|_| !args.new_head && listed.is_none()),
        };
        names.into_iter().for_each(|names| number_as(&mut folder, names));
        let images = Images::of(&folder, args.folder());
        if let Some(saved) = saved {
            saved.position.check_images(&images, args.folder())?;
            if saved.about.classes.as_ref() != Some(&folder.classes) {
                return Err(Failure::with(
                    last_path(&args.out).display(),
                    "was trained on other classes than the folder has; start anew without --resume",
                ));
            }
        }
        let classes = folder.classes.len();
        let network = match (model, args.reading.asked()?.arch) {
            (Some(model), _) => model.network.with_classes(classes),
            (None, Some(arch)) => arch.with_classes(classes),
            (None, None) => return Err(Failure::usage("--arch NAME is needed to train from scratch")),
        };
        if args.choices.trainable.is_none() && saved.is_none() && settings.trainable == HEAD {
            let all = model.is_none() || settings.recipe == Recipe::Auto;
            settings.trainable = if all { "all".into() } else { network.head()? };
        }
        let Choice { head, known, why: head_why } = match (saved, model) {
            (Some(_), _) => Choice { head: Head::Load, known: 0, why: "as it was".into() },
            (None, None) => {
                Choice { head: Head::Keep, known: 0, why: format!("new as the whole network, drawn from seed {}", settings.seed) }
            }
            (None, Some(model)) => choose(args, model, &folder.classes, settings.seed)?,
        };
        if saved.is_none() {
            settings.complete(&args.choices, Known { images: images.train, features: features_of(&network)? });
            settings.check(args.update)?;
        }
        let class_weights = settings.class_weights(&counts(&folder.train, classes))?;
        let phases = settings.phases()?;
        Ok(Job { began: Instant::now(), settings, phases, folder, images, class_weights, network, head, known, head_why })
    }

    /// With `--frozen int8`: the weights' network with what is frozen in 8 bits, which is then the job's. A run that goes on has
    /// it already.
    ///
    /// # Errors
    /// [`Failure`] where nothing is frozen, or the weights are in 8 bits or the run is not.
    pub(super) fn in_8_bits(&mut self, args: &Args, model: Option<&Model>) -> Result<Option<ModelFile>, Failure> {
        let Some(model) = model.filter(|_| args.int8.frozen.is_some()) else { return Ok(None) };
        if args.resume {
            return match self.network {
                Network::Int8(_) => Ok(None),
                _ => Err(Failure::usage("--resume: --frozen is int8, but the run was started without; leave it out, or start anew")),
            };
        }
        let (settings, threads) = (&self.settings, args.compute.thread_count());
        let then = |trainer: &Trainer, about: &About| ModelFile::of(&model.path, trainer, about);
        let file = args.int8.rewrite(model, &settings.trainable, settings.view(), threads, &self.folder.train, then)?;
        self.network = file.parse(Asked::default())?.network.with_classes(self.folder.classes.len());
        Ok(Some(file))
    }

    /// With `--micro-batch auto`: as many images at a time as fit.
    pub(super) fn choose_micro_batch(&mut self, args: &Args, weights: Option<Native>) -> Result<(), Failure> {
        let Some(MicroBatch::Auto) = args.choices.micro_batch.filter(|_| !args.resume) else { return Ok(()) };
        let mut failure = None;
        for part in MicroBatch::Auto.candidates(self.settings.batch, args.max_mem.max_mem)? {
            self.settings.micro_batch = Some(part);
            match self.plans(args, weights) {
                Ok(_) => return Ok(()),
                Err(e) => failure = Some(e),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// The plans for training and for validation, of each part. All keep the momentum of what the part trains.
    fn plans<'f>(&self, args: &Args, weights: Option<Native<'f>>) -> Result<Vec<Plans<'f>>, Failure> {
        let mut plans = Vec::new();
        for phase in &self.phases {
            plans.extend(self.plans_of(phase, args, weights)?);
        }
        Ok(plans)
    }

    fn plans_of<'f>(&self, phase: &Phase, args: &Args, weights: Option<Native<'f>>) -> Result<[Plans<'f>; ROLES], Failure> {
        let settings = &self.settings;
        let (n, side) = (settings.batch as usize, settings.size as usize);
        let options = CrossEntropyOptions { label_smoothing: settings.label_smoothing, ..CrossEntropyOptions::default() };
        let loss = match (settings.mixing()?.is_on() && phase.mixes, self.class_weights.is_some()) {
            // Class weights don't go with it: see `Settings::check`.
            (true, _) => Loss::CrossEntropyProbabilities(options),
            (false, true) => Loss::CrossEntropyWeighted(options),
            (false, false) => Loss::CrossEntropy(options),
        };
        let mut evaluation = Setup {
            trainable: phase.trainable.clone(),
            threads: args.compute.thread_count(),
            memory: args.memory.into(),
            update: settings.update(args.update),
            momentum: settings.momentum != 0.0,
            in_place: weights,
            ..Setup::inference(self.network, n, side)
        };
        evaluation.check_trainable()?;
        let mut training = Setup { mode: Mode::Train, norm_policy: settings.bn_statistics.into(), loss, ..evaluation.clone() };
        if args.max_mem.max_mem.is_some() {
            let mut largest = training.with_batch(settings.sizes(self.images.train)[0]);
            args.max_mem.plan(&mut largest)?;
            (training.memory, training.max_mem) = (largest.memory, largest.max_mem);
            (evaluation.memory, evaluation.max_mem) = (largest.memory, largest.max_mem);
        }
        if weights.is_some() {
            // Validation reads the statistics that training has moved. What is moved does not depend on the
            // batch, and one image may be too few to plan with.
            let program = training.with_batch(2).plan()?.program;
            let in_block = program.entries().map(|id| program.entry(id)).filter(|entry| !entry.is_borrowed());
            evaluation.hold = in_block.map(|entry| entry.name().to_string()).collect();
        }
        Ok([Plans::new(training), Plans::new(evaluation)])
    }

    /// Plans everything, and says how many bytes that takes: of the block for all plans, and beside it. The evaluating plans
    /// see batches to train on too, before they are saved.
    ///
    /// # Errors
    /// [`Failure`] where a plan can't be made.
    pub(super) fn planned<'f>(&self, args: &Args, weights: Option<Native<'f>>) -> Result<(Vec<Plans<'f>>, [usize; 2]), Failure> {
        let mut plans = self.plans(args, weights)?;
        let (train, val) = (self.settings.sizes(self.images.train), self.settings.sizes(self.images.val));
        let steps = batch_sizes(self.images.train, self.settings.batch as usize);
        let [mut block, mut beside] = [0; 2];
        for (stage, plans) in plans.chunks_exact_mut(ROLES).enumerate() {
            let training = plans[TRAIN].bytes(&train).map_err(|e| too_few_values(e, &self.settings, steps))?;
            block = block.max(training).max(plans[EVAL].bytes(&[&train[..], &val[..]].concat())?);
            beside = beside.max(self.bytes_beside(stage, args, plans)?);
        }
        Ok((plans, [block, beside]))
    }

    /// Bytes that are taken beside the block at the busiest moment: images that are decoded ahead, and a batch of
    /// them, or the tensors while they are saved.
    fn bytes_beside(&self, stage: usize, args: &Args, plans: &mut [Plans]) -> Result<usize, Failure> {
        let n = (self.settings.batch as usize).min(self.images.train.max(self.images.val));
        let plan = plans[TRAIN].get(self.settings.sizes(self.images.train)[0])?;
        let features = self.features(stage, args, &plan).map_or(0, |features| features.bytes());
        let program = plan.program;
        let kept = |entry: &nunatak_core::program::Entry| 4 * entry.numbers() + 4 * entry.momentum().map_or(0, |_| entry.numbers());
        let held = |entry: &nunatak_core::program::Entry| !args.delta || !entry.is_borrowed();
        let saved: usize = program.entries().map(|id| program.entry(id)).filter(held).map(|entry| kept(&entry)).sum();
        let image = 3 * (self.settings.size as usize).pow(2);
        // Gradients are carried over where the last of a step's micro-batches is smaller.
        let carried = if self.settings.update(args.update) == Update::After { saved / 2 } else { 0 };
        let averaged = if self.settings.ema.is_some() { 2 * saved } else { 0 };
        let mixed = self.settings.mixing()?.bytes(self.settings.at_once(n), image);
        Ok(saved + averaged + carried + features + mixed + image * (4 * n + args.compute.thread_count()))
    }

    /// Numbers of an image's features, where a part trains the head alone and nothing below it changes, but for images that
    /// are mixed.
    pub(super) fn numbers_below_head(&self, stage: usize, training: &Plan) -> Option<usize> {
        let phase = &self.phases[stage];
        let fixed = self.settings.bn_statistics == Statistics::Fixed && (!phase.augment || phase.views.is_some());
        numbers_below_head(&training.program, &training.values).filter(|_| fixed)
    }

    /// How what is below the head is computed, where nothing there changes from epoch to epoch. Mixed images are new ones.
    pub(super) fn features(&self, stage: usize, args: &Args, training: &Plan) -> Option<Shape> {
        let (settings, phase) = (&self.settings, &self.phases[stage]);
        let mixed = phase.mixes && !settings.mixing_options().is_empty();
        let of = self.numbers_below_head(stage, training).filter(|_| !mixed)?;
        Some(Shape {
            of,
            at_once: settings.sizes(self.images.train)[0],
            plan: ROLES * stage + EVAL,
            keep: args.features == Keep::Once,
            views: phase.views.filter(|_| phase.augment).unwrap_or(1) as usize,
            images: [self.images.train, self.images.val],
        })
    }

    /// Images that a part's first step computes at a time.
    pub(super) fn at_once(&self) -> usize {
        self.settings.sizes(self.images.train)[0]
    }

    /// Loads what the run starts from; gives where it stands, and the generator of its random numbers.
    pub(super) fn load(
        &self,
        args: &Args,
        engine: &mut Engine,
        saved: Option<&Last>,
        model: Option<&Model>,
    ) -> Result<(Position, Generator), Failure> {
        let mut generator = Generator::manual_seed(self.settings.seed);
        let trainer = &mut engine.trainer;
        let Some(saved) = saved else {
            match model {
                None => trainer.init_from(&mut generator),
                Some(model) => model.load(trainer, self.head)?,
            }
            if model.is_some() && self.head == Head::Keep {
                trainer.init_head(&mut generator);
            }
            if let Some(model) = model.filter(|_| self.known > 0) {
                keep_rows(trainer, model, self.known)?;
            }
            let position = Position::start(self.settings.clone(), self.images.clone(), generator.draws(), args.weights.as_deref());
            return Ok((position, generator));
        };
        saved.load(trainer)?;
        trainer.load_momentum(&saved.checkpoint).map_err(|e| Failure::with(last_path(&args.out).display(), e))?;
        trainer.set_forwards(saved.position.forwards);
        notes_on_level(&saved.position, engine, args);
        let position = Position { settings: self.settings.clone(), ..saved.position.clone() };
        Ok((position, Generator::resume(self.settings.seed, saved.position.draws)))
    }
}

/// Numbers of an image's features, by the first weight of the head.
fn features_of(network: &Network) -> Result<usize, Error> {
    let program = network.program()?;
    let mut of_head = parameters(&program).map(|id| program.entry(id)).filter(|entry| Select::Head.has(entry.name(), program.head()));
    Ok(of_head.find(|entry| entry.shape().1 > 1).map_or(1, |entry| entry.shape().0[1..].iter().product()))
}

/// What to do where a batch leaves batchnorm a single value per channel.
fn too_few_values(e: Error, settings: &Settings, sizes: [usize; 2]) -> Failure {
    match e {
        Error::OneValuePerChannel { .. } => Failure::Failed(format!(
            "{e}. An epoch's batches have {} images, the last one {}: take another --batch, a larger --size than {}, \
             or train no batchnorm with --bn-statistics fixed",
            sizes[0],
            if sizes[1] > 0 { sizes[1] } else { sizes[0] },
            settings.size
        )),
        e => e.into(),
    }
}

fn notes_on_level(position: &Position, engine: &Engine, args: &Args) {
    let now = (engine.trainer.level().name(), memory_name(args.memory));
    if (position.level.as_str(), position.memory.as_str()) != now {
        say(format_args!(
            "note: the run was on {} with --memory {}, now on {} with --memory {}: the last digits may differ from an uninterrupted run",
            position.level, position.memory, now.0, now.1
        ));
    }
}
