//! Weights in place, run as a program: native files, plans, deltas.

use crate::running::Place;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A place with the weights as a native file too.
fn place() -> Place {
    let place = Place::new();
    place.ok("convert weights.safetensors base.nunatak");
    place
}

const TUNE: &str = "--size 32 --resize 32 --batch 8 --threads 1 --epochs 2";

#[test]
fn native_files_are_converted_and_inspected() {
    let place = place();
    place.ok("convert base.nunatak back.safetensors");
    place.ok("convert back.safetensors again.nunatak");
    assert!(place.bytes("base.nunatak") == place.bytes("again.nunatak"));
    let a = json(&place.ok("inspect weights.safetensors --json").out);
    let b = json(&place.ok("inspect base.nunatak --json").out);
    assert_eq!((&b["format"], &a["totals"], &a["network"]), (&Value::from("nunatak"), &b["totals"], &b["network"]));
    assert_eq!(b["hash"].as_str().map(str::len), Some(64));
    assert!(b["base"].is_null() && a["hash"].is_null());

    let mut bytes = place.bytes("base.nunatak");
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(place.path("bad.nunatak"), &bytes).unwrap();
    let run = place.run("inspect bad.nunatak");
    assert!(run.code == Some(1) && run.err.contains("fc.") && run.err.contains("checksum"), "{}", run.err);
}

#[test]
fn plans_show_what_is_read_in_place() {
    let place = place();
    let plan = |more: &str| json(&place.ok(&format!("plan --weights base.nunatak --json {more}")).out);
    let (copied, lent) = (plan("--mode head --memory small"), plan("--in-place"));
    assert_eq!(copied["bytes"]["in_place"], 0);
    let numbers = |v: &Value, key: &str| v["bytes"][key].as_u64().unwrap();
    assert_eq!(numbers(&lent, "in_place") + numbers(&lent, "weights"), numbers(&copied, "weights"));
    assert!(lent["peak_bytes"].as_u64() < copied["peak_bytes"].as_u64());
    assert_eq!(numbers(&lent, "statistics"), numbers(&copied, "statistics"), "they move");
    assert_eq!(numbers(&plan("--in-place --bn-statistics fixed"), "statistics"), 0);
    assert!(place.ok("plan --weights base.nunatak --in-place").out.contains("read in place"));

    let run = place.run("plan --weights weights.safetensors --in-place");
    assert!(run.code == Some(1) && run.err.contains("nunatak convert"), "{}", run.err);
    assert_eq!(place.run("plan --in-place").code, Some(2));
    let measured = json(&place.ok("measure --weights base.nunatak --in-place --size 32 --repeat 2 --threads 1 --json").out);
    let same = json(&place.ok("measure --weights base.nunatak --mode head --memory small --size 32 --repeat 2 --threads 1 --json").out);
    assert_eq!(measured["checksum"], same["checksum"]);
    assert!(measured["in_place_bytes"].as_u64() > Some(0) && same["in_place_bytes"] == 0);
}

/// A fine-tuning in place ends with the bits of one with everything in memory, under both policies;
/// its delta is small, and is the model.
#[test]
fn fine_tuning_in_place_gives_the_same_model() {
    let place = place();
    for (policy, trainable) in [("fixed", "fc"), ("batch", "fc"), ("fixed", "layer3,fc")] {
        let more = format!("{TUNE} --bn-statistics {policy} --trainable {trainable}");
        let more = format!("{more} --overwrite");
        place.ok(&format!("finetune data --weights base.nunatak --out whole.nunatak {more}"));
        place.ok(&format!("finetune data --weights base.nunatak --in-place --out lent.nunatak {more}"));
        assert!(place.bytes("whole.nunatak") == place.bytes("lent.nunatak"), "{policy} {trainable}");
        assert!(place.bytes("whole.nunatak.last") == place.bytes("lent.nunatak.last"), "{policy} {trainable}");
        place.ok(&format!("finetune data --weights base.nunatak --in-place --delta --out delta.nunatak {more}"));
        let (delta, whole) = (place.bytes("delta.nunatak").len(), place.bytes("whole.nunatak").len());
        assert!(trainable != "fc" || delta < whole / 5, "{delta} of {whole} bytes");

        // The delta finds its base beside it, or where it is told; answers are the whole model's.
        let image = "data/val/red/0.png";
        let answer = place.ok(&format!("predict whole.nunatak {image} --json")).out;
        assert!(answer.contains("\"red\""), "{answer}");
        for words in ["delta.nunatak", "delta.nunatak --in-place", "delta.nunatak --base base.nunatak", "whole.nunatak --in-place"] {
            assert_eq!(place.ok(&format!("predict {words} {image} --json")).out, answer, "{words}");
        }
        assert_eq!(place.ok("evaluate delta.nunatak data --json --in-place").out, place.ok("evaluate whole.nunatak data --json").out);
        let shown = json(&place.ok("inspect delta.nunatak --json").out);
        assert_eq!(shown["base"], json(&place.ok("inspect base.nunatak --json").out)["hash"]);
        // Laid over its base it is the whole network, for any reader.
        place.ok("convert delta.nunatak merged.nunatak --base base.nunatak");
        assert!(place.bytes("merged.nunatak") == place.bytes("whole.nunatak"), "{policy} {trainable}");
        place.ok("convert delta.nunatak merged.pth --base base.nunatak");
    }
}

