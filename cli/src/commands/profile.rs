//! `nunatak profile`: where the time of a step goes, call by call.
//!
//! A watcher ([`nunatak_nn::Watch`]) with the system's clock sees every call of the measured steps. A
//! call's time is its median over the steps. Rates are held against the peak that
//! [`Peak`] measures in the same process, before and after.

use crate::bench_step::{Step, StepArgs};
use crate::block;
use crate::calls::traffic;
use crate::failure::Failure;
use crate::max_mem::Parts;
use crate::median::median;
use crate::outln;
use crate::peak::Peak;
use crate::weights::Backbone;
use nunatak_kernels::Cpu;
use nunatak_nn::step::{call_algorithm, call_flops, call_name, call_of, call_operation};
use nunatak_nn::{Event, Program, Trainer, Watch};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

/// Steps before the measured ones.
const WARM_UP: usize = 2;

/// Options of `nunatak profile`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    step: StepArgs,
    /// all, none, or names and prefixes of parameters with commas between; instead of what the mode trains
    #[arg(long, conflicts_with = "program")]
    trainable: Option<String>,
    /// Measured steps
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeat: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Sees what is called when, by the system's clock in nanoseconds.
struct Witness {
    start: Instant,
    calls: Mutex<Vec<(Event, u64)>>,
}

impl Watch for Witness {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
    fn called(&self, event: Event, ticks: u64) {
        if let Ok(mut calls) = self.calls.lock() {
            calls.push((event, ticks));
        }
    }
}

/// One call, or the sum of several.
#[derive(Clone, Default)]
struct Row {
    name: String,
    /// What sums are made over: the operation and the pass.
    kind: String,
    pass: &'static str,
    algorithm: &'static str,
    calls: usize,
    ms: f64,
    flops: u64,
    bytes: u64,
}

impl Row {
    fn gflops(&self) -> f64 {
        self.flops as f64 / self.ms.max(1e-9) / 1e6
    }
    fn gbytes(&self) -> f64 {
        self.bytes as f64 / self.ms.max(1e-9) / 1e6
    }
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    let file = args.step.open_weights()?;
    let weights = file.as_ref().map(Backbone::native).transpose()?;
    let program = args.step.plan(args.trainable.as_deref(), weights.as_ref(), &Parts::default())?.program;
    let (level, threads) = (args.step.level(&program)?, args.step.start_threads(&program)?);
    let cpu = Cpu { level, threads: &threads };
    let before = Peak::measure(&cpu);

    let mut memory = block::reserve(Trainer::bytes(&program))?;
    let witness = Witness { start: Instant::now(), calls: Mutex::default() };
    let mut step = Step::new(program, &mut memory, level, threads.clone(), weights, 1)?;
    for _ in 0..WARM_UP {
        step.run()?;
    }
    step.trainer().watch(Some(&witness));
    let mut whole = Vec::new();
    let mut times: Vec<(Event, Vec<f64>)> = Vec::new();
    for _ in 0..args.repeat {
        let start = Instant::now();
        step.run()?;
        whole.push(start.elapsed().as_secs_f64() * 1e3);
        let seen = witness.calls.lock().map(|mut calls| std::mem::take(&mut *calls)).unwrap_or_default();
        if times.is_empty() {
            times = seen.iter().map(|(call, _)| (*call, Vec::new())).collect();
        }
        // Every step makes the same calls: that is what a plan is.
        for ((_, times), (_, nanoseconds)) in times.iter_mut().zip(&seen) {
            times.push(*nanoseconds as f64 / 1e6);
        }
    }
    let peak = before.max(Peak::measure(&cpu));
    let step_ms = median(&mut whole);
    let program = step.trainer().program();
    let rows: Vec<Row> = times.into_iter().map(|(call, mut times)| Row { ms: median(&mut times), ..row(program, call) }).collect();
    let kinds = sums(&rows);
    let between = (step_ms - rows.iter().map(|r| r.ms).sum::<f64>()).max(0.0);
    if args.json { print_json(&rows, &kinds, peak, step_ms, between) } else { print_table(&rows, &kinds, peak, step_ms, between) }
}

