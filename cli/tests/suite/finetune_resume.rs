//! A run that was stopped goes on as if it had not been.

use crate::running::{Place, Run, with_default_signals};
use nunatak_nn::files::Checkpoint;
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

    crate::running::draw(&place.path("data/train/red/new.png"), [180, 30, 20], 77);
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

/// Starts a long run and sends it signals once it trains.
#[cfg(unix)]
fn interrupted(place: &Place, out: &str, signals: &[&str]) -> Run {
    use std::process::{Command, Stdio};
    std::fs::remove_file(place.path("log.jsonl")).ok();
    let words = place.tune(out, "--epochs 100000 --log log.jsonl --overwrite");
    let child = with_default_signals(place.command(&words)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while !std::fs::read_to_string(place.path("log.jsonl")).is_ok_and(|log| log.contains("\"step\"")) {
        assert!(began.elapsed() < Duration::from_secs(60), "it never trained");
        std::thread::sleep(Duration::from_millis(10));
    }
    let id = child.id().to_string();
    for signal in signals {
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
        std::thread::sleep(Duration::from_millis(1));
    }
    let (ended, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output().unwrap()));
    let output = wait.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|_| {
        Command::new("kill").args(["-KILL", &id]).status().unwrap();
        panic!("{signals:?} did not end it");
    });
    Run::of(output)
}

/// What a terminal, a shell, a container, a service manager and a batch system end programs with.
#[cfg(unix)]
#[test]
fn signals_save_and_exit_with_128_and_their_number() {
    let place = Place::new();
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1), ("QUIT", 3), ("USR1", 10), ("USR2", 12), ("XCPU", 24), ("ALRM", 14)] {
        if cfg!(not(target_os = "linux")) && number > 3 && number != 15 {
            continue; // other numbers
        }
        let run = interrupted(&place, "m.safetensors", &[signal]);
        assert_eq!(run.code, Some(128 + number), "{signal}: {}", run.err);
        let words = format!("interrupted by SIG{signal} in epoch ");
        assert!(run.err.contains(&words) && run.err.contains("saved m.safetensors.last; go on with --resume"), "{}", run.err);
        assert!(!place.path("m.safetensors.lock").exists());
        let bytes = place.bytes("m.safetensors.last");
        let file = Checkpoint::parse(&bytes).unwrap();
        assert!(file.get("momentum.fc.weight").is_some() && file.metadata().contains_key("nunatak.training"));
        let json: serde_json::Value = serde_json::from_str(&file.metadata()["nunatak.training"]).unwrap();
        let epoch = json["epoch"].as_u64().unwrap();
        let run = place.ok(&format!("finetune data --resume --out m.safetensors --threads 1 --epochs {}", epoch + 1));
        assert!(run.err.contains(&format!("epoch {0}/{0}", epoch + 1)), "{}", run.err);
    }
}

/// A manager that sends two signals, as systemd does with SIGTERM and SIGHUP, cuts no save short; two Ctrl-C may, and
/// files stay whole.
#[cfg(unix)]
#[test]
fn a_second_signal_ends_at_once_if_a_person_sends_it() {
    let place = Place::new();
    let run = interrupted(&place, "m.safetensors", &["TERM", "HUP", "TERM"]);
    // Of signals that wait together the system hands over either first.
    assert!(
        [Some(128 + 15), Some(128 + 1)].contains(&run.code) && run.err.contains("saved m.safetensors.last"),
        "{:?} {}",
        run.code,
        run.err
    );
    place.ok(&place.tune("m.safetensors", "--epochs 1 --overwrite"));
    let run = interrupted(&place, "m.safetensors", &["INT", "INT"]);
    assert_eq!(run.code, Some(130), "{}", run.err);
    for name in ["m.safetensors", "m.safetensors.last"].into_iter().filter(|name| place.path(name).exists()) {
        assert!(Checkpoint::parse(&place.bytes(name)).is_ok());
    }
    place.ok(&place.tune("m.safetensors", "--epochs 1 --overwrite"));
}

