//! `nunatak finetune`: a network, pretrained or new, learns the classes of a folder.
//!
//! | file | what it does |
//! |---|---|
//! | `settings` | what decides the result: options, defaults, what a resumed run must share |
//! | `recipe` | `--recipe`: what it chooses, and the parts of a run |
//! | `layers` | rates by depth |
//! | `rate` | `--schedule` |
//! | `config` | options from a file, and the file that every run leaves |
//! | `survey` | what is in the folder: counts, broken and double images |
//! | `paths` | the files of a run, and that none is lost |
//! | `job` | what a run is to do, settled: folder, classes, plans, memory |
//! | `introduce` | its first lines |
//! | `start` | everything that is there before the first step |
//! | `phases` | from one part of a run to the next |
//! | `pace` | how long it takes: `--dry-run`, `--max-minutes` |
//! | `head` | whether the file's head is kept |
//! | `run` | the epochs |
//! | `step` | the steps of an epoch |
//! | `batches` | which images an epoch draws, and how they are mixed |
//! | `validation` | how good the model is |
//! | `average` | `--ema` |
//! | `features` | what is frozen is computed once |
//! | `keep` | saving what has proved good |
//! | `resume` | `FILE.last`: where a run stands |
//! | `search` | `nunatak lr-find` |
//! | `history`, `report` | what every epoch gave: a table, a sparkline, a page |
//! | `progress`, `log` | what people see, what programs read |

mod average;
mod batches;
pub mod config;
pub mod features;
mod head;
mod history;
mod introduce;
mod job;
mod keep;
mod layers;
mod log;
mod pace;
mod paths;
mod phases;
mod progress;
mod rate;
mod recipe;
mod report;
mod resume;
mod run;
mod search;
mod settings;
mod start;
mod step;
mod survey;
mod validation;

use crate::args::{Compute, MemoryArg, Reading, UpdateArg};
use crate::failure::Failure;
use crate::frozen;
use crate::lock::Lock;
use crate::max_mem::MaxMem;
use crate::model::{OutFormat, human_bytes};
use crate::published::{self, table::TABLE};
use features::Keep;
use recipe::Recipe;
pub use search::Search;
use settings::Choices;
pub use settings::{Accumulate, Statistics};
use std::path::{Path, PathBuf};

/// Reads the bytes of a `FILE.last` at `path` as `--resume` does, without the run: it loads nothing and changes nothing.
///
/// # Errors
/// [`Failure`] that names the file or the option, where no run could go on from it.
pub fn check_last(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let last = resume::Last::parse(path, bytes)?;
    last.base(None)?;
    Choices::default().settle(Some(&last.position.settings), last.about.view)?.check(None)
}

