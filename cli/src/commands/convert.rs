//! `nunatak convert`: from one weights format to another.

use super::inspect::format_name;
use crate::about::About;
use crate::args::Reading;
use crate::failure::Failure;
use crate::frozen;
use crate::model::{BASE_KEY, ModelFile, OutFormat, View, save};
use crate::outln;
use crate::output::printable;
use crate::published;
use crate::setup::Network;
use crate::weights;
use nunatak_nn::files::heapless::BESIDE;
use nunatak_nn::files::state::{RECIPE_KEY, State, Values};
use nunatak_nn::files::{Checkpoint, Dtype, Entry, Format, ReadError, write_native, write_pth, write_safetensors};
use nunatak_nn::{Native, Program};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Options of `nunatak convert`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A .pth (either form), .safetensors or .nunatak, or the name of published weights, as of `nunatak finetune`; of a
    /// training checkpoint the state_dict is taken, the rest left out
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where to write; .pth, .safetensors or .nunatak says in which format
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Of a delta: the .nunatak that it was made over
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Of a file with several state dicts: the keys that lead to the one that is meant, with dots between
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Of --frozen: what stays trainable, and is not converted: head, or names and prefixes of parameters with commas
    /// between; none where the network is for predictions alone
    #[arg(long, default_value = "head", requires = "frozen")]
    trainable: String,
    #[command(flatten)]
    int8: frozen::Options,
    /// Of --frozen: height and width of the images that the network sees [default: as the file says, or 224]
    #[arg(long, requires = "frozen", value_parser = clap::value_parser!(u32).range(1..=8192))]
    size: Option<u32>,
    #[command(flatten)]
    reading: Reading,
}

/// An entry's numbers in the types that are written.
fn values(entry: &Entry) -> Result<Values, ReadError> {
    if entry.name().ends_with(".num_batches_tracked") && entry.len() == 1 {
        return Ok(Values::I64(vec![entry.read_count()?]));
    }
    if entry.dtype().is_float() {
        let mut out = Vec::new();
        entry.read_f32(&mut out)?;
        return Ok(Values::F32(out));
    }
    if entry.dtype() == Dtype::I32 {
        return entry.read_words().map(Values::I32);
    }
    entry.read_i64().map(Values::I64)
}

/// The file that a delta is laid over, if it is one; found to be the right one.
fn base(args: &Args, file: &Checkpoint) -> Result<Option<(PathBuf, Vec<u8>)>, Failure> {
    let Some(due) = file.native().and_then(|delta| delta.base()) else {
        return match &args.base {
            Some(_) => Err(Failure::usage(format_args!("--base: {} is no delta", args.input.display()))),
            None => Ok(None),
        };
    };
    let Some(path) = &args.base else {
        return Err(Failure::usage(format_args!(
            "{} is a delta over weights with the hash {due}: name them with --base",
            args.input.display()
        )));
    };
    let bytes = weights::read(path)?;
    let native = Native::parse(&bytes).map_err(|e| Failure::with(path.display(), e))?;
    if native.hash() != due {
        return Err(Failure::with(path.display(), nunatak_nn::Error::WrongBase { expected: due, got: native.hash() }));
    }
    Ok(Some((path.clone(), bytes)))
}

/// The network of a native file that is to be written: a program of it.
fn network(args: &Args, file: &Checkpoint, base: Option<&Checkpoint>) -> Result<Program<'static>, Failure> {
    let network = Network::of(file, base).map_err(|e| Failure::with(args.input.display(), e))?;
    network.program().map_err(|e| Failure::with(args.input.display(), e))
}

/// What travels with the weights: the file's metadata, and class names and view that lie beside it.
fn about(path: &Path, file: &Checkpoint) -> Result<BTreeMap<String, String>, Failure> {
    let mut metadata = file.metadata().clone();
    // The base is laid under, and a state dict is no run that could go on.
    metadata.remove(BASE_KEY);
    metadata.remove("nunatak.training");
    metadata.extend(About::of(path, file)?.metadata());
    Ok(metadata)
}

/// What a native file says besides: all but what its head says itself.
fn native_metadata(mut metadata: BTreeMap<String, String>) -> BTreeMap<String, String> {
    metadata.retain(|key, _| ![RECIPE_KEY, "format"].contains(&key.as_str()));
    metadata
}