/// What `nohup` asks to be ignored is ignored.
#[cfg(target_os = "linux")]
#[test]
fn ignored_signals_stay_ignored() {
    use std::process::{Command, Stdio};
    let place = Place::new();
    let words = place.tune("m.safetensors", "--epochs 300 --log log.jsonl");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("trap '' HUP; exec {} {words}", env!("CARGO_BIN_EXE_nunatak"))]).current_dir(place.dir.path());
    let child = shell.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !std::fs::read_to_string(place.path("log.jsonl")).is_ok_and(|log| log.contains("\"step\"")) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let kill = |signal: &str| assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    kill("-HUP");
    std::thread::sleep(Duration::from_millis(100));
    kill("-TERM");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(128 + 15));
}

/// Dropout goes on with the numbers that it would have drawn.
#[test]
fn a_network_with_dropout_is_resumed() {
    let place = Place::new();
    let words = "finetune data --arch mobilenet_v3_small --size 32 --resize 32 --batch 8 --threads 1 --epochs 1 --lr 0.001";
    place.ok(&format!("{words} --out whole.safetensors"));
    place.ok(&format!("{words} --out part.safetensors --stop-after 2"));
    place.ok("finetune data --resume --out part.safetensors --threads 1");
    assert!(place.bytes("part.safetensors.last") == place.bytes("whole.safetensors.last"));
}

/// All of an epoch may have been done before a run goes on: then there is no speed to tell.
#[test]
fn an_epoch_that_was_done_has_no_speed() {
    let place = Place::new();
    place.ok(&place.tune("m.safetensors", "--epochs 1 --stop-after 4"));
    let run = place.ok("finetune data --resume --out m.safetensors --threads 1 --log log.jsonl");
    assert!(run.err.contains("epoch 1/1  loss ") && !run.err.contains("images/s"), "{}", run.err);
    let log = String::from_utf8(place.bytes("log.jsonl")).unwrap();
    assert!(log.contains("\"images_per_second\":null"), "{log}");
}

/// The average goes on too, and it is what is validated and saved.
#[test]
fn a_run_with_an_average_is_resumed() {
    let place = Place::new();
    let words = |out: &str, more: &str| place.tune(out, &format!("--trainable layer3,fc --epochs 3 --ema 0.9 {more}"));
    place.ok(&words("whole.safetensors", ""));
    for stop in [1, 4, 6] {
        place.ok(&words("part.safetensors", &format!("--overwrite --stop-after {stop}")));
        place.ok("finetune data --resume --out part.safetensors --threads 1");
        for end in ["", ".last"] {
            assert!(place.bytes(&format!("part.safetensors{end}")) == place.bytes(&format!("whole.safetensors{end}")), "{stop}{end}");
        }
    }
    place.ok(&words("plain.safetensors", "").replace("--ema 0.9", ""));
    assert!(place.bytes("plain.safetensors") != place.bytes("whole.safetensors"));
    // The weights that training goes on with are the same: the average only watches.
    let numbers = |name: &str, entry: &str| {
        let (bytes, mut numbers) = (place.bytes(name), Vec::new());
        Checkpoint::parse(&bytes).unwrap().get(entry).unwrap().read_f32(&mut numbers).unwrap();
        numbers
    };
    assert_eq!(numbers("plain.safetensors.last", "fc.weight"), numbers("whole.safetensors.last", "fc.weight"));
    assert_ne!(numbers("whole.safetensors.last", "ema.fc.weight"), numbers("whole.safetensors.last", "fc.weight"));
    for bad in ["0", "1", "-1", "nan"] {
        let run = place.run(&words("n.safetensors", "").replace("--ema 0.9", &format!("--ema {bad}")));
        assert!(run.code == Some(2) && run.err.contains("--ema"), "{bad}: {}", run.err);
    }
}
