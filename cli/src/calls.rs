//! The kernel calls of a planned step, by the names that people know.

use nunatak_core::program::{Call as Kernel, Flags};
use nunatak_nn::step::{call_algorithm, call_name, call_of, call_operation, call_reads, each_call};
use nunatak_nn::{EntryId, EntryKind, Event, Program, ValueId};

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
pub fn calls(program: &Program) -> Vec<Call> {
    let mut list = Vec::new();
    each_call(program, |event| {
        list.push(Call {
            name: call_name(program, event).to_string(),
            op: call_operation(program, event),
            pass: event.pass(),
            algorithm: call_algorithm(program, event),
            bytes: writes(program, event),
        });
    });
    list
}

/// Numbers of an entry as it lies.
fn entry_len(program: &Program, id: EntryId) -> usize {
    program.entry(id).place().len()
}

/// Numbers of a value that comes from outside.
fn input_len(program: &Program, v: ValueId) -> usize {
    program.value_of_node(v.0).map_or(0, |(_, value)| value.place().len())
}

/// Numbers of the input gradients that a call computes.
fn gradients(call: &Kernel) -> usize {
    (0..call.inputs()).map(|i| call.dx(i).len()).sum()
}

/// Numbers of the parameters whose gradients a call computes apart from one pass over the weight.
fn trained(call: &Kernel) -> usize {
    (0..2).filter(|i| wants_apart(call, *i)).map(|i| call.param(i).len()).sum()
}

/// Whether the gradient of a parameter is computed, and not in one pass with its update.
fn wants_apart(call: &Kernel, position: usize) -> bool {
    call.wants_weight(position) && !(position == 0 && call.is_one_pass())
}

/// Bytes that a call writes, and its scratch.
fn writes(program: &Program, event: Event) -> usize {
    let numbers = match (event, call_of(program, event)) {
        (Event::Input(v), _) => input_len(program, v),
        (Event::Sum(id) | Event::Update(id), _) => entry_len(program, id),
        (_, None) => 0,
        (Event::Forward(_), Some(call)) => call.y().len() + call.saved().len() + call.scratch().len(),
        (Event::Again(_), Some(call)) => call.y().len() + call.scratch().len(),
        (Event::BackwardWeight(_), Some(call)) => trained(&call) + call.scratch().len(),
        (Event::BackwardInput(_), Some(call)) => gradients(&call) + call.scratch().len(),
        (Event::BackwardStep(_), Some(call)) => call.param(0).len() + gradients(&call) + call.scratch().len(),
    };
    4 * numbers
}

/// Bytes that a call can't do without: every tensor that it reads or writes, once. Whatever scratch it
/// uses on the way stays in the caches if it is well made.
pub fn traffic(program: &Program, event: Event) -> u64 {
    let momentum = program.flags().has(Flags::MOMENTUM);
    let numbers = match (event, call_of(program, event)) {
        (Event::Input(v), _) => 2 * input_len(program, v),
        // The momentum is read and written, the gradient is read; of an update the parameter is too.
        (Event::Sum(id), _) => 3 * entry_len(program, id),
        (Event::Update(id), _) => (if momentum { 5 } else { 3 }) * entry_len(program, id),
        (_, None) => 0,
        (Event::Forward(_) | Event::Again(_), Some(call)) => {
            let inputs: usize = (0..call.inputs()).map(|i| call.x(i).len()).sum();
            inputs + parameters(&call) + call.y().len() + call.saved().len()
        }
        (Event::BackwardWeight(_), Some(call)) => {
            // A bias alone asks for no input.
            let alone = !wants_apart(&call, 0) && call.is_one_pass();
            trained(&call) + if alone { call.dy().len() } else { reads(program, event, &call) }
        }
        (Event::BackwardInput(_), Some(call)) => reads(program, event, &call) + parameters(&call) + gradients(&call),
        // The weight and its momentum are read and written.
        (Event::BackwardStep(_), Some(call)) => {
            reads(program, event, &call) + if momentum { 4 } else { 2 } * call.param(0).len() + gradients(&call)
        }
    };
    4 * numbers as u64
}

/// Numbers of the parameters that a call reads.
fn parameters(call: &Kernel) -> usize {
    let entries = (0..call.entry_count()).map(|i| call.program().entry(call.entry(i)));
    entries.filter(|entry| entry.kind() == EntryKind::Parameter).map(|entry| entry.place().len()).sum()
}

/// Numbers that a backward call reads besides parameters, the gradient of its result among them.
fn reads(program: &Program, event: Event, call: &Kernel) -> usize {
    let reads = call_reads(program, event);
    let inputs: usize = (0..call.inputs()).filter(|i| reads.x >> i & 1 == 1).map(|i| call.x(i).len()).sum();
    inputs + if reads.y { call.y().len() } else { 0 } + if reads.saved { call.saved().len() } else { 0 } + call.dy().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::{Network, Setup};
    use nunatak_nn::{Loss, Mode, Recipe, Update};

    /// What one pass over a weight does is counted there, and not again at the bias beside it.
    #[test]
    fn a_weight_is_counted_once() {
        let setup = Setup {
            trainable: "all".into(),
            mode: Mode::Train,
            loss: Loss::Sum,
            update: Update::During,
            momentum: true,
            ..Setup::inference(Network::Recipe(Recipe::resnet18(1000)), 1, 64)
        };
        let program = setup.plan().expect("a plan").program;
        let head = program.head();
        let of = |pass: &str| calls(&program).into_iter().find(|c| c.name == head && c.pass == pass).expect("a call");
        let (weight, bias) = (of("backward_step"), of("backward_weight"));
        assert_eq!((weight.algorithm, bias.algorithm), ("stream", "-"));
        let is_linear = |call: &Kernel| call.is_one_pass() && call.entry_count() == 2;
        let call = program.backward().find(is_linear).expect("the head");
        let scratch = 4 * call.scratch().len();
        assert_eq!(bias.bytes - scratch, 4 * 1000);
        // Rows of outputs are padded to whole lines.
        assert_eq!(weight.bytes - scratch, 4 * (512 * 1008 + 512));
        assert_eq!(traffic(&program, Event::BackwardWeight(ValueId(call.node()))), 4 * 2 * 1000);
    }
}
