//! Bad input to `finetune`, `evaluate` and `predict`: where, why, which exit code, nothing lost.

mod running;

use running::{Place, draw};

#[test]
fn numbers_that_make_no_sense_are_usage_errors() {
    let place = Place::new();
    for (words, named) in [
        ("--lr nan", "learning rate"),
        ("--lr -1", "learning rate"),
        ("--lr 1e99", "learning rate"),
        ("--momentum -0.1", "momentum"),
        ("--momentum inf", "momentum"),
        ("--weight-decay nan", "weight decay"),
        ("--nesterov --momentum 0", "esterov"),
        ("--batch 0", "--batch"),
        ("--epochs 0", "--epochs"),
        ("--size 0", "--size"),
        ("--size 2147483648", "--size"),
        ("--resize 0", "--resize"),
        ("--val-fraction 1", "--val-fraction"),
        ("--label-smoothing 2", "--label-smoothing"),
        ("--clip-grad-norm 0", "--clip-grad-norm"),
        ("--clip-grad-norm 1 --update during", "--update"),
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
    assert_eq!(place.run("finetune data").code, Some(2), "no weights");
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
    assert!(!place.path("m.safetensors").exists());
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
    for words in ["weights.safetensors", "m.safetensors --log weights.safetensors", "m.safetensors --log m.safetensors.last"] {
        let (out, rest) = words.split_once(' ').unwrap_or((words, ""));
        let run = place.run(&place.tune(out, rest));
        assert!(run.code == Some(2) && run.err.contains("the same file"), "{words}: {}", run.err);
    }
    std::fs::write(place.path("notes.txt"), "mine").unwrap();
    let run = place.run(&place.tune("m.safetensors", "--log notes.txt"));
    assert!(run.code == Some(1) && run.err.contains("notes.txt"), "{}", run.err);
    assert_eq!(std::fs::read(place.path("notes.txt")).unwrap(), b"mine");
    assert_eq!(std::fs::read(place.path("weights.safetensors")).unwrap(), weights);
}