/// Options of `nunatak finetune`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = AFTER, args_override_self = true)]
pub struct Args {
    /// Folder of images: train/CLASS/… and val/CLASS/…, or CLASS/… of which a part is put aside; or a table FILE.csv
    /// with a column path and a column label
    #[arg(required_unless_present = "data")]
    pub dir: Option<PathBuf>,
    /// The folder, as a file of --config names it
    #[arg(long, hide = true)]
    pub data: Option<PathBuf>,
    /// The names of the classes, one a line, in the order in which they are numbered [default: as the weights' file
    /// numbers them, or sorted]
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,
    /// The pretrained network: .pth (both forms), .safetensors or .nunatak; or a name of torchvision's, which is downloaded:
    /// imagenet (the network of --arch, or resnet18), resnet50, resnet50.IMAGENET1K_V1, …; without it a network that
    /// --arch names is trained from scratch
    #[arg(long, value_name = "FILE_OR_NAME")]
    pub weights: Option<PathBuf>,
    /// What the weights are called, where they are published ones
    #[arg(skip)]
    pub published: Option<String>,
    /// Of weights with several state dicts: the keys that lead to the one that is meant, with dots between
    #[arg(long, value_name = "NAME", requires = "weights", conflicts_with = "resume")]
    pub key: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub reading: Reading,
    /// Keep the weights' head though its classes have other names; there must be as many. (Where the folder has all of
    /// the weights' classes and more, their rows are kept and new ones added anyway)
    #[arg(long, conflicts_with = "resume")]
    pub keep_head: bool,
    /// Draw a new head though the weights' own has as many classes, or the first of them
    #[arg(long, conflicts_with_all = ["keep_head", "resume"])]
    pub new_head: bool,
    /// Where the best model by validation goes, .safetensors, .pth or .nunatak; FILE.last holds the newest
    #[arg(long, value_name = "FILE", default_value = "finetuned.safetensors")]
    pub out: PathBuf,
    /// Replace what an earlier run left under these names
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// Go on with the run in FILE.last; what is not given is as it was there
    #[arg(long)]
    pub resume: bool,
    /// Read what is frozen where it lies in the mapped .nunatak, and keep in memory only what is trained;
    /// the bits are the same
    #[arg(long)]
    pub in_place: bool,
    /// Save in FILE (.nunatak) only what is trained, as a delta over the weights; FILE.last then holds no more either
    #[arg(long, requires = "in_place")]
    pub delta: bool,
    /// Layers of 8 bits
    #[command(flatten)]
    pub int8: frozen::Options,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub choices: Choices,
    /// Writes a line of JSON per step and epoch to this file (adds to it with --resume); to a FILE.csv a row per epoch, with
    /// the columns of timm's summary.csv
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Leaves out FILE.report.html, the page that shows what happened
    #[arg(long)]
    pub no_report: bool,
    /// Saves FILE.last every N steps too, not only after each epoch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub save_every: Option<u64>,
    /// Saves and ends after N steps of this run, for machines that are lent for a time; go on with --resume
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub stop_after: Option<u64>,
    /// Saves and ends after this many minutes, between steps; go on with --resume. Where the rate looks at the end of the run
    /// and --epochs is not given, the run is laid out for as many epochs as fit
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    pub max_minutes: Option<f64>,
    /// Looks at everything and trains nothing: the data set with broken and double images, the plan, memory and time
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
    /// The results as one object of JSON; of finetune those of --dry-run
    #[arg(long)]
    pub json: bool,
    /// Options from a file in TOML, such as the FILE.toml that every run leaves; those of the command line come first
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// When parameters are updated; no bit depends on it [default: during, after with --clip-grad-norm]
    #[arg(long, value_enum)]
    pub update: Option<UpdateArg>,
    /// Memory or speed
    #[arg(long, value_enum, default_value_t)]
    pub memory: MemoryArg,
    /// How much memory a step may take
    #[command(flatten)]
    pub max_mem: MaxMem,
    /// Where the head alone is trained, without --augment, --mixup and --cutmix, with fixed statistics: keep what the network below it makes
    /// of an image, so that it is computed once. The same bits either way
    #[arg(long, value_enum, default_value_t = Keep::Once)]
    pub features: Keep,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: Compute,
}

const AFTER: &str = "\
Recipes: `auto` trains the head alone first, over features that are computed once, then everything,
with lower rates for lower layers; each with one cycle of the rate. Batch, epochs, rates, weight
decay, label smoothing and augmentation are chosen from the images and the network, unless an option
says them. It is the default where --weights is given and none of --trainable, --epochs, --batch,
--lr, --momentum, --dampening, --weight-decay, --nesterov, --schedule, --bn-statistics, --views,
--in-place and --frozen: with one of these it is `pytorch`, the plain script with the defaults above.
Other options go with both. --epochs counts the epochs of both parts.

Schedules: `step:SIZE:GAMMA` and `multistep:A,B:GAMMA` count epochs, as PyTorch's StepLR and
MultiStepLR called once an epoch; `cosine[:WARMUP]` and `onecycle` move with every step, over all
epochs; WARMUP is in epochs. `onecycle` is PyTorch's OneCycleLR with max_lr = --lr; momentum stays.

With `--mixup` or `--cutmix` the training loss is that of mixed images, and an answer counts as right
where it is the class with the larger share; validation is never mixed. `--balanced` draws the images
that PyTorch would draw from the same seed; what `--mixup` and `--cutmix` draw is not torch's.

The best model has the most right answers in validation, and of equals the lower loss. A model
whose head is kept competes as it is, before the first epoch.

Ctrl-C, SIGTERM, SIGHUP, SIGQUIT and the like finish the step, save FILE.last and exit with 128 and
the signal's number (130 after Ctrl-C); a second Ctrl-C ends at once. While it runs, FILE.lock keeps
other runs away from FILE.
FILE.toml has the options of the run, for --config.
FILE.report.html shows the run: curves, confusion matrix, top losses, calibration, settings.
A .pth has the names of the classes, the size and the stem inside, and in FILE.classes.json beside it.";

impl Args {
    /// The folder of images.
    fn folder(&self) -> &Path {
        self.dir.as_deref().or(self.data.as_deref()).unwrap_or(Path::new("."))
    }

