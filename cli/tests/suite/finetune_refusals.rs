//! Bad input to `finetune`, `evaluate` and `predict`: where, why, which exit code, nothing lost.

use crate::running::{Place, draw};

#[test]
fn numbers_that_make_no_sense_are_usage_errors() {
    let place = Place::new();
    for (words, named) in [
        ("--lr nan", "--lr NaN: must be a finite number of 0 or more"),
        ("--lr -1", "--lr -1: must be a finite number of 0 or more"),
        ("--lr 1e99", "--lr inf: must be"),
        ("--momentum -0.1", "--momentum -0.1: must be"),
        ("--momentum inf", "--momentum inf: must be"),
        ("--weight-decay nan", "--weight-decay NaN: must be"),
        ("--dampening nan", "--dampening NaN: must be"),
        ("--nesterov --momentum 0", "--nesterov needs"),
        ("--stem 3", "--stem 3"),
        ("--arch resnet51", "--arch resnet51"),
        ("--keep-head --new-head", "--new-head"),
        ("--batch 0", "--batch"),
        ("--epochs 0", "--epochs"),
        ("--size 0", "--size"),
        ("--size 2147483648", "--size"),
        ("--resize 0", "--resize"),
        ("--val-fraction 1", "--val-fraction"),
        ("--label-smoothing 2", "--label-smoothing"),
        ("--clip-grad-norm 0", "--clip-grad-norm"),
        ("--clip-grad-norm 1 --update during", "--update"),
        ("--micro-batch 2 --update during", "--micro-batch"),
        ("--micro-batch 0", "--micro-batch"),
        ("--accumulate momentum", "--micro-batch"),
        ("--micro-batch 2 --accumulate momentum --clip-grad-norm 1", "--clip-grad-norm"),
        ("--micro-batch 2 --accumulate momentum --nesterov", "--nesterov"),
        ("--micro-batch 2 --accumulate momentum --momentum 0", "--momentum"),
        ("--schedule linear", "--schedule"),
        ("--schedule step:0:0.1", "--schedule"),
        ("--threads 0", "--threads"),
        ("--level avx9", "--level"),
        ("--trainable none", "--trainable"),
        ("--bn-statistics some", "--bn-statistics"),
        ("--out model.bin", "--out"),
    ] {
        // Nothing is read before: the folder and the weights are not even there.
        let run = place.run(&format!("finetune nowhere --weights nothing {words}"));
        assert_eq!(run.code, Some(2), "{words}: {}", run.err);
        assert!(run.err.contains(named), "{words}: {}", run.err);
    }
    let run = place.run("finetune data");
    assert!(run.code == Some(2) && run.err.contains("--weights") && run.err.contains("--arch"), "{}", run.err);
    let run = place.run("finetune nowhere --weights nothing --lr -1");
    assert!(!run.err.contains("--momentum"), "what is right is not blamed: {}", run.err);
    let run = place.run(&place.tune("m.safetensors", "--trainable layer9"));
    assert!(run.code == Some(2) && run.err.contains("layer9") && run.err.contains("layer3"), "{}", run.err);
}

#[test]
fn what_can_not_be_written_is_found_before_training() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder.safetensors")).unwrap();
    let mut bad = vec!["missing/m.safetensors", "folder.safetensors"];
    if cfg!(target_os = "linux") {
        bad.push("/proc/m.safetensors"); // read-only, for root too
    }
    for out in bad {
        let run = place.run(&place.tune(out, ""));
        assert!(run.code == Some(1) && run.err.contains(out) && run.err.contains("nothing was started"), "{out}: {}", run.err);
    }
    let run = place.run(&place.tune("m.safetensors", "--log missing/log"));
    assert!(run.code == Some(1) && run.err.contains("missing/log"), "{}", run.err);
}

#[test]
fn files_that_are_no_models_are_named() {
    let place = Place::new();
    std::fs::write(place.path("page.pth"), "<!DOCTYPE html><html></html>").unwrap();
    std::fs::write(place.path("empty.pth"), "").unwrap();
    place.weights("nan.safetensors", 10, Some(f32::NAN));
    for (weights, why) in
        [("nothing.pth", "can't be read"), ("page.pth", ""), ("empty.pth", ""), ("data", "not a file"), ("nan.safetensors", "bn1.weight")]
    {
        let run = place.run(&place.tune("m.safetensors", "").replace("weights.safetensors", weights));
        assert_eq!(run.code, Some(1), "{weights}");
        assert!(run.err.contains(weights) && run.err.contains(why), "{weights}: {}", run.err);
        assert!(!place.path("m.safetensors").exists());
        let run = place.run(&format!("predict {weights} data/val/red/0.png"));
        assert!(run.code == Some(1) && run.err.contains(weights), "{weights}: {}", run.err);
    }
}

