//! `nunatak verify`: a trace that PyTorch wrote, beside what is computed here.

mod compare;
mod trace;

use crate::args::{Compute, MemoryArg};
use crate::commands::step;
use crate::failure::Failure;
use crate::outln;
use crate::output::{say, write};
use compare::Row;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use trace::Trace;

/// What a user runs where PyTorch is.
const SCRIPT: &str = include_str!("trace.py");
/// Where 4 x PyTorch's own distance is more than this, a trace proves little.
const VAGUE: f64 = 0.1;

/// Options of `nunatak verify`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
PyTorch writes the trace:
  nunatak verify --script > trace.py
  python3 trace.py --arch resnet18 --out trace.safetensors     (--help lists the settings)
  nunatak verify trace.safetensors

A tensor is within tolerance where its largest difference, as a share of the largest number that PyTorch has there, is at
most 5e-5 or four times what the script measured, whichever is more: for the first forward how far PyTorch's float32 is from
its float64, for all else how far float32 and disturbed float64 runs are. In a trace without these measurements 5e-5 is the
tolerance of the first forward, and 1e-2 that of all else. Counters must be equal. What is 0 but for rounding (less than 1e-10
of the largest number of its kind: forward, grad, state or momentum) is measured by that number instead of its own.

Exit code 0: every tensor is within tolerance. 1: one is not, or the trace can't be used.")]
pub struct Args {
    /// What PyTorch wrote: .safetensors, from the script
    #[arg(required_unless_present = "script")]
    trace: Option<PathBuf>,
    /// Print the Python script that writes a trace, to be run where PyTorch and torchvision are
    #[arg(long, conflicts_with_all = ["trace", "tolerance", "json"])]
    script: bool,
    /// Tolerance of every tensor: its largest difference as a share of its largest number
    #[arg(long, value_name = "SHARE", value_parser = share)]
    tolerance: Option<f64>,
    #[command(flatten)]
    compute: Compute,
    /// Memory or speed
    #[arg(long, value_enum, default_value_t)]
    memory: MemoryArg,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "expected a number, such as 1e-4".to_string())?;
    if share.is_finite() && share >= 0.0 { Ok(share) } else { Err("expected 0 or more".into()) }
}

/// Runs it.
///
/// # Errors
/// [`Failure`]: also where a tensor differs.
pub fn run(args: &Args) -> Result<(), Failure> {
    let Some(path) = args.trace.as_deref() else { return write(format_args!("{SCRIPT}")) };
    // What was asked for wrongly is said before a large file is read.
    args.compute.level()?;
    let bytes = crate::weights::read(path)?;
    let trace = Trace::parse(path, &bytes)?;
    let steps = trace.steps(args.compute.clone(), args.memory);
    let here = step::compute(&steps).map_err(|e| in_trace(path, e))?;
    let tolerances = trace.tolerances(args.tolerance);
    if args.tolerance.is_none() && tolerances.rest > VAGUE {
        say(format_args!(
            "note: float32 and disturbed float64 runs of PyTorch itself are {:.1e} apart in these steps, so this trace says little of \
             gradients and states; a smaller lr, fewer steps or more images make it firmer",
            tolerances.rest / 4.0
        ));
    }
    let rows = compare::rows(&trace, &here, tolerances)?;
    if args.json {
        print_json(&trace, &rows)?
    } else {
        print_table(&rows)?
    }
    match rows.iter().filter(|row| !row.ok()).count() {
        0 => Ok(()),
        bad => Err(Failure::with(path.display(), format_args!("{bad} of {} tensors differ from what is computed here", rows.len()))),
    }
}

/// A refusal of the steps, said of the trace whose settings they are.
fn in_trace(path: &Path, failure: Failure) -> Failure {
    match failure {
        Failure::Usage(text) => Failure::with(path.display(), format_args!("settings that can't be used here: {text}")),
        Failure::Failed(text) if !text.starts_with(&path.display().to_string()) => Failure::with(path.display(), text),
        other => other,
    }
}

fn print_table(rows: &[Row]) -> Result<(), Failure> {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(6);
    outln!("{:<width$} {:>10} {:>10} {:>10} {:>10}", "tensor", "difference", "of largest", "distance", "tolerance")?;
    for row in rows {
        let said = if row.ok() { "ok" } else { "DIFFERS" };
        let (difference, share, distance) = (row.difference, row.share, row.distance);
        outln!("{:<width$} {difference:>10.1e} {share:>10.1e} {distance:>10.1e} {:>10.1e}  {said}", row.name, row.tolerance)?;
    }
    outln!("{}", verdict(rows))
}

/// The last line.
fn verdict(rows: &[Row]) -> String {
    if let Some(row) = rows.iter().find(|row| !row.ok()) {
        return format!(
            "first difference: {}, number {}: {} here, {} in PyTorch; that is {:.1e} of the tensor's largest number, tolerance {:.1e}",
            row.name,
            row.at,
            number(row.here),
            number(row.there),
            row.share,
            row.tolerance
        );
    }
    let farthest = rows.iter().max_by(|a, b| a.share.total_cmp(&b.share));
    let farthest = farthest.map_or(String::new(), |row| format!(" (farthest: {}, {:.1e} of its largest number)", row.name, row.share));
    format!("all {} tensors within tolerance{farthest}", rows.len())
}

/// A number with as many digits as tell it from its neighbours.
fn number(number: f64) -> String {
    let single = number as f32;
    if f64::from(single) == number { format!("{single:e}") } else { format!("{number:e}") }
}

fn print_json(trace: &Trace, rows: &[Row]) -> Result<(), Failure> {
    let row = |row: &Row| -> Value {
        json!({
            "tensor": row.name, "numbers": row.numbers, "difference": row.difference, "of_largest": row.share,
            "distance": row.distance, "tolerance": row.tolerance, "ok": row.ok(), "at": row.at, "here": row.here, "pytorch": row.there,
        })
    };
    let first = rows.iter().find(|row| !row.ok()).map(|row| row.name.as_str());
    let tensors: Vec<Value> = rows.iter().map(row).collect();
    outln!(
        "{}",
        json!({"arch": trace.arch(), "torch": trace.torch(), "tensors": tensors, "first_difference": first, "ok": first.is_none()})
    )
}
