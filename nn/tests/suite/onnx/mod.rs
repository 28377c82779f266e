//! Networks as ONNX: what is written is read by a reader of its own, and computed by an interpreter of its own.
//!
//! Every operation, and whole networks, must give what the executor gives in eval mode; ONNX Runtime's word on the same files
//! is asked by `tests/onnx/check.py`, for which `NUNATAK_ONNX` names a folder that they are written to.

mod errors;
mod interpreter;
mod reader;
mod structure;

use crate::ops::cases::{self, Given, Random};
use crate::own_network::example as own;
use interpreter::Tensor;
use nunatak_core::program::EntryKind;
use nunatak_core::tape::ValueId;
use nunatak_nn::files::onnx::Onnx;
use nunatak_nn::files::state::State;
use nunatak_nn::files::{Checkpoint, Data, Head, TensorOut, write_safetensors};
use nunatak_nn::models::MobileNet;
use nunatak_nn::{Conv, Dense, Graph, Level, Mode, Norm, Recipe, Select, Step, Threads, Trainer, Var};
use reader::Model;
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of a file, and what they hold.
fn written(onnx: &Onnx) -> (Vec<u8>, Model) {
    let mut bytes = Vec::new();
    onnx.write(&mut bytes).expect("written");
    assert_eq!(bytes.len() as u64, onnx.len(), "the length");
    let model = reader::read(&bytes);
    (bytes, model)
}

/// A network with its inputs.
struct Example<'g> {
    name: String,
    graph: &'g Graph<'static>,
    inputs: Vec<(ValueId, [usize; 4], Vec<f32>)>,
    output: ValueId,
}

/// What the executor gives in eval mode, with weights and statistics that were drawn, or read from a file.
fn executed(example: &Example, file: Option<&Checkpoint>) -> (State, Vec<f32>) {
    let keep = [example.output];
    let program = Step::new(example.graph).keep(&keep).train(Select::None).mode(Mode::Eval).plan().expect("a program");
    let mut trainer = Trainer::owning(program, Level::PORTABLE, Threads::serial()).expect("a trainer");
    trainer.init(3);
    let (mut random, ids) = (Random::new(5), trainer.program().entries());
    for id in ids {
        let entry = trainer.program().entry(id);
        let numbers: Vec<f32> = match (entry.kind(), entry.shape().1) {
            (EntryKind::Count | EntryKind::Words, _) | (EntryKind::Parameter, 2..) => continue,
            (EntryKind::Parameter | EntryKind::RunningMean, _) => random.numbers(entry.numbers()),
            (EntryKind::RunningVar, _) => random.numbers(entry.numbers()).iter().map(|v| v * v + 0.5).collect(),
        };
        trainer.set_entry(id, &numbers).expect("set");
    }
    if let Some(file) = file {
        trainer.load(file, Head::Load).expect("loaded");
    }
    for (id, _, data) in &example.inputs {
        trainer.set_input(*id, data).expect("set");
    }
    trainer.forward().expect("forward");
    let node = trainer.program().value_of_node(example.output.0).expect("the output").1.shape();
    let mut y = vec![f32::NAN; node.iter().product()];
    trainer.value(example.output, &mut y).expect("the output");
    (trainer.state(), y)
}

/// The tensors that go into a model, each `times` times where its batch is free.
fn given<'m>(model: &'m Model, example: &Example, times: usize) -> Vec<(&'m str, Tensor)> {
    assert_eq!(model.inputs.len(), example.inputs.len(), "{}: inputs", example.name);
    let one = |(described, (_, shape, data)): (&'m reader::Described, &(ValueId, [usize; 4], Vec<f32>))| {
        let mut shape = shape[..described.sizes.len()].to_vec();
        let repeated = if described.sizes[0] == "N" { times } else { 1 };
        assert!(described.sizes[1..].iter().zip(&shape[1..]).all(|(due, size)| *due == size.to_string()), "{described:?}");
        shape[0] *= repeated;
        let data = data.iter().map(|v| f64::from(*v)).collect::<Vec<_>>().repeat(repeated);
        (described.name.as_str(), Tensor::new(&shape, data))
    };
    model.inputs.iter().zip(&example.inputs).map(one).collect()
}

