//! Part two: what freezing saves, in calls, bytes and time.

use super::tutorial::{Inputs, Step};
use super::{bytes, median};
use crate::failure::Failure;
use crate::outln;
use nunatak_core::rng::Generator;
use nunatak_nn::{Optimizer, Sgd, Trainer};
use std::time::{Duration, Instant};

/// Steps before the clock counts, and steps that are timed.
const WARM_UP: usize = 3;
const TIMED: usize = 15;
/// No more time than this for one measurement, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Backward calls of a step: gradients of parameters, gradients of values.
fn calls(step: &Step) -> [usize; 2] {
    let (tape, needs) = (step.blueprint.tape(), step.blueprint.needs());
    let mut calls = [0; 2];
    for value in tape.values() {
        let need = needs.at(value);
        calls[0] += need.dw.iter().filter(|dw| **dw).count();
        calls[1] += need.dx.iter().filter(|dx| **dx).count();
    }
    calls
}

/// The median time of a whole step. With a rate of 0 all arithmetic is done and the weights stay,
/// so that no step meets the infinities that this loss, which has no minimum, would end in.
fn time(trainer: &mut Trainer, step: &Step, inputs: &Inputs) -> Result<(Duration, usize), Failure> {
    trainer.switch(step.blueprint.clone())?;
    // Switching to a head of another size leaves it zero.
    trainer.init_head(&mut Generator::manual_seed(2));
    let optimizer = Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(0.0) })?;
    let mut times = Vec::new();
    let begin = Instant::now();
    for i in 0..WARM_UP + TIMED {
        let start = Instant::now();
        step.forward(trainer, inputs)?;
        trainer.backward_and_step(&optimizer)?;
        if i >= WARM_UP {
            times.push(start.elapsed());
        }
        if begin.elapsed() > PATIENCE && !times.is_empty() {
            break;
        }
    }
    Ok((median(&mut times), times.len()))
}

pub(super) fn run(trainer: &mut Trainer, [full, frozen]: [&Step; 2], [inputs, few]: [&Inputs; 2]) -> Result<(), Failure> {
    outln!("")?;
    outln!("2. What freezing saves")?;
    outln!("----------------------")?;
    outln!("The full step trains all of ResNet18, the frozen one the new fc alone (one image")?;
    outln!("of 3x64x64). What is not needed is not skipped: it is not in the plan.")?;
    outln!("")?;
    let row = |what: &str, full: String, frozen: String| outln!("    {what:<42}{full:>15}{frozen:>15}");
    row("", "full step".into(), "frozen step".into())?;
    let [[dw, dx], [few_dw, few_dx]] = [calls(full), calls(frozen)];
    row("backward: gradients of parameters", dw.to_string(), few_dw.to_string())?;
    row("backward: gradients of activations", dx.to_string(), few_dx.to_string())?;
    let [a, b] = [full, frozen].map(|step| step.blueprint.summary(&step.slots));
    for (what, a, b) in [
        ("weights", a.weights, b.weights),
        ("running statistics", a.statistics, b.statistics),
        ("momentum", a.momentum, b.momentum),
        ("gradients", a.gradients, b.gradients),
        ("activations, at the busiest moment", a.activations, b.activations),
        ("scratch, at that moment", a.scratch, b.scratch),
        ("alignment and gaps", a.padding, b.padding),
        ("the block of memory, known beforehand", a.block, b.block),
    ] {
        row(what, bytes(a), bytes(b))?;
    }
    let (slow, count) = time(trainer, full, inputs)?;
    let (fast, few_count) = time(trainer, frozen, few)?;
    let ms = |t: Duration| format!("{:.2} ms", t.as_secs_f64() * 1e3);
    row(&format!("time of a step (median of {count} and {few_count})"), ms(slow), ms(fast))?;
    outln!("")?;
    let gone = dw + dx - few_dw - few_dx;
    outln!(
        "Of {} backward calls {gone} are gone; the frozen step takes {:.0} % of the memory and",
        dw + dx,
        100.0 * b.block as f64 / a.block as f64
    )?;
    outln!(
        "{:.0} % of the time. Both ran in the same block: nothing was allocated between.",
        100.0 * fast.as_secs_f64() / slow.as_secs_f64()
    )
}