    /// The same with the recipe of a new run: `auto` where weights are given, and no option says what is trained when and
    /// how.
    fn with_recipe(&self) -> Args {
        let mut args = self.clone();
        if !self.resume && self.choices.recipe.is_none() {
            let plain = self.in_place || self.int8.frozen.is_some() || !self.choices.course().is_empty();
            let auto = self.weights.is_some() && !plain;
            args.choices.recipe = Some(if auto { Recipe::Auto } else { Recipe::Pytorch });
        }
        args
    }

    /// The same with the path of the weights where their name was given; they are downloaded then, if need be.
    fn found(&self) -> Result<Args, Failure> {
        let mut args = self.clone();
        // A run that goes on has its weights in its own file.
        if let Some(given) = self.weights.as_deref().filter(|_| !self.resume || self.in_place) {
            if self.in_place {
                published::refuse_in_place(given)?;
            }
            let path = published::find(given, self.reading.arch.as_deref())?;
            args.published = (path != given).then(|| published::name_of(&path)).flatten();
            args.weights = Some(path);
        }
        Ok(args)
    }
}

/// The minutes of `--max-minutes`.
fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse::<f64>().ok().filter(|minutes| minutes.is_finite() && *minutes > 0.0);
    minutes.ok_or_else(|| "expected a number of minutes above 0".into())
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    let args = &args.with_recipe();
    check(args)?;
    if args.json && !args.dry_run {
        return Err(Failure::usage("--json is for --dry-run; a run's own record is --log FILE"));
    }
    if args.dry_run {
        return start::run(&args.found()?, start::Aim::Rehearse);
    }
    // What would be in the way of the run is said before anything is downloaded.
    paths::check(args)?;
    let _lock = Lock::take(&args.out)?;
    paths::check_free(args)?;
    let args = &args.found()?;
    if args.published.is_some() {
        paths::check(args)?;
    }
    start::run(args, start::Aim::Train)
}

/// Runs `nunatak lr-find`.
///
/// # Errors
/// [`Failure`].
pub fn find_rate(args: &Args, search: Search) -> Result<(), Failure> {
    if args.resume {
        return Err(Failure::usage("lr-find starts from weights: leave out --resume"));
    }
    if args.choices.recipe == Some(Recipe::Auto) {
        return Err(Failure::usage("lr-find looks for the rate of a plain run: leave out --recipe auto; --trainable says what is trained"));
    }
    check(args)?;
    start::run(&args.found()?, start::Aim::Find(search))
}

/// Refuses options that make no sense.
fn check(args: &Args) -> Result<(), Failure> {
    // Whatever is wrong with the options is said before anything is read.
    args.choices.settle(None, None)?.check(args.update)?;
    args.reading.asked()?;
    if args.choices.recipe == Some(Recipe::Auto) && !args.resume {
        if args.in_place {
            return Err(Failure::usage("--in-place keeps what is frozen in the file, and --recipe auto trains everything: leave one out"));
        }
        if args.int8.frozen.is_some() {
            return Err(Failure::usage("--frozen int8 rounds what is not trained, and --recipe auto trains everything: leave one out"));
        }
        if args.weights.is_none() {
            return Err(Failure::usage("--recipe auto fine-tunes a pretrained network: name it with --weights"));
        }
    }
    if args.int8.frozen.is_some() && !args.resume {
        if args.in_place {
            return Err(Failure::usage(
                "--frozen int8 rounds the weights anew, and --in-place reads them as they are: write them with `nunatak convert --frozen \
                 int8`, and train on that file in place",
            ));
        }
        if args.weights.is_none() {
            return Err(Failure::usage("--frozen int8 rounds a network that was trained: name it with --weights"));
        }
    }
    if args.delta && OutFormat::of(&args.out)? != OutFormat::Native {
        return Err(Failure::usage(format_args!("--delta --out {}: a delta's name ends in .nunatak", args.out.display())));
    }
    if args.weights.is_none() && !args.resume {
        if args.in_place {
            return Err(Failure::usage("--in-place needs --weights FILE, a .nunatak"));
        }
        if args.reading.arch.is_none() {
            let size = human_bytes(TABLE[0].bytes as usize);
            return Err(Failure::usage(format_args!(
                "name the pretrained network: --weights imagenet downloads torchvision's {} ({size}), --weights FILE reads one; or \
                 name with --arch NAME one that is trained from scratch",
                TABLE[0].network
            )));
        }
    }
    OutFormat::of(&args.out)?;
    args.compute.level()?;
    Ok(())
}