/// What is known of a call before it is timed.
fn row(program: &Program, event: Event) -> Row {
    let (kind, flops) = (format!("{} {}", call_operation(program, event), event.pass()), call_flops(program, event));
    let call = call_of(program, event);
    let (kind, flops) = match event {
        Event::Input(_) => ("input".into(), 0),
        // Beside one pass over the weight a bias is left.
        Event::BackwardWeight(_) if call.is_some_and(|call| call.is_one_pass() || !call.wants_weight(0)) => (kind, 0),
        Event::Forward(_) | Event::Again(_) | Event::BackwardInput(_) | Event::BackwardWeight(_) => (kind, flops),
        // The products of both passes.
        Event::BackwardStep(_) => (kind, flops * (1 + u64::from(call.is_some_and(|call| call.wants_input(0))))),
        Event::Sum(_) => ("sum in momentum".into(), 0),
        Event::Update(_) => ("sgd update".into(), 0),
    };
    Row {
        name: call_name(program, event).to_string(),
        kind,
        pass: event.pass(),
        algorithm: call_algorithm(program, event),
        flops,
        calls: 1,
        bytes: traffic(program, event),
        ..Row::default()
    }
}

/// Sums by kind, the longest first.
fn sums(rows: &[Row]) -> Vec<Row> {
    let mut kinds = BTreeMap::<&str, Row>::new();
    for row in rows {
        let sum = kinds.entry(&row.kind).or_insert_with(|| Row { kind: row.kind.clone(), ..Row::default() });
        sum.calls += row.calls;
        sum.ms += row.ms;
        sum.flops += row.flops;
        sum.bytes += row.bytes;
    }
    let mut kinds: Vec<Row> = kinds.into_values().collect();
    kinds.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    kinds
}

fn print_json(rows: &[Row], kinds: &[Row], peak: Peak, step_ms: f64, between: f64) -> Result<(), Failure> {
    let rates = |r: &Row| {
        let (gflops, share) = (r.gflops(), r.gflops() / peak.gflops);
        json!({"ms": r.ms, "flops": r.flops, "gflops": gflops, "share_of_peak": share, "bytes": r.bytes, "gbytes_per_s": r.gbytes()})
    };
    let with = |mut base: serde_json::Value, more: serde_json::Value| {
        if let (Some(base), serde_json::Value::Object(more)) = (base.as_object_mut(), more) {
            base.extend(more);
        }
        base
    };
    let calls: Vec<_> =
        rows.iter().map(|r| with(json!({"name": r.name, "pass": r.pass, "algorithm": r.algorithm, "kind": r.kind}), rates(r))).collect();
    let sums: Vec<_> = kinds.iter().map(|r| with(json!({"kind": r.kind, "calls": r.calls}), rates(r))).collect();
    outln!(
        "{}",
        json!({
            "step_ms": step_ms, "between_calls_ms": between, "peak_gflops": peak.gflops, "peak_gbytes_per_s": peak.gbytes,
            "calls": calls, "sums": sums,
        })
    )
}

fn print_table(rows: &[Row], kinds: &[Row], peak: Peak, step_ms: f64, between: f64) -> Result<(), Failure> {
    let rates = |r: &Row| {
        let arithmetic = match r.flops {
            0 => format!("{:>9} {:>6}", "-", "-"),
            _ => format!("{:>9.1} {:>5.0}%", r.gflops(), 100.0 * r.gflops() / peak.gflops),
        };
        format!("{:>9.3} {:>5.1}% {arithmetic} {:>12} {:>7.1}", r.ms, 100.0 * r.ms / step_ms, r.bytes, r.gbytes())
    };
    let heads = format!("{:>9} {:>6} {:>9} {:>6} {:>12} {:>7}", "ms", "step", "GFLOP/s", "peak", "bytes", "GB/s");
    outln!("{:<28} {:<16} {:<10} {heads}", "call", "pass", "algorithm")?;
    for r in rows {
        outln!("{:<28} {:<16} {:<10} {}", r.name, r.pass, r.algorithm, rates(r))?;
    }
    outln!("\n{:<45} {:>10} {heads}", "sums by kind", "calls")?;
    for r in kinds {
        outln!("{:<45} {:>10} {}", r.kind, r.calls, rates(r))?;
    }
    outln!("{:<45} {:>10} {between:>9.3} {:>5.1}%", "between the calls", "", 100.0 * between / step_ms)?;
    outln!("\nstep {step_ms:.3} ms; measured peak {:.1} GFLOP/s, memory {:.1} GB/s (read and written)", peak.gflops, peak.gbytes)?;
    outln!("GFLOP/s count the products of the definition: Winograd's algorithms do fewer and may pass the peak")
}
