//! `nunatak plan`: what a step computes, what freezing removed, where memory goes.

use crate::args;
use crate::bench_step::StepArgs;
use crate::calls::{Call, calls};
use crate::failure::Failure;
use crate::weights::Backbone;
use crate::{outln, output};
use nunatak_nn::Setup;
use nunatak_nn::summary::call_name;
use serde_json::json;

/// Options of `nunatak plan`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    step: StepArgs,
    /// all, none, or names and prefixes of parameters with commas between; instead of what the mode trains
    #[arg(long)]
    trainable: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    let file = args.step.open_weights()?;
    let weights = file.as_ref().map(Backbone::native).transpose()?;
    let setup = args.step.setup(args.trainable.as_deref(), weights.as_ref())?;
    args.step.compute.level()?; // plans are the same at every level; a wrong name is wrong here too
    let (blueprint, slots, _) = setup.plan()?;
    let bytes = blueprint.summary(&slots);
    args::report_refused(&blueprint, &setup.algorithms);
    let list = calls(&blueprint);
    let removed: Vec<Call> = if setup.trainable == blueprint.network().all() || !blueprint.trains() {
        Vec::new()
    } else {
        let (full, ..) = Setup { trainable: blueprint.network().all(), ..setup }.plan()?;
        let same = |a: &Call, b: &Call| a.name == b.name && a.pass == b.pass;
        // Every forward call is there, though perhaps within another.
        let gone = |call: &Call| call.pass != "forward" && !list.iter().any(|c| same(c, call));
        calls(&full).into_iter().filter(gone).collect()
    };
    let (peak, backward) = blueprint.peak_node();
    let peak_at = format!("{} {}", call_name(&blueprint, nunatak_nn::Call::Forward(peak)), if backward { "backward" } else { "forward" });
    if args.json {
        let row = |c: &Call| json!({"name": c.name, "op": c.op, "pass": c.pass, "algorithm": c.algorithm, "bytes": c.bytes});
        return outln!(
            "{}",
            json!({
                "bytes": {
                    "weights": bytes.weights, "statistics": bytes.statistics, "gradients": bytes.gradients, "momentum": bytes.momentum,
                    "activations": bytes.activations, "scratch": bytes.scratch, "padding": bytes.padding, "tables": bytes.tables,
                    "in_place": bytes.borrowed,
                },
                "peak_bytes": bytes.total(),
                "peak_at": peak_at,
                "calls": list.iter().map(row).collect::<Vec<_>>(),
                "removed": removed.iter().map(|c| json!({"name": c.name, "pass": c.pass})).collect::<Vec<_>>(),
            })
        );
    }
    outln!("{:<22} {:<25} {:<16} {:<10} {:>12}", "call", "operation", "pass", "algorithm", "bytes")?;
    for c in &list {
        outln!("{:<22} {:<25} {:<16} {:<10} {:>12}", c.name, c.op, c.pass, c.algorithm, c.bytes)?;
    }
    if !removed.is_empty() {
        outln!("\nremoved by freezing: {} calls", removed.len())?;
        for pass in ["backward_input", "backward_weight", "backward_step", "update"] {
            let names: Vec<_> = removed.iter().filter(|c| c.pass == pass).map(|c| c.name.as_str()).collect();
            if !names.is_empty() {
                outln!("  {pass}: {}", names.join(" "))?;
            }
        }
    }
    output::write(format_args!("\nbytes when most are in use, at {peak_at}:\n{bytes}"))
}
