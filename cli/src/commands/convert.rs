//! `nunatak convert`: from one weights format to another.

use super::inspect::{format_name, printable, read};
use crate::failure::Failure;
use crate::model::BASE_KEY;
use crate::outln;
use nunatak_nn::checkpoint::{Checkpoint, Dtype, Entry, Format, ReadError, write_native, write_pth, write_safetensors};
use nunatak_nn::state::{RECIPE_KEY, State, Values, recipe_of};
use nunatak_nn::{Native, Network};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Options of `nunatak convert`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A .pth (either form), .safetensors or .nunatak; of a training checkpoint the state_dict is taken, the rest
    /// left out
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where to write; .pth, .safetensors or .nunatak says in which format
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Of a delta: the .nunatak that it was made over
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
}

/// The formats that can be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Pth,
    Safetensors,
    Native,
}

impl Target {
    fn of(path: &Path) -> Result<Target, Failure> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("pth") => Ok(Target::Pth),
            Some("safetensors") => Ok(Target::Safetensors),
            Some("nunatak") => Ok(Target::Native),
            _ => Err(Failure::usage(format_args!(
                "{}: end OUT with .pth, .safetensors or .nunatak, which says in which format to write",
                path.display()
            ))),
        }
    }
}

/// An entry's numbers in the types that are written.
fn values(entry: &Entry) -> Result<Values, ReadError> {
    match entry.dtype() {
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
            let mut out = Vec::new();
            entry.read_f32(&mut out)?;
            Ok(Values::F32(out))
        }
        Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8 | Dtype::Bool => entry.read_i64().map(Values::I64),
    }
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
    let bytes = read(path)?;
    let native = Native::parse(&bytes).map_err(|e| Failure::with(path.display(), e))?;
    if native.hash() != due {
        return Err(Failure::with(path.display(), nunatak_nn::Error::WrongBase { expected: due, got: native.hash() }));
    }
    Ok(Some((path.clone(), bytes)))
}

/// The network of a native file that is to be written.
fn network(args: &Args, file: &Checkpoint) -> Result<Network, Failure> {
    let recipe = match file.native() {
        Some(native) => *native.recipe(),
        None => recipe_of(file).map_err(|e| Failure::with(args.input.display(), e))?,
    };
    Network::new(recipe).map_err(|e| Failure::with(args.input.display(), e))
}

/// What a native file says besides: all but what its head says itself.
fn metadata(file: &Checkpoint) -> BTreeMap<String, String> {
    let own = |key: &str| [RECIPE_KEY, BASE_KEY, "format"].contains(&key);
    file.metadata().iter().filter(|(key, _)| !own(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Runs it.
///
/// # Errors
/// [`Failure::Usage`] where OUT names no format; [`Failure::Failed`] where a file can't be read or
/// written. OUT is then as it was.
pub fn run(args: &Args) -> Result<(), Failure> {
    let target = Target::of(&args.output)?;
    let bytes = read(&args.input)?;
    let fail = |e: ReadError| Failure::with(args.input.display(), e);
    let file = Checkpoint::parse(&bytes).map_err(fail)?;

    let mut state = State::default();
    // What changed its type: from, to, how many entries.
    let mut changed: BTreeMap<[&str; 2], usize> = BTreeMap::new();
    let below = base(args, &file)?;
    let below = below.as_ref().map(|(path, bytes)| Checkpoint::parse(bytes).map_err(|e| Failure::with(path.display(), e))).transpose()?;
    let lower = below.iter().flat_map(|base| base.entries()).filter(|entry| file.get(entry.name()).is_none());
    for entry in lower.chain(file.entries()) {
        let values = values(entry).map_err(fail)?;
        let (from, to) = (entry.dtype().name(), if let Values::F32(_) = values { "F32" } else { "I64" });
        if from != to {
            *changed.entry([from, to]).or_default() += 1;
        }
        state.tensors.push((entry.name().to_string(), entry.shape().to_vec(), values));
    }
    let written = match target {
        Target::Pth => write_pth(&args.output, &state.views()),
        Target::Native => write_native(&args.output, &network(args, &file)?, &state.views(), &metadata(&file)).map(drop),
        Target::Safetensors => {
            let mut metadata = file.metadata().clone();
            metadata.remove(BASE_KEY);
            if file.format() != Format::Safetensors {
                // The mark by which Python's libraries know tensors of PyTorch.
                metadata.insert("format".into(), "pt".into());
            }
            write_safetensors(&args.output, &state.views(), &metadata)
        }
    };
    written.map_err(|e| Failure::Failed(e.to_string()))?;

    let format = match target {
        Target::Pth => Format::PthZip,
        Target::Safetensors => Format::Safetensors,
        Target::Native => Format::Native,
    };
    outln!("{}: {} entries, {}", args.input.display(), state.tensors.len(), format_name(file.format()))?;
    for ([from, to], count) in &changed {
        outln!("  {count} of type {from} became {to}{}", if *from == "F64" { ", rounded to the nearest" } else { "" })?;
    }
    if target == Target::Pth && !file.metadata().is_empty() {
        let keys: Vec<String> = file.metadata().keys().map(|k| printable(k)).collect();
        outln!("  metadata left out, for which .pth has no place: {}", keys.join(", "))?;
    }
    outln!("{}: {}", args.output.display(), format_name(format))
}
