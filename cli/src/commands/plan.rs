//! `nunatak plan`: what a step computes, what freezing removed, where memory goes.

use crate::args;
use crate::bench_step::StepArgs;
use crate::failure::Failure;
use crate::outln;
use nunatak_core::{Node, Operation};
use nunatak_nn::op::Op;
use nunatak_nn::{Blueprint, Pass, Setup, ValueId};
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

/// A kernel call of a step.
#[derive(Clone, PartialEq)]
struct Call {
    name: String,
    pass: &'static str,
    algorithm: &'static str,
    /// What it writes, and its scratch.
    bytes: usize,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    let setup = args.step.setup(args.trainable.as_deref())?;
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
        calls(&full).into_iter().filter(|call| !list.iter().any(|c| same(c, call))).collect()
    };
    let (peak, backward) = blueprint.peak_node();
    let peak_at = format!("{} {}", name(&blueprint, peak), if backward { "backward" } else { "forward" });
    if args.json {
        let row = |c: &Call| json!({"name": c.name, "pass": c.pass, "algorithm": c.algorithm, "bytes": c.bytes});
        return outln!(
            "{}",
            json!({
                "bytes": {
                    "weights": bytes.weights, "statistics": bytes.statistics, "gradients": bytes.gradients, "momentum": bytes.momentum,
                    "activations": bytes.activations, "scratch": bytes.scratch, "padding": bytes.padding, "tables": bytes.tables,
                },
                "peak_bytes": bytes.total(),
                "peak_at": peak_at,
                "calls": list.iter().map(row).collect::<Vec<_>>(),
                "removed": removed.iter().map(|c| json!({"name": c.name, "pass": c.pass})).collect::<Vec<_>>(),
            })
        );
    }
    outln!("{:<28} {:<16} {:<10} {:>12}", "call", "pass", "algorithm", "bytes")?;
    for c in &list {
        outln!("{:<28} {:<16} {:<10} {:>12}", c.name, c.pass, c.algorithm, c.bytes)?;
    }
    if !removed.is_empty() {
        outln!("\nremoved by freezing: {} calls", removed.len())?;
        for pass in ["backward_input", "backward_weight", "update"] {
            let names: Vec<_> = removed.iter().filter(|c| c.pass == pass).map(|c| c.name.as_str()).collect();
            if !names.is_empty() {
                outln!("  {pass}: {}", names.join(" "))?;
            }
        }
    }
    outln!("\nbytes when most are in use, at {peak_at}:")?;
    let rows = [
        ("weights", bytes.weights),
        ("running statistics", bytes.statistics),
        ("gradients", bytes.gradients),
        ("momentum", bytes.momentum),
        ("activations", bytes.activations),
        ("scratch", bytes.scratch),
        ("gaps and alignment", bytes.padding),
        ("tables (tape, plan)", bytes.tables),
        ("all", bytes.total()),
    ];
    rows.iter().try_for_each(|(what, bytes)| outln!("  {what:<20} {bytes:>12}"))
}

/// A node's name: its module's, or the operation and its number.
fn name(blueprint: &Blueprint, v: ValueId) -> String {
    let Ok(node) = blueprint.tape().node(v) else { return String::new() };
    match node.op.params()[0] {
        Some(id) => {
            let param = blueprint.network().param_at(id).to_string();
            param.rsplit_once('.').map_or(param.clone(), |(module, _)| module.to_string())
        }
        None => format!("{}#{}", node.op.name(), v.index()),
    }
}

fn algorithm(node: &Node<Op>, pass: Pass) -> &'static str {
    match node.op {
        Op::Conv2d { algorithms, .. } => algorithms[pass as usize].name(),
        Op::Linear { .. } => "gemm",
        _ => "-",
    }
}

/// Every kernel call of the step, in order.
fn calls(blueprint: &Blueprint) -> Vec<Call> {
    let (tape, plan, needs) = (blueprint.tape(), blueprint.plan(), blueprint.needs());
    let mut list = Vec::new();
    let len = |v: ValueId| tape.node(v).map_or(0, |n| 4 * n.shape.len());
    for v in tape.values() {
        let Ok(node) = tape.node(v) else { continue };
        if !node.op.computes() {
            continue;
        }
        let bytes = len(v) + 4 * (plan.saved(v).len() + plan.forward_scratch(v).len());
        list.push(Call { name: name(blueprint, v), pass: "forward", algorithm: algorithm(node, Pass::Forward), bytes });
    }
    for v in tape.values().rev() {
        let Ok(node) = tape.node(v) else { continue };
        let need = needs.at(v);
        let scratch = 4 * plan.backward_scratch(v).len();
        let name = name(blueprint, v);
        let params: usize =
            (0..2).filter(|&i| need.dw[i]).filter_map(|i| node.op.params()[i]).map(|id| 4 * blueprint.network().param_at(id).len()).sum();
        if need.dw != [false; 2] {
            let (pass, algorithm) = ("backward_weight", algorithm(node, Pass::BackwardWeight));
            list.push(Call { name: name.clone(), pass, algorithm, bytes: params + scratch });
        }
        let inputs: usize = node.inputs().filter(|&(i, _)| need.dx[i]).map(|(_, x)| len(x)).sum();
        if need.dx != [false; 2] {
            let (pass, algorithm) = ("backward_input", algorithm(node, Pass::BackwardInput));
            list.push(Call { name: name.clone(), pass, algorithm, bytes: inputs + scratch });
        }
        if need.dw != [false; 2] {
            list.push(Call { name, pass: "update", algorithm: "-", bytes: params });
        }
    }
    list
}
