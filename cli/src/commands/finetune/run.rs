//! The epochs: train, validate, save, in this order, until all are done or someone says stop.
//!
//! Random numbers come from one generator, in the order of the plain PyTorch script: the new head
//! (`torch.manual_seed(seed); model.fc = nn.Linear(…)`), then for each epoch what
//! `DataLoader(train, shuffle=True)` and, for the validation, `DataLoader(val)` draw.

use super::log::Log;
use super::progress::{Progress, say};
use super::rate::{Place, Rate};
use super::resume::{Best, Images, Position, Sums, TRAINING_KEY};
use super::settings::Settings;
use super::{Args, last_path};
use crate::args::{MemoryArg, trainable};
use crate::block::reserve;
use crate::dataset::{Batch, ImageFolder, Loader, Preset, SplitOptions, Training, sequential, shuffled};
use crate::engine::{Engine, Plans, batch_sizes, evaluation, in_place_needs_native, largest, loader_options, log_softmax};
use crate::failure::Failure;
use crate::model::{Model, ModelFile, human_bytes, metadata, save, save_safetensors};
use crate::outln;
use crate::weights::Backbone;
use nunatak_core::rng::Generator;
use nunatak_nn::params::Param;
use nunatak_nn::state::Head;
use nunatak_nn::{CrossEntropyOptions, Error, Loss, Mode, Network, Optimizer, Options, Recipe, Setup, Stem};
use serde_json::json;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The plans of the engine.
const TRAIN: usize = 0;
const EVAL: usize = 1;

/// How often Ctrl-C was pressed.
static STOP: AtomicUsize = AtomicUsize::new(0);

/// Runs the command; the options are checked.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    // Whose network, whose head, from where.
    let last = last_path(&args.out);
    let source = match (&args.weights, args.resume) {
        (_, true) if !last.exists() => {
            return Err(Failure::with(last.display(), "there is no run to resume; leave out --resume to start one, or name it with --out"));
        }
        (_, true) => last.clone(),
        (Some(weights), false) => weights.clone(),
        (None, false) => return Err(Failure::usage("--weights FILE is needed to start a run")),
    };
    let backbone = if args.in_place { Some(Backbone::open(&source)?) } else { None };
    let file = ModelFile::open(&source, None, args.in_place)?;
    let model = file.parse()?;
    if model.delta().is_some() {
        return Err(Failure::with(source.display(), "is a delta; `nunatak convert` with --base makes a whole network of it"));
    }
    let weights = match &backbone {
        Some(file) if model.weights().is_some() => Some(file.native()?),
        Some(_) => return Err(in_place_needs_native(&source)),
        None => None,
    };
    model.takes_images()?;
    let resumed = match args.resume {
        true => Some(Position::from_json(&last, model.checkpoint.metadata().get(TRAINING_KEY))?),
        false => None,
    };
    let settings = args.choices.settle(resumed.as_ref().map(|p| &p.settings))?;
    settings.check(args.update)?;

    let folder = ImageFolder::open(&args.dir, &SplitOptions { seed: settings.seed, val_fraction: settings.val_fraction })
        .map_err(|e| Failure::Failed(e.to_string()))?;
    if folder.classes.len() < 2 {
        return Err(Failure::with(args.dir.display(), "has one class only; there is nothing to tell apart"));
    }
    let images = Images::of(&folder, &args.dir);
    if let Some(position) = &resumed {
        position.check_images(&images, &args.dir)?;
    }
    let recipe = model.recipe.with_classes(folder.classes.len());
    check_recipe_fits(&args.out, &recipe)?;
    let same_head = model.classes.as_ref() == Some(&folder.classes);
    if resumed.is_some() && !same_head {
        return Err(Failure::with(last.display(), "was trained on other classes than the folder has; start anew without --resume"));
    }

    let mut plans = plans(args, &settings, recipe)?;
    let n = settings.batch as usize;
    let (train_sizes, eval_sizes) = (batch_sizes(images.train, n), batch_sizes(images.val, n));
    let train_bytes = plans[TRAIN].bytes(&train_sizes).map_err(|e| too_few_values(e, &settings, train_sizes))?;
    let bytes = train_bytes.max(plans[EVAL].bytes(&eval_sizes)?);
    let mut memory = reserve(bytes)?;
    let mut engine = Engine::new(plans, train_sizes[0], &mut memory, &args.compute, weights)?;

    let mut generator = Generator::manual_seed(settings.seed);
    model.load(&mut engine.trainer, if same_head { Head::Load } else { Head::Keep })?;
    if !same_head {
        engine.trainer.init_head(&mut generator);
    }
    let position = match resumed {
        None => Position::start(settings.clone(), images, generator.draws()),
        Some(position) => {
            engine.trainer.load_momentum(&model.checkpoint).map_err(|e| Failure::with(last.display(), e))?;
            generator = Generator::resume(settings.seed, position.draws);
            notes_on_level(&position, &engine, args);
            Position { settings: settings.clone(), ..position }
        }
    };
    introduce(args, &settings, &folder, &model, &engine, same_head, bytes);
    drop(model);
    drop(file);

    let threads = args.compute.thread_count();
    let shown = Preset::Evaluation(evaluation(settings.view()));
    let preset = if settings.augment { Preset::Training(Training::new(settings.size as usize)) } else { shown };
    let loader = |samples: &[_], preset| Loader::new(samples, loader_options(n, preset, settings.seed, threads));
    let train = loader(&folder.train, preset).map_err(|e| Failure::Failed(e.to_string()))?;
    let val = loader(&folder.val, shown).map_err(|e| Failure::Failed(e.to_string()))?;
    let (optimizer, rate) = (settings.optimizer()?, settings.rate()?);
    let mut run = Run {
        args,
        settings,
        last,
        classes: folder.classes,
        recipe,
        engine,
        train,
        val,
        generator,
        optimizer,
        rate,
        log: Log::open(args.log.as_deref(), args.resume)?,
        progress: Progress::new(),
        named: HashSet::new(),
        steps: 0,
        position,
    };
    listen_to_ctrl_c();
    run.epochs()
}

