//! `nunatak measure`: time and memory of a step; whether its algorithms are well chosen.

mod choice;

use crate::bench_step::{Planned, Step, StepArgs};
use crate::block::{self, peak_rss};
use crate::bytes::Bytes;
use crate::commands::inspect::memory_name;
use crate::failure::Failure;
use crate::max_mem::Parts;
use crate::median::median;
use crate::outln;
use crate::setup::Setup;
use crate::weights::Backbone;
use nunatak_core::fnv::Fnv;
use nunatak_core::program::Flags;
use nunatak_kernels::Cpu;
use nunatak_nn::{Memory, Trainer};
use serde_json::json;
use std::time::Instant;

/// Steps before the measured ones.
const WARM_UP: usize = 2;

/// Options of `nunatak measure`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    step: StepArgs,
    /// Measured steps
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    repeat: u32,
    /// Time every algorithm at every convolution of the step instead, and fail where the choice is more
    /// than 10 % slower than the best
    #[arg(long, conflicts_with_all = ["weights", "program"])]
    assert: bool,
    /// With --assert: these batches and sizes, 1x64,8x224 say, instead of --batch and --size
    #[arg(long, requires = "assert", value_delimiter = ',', value_parser = cell)]
    cells: Vec<(usize, usize)>,
    /// With --assert: how often a choice that seems slow is measured again, longer and later, before it counts
    #[arg(long, requires = "assert", default_value_t = 5)]
    tries: u8,
    #[command(flatten)]
    parts: Parts,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A batch and a size from `8x64`.
fn cell(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('x').and_then(|(n, size)| Some((n.parse().ok()?, size.parse().ok()?)));
    numbers.filter(|(n, size)| *n > 0 && *size > 0).ok_or_else(|| format!("{text:?} is no batch x size, as 8x64 is"))
}

/// Whether the algorithms of the step are well chosen.
fn assert_choices(args: &Args) -> Result<(), Failure> {
    let setup = args.step.setup(None, None)?;
    if setup.algorithms != [None; 3] || setup.memory != Memory::Fast {
        return Err(Failure::usage("--assert looks at what is chosen for speed: without --algorithm, with --memory fast"));
    }
    let threads = args.step.compute.start_threads()?;
    let cpu = Cpu { level: args.step.compute.level()?, threads: &threads };
    let own = [(args.step.batch, args.step.size)];
    let mut failures = Vec::new();
    for &(batch, size) in if args.cells.is_empty() { &own[..] } else { &args.cells } {
        if !args.json {
            outln!("batch {batch}, size {size}, {:?} step, {}, {} threads:", args.step.mode(), cpu.level, threads.count())?;
        }
        let program = Setup { batch, size: [size; 2], ..setup.clone() }.plan()?.program;
        match choice::check(&program, setup.memory, &cpu, args.tries.into(), args.json) {
            Err(Failure::Failed(what)) => failures.push(format!("batch {batch}, size {size}: {what}")),
            other => other?,
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::Failed(failures.join("\n"))) }
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    if args.assert {
        return assert_choices(args);
    }
    let file = args.step.open_weights()?;
    let weights = file.as_ref().map(Backbone::native).transpose()?;
    let Planned { program, parts, again, times, .. } = args.step.plan(None, weights.as_ref(), &args.parts)?;
    let bytes = Bytes::of(&program);
    let update = match (program.flags().has(Flags::DURING), program.flags().has(Flags::SUMMED)) {
        (true, _) => "during",
        (_, true) => "summed in the momentum",
        _ => "after",
    };
    let memory_name = memory_name(&program);
    let (level, threads) = (args.step.level(&program)?, args.step.start_threads(&program)?);
    let count = threads.count();
    let mut memory = block::reserve(Trainer::bytes(&program))?;
    let mut step = Step::new(program, &mut memory, level, threads, weights, parts)?;
    let mut taken = Vec::new();
    for i in 0..WARM_UP + args.repeat as usize {
        let start = Instant::now();
        step.run()?;
        if i >= WARM_UP {
            taken.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let median = median(&mut taken);
    let logits = step.prediction()?;
    let result = json!({
        "median_ms": median,
        "min_ms": taken[0],
        "times_ms": taken,
        "level": level.name(),
        "threads": count,
        "update": update,
        "memory": memory_name,
        "plan_bytes": bytes.total(),
        "micro_batches": parts,
        "computed_again": again,
        "expected_times": times,
        "in_place_bytes": bytes.borrowed,
        "peak_rss_bytes": peak_rss(),
        "checksum": checksum(&logits),
    });
    if args.json {
        return outln!("{result}");
    }
    outln!("median {median:.3} ms, fastest {:.3} ms of {} steps", taken[0], taken.len())?;
    outln!("level {level}, {} threads, update {update}, memory {memory_name}", count)?;
    outln!(
        "planned {:.1} MB{}",
        bytes.total() as f64 / 1e6,
        peak_rss().map_or(String::new(), |b| format!(", process {:.1} MB", b as f64 / 1e6))
    )?;
    outln!("checksum {}", checksum(&logits))
}

/// FNV-1a over the bits of the last prediction: equal exactly where every bit is.
fn checksum(numbers: &[f32]) -> String {
    let mut hash = Fnv::new();
    numbers.iter().for_each(|v| hash.write(&v.to_bits().to_le_bytes()));
    format!("{:016x}", hash.finish())
}
