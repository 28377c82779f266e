//! Everything that is there before the first step: files, folder, settings, plans, memory.

use super::Args;
use super::average::Average;
use super::config;
use super::features::{Features, Keep, numbers_below_head};
use super::head::{Choice, choose, keep_rows, number_as};
use super::log::Log;
use super::paths::{last_path, report_path};
use super::progress::Progress;
use super::resume::{Base, Images, Last, Position};
use super::run::{EVAL, Run, TRAIN, memory_name};
use super::search::Search;
use super::settings::{HEAD, Settings, Statistics};
use super::survey::{Survey, counts, doubles, pairs_text};
use crate::about::About;
use crate::block::reserve_beside;
use crate::engine::{Engine, Plans, batch_sizes, evaluation, in_place_needs_native, loader_options};
use crate::failure::Failure;
use crate::max_mem::{MicroBatch, say_again};
use crate::model::{Model, ModelFile, human_bytes};
use crate::output::{say, warn};
use crate::report::answers::Answers;
use crate::setup::{Network, Plan, Setup, parameter_numbers};
use crate::signals;
use crate::weights::{Backbone, read};
use nunatak_core::rng::Generator;
use nunatak_data::folder::{FolderError, class_list};
use nunatak_data::{Batch, ImageFolder, Loader, Preset, SplitOptions, Training};
use nunatak_nn::files::Head;
use nunatak_nn::files::native::NativeErrorKind;
use nunatak_nn::{CrossEntropyOptions, Error, Loss, Mode, Native, Update};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// What a run is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aim {
    /// Training.
    Train,
    /// `--dry-run`: to tell what is there and what it will take.
    Rehearse,
    /// `nunatak lr-find`
    Find(Search),
}

/// Runs the command; the options are checked.
pub(super) fn run(args: &Args, aim: Aim) -> Result<(), Failure> {
    let last = last_path(&args.out);
    let bytes_of_last = if args.resume { Some(read_last(&last)?) } else { None };
    let saved = bytes_of_last.as_deref().map(|bytes| Last::parse(&last, bytes)).transpose()?;
    let base = saved.as_ref().map(|saved| saved.base(args.weights.as_deref())).transpose()?.flatten();

    // What is read in place: the base of a delta, or what --weights names.
    let below = base.as_ref().map(|base| base.path.clone()).or(args.weights.clone().filter(|_| args.in_place));
    let below = below.as_deref();
    if args.in_place && below.is_none() {
        return Err(Failure::usage("--in-place: name the .nunatak that the run was started with, with --weights"));
    }
    let backbone = below.map(Backbone::open).transpose()?;
    let weights = match (&backbone, below) {
        (Some(backbone), Some(path)) => Some(native(backbone, path, base.as_ref())?),
        _ => None,
    };
    // What the network is of: of a resumed run its state, unless that is a delta.
    let whole = args.resume && base.is_none();
    let source = if whole { Some(last.as_path()) } else { below.or(args.weights.as_deref()) };
    let file = source.map(|path| ModelFile::open(path, None, backbone.is_some() && !whole)).transpose()?;
    let file = file.map(|file| file.with_key(args.key.clone()));
    let model = file.as_ref().map(|file| file.parse(args.reading.asked()?)).transpose()?;
    if let Some(model) = model.as_ref() {
        if model.delta().is_some() {
            return Err(Failure::with(model.path.display(), "is a delta; `nunatak convert` with --base makes a whole network of it"));
        }
        model.takes_images()?;
    }
    let base = match (base, weights, below) {
        (None, Some(native), Some(path)) if args.delta && !args.resume => {
            Some(Base { path: path.to_owned(), hash: native.hash().to_string() })
        }
        (base, ..) => base,
    };

    let mut job = Job::settle(args, saved.as_ref(), model.as_ref())?;
    job.choose_micro_batch(args, weights)?;
    let mut plans = job.plans(args, weights)?;
    let bytes = job.bytes(&mut plans)?;
    let mut memory = reserve_beside(bytes, job.bytes_beside(args, &mut plans)?)?;
    let first = job.settings.sizes(job.images.train)[0];
    let mut engine = Engine::new(plans, first, &mut memory, &args.compute, weights)?;
    engine.at_once = job.settings.at_once(usize::MAX);
    say_again(&engine.plan(TRAIN, first)?);
    let (position, generator) = job.load(args, &mut engine, saved.as_ref(), model.as_ref())?;
    let average = job.average(&engine, saved.as_ref())?;
    job.introduce(args, aim, model.as_ref(), &engine, bytes);
    if let Aim::Rehearse = aim {
        Survey::of(&job.folder, args.compute.thread_count()).print(&job.folder, args.folder())?;
    }
    let compete = model.is_some() && !args.resume && job.head == Head::Load;
    // The files' bytes are needed no more: what trains has its own.
    drop((model, saved));
    drop((file, bytes_of_last));
    job.run(args, aim, engine, (position, generator, average), base, compete)
}

