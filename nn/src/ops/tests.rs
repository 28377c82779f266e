//! What is written of an operation into a program is read back as the same operation.

#[allow(dead_code)] // the whole executor is tested in `tests/suite/ops`
#[path = "../../tests/suite/ops/cases.rs"]
mod cases;

use super::Op;
use crate::plan::Step;
use crate::record::{Graph, Var};
use cases::Given;
use nunatak_core::List;
use nunatak_core::program::{Call, Calls, Place, Writer};
use std::collections::BTreeSet;
use std::vec::Vec;

/// The operations that are computed, each with its number. A new one does not compile until it is here.
fn computed(op: &Op) -> Option<u32> {
    match op {
        Op::Nothing | Op::Input(_) | Op::Labels(_) => None,
        Op::Conv2d(_)
        | Op::BatchNorm(_)
        | Op::BatchNormPool(_)
        | Op::Relu(_)
        | Op::MaxPool(_)
        | Op::AvgPool(_)
        | Op::Linear(_)
        | Op::Add(_)
        | Op::Sub(_)
        | Op::Mul(_)
        | Op::Scale(_)
        | Op::Sum(_)
        | Op::Mean(_)
        | Op::Mse(_)
        | Op::CrossEntropy(_)
        | Op::Pointwise(_)
        | Op::Broadcast(_)
        | Op::Flatten(_)
        | Op::Concat(_)
        | Op::Dropout(_)
        | Op::ReduceAxes(_)
        | Op::Softmax(_)
        | Op::SmoothL1(_)
        | Op::BceWithLogits(_)
        | Op::WindowAvgPool(_)
        | Op::WindowMaxPool(_)
        | Op::Int8Quantize(_)
        | Op::Int8Conv2d(_)
        | Op::Int8MaxPool(_)
        | Op::Int8AvgPool(_)
        | Op::Int8Dequantize(_) => Some(op.code()),
    }
}

/// The words that an operation writes as its own.
fn written(op: &Op) -> Vec<u32> {
    let bytes_of = |op: Option<&Op>| {
        let (mut bytes, mut text) = (List::new(), List::new());
        let mut out = Writer::new(&mut bytes, &mut text).expect("memory");
        let call = Calls { op: 0, node: 0, inputs: &[], entries: &[], places: [Place::default(); 4], backward: None, again: false };
        out.call(&call, |out| op.map_or(Ok(()), |op| op.facts().write(out))).expect("memory");
        bytes.into_vec()
    };
    let front = bytes_of(None).len();
    let words = bytes_of(Some(op));
    words[front..].chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

fn read_back(call: &Call) -> Op {
    let op = Op::of(call).expect("the operation that was written");
    let mut numbers = call.numbers();
    let words: Vec<u32> = (0..numbers.left()).map(|_| numbers.word()).collect();
    assert_eq!(written(&op), words, "{op:?}");
    assert_eq!(op.code(), call.op());
    op
}

#[test]
fn what_is_written_is_read_back() {
    let mut seen = BTreeSet::new();
    for case in cases::all() {
        let graph = Graph::new();
        let tensor = |given: &Given| match given {
            Given::Tensor { shape, .. } => graph.input(*shape),
            Given::Labels(labels) => graph.labels(labels.len()),
        };
        let given: Vec<Var> = case.given.iter().map(tensor).collect();
        let root = (case.build)(&graph, &given);
        let wanted: Vec<_> = given.iter().map(|v| v.id()).collect();
        let step = Step::new(&graph).loss(root).keep_gradients(&wanted).mode(case.mode);
        for step in [step, step.fuse(false), step.root(None), step.root(None).mode(crate::select::Mode::Eval)] {
            let keep = [root.id()];
            let program = step.keep(&keep).keep_gradients(&[]).plan().expect("a program");
            for call in program.forward().chain(program.backward()) {
                seen.extend(computed(&read_back(&call)));
            }
        }
        let program = step.plan().expect("a program");
        program.forward().chain(program.backward()).for_each(|call| _ = read_back(&call));
    }
    seen.extend(of_8_bits());
    assert!(super::CODES.iter().filter(|code| **code > 2).eq(seen.iter()), "operations without a case: only {seen:?}");
}

/// The operations of a network with layers of 8 bits, each read back.
fn of_8_bits() -> Vec<u32> {
    use crate::ops::Conv;
    let graph = Graph::new();
    let g = graph.root();
    let x = graph.input([2, 3, 9, 9]);
    let a = g.conv2d("a", x, Conv::new(6, 3).pad(1)).relu().max_pool(3, 2, 1);
    let b = (g.conv2d("b", a, Conv::new(6, [1, 3]).pad([0, 1]).groups(6)) + a).relu();
    let features = g.conv2d("c", b.hardswish(), Conv::new(5, 1)).adaptive_avg_pool(1);
    let rewritten = crate::int8::rewrite(&graph, &|_| true).expect("layers of 8 bits");
    let keep = [rewritten.value(features.id()).expect("it is one of floats").id()];
    let program = Step::new(rewritten.graph()).keep(&keep).mode(crate::select::Mode::Eval).plan().expect("a program");
    for call in program.forward() {
        let name = read_back(&call).facts().name();
        let bytes = ["int8_quantize", "int8_conv2d", "int8_maxpool"].iter().any(|own| name.starts_with(own));
        assert_eq!(super::GIVE_BYTES.contains(&call.op()), bytes, "{name}");
    }
    program.forward().filter_map(|call| computed(&read_back(&call))).collect()
}

/// Fused with running statistics, and every activation behind it.
#[test]
fn what_is_fused_is_read_back() {
    use crate::ops::{Conv, Norm};
    for norm in [Norm::default(), Norm::default().no_affine()] {
        let graph = Graph::new();
        let g = graph.root();
        let x = graph.input([2, 6, 5, 5]);
        let layer = |name: &str, x| {
            let g = g.scope(name);
            g.batch_norm("norm", g.conv2d("conv", x, Conv::new(6, 3).pad(1).groups(6).no_bias()), norm)
        };
        let y = layer("d", (layer("a", x).relu6() + layer("b", x).hardswish() + layer("c", x)).relu()) + x;
        let keep = [y.id()];
        let program = Step::new(&graph).keep(&keep).mode(crate::select::Mode::Eval).plan().expect("a program");
        let names: Vec<&str> = program.forward().map(|call| read_back(&call).facts().name()).collect();
        for due in ["conv2d+batchnorm+relu6", "conv2d+batchnorm+hardswish", "conv2d+batchnorm+add+relu", "conv2d+batchnorm+add"] {
            assert!(names.contains(&due), "{due} in {names:?}");
        }
    }
}
