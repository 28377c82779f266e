//! The kernel calls of a planned step, by the names that people know.

use nunatak_core::Operation;
use nunatak_nn::summary::{call_algorithm, call_name, each_call};
use nunatak_nn::{Blueprint, Call as Of, ParamId, ValueId};

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

/// Every kernel call of the step, in order.
pub fn calls(blueprint: &Blueprint) -> Vec<Call> {
    let mut list = Vec::new();
    each_call(blueprint, |call| {
        let name = call_name(blueprint, call).to_string();
        list.push(Call {
            name,
            op: op(blueprint, call),
            pass: call.pass(),
            algorithm: call_algorithm(blueprint, call),
            bytes: writes(blueprint, call),
        });
    });
    list
}

fn op(blueprint: &Blueprint, call: Of) -> &'static str {
    match call {
        Of::Update(_) => "sgd",
        Of::Input(v) | Of::Forward(v) | Of::BackwardWeight(v) | Of::BackwardInput(v) | Of::BackwardStep(v) => {
            blueprint.tape().node(v).map_or("", |node| node.op.name())
        }
    }
}

/// Bytes that a call writes, and its scratch.
fn writes(blueprint: &Blueprint, call: Of) -> usize {
    let (tape, plan) = (blueprint.tape(), blueprint.plan());
    let len = |v: ValueId| tape.node(v).map_or(0, |n| n.shape.len());
    let param = |id: ParamId| blueprint.network().param_at(id).len();
    let inputs = |v: ValueId| {
        let need = blueprint.needs().at(v);
        tape.node(v).map_or(0, |n| n.inputs().filter(|&(i, _)| need.dx[i]).map(|(_, x)| len(x)).sum::<usize>())
    };
    let params = |v: ValueId| {
        let need = blueprint.need_apart(v);
        tape.node(v).map_or(0, |n| n.op.trained(need.dw).map(param).sum::<usize>())
    };
    4 * match call {
        Of::Input(v) => len(v),
        Of::Forward(v) => len(v) + plan.saved(v).len() + plan.forward_scratch(v).len(),
        Of::BackwardWeight(v) => params(v) + plan.backward_scratch(v).len(),
        Of::BackwardInput(v) => inputs(v) + plan.backward_scratch(v).len(),
        Of::BackwardStep(v) => blueprint.one_pass(v).map_or(0, |(_, id)| param(id)) + inputs(v) + plan.backward_scratch(v).len(),
        Of::Update(id) => param(id),
    }
}

/// Bytes that a call can't do without: every tensor that it reads or writes, once. Whatever scratch it
/// uses on the way stays in the caches if it is well made.
pub fn traffic(blueprint: &Blueprint, call: Of) -> u64 {
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
            // A bias alone asks for no input.
            let apart = blueprint.need_apart(v).dw;
            let reads = if apart[0] == need.dw[0] { read(node.op.backward_weight_reads()) } else { numbers(v) };
            reads + node.op.trained(apart).map(param).sum::<usize>()
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

#[cfg(test)]
mod tests {
    use super::*;
    use nunatak_nn::{Loss, Network, Options, Recipe, Setup, Update};

    /// What one pass over a weight does is counted there, and not again at the bias beside it.
    #[test]
    fn a_weight_is_counted_once() {
        let recipe = Recipe::resnet18(1000);
        let setup = Setup {
            trainable: Network::new(recipe).expect("a network").all(),
            mode: nunatak_nn::Mode::Train,
            loss: Loss::Sum,
            options: Options { update: Update::During, ..Options::default() },
            ..Setup::inference(recipe, 1, 64, 64)
        };
        let (blueprint, ..) = setup.plan().expect("a plan");
        let of = |pass: &str| calls(&blueprint).into_iter().find(|c| c.name == "fc" && c.pass == pass).expect("a call");
        let (weight, bias) = (of("backward_step"), of("backward_weight"));
        assert_eq!((weight.algorithm, bias.algorithm), ("stream", "-"));
        let scratch = 4 * blueprint
            .plan()
            .backward_scratch(blueprint.tape().values().rev().find(|v| blueprint.one_pass(*v).is_some()).expect("fc"))
            .len();
        assert_eq!(bias.bytes - scratch, 4 * 1000);
        // Rows of outputs are padded to whole lines.
        assert_eq!(weight.bytes - scratch, 4 * (512 * 1008 + 512));
        let mut bias_traffic = None;
        each_call(&blueprint, |call| {
            if matches!(call, Of::BackwardWeight(v) if blueprint.one_pass(v).is_some()) {
                bias_traffic = Some(traffic(&blueprint, call));
            }
        });
        assert_eq!(bias_traffic, Some(4 * 2 * 1000));
    }
}
