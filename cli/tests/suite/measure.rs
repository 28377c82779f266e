//! `nunatak measure`, `plan` and `profile`, run as a program: what they say hangs together.

use crate::program::nunatak;
use nunatak_nn::{Algorithm, Pass};
use serde_json::Value;

/// A small network, so that steps are short.
const STEP: [&str; 7] = ["--arch", "resnet8", "--batch", "2", "--size", "32", "--threads=2"];

fn json(command: &str, more: &[&str]) -> Value {
    let ended = nunatak([&[command, "--json"], &STEP[..], more].concat());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("one JSON object")
}

fn rows<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("a list {name}"))
}

/// Name, pass and algorithm of every kernel call.
fn named(value: &Value) -> Vec<[&str; 3]> {
    rows(value, "calls").iter().map(|row| ["name", "pass", "algorithm"].map(|key| row[key].as_str().expect("text"))).collect()
}

#[test]
fn a_profile_has_the_calls_of_the_plan() {
    for mode in ["train", "head", "infer"] {
        let more = ["--mode", mode];
        let (plan, profile) = (json("plan", &more), json("profile", &[&more[..], &["--repeat", "3"]].concat()));
        let is_kernel = |row: &&[&str; 3]| row[1] != "update" && row[1] != "input";
        let (planned, profiled) = (named(&plan), named(&profile));
        let planned: Vec<_> = planned.iter().filter(is_kernel).collect();
        let profiled: Vec<_> = profiled.iter().filter(is_kernel).collect();
        assert_eq!(planned, profiled, "{mode}");

        // The parts add up to the whole, and every sum to its parts.
        let number = |row: &Value, key: &str| row[key].as_f64().expect("a number");
        let total = |list: &str| rows(&profile, list).iter().map(|row| number(row, "ms")).sum::<f64>();
        assert!((total("calls") - total("sums")).abs() < 1e-6);
        assert!(number(&profile, "peak_gflops") > 0.0 && number(&profile, "peak_gbytes_per_s") > 0.0);
        for row in rows(&profile, "calls") {
            let (gflops, share) = (number(row, "gflops"), number(row, "share_of_peak"));
            assert!((share - gflops / number(&profile, "peak_gflops")).abs() < 1e-9);
            assert!(row["bytes"].as_u64().expect("bytes") > 0, "{row}");
        }
        // The 3x3 convolution of 16 channels over 2 images of 32 x 32.
        let conv = rows(&profile, "calls").iter().find(|row| row["name"] == "layer1.0.conv1" && row["pass"] == "forward");
        assert_eq!(conv.expect("a convolution")["flops"], 2 * 2 * 32 * 32 * 16 * 16 * 9);
    }
}

#[test]
fn a_profile_without_json_is_a_table() {
    let ended = nunatak([&["profile", "--repeat", "2"], &STEP[..]].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert!(ended.line("layer1.0.conv1")[1..3].contains(&"forward"));
    for what in ["sums by kind", "conv2d+moments backward_weight", "sgd update", "between the calls", "measured peak"] {
        ended.line(what);
    }
}

#[test]
fn every_algorithm_can_be_forced_and_refusals_are_told() {
    for algorithm in Algorithm::ALL {
        for pass in Pass::ALL {
            let asked = format!("{pass}={algorithm}");
            let ended = nunatak([&["plan", "--json", "--algorithm", &asked], &STEP[..]].concat());
            assert_eq!(ended.code, 0, "{}", ended.stderr);
            let plan: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
            let others: Vec<_> = named(&plan)
                .into_iter()
                .filter(|[name, of, by]| {
                    (name.contains("conv") || name.ends_with("downsample.0")) && *of == pass.name() && *by != algorithm.name()
                })
                .map(|[name, ..]| name.to_string())
                .collect();
            for name in &others {
                assert!(ended.stderr.contains(&format!("{algorithm} does not do {pass} of")), "{asked}: {}", ended.stderr);
                assert!(ended.stderr.contains(name.as_str()), "{asked}: {name} is not in {}", ended.stderr);
            }
            assert_eq!(others.is_empty(), ended.stderr.is_empty(), "{asked}: {}", ended.stderr);
            // Measured and profiled too.
            let command = if pass == Pass::BackwardInput { "profile" } else { "measure" };
            let ended = nunatak([&[command, "--json", "--repeat", "1", "--algorithm", &asked], &STEP[..]].concat());
            assert_eq!((ended.code, ended.stderr.is_empty()), (0, others.is_empty()), "{command} {asked}: {}", ended.stderr);
        }
    }
    let ended = nunatak([&["profile", "--algorithm", "fastest"], &STEP[..]].concat());
    assert_eq!(ended.code, 2);
    for algorithm in Algorithm::ALL {
        assert!(ended.stderr.contains(algorithm.name()), "{}", ended.stderr);
    }
}

/// Whether the choice is right depends on the machine; that every algorithm was timed does not.
#[test]
fn assert_times_every_algorithm_that_the_choice_could_fall_on() {
    let ended = nunatak(["measure", "--assert", "--json", "--arch", "resnet8", "--cells", "1x16", "--threads=1", "--tries", "0"]);
    assert!(ended.code == 0 || ended.stderr.contains("are not the best"), "{}", ended.stderr);
    let value: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    let choices = rows(&value, "choices");
    // conv1 needs no gradient of the images; each other shape has all three passes.
    assert!(choices.iter().any(|c| c["name"] == "conv1" && c["pass"] == "forward"));
    assert!(choices.iter().all(|c| c["name"] != "conv1" || c["pass"] != "backward_input"));
    for choice in choices {
        let times = choice["ms"].as_object().expect("times");
        assert!(times.contains_key("gemm") && times.contains_key(choice["chosen"].as_str().expect("text")), "{choice}");
        assert!(!times.contains_key("im2col"));
        assert!(choice["ratio"].as_f64().is_some_and(|r| r >= 1.0), "{choice}");
    }
    for bad in [&["--cells", "8"][..], &["--cells", "0x8"], &["--algorithm", "gemm"], &["--memory", "small"]] {
        assert_eq!(nunatak([&["measure", "--assert"], bad].concat()).code, 2, "{bad:?}");
    }
    assert_eq!(nunatak(["measure", "--cells", "1x64"]).code, 2);
}