/// The bytes of `FILE.last`.
fn read_last(last: &Path) -> Result<Vec<u8>, Failure> {
    if !last.exists() {
        return Err(Failure::with(last.display(), "there is no run to resume; leave out --resume to start one, or name it with --out"));
    }
    read(last)
}

/// The native file that is read in place; of a delta's base, found to be the right one.
fn native<'f>(backbone: &'f Backbone, path: &Path, base: Option<&Base>) -> Result<Native<'f>, Failure> {
    let native = match Native::parse(backbone.bytes()) {
        Err(e) if e.kind == NativeErrorKind::NotNative => return Err(in_place_needs_native(path)),
        parsed => parsed.map_err(|e| Failure::with(path.display(), e))?,
    };
    native.verify().map_err(|e| Failure::with(path.display(), e))?;
    match base {
        Some(base) if base.hash != native.hash().to_string() => Err(Failure::with(
            path.display(),
            format_args!("has the hash {}, but the run was started over weights with the hash {}", native.hash(), base.hash),
        )),
        _ => Ok(native),
    }
}

/// What a run is to do, settled.
struct Job {
    settings: Settings,
    folder: ImageFolder,
    images: Images,
    /// What each class counts in the loss, where that is not 1.
    class_weights: Option<Vec<f32>>,
    network: Network,
    head: Head,
    /// Rows of a new head that are the file's.
    known: usize,
    /// Why the head is kept or new, for people.
    head_why: String,
}

impl Job {
    /// From the options, the folder, the file of an earlier run and the weights.
    fn settle(args: &Args, saved: Option<&Last>, model: Option<&Model>) -> Result<Job, Failure> {
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
        if args.choices.trainable.is_none() && settings.trainable == HEAD {
            settings.trainable = if model.is_some() { network.head()? } else { "all".into() };
        }
        let Choice { head, known, why: head_why } = match (saved, model) {
            (Some(_), _) => Choice { head: Head::Load, known: 0, why: "as it was".into() },
            (None, None) => {
                Choice { head: Head::Keep, known: 0, why: format!("new as the whole network, drawn from seed {}", settings.seed) }
            }
            (None, Some(model)) => choose(args, model, &folder.classes, settings.seed)?,
        };
        let class_weights = settings.class_weights(&counts(&folder.train, classes))?;
        Ok(Job { settings, folder, images, class_weights, network, head, known, head_why })
    }

    /// With `--micro-batch auto`: as many images at a time as fit.
    fn choose_micro_batch(&mut self, args: &Args, weights: Option<Native>) -> Result<(), Failure> {
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

    /// The plans for training and for validation. Both keep the momentum.
    fn plans<'f>(&self, args: &Args, weights: Option<Native<'f>>) -> Result<Vec<Plans<'f>>, Failure> {
        let settings = &self.settings;
        let (n, side) = (settings.batch as usize, settings.size as usize);
        let options = CrossEntropyOptions { label_smoothing: settings.label_smoothing, ..CrossEntropyOptions::default() };
        let loss = match (settings.mixing()?.is_on(), self.class_weights.is_some()) {
            // Class weights don't go with it: see `Settings::check`.
            (true, _) => Loss::CrossEntropyProbabilities(options),
            (false, true) => Loss::CrossEntropyWeighted(options),
            (false, false) => Loss::CrossEntropy(options),
        };
        let mut evaluation = Setup {
            trainable: settings.trainable.clone(),
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
        Ok(vec![Plans::new(training), Plans::new(evaluation)])
    }

