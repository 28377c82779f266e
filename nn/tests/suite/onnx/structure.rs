//! What stands in the files: of every network that has a name, and of small ones in detail.

use super::reader::{Described, Model};
use super::written;
use nunatak_nn::files::onnx::{Onnx, write_onnx};
use nunatak_nn::files::{Data, TensorOut};
use nunatak_nn::models::MODELS;
use nunatak_nn::ops::Norm;
use nunatak_nn::{Conv, Graph, Recipe, Scope, Stem, Var};
use std::collections::{BTreeMap, BTreeSet};

/// What holds of every file.
pub(super) fn check(model: &Model) {
    assert_eq!((model.ir_version, model.opset, model.producer.as_str()), (8, 17, "nunatak"));
    assert!(!model.name.is_empty() && model.outputs.len() == 1 && model.outputs[0].name == "logits", "{:?}", model.outputs);
    let mut known: BTreeSet<&str> = BTreeSet::new();
    let outside = model.inputs.iter().map(|input| input.name.as_str()).chain(model.initializers.iter().map(|(name, _)| name.as_str()));
    outside.for_each(|name| assert!(known.insert(name), "{name} comes twice"));
    let mut names = BTreeSet::new();
    for node in &model.nodes {
        assert!(node.inputs.iter().all(|input| known.contains(input.as_str())), "{} reads {:?}", node.name, node.inputs);
        assert!(known.insert(&node.output), "{} comes twice", node.output);
        assert!(names.insert(&node.name), "two nodes are called {}", node.name);
    }
    assert!(known.contains("logits"));
    let read: BTreeSet<&str> = model.nodes.iter().flat_map(|node| &node.inputs).map(String::as_str).collect();
    let unread: Vec<&str> = known.iter().filter(|name| **name != "logits" && !read.contains(*name)).copied().collect();
    assert!(unread.is_empty(), "nothing reads {unread:?}");
}

/// Names, shapes, and a piece of `numbers` as everybody's data.
fn tensors<'t>(entries: &'t [(String, Vec<usize>)], numbers: &'t [f32]) -> Vec<TensorOut<'t>> {
    let data = |shape: &[usize]| Data::F32(&numbers[..shape.iter().product()]);
    entries.iter().map(|(name, shape)| TensorOut { name, shape, data: data(shape) }).collect()
}

/// Everything but counts, in the order of the state dict.
fn entries(graph: &Graph) -> Vec<(String, Vec<usize>)> {
    let mut entries = Vec::new();
    graph.each_entry(|name, shape| {
        if !name.ends_with(".num_batches_tracked") {
            entries.push((name.to_string(), shape.iter().map(|size| *size as usize).collect()));
        }
    });
    entries
}

fn described(name: &str, sizes: [&str; 4]) -> Described {
    Described { name: name.into(), sizes: sizes.iter().filter(|size| !size.is_empty()).map(|size| size.to_string()).collect() }
}

/// The operators of a network, each with how often it comes.
fn operators(model: &Model) -> BTreeMap<&str, usize> {
    let mut operators = BTreeMap::new();
    model.nodes.iter().for_each(|node| *operators.entry(node.op.as_str()).or_default() += 1);
    operators
}

