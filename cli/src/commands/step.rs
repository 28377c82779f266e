//! `nunatak step`: training steps from files, with everything written out, for comparison with other
//! frameworks.

use crate::args::{self, Compute, MemoryArg, UpdateArg};
use crate::block;
use crate::commands::finetune::Accumulate;
use crate::failure::Failure;
use crate::paths::refuse_same;
use crate::published;
use crate::setup::{Network, Plan, Setup, trains};
use crate::weights::{self, Backbone};
use clap::ValueEnum;
use nunatak_core::program::Call;
use nunatak_nn::files::state::{State, Values};
use nunatak_nn::files::{Checkpoint, Dtype, Head, write_safetensors};
use nunatak_nn::step::{call_name, call_operation};
use nunatak_nn::{
    CrossEntropyOptions, EntryId, Event, Loss, Mode, Native, Optimizer, Program, Sgd, Threads, Trainer, Update, Usual, ValueId,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Options of `nunatak step`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// resnet18, resnet34, resnet50, resnet101, resnet152, resnext50_32x4d, resnext101_32x8d, wide_resnet50_2,
    /// wide_resnet101_2, mobilenet_v2, mobilenet_v3_small, resnet8, a recipe in JSON, or a file with one
    #[arg(long, default_value = "resnet18")]
    pub(super) arch: String,
    /// Classes; wins over a recipe's own
    #[arg(long)]
    pub(super) classes: Option<usize>,
    /// State dict (.pth, .safetensors or .nunatak), or the name of published weights, as of `nunatak finetune`; drawn from
    /// the seed where not given
    #[arg(long, value_name = "FILE_OR_NAME")]
    pub(super) weights: Option<PathBuf>,
    /// Of weights with several state dicts: the keys that lead to the one that is meant, with dots between
    #[arg(long, value_name = "NAME", requires = "weights")]
    pub(super) key: Option<String>,
    /// Read what is frozen where it lies in the mapped .nunatak, and keep in memory only what is trained
    #[arg(long, requires = "weights")]
    pub(super) in_place: bool,
    /// safetensors with `input` (f32, n x c x h x w) and `labels` (f32 [n, classes], or i64 [n] for cross-entropy)
    #[arg(long)]
    pub(super) input: PathBuf,
    /// What is made small
    #[arg(long, default_value = "sum")]
    pub(super) loss: LossArg,
    /// Statistics of the batch, or the running ones
    #[arg(long, default_value = "train")]
    pub(super) mode: ModeArg,
    /// all, none (forward only), or names and prefixes of parameters with commas between
    #[arg(long, default_value = "all")]
    pub(super) trainable: String,
    /// Learning rate
    #[arg(long, default_value_t = 0.01, allow_negative_numbers = true)]
    pub(super) lr: f32,
    /// Momentum
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub(super) momentum: f32,
    /// Dampening of the momentum
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub(super) dampening: f32,
    /// Weight decay
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub(super) weight_decay: f32,
    /// Nesterov's momentum
    #[arg(long)]
    pub(super) nesterov: bool,
    /// Make the loss large instead
    #[arg(long)]
    pub(super) maximize: bool,
    /// Drop nothing in train mode: other frameworks draw other numbers
    #[arg(long)]
    pub(super) no_dropout: bool,
    /// Also write the features, and as forward.NAME what these layers gave in the first step: names with commas between, or
    /// all that have parameters
    #[arg(long, value_delimiter = ',', value_name = "NAMES", conflicts_with = "micro_batch")]
    pub(super) layers: Vec<String>,
    /// Compute every operation in a pass of its own
    #[arg(long)]
    pub(super) no_fuse: bool,
    /// Number of steps
    #[arg(long, default_value_t = 1)]
    pub(super) steps: usize,
    #[command(flatten)]
    pub(super) compute: Compute,
    /// Algorithm of the convolutions: a name, or pass=name with commas between
    #[arg(long)]
    pub(super) algorithm: Option<String>,
    /// When parameters are updated; the bits are the same [default: after]
    #[arg(long, value_enum, conflicts_with = "micro_batch")]
    pub(super) update: Option<UpdateArg>,
    /// Compute so many images at a time, and add up the gradients of the whole batch: PyTorch's loop that weighs each
    /// part's loss by its share and calls backward. Batchnorm sees the parts
    #[arg(long, value_name = "IMAGES", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) micro_batch: Option<u32>,
    /// Where gradients of micro-batches are added up [default: gradient]
    #[arg(long, value_enum, requires = "micro_batch")]
    pub(super) accumulate: Option<Accumulate>,
    /// Memory or speed
    #[arg(long, value_enum, default_value_t)]
    pub(super) memory: MemoryArg,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// safetensors for prediction, grad.*, loss, state.*, momentum.*
    #[arg(long)]
    pub(super) out: PathBuf,
}