/// The stem of a network can't be read off a `.pth`.
fn check_recipe_fits(out: &Path, recipe: &Recipe) -> Result<(), Failure> {
    let usual = match recipe.stem.kernel {
        7 => Stem { kernel: 7, stride: 2, pad: 3, pool: true },
        kernel => Stem { kernel, stride: 1, pad: kernel / 2, pool: false },
    };
    if crate::model::OutFormat::of(out)? == crate::model::OutFormat::Pth && recipe.stem != usual {
        return Err(Failure::usage(format_args!(
            "--out {}: a .pth does not say how the stem of this network goes; take a name that ends in .safetensors",
            out.display()
        )));
    }
    Ok(())
}

/// The plans for training and for validation. Both keep the momentum.
fn plans(args: &Args, settings: &Settings, recipe: Recipe) -> Result<Vec<Plans>, Failure> {
    let trainable = trainable(&settings.trainable, &Network::new(recipe)?)?;
    let (n, side) = (settings.batch as usize, settings.size as usize);
    let options = Options {
        threads: args.compute.thread_count(),
        memory: args.memory.into(),
        update: args.update.unwrap_or(settings.update()).into(),
        momentum: settings.momentum != 0.0,
        in_place: args.in_place,
        fuse: true,
    };
    let loss = Loss::CrossEntropy(CrossEntropyOptions { label_smoothing: settings.label_smoothing, ..CrossEntropyOptions::default() });
    let evaluation = Setup { trainable, options, ..Setup::inference(recipe, n, side, side) };
    let training = Setup { mode: Mode::Train, norm_policy: settings.bn_statistics.into(), loss, ..evaluation };
    let mut validation = Plans::new(evaluation);
    if args.in_place {
        // Validation reads the statistics that training has moved. What is moved does not depend on the
        // batch, and one image may be too few to plan with.
        validation = validation.holding(Setup { batch: 2, ..training }.plan()?.0);
    }
    Ok(vec![Plans::new(training), validation])
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
        say(&format!(
            "note: the run was on {} with --memory {}, now on {} with --memory {}: the last digits may differ from an uninterrupted run",
            position.level, position.memory, now.0, now.1
        ));
    }
}

fn memory_name(memory: MemoryArg) -> &'static str {
    if memory == MemoryArg::Small { "small" } else { "fast" }
}

