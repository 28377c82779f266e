//! Everything that is there before the first step: files, job, engine, images.

use super::Args;
use super::average::Average;
use super::config;
use super::job::Job;
use super::layers::Rates;
use super::log::Log;
use super::paths::{last_path, report_path};
use super::phases::Stage;
use super::progress::Progress;
use super::resume::{Base, Last, Position};
use super::run::{ROLES, Run, TRAIN};
use super::search::Search;
use super::survey::Survey;
use crate::about::About;
use crate::block::reserve_beside;
use crate::engine::{Engine, Plans, evaluation, in_place_needs_native, loader_options};
use crate::failure::Failure;
use crate::max_mem::say_again;
use crate::model::ModelFile;
use crate::output::say;
use crate::report::answers::Answers;
use crate::setup::Asked;
use crate::signals;
use crate::weights::{Backbone, read};
use nunatak_core::rng::Generator;
use nunatak_data::{Batch, Loader, Mixing, Preset, Sample, Training};
use nunatak_nn::Native;
use nunatak_nn::files::Head;
use nunatak_nn::files::native::NativeErrorKind;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

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
    let file_saved = bytes_of_last.as_deref().map(|bytes| Last::parse(&last, bytes)).transpose()?;
    let base = file_saved.as_ref().map(|saved| saved.base(args.weights.as_deref())).transpose()?.flatten();

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
    let file_model = file.as_ref().map(|file| file.parse(args.reading.asked()?)).transpose()?;
    if let Some(model) = file_model.as_ref() {
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

    let (saved, model) = (file_saved.as_ref(), file_model.as_ref());
    let mut job = Job::settle(args, saved, model)?;
    let rewritten = job.in_8_bits(args, model)?;
    let rewritten_model = rewritten.as_ref().map(|file| file.parse(Asked::default())).transpose()?;
    let model = rewritten_model.as_ref().or(model);
    job.choose_micro_batch(args, weights)?;
    if let Aim::Train = aim {
        job.fit_minutes(args, weights, model)?;
    }
    let (plans, [bytes, beside]) = job.planned(args, weights)?;
    let mut memory = reserve_beside(bytes, beside)?;
    let mut engine = job.engine(args, plans, &mut memory, weights, saved)?;
    say_again(&engine.plan(ROLES * (engine.plans() / ROLES - 1) + TRAIN, job.at_once())?);
    let (position, generator) = job.load(args, &mut engine, saved, model)?;
    let average = job.average(&engine, saved)?;
    job.introduce(args, aim, model, &mut engine, bytes)?;
    let survey = matches!(aim, Aim::Rehearse).then(|| Survey::of(&job.folder, args.compute.thread_count()));
    let compete = model.is_some() && !args.resume && job.head == Head::Load;
    // The files' bytes are needed no more: what trains has its own.
    drop((file_model, rewritten_model, file_saved));
    drop((file, rewritten, bytes_of_last));
    let mut run = job.ready(args, aim, engine, (position, generator, average), base)?;
    match (aim, survey) {
        (Aim::Find(search), _) => run.find_rate(search),
        (_, Some(survey)) => survey.tell(&job.folder, &mut run, [bytes, beside]),
        (_, None) => {
            drop(job);
            run.epochs(compete)
        }
    }
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

impl Job {
    /// An engine with these plans, in the part that the run is in.
    ///
    /// # Errors
    /// [`Failure`] where a plan can't be made or the memory is too small.
    pub(super) fn engine<'m>(
        &self,
        args: &Args,
        plans: Vec<Plans<'m>>,
        memory: &'m mut [u8],
        weights: Option<Native<'m>>,
        saved: Option<&Last>,
    ) -> Result<Engine<'m>, Failure> {
        let first = self.at_once();
        let mut engine = Engine::new(plans, first, memory, &args.compute, weights)?;
        engine.at_once = self.settings.at_once(usize::MAX);
        let stage = self.stage(saved.map_or(0, |saved| saved.position.epoch));
        if stage > 0 {
            engine.enter(ROLES * stage + TRAIN, first)?;
        }
        Ok(engine)
    }

    /// The part that an epoch belongs to.
    fn stage(&self, epoch: u64) -> usize {
        self.phases.iter().rposition(|phase| phase.first <= epoch).unwrap_or(0)
    }

    /// The average of `--ema`, begun or gone on with: with every part of a run it begins anew.
    fn average(&self, engine: &Engine, saved: Option<&Last>) -> Result<Option<Average>, Failure> {
        let Some(decay) = self.settings.ema else { return Ok(None) };
        let mut average = Average::new(&engine.trainer, decay)?;
        let begins =
            |saved: &&Last| self.phases[self.stage(saved.position.epoch)].first == saved.position.epoch && saved.position.batch == 0;
        if let Some(saved) = saved.filter(|saved| !begins(saved)) {
            average.load(&engine.trainer, &saved.checkpoint, saved.position.averaged).map_err(|e| e.of(saved.path.display()))?;
        }
        Ok(Some(average))
    }

    /// The parts of the run with what they work with.
    fn stages(&self, args: &Args, engine: &mut Engine) -> Result<Vec<Stage>, Failure> {
        let settings = &self.settings;
        let (n, threads) = (settings.batch as usize, args.compute.thread_count());
        let samples: Arc<[Sample]> = self.folder.train.clone().into();
        let mut stages = Vec::new();
        for (number, phase) in self.phases.iter().enumerate() {
            let plan = engine.plan(ROLES * number + TRAIN, self.at_once())?;
            let features = self.features(number, args, &plan);
            let shown = Preset::Evaluation(evaluation(settings.view()));
            let preset = if phase.augment { Preset::Training(Training::new(settings.size as usize)) } else { shown };
            let options = loader_options(n, preset, settings.exif, settings.seed, threads);
            let train = Loader::new(Arc::clone(&samples), options).map_err(|e| Failure::Failed(e.to_string()))?;
            stages.push(Stage { phase: phase.clone(), train, features, at_once: self.at_once() });
        }
        match settings.views {
            Some(views) if stages.iter().all(|stage| stage.features.is_none()) => Err(Failure::usage(format_args!(
                "--views {views} keeps features that a frozen network makes of random cuts: train the head alone (--trainable head), with \
                 --bn-statistics fixed"
            ))),
            _ => Ok(stages),
        }
    }

    /// The run before its first step.
    ///
    /// # Errors
    /// [`Failure`] where the log or the images can't be opened, or options can't go with one another.
    pub(super) fn ready<'a, 'm>(
        &self,
        args: &'a Args,
        aim: Aim,
        mut engine: Engine<'m>,
        (position, generator, average): (Position, Generator, Option<Average>),
        base: Option<Base>,
    ) -> Result<Run<'a, 'm>, Failure> {
        let settings = self.settings.clone();
        let stages = self.stages(args, &mut engine)?;
        let shown = Preset::Evaluation(evaluation(settings.view()));
        let options = loader_options(settings.batch as usize, shown, settings.exif, settings.seed, args.compute.thread_count());
        let val = Loader::new(&self.folder.val[..], options).map_err(|e| Failure::Failed(e.to_string()))?;
        let trains = matches!(aim, Aim::Train);
        // Before anything is removed: it may be what can't be written.
        let mut log = Log::open(args.log.as_deref().filter(|_| trains))?;
        if trains {
            prepare(args)?;
        }
        if trains && !args.resume {
            log.begin()?;
        }
        let stage = self.stage(position.epoch);
        let mut run = Run {
            features: None,
            args,
            last: last_path(&args.out),
            about: About::new(&self.network, &self.folder.classes, settings.view()),
            base,
            engine,
            train: stages[stage].train.clone(),
            stages,
            stage,
            val,
            generator,
            rates: Rc::new(Rates::same(settings.sgd(settings.lr))),
            options: (!args.resume).then(|| config::text(args, &settings)),
            settings,
            log,
            progress: Progress::new(),
            named: BTreeMap::new(),
            answers: Answers::default(),
            best_answers: Answers::default(),
            took: Vec::new(),
            batch: Batch::default(),
            average: None,
            class_weights: self.class_weights.clone(),
            mixing: Mixing::default(),
            began: self.began,
            steps: 0,
            position,
        };
        run.enter(stage)?;
        run.average = average;
        Ok(run)
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