fn network(name: &str, [size, batch]: [usize; 2], classes: usize, record: impl for<'g> FnOnce(Scope<'g>, Var<'g>) -> Var<'g>) {
    let graph = Graph::new();
    let output = record(graph.root(), graph.input([batch, 3, size, size]));
    let (output, entries) = (output.id(), entries(&graph));
    let weights: usize = entries.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    if std::env::var("NUNATAK_TEST").is_ok_and(|v| v == "emulated") && weights > 3_000_000 {
        println!("SKIPPED {name}: its {weights} weights take an emulator minutes");
        return;
    }
    let zeros = vec![0.0; entries.iter().map(|(_, shape)| shape.iter().product()).max().unwrap_or(0)];
    let onnx = Onnx::new(&graph, output, &tensors(&entries, &zeros), &BTreeMap::new()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (bytes, model) = written(&onnx);
    assert!(bytes.len() < 4 * weights + 200_000, "{name}: {} bytes for {weights} weights", bytes.len());
    check(&model);
    let (side, classes) = (size.to_string(), classes.to_string());
    assert_eq!(model.inputs, [described("input", ["N", "3", &side, &side])], "{name}");
    assert_eq!(model.outputs, [described("logits", ["N", &classes, "", ""])], "{name}");
    // Each weight once, under PyTorch's name, in its shape; constants besides have a slash in their names.
    let own = model.initializers.iter().filter(|(name, _)| !name.contains('/'));
    let own: BTreeMap<&str, &[usize]> = own.map(|(name, constant)| (name.as_str(), constant.shape())).collect();
    let due: BTreeMap<&str, &[usize]> = entries.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    assert_eq!(own, due, "{name}");
    let operators = operators(&model);
    let of = |op: &str| operators.get(op).copied().unwrap_or(0);
    let layers = |rank: usize| entries.iter().filter(|(name, shape)| name.ends_with(".weight") && shape.len() == rank).count();
    assert_eq!([of("Conv"), of("BatchNormalization"), of("Gemm")], [4, 1, 2].map(layers), "{name}: {operators:?}");
    assert!(of("GlobalAveragePool") >= 1 && of("Flatten") == 1, "{name}: {operators:?}");
    let last = model.nodes.last().expect("nodes");
    assert_eq!((last.op.as_str(), last.output.as_str()), ("Gemm", "logits"), "{name}");
}

#[test]
fn every_network_that_has_a_name() {
    for model in MODELS {
        network(model.name, [64, 1], 11, |g, x| model.record(g, x, 11));
    }
    network("resnet8", [32, 1], 10, |g, x| Recipe::resnet8(10).record(g, x).1);
    let small = Recipe::new(&[1, 2], &[8, 12], Stem { kernel: 5, stride: 2, pad: 2, pool: true }, 3, 4).expect("a recipe");
    network("a recipe", [40, 6], 4, |g, x| small.record(g, x).1);
}

/// A small network with parameters of known numbers.
fn small(graph: &Graph) -> nunatak_core::tape::ValueId {
    let (g, x) = (graph.root(), graph.input([2, 3, 8, 6]));
    let conv = Conv::new(4, [3, 1]).stride([2, 1]).pad([1, 0]).dilation([2, 1]).no_bias();
    let y = g.scope("a.b").conv2d("conv", x, conv);
    let y = g.batch_norm("norm", y, Norm::default().eps(1e-3)).relu6();
    g.linear("fc", y.adaptive_avg_pool(1), 5).id()
}

#[test]
fn nodes_names_and_attributes() {
    let graph = Graph::new();
    let output = small(&graph);
    let (entries, numbers) = (entries(&graph), (0..64).map(|i| i as f32).collect::<Vec<_>>());
    let metadata = BTreeMap::from([("b".to_string(), "[\"ä\"]".to_string()), ("a".to_string(), String::new())]);
    let of = || Onnx::new(&graph, output, &tensors(&entries, &numbers), &metadata).expect("a network");
    let (bytes, model) = written(&of());
    assert_eq!(written(&of()).0, bytes, "the same bytes each time");
    check(&model);
    let nodes: Vec<_> = model.nodes.iter().map(|node| (node.name.as_str(), node.op.as_str(), node.output.as_str())).collect();
    let due = [
        ("a.b.conv", "Conv", "a.b.conv"),
        ("norm", "BatchNormalization", "norm"),
        ("relu6_3", "Clip", "relu6_3"),
        ("avgpool_4", "GlobalAveragePool", "avgpool_4"),
        ("fc/1", "Flatten", "fc/1"),
        ("fc", "Gemm", "logits"),
    ];
    assert_eq!(nodes, due);
    let conv = &model.nodes[0];
    let window = ["kernel_shape", "strides", "pads", "dilations"].map(|name| conv.ints(name).expect(name));
    assert_eq!(window, [&[3, 1][..], &[2, 1], &[1, 0, 1, 0], &[2, 1]]);
    assert_eq!((conv.int("group", 0), model.nodes[1].float("epsilon")), (1, 1e-3));
    assert_eq!(conv.inputs, ["input", "a.b.conv.weight"]);
    assert_eq!(model.nodes[1].inputs, ["a.b.conv", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]);
    let weight = model.initializers.iter().find(|(name, _)| name == "a.b.conv.weight").expect("the weight");
    assert_eq!(weight.1, super::reader::Constant::Floats(vec![4, 3, 3, 1], numbers[..36].to_vec()));
    let pairs: Vec<_> = model.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(pairs, [("a", ""), ("b", "[\"ä\"]")]);

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("small.onnx");
    write_onnx(&path, &graph, output, &tensors(&entries, &numbers), &metadata).expect("written");
    assert_eq!(std::fs::read(&path).expect("read"), bytes);
}

/// Names that are given twice, or that the file has for something else.
#[test]
fn every_name_comes_once() {
    let graph = Graph::new();
    let g = graph.root();
    let x = g.name("logits", graph.input([2, 4]));
    let a = g.name("input", g.linear("l", x, 4));
    let b = g.name("l.weight", g.linear("l", a.relu(), nunatak_nn::Dense::new(4).shared()));
    let c = g.linear("l", g.name("l", b.tanh()), nunatak_nn::Dense::new(4).shared());
    let output = (c * 2.0 + g.name("l", a.sigmoid())).id();
    let (entries, numbers) = (entries(&graph), vec![0.5; 16]);
    let (_, model) = written(&Onnx::new(&graph, output, &tensors(&entries, &numbers), &BTreeMap::new()).expect("a network"));
    check(&model);
    assert_eq!(model.inputs, [described("input", ["N", "4", "", ""])]);
    let own = model.initializers.iter().filter(|(name, _)| !name.contains('/')).map(|(name, _)| name.as_str());
    assert_eq!(own.collect::<Vec<_>>(), ["l.weight", "l.bias"], "a shared weight lies there once");
}

/// Two inputs have their own names; one that has not the batch's images keeps their number.
#[test]
fn several_inputs() {
    let graph = Graph::new();
    let g = graph.root();
    let (a, b) = (g.name("left", graph.input([3, 2, 4, 4])), graph.input([3, 2, 4, 4]));
    let scale = g.name("scale", graph.input([1, 2]));
    let left_out = graph.input([9, 9]);
    let output = ((a - b) * scale).id();
    assert!(left_out.id() < output);
    let (_, model) = written(&Onnx::new(&graph, output, &[], &BTreeMap::new()).expect("a network"));
    check(&model);
    let sides = ["N", "2", "4", "4"];
    assert_eq!(model.inputs, [described("left", sides), described("input_1", sides), described("scale", ["1", "2", "", ""])]);
    assert_eq!(model.outputs, [described("logits", sides)]);
}
