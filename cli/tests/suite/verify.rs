//! `nunatak verify`, run as a program on traces that this test makes from what `nunatak step` writes.

use crate::running::Place;
use nunatak_nn::files::state::{State, Values};
use nunatak_nn::files::{Checkpoint, Data, TensorOut, write_safetensors};
use serde_json::Value;
use std::collections::BTreeMap;

/// Steps of a resnet8 as the script runs them.
const STEP: &str = "step --arch resnet8 --weights weights.safetensors --input batch.safetensors --loss cross-entropy --steps 2 \
                    --lr 0.01 --momentum 0.9 --threads 1";
const SETTINGS: &str = r#"{"arch":"resnet8","loss":"cross-entropy","mode":"train","steps":2,"lr":0.01,"momentum":0.9,"weight_decay":0.0,
                          "double":true,"first":1e-6,"rest":1e-6,"torch":"2.15.0"}"#;

fn tensors(place: &Place, file: &str, prefix: &str, into: &mut State) {
    let bytes = place.bytes(file);
    for entry in Checkpoint::parse_all(&bytes).unwrap().entries() {
        let values = entry.read_i64().map(Values::I64).unwrap_or_else(|_| {
            let mut numbers = Vec::new();
            entry.read_f32(&mut numbers).unwrap();
            Values::F32(numbers)
        });
        into.tensors.push((format!("{prefix}{}", entry.name()), entry.shape().to_vec(), values));
    }
}

/// A place with a trace: what the script would have written.
fn place() -> (Place, State) {
    let place = Place::new();
    let data: Vec<f32> = (0..4 * 3 * 32 * 32).map(|i| (i as f32 * 0.37).sin()).collect();
    let input = TensorOut { name: "input", shape: &[4, 3, 32, 32], data: Data::F32(&data) };
    let labels = TensorOut { name: "labels", shape: &[4], data: Data::I64(&[3, 0, 9, 1]) };
    write_safetensors(&place.path("batch.safetensors"), &[input, labels], &Default::default()).unwrap();
    let layers = "conv1,layer1.0.conv1,layer1.0.conv2,layer2.0.conv1,layer3.0.conv2";
    place.ok(&format!("{STEP} --layers {layers} --out step.safetensors"));
    let mut trace = State::default();
    tensors(&place, "batch.safetensors", "", &mut trace);
    tensors(&place, "weights.safetensors", "start.", &mut trace);
    tensors(&place, "step.safetensors", "", &mut trace);
    write(&place, "trace.safetensors", &trace, SETTINGS);
    (place, trace)
}

fn write(place: &Place, name: &str, trace: &State, settings: &str) {
    let metadata = BTreeMap::from([("nunatak.trace".to_string(), settings.to_string())]);
    write_safetensors(&place.path(name), &trace.views(), &metadata).unwrap();
}

/// The trace with one tensor's numbers changed.
fn changed(trace: &State, name: &str, change: impl FnOnce(&mut Vec<f32>)) -> State {
    let mut trace = trace.clone();
    let tensor = trace.tensors.iter_mut().find(|(n, ..)| n == name).unwrap_or_else(|| panic!("no {name}"));
    let Values::F32(numbers) = &mut tensor.2 else { panic!("{name} has no floats") };
    change(numbers);
    trace
}

#[test]
fn a_trace_of_the_same_steps_is_within_tolerance() {
    let (place, trace) = place();
    let given = |name: &str| matches!(name, "input" | "labels") || name.starts_with("start.");
    // The losses of two steps are a row each.
    let compared = trace.tensors.iter().filter(|(name, ..)| !given(name)).count() + 1;
    for more in ["", " --threads 2", " --memory small"] {
        let run = place.ok(&format!("verify trace.safetensors{more}"));
        let last = run.out.lines().last().unwrap();
        assert!(last.starts_with(&format!("all {compared} tensors within tolerance")), "{last}");
        assert_eq!(run.out.lines().filter(|line| line.ends_with("  ok")).count(), compared, "{}", run.out);
    }
    // The order is that of computing.
    let out = place.ok("verify trace.safetensors --threads 1 --json").out;
    let json: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<&str> = json["tensors"].as_array().unwrap().iter().map(|row| row["tensor"].as_str().unwrap()).collect();
    let due = ["forward.conv1", "forward.layer1.0.conv1", "forward.layer3.0.conv2", "features", "prediction", "loss 1", "grad.fc.bias"];
    let due = [&due[..], &["grad.layer3.0.conv2.weight", "grad.conv1.weight", "loss 2", "state.conv1.weight", "momentum.fc.bias"]].concat();
    let at: Vec<usize> = due.iter().map(|name| names.iter().position(|n| n == name).unwrap_or_else(|| panic!("no {name}"))).collect();
    assert!(at.is_sorted(), "{names:?}");
    assert!(json["ok"] == true && json["first_difference"].is_null(), "{out}");
    assert!(json["tensors"].as_array().unwrap().iter().all(|row| row["difference"] == 0.0), "the same bits: {out}");
}

