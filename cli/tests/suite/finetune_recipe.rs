//! `--recipe`: which one a run has, what `auto` does, and that its two parts are one run.

use crate::running::Place;
use nunatak_nn::files::Checkpoint;
use serde_json::Value;

/// A run without an option that says how to train.
fn plain(out: &str, more: &str) -> String {
    format!("finetune data --weights weights.safetensors --out {out} --size 32 --resize 32 --threads 1 {more}")
}

/// Two parts with two and three epochs, of four steps each.
const SHORT: &str = "--recipe auto --epochs 5 --head-epochs 2 --batch 8";

fn numbers(place: &Place, file: &str, entry: &str) -> Vec<f32> {
    let (bytes, mut numbers) = (place.bytes(file), Vec::new());
    Checkpoint::parse(&bytes).unwrap().get(entry).unwrap().read_f32(&mut numbers).unwrap();
    numbers
}

fn events(place: &Place, kind: &str) -> Vec<Value> {
    let log = String::from_utf8(place.bytes("log.jsonl")).unwrap();
    let all = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["event"] == kind).collect()
}

#[test]
fn without_options_the_recipe_is_auto_and_learns() {
    let place = Place::new();
    let run = place.ok(&plain("m.safetensors", "--log log.jsonl"));
    assert!(run.out.contains("top-1 100.00 % (9 of 9)"), "{}", run.out);
    assert!(run.err.contains("recipe auto, from 27 images: the head alone for ") && run.err.contains("--recipe pytorch"), "{}", run.err);
    assert!(run.err.contains("now training all for "), "{}", run.err);
    let settings = &events(&place, "start")[0]["settings"];
    assert_eq!((&settings["recipe"], &settings["schedule"]), (&Value::from("auto"), &Value::from("onecycle")), "{settings}");
    let parts = events(&place, "part");
    assert!(parts.len() == 1 && parts[0]["trainable"] == "all", "{parts:?}");
    assert_eq!(parts[0]["epoch"].as_u64(), settings["head_epochs"].as_u64().map(|epochs| epochs + 1));
    let page = String::from_utf8(place.bytes("m.safetensors.report.html")).unwrap();
    assert!(page.contains(">recipe<") && page.contains("head alone was trained in the first"), "{page}");
    // The model is as any other.
    assert!(place.ok("evaluate m.safetensors data/val").out.starts_with("top-1 100.00 % (9 of 9)\n"));
}

#[test]
fn an_option_of_the_course_chooses_the_plain_recipe_and_others_do_not() {
    let place = Place::new();
    for more in ["--epochs 1", "--epochs 1 --lr 0.01", "--epochs 1 --trainable all", "--epochs 1 --schedule cosine --balanced"] {
        let run = place.ok(&plain("m.safetensors", &format!("--overwrite {more}")));
        assert!(!run.err.contains("recipe auto"), "{more}: {}", run.err);
        let toml = String::from_utf8(place.bytes("m.safetensors.toml")).unwrap();
        assert!(toml.contains("recipe = \"pytorch\"\n") && !toml.contains("head-epochs"), "{toml}");
    }
    for more in ["--balanced", "--mixup 0.2", "--label-smoothing 0", "--seed 3", "--micro-batch 4"] {
        let run = place.ok(&plain("m.safetensors", &format!("--dry-run {more}")));
        assert!(run.err.contains("recipe auto"), "{more}: {}", run.err);
    }
    // From scratch there is nothing to keep.
    let run = place.ok("finetune data --arch resnet8 --size 32 --resize 32 --threads 1 --dry-run");
    assert!(!run.err.contains("recipe auto"), "{}", run.err);
    // The plain recipe is what it was before there was another: with the defaults said, the same bits.
    place.ok(&place.tune("a.safetensors", "--epochs 2"));
    let said =
        "--recipe pytorch --epochs 2 --trainable fc --lr 0.01 --momentum 0.9 --weight-decay 0 --schedule constant --label-smoothing 0";
    place.ok(&place.tune("b.safetensors", said));
    assert!(place.bytes("a.safetensors.last") == place.bytes("b.safetensors.last"));
}

