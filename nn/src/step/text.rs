//! A program as text, without a heap: every call, and where the bytes go.

use super::watch::Event;
use crate::name::Name;
use crate::ops::Op;
use core::fmt;
use nunatak_core::arena::block_bytes;
use nunatak_core::program::{Call, Flags, Program};
use nunatak_core::tape::{Reads, ValueId};
use nunatak_kernels::{Algorithm, Conv2d, Pass};

/// Visits every call of a step in the order in which programs that update during the walk make them; others
/// make the updates last, in the order of the parameters.
pub fn each_call(program: &Program, mut visit: impl FnMut(Event)) {
    for call in program.forward() {
        visit(Event::Forward(ValueId(call.node())));
    }
    let during = program.flags().has(Flags::DURING);
    let at_once = |id| if during { Event::Update(id) } else { Event::Sum(id) };
    for call in program.backward() {
        let v = ValueId(call.node());
        if call.is_again() {
            visit(Event::Again(v));
            continue;
        }
        let apart = |i: usize| call.wants_weight(i) && !(i == 0 && call.is_one_pass());
        if apart(0) || apart(1) {
            visit(Event::BackwardWeight(v));
        }
        if call.is_one_pass() {
            visit(Event::BackwardStep(v));
        } else if (0..call.inputs()).any(|i| call.wants_input(i)) {
            visit(Event::BackwardInput(v));
        }
        (0..2).filter(|i| apart(*i) && call.updates(*i)).for_each(|i| visit(at_once(call.entry(i))));
    }
    if !during {
        program.updates().for_each(|id| visit(Event::Update(id)));
    }
}

/// The program's call behind an event; none behind an input or an update.
pub fn call_of<'p>(program: &'p Program, event: Event) -> Option<Call<'p>> {
    match event {
        Event::Input(_) | Event::Sum(_) | Event::Update(_) => None,
        Event::Forward(v) => program.forward().find(|call| call.node() == v.0),
        Event::Again(v) => program.backward().find(|call| call.is_again() && call.node() == v.0),
        Event::BackwardWeight(v) | Event::BackwardInput(v) | Event::BackwardStep(v) => {
            program.backward().find(|call| call.is_backward() && call.node() == v.0)
        }
    }
}

/// What an event is about: its module's name, or the operation and its number; of an update the parameter's
/// name.
pub fn call_name(program: &Program, event: Event) -> Name {
    if let Event::Update(id) | Event::Sum(id) = event {
        return Name::of(program.entry(id).name());
    }
    let Some(call) = call_of(program, event) else {
        let Event::Input(v) = event else { return Name::of("") };
        return Name::of(format_args!("input#{}", v.0));
    };
    match call.entry_count() {
        0 => Name::of(format_args!("{}#{}", operation(&call), call.node())),
        _ => Name::of(program.entry(call.entry(0)).name().rsplit_once('.').map_or("", |(module, _)| module)),
    }
}

fn operation(call: &Call) -> &'static str {
    Op::of(call).map_or("unknown", |op| op.facts().name())
}

/// What an event computes: a fused operation names its parts.
pub fn call_operation(program: &Program, event: Event) -> &'static str {
    match event {
        Event::Sum(_) => "sum",
        Event::Update(_) => "sgd",
        Event::Input(_) => "input",
        _ => call_of(program, event).map_or("", |call| operation(&call)),
    }
}

/// How a call is computed; `-` where there is one way only.
pub fn call_algorithm(program: &Program, event: Event) -> &'static str {
    let pass = match event {
        Event::Forward(_) | Event::Again(_) => Pass::Forward,
        Event::BackwardInput(_) => Pass::BackwardInput,
        Event::BackwardWeight(_) | Event::BackwardStep(_) => Pass::BackwardWeight,
        Event::Input(_) | Event::Sum(_) | Event::Update(_) => return "-",
    };
    let Some(call) = call_of(program, event) else { return "-" };
    // Beside one pass over the weight a bias is left.
    if matches!(event, Event::BackwardWeight(_)) && (call.is_one_pass() || !call.wants_weight(0)) {
        return "-";
    }
    Op::of(&call).map_or("-", |op| op.facts().algorithm(pass))
}

/// Multiplications and additions of a call, however it is computed; 0 where memory counts.
pub fn call_flops(program: &Program, event: Event) -> u64 {
    call_of(program, event).and_then(|call| Op::of(&call).ok()).map_or(0, |op| op.facts().flops())
}

/// What a call of the backward walk reads besides the gradient of its result; nothing else of other calls.
pub fn call_reads(program: &Program, event: Event) -> Reads {
    let Some(op) = call_of(program, event).and_then(|call| Op::of(&call).ok()) else { return Reads::default() };
    match event {
        Event::BackwardInput(_) => op.facts().backward_input_reads(),
        Event::BackwardWeight(_) | Event::BackwardStep(_) => op.facts().backward_weight_reads(),
        Event::Input(_) | Event::Forward(_) | Event::Again(_) | Event::Sum(_) | Event::Update(_) => Reads::default(),
    }
}

/// The convolution that a call computes, and how each pass of it is computed, in the order of [`Pass`].
pub fn call_convolution(call: &Call) -> Option<(Conv2d, [Algorithm; 3])> {
    match Op::of(call) {
        Ok(Op::Conv2d(conv)) => Some((conv.size, conv.algorithms)),
        _ => None,
    }
}

/// The calls of a program, as they are counted while a step runs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct CallCounts {
    /// Of a forward.
    pub forward: usize,
    /// Of a backward, without updates.
    pub backward: usize,
    /// Updates that are calls of their own.
    pub update: usize,
}

/// How many calls a step makes.
pub fn call_counts(program: &Program) -> CallCounts {
    let mut counts = CallCounts::default();
    each_call(program, |event| match event {
        Event::Forward(_) => counts.forward += 1,
        Event::Update(_) => counts.update += 1,
        Event::Again(_) | Event::BackwardWeight(_) | Event::BackwardInput(_) | Event::BackwardStep(_) | Event::Sum(_) => {
            counts.backward += 1
        }
        Event::Input(_) => {}
    });
    counts
}

/// Prints a program: its calls, then its bytes.
#[derive(Debug)]
pub struct Summary<'p>(pub &'p Program<'p>);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{:<28} {:<16} algorithm", "call", "pass")?;
        let mut written = Ok(());
        each_call(self.0, |event| {
            let (name, algorithm) = (call_name(self.0, event), call_algorithm(self.0, event));
            written = written.and_then(|()| writeln!(f, "{name:<28} {:<16} {algorithm}", event.pass()));
        });
        written?;
        let [weights, statistics, momentum, gradients, activations, scratch] = self.0.busiest_bytes();
        let all = block_bytes(self.0.block_len());
        let rest = all.saturating_sub(weights + statistics + momentum + gradients + activations + scratch);
        writeln!(f, "\nbytes when most are in use:")?;
        for (what, bytes) in [
            ("weights", weights),
            ("running statistics", statistics),
            ("gradients", gradients),
            ("momentum", momentum),
            ("activations", activations),
            ("scratch", scratch),
            ("state, gaps, alignment", rest),
            ("all", all),
        ] {
            writeln!(f, "  {what:<24} {bytes:>12}")?;
        }
        writeln!(f, "the program itself: {} bytes", self.0.bytes().len())
    }
}