    /// Bytes of the block for all plans. The evaluating one sees batches to train on too, before they are saved.
    fn bytes(&self, plans: &mut [Plans]) -> Result<usize, Failure> {
        let n = self.settings.batch as usize;
        let (train, val) = (self.settings.sizes(self.images.train), self.settings.sizes(self.images.val));
        let steps = batch_sizes(self.images.train, n);
        let training = plans[TRAIN].bytes(&train).map_err(|e| too_few_values(e, &self.settings, steps))?;
        Ok(training.max(plans[EVAL].bytes(&[train, val].concat())?))
    }

    /// Bytes that are taken beside the block at the busiest moment: images that are decoded ahead, and a batch of
    /// them, or the tensors while they are saved.
    fn bytes_beside(&self, args: &Args, plans: &mut [Plans]) -> Result<usize, Failure> {
        let n = (self.settings.batch as usize).min(self.images.train.max(self.images.val));
        let plan = plans[TRAIN].get(self.settings.sizes(self.images.train)[0])?;
        let features = self.features(args, &plan).map_or(0, |features| features.bytes());
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

    /// Numbers of an image's features, where the head alone is trained and nothing below it changes, but for the images.
    fn numbers_below_head(&self, training: &Plan) -> Option<usize> {
        let fixed = self.settings.bn_statistics == Statistics::Fixed && !self.settings.augment;
        numbers_below_head(&training.program, &training.values).filter(|_| fixed)
    }

    /// How what is below the head is computed, where nothing there changes from epoch to epoch. Mixed images are new ones.
    fn features(&self, args: &Args, training: &Plan) -> Option<Features> {
        let settings = &self.settings;
        let of = self.numbers_below_head(training).filter(|_| settings.mixing_options().is_empty())?;
        let at_once = settings.sizes(self.images.train)[0];
        Some(Features::new(of, at_once, args.features == Keep::Once, [self.images.train, self.images.val]))
    }

    /// Loads what the run starts from; gives where it stands, and the generator of its random numbers.
    fn load(
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

    /// The average of `--ema`, begun or gone on with.
    fn average(&self, engine: &Engine, saved: Option<&Last>) -> Result<Option<Average>, Failure> {
        let Some(decay) = self.settings.ema else { return Ok(None) };
        let mut average = Average::new(&engine.trainer, decay)?;
        if let Some(saved) = saved {
            average.load(&engine.trainer, &saved.checkpoint, saved.position.averaged).map_err(|e| e.of(saved.path.display()))?;
        }
        Ok(Some(average))
    }

    /// Says what is going to happen, and what was assumed.
    fn introduce(&self, args: &Args, aim: Aim, model: Option<&Model>, engine: &Engine, bytes: usize) {
        let (settings, folder) = (&self.settings, &self.folder);
        let program = engine.trainer.program();
        let [all, trained] = parameter_numbers(program);
        let (train, val, classes) = (folder.train.len(), folder.val.len(), folder.classes.len());
        folder.notes.iter().for_each(say);
        self.introduce_batches();
        say(format_args!("{train} images of {classes} classes to train on, {val} to validate with, {} a batch", settings.batch));
        if let Some(most) = settings.micro_batch {
            say(format_args!("{most} images are computed at a time, and gradients are added up: batchnorm sees these"));
        }
        if val == 0 {
            say("note: without images to validate with, the newest model counts as the best");
        }
        let doubles = if let Aim::Train = aim { doubles(folder) } else { Default::default() };
        for (what, pairs) in [("are both to train on and to validate with", &doubles.across), ("lie in two classes", &doubles.contrary)] {
            if !pairs.is_empty() {
                warn(format_args!("warning: {} images {what}: {}", pairs.len(), pairs_text(pairs, args.folder())));
            }
        }
        say(format_args!("{}: {}", program.head(), self.head_why));
        let mut assumed: Vec<String> = model.and_then(|model| model.assumed.clone()).into_iter().collect();
        if args.choices.size.is_none() && !args.resume && model.is_none_or(|model| model.view.is_none()) {
            assumed.push(format!(
                "images are shown as {0} x {0}, cut out of a shorter side of {1} (--size, --resize)",
                settings.size, settings.resize
            ));
        }
        if !assumed.is_empty() {
            let of = model.map_or(String::new(), |model| format!(", for {} does not tell", model.path.display()));
            say(format_args!("assumed{of}: {}", assumed.join("; ")));
        }
        if args.resume && !args.in_place && args.weights.is_some() && engine.trainer.weights_file().is_none() {
            say(format_args!("note: with --resume the weights are those of {}; --weights is not read", last_path(&args.out).display()));
        }
        say(format_args!(
            "training {}: {trained} of {all} parameters, in {}; {}, {} threads",
            settings.trainable,
            human_bytes(bytes),
            engine.trainer.level().name(),
            args.compute.thread_count()
        ));
    }

    /// Says how images are drawn and mixed, where that is not the usual way.
    fn introduce_batches(&self) {
        let settings = &self.settings;
        if settings.balanced {
            say("every class is drawn as often as the others, images more than once in an epoch (--balanced)");
        }
        if settings.balanced && settings.class_weights == "balanced" {
            say("note: --balanced and --class-weights balanced both make up for rare classes: together they count too much");
        }
        let options = settings.mixing_options();
        if !options.is_empty() {
            say(format_args!("images to train on are mixed in pairs, and their labels with them ({options})"));
        }
    }

    /// Trains.
    fn run(
        self,
        args: &Args,
        aim: Aim,
        mut engine: Engine,
        (position, generator, average): (Position, Generator, Option<Average>),
        base: Option<Base>,
        compete: bool,
    ) -> Result<(), Failure> {
        let plan = engine.plan(TRAIN, self.settings.sizes(self.images.train)[0])?;
        let features = self.features(args, &plan);
        if features.is_none() && args.features == Keep::Once && self.numbers_below_head(&plan).is_some() {
            let options = self.settings.mixing_options();
            say(format_args!("features below the head are not kept but computed at every step: mixed images are new ones ({options})"));
        }
        if let Some(bytes) = features.as_ref().map(Features::bytes).filter(|bytes| *bytes > 0) {
            say(format_args!("features below the head are computed once and kept, in {} (--features never)", human_bytes(bytes)));
        }
        let Job { settings, folder, network, class_weights, .. } = self;
        let mixing = settings.mixing()?;
        let (n, threads) = (settings.batch as usize, args.compute.thread_count());
        let shown = Preset::Evaluation(evaluation(settings.view()));
        let preset = if settings.augment { Preset::Training(Training::new(settings.size as usize)) } else { shown };
        let loader = |samples: &[_], preset| Loader::new(samples, loader_options(n, preset, settings.exif, settings.seed, threads));
        let train = loader(&folder.train, preset).map_err(|e| Failure::Failed(e.to_string()))?;
        let val = loader(&folder.val, shown).map_err(|e| Failure::Failed(e.to_string()))?;
        let last = last_path(&args.out);
        let trains = matches!(aim, Aim::Train);
        // Before anything is removed: it may be what can't be written.
        let mut log = Log::open(args.log.as_deref().filter(|_| trains))?;
        if trains {
            prepare(args)?;
        }
        if trains && !args.resume {
            log.begin()?;
        }
        let mut run = Run {
            features,
            args,
            last,
            about: About::new(&network, &folder.classes, settings.view()),
            base,
            engine,
            train,
            val,
            generator,
            optimizer: settings.optimizer()?,
            rate: settings.rate()?,
            options: (!args.resume).then(|| config::text(args, &settings)),
            settings,
            log,
            progress: Progress::new(),
            named: BTreeMap::new(),
            answers: Answers::default(),
            best_answers: Answers::default(),
            took: Vec::new(),
            batch: Batch::default(),
            average,
            class_weights,
            mixing,
            began: Instant::now(),
            steps: 0,
            position,
        };
        match aim {
            Aim::Train => run.epochs(compete),
            Aim::Rehearse => run.rehearse(),
            Aim::Find(search) => run.find_rate(search),
        }
    }
}

/// What is done just before the first step: from here on files change.
fn prepare(args: &Args) -> Result<(), Failure> {
    let last = last_path(&args.out);
    if args.overwrite && last.exists() {
        // It would be gone on from if this run ended before it saves.
        std::fs::remove_file(&last).map_err(|e| Failure::with(last.display(), format_args!("can't be removed: {e}")))?;
    }
    if args.overwrite {
        // It would show another run than the model beside it. Where it can't be removed it is replaced, or a note is said.
        let _ = std::fs::remove_file(report_path(&args.out));
    }
    if let Err(e) = signals::listen() {
        say(format_args!("note: Ctrl-C will end the run without saving: {e}"));
    }
    Ok(())
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