#[test]
fn a_run_of_two_parts_is_gone_on_with_to_the_same_bits() {
    let place = Place::new();
    for (i, more) in
        ["", "--augment --mixup 0.4 --ema 0.9 --class-weights none", "--micro-batch 3 --balanced --no-augment"].into_iter().enumerate()
    {
        let words = |out: &str, end: &str| plain(out, &format!("{SHORT} {more} {end}"));
        place.ok(&words(&format!("whole{i}.safetensors"), ""));
        // In the head's part, at its end before validation, in the second.
        for stop in [1, 4, 8, 9, 14] {
            let out = format!("part{i}-{stop}.safetensors");
            place.ok(&words(&out, &format!("--stop-after {stop}")));
            if stop == 8 {
                // Just between the two parts.
                let run = place.ok(&format!("finetune data --resume --out {out} --threads 1 --max-minutes 0.0000001"));
                assert!(run.err.contains("stopped in epoch 3 after batch 0 of 4"), "{}", run.err);
            }
            place.ok(&format!("finetune data --resume --out {out} --threads 2"));
            for end in ["", ".last"] {
                let (part, whole) = (place.bytes(&format!("{out}{end}")), place.bytes(&format!("whole{i}.safetensors{end}")));
                assert!(part == whole, "{more}: stopped after {stop}: {end}");
            }
        }
    }
    let run = place.run("finetune data --resume --out part0-1.safetensors --recipe pytorch");
    assert!(run.code == Some(2) && run.err.contains("--recipe is pytorch"), "{}", run.err);
    let run = place.run("finetune data --resume --out part0-1.safetensors --epochs 9");
    assert!(run.code == Some(2) && run.err.contains("--epochs is 9"), "{}", run.err);
}

/// The options that a run leaves have every choice that was made.
#[test]
fn what_was_chosen_is_repeated_from_the_options() {
    let place = Place::new();
    for (name, more) in
        [("a", "--epochs 4"), ("b", "--epochs 4 --no-augment --label-smoothing 0"), ("c", "--epochs 4 --augment --lr-spread 50")]
    {
        place.ok(&plain(&format!("{name}.safetensors"), &format!("--recipe auto {more}")));
        place.ok(&format!("finetune data --config {name}.safetensors.toml --out {name}2.safetensors --threads 2"));
        for end in ["", ".last", ".toml"] {
            assert!(place.bytes(&format!("{name}.safetensors{end}")) == place.bytes(&format!("{name}2.safetensors{end}")), "{more}: {end}");
        }
    }
    // The command line wins.
    let run = place.ok("finetune data --config c.safetensors.toml --no-augment --epochs 3 --out d.safetensors --threads 1");
    assert!(run.err.contains("no augmentation") && run.err.contains("epoch 3/3"), "{}", run.err);
}

/// In the first part nothing below the head moves; in the second the first layer moves less than the last.
#[test]
fn lower_layers_have_lower_rates() {
    let place = Place::new();
    let moved = |out: &str, more: &str, entry: &str| {
        if !place.path(out).exists() {
            place.ok(&plain(out, &format!("--recipe auto --batch 8 --no-augment --momentum 0 --weight-decay 0 {more}")));
        }
        let (new, old) = (numbers(&place, &format!("{out}.last"), entry), numbers(&place, "weights.safetensors", entry));
        new.iter().zip(&old).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / new.len() as f64
    };
    assert_eq!(moved("head.safetensors", "--epochs 1 --head-epochs 1", "layer3.0.conv2.weight"), 0.0);
    let first = |out: &str, more: &str| moved(out, more, "conv1.weight");
    let even = first("even.safetensors", "--epochs 1 --head-epochs 0 --lr-spread 1");
    let spread = first("spread.safetensors", "--epochs 1 --head-epochs 0 --lr-spread 1000");
    assert!(even > 0.0 && spread < even / 100.0 && spread > even / 10_000.0, "{even} {spread}");
    let last = |out: &str| moved(out, "", "layer3.0.conv2.weight");
    assert!(last("spread.safetensors") > last("even.safetensors") / 10.0);
}

#[test]
fn recipes_refuse_what_makes_no_sense() {
    let place = Place::new();
    place.ok("convert weights.safetensors weights.nunatak");
    for (words, named) in [
        ("--recipe other", "--recipe"),
        ("--head-epochs 2 --lr 0.1", "--head-epochs"),
        ("--lr-spread 2 --lr 0.1", "--lr-spread"),
        ("--recipe auto --lr-spread 0.5", "--lr-spread"),
        ("--recipe auto --lr-spread nan", "--lr-spread"),
        ("--recipe auto --epochs 3 --head-epochs 4", "--head-epochs"),
        ("--recipe auto --schedule cosine", "--schedule"),
        ("--recipe auto --lr -1", "--lr"),
        ("--recipe auto --in-place", "--in-place"),
        ("--json", "--dry-run"),
    ] {
        let run = place.run(&plain("m.safetensors", words));
        assert!(run.code == Some(2) && run.err.contains(named), "{words}: {:?} {}", run.code, run.err);
    }
    let run = place.run("finetune data --arch resnet8 --recipe auto");
    assert!(run.code == Some(2) && run.err.contains("--weights"), "{}", run.err);
    let run = place.run("lr-find data --weights weights.safetensors --recipe auto");
    assert!(run.code == Some(2) && run.err.contains("lr-find"), "{}", run.err);
    // A network that is read in place is trained as before.
    let run = place.ok("finetune data --weights weights.nunatak --in-place --out m.nunatak --size 32 --resize 32 --dry-run");
    assert!(!run.err.contains("recipe auto"), "{}", run.err);
}