fn introduce(args: &Args, settings: &Settings, folder: &ImageFolder, model: &Model, engine: &Engine, same_head: bool, bytes: usize) {
    let blueprint = engine.trainer.blueprint();
    let network = blueprint.network();
    let all: usize = network.params().iter().map(Param::numbers).sum();
    let trained: usize = blueprint.trainable().iter().map(|id| network.param_at(id).numbers()).sum();
    let (train, val, classes) = (folder.train.len(), folder.val.len(), folder.classes.len());
    say(&format!("{train} images of {classes} classes to train on, {val} to validate with, {} a batch", settings.batch));
    if val == 0 {
        say("note: without images to validate with, the newest model counts as the best");
    }
    let head = match (args.resume, same_head) {
        (true, _) => "as it was".to_string(),
        (_, true) => "the file's, for the same classes".to_string(),
        _ => format!("new, for {classes} classes instead of {}, drawn from seed {}", model.recipe.classes, settings.seed),
    };
    say(&format!("fc: {head}"));
    if !args.resume && last_path(&args.out).exists() {
        say(&format!("note: {} of an earlier run will be replaced; --resume would go on with it", last_path(&args.out).display()));
    }
    say(&format!(
        "training {}: {trained} of {all} parameters, in {}; {}, {} threads",
        settings.trainable,
        human_bytes(bytes),
        engine.trainer.level().name(),
        args.compute.thread_count()
    ));
}

/// The first Ctrl-C is noted, and the step finished; the second ends the program. Files are whole
/// at every moment.
fn listen_to_ctrl_c() {
    let heard = ctrlc::set_handler(|| {
        if STOP.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(130);
        }
    });
    if let Err(e) = heard {
        say(&format!("note: Ctrl-C will end the run without saving: {e}"));
    }
}

/// How a part of a run ended.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Interrupted,
    /// `--stop-after`
    Enough,
}

struct Run<'a, 'm> {
    args: &'a Args,
    settings: Settings,
    last: PathBuf,
    classes: Vec<String>,
    recipe: Recipe,
    engine: Engine<'m>,
    train: Loader,
    val: Loader,
    generator: Generator,
    optimizer: Optimizer,
    rate: Rate,
    log: Log,
    progress: Progress,
    /// Broken images that were named: once is enough.
    named: HashSet<PathBuf>,
    /// Steps of this invocation.
    steps: u64,
    position: Position,
}

impl Run<'_, '_> {
    fn epochs(&mut self) -> Result<(), Failure> {
        self.position.level = self.engine.trainer.level().name().to_string();
        self.position.memory = memory_name(self.args.memory).to_string();
        self.note(json!({
            "event": "start", "epoch": self.position.epoch + 1, "batch": self.position.batch, "settings": self.settings,
            "train": self.position.images.train, "val": self.position.images.val, "classes": self.classes, "level": self.position.level,
        }));
        if self.position.epoch >= self.settings.epochs {
            say(&format!("nothing to do: all {} epochs are done; ask for more with --epochs", self.settings.epochs));
        }
        while self.position.epoch < self.settings.epochs {
            let flow = match self.train_epoch()? {
                Flow::On => self.finish_epoch()?,
                stopped => stopped,
            };
            self.progress.end();
            match flow {
                Flow::On => {}
                flow => return self.stop(flow),
            }
        }
        self.summary()
    }

    /// Saves where the run stands, inside an epoch.
    fn stop(&mut self, flow: Flow) -> Result<(), Failure> {
        self.save_last()?;
        let (epoch, batch, batches) = (self.position.epoch + 1, self.position.batch, self.train.batches());
        let why = if flow == Flow::Interrupted { "interrupted" } else { "stopped" };
        self.note(json!({"event": why, "epoch": epoch, "batch": batch}));
        say(&format!("{why} in epoch {epoch} after batch {batch} of {batches}; saved {}; go on with --resume", self.last.display()));
        if flow == Flow::Interrupted { Err(Failure::Interrupted) } else { Ok(()) }
    }

    fn train_epoch(&mut self) -> Result<Flow, Failure> {
        let (epoch, epochs, total) = (self.position.epoch, self.settings.epochs, self.train.batches() as u64);
        let order = shuffled(&mut self.generator, self.position.images.train);
        let start = usize::try_from(self.position.batch).unwrap_or(usize::MAX);
        let mut batches = self.train.epoch(order, epoch, start).map_err(|e| Failure::with(self.last.display(), e))?;
        self.progress.begin(format!("epoch {}/{epochs}", epoch + 1), total, self.position.batch);
        let mut batch = Batch::default();
        while batches.next_into(&mut batch) {
            self.name_skipped(&batch);
            if !batch.labels.is_empty() {
                self.step(&batch)?;
            }
            self.position.batch += 1;
            self.steps += 1;
            let sums = self.position.sums;
            let text = format!("loss {:.4}  top-1 {:.2} %", sums.mean_loss(), sums.percent());
            self.progress.step(self.position.batch, batch.labels.len() as u64, &text, epochs - epoch - 1);
            if STOP.load(Ordering::SeqCst) > 0 {
                return Ok(Flow::Interrupted);
            }
            if self.args.stop_after.is_some_and(|n| self.steps >= n) {
                return Ok(Flow::Enough);
            }
            if self.args.save_every.is_some_and(|n| self.steps.is_multiple_of(n)) {
                self.save_last()?;
            }
        }
        if self.position.sums.images == 0 {
            return Err(Failure::with(self.args.dir.display(), "none of the images to train on could be read"));
        }
        Ok(Flow::On)
    }

