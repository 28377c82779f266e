//! What is exported: the weights in the native layout, and the programs that share them.

use super::target::{Target, TargetArg};
use super::{Args, Region};
use crate::about::About;
use crate::commands::finetune::Accumulate;
use crate::failure::Failure;
use crate::model::View;
use crate::output::say;
use crate::setup::{Network, Setup};
use crate::{args, published, weights};
use nunatak_core::arena;
use nunatak_core::bundle::Bundle;
use nunatak_core::program::MOST_REGIONS;
use nunatak_nn::files::save::Save;
use nunatak_nn::files::{Checkpoint, Head};
use nunatak_nn::plan::{self, bundle};
use nunatak_nn::routines::{Listed, Table, needed};
use nunatak_nn::{CrossEntropyOptions, Graph, Level, Loss, Mode, Native, Program, Step, Threads, Trainer, Update, ValueId};
use std::collections::BTreeSet;
use std::path::Path;

/// Bytes that begin at a multiple of 64.
pub(super) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    /// Copies bytes.
    pub(super) fn new(from: &[u8]) -> Aligned {
        let mut bytes = vec![0; from.len() + arena::ALIGN];
        let start = bytes.as_ptr().align_offset(arena::ALIGN);
        bytes[start..start + from.len()].copy_from_slice(from);
        bytes.truncate(start + from.len());
        Aligned { bytes, start }
    }
    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// What a program of the bundle is for.
pub(super) struct Purpose {
    /// Its name in the bundle.
    pub(super) name: String,
    /// Images of a batch.
    pub(super) batch: usize,
    /// What it trains; nothing where it predicts.
    pub(super) trainable: Option<String>,
}

/// Everything that is written, before it is text.
pub(super) struct Exported {
    /// The network.
    pub(super) network: Network,
    /// Rows and columns of an image.
    pub(super) size: usize,
    /// The native file.
    pub(super) weights: Aligned,
    /// The bundle.
    pub(super) bundle: Vec<u8>,
    /// What its programs are for, in their order.
    pub(super) purposes: Vec<Purpose>,
    /// Where it runs.
    pub(super) target: Target,
    /// Micro-batches of a step that trains.
    pub(super) micro_batches: usize,
    /// Whether there is momentum.
    pub(super) momentum: bool,
    /// The memory that was offered, the fastest first.
    pub(super) regions: Vec<Region>,
}

/// Makes all of it.
///
/// # Errors
/// [`Failure`], among others where the region is too small.
pub(super) fn export(args: &Args, target: TargetArg) -> Result<Exported, Failure> {
    let found = args.weights.as_deref().map(|given| published::find(given, args.arch.as_deref())).transpose()?;
    let file = found.as_deref().map(weights::read).transpose()?;
    let checkpoint = match (&found, &file) {
        (Some(path), Some(bytes)) => Some((path.as_path(), weights::parse(path, bytes, None)?)),
        _ => None,
    };
    let classes = args.classes.map(|classes| classes as usize);
    let network = match (&args.arch, &checkpoint) {
        (Some(arch), _) => args::network(arch, classes)?,
        (None, Some((path, file))) => {
            let found =
                Network::of(file, None).map_err(|e| Failure::with(path.display(), format_args!("{e}; name the network with --arch")))?;
            classes.map_or(found, |classes| found.with_classes(classes))
        }
        (None, None) => return Err(Failure::usage("name a network with --arch, or a file with --weights")),
    };
    if args.trainable.iter().any(|what| what == "none") {
        return Err(Failure::usage("--trainable none: leave it out of several; a program that predicts is always there"));
    }
    if let Some(part) = args.micro_batch.filter(|part| !args.batch.is_multiple_of(*part)) {
        return Err(Failure::usage(format_args!("--micro-batch {part}: --batch {} is no multiple of it", args.batch)));
    }
    let target = target.target();
    let (network, weights) = native(network, args, checkpoint.as_ref().map(|(path, file)| (*path, file)))?;
    let purposes = purposes(args);
    if args.region.len() > MOST_REGIONS {
        return Err(Failure::usage(format_args!("--region: {} were given, {MOST_REGIONS} are the most", args.region.len())));
    }
    let file = Native::parse(weights.bytes()).map_err(nunatak_nn::Error::from)?;
    let bundle = planned(network, args, &target, &purposes, file)?;
    let exported = Exported {
        network,
        size: args.side(),
        weights,
        bundle,
        purposes,
        target,
        micro_batches: (args.batch / args.micro_batch.unwrap_or(args.batch)) as usize,
        momentum: !args.no_momentum,
        regions: args.region.clone(),
    };
    exported.check_room()?;
    Ok(exported)
}