#[test]
fn one_changed_number_is_found_with_its_difference() {
    let (place, trace) = place();
    for name in [
        "forward.layer1.0.conv2",
        "features",
        "prediction",
        "loss",
        "grad.layer2.0.bn1.weight",
        "state.bn1.running_var",
        "momentum.fc.weight",
    ] {
        let (mut before, mut after, mut largest) = (0.0, 0.0, 0.0_f32);
        let at = if name == "loss" { 0 } else { 5 };
        let bad = changed(&trace, name, |numbers| {
            before = numbers[at];
            numbers[at] += 0.5;
            after = numbers[at];
            largest = numbers.iter().fold(0.0, |most, v| most.max(v.abs()));
        });
        write(&place, "bad.safetensors", &bad, SETTINGS);
        let run = place.run("verify bad.safetensors");
        let named = if name == "loss" { "loss 1" } else { name };
        let last = run.out.lines().last().unwrap();
        assert_eq!(run.code, Some(1), "{name}");
        assert!(last.starts_with(&format!("first difference: {named}, number {at}: {before:e} here, {after:e} in PyTorch")), "{last}");
        assert_eq!(run.out.lines().filter(|line| line.ends_with("DIFFERS")).count(), 1, "{}", run.out);
        assert!(run.err.starts_with("error: bad.safetensors: 1 of "), "{}", run.err);
        let json: Value = serde_json::from_str(&place.run("verify bad.safetensors --json").out).unwrap();
        assert_eq!(json["first_difference"], named);
        let row = json["tensors"].as_array().unwrap().iter().find(|row| row["tensor"] == named).unwrap();
        let due = f64::from(after) - f64::from(before);
        assert!((row["difference"].as_f64().unwrap() - due).abs() < 1e-12 && row["ok"] == false, "{row}");
        let share = due / f64::from(if name == "loss" { after } else { largest });
        assert!((row["of_largest"].as_f64().unwrap() - share).abs() < 1e-9, "{row} {share}");
        // A tolerance that is asked for wins.
        place.ok("verify bad.safetensors --tolerance 1000");
    }
    // The earliest is named, whatever comes after it.
    let bad = changed(&trace, "grad.fc.weight", |numbers| numbers[0] += 100.0);
    let bad = changed(&bad, "forward.layer3.0.conv2", |numbers| numbers[7] += 0.1);
    let bad = changed(&bad, "forward.layer2.0.conv1", |numbers| numbers[7] += 0.01);
    write(&place, "bad.safetensors", &bad, SETTINGS);
    let run = place.run("verify bad.safetensors");
    assert!(run.out.lines().last().unwrap().starts_with("first difference: forward.layer2.0.conv1, number 7:"), "{}", run.out);
    // Counters are equal or differ.
    let mut bad = trace.clone();
    bad.tensors.iter_mut().find(|(name, ..)| name == "state.bn1.num_batches_tracked").unwrap().2 = Values::I64(vec![3]);
    write(&place, "bad.safetensors", &bad, SETTINGS);
    let run = place.run("verify bad.safetensors --tolerance 1000");
    assert!(
        run.code == Some(1) && run.out.contains("first difference: state.bn1.num_batches_tracked, number 0: 2e0 here, 3e0"),
        "{}",
        run.out
    );
}

