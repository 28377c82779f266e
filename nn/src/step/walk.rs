//! The two walks: each call of the program is handed to its routine. No arithmetic here.
//!
//! At a call of the backward walk the parameters' gradients come first (dy may be written over by dx), then
//! the inputs', with the weights as forward saw them, then, in programs that update during the walk, the
//! update, or, where several walks make a step, the gradient's way into the momentum. In the former a weight that takes longer to read than to use is gone through once for all three.
//!
//! A parameter's gradient is judged as it arises, while it or what it was made of is in cache: one that is not
//! finite is noted, and ends a walk that updates.

use super::watch::{Event, Watcher};
use crate::Error;
use crate::ops::{Part, Run, UPDATED, lend};
use nunatak_core::program::{Call, Flags, Program};
use nunatak_core::tape::ValueId;
use nunatak_kernels::elementwise;

fn run_part(run: &mut Run, call: &Call, part: Part, position: usize) -> Result<(), Error> {
    let routine = run.routines.find(call.op(), part).ok_or(Error::Misfit("an operation without this pass"))?;
    (routine.run)(run, call, position)
}

/// Computes every value, or those behind a node.
pub(crate) fn forward(run: &mut Run, program: &Program, begin: Option<u32>, watch: Watcher) -> Result<(), Error> {
    let mut start = watch.now();
    for call in program.forward().filter(|call| begin.is_none_or(|begin| call.node() > begin)) {
        run_part(run, &call, Part::Forward, 0)?;
        let event = Event::Forward(ValueId(call.node()));
        start = watch.called_and(event, start, || watch.wrote(event, run, program, Some(&call)));
        watch.go_on()?;
    }
    Ok(())
}

/// Computes every gradient, and updates on the way where `run` has settings.
pub(crate) fn backward(run: &mut Run, program: &Program, watch: Watcher) -> Result<(), Error> {
    program.updates().for_each(|id| *run.mark(id) &= !UPDATED);
    let summed = program.flags().has(Flags::SUMMED);
    for call in program.backward() {
        let mut start = watch.now();
        let v = ValueId(call.node());
        if call.is_again() {
            run_part(run, &call, Part::Forward, 0)?;
            watch.called_and(Event::Again(v), start, || watch.wrote(Event::Again(v), run, program, Some(&call)));
            if run.sgd.is_none() {
                watch.go_on()?;
            }
            continue;
        }
        if run.routines.find(call.op(), Part::BackwardWeight).is_some() {
            run_part(run, &call, Part::BackwardWeight, 0)?;
        }
        let apart = |i: usize| call.wants_weight(i) && !(i == 0 && call.is_one_pass());
        for i in (0..2).filter(|i| apart(*i)) {
            judge(run, program, &call, i)?;
        }
        if apart(0) || apart(1) {
            let event = Event::BackwardWeight(v);
            start = watch.called_and(event, start, || watch.wrote(event, run, program, Some(&call)));
        }
        if call.is_one_pass() {
            run_part(run, &call, Part::BackwardStep, 0)?;
            let event = Event::BackwardStep(v);
            watch.called_and(event, start, || watch.wrote(event, run, program, Some(&call)));
        } else if inputs(run, &call)? {
            let event = Event::BackwardInput(v);
            watch.called_and(event, start, || watch.wrote(event, run, program, Some(&call)));
        }
        if run.sgd.is_none() {
            watch.go_on()?;
        }
        for i in (0..2).filter(|i| apart(*i) && call.updates(*i)) {
            let start = watch.now();
            let settings = run.settings(&call, i).ok_or(Error::UpdateIsDuring)?;
            let id = call.entry(i);
            let event = match summed {
                true => run.add_to_momentum(program, id, &settings).map(|()| Event::Sum(id))?,
                false => run.update(program, id, &settings).map(|()| Event::Update(id))?,
            };
            run.set_gradient(id, false);
            watch.called_and(event, start, || watch.wrote(event, run, program, None));
        }
    }
    Ok(())
}

/// Notes that a parameter has a gradient now, and whether it is finite.
fn judge(run: &mut Run, program: &Program, call: &Call, position: usize) -> Result<(), Error> {
    let id = call.entry(position);
    let before = run.has_gradient(id);
    run.set_gradient(id, true);
    match run.note_finite(call, position, position == 0 && run.routines.is_product(call), before)? || run.sgd.is_none() {
        true => Ok(()),
        false => Err(run.not_finite(program, id)),
    }
}

/// The inputs' gradients of a call: those that leave dy alone come first. Returns whether there was one.
fn inputs(run: &mut Run, call: &Call) -> Result<bool, Error> {
    let mut any = false;
    for over_dy in [false, true] {
        for i in (0..call.inputs()).filter(|i| call.wants_input(*i)) {
            if (call.dx(i) == call.dy()) != over_dy {
                continue;
            }
            run_part(run, call, Part::BackwardInput, i)?;
            any = true;
            if !call.sum(i).is_empty() {
                let ([addend], [sum]) = lend(run.memory, [call.dx(i)], [call.sum(i)])?;
                elementwise::add_assign(&run.cpu, addend, sum);
            }
        }
    }
    Ok(any)
}