/// The weights as a native file: those of a file, the rest drawn.
fn native(network: Network, args: &Args, file: Option<(&Path, &Checkpoint)>) -> Result<(Network, Aligned), Failure> {
    let owning = |network: Network| -> Result<Trainer<'static>, Failure> {
        let program = Setup::inference(network, 1, args.side()).plan()?.program;
        Ok(Trainer::owning(program, Level::detect(), Threads::serial())?)
    };
    if args.int8.frozen.is_none() {
        let mut trainer = owning(network)?;
        fill(&mut trainer, args, file)?;
        return Ok((network, saved(&trainer)?));
    }
    // As the network was shown images when it was trained, where the file tells.
    let told = file.map(|(path, file)| About::of(path, file)).transpose()?.and_then(|about| about.view);
    let view = told.filter(|view| view.size as usize == args.side()).unwrap_or(View::of(args.side() as u32));
    let threads = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
    // What any of the programs trains stays as it is.
    let (network, state) =
        args.int8.quantize(network, &args.trainable.join(","), view, threads, &[], |trainer| fill(trainer, args, file))?;
    let mut trainer = owning(network)?;
    trainer.set_state(&state)?;
    Ok((network, saved(&trainer)?))
}

/// Draws the numbers, or loads those of a file and draws the rest.
fn fill(trainer: &mut Trainer, args: &Args, file: Option<(&Path, &Checkpoint)>) -> Result<(), Failure> {
    trainer.init(args.seed);
    match file {
        None => say(format_args!("note: no --weights: they are drawn from seed {}", args.seed)),
        Some((path, file)) => {
            let program = trainer.program();
            let head =
                program.entries().map(|id| program.entry(id)).find(|entry| nunatak_nn::Select::Head.has(entry.name(), program.head()));
            let fits = head.is_none_or(|entry| file.get(entry.name()).is_some_and(|e| e.shape() == &entry.shape().0[..entry.shape().1]));
            if !fits {
                say(format_args!("note: {}: its head has other classes; a new one is drawn from seed {}", path.display(), args.seed));
            }
            weights::load(trainer, path, file, if fits { Head::Load } else { Head::Keep })?;
        }
    }
    Ok(())
}

/// A trainer's network as a native file.
fn saved(trainer: &Trainer) -> Result<Aligned, Failure> {
    let saving = trainer.saving(Save::Network, &[])?;
    let mut bytes = vec![0; saving.len()];
    saving.write_to(&mut bytes)?;
    Ok(Aligned::new(&bytes))
}

/// When parameters are updated.
fn update(args: &Args) -> Update {
    match (args.micro_batch, args.accumulate.unwrap_or_default()) {
        (None, _) => args.update.unwrap_or_default().into(),
        (Some(_), Accumulate::Gradient) => Update::After,
        (Some(_), Accumulate::Momentum) => Update::Summed,
    }
}

/// One program predicts; another trains what each `--trainable` names.
fn purposes(args: &Args) -> Vec<Purpose> {
    let word = |text: &str| text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>();
    let predict = Purpose { name: "predict".into(), batch: args.predict_batch as usize, trainable: None };
    let train = args.trainable.iter().map(|what| Purpose {
        name: format!("train_{}", word(what)).chars().take(nunatak_core::bundle::MOST_NAME).collect(),
        batch: args.micro_batch.unwrap_or(args.batch) as usize,
        trainable: Some(what.clone()),
    });
    std::iter::once(predict).chain(train).collect()
}

/// Plans the programs together.
fn planned(network: Network, args: &Args, target: &Target, purposes: &[Purpose], file: Native) -> Result<Vec<u8>, Failure> {
    // What is trained by any of them keeps its momentum while another predicts.
    let union = args.trainable.join(",");
    let union = if args.trainable.iter().any(|what| what == "all") { "all" } else { &union };
    let setups = purposes.iter().map(|purpose| {
        let setup = Setup {
            mode: Mode::Train,
            norm_policy: args.bn_statistics.into(),
            loss: Loss::CrossEntropy(CrossEntropyOptions { label_smoothing: args.label_smoothing, ..Default::default() }),
            memory: args.memory.map_or(target.memory, Into::into),
            gemm_only: target.gemm_only,
            update: update(args),
            momentum: !args.no_momentum,
            in_place: Some(file),
            ..Setup::inference(network, purpose.batch, args.side())
        };
        match &purpose.trainable {
            None => Setup { mode: Mode::Eval, loss: Loss::None, trainable: union.into(), ..setup },
            Some(what) => Setup { trainable: what.clone(), ..setup },
        }
    });
    let setups: Vec<Setup> = setups.collect();
    setups.iter().try_for_each(Setup::check_trainable)?;
    let mut graphs = Vec::<Graph>::new();
    let mut kept = Vec::<(Option<ValueId>, [ValueId; 2])>::new();
    for setup in &setups {
        let (graph, values) = setup.record()?;
        graphs.push(graph);
        kept.push((values.root, [values.prediction, values.features]));
    }
    let hold = |_: &str| false;
    let mut entries = 0;
    graphs[0].each_entry(|_, _| entries += 1);
    let rooms = rooms(&args.region, entries);
    let banks: Vec<plan::Region> = args.region.iter().zip(&rooms).map(|(r, bytes)| plan::Region { name: &r.name, bytes: *bytes }).collect();
    // One region is as large as it must be: how much that is, is told.
    let banks = if banks.len() > 1 { &banks[..] } else { &[] };
    let steps = setups.iter().zip(&graphs).zip(&kept).zip(purposes);
    let steps: Vec<(&str, Step)> = steps
        .map(|(((setup, graph), (root, keep)), purpose)| {
            (purpose.name.as_str(), setup.step(graph, *root, keep, &hold).regions(banks).within(args.max_mem))
        })
        .collect();
    bundle(&steps).map_err(|e| match e {
        nunatak_nn::Error::Region { name, given, needed } => {
            let bytes = args.region.iter().find(|region| region.name == name.as_str()).map_or(given, |region| region.bytes);
            too_small(name.as_str(), bytes, bytes + (needed - given), "")
        }
        nunatak_nn::Error::Budget { asked, least } => {
            // Alone a program takes no more than in the bundle.
            let over = steps.iter().find(|(_, step)| step.plan().is_err()).map_or("a program", |(name, _)| *name);
            Failure::Failed(format!("--max-mem {asked}: {over} takes {least} bytes at least. A smaller --batch, --micro-batch or --size, less that is --trainable, or --no-momentum takes less"))
        }
        e => e.into(),
    })
}