/// What is made small.
#[derive(ValueEnum, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LossArg {
    /// (prediction − labels).sum()
    Sum,
    /// The mean of (prediction − labels)²
    Mse,
    /// Cross entropy with class indices or probabilities
    CrossEntropy,
}

/// What normalisations normalise with.
#[derive(ValueEnum, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ModeArg {
    /// Statistics of the batch
    Train,
    /// Running statistics
    Eval,
}

/// Labels as the loss takes them.
enum Labels {
    Numbers(Vec<f32>),
    Classes(Vec<i64>),
}

/// Images and labels.
struct Batch {
    /// n, c, h, w
    shape: [usize; 4],
    images: Vec<f32>,
    labels: Labels,
}

/// Runs it.
///
/// # Errors
/// [`Failure`]; nothing is written then.
pub fn run(args: &Args) -> Result<(), Failure> {
    if args.in_place {
        args.weights.as_deref().map_or(Ok(()), published::refuse_in_place)?;
    }
    let found = args.weights.as_deref().map(|given| published::find(given, Some(&args.arch))).transpose()?;
    let args = &Args { weights: found, ..args.clone() };
    let weights = args.weights.iter().map(|path| ("--weights", path.clone()));
    refuse_same(&[("--out", args.out.clone())], &weights.chain([("--input", args.input.clone())]).collect::<Vec<_>>())?;
    let out = compute(args)?;
    write_safetensors(&args.out, &out.views(), &BTreeMap::new()).map_err(|e| Failure::with(args.out.display(), e))
}

/// Computes the steps: everything that is written out, in the order of computing.
///
/// # Errors
/// [`Failure`].
pub(super) fn compute(args: &Args) -> Result<State, Failure> {
    let network = args::network(&args.arch, args.classes)?;
    args::check_trainable(&args.trainable, &network)?;
    let optimizer = optimizer(args)?;
    if args.steps == 0 {
        return Err(Failure::usage("--steps 0: expected at least 1"));
    }
    let batch = read_batch(args, &network)?;
    let [n, _, height, width] = batch.shape;
    let (at_once, classes) = (images_at_once(args, n)?, network.classes());
    let file = args.weights.as_deref().filter(|_| args.in_place).map(Backbone::open).transpose()?;
    let lent = file.as_ref().map(Backbone::native).transpose()?;
    let mut setup = Setup {
        size: [height, width],
        mode: if args.mode == ModeArg::Train { Mode::Train } else { Mode::Eval },
        trainable: args.trainable.clone(),
        loss: loss(args.loss, &batch.labels),
        threads: args.compute.thread_count(),
        memory: args.memory.into(),
        update: update(args),
        momentum: args.momentum != 0.0,
        fuse: !args.no_fuse,
        algorithms: args::algorithms(args.algorithm.as_deref())?,
        in_place: lent,
        dropout: !args.no_dropout,
        ..Setup::inference(network, at_once, height)
    };
    let layers = layers(&setup, &args.layers)?;
    setup.keep = layers.iter().map(|layer| layer.value).collect();
    let Plan { program, values, .. } = setup.plan().map_err(|e| Failure::with(args.input.display(), e))?;
    args::report_refused(&program, &setup.algorithms);
    let threads = args.compute.start_threads()?;
    let mut memory = block::reserve(Trainer::bytes(&program))?;
    let trains = trains(&program);
    let trainer = prepare(args, program, &mut memory, &threads, lent)?;
    let mut out = State::default();

    if args.update == Some(UpdateArg::During) && trains {
        // The gradients of the first step are gone when the step is over: they come from a walk that
        // keeps them, on a copy. The bits are the same.
        let Plan { program, values, .. } = Setup { update: Update::After, ..setup }.plan()?;
        let mut memory = block::reserve(Trainer::bytes(&program))?;
        let mut copy = prepare(args, program, &mut memory, &threads, lent)?;
        forward(&mut copy, &values, &batch, 0..n, &args.input)?;
        copy.backward()?;
        push_gradients(&copy, &mut out)?;
    }
    let mut steps = Steps { args, trainer, values, batch, classes, at_once, optimizer, trains, layers };
    let losses = (0..args.steps).map(|step| steps.step(step == 0, &mut out)).collect::<Result<Vec<_>, _>>()?;
    out.tensors.push(("loss".into(), vec![losses.len()], Values::F32(losses)));
    push_state(&steps.trainer, &mut out)?;
    Ok(out)
}

