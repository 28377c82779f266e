//! `nunatak convert`: from one weights format to another.

use super::inspect::{format_name, printable, read};
use crate::failure::Failure;
use crate::outln;
use nunatak_nn::checkpoint::{Checkpoint, Dtype, Entry, Format, ReadError, write_pth, write_safetensors};
use nunatak_nn::state::{State, Values};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Options of `nunatak convert`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A .pth (either form) or .safetensors; of a training checkpoint the state_dict is taken, the rest left out
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where to write; .pth or .safetensors says in which format
    #[arg(value_name = "OUT")]
    output: PathBuf,
}

/// The formats that can be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Pth,
    Safetensors,
}

impl Target {
    fn of(path: &Path) -> Result<Target, Failure> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("pth") => Ok(Target::Pth),
            Some("safetensors") => Ok(Target::Safetensors),
            _ => Err(Failure::usage(format_args!(
                "{}: end OUT with .pth or .safetensors, which says in which format to write",
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
    for entry in file.entries() {
        let values = values(entry).map_err(fail)?;
        let (from, to) = (entry.dtype().name(), if let Values::F32(_) = values { "F32" } else { "I64" });
        if from != to {
            *changed.entry([from, to]).or_default() += 1;
        }
        state.tensors.push((entry.name().to_string(), entry.shape().to_vec(), values));
    }
    let written = match target {
        Target::Pth => write_pth(&args.output, &state.views()),
        Target::Safetensors => {
            let mut metadata = file.metadata().clone();
            if file.format() != Format::Safetensors {
                // The mark by which Python's libraries know tensors of PyTorch.
                metadata.insert("format".into(), "pt".into());
            }
            write_safetensors(&args.output, &state.views(), &metadata)
        }
    };
    written.map_err(|e| Failure::Failed(e.to_string()))?;

    let format = if target == Target::Pth { Format::PthZip } else { Format::Safetensors };
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
