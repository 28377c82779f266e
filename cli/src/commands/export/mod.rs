//! `nunatak export`: a network as a folder that is added to the firmware of a board: programs, weights, numbers, a
//! self-test. Or as one file of ONNX, for other programs.

mod c;
mod golden;
mod names;
mod onnx;
mod plan;
mod report;
mod rust;
mod selftest;
mod target;

use crate::args::{MemoryArg, UpdateArg};
use crate::commands::finetune::{Accumulate, Statistics};
use crate::failure::Failure;
use crate::frozen;
use crate::max_mem::bytes;
use crate::model::replace;
use crate::output;
use names::Names;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use target::TargetArg;

/// Options of `nunatak export`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// resnet8, mobilenet_v2, resnet18 and the other names of `nunatak step`, a recipe in JSON, or a file with one; the
    /// network of --weights where not given
    #[arg(long, required_unless_present = "weights")]
    arch: Option<String>,
    /// Classes; wins over a recipe's own
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    classes: Option<u32>,
    /// State dict (.pth, .safetensors or .nunatak), or the name of published weights, as of `nunatak finetune`; drawn from
    /// the seed where not given
    #[arg(long, value_name = "FILE_OR_NAME")]
    weights: Option<PathBuf>,
    /// Seed of what is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What a program trains: all, head, or names and prefixes of parameters with commas between. Given several times
    /// there are several programs; one that predicts is always there
    #[arg(long, default_value = "head")]
    trainable: Vec<String>,
    /// Images of a batch that is trained on
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    batch: u32,
    /// Images that are computed at a time: the programs that train are for so many, and a step of --batch images is
    /// several calls that accumulate, then an update [default: --batch]
    #[arg(long, value_name = "IMAGES", value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    micro_batch: Option<u32>,
    /// Where gradients of micro-batches are added up [default: gradient]
    #[arg(long, value_enum, requires = "micro_batch", conflicts_with = "no_momentum")]
    accumulate: Option<Accumulate>,
    /// Plan every program so that it takes at most BYTES of all regions together (200K, 8M; powers of 1024), and each region
    /// what it has: values of the forward walk are computed again in the backward walk instead of being kept, which takes
    /// longer and gives the same bits
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_mem: Option<usize>,
    #[command(flatten)]
    int8: frozen::Options,
    /// Images that are predicted at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    predict_batch: u32,
    /// Height and width of the images [default: 32; with --onnx as the model was trained, or 224]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 14))]
    size: Option<u32>,
    /// What frozen batchnorm does in training
    #[arg(long, value_enum, default_value = "fixed")]
    bn_statistics: Statistics,
    /// How much of a target is spread over all classes, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    label_smoothing: f32,
    /// When parameters are updated; the bits are the same [default: during; after, with --micro-batch]
    #[arg(long, value_enum, conflicts_with = "micro_batch")]
    update: Option<UpdateArg>,
    /// No momentum: a buffer less for every trained parameter
    #[arg(long)]
    no_momentum: bool,
    /// The processor
    #[arg(long, value_enum, required_unless_present = "onnx")]
    target: Option<TargetArg>,
    /// Memory or speed: `small` takes some 500 kB of scratch more than `tiny`, and 2 % fewer instructions where the head
    /// is trained, 15 % where everything is [default: tiny; fast for a64]
    #[arg(long, value_enum)]
    memory: Option<MemoryArg>,
    /// Memory for the trainer: a name and bytes, as ram=200K (1K is 1024 bytes, 1M is 1024K). Given several times they
    /// are the banks of a board, the fastest first: what is used most often lies there, what lasts in the slowest
    #[arg(long, value_name = "NAME=BYTES", required_unless_present = "onnx")]
    region: Vec<Region>,
    /// What functions, constants and files are called; the network's name where not given
    #[arg(long)]
    name: Option<String>,
    /// The linker's section for programs and weights in C
    #[arg(long, conflicts_with = "rust")]
    section: Option<String>,
    /// Weights as a file of bytes for flash, not as a C array
    #[arg(long, conflicts_with = "rust")]
    raw: bool,
    /// A Rust module instead of C
    #[arg(long)]
    rust: bool,
    /// The folder; files in it that an export writes are written anew
    #[arg(long, value_name = "DIR", required_unless_present = "onnx")]
    out: Option<PathBuf>,
    /// Write the network for inference to FILE as ONNX, instead of a folder for a board: weights with PyTorch's names, any
    /// number of images; class names, size, resize, mean and deviation in the file's metadata
    #[arg(long, value_name = "FILE", conflicts_with_all = BOARDS, help_heading = "ONNX")]
    onnx: Option<PathBuf>,
    /// Replace FILE if it is there
    #[arg(long, help_heading = "ONNX")]
    overwrite: bool,
    /// How the first convolution goes, of which a .pth tells the size alone: KERNEL:STRIDE:PAD, and :pool where
    /// max-pooling follows
    #[arg(long, value_name = "K:S:P[:pool]", requires = "weights", help_heading = "ONNX")]
    stem: Option<String>,
    /// Of a delta: the .nunatak that it was made over; the file of that name beside it where not given
    #[arg(long, value_name = "FILE", requires = "weights", help_heading = "ONNX")]
    base: Option<PathBuf>,
    /// Of weights with several state dicts: the keys that lead to the one that is meant, with dots between
    #[arg(long, value_name = "NAME", requires = "weights", help_heading = "ONNX")]
    key: Option<String>,
}