/// Images that are computed at a time, of a batch of `n`.
fn images_at_once(args: &Args, n: usize) -> Result<usize, Failure> {
    let at_once = args.micro_batch.map_or(n, |most| n.min(most as usize));
    if !n.is_multiple_of(at_once) {
        let input = args.input.display();
        return Err(Failure::usage(format_args!("--micro-batch {at_once}: {input} has {n} images, no multiple of it")));
    }
    if args.accumulate == Some(Accumulate::Momentum) && (args.momentum == 0.0 || args.nesterov) {
        return Err(Failure::usage("--accumulate momentum needs a --momentum above 0, and no --nesterov"));
    }
    Ok(at_once)
}

/// When parameters are updated.
fn update(args: &Args) -> Update {
    match (args.micro_batch, args.accumulate) {
        (Some(_), Some(Accumulate::Momentum)) => Update::Summed,
        (Some(_), _) => Update::After,
        (None, _) => args.update.unwrap_or(UpdateArg::After).into(),
    }
}

/// Training steps on one batch.
struct Steps<'a, 'm> {
    args: &'a Args,
    trainer: Trainer<'m>,
    values: Usual,
    batch: Batch,
    classes: usize,
    at_once: usize,
    optimizer: Optimizer<'static>,
    trains: bool,
    layers: Vec<Layer>,
}

impl Steps<'_, '_> {
    /// One step; returns the loss. The first leaves its predictions and, where there are any, its gradients in `out`.
    fn step(&mut self, first: bool, out: &mut State) -> Result<f32, Failure> {
        let n = self.batch.shape[0];
        let (mut loss, mut predictions) = (0.0, Vec::new());
        if self.trains && self.args.update != Some(UpdateArg::During) {
            self.trainer.zero_grad();
        }
        for start in (0..n).step_by(self.at_once) {
            let part = start..start + self.at_once;
            let share = self.batch.share(part.clone(), self.args.loss);
            loss += share * forward(&mut self.trainer, &self.values, &self.batch, part, &self.args.input)?;
            if first {
                push_layers(&self.trainer, &self.values, &self.layers, out)?;
                let len = predictions.len();
                predictions.resize(len + self.at_once * self.classes, 0.0);
                self.trainer.value(self.values.prediction, &mut predictions[len..])?;
            }
            match (self.trains, self.args.micro_batch, self.args.update) {
                (false, ..) => {}
                (true, Some(_), _) => self.trainer.accumulate(share, self.optimizer)?,
                (true, None, Some(UpdateArg::During)) => self.trainer.backward_and_step(self.optimizer)?,
                (true, None, _) => self.trainer.backward()?,
            }
        }
        if first {
            out.tensors.push(("prediction".into(), vec![n, self.classes], Values::F32(predictions)));
        }
        if self.trains && self.args.update != Some(UpdateArg::During) {
            if first && !self.trainer.sums_in_momentum() {
                push_gradients(&self.trainer, out)?;
            }
            self.trainer.step(self.optimizer)?;
        }
        Ok(loss)
    }
}

impl Batch {
    /// The weight of a part's loss in that of the whole batch: 1 in a sum, in a mean its share of the images that count.
    fn share(&self, part: Range<usize>, loss: LossArg) -> f32 {
        let n = self.shape[0];
        match (&self.labels, loss) {
            _ if part.len() == n => 1.0,
            (_, LossArg::Sum) => 1.0,
            (Labels::Classes(classes), _) => {
                let ignored = CrossEntropyOptions::default().ignore_index;
                let count = |classes: &[i64]| classes.iter().filter(|class| **class != ignored).count() as f32;
                count(&classes[part]) / count(classes)
            }
            (Labels::Numbers(_), _) => part.len() as f32 / n as f32,
        }
    }
}