/// Writes the network, computes it from the file, and compares with the executor; also for a batch of twice as many.
fn check(example: &Example, file: Option<&Checkpoint>) -> Vec<f32> {
    let name = &example.name;
    let (state, expected) = executed(example, file);
    let onnx = Onnx::new(example.graph, example.output, &state.views(), &BTreeMap::new()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (bytes, model) = written(&onnx);
    structure::check(&model);
    let largest = expected.iter().fold(1e-30_f64, |most, v| most.max(f64::from(v.abs())));
    for times in [1, 2] {
        let y = interpreter::run(&model, &given(&model, example, times));
        let described = &model.outputs[0];
        assert_eq!(y.shape.len(), described.sizes.len(), "{name}: sizes of the output");
        let free = described.sizes[0] == "N";
        let sizes = y.shape.iter().zip(&described.sizes).skip(usize::from(free));
        sizes.for_each(|(size, due)| assert_eq!(*due, size.to_string(), "{name}: {:?}", y.shape));
        let expected = expected.repeat(if free { times } else { 1 });
        assert_eq!(y.data.len(), expected.len(), "{name}: numbers");
        // What adds up all images gives another sum for twice as many.
        for (i, (y, due)) in y.data.iter().zip(&expected).enumerate().filter(|_| free || times == 1) {
            let fine = (y - f64::from(*due)).abs() <= 5e-6 * largest;
            assert!(fine, "{name}, {times} times: number {i} is {y} instead of {due}");
        }
    }
    if let Some(folder) = std::env::var_os("NUNATAK_ONNX") {
        leave(Path::new(&folder), example, &bytes, &model, &expected);
    }
    expected
}

/// Leaves a file, and beside it what goes in and comes out.
fn leave(folder: &Path, example: &Example, bytes: &[u8], model: &Model, expected: &[f32]) {
    let word: String = example.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(folder.join(format!("{word}.onnx")), bytes).expect("written");
    let shapes: Vec<&[usize]> = model.inputs.iter().zip(&example.inputs).map(|(of, (_, shape, _))| &shape[..of.sizes.len()]).collect();
    let inputs = model.inputs.iter().zip(&example.inputs).zip(&shapes);
    let mut tensors: Vec<TensorOut> =
        inputs.map(|((of, (_, _, data)), shape)| TensorOut { name: &of.name, shape, data: Data::F32(data) }).collect();
    let flat = [expected.len()];
    tensors.push(TensorOut { name: "logits", shape: &flat, data: Data::F32(expected) });
    write_safetensors(&folder.join(format!("{word}.safetensors")), &tensors, &BTreeMap::new()).expect("written");
}

/// Losses, of which there are no nodes.
const LOSSES: [&str; 7] =
    ["mse", "l1", "smooth_l1", "bce_with_logits", "bce_with_logits, weighted", "cross_entropy of labels", "cross_entropy of shares"];

#[test]
fn every_operation_gives_what_the_executor_gives() {
    for (number, case) in cases::all().iter().enumerate() {
        let graph = Graph::new();
        let vars: Vec<Var> = case
            .given
            .iter()
            .map(|given| match given {
                Given::Tensor { shape, .. } => graph.input(*shape),
                Given::Labels(labels) => graph.labels(labels.len()),
            })
            .collect();
        let output = (case.build)(&graph, &vars).id();
        if LOSSES.contains(&case.name) {
            let refused = Onnx::new(&graph, output, &[], &BTreeMap::new()).expect_err(case.name).to_string();
            assert!(refused.contains("loss"), "{}: {refused}", case.name);
            continue;
        }
        let inputs = case.given.iter().zip(&vars).filter_map(|(given, var)| match given {
            Given::Tensor { shape, data, .. } => Some((var.id(), *shape, data.clone())),
            Given::Labels(_) => None,
        });
        let inputs = inputs.collect();
        check(&Example { name: format!("case {number} {}", case.name), graph: &graph, inputs, output }, None);
    }
}

/// An example of one input, of numbers that were drawn.
fn on_drawn<'g>(name: &str, graph: &'g Graph<'static>, shape: [usize; 4], network: impl FnOnce(Var<'g>) -> Var<'g>) -> Example<'g> {
    let x = graph.input(shape);
    let output = network(x);
    graph.check().unwrap_or_else(|e| panic!("{name}: {e}"));
    let data = Random::new(11).numbers(shape.iter().product());
    Example { name: name.into(), graph, inputs: vec![(x.id(), shape, data)], output: output.id() }
}

#[test]
fn whole_networks_give_what_the_executor_gives() {
    let graph = Graph::new();
    check(&on_drawn("resnet8", &graph, [2, 3, 32, 32], |x| Recipe::resnet8(10).record(graph.root(), x).1), None);
    let graph = Graph::new();
    let v3 = |x| MobileNet::default().v3_small(graph.root(), x, 7);
    check(&on_drawn("mobilenet_v3_small", &graph, [2, 3, 32, 32], v3), None);
}