/// Options that mean nothing without a board.
const BOARDS: [&str; 21] = [
    "frozen",
    "calibrate",
    "calibrate_images",
    "trainable",
    "batch",
    "micro_batch",
    "accumulate",
    "max_mem",
    "predict_batch",
    "bn_statistics",
    "label_smoothing",
    "update",
    "no_momentum",
    "target",
    "memory",
    "region",
    "name",
    "section",
    "raw",
    "rust",
    "out",
];

/// Options that mean nothing without a file of ONNX.
const ONNX: [&str; 4] = ["overwrite", "stem", "base", "key"];

impl Args {
    /// Height and width of the images that a board sees.
    fn side(&self) -> usize {
        self.size.unwrap_or(32) as usize
    }
}

/// Memory of a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// What it is called.
    pub name: String,
    /// Its length.
    pub bytes: usize,
}

impl FromStr for Region {
    type Err = String;

    fn from_str(text: &str) -> Result<Region, String> {
        let (name, size) = text.split_once('=').ok_or("expected NAME=BYTES, as ram=200K")?;
        let bytes = bytes(size).ok().filter(|bytes| *bytes < 1 << 31);
        bytes.map(|bytes| Region { name: name.into(), bytes }).ok_or(format!("{size:?}: expected 1 to 2047M bytes"))
    }
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    if args.onnx.is_none() {
        // Said here: clap lets pass what requires an option that conflicts with others that were given.
        let given = [args.overwrite, args.stem.is_some(), args.base.is_some(), args.key.is_some()];
        if let Some((_, option)) = given.iter().zip(ONNX).find(|(given, _)| **given) {
            return Err(Failure::usage(format_args!("--{option}: goes with --onnx; a folder for a board has no such choice")));
        }
    }
    match (&args.onnx, args.target, &args.out) {
        (Some(path), ..) => onnx::run(args, path),
        (None, Some(target), Some(out)) => board(args, target, out),
        (None, ..) => Err(Failure::usage("--target and --out: name the board and a folder, or a file with --onnx")),
    }
}

/// Writes the folder for a board.
fn board(args: &Args, target: TargetArg, out: &Path) -> Result<(), Failure> {
    if !(0.0..=1.0).contains(&args.label_smoothing) {
        return Err(Failure::usage(format_args!("--label-smoothing {}: expected 0 to 1", args.label_smoothing)));
    }
    let exported = plan::export(args, target)?;
    let names = Names::new(args.name.as_deref().unwrap_or(exported.network.name()), &exported.regions)?;
    let traces = golden::traces(&exported)?;
    let name = &names.lower;
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |file: String, bytes: &[u8]| files.push((file, bytes.to_vec()));
    if args.rust {
        add(format!("{name}.rs"), rust::module(&exported, &names, &traces).as_bytes());
        add(format!("{name}.bundle"), &exported.bundle);
        add(format!("{name}.nunatak"), exported.weights.bytes());
    } else {
        add(format!("{name}.h"), c::header(&exported, &names).as_bytes());
        add(format!("{name}.c"), c::source(&exported, &names, args.section.as_deref(), args.raw).as_bytes());
        add("selftest.h".into(), selftest::header(&names).as_bytes());
        add("selftest.c".into(), selftest::source(&exported, &names, &traces).as_bytes());
        if args.raw {
            add(format!("{name}_weights.bin"), exported.weights.bytes());
        }
    }
    add("README.md".into(), report::readme(&exported, &names, args).as_bytes());
    std::fs::create_dir_all(out).map_err(|e| Failure::with(out.display(), e))?;
    files.iter().try_for_each(|(file, bytes)| replace(&out.join(file), bytes))?;
    output::write(format_args!("{}", report::table(&exported)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new option must be one of a board, of ONNX, or of both.
    #[test]
    fn options_of_boards_do_not_go_with_onnx() {
        use clap::{Args as _, Command};
        let command = Args::augment_args(Command::new("export"));
        let onnx = command.get_arguments().find(|arg| arg.get_id() == "onnx").expect("the option");
        let refused: Vec<&str> = command.get_arg_conflicts_with(onnx).iter().map(|arg| arg.get_id().as_str()).collect();
        let both = [&["arch", "classes", "weights", "seed", "size", "onnx"][..], &ONNX].concat();
        for arg in command.get_arguments().map(|arg| arg.get_id().as_str()) {
            assert_ne!(refused.contains(&arg), both.contains(&arg), "--{arg}");
        }
    }

    #[test]
    fn regions_have_a_name_and_bytes() {
        let of = |text: &str| text.parse::<Region>().map(|region| (region.name, region.bytes));
        assert_eq!(of("ram=200K"), Ok(("ram".into(), 200 << 10)));
        assert_eq!(of("psram=8M"), Ok(("psram".into(), 8 << 20)));
        assert_eq!(of("dtcm=131072"), Ok(("dtcm".into(), 131_072)));
        for wrong in ["ram", "ram=", "ram=0", "ram=K", "ram=1KK", "ram=-1", "ram=1.5M", "ram=4000M", "ram=99999999999999999999"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
