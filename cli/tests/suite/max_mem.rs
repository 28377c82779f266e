//! `--max-mem`: a step that is planned to fit has the same bits, and what can't fit is told with numbers that can.

use crate::running::{Place, Run};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn fails(place: &Place, code: i32, words: &str) -> Run {
    let run = place.run(words);
    assert_eq!(run.code, Some(code), "{words}: {} {}", run.out, run.err);
    run
}

const STEP: &str = "--arch resnet8 --batch 8 --size 32 --threads 1 --json";

#[test]
fn less_memory_gives_the_same_bits() {
    let place = Place::new();
    let plain = json(&place.ok(&format!("measure {STEP} --repeat 2")).out);
    let most = plain["plan_bytes"].as_u64().expect("bytes");
    let mut before = 1.0;
    for part in [95, 85, 75, 70] {
        let bound = most * part / 100;
        let run = place.ok(&format!("measure {STEP} --repeat 2 --max-mem {bound}"));
        let less = json(&run.out);
        assert!(less["plan_bytes"].as_u64().expect("bytes") <= bound, "{less}");
        assert_eq!(less["checksum"], plain["checksum"]);
        let (again, times) = (less["computed_again"].as_u64().expect("a count"), less["expected_times"].as_f64().expect("a number"));
        assert!(again > 0 && times >= before && times < 1.5, "{less}");
        assert!(run.err.contains(&format!("{again} results are computed again")), "{}", run.err);
        before = times;
    }
    let planned = place.ok(&format!("plan {STEP} --max-mem {}", most * 3 / 4)).out;
    assert!(planned.contains("forward_again"), "{planned}");
    assert_eq!(json(&place.ok(&format!("measure {STEP} --repeat 2 --max-mem 1G")).out)["computed_again"], 0);
}

#[test]
fn micro_batches_are_as_large_as_fits() {
    let place = Place::new();
    let plain = json(&place.ok(&format!("plan {STEP}")).out)["peak_bytes"].as_u64().expect("bytes");
    let run = place.ok(&format!("measure {STEP} --repeat 2 --max-mem {} --micro-batch auto --accumulate momentum", plain * 6 / 10));
    let (parts, bytes) = (json(&run.out)["micro_batches"].as_u64(), json(&run.out)["plan_bytes"].as_u64());
    assert!(parts.is_some_and(|parts| [2, 4, 8].contains(&parts)) && bytes <= Some(plain * 6 / 10), "{}", run.out);
    assert!(run.err.contains("--micro-batch auto"), "{}", run.err);
}

#[test]
fn what_can_not_fit_is_told() {
    let place = Place::new();
    let run = fails(&place, 1, &format!("plan {STEP} --max-mem 100K"));
    for what in ["--max-mem 102400", "--memory fast", "--allow-other-bits", "--micro-batch 1"] {
        assert!(run.err.contains(what), "{}", run.err);
    }
    // The numbers that are named do fit.
    let least: u64 = run.err.lines().nth(1).and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("a number");
    place.ok(&format!("plan {STEP} --max-mem {least}"));
    for (more, what) in [
        ("--max-mem 1.5M", "200K"),
        ("--max-mem 0", "above 0"),
        ("--allow-other-bits", "--max-mem"),
        ("--micro-batch auto", "--max-mem"),
        ("--micro-batch 3", "no multiple"),
        ("--accumulate momentum", "--micro-batch"),
    ] {
        let run = fails(&place, 2, &format!("plan {STEP} {more}"));
        assert!(run.err.contains(what), "{more}: {}", run.err);
    }
}

/// A fine-tuning within fewer bytes gives the same model; with `auto` it has micro-batches.
#[test]
fn fine_tuning_fits() {
    let place = Place::new();
    let train = "--epochs 1 --trainable all --bn-statistics batch";
    place.ok(&place.tune("plain.safetensors", train));
    let refused = fails(&place, 1, &place.tune("no.safetensors", &format!("{train} --max-mem 10K")));
    let least: u64 = refused.err.lines().find_map(|line| line.split_whitespace().next()?.parse().ok()).expect("a number");
    let run = place.ok(&place.tune("less.safetensors", &format!("{train} --max-mem {}", least + (64 << 10))));
    assert!(run.err.contains("computed again"), "{}", run.err);
    assert!(place.bytes("plain.safetensors") == place.bytes("less.safetensors"));
    let run = place
        .ok(&place.tune("auto.safetensors", &format!("{train} --max-mem {} --micro-batch auto --accumulate momentum", least - (64 << 10))));
    assert!(run.err.contains("images are computed at a time"), "{}", run.err);
}

/// Programs for a board fit too.
#[test]
fn exports_fit() {
    let place = Place::new();
    let export = "export --arch resnet8 --classes 10 --trainable all --batch 8 --size 32 --target m7 --region ram=64M";
    place.ok(&format!("{export} --out plain"));
    place.ok(&format!("{export} --max-mem 5M --out less"));
    let ram = |folder: &str| {
        let header = String::from_utf8(place.bytes(&format!("{folder}/resnet8.h"))).unwrap();
        let line = header.lines().find_map(|line| line.strip_prefix("#define RESNET8_RAM_BYTES ")).expect("a line");
        line.trim().parse::<usize>().expect("a number")
    };
    assert!(ram("less") < 5 << 20 && ram("plain") > 5 << 20, "{} {}", ram("less"), ram("plain"));
    let run = fails(&place, 1, &format!("{export} --max-mem 100K --out no"));
    assert!(run.err.contains("predict takes") && run.err.contains("bytes at least"), "{}", run.err);
}
