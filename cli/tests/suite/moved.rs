//! What changes under a run that is under way: its folders, the clock, what another run does.
#![cfg(unix)]

use crate::faults::compiled;
use crate::running::{Place, Run};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Starts a long run, does something once it trains, and waits for its end, or interrupts it where it would go on for ever.
fn meanwhile(place: &Place, words: &str, log: &str, then: impl FnOnce()) -> Run {
    let mut child = place.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while !std::fs::read_to_string(place.path(log)).is_ok_and(|log| log.contains("\"step\"")) {
        assert!(began.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(), "it never trained");
        std::thread::sleep(Duration::from_millis(5));
    }
    then();
    let id = child.id().to_string();
    let (ended, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output().unwrap()));
    Run::of(wait.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| {
        std::process::Command::new("kill").args(["-KILL", &id]).status().unwrap();
        panic!("it did not end");
    }))
}

/// The folder of the model goes away: an error at the next save that names the file, and nothing is left of it.
#[test]
fn the_folder_of_the_model() {
    let place = Place::new();
    std::fs::create_dir(place.path("out")).unwrap();
    let words = place.tune("out/m.safetensors", "--epochs 100000 --log log.jsonl");
    let run = meanwhile(&place, &words, "log.jsonl", || std::fs::remove_dir_all(place.path("out")).unwrap());
    assert!(run.code == Some(1) && run.err.contains("error: ") && run.err.contains("out/m.safetensors"), "{:?} {}", run.code, run.err);
    assert!(run.err.contains("No such file or directory"), "{}", run.err);
    assert!(!place.path("out").exists());
}

/// The images go away: they are named, and a run without any ends with an error; what was saved stays.
#[test]
fn the_folder_of_the_images() {
    let place = Place::new();
    let words = place.tune("m.safetensors", "--epochs 100000 --features never --log log.jsonl");
    let run = meanwhile(&place, &words, "log.jsonl", || std::fs::remove_dir_all(place.path("data")).unwrap());
    assert!(run.code == Some(1) && run.err.contains("data: none of the images"), "{:?} {}", run.code, run.err);
    assert!(!place.path("m.safetensors.lock").exists());
}

/// A clock that is set back, as at the end of a summer or by a server of time, and one for durations that goes back.
#[test]
fn the_clock() {
    if cfg!(not(target_os = "linux")) {
        return eprintln!("SKIPPED: a clock that jumps: for Linux alone");
    }
    let Some(library) = compiled("clock.c", &["-shared", "-fPIC"]) else { return };
    let place = Place::new();
    place.ok(&place.tune("plain.safetensors", "--epochs 2 --augment"));
    for clock in ["realtime", "monotonic"] {
        let out = format!("{clock}.safetensors");
        let run = |words: &str| {
            let mut command = place.command(words);
            Run::of(command.env("LD_PRELOAD", &library).env("NUNATAK_CLOCK", clock).output().unwrap())
        };
        let done = run(&place.tune(&out, &format!("--epochs 2 --augment --log {clock}.jsonl")));
        assert_eq!(done.code, Some(0), "{clock}: {}", done.err);
        for end in ["", ".last"] {
            assert!(place.bytes(&format!("{out}{end}")) == place.bytes(&format!("plain.safetensors{end}")), "{clock}: {out}{end}");
        }
        let log = String::from_utf8(place.bytes(&format!("{clock}.jsonl"))).unwrap();
        let times: Vec<String> =
            log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["time"].to_string()).collect();
        assert!(times.len() > 8 && times.windows(2).any(|pair| pair[0] > pair[1]), "the clock did not jump: {times:?}");
        for words in [
            "measure --arch resnet8 --batch 1 --size 16 --repeat 2",
            "profile --arch resnet8 --batch 1 --size 16 --repeat 2",
            "evaluate realtime.safetensors data/val --report e.html",
        ] {
            let done = run(words);
            assert_eq!(done.code, Some(0), "{clock}: {words}: {}", done.err);
        }
        let stopped = run(&place.tune(&format!("s-{out}"), "--epochs 100000 --max-minutes 1000 --stop-after 3"));
        assert_eq!(stopped.code, Some(0), "{clock}: {}", stopped.err);
    }
}
