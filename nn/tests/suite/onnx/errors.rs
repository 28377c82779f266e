//! What can't be written, and what the errors say.

use nunatak_nn::files::onnx::{Onnx, OnnxError, write_onnx};
use nunatak_nn::files::{Checkpoint, Data, TensorOut, WriteError};
use nunatak_nn::{Dense, Error, Graph, Step, ValueId};
use std::collections::BTreeMap;

fn refused(graph: &Graph, output: impl Into<ValueId>, tensors: &[TensorOut]) -> OnnxError {
    Onnx::new(graph, output, tensors, &BTreeMap::new()).expect_err("an error")
}

#[track_caller]
fn says(error: &OnnxError, words: &[&str]) {
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} does not say {words:?}");
}

#[test]
fn losses_are_not_written() {
    let graph = Graph::new();
    let (x, labels) = (graph.input([2, 4]), graph.labels(2));
    let g = graph.root();
    let prediction = g.name("prediction", g.linear("fc", x, 3));
    let loss = g.name("loss", prediction.cross_entropy(labels, Default::default()));
    let trainer = Step::new(&graph).keep(&[prediction.id()]).trainer().expect("a trainer");
    let (state, none) = (trainer.state(), &BTreeMap::new());
    assert!(Onnx::new(&graph, prediction, &state.views(), none).is_ok());
    // The labels come first.
    says(&refused(&graph, loss, &state.views()), &["labels", "can't be written as ONNX", "ask for the prediction"]);
    let distance = prediction.mse(x.square().concat(x).softmax().sum_over(&[nunatak_nn::ops::Axis::C]) * prediction);
    let error = refused(&graph, g.name("distance", distance), &state.views());
    says(&error, &["mse (\"distance\")", "a loss is for training", "ask for the value that it judges"]);
    let OnnxError::Operation { operation: "mse", value, .. } = error else { panic!("{error:?}") };
    assert_eq!(value, "distance");
}

#[test]
fn tensors_must_be_the_networks() {
    let graph = Graph::new();
    let output = graph.root().linear("fc", graph.input([1, 2]), 3).id();
    let numbers = [0.5; 6];
    let tensor = |name, shape, len: usize| TensorOut { name, shape, data: Data::F32(&numbers[..len]) };
    let (weight, bias) = (tensor("fc.weight", &[3, 2], 6), tensor("fc.bias", &[3], 3));
    assert!(Onnx::new(&graph, output, &[bias, tensor("more", &[1], 1), weight], &BTreeMap::new()).is_ok());
    says(&refused(&graph, output, &[weight]), &["\"fc.bias\"", "it is not there"]);
    says(&refused(&graph, output, &[tensor("fc.weight", &[2, 3], 6), bias]), &["\"fc.weight\"", "[3, 2]"]);
    says(&refused(&graph, output, &[weight, tensor("fc.bias", &[1, 3], 3)]), &["\"fc.bias\"", "[3]"]);
    says(&refused(&graph, output, &[tensor("fc.weight", &[3, 2], 5), bias]), &["\"fc.weight\"", "5 elements"]);
    says(&refused(&graph, output, &[weight, weight, bias]), &["\"fc.weight\"", "two tensors"]);
    let integers = TensorOut { name: "fc.bias", shape: &[3], data: Data::I64(&[1, 2, 3]) };
    says(&refused(&graph, output, &[weight, integers]), &["\"fc.bias\"", "integers"]);
}

#[test]
fn a_recording_with_an_error_and_an_unknown_value() {
    let graph = Graph::new();
    let x = graph.input([1, 2]);
    let unknown = refused(&graph, ValueId(7), &[]);
    assert!(matches!(unknown, OnnxError::Recording(Error::Core(nunatak_core::Error::UnknownValue { value: 7, values: 1 }))), "{unknown}");
    let output = x + graph.input([1, 3]);
    let error = refused(&graph, output, &[]);
    assert_eq!(error.to_string(), graph.check().expect_err("an error").to_string());
}

/// One matrix of 64 MiB is all weights of a network of more than 2 GiB.
#[test]
#[cfg(target_pointer_width = "64")]
fn a_network_that_no_file_can_hold() {
    const SIDE: usize = 4096;
    let (graph, layers) = (Graph::new(), 33);
    let mut x = graph.input([1, SIDE]);
    for layer in 0..layers {
        x = graph.root().numbered(layer).linear("fc", x, Dense::new(SIDE).no_bias());
    }
    let numbers = vec![0.0; SIDE * SIDE];
    let names: Vec<String> = (0..layers).map(|layer| format!("{layer}.fc.weight")).collect();
    let tensors: Vec<TensorOut> = names.iter().map(|name| TensorOut { name, shape: &[SIDE, SIDE], data: Data::F32(&numbers) }).collect();
    let error = refused(&graph, x, &tensors);
    says(&error, &["2147483647", "export a smaller network"]);
    let OnnxError::TooBig { bytes, limit: 2_147_483_647 } = error else { panic!("{error:?}") };
    assert!((33 << 26..(33 << 26) + 10_000).contains(&bytes), "{bytes}");
    // A layer less fits, though it is beyond what 31 bits count in weights alone.
    assert!(Onnx::new(&graph, ValueId(31), &tensors, &BTreeMap::new()).is_ok());
}

#[test]
fn what_stood_there_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.onnx");
    std::fs::write(&path, "before").expect("written");
    let graph = Graph::new();
    let output = graph.root().linear("fc", graph.input([1, 2]), 3);
    assert!(write_onnx(&path, &graph, output, &[], &BTreeMap::new()).is_err());
    assert_eq!(std::fs::read(&path).expect("read"), b"before");
    let into_folder = write_onnx(folder.path(), &graph, graph.input([1]), &[], &BTreeMap::new());
    assert!(matches!(into_folder, Err(OnnxError::Write(WriteError::Io { .. }))), "{into_folder:?}");
}

#[test]
fn a_file_that_was_written_is_no_checkpoint() {
    let graph = Graph::new();
    let output = graph.input([1, 2]).relu();
    let mut bytes = Vec::new();
    Onnx::new(&graph, output, &[], &BTreeMap::new()).expect("a network").write(&mut bytes).expect("written");
    let error = Checkpoint::parse(&bytes).expect_err("no checkpoint").to_string();
    assert!(error.contains("a network in ONNX") && error.contains("give the weights"), "{error}");
}