/// A run in place that was stopped goes on in place, and ends with the bytes of one that was not; a delta's state is
/// small too.
#[test]
fn runs_in_place_are_resumed() {
    let place = place();
    for (policy, delta) in [("fixed", "--delta"), ("batch", "--delta"), ("batch", "")] {
        let start =
            format!("finetune data --weights base.nunatak --in-place {delta} {TUNE} --bn-statistics {policy} --trainable layer3,fc");
        place.ok(&format!("{start} --out whole.nunatak --overwrite"));
        for stop in [1, 4, 6] {
            place.ok(&format!("{start} --out part.nunatak --overwrite --stop-after {stop}"));
            let weights = if delta.is_empty() { " --in-place --weights base.nunatak" } else { "" };
            place.ok(&format!("finetune data --resume --out part.nunatak --threads 1{weights}"));
            for end in ["", ".last"] {
                let (part, whole) = (place.bytes(&format!("part.nunatak{end}")), place.bytes(&format!("whole.nunatak{end}")));
                assert!(part == whole, "{policy} {delta} {stop} {end}: {} and {} bytes", part.len(), whole.len());
            }
        }
    }
    let sizes = |name: &str| place.bytes(name).len();
    place.ok(&format!("finetune data --weights base.nunatak --in-place --delta {TUNE} --out d.nunatak"));
    assert!(sizes("d.nunatak.last") < sizes("base.nunatak") / 10, "{}", sizes("d.nunatak.last"));
    // The base may lie elsewhere, but it must be the same.
    std::fs::create_dir(place.path("far")).unwrap();
    std::fs::rename(place.path("base.nunatak"), place.path("far/other.nunatak")).unwrap();
    let resume = "finetune data --resume --out d.nunatak --threads 1 --epochs 3";
    let run = place.run(resume);
    assert!(run.code == Some(2) && run.err.contains("base.nunatak") && run.err.contains("--weights"), "{}", run.err);
    place.weights("w.safetensors", 5, None);
    place.ok("convert w.safetensors wrong.nunatak");
    let run = place.run(&format!("{resume} --weights wrong.nunatak"));
    assert!(run.code == Some(1) && run.err.contains("hash"), "{}", run.err);
    place.ok(&format!("{resume} --weights far/other.nunatak"));
}

#[test]
fn deltas_without_their_base_are_refused() {
    let place = place();
    place.ok(&format!("finetune data --weights base.nunatak --in-place --delta --out delta.nunatak {TUNE}"));
    place.weights("other.safetensors", 5, None);
    place.ok("convert other.safetensors other.nunatak");
    let hash = |name: &str| json(&place.ok(&format!("inspect {name} --json")).out)["hash"].as_str().unwrap().to_string();
    let (due, got) = (hash("base.nunatak"), hash("other.nunatak"));
    for command in ["predict delta.nunatak data/val/red/0.png --base other.nunatak", "convert delta.nunatak x.pth --base other.nunatak"] {
        let run = place.run(command);
        assert!(run.code == Some(1) && run.err.contains(&due) && run.err.contains(&got), "{command}: {}", run.err);
    }
    std::fs::remove_file(place.path("base.nunatak")).unwrap();
    for command in ["predict delta.nunatak data/val/red/0.png", "convert delta.nunatak x.pth"] {
        let run = place.run(command);
        assert!(run.code != Some(0) && run.err.contains(&due) && run.err.contains("--base"), "{command}: {}", run.err);
    }
    assert!(!place.path("x.pth").exists());
    for (words, code) in [
        ("predict other.nunatak data/val/red/0.png --base other.nunatak", 2),
        ("predict weights.safetensors data/val/red/0.png --in-place", 2),
        ("finetune data --weights weights.safetensors --in-place --out y.nunatak", 2),
        ("finetune data --weights delta.nunatak --base other.nunatak --out y.nunatak", 2),
        ("finetune data --weights other.nunatak --in-place --delta --out y.safetensors", 2),
        ("finetune data --weights other.nunatak --delta --out y.nunatak", 2),
        ("finetune data --in-place --out y.nunatak", 2),
    ] {
        let run = place.run(words);
        assert_eq!(run.code, Some(code), "{words}: {}", run.err);
    }
    assert!(!place.path("y.nunatak").exists());
}

/// `step` in place writes what `step` writes.
#[test]
fn a_step_in_place_writes_the_same() {
    let place = place();
    let data: Vec<f32> = (0..4 * 3 * 32 * 32).map(|i| (i as f32 * 0.37).sin()).collect();
    let labels: Vec<f32> = (0..40).map(|i| (i as f32 * 0.11).cos()).collect();
    let tensor = |name, shape, data| nunatak_nn::files::TensorOut { name, shape, data: nunatak_nn::files::Data::F32(data) };
    let tensors = [tensor("input", &[4, 3, 32, 32], &data), tensor("labels", &[4, 10], &labels)];
    nunatak_nn::files::write_safetensors(&place.path("batch.safetensors"), &tensors, &Default::default()).unwrap();
    let words = "step --arch resnet8 --input batch.safetensors --trainable fc,layer3 --steps 3 --momentum 0.9 --threads 1";
    for update in ["after", "during"] {
        place.ok(&format!("{words} --update {update} --weights weights.safetensors --out a.safetensors"));
        place.ok(&format!("{words} --update {update} --weights base.nunatak --in-place --out b.safetensors"));
        assert!(place.bytes("a.safetensors") == place.bytes("b.safetensors"), "{update}");
    }
}
