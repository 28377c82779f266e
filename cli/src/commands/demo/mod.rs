//! `nunatak demo`: what the library is for, in a minute and without a download.
//!
//! | part | file |
//! |---|---|
//! | PyTorch's autograd tutorial, number beside number | `tutorial` |
//! | what freezing saves: calls, bytes, time | `frozen` |
//! | training and fine-tuning on pictures drawn here | `learn`, `draw` |

mod draw;
mod frozen;
mod learn;
mod tutorial;

use crate::args::Compute;
use crate::failure::Failure;
use crate::outln;
use nunatak_nn::{Level, Threads, Trainer};
use std::time::Instant;

/// Options of `nunatak demo`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    compute: Compute,
    /// Seed of the pictures that are drawn and of the network that learns them; the tutorial's own are fixed
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// What everything runs on.
struct Machine {
    level: Level,
    threads: Threads,
}

/// A number of bytes for people.
fn bytes(count: usize) -> String {
    match count {
        1_000_000.. => format!("{:.2} MB", count as f64 / 1e6),
        1000.. => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{count} B"),
    }
}

/// Runs it.
///
/// # Errors
/// [`Failure`] where the machine is not as asked for, nobody reads any more, or a number of the
/// tutorial is not PyTorch's.
pub fn run(args: &Args) -> Result<(), Failure> {
    let start = Instant::now();
    let machine = Machine { level: args.compute.level()?, threads: args.compute.start_threads()? };
    let threads = machine.threads.count();
    let plural = if threads == 1 { "" } else { "s" };
    outln!("nunatak {}, level {}, {threads} thread{plural}, seed {}", env!("CARGO_PKG_VERSION"), machine.level, args.seed)?;
    outln!("")?;
    {
        let (full, frozen) = (tutorial::Step::full(&machine)?, tutorial::Step::frozen(&machine)?);
        // One block for everything: its size is known before the first step.
        let mut memory = vec![0; full.bytes().max(frozen.bytes())];
        let mut trainer = Trainer::new(full.program(), &mut memory, machine.level, machine.threads.clone())?;
        let [inputs, few] = tutorial::run(&mut trainer, &full, &frozen)?;
        frozen::run(&mut trainer, [&full, &frozen], [&inputs, &few])?;
    }
    learn::run(&machine, args.seed)?;
    outln!("")?;
    outln!("The demo took {:.0} s. Your own images: nunatak finetune --help", start.elapsed().as_secs_f64())
}