/// Four times what the script measured is allowed, and never less than 5e-5.
#[test]
fn measured_distances_are_the_tolerance() {
    let (place, trace) = place();
    let most = |name: &str| {
        let Values::F32(numbers) = &trace.tensors.iter().find(|(n, ..)| n == name).unwrap().2 else { panic!("floats") };
        numbers.iter().fold(0.0_f32, |most, v| most.max(v.abs()))
    };
    for (name, settings, off, code) in [
        ("prediction", SETTINGS.to_string(), 4e-5, 0),
        ("prediction", SETTINGS.to_string(), 6e-5, 1),
        ("prediction", SETTINGS.replace("\"first\":1e-6", "\"first\":2e-5"), 7e-5, 0),
        ("grad.fc.weight", SETTINGS.replace("\"rest\":1e-6", "\"rest\":1e-3"), 3.9e-3, 0),
        ("grad.fc.weight", SETTINGS.replace("\"rest\":1e-6", "\"rest\":1e-3"), 4.1e-3, 1),
        ("grad.fc.weight", SETTINGS.replace("\"rest\":1e-6,", ""), 9e-3, 0),
        ("grad.fc.weight", SETTINGS.replace("\"rest\":1e-6,", ""), 2e-2, 1),
    ] {
        let by = off * most(name);
        // Toward zero, so that the largest number stays the largest.
        let moved = changed(&trace, name, |numbers| numbers[3] -= by * numbers[3].signum());
        write(&place, "moved.safetensors", &moved, &settings);
        let run = place.run("verify moved.safetensors --threads 1");
        assert_eq!(run.code, Some(code), "{name} {off}: {}{}", run.out.lines().last().unwrap(), run.err);
    }
    write(&place, "vague.safetensors", &trace, &SETTINGS.replace("\"rest\":1e-6", "\"rest\":0.5"));
    let run = place.ok("verify vague.safetensors --threads 1");
    assert!(run.err.contains("this trace says little"), "{}", run.err);
}

#[test]
fn traces_that_cannot_be_used_are_refused() {
    let (place, trace) = place();
    let refused = |trace: &State, settings: &str, what: &str| {
        write(&place, "bad.safetensors", trace, settings);
        let run = place.run("verify bad.safetensors --threads 1");
        assert!(run.code == Some(1) && run.out.is_empty(), "{what}: {:?} {} {}", run.code, run.out, run.err);
        assert!(run.err.starts_with("error: bad.safetensors") && run.err.contains(what), "{what}: {}", run.err);
    };
    for missing in
        ["input", "labels", "prediction", "features", "loss", "grad.fc.bias", "state.conv1.weight", "momentum.fc.bias", "start.fc.weight"]
    {
        let mut bad = trace.clone();
        bad.tensors.retain(|(name, ..)| name != missing);
        refused(&bad, SETTINGS, missing.strip_prefix("start.").unwrap_or(missing));
    }
    let mut bad = trace.clone();
    bad.tensors.retain(|(name, ..)| !name.starts_with("start."));
    refused(&bad, SETTINGS, "start");
    for (name, number) in [("grad.fc.weight", f32::NAN), ("input", f32::INFINITY), ("start.conv1.weight", f32::NAN)] {
        refused(&changed(&trace, name, |numbers| numbers[1] = number), SETTINGS, &format!("1 numbers of {name} are NaN or infinite"));
    }
    for (name, shape) in [
        ("grad.fc.weight", vec![64, 10]),
        ("state.bn1.weight", vec![4, 4]),
        ("prediction", vec![40]),
        ("prediction", vec![8, 5]),
        ("input", vec![4 * 3, 32, 32]),
        ("input", vec![3, 4, 32, 32]),
        ("labels", vec![2, 2]),
        ("start.fc.weight", vec![64, 10]),
        ("forward.conv1", vec![4, 32, 16, 32]),
    ] {
        let mut bad = trace.clone();
        bad.tensors.iter_mut().find(|(n, ..)| n == name).unwrap().1 = shape;
        refused(&bad, SETTINGS, if name == "prediction" { "" } else { name.strip_prefix("start.").unwrap_or(name) });
    }
    let mut bad = trace.clone();
    bad.tensors.push(("grad.layer9.weight".into(), vec![1], Values::F32(vec![0.0])));
    refused(&bad, SETTINGS, "holds grad.layer9.weight");
    bad.tensors.last_mut().unwrap().0 = "forward.layer9".into();
    refused(&bad, SETTINGS, "there is no layer \"layer9\"");
    for (from, to, what) in [
        ("resnet8", "resnet51", "--arch resnet51: expected resnet18"),
        ("resnet8", "mobilenet_v2", "there is no layer"),
        ("cross-entropy", "hinge", "hinge"),
        ("\"train\"", "\"test\"", "unknown variant `test`"),
        ("\"steps\":2", "\"steps\":3", "`loss` has the shape [2], expected [3]"),
        ("\"steps\":2", "\"steps\":-1", "expected usize"),
        ("\"lr\":0.01", "\"lr\":\"fast\"", "expected f32"),
        ("\"lr\":0.01,", "", "missing field `lr`"),
        ("\"momentum\":0.9", "\"momentum\":-2", "momentum"),
        ("\"momentum\":0.9", "\"momentum\":0", "momentum"),
        ("\"momentum\":0.9", "\"betas\":[0.9]", "unknown field `betas`"),
        ("\"double\":true", "\"trainable\":\"layer9\"", "no parameter"),
        ("{", "[", "settings"),
    ] {
        refused(&trace, &SETTINGS.replacen(from, to, 1), what);
    }
    let run = place.run("verify weights.safetensors");
    assert!(run.code == Some(1) && run.err.contains("is no trace") && run.err.contains("nunatak verify --script"), "{}", run.err);
    let cut = place.bytes("trace.safetensors");
    std::fs::write(place.path("cut.safetensors"), &cut[..cut.len() / 2]).unwrap();
    for file in ["cut.safetensors", "missing.safetensors", "data"] {
        let run = place.run(&format!("verify {file}"));
        assert!(run.code == Some(1) && run.err.contains(file), "{file}: {}", run.err);
    }
    for words in
        ["verify", "verify trace.safetensors --script", "verify trace.safetensors --tolerance -1", "verify trace.safetensors --tolerance x"]
    {
        assert_eq!(place.run(words).code, Some(2), "{words}");
    }
    let run = place.run("verify trace.safetensors --level none");
    assert!(run.code == Some(2) && run.err.contains("--level none"), "{}", run.err);
}

