//! `nunatak lr-find`: the learning rate that a fine-tuning could be started with.

use super::finetune;
use crate::failure::Failure;

/// Options of `nunatak lr-find`: those of `finetune`, of which `--out`, `--log` and the like have no meaning here, and
/// the range of rates.
#[derive(clap::Args, Debug)]
#[group(id = "lr_find")]
#[command(after_help = AFTER)]
pub struct Args {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub run: finetune::Args,
    /// The lowest rate
    #[arg(long, default_value_t = 1e-5, value_name = "LR")]
    pub from: f32,
    /// The highest rate
    #[arg(long, default_value_t = 10.0, value_name = "LR")]
    pub to: f32,
    /// Steps from the lowest to the highest
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub steps: u32,
}

const AFTER: &str = "\
The rate grows from step to step by the same factor until the loss is four times its lowest. Nothing
is written. The suggestion is the rate at which the smoothed loss falls most steeply: L. N. Smith,
\"Cyclical Learning Rates for Training Neural Networks\", 2015. A tenth of the rate with the lowest
loss is given beside it.";

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    if !(args.from.is_finite() && args.from > 0.0 && args.to.is_finite() && args.to > args.from) {
        return Err(Failure::usage(format_args!("--from {} --to {}: expected two rates above 0, the lower one first", args.from, args.to)));
    }
    let search = finetune::Search { from: args.from, to: args.to, steps: args.steps, json: args.run.json };
    finetune::find_rate(&args.run, search)
}
