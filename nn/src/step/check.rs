//! What is proven of a program's calls before they are executed: that each fits its operation.
//!
//! [`Program::check`] has proven that every place lies in its region. Here each call's operation is known to
//! this build, its places have the lengths that the kernel asks for, and nothing that is written lies over
//! something else, except where the operation works in place.

use crate::Error;
use crate::ops::{Context, Facts, Lengths};
use crate::plan::MAX_THREADS;
use crate::record::Layout;
use crate::routines::Table;
use nunatak_core::program::{Call, EntryKind, Flags, Place, Program, ProgramError};
use nunatak_core::tape::Reads;

/// Checks every call of a program.
///
/// # Errors
/// [`Error::Program`], [`Error::OtherTarget`].
pub(crate) fn check(program: &Program, context: &Context, routines: Table) -> Result<(), Error> {
    if program.threads() > MAX_THREADS {
        return Err(Error::OtherTarget("more than 4096 threads"));
    }
    if program.flags().has(Flags::DURING) && program.flags().has(Flags::SUMMED) {
        return Err(Error::Misfit("parameters that are updated during the walk and after several"));
    }
    for id in program.entries() {
        let entry = program.entry(id);
        let layout = Layout::decode(entry.layout()).ok_or("a layout that there is not")?;
        let fits = match layout {
            Layout::Weight(w) => w.numbers() == entry.numbers() && w.len() == entry.place().len(),
            Layout::Plain | Layout::Words => entry.numbers() == entry.place().len(),
            Layout::Count => true,
        };
        let of_kind = |layout_is: Layout, kind| (layout == layout_is) == (entry.kind() == kind);
        if !fits || !of_kind(Layout::Count, EntryKind::Count) || !of_kind(Layout::Words, EntryKind::Words) {
            return Err(Error::Misfit("an entry whose layout and shape differ"));
        }
    }
    for call in program.forward().chain(program.backward()) {
        let fits = routines.facts(&call, |facts| check_call(&call, facts, context)).and_then(|()| routines.covers(&call));
        fits.map_err(|what| ProgramError::Call { node: call.node(), what })?;
    }
    for value in program.values() {
        if value.flags() & 2 != 0 && value.shape()[1..] != [2, 1, 1] {
            return Err(Error::Misfit("labels of another shape"));
        }
    }
    Ok(())
}

fn check_call(call: &Call, facts: &dyn Facts, context: &Context) -> Result<(), &'static str> {
    let lengths = facts.lengths();
    if call.inputs() != lengths.x.count() {
        return Err("another number of inputs");
    }
    let reads = reads(call, facts);
    for i in 0..call.inputs() {
        let due = if reads.x >> i & 1 == 1 { lengths.x.at(i) } else { Some(0) };
        if Some(call.x(i).len()) != due {
            return Err("an input of another length");
        }
    }
    if call.entry_count() != lengths.entries.iter().flatten().count() {
        return Err("another number of entries");
    }
    for (i, len) in lengths.entries.iter().flatten().enumerate() {
        let entry = call.program().entry(call.entry(i));
        if entry.place().len() != *len || (*len == 0) != (entry.kind() == EntryKind::Count) {
            return Err("an entry of another length");
        }
        if (0..i).any(|before| call.entry(before) == call.entry(i)) {
            return Err("one entry at two places");
        }
        // Where batches are counted, the running statistics beside the count are written.
        let moves = lengths.entries.iter().flatten().any(|len| *len == 0);
        if moves && matches!(entry.kind(), EntryKind::RunningMean | EntryKind::RunningVar) && entry.is_borrowed() {
            return Err("statistics that move, and are read in place");
        }
    }
    let attached = match (call.is_backward(), call.is_again()) {
        (true, _) => 0,
        (_, true) => facts.attached_len(),
        _ => facts.attached_len().max(facts.reads_attached()),
    };
    if call.y().len() != if reads.y { lengths.y } else { 0 } || call.attached().len() != attached {
        return Err("a result of another length");
    }
    if reads.saved && call.saved().len() < facts.saved_len(context) {
        return Err("too little room for what is saved");
    }
    check_apart(call)?;
    match call.is_backward() {
        false => check_forward(call, facts, context),
        true => check_backward(call, facts, &lengths, context),
    }
}