/// The optimiser that the options describe.
fn optimizer(args: &Args) -> Result<Optimizer<'static>, Failure> {
    let sgd = Sgd {
        lr: args.lr,
        momentum: args.momentum,
        dampening: args.dampening,
        weight_decay: args.weight_decay,
        nesterov: args.nesterov,
        maximize: args.maximize,
    };
    Optimizer::new(sgd).map_err(Failure::usage)
}

/// The loss: cross entropy is of classes or of probabilities, as the labels are.
fn loss(loss: LossArg, labels: &Labels) -> Loss {
    match (loss, labels) {
        (LossArg::Sum, _) => Loss::Sum,
        (LossArg::Mse, _) => Loss::MeanSquaredError,
        (LossArg::CrossEntropy, Labels::Classes(_)) => Loss::CrossEntropy(CrossEntropyOptions::default()),
        (LossArg::CrossEntropy, Labels::Numbers(_)) => Loss::CrossEntropyProbabilities(CrossEntropyOptions::default()),
    }
}

/// A layer whose output is written.
struct Layer {
    name: String,
    value: ValueId,
    /// Whether PyTorch's output has two dimensions.
    flat: bool,
}

/// The layers of these names, in the order of computing; `all` are those with parameters.
fn layers(setup: &Setup, names: &[String]) -> Result<Vec<Layer>, Failure> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    // In a fused program a layer has no output of its own.
    let program = Setup { fuse: false, ..setup.clone() }.plan()?.program;
    let layer = |call: Call| {
        let (value, event) = (ValueId(call.node()), Event::Forward(ValueId(call.node())));
        Layer { name: call_name(&program, event).to_string(), value, flat: call_operation(&program, event) == "linear" }
    };
    let mut known: Vec<Layer> = program.forward().filter(|call| call.entry_count() > 0).map(layer).collect();
    if names == ["all"] {
        return Ok(known);
    }
    if let Some(name) = names.iter().find(|name| known.iter().all(|layer| layer.name != **name)) {
        let known: Vec<&str> = known.iter().take(10).map(|layer| layer.name.as_str()).collect();
        return Err(Failure::usage(format_args!("--layers: there is no layer {name:?}; they begin with {}", known.join(", "))));
    }
    known.retain(|layer| names.contains(&layer.name));
    Ok(known)
}

/// What the layers gave, and the features; nothing where no layers are asked for.
fn push_layers(trainer: &Trainer, values: &Usual, layers: &[Layer], out: &mut State) -> Result<(), Failure> {
    let mut push = |name: String, value: ValueId, flat: bool| -> Result<(), Failure> {
        let Some((_, record)) = trainer.program().value_of_node(value.0) else { return Ok(()) };
        let shape = record.shape();
        let mut data = vec![0.0; shape.iter().product()];
        trainer.value(value, &mut data)?;
        out.tensors.push((name, shape[..if flat { 2 } else { 4 }].to_vec(), Values::F32(data)));
        Ok(())
    };
    for layer in layers {
        push(format!("forward.{}", layer.name), layer.value, layer.flat)?;
    }
    if layers.is_empty() { Ok(()) } else { push("features".into(), values.features, true) }
}

/// The state dict and the momenta after the last step.
fn push_state(trainer: &Trainer, out: &mut State) -> Result<(), Failure> {
    for (name, shape, data) in trainer.state().tensors {
        out.tensors.push((format!("state.{name}"), shape, data));
    }
    let program = trainer.program();
    for id in program.entries().filter(|id| trainer.has_momentum(*id)) {
        let mut data = vec![0.0; program.entry(id).numbers()];
        trainer.momentum(id, &mut data)?;
        out.tensors.push((format!("momentum.{}", program.entry(id).name()), shape_of(program, id), Values::F32(data)));
    }
    Ok(())
}