#[test]
fn answers_that_are_no_numbers_are_not_given() {
    let place = Place::new();
    place.weights("large.safetensors", 3, Some(3e38));
    for command in ["predict large.safetensors data/val/red/0.png", "evaluate large.safetensors data/val"] {
        let run = place.run(command);
        assert!(run.code == Some(1) && run.out.is_empty(), "{command}: {:?} {}", run.code, run.out);
        assert!(run.err.contains(".png: large.safetensors gives ") && run.err.contains("too large"), "{}", run.err);
    }
}

#[test]
fn a_broken_image_is_named_and_skipped() {
    let place = Place::new();
    std::fs::write(place.path("data/train/red/broken.png"), b"\x89PNG\r\n\x1a\nno").unwrap();
    std::fs::write(place.path("data/val/blue/empty.jpg"), b"").unwrap();
    let run = place.ok(&place.tune("m.safetensors", "--epochs 3 --trainable all"));
    for name in ["broken.png", "empty.jpg"] {
        assert_eq!(run.err.lines().filter(|l| l.starts_with("skipped ") && l.contains(name)).count(), 1, "{}", run.err);
    }
    assert!(run.out.contains("of 9) after"), "{}", run.out);
    let run = place.ok("evaluate m.safetensors data/val");
    assert!(run.out.contains("of 9)") && run.err.contains("empty.jpg"), "{} {}", run.out, run.err);
    let run = place.run("predict m.safetensors data/val/blue/empty.jpg data/val/red/0.png nothing.png");
    assert!(run.code == Some(1) && run.err.contains("2 of 3 images") && run.out.contains("red"), "{} {}", run.out, run.err);
}