/// The numbers are PyTorch's: tests/golden/own_network.py.
#[test]
fn a_network_of_ones_own_gives_pytorchs_numbers() {
    let expected = [-0.0273665, -0.0589069, -0.0294272, -0.0568339, -0.0266833, -0.0562526, 0.0008658, -0.0222415];
    let graph = Graph::new();
    let mut example = on_drawn("own network", &graph, [16, 1, 8, 8], |x| own::network(graph.root(), x));
    example.inputs[0].2 = own::examples().0;
    let bytes = include_bytes!("../../golden/own_network.pth");
    let got = check(&example, Some(&Checkpoint::parse(bytes).expect("a file")));
    for (got, expected) in got.into_iter().zip(expected) {
        assert!((got - expected).abs() < 2e-6, "{got} instead of {expected}");
    }
}

/// Rows and images meet: ONNX tells n x c from n x c x 1 x 1, a recording does not.
#[test]
fn rows_and_images_go_together() {
    type Network = for<'g> fn(&'g Graph<'static>, Var<'g>) -> Var<'g>;
    use nunatak_nn::ops::Axis;
    let networks: [(&str, [usize; 4], Network); 9] = [
        ("rows alone", [3, 8, 1, 1], |g, x| {
            let g = g.root();
            let y = g.batch_norm("n", g.linear("a", x, 6), Norm::default()).silu().dropout(0.5);
            g.linear("b", y.concat(g.linear("c", x, Dense::new(2).no_bias())), 4).log_softmax()
        }),
        ("images times rows", [2, 4, 6, 5], |g, x| {
            let g = g.root();
            let weights = g.linear("a", x.adaptive_avg_pool(1), 4).sigmoid();
            let y = (x * weights + weights).concat(x.relu6());
            g.linear("b", g.conv2d("c", y, Conv::new(3, 3)).flatten(), 2)
        }),
        ("a convolution of rows", [2, 5, 1, 1], |g, x| {
            let y = g.root().conv2d("a", x, Conv::new(5, 3).pad(1));
            (y.max_pool(3, 1, 1) + x).adaptive_avg_pool(3).avg_pool(3, 1, 1, false)
        }),
        ("pixels of one image are added", [3, 4, 2, 3], |_, x| x.sum_over(&[Axis::H, Axis::W]) / x.mean_over(&[Axis::C])),
        ("rows are added", [3, 4, 1, 1], |g, x| g.root().linear("a", x, 5).mean_over(&[Axis::C]) * x),
        ("all is added", [3, 4, 1, 1], |g, x| g.root().linear("a", x, 5).sum() * 0.5 + 1.0),
        ("windows of different sizes", [2, 3, 5, 4], |_, x| x.adaptive_avg_pool([7, 3])),
        ("the input itself", [2, 3, 4, 4], |_, x| x.dropout(0.5)),
        ("a pooled map", [2, 3, 6, 4], |_, x| x.adaptive_avg_pool([2, 2]).adaptive_avg_pool(1).dropout(0.1)),
    ];
    for (name, shape, network) in networks {
        let graph = Graph::new();
        check(&on_drawn(name, &graph, shape, |x| network(&graph, x)), None);
    }
}

/// What a function makes of numbers beyond its bounds, of none, and of infinite bounds.
#[test]
fn bounds_and_powers_that_are_rare() {
    type Function = for<'g> fn(Var<'g>) -> Var<'g>;
    let functions: [(&str, Function); 6] = [
        ("no upper bound", |x| (x * 1e38 * 1e3).clamp(-1.0, f32::INFINITY)),
        ("no bounds", |x| (x * 1e38 * 1e3).clamp(f32::NEG_INFINITY, f32::INFINITY).tanh()),
        ("bounds that cross", |x| x.clamp(0.5, -0.5)),
        ("a bound that is no number", |x| x.clamp(f32::NAN, 0.5)),
        ("a whole power", |x| x.pow(3.0)),
        ("power 0", |x| x.pow(0.0)),
    ];
    for (name, function) in functions {
        let graph = Graph::new();
        let example = on_drawn(name, &graph, [2, 3, 4, 4], function);
        let (state, expected) = executed(&example, None);
        let onnx = Onnx::new(&graph, example.output, &state.views(), &BTreeMap::new()).expect(name);
        let (bytes, model) = written(&onnx);
        let y = interpreter::run(&model, &given(&model, &example, 1));
        for (y, due) in y.data.iter().zip(&expected) {
            let fine = *y as f32 == *due || y.is_nan() && due.is_nan() || (*y as f32 - due).abs() <= 1e-6 * due.abs();
            assert!(fine, "{name}: {y} instead of {due}");
        }
        if let Some(folder) = std::env::var_os("NUNATAK_ONNX") {
            leave(Path::new(&folder), &example, &bytes, &model, &expected);
        }
    }
}
