//! `--balanced`, `--mixup` and `--cutmix`: what they do to a run, alone and with other options.

use crate::running::Place;
use nunatak_nn::files::Checkpoint;
use serde_json::Value;

/// Leaves one red image of nine to train on.
fn rare_red(place: &Place) {
    (1..9).for_each(|i| std::fs::remove_file(place.path(&format!("data/train/red/{i}.png"))).unwrap());
}

/// The events of a kind in a run's log.
fn events(place: &Place, kind: &str) -> Vec<Value> {
    let log = String::from_utf8(place.bytes("log.jsonl")).unwrap();
    let all = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["event"] == kind).collect()
}

fn weight(place: &Place, name: &str) -> Vec<f32> {
    let (bytes, mut numbers) = (place.bytes(name), Vec::new());
    Checkpoint::parse(&bytes).unwrap().get("fc.weight").unwrap().read_f32(&mut numbers).unwrap();
    numbers
}

#[test]
fn a_toy_set_is_learnt_with_mixup_with_cutmix_and_balanced() {
    let place = Place::new();
    for (options, said, setting) in [
        ("--mixup 0.2", "mixed in pairs, and their labels with them (--mixup)", "mixup = 0.2\n"),
        ("--cutmix 1", "mixed in pairs, and their labels with them (--cutmix)", "cutmix = 1.0\n"),
        ("--mixup 0.2 --cutmix 1 --label-smoothing 0.1", "(--mixup and --cutmix)", "mixup = 0.2\n"),
        ("--balanced", "every class is drawn as often as the others", "balanced = true\n"),
    ] {
        let run = place.ok(&place.tune("m.safetensors", &format!("--trainable all --epochs 8 --overwrite --log log.jsonl {options}")));
        assert!(run.out.contains("top-1 100.00 % (9 of 9)"), "{options}: {}", run.out);
        assert!(run.err.contains(said), "{options}: {}", run.err);
        // The run's record, its page and its log have the option, and it is had again from the record.
        let toml = String::from_utf8(place.bytes("m.safetensors.toml")).unwrap();
        assert!(toml.contains(setting), "{options}: {toml}");
        let page = String::from_utf8(place.bytes("m.safetensors.report.html")).unwrap();
        assert!(["balanced", "mixup", "cutmix"].iter().all(|key| page.contains(&format!(">{key}<"))), "{options}");
        assert_eq!(page.contains("Training saw mixed images"), !options.contains("--balanced"), "{options}");
        let settings = &events(&place, "start")[0]["settings"];
        assert_eq!(settings["balanced"], options.contains("--balanced"), "{settings}");
        assert_eq!(settings["mixup"].as_f64(), options.contains("--mixup").then_some(0.2), "{settings}");
        place.ok("finetune --config m.safetensors.toml --out again.safetensors --overwrite --threads 2");
        assert!(place.bytes("m.safetensors") == place.bytes("again.safetensors"), "{options}");
    }
}

/// At any step, with other orders, mixtures and features of every epoch; and by micro-batches.
#[test]
fn a_resumed_run_with_mixup_and_balanced_equals_an_uninterrupted_one() {
    let place = Place::new();
    rare_red(&place);
    for (i, options) in [
        "--trainable layer3,fc --balanced --mixup 0.4 --cutmix 1 --label-smoothing 0.1 --augment --seed 5",
        "--mixup 0.4 --cutmix 1 --micro-batch 3",
        "--balanced",
    ]
    .into_iter()
    .enumerate()
    {
        let whole = format!("whole{i}.safetensors");
        place.ok(&place.tune(&whole, &format!("--epochs 3 {options}")));
        // Nineteen images are three steps: within the first epoch, at its end, in the second one, at the end of all.
        for stop in [1, 3, 4, 5, 9] {
            let out = format!("part{i}_{stop}.safetensors");
            place.ok(&place.tune(&out, &format!("--epochs 3 {options} --stop-after {stop}")));
            place.ok(&format!("finetune data --resume --out {out} --threads 2"));
            for end in ["", ".last"] {
                assert!(place.bytes(&format!("{out}{end}")) == place.bytes(&format!("{whole}{end}")), "{options}, {stop}{end}");
            }
        }
    }
    for (given, due) in [("--mixup 0.3", "--mixup is 0.3"), ("--cutmix 0.3", "--cutmix is 0.3"), ("--balanced", "--balanced is true")] {
        let out = if given == "--balanced" { "whole1.safetensors" } else { "whole0.safetensors" };
        let run = place.run(&format!("finetune data --resume --out {out} {given}"));
        assert!(run.code == Some(2) && run.err.contains(due) && run.err.contains("was started with"), "{given}: {}", run.err);
    }
}

