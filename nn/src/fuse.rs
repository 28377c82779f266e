//! Fusing: fewer passes over memory, as a rewrite of the recorded steps before they are planned.
//!
//! | recorded | becomes | where |
//! |---|---|---|
//! | batchnorm, add, relu | `batchnorm+add+relu`, one pass (add or relu may be absent) | always |
//! | conv2d, the above with running statistics | `conv2d+batchnorm+add+relu`: the convolution's output is normalised in the cache | no gradient passes there |
//! | conv2d, the above with the batch's statistics | `conv2d+moments`, which leaves the statistics behind its output, and `batchnorm+…` | always |
//! | `batchnorm+relu` with the batch's statistics, maxpool | `batchnorm+relu+maxpool`, one pass | always |
//!
//! A fused step stands where the last of its parts stood, so the numbers of values stay; the others'
//! places are empty. What is inside a fused step is not a value any more. So a value that someone asks
//! to keep (an embedding, an expression of one's own, where a gradient is fed in) is a barrier, and
//! so is one with two readers.
//!
//! The formulas are those of the ops alone: the same bits, but for the batch's statistics, which
//! `conv2d+moments` sums in another order.

use crate::Error;
use crate::blueprint::NetNeeds;
use crate::graph::NetTape;
use crate::op::{ConvThen, NormThen, Op};
use nunatak_core::{ParamSet, ValueId};

/// Rewrites `tape`, of which `keep` stays readable; gives the needs of what it has become.
///
/// # Errors
/// Those of [`nunatak_core::Tape::rewrite`]: none, on a tape that was recorded.
pub(crate) fn fuse(tape: &mut NetTape, root: Option<ValueId>, trainable: ParamSet, keep: &[ValueId]) -> Result<NetNeeds, Error> {
    for v in tape.values() {
        what_follows(tape, keep, v)?;
    }
    let needs = NetNeeds::new(tape, root, trainable);
    for v in tape.values() {
        convolution_before(tape, &needs, keep, v)?;
    }
    for v in tape.values() {
        normalisation_before(tape, keep, v)?;
    }
    Ok(NetNeeds::new(tape, root, trainable))
}

/// Joins the max-pooling `v` with the normalisation and relu before it.
fn normalisation_before(tape: &mut NetTape, keep: &[ValueId], v: ValueId) -> Result<(), Error> {
    let node = *tape.node(v)?;
    let (Op::MaxPool { pool, places }, Some(before)) = (node.op, node.input(0)) else { return Ok(()) };
    let normalised = *tape.node(before)?;
    if let Op::BatchNorm { size, norm, gamma, beta, batch: true, then: NormThen { add: false, relu: true, moments } } = normalised.op
        && let Some(x) = normalised.input(0)
        && only_reader(tape, keep, before) == Some(v)
    {
        tape.absorb(before)?;
        tape.rewrite(v, Op::BatchNormPool { size, norm, gamma, beta, moments, pool, places }, &[x])?;
    }
    Ok(())
}

/// Takes the addition and the relu behind the normalisation `v` into it.
fn what_follows(tape: &mut NetTape, keep: &[ValueId], v: ValueId) -> Result<(), Error> {
    let node = *tape.node(v)?;
    let (Op::BatchNorm { size, norm, gamma, beta, batch, then: NormThen { add: false, relu: false, moments } }, Some(x)) =
        (node.op, node.input(0))
    else {
        return Ok(());
    };
    let (mut last, mut residual, mut relu) = (v, None, false);
    if let Some(sum) = only_reader(tape, keep, last)
        && let Op::Add = tape.node(sum)?.op
    {
        residual = tape.node(sum)?.inputs().map(|(_, x)| x).find(|x| *x != last);
        tape.absorb(last)?;
        last = sum;
    }
    if let Some(positive) = only_reader(tape, keep, last)
        && let Op::Relu = tape.node(positive)?.op
    {
        relu = true;
        tape.absorb(last)?;
        last = positive;
    }
    let then = NormThen { add: residual.is_some(), relu, moments };
    let inputs = [x, residual.unwrap_or(x)];
    let inputs = if then.add { &inputs[..] } else { &inputs[..1] };
    Ok(tape.rewrite(last, Op::BatchNorm { size, norm, gamma, beta, batch, then }, inputs)?)
}

