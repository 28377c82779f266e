//! Programs of small networks that are right: what inputs of the fuzzer change. Together they have every op, every
//! order of updates, frozen parts, the memory settings, and values that are computed again.

use nunatak_nn::files::save::Save;
use nunatak_nn::ops::Axis;
use nunatak_nn::{Conv, CrossEntropyOptions, Graph, Loss, Memory, Mode, Native, Norm, NormPolicy};
use nunatak_nn::{Recipe, Reduction, Stem, Step, Update, ValueId};

/// Their bytes, and the file of weights that some of them read in place.
pub(crate) fn programs() -> (Vec<Vec<u8>>, Native<'static>) {
    let (mut programs, weights) = residual();
    programs.extend(convolutions());
    programs.extend(expressions());
    (programs, weights)
}

/// Residual networks with every order of updates, and what is frozen in usual ways, also in a file of weights.
fn residual() -> (Vec<Vec<u8>>, Native<'static>) {
    let stem = Stem { kernel: 3, stride: 1, pad: 1, pool: true };
    let recipe = Recipe::new(&[1, 1], &[3, 5], stem, 2, 3).expect("a recipe");
    let graph = Graph::new();
    let loss = Loss::CrossEntropyWeighted(CrossEntropyOptions { label_smoothing: 0.1, ..Default::default() });
    let values = graph.usual([2, 2, 4, 4], loss, |g, x| recipe.record(g, x)).expect("a recording");
    let keep = [values.prediction, values.features];
    let step = || Step::new(&graph).root(values.root).keep(&keep);
    let every: Vec<ValueId> = (0..=values.root.expect("a loss").0).map(ValueId).collect();
    let steps = [
        step().keep_gradients(&keep),
        step().update(Update::During).again(&every),
        step().update(Update::During).memory(Memory::Small),
        step().update(Update::Summed),
        step().fuse(false).momentum(false).memory(Memory::Tiny),
        step().train("layer2,fc").norm_policy(NormPolicy::Fixed).update(Update::During),
        step().train("fc").mode(Mode::Eval),
        Step::new(&graph).keep(&keep).mode(Mode::Eval).train("none"),
    ];
    let weights = file(&steps[0]);
    let frozen = [
        step().train("fc").norm_policy(NormPolicy::Fixed).in_place(Some(weights)),
        step().train("layer2,fc").update(Update::During).in_place(Some(weights)),
    ];
    (steps.iter().chain(&frozen).map(bytes).collect(), weights)
}

/// The weights of a step's network in the native layout, at a multiple of 64 bytes, in memory that is never given back.
fn file(step: &Step) -> Native<'static> {
    let mut trainer = step.trainer().expect("a trainer");
    trainer.init(1);
    let saving = trainer.saving(Save::Network, &[]).expect("can be saved");
    let room = vec![0; saving.len() + 63].leak();
    let start = room.as_ptr().align_offset(64);
    let bytes = &mut room[start..start + saving.len()];
    saving.write_to(bytes).expect("room");
    Native::parse(bytes).expect("a native file")
}

/// Convolutions of every kind with the activations and pools that other networks have.
fn convolutions() -> Vec<Vec<u8>> {
    let graph = Graph::new();
    let (data, target) = (graph.input([2, 4, 4, 4]), graph.input([2, 3]));
    let g = graph.root();
    let x = g.conv2d("stem", data, Conv::new(8, [3, 2]).stride([1, 2]).pad(1)).relu6();
    let x = g.batch_norm("bn", x, Norm::default()).hardswish();
    let deep = g.conv2d("deep", x, Conv::new(8, 3).pad(1).groups(8)).silu();
    let grouped = g.conv2d("grouped", x, Conv::new(8, 1).groups(2)).gelu();
    let gate = g.linear("gate", deep.adaptive_avg_pool(1), 8).sigmoid();
    let x = g.concat(&[deep * gate, grouped]).dropout(0.5);
    let x = g.concat(&[x.max_pool(2, 1, 1), x.avg_pool(2, 1, 1, false)]);
    let y = g.linear("head", x.flatten(), 3);
    let loss = y.bce_with_logits(target, Reduction::Mean);
    let keep = [y.id()];
    let step = || Step::new(&graph).loss(loss).keep(&keep);
    let every: Vec<ValueId> = (0..=loss.id().0).map(ValueId).collect();
    let steps = [step(), step().update(Update::During), step().mode(Mode::Eval).train("head,gate"), step().again(&every)];
    steps.iter().map(bytes).collect()
}

/// A parameter that is used twice, and losses by arithmetic.
fn expressions() -> Vec<Vec<u8>> {
    let graph = Graph::new();
    let (data, target, classes) = (graph.input([2, 3, 4, 4]), graph.input([2, 4]), graph.labels(2));
    let g = graph.root();
    let x = g.conv2d("conv", data, Conv::new(3, 3).pad(1)).tanh();
    let x = g.conv2d("conv", x, Conv::new(3, 3).pad(1).shared()).relu() * 0.5;
    let means = x.mean_over(&[Axis::H, Axis::W]);
    let x = ((x - means).square() + x.abs() / (means.exp() + 1.0)).adaptive_avg_pool(2);
    let y = g.linear("fc", x.flatten().clamp(-3.0, 3.0), 4);
    let likely = y.log_softmax() * y.softmax();
    let loss = y.mse(target) + (y - target).sum() + (y.square() + 1.0).log().mean();
    let loss = loss + y.cross_entropy(classes, CrossEntropyOptions::default()) + likely.sum_over(&[Axis::C]).mean();
    let loss = loss + y.smooth_l1(target, 1.0, Reduction::Sum) + y.l1(target, Reduction::Mean);
    let keep = [x.id(), y.id()];
    let step = || Step::new(&graph).loss(loss).keep(&keep).keep_gradients(&keep);
    [step(), step().update(Update::During), step().update(Update::Summed)].iter().map(bytes).collect()
}

fn bytes(step: &Step) -> Vec<u8> {
    step.plan().expect("a plan").bytes().to_vec()
}