/// With an α near 0 every λ is 0 or 1: a batch of MixUp is then the batch itself, or the batch turned by one, and the loss
/// with probabilities must be the loss with classes. Validation is never mixed.
#[test]
fn mixup_of_whole_images_has_the_loss_of_the_images() {
    let place = Place::new();
    let losses = |more: &str| {
        let words = place.tune("m.safetensors", &format!("--epochs 4 --lr 0 --overwrite --log log.jsonl {more}"));
        place.ok(&words.replace("--batch 8", "--batch 64"));
        let number = |event: &Value, key: &str| event[key].as_f64().unwrap();
        let steps: Vec<[f64; 2]> = events(&place, "step").iter().map(|step| [number(step, "loss"), number(step, "right")]).collect();
        (steps, events(&place, "epoch").iter().map(|epoch| number(epoch, "val_loss")).collect::<Vec<_>>())
    };
    for more in ["", "--label-smoothing 0.2"] {
        let (plain, plain_val) = losses(more);
        let (whole, whole_val) = losses(&format!("--mixup 1e-9 {more}"));
        assert_eq!(plain.len(), 4);
        for (a, b) in plain.iter().zip(&whole) {
            assert!((a[0] - b[0]).abs() < 2e-6 && a[1] == b[1], "{more}: {plain:?} {whole:?}");
        }
        let (mixed, mixed_val) = losses(&format!("--mixup 1000 {more}"));
        assert!(plain.iter().zip(&mixed).all(|(a, b)| (a[0] - b[0]).abs() > 1e-3), "{more}: {plain:?} {mixed:?}");
        for val in [whole_val, mixed_val] {
            assert!(plain_val.iter().zip(&val).all(|(a, b)| (a - b).abs() < 1e-6), "{more}: {plain_val:?} {val:?}");
        }
    }
}

/// An image's pair may lie in another micro-batch.
#[test]
fn mixup_by_micro_batches_adds_up_to_batches() {
    let place = Place::new();
    for (i, options) in ["--mixup 1", "--cutmix 1", "--mixup 0.5 --cutmix 1 --label-smoothing 0.1 --balanced"].into_iter().enumerate() {
        let [whole, parts] = ["", "--micro-batch 3"].map(|how| {
            let out = format!("m{i}{}.safetensors", how.len());
            place.ok(&place.tune(&out, &format!("--epochs 2 --lr 0.2 {options} {how}")));
            weight(&place, &out)
        });
        assert!(whole != parts, "{options}: sums are rounded otherwise");
        let near = whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() <= 1e-4 * a.abs().max(1.0));
        assert!(near, "{options}: {whole:?} {parts:?}");
    }
}

/// An epoch of `--balanced` does not see every image: one that is still to come is not taken for broken.
#[test]
fn balanced_runs_keep_features_without_changing_a_bit() {
    let place = Place::new();
    rare_red(&place);
    std::fs::write(place.path("data/train/green/broken.png"), b"\x89PNG\r\n\x1a\nno").unwrap();
    let tune = |how: &str| {
        let out = format!("{how}.safetensors");
        let run = place.ok(&place.tune(&out, &format!("--balanced --epochs 12 --features {how} --log log.jsonl --overwrite")));
        assert_eq!(run.err.contains("computed once and kept"), how == "once", "{}", run.err);
        (place.bytes(&out), place.bytes(&format!("{out}.last")))
    };
    assert!(tune("once") == tune("never"));
    // The last epochs, where every image is known, have all the images that an epoch draws but the broken one.
    let images: u64 = events(&place, "step").iter().filter(|step| step["epoch"] == 12).map(|step| step["images"].as_u64().unwrap()).sum();
    assert!((16..=20).contains(&images), "{images}");
}