/// Joins the normalisation `v` with the convolution before it.
fn convolution_before(tape: &mut NetTape, needs: &NetNeeds, keep: &[ValueId], v: ValueId) -> Result<(), Error> {
    let node = *tape.node(v)?;
    let (Op::BatchNorm { size, norm, gamma, beta, batch, then }, Some(before)) = (node.op, node.input(0)) else { return Ok(()) };
    let conv_node = *tape.node(before)?;
    let (Op::Conv2d { conv, algorithms, weight, then: conv_then }, Some(x)) = (conv_node.op, conv_node.input(0)) else { return Ok(()) };
    if batch {
        let moments = Op::Conv2d { conv, algorithms, weight, then: ConvThen::Moments };
        tape.rewrite(before, moments, &[x])?;
        let then = NormThen { moments: true, ..then };
        set_op(tape, v, Op::BatchNorm { size, norm, gamma, beta, batch, then });
    } else if conv_then == ConvThen::Nothing
        && only_reader(tape, keep, before) == Some(v)
        && !needs.at(v).backward()
        && !needs.at(before).backward()
    {
        let then = ConvThen::Normalise { norm, gamma, beta, eps: size.eps, then };
        let inputs = [x, node.input(1).unwrap_or(x)];
        let inputs = if node.input(1).is_some() { &inputs[..] } else { &inputs[..1] };
        tape.rewrite(v, Op::Conv2d { conv, algorithms, weight, then }, inputs)?;
        tape.absorb(before)?;
    }
    Ok(())
}

fn set_op(tape: &mut NetTape, v: ValueId, op: Op) {
    tape.nodes_mut()[v.index()].op = op;
}