#[test]
fn folders_that_do_not_do_are_explained() {
    let place = Place::new();
    draw(&place.path("single/only/a.png"), [1, 2, 3], 1);
    draw(&place.path("other/violet/a.png"), [1, 2, 3], 1);
    draw(&place.path("other/blue/a.png"), [1, 2, 3], 1);
    std::fs::create_dir(place.path("none")).unwrap();
    for (dir, why) in [("single", "one class only"), ("none", "no class folder"), ("missing", "listed")] {
        let run = place.run(&place.tune("m.safetensors", "").replace("data", dir));
        assert!(run.code == Some(1) && run.err.contains(why), "{dir}: {}", run.err);
    }
    place.ok(&place.tune("m.safetensors", "--epochs 1"));
    let run = place.run("evaluate m.safetensors other");
    assert!(run.code == Some(1) && run.err.contains("no class \"violet\""), "{}", run.err);
    // Ten outputs without names, three classes.
    let run = place.run("evaluate weights.safetensors data/val");
    assert!(run.code == Some(1) && run.err.contains("has 3 classes") && run.err.contains("10 apart"), "{}", run.err);
    // Some of a model's classes are enough.
    std::fs::remove_dir_all(place.path("other/violet")).unwrap();
    assert!(place.ok("evaluate m.safetensors other").out.contains("of 1)"));
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_names_the_step() {
    let place = Place::new();
    let run = place.run(&place.tune("m.safetensors", "--trainable all --epochs 9 --lr 1e30"));
    assert!(run.code == Some(1) && run.err.contains("epoch 1, step ") && run.err.contains(" of 4: the loss is"), "{}", run.err);
    assert!(run.err.contains("diverged") && run.err.contains("nothing was saved") && run.err.contains("--lr"), "{}", run.err);
    assert!(!place.path("m.safetensors").exists());
}

/// Weights that gave no finite loss, or no sensible one, are never saved, whoever asks for the save.
#[test]
fn a_diverged_state_is_not_kept() {
    let place = Place::new();
    for (more, trainable) in [
        ("--save-every 1", "all"),
        ("--save-every 1", "fc"),
        ("--stop-after 1", "all"),
        ("--stop-after 1", "fc"),
        ("--epochs 1 --batch 64", "fc"),
        ("--epochs 1 --batch 64", "all"),
    ] {
        for lr in ["1e30", "1e38"] {
            let words = place.tune("m.safetensors", &format!("--trainable {trainable} --lr {lr} {more}"));
            let words = if more.contains("--batch") { words.replace("--batch 8 ", "") } else { words };
            let run = place.run(&words);
            assert!(run.code == Some(1) && run.err.contains("diverged"), "{more} {lr}: {}", run.err);
            assert!(run.err.lines().all(|line| line.len() < 400), "{}", run.err);
            for name in ["m.safetensors", "m.safetensors.last", "m.safetensors.lock", "m.safetensors.toml"] {
                assert!(!place.path(name).exists(), "{trainable} {lr} {more}: {name}");
            }
        }
    }
    // The last good state stays, and with no images to validate with too.
    place.ok(&place.tune("m.safetensors", "--val-fraction 0 --epochs 1").replace("data", "data/train"));
    let good = [place.bytes("m.safetensors"), place.bytes("m.safetensors.last")];
    let run = place.run(&place.tune("n.safetensors", "--val-fraction 0 --lr 1e38").replace("data", "data/train"));
    assert!(run.code == Some(1) && !place.path("n.safetensors").exists(), "{}", run.err);
    let run = place.run("finetune data/train --resume --out m.safetensors --epochs 3 --threads 1");
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(good[1] != place.bytes("m.safetensors.last"));
}

/// An infinite running variance gives finite losses: the answers are the same for every image.
#[test]
fn statistics_that_are_not_finite_are_told() {
    let place = Place::new();
    place.weights("large.safetensors", 10, Some(1e25));
    let run = place.run(&place.tune("m.safetensors", "--trainable fc --bn-statistics batch --epochs 1").replace("weights.s", "large.s"));
    assert!(run.code == Some(1) && run.err.contains("running_var") && run.err.contains("diverged"), "{:?} {}", run.code, run.err);
    assert!(!place.path("m.safetensors").exists() && !place.path("m.safetensors.last").exists());
}

#[test]
fn a_last_batch_of_one_at_one_pixel_is_refused_before_training() {
    let place = Place::new();
    // 27 images, 13 a batch: the last has 1; 4 x 4 pixels end as 1 x 1.
    let words = place.tune("m.safetensors", "").replace("--size 32 --resize 32 --batch 8", "--size 4 --batch 13");
    let run = place.run(&format!("{words} --trainable all --epochs 1"));
    assert!(run.code == Some(1) && run.err.contains("--batch"), "{}", run.err);
    // Frozen batchnorm does not mind.
    place.ok(&format!("{words} --epochs 1"));
}

#[cfg(unix)]
#[test]
fn a_closed_stdout_loses_nothing() {
    use std::process::Stdio;
    let place = Place::new();
    let mut child = place.command(&place.tune("m.safetensors", "--epochs 1")).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(place.path("m.safetensors").exists() && place.path("m.safetensors.last").exists());
}

/// A name given twice, or that of something else, must not cost a file.
#[test]
fn nothing_is_written_over_the_weights_or_a_foreign_file() {
    let place = Place::new();
    let weights = std::fs::read(place.path("weights.safetensors")).unwrap();
    for words in [
        "weights.safetensors",
        "./weights.safetensors",
        "data/../weights.safetensors",
        "m.safetensors --log weights.safetensors",
        "m.safetensors --log m.safetensors.last",
        "m.safetensors --log m.safetensors.lock",
        "m.pth --log m.pth.classes.json",
        "m.pth --weights m.pth.classes.json",
    ] {
        let (out, rest) = words.split_once(' ').unwrap_or((words, ""));
        let words = place.tune(out, rest);
        let words = if rest.contains("--weights") { words.replace("--weights weights.safetensors ", "") } else { words };
        let run = place.run(&words);
        assert!(run.code == Some(2) && run.err.contains("the same file"), "{words}: {}", run.err);
    }
    std::fs::write(place.path("notes.txt"), "mine").unwrap();
    let run = place.run(&place.tune("m.safetensors", "--log notes.txt"));
    assert!(run.code == Some(1) && run.err.contains("notes.txt"), "{}", run.err);
    assert_eq!(std::fs::read(place.path("notes.txt")).unwrap(), b"mine");
    assert_eq!(std::fs::read(place.path("weights.safetensors")).unwrap(), weights);
}

/// What a run left is replaced where that is asked for only.
#[test]
fn an_earlier_run_is_not_lost() {
    let place = Place::new();
    let words = place.tune("m.pth", "--epochs 1 --log log.jsonl");
    place.ok(&words);
    let names = ["m.pth", "m.pth.last", "m.pth.toml", "m.pth.report.html", "m.pth.classes.json", "log.jsonl"];
    let kept = names.map(|name| place.bytes(name));
    let again = words.replace("--epochs 1", "--epochs 2 --lr 0.5");
    // Each alone is enough.
    for there in names {
        let run = place.run(&again);
        assert!(run.code == Some(1) && run.err.contains("--overwrite") && run.err.contains("nothing was started"), "{there}: {}", run.err);
        assert!(run.err.contains(there) && run.err.contains("--resume") == place.path("m.pth.last").is_file(), "{there}: {}", run.err);
        std::fs::remove_file(place.path(there)).unwrap();
    }
    for (name, bytes) in names.iter().zip(&kept) {
        std::fs::write(place.path(name), bytes).unwrap();
    }
    place.ok(&format!("{again} --overwrite"));
    for (name, bytes) in names.iter().zip(&kept) {
        assert!(name.ends_with("classes.json") || place.bytes(name) != *bytes, "{name}");
    }
    assert!(!place.path("m.pth.lock").exists());
}

/// Two runs on one file: the second is refused, and the first ends as it would have alone.
#[test]
fn one_run_at_a_time_writes_a_file() {
    let place = Place::new();
    let words = place.tune("m.safetensors", "--trainable all --epochs 40");
    let mut first = place.command(&words).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    while !place.path("m.safetensors.lock").exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    for more in ["", "--overwrite"] {
        let run = place.run(&format!("{words} {more}"));
        assert!(run.code == Some(1) && run.err.contains(&format!("process {} is writing it", first.id())), "{}", run.err);
    }
    first.kill().unwrap();
    first.wait().unwrap();
    // What a killed run leaves is no obstacle, and is cleaned away.
    std::fs::write(place.path(".nunatak-abc.tmp"), "half").unwrap();
    place.ok(&place.tune("m.safetensors", "--epochs 1 --overwrite"));
    let left = |name: &str| std::fs::read_dir(place.dir.path()).unwrap().flatten().any(|e| e.file_name().to_string_lossy().ends_with(name));
    assert!(!left(".tmp") && !left(".lock"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_is_refused_before_training() {
    let place = Place::new();
    assert!(std::process::Command::new("mkfifo").arg(place.path("m.pth")).status().unwrap().success());
    let run = place.run(&place.tune("m.pth", ""));
    assert!(run.code == Some(1) && run.err.contains("m.pth") && run.err.contains("nothing was started"), "{}", run.err);
    assert!(run.err.contains("pipe") && !run.err.contains("images of"), "{}", run.err);
}

/// With nowhere to print to the exit code is all that is left, and it is that of the error.
#[cfg(target_os = "linux")]
#[test]
fn full_disks_behind_stdout_and_stderr_are_no_panic() {
    let place = Place::new();
    place.ok(&place.tune("m.safetensors", "--epochs 1"));
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ends = |words: &str| place.command(words).stdout(full()).stderr(full()).status().unwrap().code();
    for (words, code) in [
        ("finetune data --weights nothing.pth --out n.pth", 1),
        ("finetune data --lr -1 --weights x", 2),
        ("finetune data --resume --out m.safetensors --epochs 2", 1),
        ("predict m.safetensors data/val/red/0.png", 1),
        ("evaluate m.safetensors data/val", 1),
        ("predict nothing.pth x.png", 1),
        ("plan --arch resnet8 --json", 1),
        ("inspect m.safetensors", 1),
        ("--help", 1),
        ("finetune --nothing", 2),
    ] {
        assert_eq!(ends(words), Some(code), "{words}");
    }
}

/// Too little memory is an error with the number, whatever sets the limit, and no abort.
#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_is_an_error_with_the_number() {
    let place = Place::new();
    let limited = |kilobytes: u32, words: &str| {
        let line = format!("ulimit -v {kilobytes}; exec {} {words}", env!("CARGO_BIN_EXE_nunatak"));
        crate::running::Run::of(std::process::Command::new("sh").args(["-c", &line]).current_dir(place.dir.path()).output().unwrap())
    };
    let tune = place.tune("m.safetensors", "--trainable all --epochs 1 --overwrite").replace("--size 32 --resize 32", "--size 512");
    for kilobytes in [40_000, 80_000, 160_000, 320_000] {
        let run = limited(kilobytes, &tune);
        assert!(
            run.code == Some(1) && run.err.contains("B of memory (") && run.err.contains("ulimit -v"),
            "{kilobytes}: {:?} {}",
            run.code,
            run.err
        );
        assert!(!place.path("m.safetensors").exists());
    }
    let run = limited(60_000, "predict weights.safetensors data/val/red/0.png --size 2000");
    assert!(run.code == Some(1) && run.err.contains("B of memory") && run.err.contains("ulimit -v"), "{:?} {}", run.code, run.err);
}