/// A class of one image, among nine of each of the others, is learnt as well as they are.
#[test]
fn balanced_draws_teach_a_rare_class() {
    let place = Place::new();
    rare_red(&place);
    let red = |more: &str| {
        place.ok(&place.tune("m.safetensors", &format!("--trainable all --epochs 8 --overwrite {more}")));
        let json: Value = serde_json::from_str(&place.ok("evaluate m.safetensors data/val --json").out).unwrap();
        json["confusion"][2][2].as_u64().unwrap()
    };
    assert_eq!(red("--balanced"), 3);
    let run = place.ok(&place.tune("m.safetensors", "--epochs 1 --overwrite --balanced --class-weights balanced"));
    assert!(run.err.contains("together they count too much"), "{}", run.err);
}

#[test]
fn what_mixup_can_not_go_with_is_told() {
    let place = Place::new();
    for (words, due) in [
        ("--mixup 0", "--mixup 0: must be a finite number above 0; leave it out"),
        ("--mixup -1", "--mixup -1: must be"),
        ("--mixup nan", "--mixup NaN: must be"),
        ("--cutmix inf", "--cutmix inf: must be"),
        ("--cutmix x", "--cutmix"),
        ("--mixup 0.2 --class-weights balanced", "--mixup can't go with --class-weights"),
        ("--mixup 0.2 --cutmix 1 --class-weights 1,2", "--mixup and --cutmix can't go with --class-weights"),
        ("--cutmix 1 --batch 1", "--cutmix mixes the images of a batch: take a --batch of 2 or more, not 1"),
        ("--balanced=yes", "--balanced"),
    ] {
        // Nothing is read before: the folder and the weights are not even there.
        let run = place.run(&format!("finetune nowhere --weights nothing {words}"));
        assert!(run.code == Some(2) && run.err.contains(due), "{words}: {:?} {}", run.code, run.err);
    }
    let run = place.run("finetune nowhere --weights nothing --mixup 0.2 --class-weights balanced");
    assert!(run.err.contains("--balanced"), "what to do instead: {}", run.err);
    // Mixed images are new ones: kept features would be those of others.
    let run = place.ok(&place.tune("m.safetensors", "--mixup 0.2 --epochs 1"));
    assert!(run.err.contains("are not kept but computed at every step") && !run.err.contains("computed once"), "{}", run.err);
    for quiet in ["--features never", "--augment", "--trainable all"] {
        let run = place.ok(&place.tune("m.safetensors", &format!("--mixup 0.2 --epochs 1 --overwrite {quiet}")));
        assert!(!run.err.contains("are not kept"), "{quiet}: {}", run.err);
    }
}

/// What looks at a run before it takes place knows the options too.
#[test]
fn mixup_and_balanced_go_with_lr_find_and_a_dry_run() {
    let place = Place::new();
    let words = "data --weights weights.safetensors --size 32 --resize 32 --batch 8 --threads 1 --mixup 0.2 --cutmix 1 --balanced";
    let run = place.ok(&format!("lr-find {words} --steps 30 --trainable all --json"));
    assert!(run.out.contains("suggestion"), "{}", run.out);
    let run = place.ok(&format!("finetune {words} --dry-run"));
    assert!(run.out.contains("time: ") && run.err.contains("(--mixup and --cutmix)"), "{} {}", run.out, run.err);
    // A broken image leaves a batch with one image fewer, which is mixed all the same.
    std::fs::write(place.path("data/train/red/broken.png"), b"\x89PNG\r\n\x1a\nno").unwrap();
    place.ok(&format!("finetune {words} --epochs 3 --out m.nunatak"));
}
