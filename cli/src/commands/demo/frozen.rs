//! Part two: what freezing saves, in calls, bytes and time.

use super::bytes;
use super::tutorial::{Inputs, Step};
use crate::bytes::Bytes;
use crate::failure::Failure;
use crate::median::median;
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
    step.plan.program.backward().fold([0; 2], |[parameters, values], call| {
        let wanted = (0..2).filter(|i| call.wants_weight(*i)).count();
        [parameters + wanted, values + (0..call.inputs()).filter(|i| call.wants_input(*i)).count()]
    })
}

/// The median time of a whole step in ms. With a rate of 0 all arithmetic is done and the weights stay,
/// so that no step meets the infinities that this loss, which has no minimum, would end in.
fn time(trainer: &mut Trainer, step: &Step, inputs: &Inputs) -> Result<(f64, usize), Failure> {
    trainer.switch(step.program())?;
    // Switching to a head of another size leaves it zero.
    trainer.init_head(&mut Generator::manual_seed(2));
    let optimizer = Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(0.0) })?;
    let mut times = Vec::new();
    let begin = Instant::now();
    for i in 0..WARM_UP + TIMED {
        let start = Instant::now();
        step.forward(trainer, inputs)?;
        trainer.backward_and_step(optimizer)?;
        if i >= WARM_UP {
            times.push(start.elapsed().as_secs_f64() * 1e3);
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
    let [a, b] = [full, frozen].map(|step| Bytes::of(&step.plan.program));
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
    let ms = |t: f64| format!("{t:.2} ms");
    row(&format!("time of a step (median of {count} and {few_count})"), ms(slow), ms(fast))?;
    outln!("")?;
    let gone = dw + dx - few_dw - few_dx;
    outln!(
        "Of {} backward calls {gone} are gone; the frozen step takes {:.0} % of the memory and",
        dw + dx,
        100.0 * b.block as f64 / a.block as f64
    )?;
    outln!("{:.0} % of the time. Both ran in the same block: nothing was allocated between.", 100.0 * fast / slow)
}
