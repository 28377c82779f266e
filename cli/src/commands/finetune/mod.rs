//! `nunatak finetune`: a pretrained network learns the classes of a folder.
//!
//! | file | what it does |
//! |---|---|
//! | `settings` | what decides the result: options, defaults, what a resumed run must share |
//! | `rate` | `--schedule` |
//! | `run` | the epochs |
//! | `resume` | `FILE.last`: where a run stands |
//! | `progress`, `log` | what people see, what programs read |

mod log;
mod progress;
mod rate;
mod resume;
mod run;
mod settings;

use crate::args::{Compute, MemoryArg, UpdateArg};
use crate::failure::Failure;
use crate::model::{OutFormat, beside, check_writable};
use settings::Choices;
pub use settings::Statistics;
use std::path::{Path, PathBuf};

/// Options of `nunatak finetune`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Folder of images: train/CLASS/… and val/CLASS/…, or CLASS/… of which a part is put aside
    pub dir: PathBuf,
    /// The pretrained network: .pth (both forms), .safetensors or .nunatak
    #[arg(long, required_unless_present = "resume")]
    pub weights: Option<PathBuf>,
    /// Where the best model by validation goes, .safetensors, .pth or .nunatak; FILE.last holds the newest
    #[arg(long, value_name = "FILE", default_value = "finetuned.safetensors")]
    pub out: PathBuf,
    /// Go on with the run in FILE.last; what is not given is as it was there
    #[arg(long)]
    pub resume: bool,
    /// Read what is frozen where it lies in the mapped .nunatak, and keep in memory only what is trained;
    /// the bits are the same
    #[arg(long, conflicts_with = "resume")]
    pub in_place: bool,
    /// Save in FILE (.nunatak) only what is trained, as a delta over the weights
    #[arg(long, requires = "in_place")]
    pub delta: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub choices: Choices,
    /// Writes a line of JSON per step and epoch to this file (adds to it with --resume)
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Saves FILE.last every N steps too, not only after each epoch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub save_every: Option<u64>,
    /// Saves and ends after N steps of this run, for machines that are lent for a time; go on with --resume
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub stop_after: Option<u64>,
    /// When parameters are updated; no bit depends on it [default: during, after with --clip-grad-norm]
    #[arg(long, value_enum)]
    pub update: Option<UpdateArg>,
    /// Memory or speed
    #[arg(long, value_enum, default_value_t)]
    pub memory: MemoryArg,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,
}

const AFTER: &str = "\
Schedules: `step:SIZE:GAMMA` and `multistep:A,B:GAMMA` count epochs, as PyTorch's StepLR and
MultiStepLR called once an epoch; `cosine[:WARMUP]` and `onecycle` move with every step, over all
epochs; WARMUP is in epochs. `onecycle` is PyTorch's OneCycleLR with max_lr = --lr; momentum stays.

Ctrl-C finishes the step, saves FILE.last and exits with 130; a second one ends at once.
With a .pth the names of the classes go to FILE.classes.json.";

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    // Whatever is wrong with the options is said before anything is read.
    args.choices.settle(None)?.check(args.update)?;
    if args.delta && OutFormat::of(&args.out)? != OutFormat::Native {
        return Err(Failure::usage(format_args!("--delta --out {}: a delta's name ends in .nunatak", args.out.display())));
    }
    OutFormat::of(&args.out)?;
    args.compute.level()?;
    check_distinct(args)?;
    check_writable(&args.out)?;
    check_writable(&last_path(&args.out))?;
    run::run(args)
}

/// Refuses names that would have one file written over another, and a log in the place of something
/// that is no log.
fn check_distinct(args: &Args) -> Result<(), Failure> {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let last = last_path(&args.out);
    let mut files = vec![("--out", args.out.clone()), ("the state beside --out", last)];
    files.extend(args.weights.clone().filter(|_| !args.resume).map(|path| ("--weights", path)));
    files.extend(args.log.clone().map(|path| ("--log", path)));
    for (i, (what, path)) in files.iter().enumerate() {
        if let Some((other, _)) = files[..i].iter().find(|(_, earlier)| real(earlier) == real(path)) {
            return Err(Failure::usage(format_args!(
                "{other} and {what} are the same file, {}; give them different names",
                path.display()
            )));
        }
    }
    let Some(log) = &args.log else { return Ok(()) };
    if !log.is_file() {
        return Ok(()); // new, or a pipe or terminal that somebody reads
    }
    let mut first = [0_u8; 1];
    match std::fs::File::open(log).and_then(|mut f| std::io::Read::read(&mut f, &mut first)) {
        Ok(1) if first != *b"{" => {
            Err(Failure::with(log.display(), "is there and is no log (a log begins with `{`); give --log another name"))
        }
        _ => Ok(()),
    }
}

/// Where the newest state lies.
fn last_path(out: &Path) -> PathBuf {
    beside(out, ".last")
}