/// The places of a call are apart, or the same place: no two overlap in part. What is the same place is looked at
/// afterwards.
fn check_apart(call: &Call) -> Result<(), &'static str> {
    let gradient = |i: usize| match call.wants_weight(i) && i < call.entry_count() {
        true => call.program().entry(call.entry(i)).gradient().unwrap_or_default(),
        false => Place::default(),
    };
    let fixed = [call.y(), call.saved(), call.scratch(), call.attached(), call.dy(), gradient(0), gradient(1)];
    let inputs = || (0..call.inputs()).flat_map(|i| [call.x(i), call.dx(i), call.sum(i)]);
    for (i, a) in fixed.into_iter().chain(inputs()).enumerate() {
        if fixed.into_iter().chain(inputs()).take(i).any(|b| a != b && a.meets(b)) {
            return Err("two places overlap in part");
        }
    }
    match gradient(0).meets(gradient(1)) {
        true => Err("two parameters' gradients lie in one place"),
        false => Ok(()),
    }
}

/// The places that a call has: all of a forward call, what it reads of a backward call.
fn reads(call: &Call, facts: &dyn Facts) -> Reads {
    if !call.is_backward() {
        return Reads { x: !0, y: true, saved: true };
    }
    let of = |wanted: bool, reads: Reads| if wanted { reads } else { Reads::default() };
    let dx = of((0..call.inputs()).any(|i| call.wants_input(i)), facts.backward_input_reads());
    let dw = of(call.wants_weight(0) || call.wants_weight(1), facts.backward_weight_reads());
    Reads { x: dx.x | dw.x, y: dx.y || dw.y, saved: dx.saved || dw.saved }
}

fn check_forward(call: &Call, op: &dyn Facts, context: &Context) -> Result<(), &'static str> {
    if call.scratch().len() < op.forward_scratch_len(context) {
        return Err("too little scratch");
    }
    let writes_attached = op.attached_len() > 0;
    let attached = if writes_attached { call.attached() } else { Place::default() };
    let writes = [call.y(), call.saved(), call.scratch(), attached];
    check_disjoint(&writes)?;
    for i in 0..call.inputs() {
        let in_place = call.x(i) == call.y() && op.overwrites(i);
        if writes.iter().enumerate().any(|(w, place)| place.meets(call.x(i)) && !(w == 0 && in_place)) {
            return Err("an input lies where something is written");
        }
    }
    match !writes_attached && writes.iter().any(|place| place.meets(call.attached())) {
        true => Err("what is attached lies where something is written"),
        false => Ok(()),
    }
}

fn check_backward(call: &Call, op: &dyn Facts, lengths: &Lengths, context: &Context) -> Result<(), &'static str> {
    let inputs = || (0..call.inputs()).filter(|i| call.wants_input(*i));
    let weight = call.wants_weight(0) || call.wants_weight(1);
    if call.scratch().len() < op.backward_scratch_len(context, inputs().next().is_some(), weight) {
        return Err("too little scratch");
    }
    if call.dy().len() != lengths.y {
        return Err("a gradient of another length than its result");
    }
    if call.dy().is_empty() || weight && op.entries().params()[0].is_none() {
        return Err("no gradient, or one of a parameter that there is not");
    }
    if call.is_one_pass() && !(op.steps(0) && call.wants_weight(0) && call.program().flags().has(Flags::DURING)) {
        return Err("one pass over a weight that can't be");
    }
    for i in inputs() {
        if !op.differentiable(i) || Some(call.dx(i).len()) != lengths.x.at(i) || call.adds(i) && !op.accumulates(i) {
            return Err("an input's gradient that can't be");
        }
    }
    check_disjoint(&[call.scratch(), call.saved()])?;
    for i in inputs() {
        let dx = call.dx(i);
        let in_place = dx == call.dy() && op.gradient_overwrites(i) && !call.adds(i);
        let reads = [call.scratch(), call.saved(), call.y()];
        let own = (0..call.inputs()).any(|x| dx.meets(call.x(x)));
        let others = inputs().any(|other| other != i && dx.meets(call.dx(other)) && dx != call.dx(other));
        if reads.iter().any(|place| place.meets(dx)) || own || others || dx.meets(call.dy()) && !in_place {
            return Err("an input's gradient lies where something else is needed");
        }
    }
    let gradients = (0..2).filter(|i| call.wants_weight(*i)).filter_map(|i| call.program().entry(call.entry(i)).gradient());
    for dw in gradients {
        if [call.scratch(), call.saved(), call.y(), call.dy()].iter().any(|place| place.meets(dw)) {
            return Err("a parameter's gradient lies where something else is needed");
        }
    }
    if call.scratch().meets(call.dy()) || (0..call.inputs()).any(|i| call.scratch().meets(call.x(i))) {
        return Err("scratch lies where something is read");
    }
    Ok(())
}

/// What is written lies apart.
fn check_disjoint(writes: &[Place]) -> Result<(), &'static str> {
    for (i, a) in writes.iter().enumerate() {
        if writes[..i].iter().any(|b| a.meets(*b)) {
            return Err("two places that are written overlap");
        }
    }
    Ok(())
}