/// The step that alone reads `v`, once, where `v` need not be kept.
fn only_reader(tape: &NetTape, keep: &[ValueId], v: ValueId) -> Option<ValueId> {
    if keep.contains(&v) {
        return None;
    }
    let readers = || tape.values().flat_map(|r| tape.nodes()[r.index()].inputs().filter(|(_, x)| *x == v).map(move |_| r));
    readers().next().filter(|_| readers().nth(1).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Graph, Mode, Recipe, ResNet, Var};

    /// The names of what a fused step of `record` computes; `keep` picks values to keep.
    fn names<'g>(
        graph: &'g Graph,
        model: &ResNet,
        trainable: ParamSet,
        root: Option<Var<'g>>,
        keep: &[Var<'g>],
    ) -> [(&'static str, usize); 16] {
        let mut tape = graph.tape().expect("a recording");
        let keep: [ValueId; 4] = core::array::from_fn(|i| (keep.get(i).copied().or(root)).map_or_else(|| last(&tape), |v| v.id()));
        fuse(&mut tape, root.map(|r| r.id()), trainable.intersection(model.network().all()), &keep).expect("fused");
        let mut found = [("", 0); 16];
        for node in tape.nodes().iter().filter(|n| n.op.computes()) {
            let place = found.iter_mut().find(|(name, _)| *name == node.op.name() || name.is_empty()).expect("room");
            *place = (node.op.name(), place.1 + 1);
        }
        found
    }

    fn last(tape: &NetTape) -> ValueId {
        tape.values().next_back().expect("a value")
    }

    fn count(names: &[(&str, usize)], name: &str) -> usize {
        names.iter().find(|(n, _)| *n == name).map_or(0, |(_, count)| *count)
    }

    #[test]
    fn inference_is_convolutions_alone() {
        let model = ResNet::new(Recipe::resnet18(10), Mode::Eval).expect("a network");
        let graph = Graph::new();
        let y = model.forward(graph.input(1, 3, 64, 64));
        let names = names(&graph, &model, ParamSet::EMPTY, None, &[y]);
        assert_eq!(count(&names, "conv2d+batchnorm+relu"), 9);
        assert_eq!(count(&names, "conv2d+batchnorm+add+relu"), 8);
        assert_eq!(count(&names, "conv2d+batchnorm"), 3);
        assert_eq!(names.iter().map(|(_, n)| n).sum::<usize>(), 20 + 3);
    }

    #[test]
    fn training_has_one_pass_behind_each_convolution() {
        let model = ResNet::new(Recipe::resnet18(10), Mode::Train).expect("a network");
        let graph = Graph::new();
        let loss = model.forward(graph.input(1, 3, 64, 64)).sum();
        let names = names(&graph, &model, model.network().all(), Some(loss), &[]);
        assert_eq!(count(&names, "conv2d+moments"), 20);
        assert_eq!(count(&names, "batchnorm+relu+maxpool"), 1);
        assert_eq!(count(&names, "batchnorm+relu"), 8);
        assert_eq!(count(&names, "batchnorm+add+relu"), 8);
        assert_eq!(count(&names, "batchnorm"), 3);
    }

    #[test]
    fn eval_mode_folds_only_below_what_is_trained() {
        let model = ResNet::new(Recipe::resnet18(10), Mode::Eval).expect("a network");
        let graph = Graph::new();
        let loss = model.forward(graph.input(1, 3, 64, 64)).sum();
        let names = names(&graph, &model, model.network().by_prefix("layer3").expect("a prefix"), Some(loss), &[]);
        assert_eq!(count(&names, "conv2d+batchnorm+relu") + count(&names, "conv2d+batchnorm+add+relu"), 1 + 4 + 4);
        assert_eq!(count(&names, "conv2d"), 5 + 5);
    }

    #[test]
    fn what_is_kept_or_read_twice_is_a_barrier() {
        let mut model = ResNet::new(Recipe::resnet8(10), Mode::Eval).expect("a network");
        for mode in [Mode::Eval, Mode::Train] {
            model.set_mode(mode);
            let graph = Graph::new();
            let y = model.forward(graph.input(2, 3, 8, 8));
            let tape = graph.tape().expect("a recording");
            let whole = names(&graph, &model, ParamSet::EMPTY, None, &[y]);
            // The first convolution's, normalisation's and relu's results, each kept in turn.
            let parts: [ValueId; 3] = core::array::from_fn(|i| tape.values().nth(1 + i).expect("a value"));
            for (i, kept) in parts.into_iter().enumerate() {
                let mut fused = tape.clone();
                fuse(&mut fused, None, ParamSet::EMPTY, &[y.id(), kept]).expect("fused");
                assert!(!fused.node(kept).expect("a value").is_absorbed());
                let alone = fused.node(kept).expect("a value").op.name();
                let expected = match (mode, i) {
                    (Mode::Eval, 0) => "conv2d",
                    (Mode::Train, 0) => "conv2d+moments",
                    (Mode::Eval, 1) => "conv2d+batchnorm",
                    (Mode::Train, 1) => "batchnorm",
                    (Mode::Eval, _) => "conv2d+batchnorm+relu",
                    (Mode::Train, _) => "batchnorm+relu",
                };
                assert_eq!(alone, expected, "{mode:?}");
            }
            assert!(count(&whole, "relu") == 0 && count(&whole, "add") == 0);
        }
    }

    #[test]
    fn a_value_added_to_itself_is_left_alone() {
        let model = ResNet::new(Recipe::resnet8(10), Mode::Train).expect("a network");
        let graph = Graph::new();
        let x = graph.input(1, 16, 4, 4);
        let size = nunatak_kernels::batchnorm::BatchNorm { rows: 16, channels: 16, eps: 1e-5 };
        let norm = model.network().norms()[0];
        let op = Op::BatchNorm { size, norm: crate::NormId(0), gamma: norm.gamma, beta: norm.beta, batch: true, then: NormThen::default() };
        let y = x.unary(op, Ok(x.shape()));
        let z = (y + y).relu();
        let names = names(&graph, &model, ParamSet::EMPTY, None, &[z]);
        assert_eq!([count(&names, "batchnorm"), count(&names, "add"), count(&names, "relu")], [1, 1, 1]);
    }
}