/// Bytes of each region for a plan: without what a trainer takes besides, and what is lost where it does not begin at
/// a multiple of 64.
fn rooms(regions: &[Region], entries: usize) -> Vec<usize> {
    let last = regions.len() - 1;
    let besides = |i: usize| arena::ALIGN - 1 + if i == last { super::c::TRAINER_BYTES + entries } else { 0 };
    regions.iter().enumerate().map(|(i, region)| region.bytes.saturating_sub(besides(i))).collect()
}

/// The error of a region that is too small.
fn too_small(name: &str, bytes: usize, needed: usize, of: &str) -> Failure {
    Failure::Failed(format!(
        "region {name}: it has {bytes} bytes, {needed} are needed{of}: {} too few. A smaller --batch, --micro-batch or --size, less that is --trainable, or \
         --no-momentum takes less",
        needed - bytes
    ))
}

impl Exported {
    /// The bundle.
    pub(super) fn programs(&self) -> Vec<Program<'_>> {
        let bundle = self.checked();
        (0..bundle.count()).map(|i| bundle.program(i)).collect()
    }

    fn checked(&self) -> Bundle<'_> {
        Bundle::check(&self.bundle).expect("written a moment ago")
    }

    /// Bytes of the largest program's block in one piece.
    pub(super) fn most_bytes(&self) -> usize {
        self.programs().iter().map(|program| arena::block_bytes(program.block_len())).max().unwrap_or(0)
    }

    /// Bytes that a program takes of a region, wherever that begins.
    pub(super) fn bytes_of(program: &Program, region: usize) -> usize {
        match program.region(region).range.len() {
            0 => 0,
            numbers => arena::block_bytes(numbers),
        }
    }

    /// Bytes that the largest of the programs takes of a region.
    pub(super) fn region_bytes(&self, region: usize) -> usize {
        self.programs().iter().map(|program| Exported::bytes_of(program, region)).max().unwrap_or(0)
    }

    /// Bytes of a region that last from step to step.
    pub(super) fn lasting_bytes(&self, region: usize) -> usize {
        let lasting = self.checked().lasting_len();
        let range = self.programs()[0].region(region).range;
        4 * range.end.min(lasting).saturating_sub(range.start)
    }

    /// The routines that the programs call, each once.
    pub(super) fn routines(&self) -> Vec<&'static Listed> {
        let programs = self.programs();
        let due: BTreeSet<_> = programs.iter().flat_map(needed).collect();
        Table::ALL.listed().filter(|listed| due.contains(&(listed.code(), listed.part()))).collect()
    }

    /// Bytes of a region that C's trainer takes with the largest program.
    pub(super) fn c_bytes(&self, region: usize) -> usize {
        let entries = self.programs()[0].entry_count();
        let front = if region + 1 == self.regions.len() { super::c::TRAINER_BYTES + entries } else { 0 };
        self.region_bytes(region) + front
    }

    fn check_room(&self) -> Result<(), Failure> {
        let programs = self.programs();
        self.regions.iter().enumerate().try_for_each(|(i, Region { name, bytes })| {
            let needed = self.c_bytes(i);
            if needed <= *bytes {
                return Ok(());
            }
            let of = self.purposes.iter().zip(&programs).max_by_key(|(_, program)| Exported::bytes_of(program, i));
            Err(too_small(name, *bytes, needed, &of.map_or(String::new(), |(p, _)| format!(" ({} is the largest program)", p.name))))
        })
    }
}
