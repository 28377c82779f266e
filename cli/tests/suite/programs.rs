//! Programs in files: written by `plan`, read again by `plan`, `measure`, `profile` and `inspect`.

use crate::running::Place;
use nunatak_core::program::{Program, checksum};
use serde_json::Value;

/// A small network, so that steps are short.
const STEP: &str = "--arch resnet8 --batch 2 --size 32 --threads 2";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Name, pass and algorithm of every kernel call, without the inputs, which only a profile has.
fn named(value: &Value) -> Vec<[String; 3]> {
    let rows = value["calls"].as_array().expect("a list").iter();
    let named = rows.map(|row| ["name", "pass", "algorithm"].map(|key| row[key].as_str().expect("text").to_string()));
    named.filter(|[_, pass, _]| pass != "input").collect()
}

#[test]
fn a_program_is_the_step_that_it_was_planned_from() {
    let place = Place::new();
    for mode in ["train", "head", "infer"] {
        let planned = json(&place.ok(&format!("plan {STEP} --mode {mode} --out step.bin --json")).out);
        assert_eq!(place.bytes("step.bin"), {
            place.ok(&format!("plan {STEP} --mode {mode} --out again.bin"));
            place.bytes("again.bin")
        });
        let read = json(&place.ok("plan --program step.bin --json").out);
        for key in ["bytes", "calls", "peak_at", "peak_bytes"] {
            assert_eq!(planned[key], read[key], "{mode} {key}");
        }
        assert_eq!(read["removed"], serde_json::json!([]));
        let checksum = |words: &str| json(&place.ok(&format!("measure {words} --repeat 2 --json")).out)["checksum"].clone();
        assert_eq!(checksum("--program step.bin"), checksum(&format!("{STEP} --mode {mode}")), "{mode}");
        assert_eq!(checksum("--program step.bin --threads 1"), checksum("--program step.bin"), "{mode}");
        let profiled = json(&place.ok("profile --program step.bin --repeat 1 --json").out);
        assert_eq!(named(&profiled), named(&planned), "{mode}");
    }
}

#[test]
fn inspect_says_what_a_program_holds() {
    let place = Place::new();
    place.ok(&format!("plan {STEP} --mode head --level portable --memory small --out step.bin"));
    let bytes = place.bytes("step.bin");
    let program = Program::check(&bytes).expect("a program");
    let text = place.ok("inspect step.bin").out;
    for line in [
        format!("step.bin: program, {} bytes", bytes.len()),
        format!("hash {:016x}", program.hash()),
        format!("model: {}", program.model()),
        format!("head: {}", program.head()),
        "target: level portable, at most 2 threads, memory small".into(),
        "step: train mode, updates during the backward walk, with momentum".into(),
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is not in {text}");
    }
    let report = json(&place.ok("inspect step.bin --json").out);
    let entries = report["entries"].as_array().expect("entries");
    assert_eq!((entries.len(), &report["format"]), (program.entry_count(), &Value::from("program")));
    let trained = entries.iter().filter(|e| e["trained"] == true).map(|e| e["name"].as_str().expect("text"));
    let head: Vec<_> = trained.collect();
    assert!(head.len() == 2 && head.iter().all(|name| name.starts_with(program.head())), "{head:?}");
    assert_eq!(report["totals"]["trained"], 64 * 10 + 10);
    let planned = json(&place.ok("plan --program step.bin --json").out);
    assert_eq!(report["bytes"], planned["bytes"]);
    let plan_calls = planned["calls"].as_array().expect("calls");
    let of = |pass: &str| plan_calls.iter().filter(|c| c["pass"].as_str().is_some_and(|p| p.starts_with(pass))).count();
    assert_eq!(report["calls"], serde_json::json!({"forward": of("forward"), "backward": of("backward"), "update": of("update")}));
}

#[test]
fn a_program_that_reads_in_place_asks_for_its_weights() {
    let place = Place::new();
    place.ok("convert weights.safetensors base.nunatak");
    place.weights("other.safetensors", 10, Some(0.5));
    place.ok("convert other.safetensors other.nunatak");
    place.ok("plan --weights base.nunatak --in-place --size 32 --threads 1 --out step.bin");
    let checksum = |words: &str| json(&place.ok(&format!("measure {words} --threads 1 --repeat 2 --json")).out)["checksum"].clone();
    assert_eq!(checksum("--program step.bin --weights base.nunatak"), checksum("--weights base.nunatak --in-place --size 32"));
    let hash = json(&place.ok("inspect base.nunatak --json").out)["hash"].clone();
    assert_eq!(json(&place.ok("inspect step.bin --json").out)["weights"], hash);
    assert!(place.ok("plan --program step.bin").out.contains("read in place"));
    let run = place.run("measure --program step.bin");
    assert!(run.code == Some(2) && run.err.contains("--weights"), "{}", run.err);
    let run = place.run("measure --program step.bin --weights other.nunatak --threads 1");
    assert!(run.code == Some(1) && run.err.contains(hash.as_str().expect("text")), "{}", run.err);
}

#[test]
fn what_is_no_program_or_another_machines_is_refused() {
    let place = Place::new();
    place.ok(&format!("plan {STEP} --level portable --out step.bin"));
    let good = place.bytes("step.bin");
    let mut bad = good.clone();
    bad[300] ^= 1;
    std::fs::write(place.path("flipped.bin"), &bad).unwrap();
    std::fs::write(place.path("cut.bin"), &good[..good.len() - 64]).unwrap();
    for file in ["flipped.bin", "cut.bin", "weights.safetensors", "missing.bin", "data"] {
        let run = place.run(&format!("plan --program {file}"));
        assert!(run.code == Some(1) && run.out.is_empty() && run.err.contains(file), "{file}: {}", run.err);
        if file.ends_with(".bin") {
            let run = place.run(&format!("inspect {file}"));
            assert!(run.code == Some(1) && run.out.is_empty() && run.err.contains(file), "{file}: {}", run.err);
        }
    }
    // Whole, but of threads that are not to be had, and of an instruction set that there is not.
    assert_eq!(place.run("measure --program step.bin --threads 3 --repeat 1").code, Some(1));
    let mut strange = good;
    strange[32] = 9;
    let sum = checksum(&strange).to_le_bytes();
    strange[20..28].copy_from_slice(&sum);
    std::fs::write(place.path("strange.bin"), &strange).unwrap();
    assert!(place.ok("inspect strange.bin").out.contains("level unknown"));
    let run = place.run("measure --program strange.bin --repeat 1");
    assert!(run.code == Some(1) && run.err.contains("instruction set"), "{}", run.err);
    for more in ["--arch resnet8", "--batch 1", "--size 8", "--mode head", "--trainable fc", "--memory small", "--out x.bin", "--no-fuse"] {
        assert_eq!(place.run(&format!("plan --program step.bin {more}")).code, Some(2), "{more}");
    }
    // Nothing but a checkpoint is taken for one, and it is said what this is.
    let run = place.run("convert step.bin out.pth");
    assert!(run.code == Some(1) && run.err.contains("program"), "{}", run.err);
}
