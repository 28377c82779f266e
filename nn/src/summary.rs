//! A planned step as text, without a heap: every call, and where the bytes go.

use crate::blueprint::{Blueprint, NetSlots};
use crate::op::Op;
use crate::params::Name;
use crate::watch::Call;
use core::fmt;
use nunatak_core::Operation;
use nunatak_kernels::Pass;

/// Visits every call of a step of this plan in the order in which plans that update during the walk make
/// them; others make the updates last, in the order of the parameters.
pub fn each_call(blueprint: &Blueprint, mut visit: impl FnMut(Call)) {
    let tape = blueprint.tape();
    for v in tape.values().filter(|v| tape.node(*v).is_ok_and(|node| node.op.computes())) {
        visit(Call::Forward(v));
    }
    for v in tape.values().rev() {
        let (Ok(node), need) = (tape.node(v), blueprint.need_apart(v)) else { continue };
        if need.dw != [false; 2] {
            visit(Call::BackwardWeight(v));
        }
        if blueprint.one_pass(v).is_some() {
            visit(Call::BackwardStep(v));
        } else if need.dx != [false; 2] {
            visit(Call::BackwardInput(v));
        }
        for id in node.op.trained(need.dw) {
            visit(Call::Update(id));
        }
    }
}

/// What a call works on: its module's name, or the operation and its number; of an update the
/// parameter's name.
pub fn call_name(blueprint: &Blueprint, call: Call) -> Name {
    let (Call::Input(v) | Call::Forward(v) | Call::BackwardWeight(v) | Call::BackwardInput(v) | Call::BackwardStep(v)) = call else {
        let Call::Update(id) = call else { return Name::of("") };
        return Name::of(blueprint.network().param_at(id));
    };
    let Ok(node) = blueprint.tape().node(v) else { return Name::of("") };
    match node.op.params()[0] {
        Some(id) => {
            let param = Name::of(blueprint.network().param_at(id));
            Name::of(param.as_str().rsplit_once('.').map_or("", |(module, _)| module))
        }
        None => Name::of(format_args!("{}#{}", node.op.name(), v.index())),
    }
}

/// How a call is computed; `-` where there is one way only.
pub fn call_algorithm(blueprint: &Blueprint, call: Call) -> &'static str {
    let (v, pass) = match call {
        Call::Forward(v) => (v, Pass::Forward),
        Call::BackwardInput(v) => (v, Pass::BackwardInput),
        // Beside one pass over the weight a bias is left.
        Call::BackwardWeight(v) if !blueprint.need_apart(v).dw[0] => return "-",
        Call::BackwardWeight(v) | Call::BackwardStep(v) => (v, Pass::BackwardWeight),
        Call::Input(_) | Call::Update(_) => return "-",
    };
    let Ok(node) = blueprint.tape().node(v) else { return "-" };
    match (node.op.convolution(), node.op) {
        (Some((_, algorithms, _)), _) => algorithms[pass as usize].name(),
        (_, Op::Linear { size, .. }) => size.algorithm().name(),
        _ => "-",
    }
}

/// The calls of a plan, as they are counted while a step runs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct CallCounts {
    /// Of a forward.
    pub forward: usize,
    /// Of a backward, without updates.
    pub backward: usize,
    /// Updates that are calls of their own.
    pub update: usize,
}

/// How many calls a step of this plan makes.
pub fn call_counts(blueprint: &Blueprint) -> CallCounts {
    let mut counts = CallCounts::default();
    each_call(blueprint, |call| match call {
        Call::Forward(_) => counts.forward += 1,
        Call::Update(_) => counts.update += 1,
        Call::BackwardWeight(_) | Call::BackwardInput(_) | Call::BackwardStep(_) => counts.backward += 1,
        Call::Input(_) => {}
    });
    counts
}

/// Prints a plan.
pub struct Summary<'a> {
    blueprint: &'a Blueprint,
    slots: &'a NetSlots,
}

impl<'a> Summary<'a> {
    /// Of a blueprint and the buffers that were made with it.
    pub fn new(blueprint: &'a Blueprint, slots: &'a NetSlots) -> Summary<'a> {
        Summary { blueprint, slots }
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{:<28} {:<16} algorithm", "call", "pass")?;
        let mut written = Ok(());
        each_call(self.blueprint, |call| {
            let (name, algorithm) = (call_name(self.blueprint, call), call_algorithm(self.blueprint, call));
            written = written.and_then(|()| writeln!(f, "{name:<28} {:<16} {algorithm}", call.pass()));
        });
        written?;
        write!(f, "\nbytes when most are in use:\n{}", self.blueprint.summary(self.slots))
    }
}
