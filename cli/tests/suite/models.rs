//! Models by name, run as a program: a network that has no recipe goes through all commands.

use crate::running::Place;
use nunatak_cli::args::network;
use nunatak_nn::files::{Data, TensorOut, write_safetensors};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_network_of_bottlenecks_is_recognised_stepped_tuned_and_shown() {
    let place = Place::new();
    let resnet50 = network("resnet50", Some(10)).unwrap();
    place.weights_of("r50.safetensors", resnet50, None);
    place.ok("convert r50.safetensors base.nunatak");
    for file in ["r50.safetensors", "base.nunatak"] {
        assert!(place.ok(&format!("inspect {file}")).out.contains("network: resnet50, 3 channels in, 10 classes"), "{file}");
    }

    // A step writes the same with the weights in place.
    let data: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| (i as f32 * 0.37).sin()).collect();
    let labels: Vec<f32> = (0..20).map(|i| (i as f32 * 0.11).cos()).collect();
    let tensors = [
        TensorOut { name: "input", shape: &[2, 3, 32, 32], data: Data::F32(&data) },
        TensorOut { name: "labels", shape: &[2, 10], data: Data::F32(&labels) },
    ];
    write_safetensors(&place.path("batch.safetensors"), &tensors, &Default::default()).unwrap();
    let step = "step --arch resnet50 --classes 10 --input batch.safetensors --trainable head --mode eval --threads 1";
    place.ok(&format!("{step} --weights r50.safetensors --out a.safetensors"));
    place.ok(&format!("{step} --weights base.nunatak --in-place --out b.safetensors"));
    assert!(place.bytes("a.safetensors") == place.bytes("b.safetensors"));
    let measured = json(&place.ok("measure --weights base.nunatak --in-place --size 64 --repeat 1 --threads 1 --json").out);
    assert!(measured["in_place_bytes"].as_u64() > Some(90_000_000), "{measured}");

    // A new head, as a delta that finds its base.
    let tune = "finetune data --weights base.nunatak --in-place --delta --out delta.nunatak --size 32 --resize 32 --batch 8 --epochs 1";
    let run = place.ok(tune);
    assert!(run.err.contains("training fc: ") && run.err.contains("fc: new, for 3 classes instead of 10"), "{}", run.err);
    let (lent, copied) = ("predict delta.nunatak data/val/red/0.png --json --in-place", "predict delta.nunatak data/val/red/0.png --json");
    assert_eq!(place.ok(lent).out, place.ok(copied).out);
    place.ok("convert delta.nunatak merged.nunatak --base base.nunatak");
    assert!(place.ok("inspect merged.nunatak").out.contains("network: resnet50, 3 channels in, 3 classes"));
    assert_eq!(place.ok("predict merged.nunatak data/val/red/0.png --json").out, place.ok(copied).out);
}

#[test]
fn a_damaged_model_is_told_what_it_lacks() {
    let place = Place::new();
    let trainer = |name: &str| {
        let program = network(name, Some(4)).unwrap().program().unwrap();
        nunatak_nn::Trainer::owning(program, nunatak_nn::Level::PORTABLE, nunatak_nn::Threads::serial()).unwrap()
    };
    let mut state = trainer("resnext50_32x4d").state();
    state.tensors.retain(|(name, ..)| name != "layer2.1.bn3.weight");
    write_safetensors(&place.path("x.safetensors"), &state.views(), &Default::default()).unwrap();
    let out = place.ok("inspect x.safetensors").out;
    assert!(out.contains("network: none that can be trained here") && out.contains("1 missing: layer2.1.bn3.weight"), "{out}");
    let run = place.run("predict x.safetensors data/val/red/0.png");
    assert!(run.code == Some(1) && run.err.contains("layer2.1.bn3.weight"), "{}", run.err);
}

#[test]
fn names_that_there_are_not_are_refused_with_those_that_there_are() {
    let place = Place::new();
    for command in ["plan", "measure", "profile", "step --input x --out y"] {
        let run = place.run(&format!("{command} --arch resnet51"));
        assert_eq!(run.code, Some(2), "{command}: {}", run.err);
        for name in nunatak_cli::args::architectures() {
            assert!(run.err.contains(name), "{command} {name}: {}", run.err);
        }
    }
    let help = place.ok("step --help").out;
    for name in nunatak_cli::args::architectures() {
        assert!(help.contains(name), "{name} is not in {help}");
    }
}