    fn step(&mut self, batch: &Batch) -> Result<(), Failure> {
        let n = batch.labels.len();
        let place = self.place();
        let values = match self.engine.enter(TRAIN, n) {
            Ok(values) => values,
            // Planned batches have enough values; this one lost images to `skipped`.
            Err(Error::OneValuePerChannel { .. }) => {
                self.progress.line(&format!("skipped a batch of {n}: batchnorm needs more values"));
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        };
        let loss = values.loss.ok_or_else(|| Failure::Failed("the plan has no loss".into()))?;
        let labels = values.labels.ok_or_else(|| Failure::Failed("the plan has no labels".into()))?;
        let factor = self.rate.factor(place);
        let optimizer = self.optimizer.scaled(factor)?;
        let trainer = &mut self.engine.trainer;
        trainer.set_input(values.data, &batch.images)?;
        trainer.set_labels(labels, &batch.labels)?;
        trainer.forward()?;
        let loss = trainer.finite(loss).map_err(|e| {
            let newest = if self.last.exists() { format!("; the newest good state is {}", self.last.display()) } else { String::new() };
            let at = format!("epoch {}, step {} of {}", place.epoch + 1, place.batch + 1, place.batches);
            Failure::Failed(format!("{at}: {e}{newest}"))
        })?;
        let mut logits = vec![0.0; n * self.classes.len()];
        trainer.value(values.prediction, &mut logits)?;
        match self.settings.clip_grad_norm {
            None => trainer.backward_and_step(&optimizer)?,
            Some(norm) => {
                trainer.backward()?;
                trainer.clip_grad_norm(norm)?;
                trainer.step(&optimizer)?;
                trainer.zero_grad();
            }
        }
        let right = right_answers(&logits, &batch.labels, self.classes.len());
        let sums = &mut self.position.sums;
        sums.loss += f64::from(loss) * n as f64;
        sums.right += right;
        sums.images += n as u64;
        let rate = f64::from(self.settings.lr * factor);
        self.note(json!({
            "event": "step", "epoch": place.epoch + 1, "step": place.batch + 1, "of": place.batches,
            "loss": loss, "right": right, "images": n, "lr": rate,
        }));
        Ok(())
    }

    fn place(&self) -> Place {
        let position = &self.position;
        Place { epoch: position.epoch, batch: position.batch, batches: self.train.batches() as u64, epochs: self.settings.epochs }
    }

    /// Validates, saves, and goes to the next epoch; or stops before any of it.
    fn finish_epoch(&mut self) -> Result<Flow, Failure> {
        let (epoch, epochs, trained) = (self.position.epoch, self.settings.epochs, self.position.sums);
        let (seconds, rate) = (self.progress.seconds(), self.progress.rate());
        let Some(val) = self.validate()? else { return Ok(Flow::Interrupted) };
        if val.images > 0 && !val.mean_loss().is_finite() {
            return Err(Failure::with(
                format_args!("epoch {}/{epochs}", epoch + 1),
                format_args!(
                    "the loss on the validation images is {}; nothing of this epoch was saved; lower the learning rate",
                    val.mean_loss()
                ),
            ));
        }
        let better = self.position.best.is_none_or(|best| val.images == 0 || best.is_beaten_by(&val));
        if better {
            self.position.best = Some(Best { epoch, right: val.right, images: val.images });
        }
        self.position.epoch += 1;
        self.position.batch = 0;
        self.position.sums = Sums::default();
        self.position.draws = self.generator.draws();
        // The model before the state that says it is there: whoever is killed between goes on from
        // the state before, and makes both again.
        if better {
            let base = self.args.weights.as_deref().filter(|_| self.args.delta);
            save(&self.args.out, &self.engine.trainer, &self.classes, self.settings.view(), base)?;
        }
        self.save_last()?;
        self.progress.end();
        let checked = match val.images {
            0 => String::new(),
            _ => format!("  val loss {:.4}  val top-1 {:.2} %{}", val.mean_loss(), val.percent(), if better { "  best" } else { "" }),
        };
        self.progress.line(&format!(
            "epoch {}/{epochs}  loss {:.4}  top-1 {:.2} %{checked}  {rate:.1} images/s",
            epoch + 1,
            trained.mean_loss(),
            trained.percent()
        ));
        let (val_loss, val_top1) = if val.images > 0 { (Some(val.mean_loss()), Some(val.top1())) } else { (None, None) };
        self.note(json!({
            "event": "epoch", "epoch": epoch + 1, "train_loss": trained.mean_loss(), "train_top1": trained.top1(),
            "val_loss": val_loss, "val_top1": val_top1, "val_right": val.right, "val_images": val.images,
            "best": better, "seconds": seconds, "images_per_second": rate,
        }));
        Ok(Flow::On)
    }

    /// The loss and right answers of the validation images; nothing if it was interrupted.
    fn validate(&mut self) -> Result<Option<Sums>, Failure> {
        let mut sums = Sums::default();
        let count = self.position.images.val;
        if count == 0 {
            return Ok(Some(sums));
        }
        // What the iterator of DataLoader(val) draws: the base seed of its workers.
        self.generator.skip(2);
        let batches = self.val.epoch(sequential(count), 0, 0).map_err(|e| Failure::Failed(e.to_string()))?;
        self.progress.begin("validation".into(), self.val.batches() as u64, 0);
        let mut logits = Vec::new();
        for batch in batches {
            self.name_skipped(&batch);
            if !batch.labels.is_empty() {
                self.engine.logits(EVAL, &batch, &mut logits)?;
                let classes = self.classes.len();
                for (row, &label) in logits.chunks_exact(classes).zip(&batch.labels) {
                    sums.loss -= log_softmax(row).nth(label as usize).unwrap_or(f64::NAN);
                }
                sums.right += right_answers(&logits, &batch.labels, classes);
                sums.images += batch.labels.len() as u64;
            }
            let text = format!("val loss {:.4}  val top-1 {:.2} %", sums.mean_loss(), sums.percent());
            self.progress.step(batch.number as u64 + 1, batch.labels.len() as u64, &text, 0);
            if STOP.load(Ordering::SeqCst) > 0 {
                return Ok(None);
            }
        }
        self.progress.validation_took(self.progress.seconds());
        if sums.images == 0 {
            return Err(Failure::with(self.args.dir.display(), "none of the images to validate with could be read"));
        }
        Ok(Some(sums))
    }

    fn save_last(&mut self) -> Result<(), Failure> {
        let mut metadata = metadata(&self.recipe, &self.classes, self.settings.view());
        metadata.insert(TRAINING_KEY.into(), self.position.to_json());
        save_safetensors(&self.last, &self.engine.trainer.state_with_momentum(), &metadata)
    }

    /// Names what could not be read, each file once.
    fn name_skipped(&mut self, batch: &Batch) {
        for (path, reason) in &batch.skipped {
            if self.named.insert(path.clone()) {
                self.progress.line(&format!("skipped {path:?}: {reason}"));
                self.note(json!({"event": "skipped", "path": path.to_string_lossy(), "reason": reason}));
            }
        }
    }

    fn note(&mut self, value: serde_json::Value) {
        if let Some(e) = self.log.line(&value) {
            self.progress.line(&format!("note: the log ends here, it can't be written: {e}"));
        }
    }

    fn summary(&self) -> Result<(), Failure> {
        let Some(best) = self.position.best else { return Ok(()) };
        let out = self.args.out.display();
        match best.images {
            0 => outln!("{out}: the model after epoch {}", best.epoch + 1),
            n => {
                let percent = 100.0 * best.right as f64 / n as f64;
                outln!("{out}: top-1 {percent:.2} % ({} of {n}) after epoch {}", best.right, best.epoch + 1)
            }
        }
    }
}

fn right_answers(logits: &[f32], labels: &[i64], classes: usize) -> u64 {
    logits.chunks_exact(classes).zip(labels).filter(|(row, label)| largest(row) as i64 == **label).count() as u64
}