#[test]
fn the_script_is_python() {
    let place = Place::new();
    let script = place.ok("verify --script").out;
    for part in ["float64", "nunatak.trace", "save_file"] {
        assert!(script.contains(part), "{part}");
    }
    std::fs::write(place.path("trace.py"), script).unwrap();
    let python = std::process::Command::new("python3").args(["-m", "py_compile", "trace.py"]).current_dir(place.dir.path()).output();
    if let Ok(python) = python {
        assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    }
}

/// Outputs of layers move no bit of a step, and names that are none are refused.
#[test]
fn steps_write_what_layers_gave() {
    let (place, trace) = place();
    place.ok(&format!("{STEP} --out bare.safetensors"));
    place.ok(&format!("{STEP} --layers all --out whole.safetensors"));
    let (mut bare, mut whole) = (State::default(), State::default());
    tensors(&place, "bare.safetensors", "", &mut bare);
    tensors(&place, "whole.safetensors", "", &mut whole);
    let numbers = |state: &State, name: &str| state.tensors.iter().find(|(n, ..)| n == name).map(|(_, _, values)| format!("{values:?}"));
    for (name, ..) in &bare.tensors {
        assert!(!name.starts_with("forward.") && name != "features");
        assert_eq!(numbers(&bare, name), numbers(&whole, name), "{name}");
        assert_eq!(numbers(&bare, name), numbers(&trace, name), "{name}");
    }
    assert!(numbers(&whole, "forward.layer2.0.downsample.1").is_some());
    assert_eq!(numbers(&whole, "forward.fc"), numbers(&whole, "prediction"));
    let run = place.run(&format!("{STEP} --layers conv1,conv9 --out x.safetensors"));
    assert!(run.code == Some(2) && run.err.contains("no layer \"conv9\"; they begin with conv1, bn1"), "{}", run.err);
    assert_eq!(place.run(&format!("{STEP} --layers all --micro-batch 2 --out x.safetensors")).code, Some(2));
}
