//! A run that was stopped goes on as if it had not been.

mod running;

use nunatak_nn::checkpoint::Checkpoint;
use running::{Place, Run};
use std::time::{Duration, Instant};

const RECIPE: &str = "--trainable layer3,fc --epochs 3 --augment --schedule cosine:1 --seed 5";

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let place = Place::new();
    place.ok(&place.tune("whole.safetensors", RECIPE));
    // In the first epoch, at an epoch's end before validation, in the second, between.
    for stop in [1, 4, 6, 11] {
        let out = format!("part{stop}.safetensors");
        let run = place.ok(&place.tune(&out, &format!("{RECIPE} --stop-after {stop}")));
        assert!(run.err.contains("go on with --resume"), "{}", run.err);
        // Options need not be said again.
        place.ok(&format!("finetune data --resume --out {out} --threads 2"));
        assert!(place.bytes(&out) == place.bytes("whole.safetensors"), "stopped after {stop}");
        assert!(place.bytes(&format!("{out}.last")) == place.bytes("whole.safetensors.last"), "stopped after {stop}");
    }
    // Step by step, each in a process of its own.
    place.ok(&place.tune("steps.safetensors", &format!("{RECIPE} --stop-after 1")));
    for _ in 0..11 {
        place.ok("finetune data --resume --out steps.safetensors --threads 1 --stop-after 1");
    }
    let run = place.ok("finetune data --resume --out steps.safetensors --threads 1");
    assert!(run.out.starts_with("steps.safetensors: top-1 "), "{}", run.out);
    assert!(place.bytes("steps.safetensors.last") == place.bytes("whole.safetensors.last"));
}

#[test]
fn what_is_saved_on_the_way_changes_nothing() {
    let place = Place::new();
    place.ok(&place.tune("a.safetensors", "--epochs 2"));
    place.ok(&place.tune("b.safetensors", "--epochs 2 --save-every 1"));
    assert!(place.bytes("a.safetensors.last") == place.bytes("b.safetensors.last"));
}

#[test]
fn more_epochs_may_be_asked_for_and_other_options_not() {
    let place = Place::new();
    place.ok(&place.tune("whole.safetensors", "--epochs 3"));
    place.ok(&place.tune("part.safetensors", "--epochs 1"));
    let run = place.run("finetune data --resume --out part.safetensors --lr 0.5");
    assert!(run.code == Some(2) && run.err.contains("--lr is 0.5") && run.err.contains("0.01"), "{}", run.err);
    let run = place.run("finetune data --resume --out part.safetensors --seed 7");
    assert!(run.code == Some(2) && run.err.contains("--seed is 7"), "{}", run.err);
    let done = place.ok("finetune data --resume --out part.safetensors --threads 1");
    assert!(done.err.contains("nothing to do"), "{}", done.err);
    place.ok("finetune data --resume --out part.safetensors --threads 1 --epochs 3");
    assert!(place.bytes("part.safetensors.last") == place.bytes("whole.safetensors.last"));

    running::draw(&place.path("data/train/red/new.png"), [180, 30, 20], 77);
    let run = place.run("finetune data --resume --out part.safetensors --epochs 4");
    assert!(run.code == Some(1) && run.err.contains("28 + 9 images"), "{}", run.err);
}

#[test]
fn what_is_no_state_of_a_run_is_refused() {
    let place = Place::new();
    let run = place.run("finetune data --resume --out nothing.safetensors");
    assert!(run.code == Some(1) && run.err.contains("there is no run to resume"), "{}", run.err);
    place.ok(&place.tune("m.safetensors", "--epochs 1"));
    std::fs::copy(place.path("m.safetensors"), place.path("m.safetensors.last")).unwrap();
    let run = place.run("finetune data --resume --out m.safetensors");
    assert!(run.code == Some(1) && run.err.contains("not the state of a run"), "{}", run.err);
    std::fs::write(place.path("m.safetensors.last"), b"PK\x03\x04").unwrap();
    let run = place.run("finetune data --resume --out m.safetensors");
    assert!(run.code == Some(1) && run.err.contains("m.safetensors.last: "), "{}", run.err);
}

/// Starts a long run and sends it a signal once it trains.
#[cfg(unix)]
fn interrupted(place: &Place, out: &str, twice: bool) -> Run {
    use std::process::{Command, Stdio};
    let words = place.tune(out, "--epochs 100000 --log log.jsonl");
    let child = place.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while !std::fs::read_to_string(place.path("log.jsonl")).is_ok_and(|log| log.contains("\"step\"")) {
        assert!(began.elapsed() < Duration::from_secs(60), "it never trained");
        std::thread::sleep(Duration::from_millis(10));
    }
    let id = child.id().to_string();
    for _ in 0..if twice { 2 } else { 1 } {
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        if twice {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Run::of(child.wait_with_output().unwrap())
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_exits_with_130() {
    let place = Place::new();
    let run = interrupted(&place, "m.safetensors", false);
    assert_eq!(run.code, Some(130), "{}", run.err);
    assert!(run.err.contains("saved m.safetensors.last; go on with --resume"), "{}", run.err);
    let bytes = place.bytes("m.safetensors.last");
    let file = Checkpoint::parse(&bytes).unwrap();
    assert!(file.get("momentum.fc.weight").is_some() && file.metadata().contains_key("nunatak.training"));
    let json: serde_json::Value = serde_json::from_str(&file.metadata()["nunatak.training"]).unwrap();
    let epoch = json["epoch"].as_u64().unwrap();
    let run = place.ok(&format!("finetune data --resume --out m.safetensors --threads 1 --epochs {}", epoch + 1));
    assert!(run.err.contains(&format!("epoch {0}/{0}", epoch + 1)), "{}", run.err);
}

#[cfg(unix)]
#[test]
fn ctrl_c_twice_ends_at_once_and_files_stay_whole() {
    let place = Place::new();
    place.ok(&place.tune("m.safetensors", "--epochs 1"));
    std::fs::remove_file(place.path("log.jsonl")).ok();
    let run = interrupted(&place, "m.safetensors", true);
    assert_eq!(run.code, Some(130), "{}", run.err);
    assert!(Checkpoint::parse(&place.bytes("m.safetensors.last")).is_ok());
    assert!(Checkpoint::parse(&place.bytes("m.safetensors")).is_ok());
}
