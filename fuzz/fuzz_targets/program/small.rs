//! Programs of one operation or two on a few numbers: executed in microseconds, and nearly every word of them matters.

use nunatak_nn::ops::Axis;
use nunatak_nn::{Algorithm, Conv, CrossEntropyOptions, Graph, Memory, Mode, Norm, Pass, Reduction, Scope, Step, Update, Var, int8};

type Record = for<'g> fn(Scope<'g>, Var<'g>) -> Var<'g>;
type Case = ([usize; 4], Record);

/// One operation each, and the shape that it is given.
const OPERATIONS: &[Case] = &[
    ([2, 2, 3, 3], |g, x| g.batch_norm("n", x, Norm::default())),
    ([2, 2, 3, 3], |g, x| (g.batch_norm("n", x, Norm::default()) + x).relu()),
    ([2, 2, 4, 4], |g, x| g.batch_norm("n", x, Norm::default()).relu().max_pool(3, 2, 1)),
    ([2, 3, 1, 1], |g, x| g.linear("l", x, 4)),
    ([1, 5, 1, 1], |g, x| g.linear("l", x, 3).softmax()),
    ([2, 3, 1, 1], |_, x| x.log_softmax()),
    ([1, 2, 5, 4], |_, x| x.max_pool(3, 2, 1)),
    ([1, 2, 4, 4], |_, x| x.max_pool(2, 2, 0)),
    ([1, 2, 5, 4], |_, x| x.max_pool_dilated(2, 1, 1, 2)),
    ([1, 2, 4, 5], |_, x| x.avg_pool(2, 1, 1, true)),
    ([1, 2, 5, 5], |_, x| x.avg_pool(3, 2, 1, false)),
    ([1, 3, 5, 4], |_, x| x.adaptive_avg_pool(2)),
    ([2, 3, 4, 4], |_, x| x.adaptive_avg_pool(1)),
    ([2, 2, 3, 1], |_, x| x.dropout(0.5)),
    ([2, 2, 3, 2], |_, x| x.flatten().relu()),
    ([1, 2, 2, 3], |g, x| g.concat(&[x, x * 2.0, x.relu()])),
    ([2, 2, 2, 2], |_, x| x + x.mean_over(&[Axis::H, Axis::W])),
    ([2, 3, 2, 1], |_, x| x.sum_over(&[Axis::N, Axis::C]) * x),
    ([2, 3, 2, 1], |_, x| x / (x.square() + 1.0)),
    ([1, 2, 3, 3], |_, x| x - x.mean()),
    ([1, 3, 3, 1], |_, x| x.relu6().hardswish().hardsigmoid()),
    ([1, 3, 3, 1], |_, x| x.silu() * x.sigmoid()),
    ([1, 3, 3, 1], |_, x| x.tanh().gelu().gelu_tanh()),
    ([1, 3, 3, 1], |_, x| (x.exp() + 1.0).log().sqrt()),
    ([1, 3, 3, 1], |_, x| x.abs().reciprocal().pow(1.5).clamp(-1.0, 2.0)),
    ([2, 3, 2, 1], |_, x| x.mse(x * 0.5)),
    ([2, 3, 2, 1], |_, x| x.l1(x.relu(), Reduction::Mean)),
    ([2, 3, 2, 1], |_, x| x.smooth_l1(x.square(), 0.5, Reduction::Sum)),
    ([2, 3, 1, 1], |_, x| x.bce_with_logits(x.sigmoid(), Reduction::Sum)),
    ([3, 2, 1, 1], |_, x| x.cross_entropy(x.softmax(), CrossEntropyOptions { label_smoothing: 0.1, ..Default::default() })),
];

