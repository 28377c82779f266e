//! `nunatak plan`: what a step computes, what freezing removed, where memory goes.

use crate::bench_step::{Planned, StepArgs};
use crate::bytes::Bytes;
use crate::calls::{Call, calls};
use crate::failure::Failure;
use crate::max_mem::Parts;
use crate::model::replace;
use crate::paths::refuse_same;
use crate::setup::{Setup, parameters, trains};
use crate::weights::Backbone;
use crate::{outln, output};
use nunatak_nn::step::call_name;
use nunatak_nn::{Event, Program, ValueId};
use serde_json::json;
use std::path::PathBuf;

/// Options of `nunatak plan`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    step: StepArgs,
    /// all, none, or names and prefixes of parameters with commas between; instead of what the mode trains
    #[arg(long, conflicts_with = "program")]
    trainable: Option<String>,
    #[command(flatten)]
    parts: Parts,
    /// Write the program to FILE too: this step as bytes, for --program, the library, C or a board. --level (any
    /// where not given; it need not be this machine's), --threads and --memory are its target
    #[arg(long, value_name = "FILE", conflicts_with = "program")]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    let named = |path: &Option<PathBuf>, what| path.iter().map(|path| (what, path.clone())).collect::<Vec<_>>();
    refuse_same(&named(&args.out, "--out"), &named(&args.step.weights, "--weights"))?;
    let file = args.step.open_weights()?;
    let weights = file.as_ref().map(Backbone::native).transpose()?;
    let Planned { program, setup, parts, again, times } = args.step.plan(args.trainable.as_deref(), weights.as_ref(), &args.parts)?;
    if let Some(path) = &args.out {
        replace(path, program.bytes())?;
    }
    let bytes = Bytes::of(&program);
    let list = calls(&program);
    let removed = match &setup {
        Some(setup) => removed(setup, &program, &list)?,
        None => Vec::new(), // a program does not say what it would be without freezing
    };
    let peak_at = busiest(&program);
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
                "micro_batches": parts,
                "computed_again": again,
                "expected_times": times,
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

/// The calls that are not there because something is frozen.
fn removed(setup: &Setup, program: &Program, list: &[Call]) -> Result<Vec<Call>, Failure> {
    if parameters(program).all(|id| program.entry(id).is_trained()) || !trains(program) {
        return Ok(Vec::new());
    }
    let full = Setup { trainable: "all".into(), max_mem: None, ..setup.clone() }.plan()?.program;
    let same = |a: &Call, b: &Call| a.name == b.name && a.pass == b.pass;
    // Every forward call is there, though perhaps within another.
    let gone = |call: &Call| call.pass != "forward" && !list.iter().any(|c| same(c, call));
    Ok(calls(&full).into_iter().filter(gone).collect())
}

/// The call at which most memory is in use.
fn busiest(program: &Program) -> String {
    let (node, backward) = program.busiest_node();
    let node = ValueId(node);
    let computed = program.forward().any(|call| ValueId(call.node()) == node);
    let event = if computed { Event::Forward(node) } else { Event::Input(node) };
    format!("{} {}", call_name(program, event), if backward { "backward" } else { "forward" })
}
