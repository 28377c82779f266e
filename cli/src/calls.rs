//! The kernel calls of a planned step, by the names that people know.

use nunatak_core::{Node, Operation};
use nunatak_nn::op::Op;
use nunatak_nn::{Blueprint, Pass, ValueId};

/// A kernel call of a step.
#[derive(Clone, PartialEq)]
pub struct Call {
    /// The layer's name, or the operation and its number.
    pub name: String,
    /// What is computed: a fused operation names its parts.
    pub op: &'static str,
    /// forward, backward_input, backward_weight, update, or backward_step: the last three in one.
    pub pass: &'static str,
    /// How it is computed.
    pub algorithm: &'static str,
    /// What it writes, and its scratch.
    pub bytes: usize,
}

/// A node's name: its module's, or the operation and its number.
pub fn name(blueprint: &Blueprint, v: ValueId) -> String {
    let Ok(node) = blueprint.tape().node(v) else { return String::new() };
    match node.op.params()[0] {
        Some(id) => {
            let param = blueprint.network().param_at(id).to_string();
            param.rsplit_once('.').map_or(param.clone(), |(module, _)| module.to_string())
        }
        None => format!("{}#{}", node.op.name(), v.index()),
    }
}

/// How a node's pass is computed; `-` where there is one way only.
pub fn algorithm(node: &Node<Op>, pass: Pass) -> &'static str {
    match (node.op.convolution(), node.op) {
        (Some((_, algorithms, _)), _) => algorithms[pass as usize].name(),
        (_, Op::Linear { size, .. }) => size.algorithm().name(),
        _ => "-",
    }
}

/// Every kernel call of the step, in order.
pub fn calls(blueprint: &Blueprint) -> Vec<Call> {
    let (tape, plan, needs) = (blueprint.tape(), blueprint.plan(), blueprint.needs());
    let mut list = Vec::new();
    let len = |v: ValueId| tape.node(v).map_or(0, |n| 4 * n.shape.len());
    for v in tape.values() {
        let Ok(node) = tape.node(v) else { continue };
        if !node.op.computes() {
            continue;
        }
        let bytes = len(v) + 4 * (plan.saved(v).len() + plan.forward_scratch(v).len());
        list.push(Call { name: name(blueprint, v), op: node.op.name(), pass: "forward", algorithm: algorithm(node, Pass::Forward), bytes });
    }
    for v in tape.values().rev() {
        let Ok(node) = tape.node(v) else { continue };
        let need = needs.at(v);
        let scratch = 4 * plan.backward_scratch(v).len();
        let (name, op) = (name(blueprint, v), node.op.name());
        // What is done in one pass is one call.
        let one_pass = blueprint.one_pass(v).is_some();
        let trained = |of: usize| need.dw[of] && !(one_pass && of == 0);
        let inputs: usize = node.inputs().filter(|&(i, _)| need.dx[i]).map(|(_, x)| len(x)).sum();
        let params: usize =
            (0..2).filter(|&i| trained(i)).filter_map(|i| node.op.params()[i]).map(|id| 4 * blueprint.network().param_at(id).len()).sum();
        if trained(0) || trained(1) {
            let (pass, algorithm) = ("backward_weight", algorithm(node, Pass::BackwardWeight));
            list.push(Call { name: name.clone(), op, pass, algorithm, bytes: params + scratch });
        }
        if one_pass {
            let bytes = 4 * node.op.params()[0].map_or(0, |id| blueprint.network().param_at(id).len()) + inputs + scratch;
            list.push(Call { name: name.clone(), op, pass: "backward_step", algorithm: algorithm(node, Pass::BackwardWeight), bytes });
        } else if need.dx != [false; 2] {
            let (pass, algorithm) = ("backward_input", algorithm(node, Pass::BackwardInput));
            list.push(Call { name: name.clone(), op, pass, algorithm, bytes: inputs + scratch });
        }
        if trained(0) || trained(1) {
            list.push(Call { name, op: "sgd", pass: "update", algorithm: "-", bytes: params });
        }
    }
    list
}

/// Bytes that a call can't do without: every tensor that it reads or writes, once. Whatever scratch it
/// uses on the way stays in the caches if it is well made.
pub fn traffic(blueprint: &Blueprint, call: nunatak_nn::Call) -> u64 {
    use nunatak_nn::Call as Of;
    let numbers = |v: ValueId| blueprint.tape().node(v).map_or(0, |n| n.shape.len());
    let param = |id: nunatak_nn::ParamId| blueprint.network().param_at(id).len();
    let (Of::Forward(v) | Of::BackwardWeight(v) | Of::BackwardInput(v) | Of::BackwardStep(v) | Of::Input(v)) = call else {
        let Of::Update(id) = call else { return 0 };
        // The parameter and its momentum are read and written, the gradient is read.
        let passes = if blueprint.options().momentum { 5 } else { 3 };
        return 4 * (passes * param(id)) as u64;
    };
    let Ok(node) = blueprint.tape().node(v) else { return 0 };
    let params = || node.op.params().into_iter().flatten().map(param).sum::<usize>();
    let inputs = |which: &dyn Fn(usize) -> bool| node.inputs().filter(|(i, _)| which(*i)).map(|(_, x)| numbers(x)).sum::<usize>();
    let saved = blueprint.plan().saved(v).len();
    let need = blueprint.needs().at(v);
    let read = |reads: nunatak_core::Reads| {
        inputs(&|i| reads.x[i]) + if reads.y { numbers(v) } else { 0 } + if reads.saved { saved } else { 0 } + numbers(v)
    };
    let total = match call {
        Of::Input(_) => 2 * numbers(v),
        Of::Forward(_) => inputs(&|_| true) + params() + numbers(v) + saved,
        Of::BackwardWeight(_) => {
            let written = (0..2).filter(|&i| need.dw[i]).filter_map(|i| node.op.params()[i]).map(param).sum::<usize>();
            read(node.op.backward_weight_reads()) + written
        }
        Of::BackwardStep(_) => {
            // The weight and its momentum are read and written.
            let weight = if blueprint.options().momentum { 4 } else { 2 } * node.op.params()[0].map_or(0, param);
            read(node.op.backward_weight_reads()) + weight + inputs(&|i| need.dx[i])
        }
        _ => read(node.op.backward_input_reads()) + params() + inputs(&|i| need.dx[i]),
    };
    4 * total as u64
}