/// Convolutions, each with every algorithm that takes it.
const CONVOLUTIONS: &[Case] = &[
    ([1, 2, 4, 4], |g, x| g.conv2d("c", x, Conv::new(3, 3).pad(1))),
    ([1, 3, 2, 2], |g, x| g.conv2d("c", x, Conv::new(4, 3).pad(1).no_bias())),
    ([2, 3, 5, 4], |g, x| g.conv2d("c", x, Conv::new(2, [3, 2]).stride([2, 1]).pad([1, 0]))),
    ([1, 2, 6, 6], |g, x| g.conv2d("c", x, Conv::new(2, 3).pad(2).dilation(2))),
    ([1, 4, 3, 3], |g, x| g.conv2d("c", x, Conv::new(4, 3).pad(1).groups(4))),
    ([1, 4, 4, 3], |g, x| g.conv2d("c", x, Conv::new(6, 3).pad(1).groups(2))),
    ([2, 3, 2, 2], |g, x| g.conv2d("c", x, Conv::new(4, 1)).relu()),
    ([1, 3, 8, 8], |g, x| g.conv2d("c", x, Conv::new(4, 7).stride(2).pad(3).no_bias())),
    ([1, 3, 7, 7], |g, x| g.conv2d("c", x, Conv::new(4, 3).stride(2).pad(1))),
    ([2, 2, 4, 4], |g, x| (g.batch_norm("n", g.conv2d("c", x, Conv::new(2, 3).pad(1).no_bias()), Norm::default()) + x).relu()),
    ([1, 2, 3, 3], |g, x| g.conv2d("c", g.conv2d("c", x, Conv::new(2, 3).pad(1)), Conv::new(2, 3).pad(1).shared())),
];

/// Networks whose convolutions compute in 8 bits.
const OF_8_BITS: &[Case] = &[
    ([1, 3, 4, 4], |g, x| g.conv2d("c", x, Conv::new(5, 3).pad(1)).relu().max_pool(2, 1, 1).adaptive_avg_pool(1)),
    ([2, 2, 3, 3], |g, x| g.conv2d("c", g.conv2d("d", x, Conv::new(4, 1)).relu6(), Conv::new(4, 3).pad(1).groups(4)).hardswish()),
    ([1, 2, 5, 4], |g, x| (g.batch_norm("n", g.conv2d("c", x, Conv::new(2, [3, 1]).pad([1, 0])), Norm::default()) + x).relu().tanh()),
];

/// The bytes of all of them, each once.
pub(crate) fn programs() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (shape, record) in OPERATIONS {
        plans(*shape, *record, None, &mut all);
    }
    for (shape, record) in CONVOLUTIONS {
        plans(*shape, *record, None, &mut all);
        for algorithm in Algorithm::ALL {
            plans(*shape, *record, Some(*algorithm), &mut all);
        }
    }
    for (shape, record) in OF_8_BITS {
        let graph = Graph::new();
        let result = record(graph.root(), graph.input(*shape));
        let Ok(ints) = int8::rewrite(&graph, &|_| true) else { continue };
        let keep = ints.value(result.id()).map(|result| result.id());
        let head = |loss| Step::new(ints.graph()).root(loss).keep(keep.as_slice()).mode(Mode::Eval);
        all.extend([head(None), head(keep)].iter().filter_map(|step| step.plan().ok()).map(|program| program.bytes().to_vec()));
    }
    all
}

/// Several steps of one recording; what can't be planned is left out.
fn plans(shape: [usize; 4], record: Record, algorithm: Option<Algorithm>, all: &mut Vec<Vec<u8>>) {
    let graph = Graph::new();
    let data = graph.input(shape);
    let result = record(graph.root(), data);
    let (loss, keep) = (result.sum(), [data.id(), result.id()]);
    let every: Vec<_> = (0..=loss.id().0).map(nunatak_nn::ValueId).collect();
    let step = || Pass::ALL.into_iter().fold(Step::new(&graph).loss(loss).memory(Memory::Tiny), |step, pass| step.force(pass, algorithm));
    let steps = [
        step().keep(&keep).keep_gradients(&keep),
        step().update(Update::During).again(&every),
        step().update(Update::Summed).mode(Mode::Eval).fuse(false),
        step().update(Update::During).memory(Memory::Fast),
    ];
    for program in steps.iter().filter_map(|step| step.plan().ok()) {
        if program.block_len() <= super::MOST && !all.iter().any(|other| other == program.bytes()) {
            all.push(program.bytes().to_vec());
        }
    }
}