/// A trainer with its weights.
fn prepare<'m>(
    args: &Args,
    program: Program<'m>,
    memory: &'m mut [u8],
    threads: &Threads,
    lent: Option<Native<'m>>,
) -> Result<Trainer<'m>, Failure> {
    if let Some(file) = lent {
        return Ok(Trainer::with_weights(program, memory, file, args.compute.level()?, threads.clone())?);
    }
    let mut trainer = Trainer::new(program, memory, args.compute.level()?, threads.clone())?;
    match &args.weights {
        None => trainer.init(args.seed),
        Some(path) => {
            let bytes = weights::read(path)?;
            let file = weights::parse(path, &bytes, args.key.as_deref())?;
            // Of a trace, which holds the batch too, nothing is assumed.
            if *path == args.input {
                trainer.load(&file, Head::Load).map_err(|e| Failure::with(path.display(), e))?;
                return Ok(trainer);
            }
            weights::load(&mut trainer, path, &file, Head::Load)?;
        }
    }
    Ok(trainer)
}

/// Sets the inputs of some images, computes the loss.
fn forward(trainer: &mut Trainer, values: &Usual, batch: &Batch, part: Range<usize>, input: &Path) -> Result<f32, Failure> {
    let n = batch.shape[0];
    let of = |len: usize| part.start * (len / n)..part.end * (len / n);
    trainer.set_input(values.data, &batch.images[of(batch.images.len())])?;
    if let Some(labels) = values.labels {
        match &batch.labels {
            Labels::Numbers(numbers) => trainer.set_input(labels, &numbers[of(numbers.len())])?,
            Labels::Classes(classes) => trainer.set_labels(labels, &classes[part])?,
        }
    }
    trainer.forward().map_err(|e| Failure::with(input.display(), e))?;
    Ok(values.loss.map_or(Ok(f32::NAN), |loss| trainer.scalar(loss))?)
}

fn shape_of(program: &Program, id: EntryId) -> Vec<usize> {
    let (sizes, rank) = program.entry(id).shape();
    sizes[..rank].to_vec()
}

fn push_gradients(trainer: &Trainer, out: &mut State) -> Result<(), Failure> {
    let program = trainer.program();
    for id in trainer.gradients() {
        let mut data = vec![0.0; program.entry(id).numbers()];
        trainer.gradient(id, &mut data)?;
        out.tensors.push((format!("grad.{}", program.entry(id).name()), shape_of(program, id), Values::F32(data)));
    }
    Ok(())
}

fn read_batch(args: &Args, network: &Network) -> Result<Batch, Failure> {
    let path: &Path = &args.input;
    let bad = |what: String| Failure::with(path.display(), what);
    let bytes = weights::read(path)?;
    let file = Checkpoint::parse_all(&bytes).map_err(|e| bad(e.to_string()))?;
    let input = weights::entry(path, &file, "input")?;
    let labels = weights::entry(path, &file, "labels")?;
    let Ok(shape) = <[usize; 4]>::try_from(input.shape()) else {
        return Err(bad(format!("`input` has the shape {:?}, expected n x c x h x w", input.shape())));
    };
    if input.dtype() != Dtype::F32 {
        return Err(bad(format!("`input` is {}, expected F32", input.dtype().name())));
    }
    if shape[1] != network.in_channels() {
        return Err(bad(format!("`input` has {} channels, the network takes {}", shape[1], network.in_channels())));
    }
    let mut images = Vec::new();
    input.read_f32(&mut images).map_err(|e| bad(e.to_string()))?;
    let matrix = [shape[0], network.classes()];
    let indices = args.loss == LossArg::CrossEntropy && labels.dtype() == Dtype::I64;
    let labels = if indices {
        if labels.shape() != [shape[0]] {
            return Err(bad(format!("`labels` has the shape {:?}, expected [{}]", labels.shape(), shape[0])));
        }
        Labels::Classes(labels.read_i64().map_err(|e| bad(e.to_string()))?)
    } else {
        if labels.dtype() != Dtype::F32 || labels.shape() != matrix {
            let (dtype, due) = (labels.dtype().name(), if args.loss == LossArg::CrossEntropy { " or I64 [n]" } else { "" });
            return Err(bad(format!("`labels` is {dtype} {:?}, expected F32 {matrix:?}{due}", labels.shape())));
        }
        let mut numbers = Vec::new();
        labels.read_f32(&mut numbers).map_err(|e| bad(e.to_string()))?;
        Labels::Numbers(numbers)
    };
    Ok(Batch { shape, images, labels })
}
