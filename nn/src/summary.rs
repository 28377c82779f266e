//! A planned step as text, without a heap: every call, and where the bytes go.

use crate::blueprint::{Blueprint, NetSlots};
use crate::op::Op;
use crate::params::Name;
use crate::watch::Call;
use core::fmt;
use nunatak_core::{Node, Operation, ValueId};
use nunatak_kernels::Pass;

/// What a call works on: its module's name, or the operation and its number; of an update the
/// parameter's name.
pub fn call_name(blueprint: &Blueprint, call: Call) -> Name {
    let v = match call {
        Call::Update(id) => return Name::of(blueprint.network().param_at(id)),
        Call::Input(v) | Call::Forward(v) | Call::BackwardWeight(v) | Call::BackwardInput(v) => v,
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

/// The calls of a plan, as they are counted while a step runs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct CallCounts {
    /// Of a forward.
    pub forward: usize,
    /// Of a backward, without updates.
    pub backward: usize,
    /// Updates.
    pub update: usize,
}

/// How many calls a step of this plan makes.
pub fn call_counts(blueprint: &Blueprint) -> CallCounts {
    let (tape, needs) = (blueprint.tape(), blueprint.needs());
    let mut counts = CallCounts::default();
    for v in tape.values() {
        let need = needs.at(v);
        counts.forward += usize::from(tape.node(v).is_ok_and(|node| node.op.computes()));
        counts.backward += usize::from(need.dw != [false; 2]) + usize::from(need.dx != [false; 2]);
        counts.update += need.dw.iter().filter(|needed| **needed).count();
    }
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

    fn line(&self, f: &mut fmt::Formatter, v: ValueId, call: Call, pass: Option<Pass>) -> fmt::Result {
        let Ok(node) = self.blueprint.tape().node(v) else { return Ok(()) };
        let what = pass.map_or("update", |pass| match pass {
            Pass::Forward => "forward",
            Pass::BackwardInput => "backward_input",
            Pass::BackwardWeight => "backward_weight",
        });
        let algorithm = pass.map_or("-", |pass| algorithm(node, pass));
        writeln!(f, "{:<28} {what:<16} {algorithm}", call_name(self.blueprint, call))
    }
}

fn algorithm(node: &Node<Op>, pass: Pass) -> &'static str {
    match node.op {
        Op::Conv2d { algorithms, .. } => algorithms[pass as usize].name(),
        _ => "-",
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (tape, needs) = (self.blueprint.tape(), self.blueprint.needs());
        writeln!(f, "{:<28} {:<16} algorithm", "call", "pass")?;
        for v in tape.values().filter(|v| tape.node(*v).is_ok_and(|node| node.op.computes())) {
            self.line(f, v, Call::Forward(v), Some(Pass::Forward))?;
        }
        for v in tape.values().rev() {
            let need = needs.at(v);
            if need.dw != [false; 2] {
                self.line(f, v, Call::BackwardWeight(v), Some(Pass::BackwardWeight))?;
            }
            if need.dx != [false; 2] {
                self.line(f, v, Call::BackwardInput(v), Some(Pass::BackwardInput))?;
            }
            let Ok(node) = tape.node(v) else { continue };
            for id in node.op.trained(need.dw) {
                self.line(f, v, Call::Update(id), None)?;
            }
        }
        let bytes = self.blueprint.summary(self.slots);
        writeln!(f, "\nbytes when most are in use:")?;
        for (what, bytes) in [
            ("weights", bytes.weights),
            ("running statistics", bytes.statistics),
            ("gradients", bytes.gradients),
            ("momentum", bytes.momentum),
            ("activations", bytes.activations),
            ("scratch", bytes.scratch),
            ("gaps and alignment", bytes.padding),
            ("tables (tape, plan)", bytes.tables),
            ("all", bytes.total()),
        ] {
            writeln!(f, "  {what:<20} {bytes:>12}")?;
        }
        Ok(())
    }
}