/// What is written, and what became of it on the way.
#[derive(Default)]
struct Taken {
    state: State,
    /// What changed its type: from, to, how many entries.
    changed: BTreeMap<[&'static str; 2], usize>,
    /// Entries whose numbers are not read.
    unread: Vec<String>,
    /// Momentum and averages of a run, which are no part of a state dict.
    beside: usize,
}

impl Taken {
    fn of<'e, 'f: 'e>(file: &Checkpoint, entries: impl Iterator<Item = &'e Entry<'f>>) -> Result<Taken, ReadError> {
        let mut taken = Taken::default();
        for entry in entries {
            if !entry.is_read() {
                taken.unread.push(format!("{} ({})", printable(entry.name()), entry.dtype().name()));
                continue;
            }
            let of = BESIDE.iter().find_map(|prefix| entry.name().strip_prefix(prefix));
            if of.is_some_and(|of| file.get(of).is_some()) {
                taken.beside += 1;
                continue;
            }
            let values = values(entry)?;
            let to = match values {
                Values::F32(_) => "F32",
                Values::I64(_) => "I64",
                Values::I32(_) => "I32",
            };
            let from = entry.dtype().name();
            if from != to {
                *taken.changed.entry([from, to]).or_default() += 1;
            }
            taken.state.tensors.push((entry.name().to_string(), entry.shape().to_vec(), values));
        }
        Ok(taken)
    }
}

/// Runs it.
///
/// # Errors
/// [`Failure::Usage`] where OUT names no format; [`Failure::Failed`] where a file can't be read or
/// written, or holds several state dicts of which none was named. OUT is then as it was.
pub fn run(args: &Args) -> Result<(), Failure> {
    let target = OutFormat::of(&args.output)?;
    let args = &Args { input: published::find(&args.input, None)?, ..args.clone() };
    let bytes = weights::read(&args.input)?;
    let fail = |e: ReadError| Failure::with(args.input.display(), e);
    let file = weights::parse(&args.input, &bytes, args.key.as_deref())?;
    if let Some(several) = file.ambiguity() {
        return Err(fail(several.clone()));
    }
    let below = base(args, &file)?;
    let below = below.as_ref().map(|(path, bytes)| Checkpoint::parse(bytes).map_err(|e| Failure::with(path.display(), e))).transpose()?;
    let lower = below.iter().flat_map(|base| base.entries()).filter(|entry| file.get(entry.name()).is_none());
    let taken = Taken::of(&file, lower.chain(file.entries())).map_err(fail)?;
    if args.int8.frozen.is_some() {
        return quantized(args, target);
    }
    if taken.state.tensors.is_empty() && !taken.unread.is_empty() {
        let what = format!("none of its tensors can be written: {}", taken.unread.join(", "));
        return Err(Failure::with(args.input.display(), what));
    }
    let views = taken.state.views();
    let written = match target {
        OutFormat::Pth => write_pth(&args.output, &views, &about(&args.input, &file)?),
        OutFormat::Native => {
            let metadata = native_metadata(about(&args.input, &file)?);
            write_native(&args.output, &network(args, &file, below.as_ref())?, &views, &metadata).map(drop)
        }
        OutFormat::Safetensors => {
            let mut metadata = about(&args.input, &file)?;
            if file.format() != Format::Safetensors {
                // The mark by which Python's libraries know tensors of PyTorch.
                metadata.insert("format".into(), "pt".into());
            }
            write_safetensors(&args.output, &views, &metadata)
        }
    };
    written.map_err(|e| Failure::Failed(e.to_string()))?;
    report(&args.input, &args.output, &file, &taken, target)
}

/// Writes the network with layers of 8 bits.
fn quantized(args: &Args, target: OutFormat) -> Result<(), Failure> {
    let file = ModelFile::open(&args.input, args.base.as_deref(), false)?.with_key(args.key.clone());
    let model = file.parse(args.reading.asked()?)?;
    let view = args.size.filter(|size| Some(*size) != model.view.map(|view| view.size)).map(View::of);
    let view = view.or(model.view).unwrap_or(View::of(224));
    let threads = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
    let entries = args.int8.rewrite(&model, &args.trainable, view, threads, &[], |trainer, about| {
        save(&args.output, trainer, about, None)?;
        Ok(trainer.program().entries().count())
    })?;
    outln!("{}: {entries} entries, {}", args.output.display(), format_name(target.format()))
}

fn report(input: &Path, output: &Path, file: &Checkpoint, taken: &Taken, target: OutFormat) -> Result<(), Failure> {
    outln!("{}: {} entries, {}", input.display(), taken.state.tensors.len(), format_name(file.format()))?;
    for remark in file.remarks() {
        outln!("  note: {}", printable(remark))?;
    }
    for ([from, to], count) in &taken.changed {
        outln!("  {count} of type {from} became {to}{}", if *from == "F64" { ", rounded to the nearest" } else { "" })?;
    }
    if taken.beside > 0 {
        outln!("  left out: {} entries of momentum and averages", taken.beside)?;
    }
    if !taken.unread.is_empty() {
        outln!("  left out, since their numbers are not read: {}", taken.unread.join(", "))?;
    }
    outln!("{}: {}", output.display(), format_name(target.format()))
}
