//! `finetune` learns, `evaluate` and `predict` agree with it, and files are what they claim.

mod running;

use nunatak_nn::checkpoint::Checkpoint;
use running::Place;

#[test]
fn a_toy_set_is_learnt_and_measured() {
    let place = Place::new();
    let run = place.ok(&place.tune("model.safetensors", "--trainable all --epochs 4 --log log.jsonl"));
    assert!(run.out.starts_with("model.safetensors: top-1 100.00 % (9 of 9) after epoch "), "{}", run.out);
    // Without a terminal: plain lines, a line per epoch, no control characters.
    assert!(run.err.contains("epoch 4/4  loss ") && !run.err.contains('\u{1b}'), "{}", run.err);

    // The size is the model's own.
    let evaluated = place.ok("evaluate model.safetensors data/val");
    assert_eq!(evaluated.out.lines().next(), Some("top-1 100.00 % (9 of 9)"));
    assert!(evaluated.out.contains("confusion"), "{}", evaluated.out);
    assert_eq!(place.ok("evaluate model.safetensors data").out, evaluated.out, "val/ of a folder with both");

    let json: serde_json::Value = serde_json::from_str(&place.ok("evaluate model.safetensors data/val --json --batch 4").out).unwrap();
    assert_eq!((json["top1"].as_f64(), json["n"].as_u64()), (Some(1.0), Some(9)));
    assert_eq!(json["per_class"][1]["class"], "green");
    assert_eq!(json["confusion"], serde_json::json!([[3, 0, 0], [0, 3, 0], [0, 0, 3]]));

    let predicted = place.ok("predict model.safetensors data/val/red/0.png data/val/blue/1.png --top 2");
    let lines: Vec<&str> = predicted.out.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[3]), (6, "data/val/red/0.png", "data/val/blue/1.png"));
    assert!(lines[1].ends_with(" %  red") && lines[4].ends_with(" %  blue"), "{}", predicted.out);
    let json: serde_json::Value = serde_json::from_str(&place.ok("predict model.safetensors data/val/red/0.png --json").out).unwrap();
    assert_eq!(json[0]["top"][0]["class"], "red");
    assert_eq!(json[0]["top"].as_array().map(Vec::len), Some(3), "no more answers than classes");

    // The log: every line is JSON; 4 steps and 1 epoch line per epoch.
    let log = String::from_utf8(place.bytes("log.jsonl")).unwrap();
    let events: Vec<serde_json::Value> = log.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let count = |kind: &str| events.iter().filter(|e| e["event"] == kind).count();
    assert_eq!((count("start"), count("step"), count("epoch")), (1, 16, 4));
    assert_eq!(events[4]["images"], 3, "the last partial batch is kept");
}

#[test]
fn the_head_stays_where_the_classes_are_the_same() {
    let place = Place::new();
    place.ok(&place.tune("a.safetensors", "--trainable all --epochs 4"));
    let again = "finetune data --weights a.safetensors --out b.safetensors --size 32 --resize 32 --epochs 1 --lr 0 --threads 1";
    let run = place.ok(again);
    assert!(run.err.contains("fc: the file's") && run.out.contains("100.00 %"), "{} {}", run.err, run.out);
    let entry = |name: &str| {
        let bytes = place.bytes(name);
        let mut data = Vec::new();
        Checkpoint::parse(&bytes).unwrap().get("fc.weight").unwrap().read_f32(&mut data).unwrap();
        data
    };
    assert_eq!(entry("a.safetensors"), entry("b.safetensors"));
}

#[test]
fn a_pth_has_its_names_beside_it() {
    let place = Place::new();
    place.ok(&place.tune("model.pth", "--trainable all --epochs 4"));
    let bytes = place.bytes("model.pth");
    let file = Checkpoint::parse(&bytes).unwrap();
    assert!(file.entries().iter().all(|e| !e.name().starts_with("momentum.")), "exactly the state dict");
    assert!(place.ok("evaluate model.pth data/val").out.starts_with("top-1 100.00 % (9 of 9)\n"));
    assert!(place.ok("predict model.pth data/val/red/0.png").out.contains("red"));
    std::fs::write(place.path("model.pth.classes.json"), "{\"classes\": [\"one\"], \"view\": null}").unwrap();
    let run = place.run("evaluate model.pth data/val");
    assert!(run.code == Some(1) && run.err.contains("1 class names"), "{}", run.err);
}

#[test]
fn bits_depend_neither_on_threads_nor_on_when_updates_happen() {
    let place = Place::new();
    let tune = |out: &str, more: &str| {
        place.ok(&place.tune(out, "--trainable layer3,fc --epochs 1").replace("--threads 1", more));
        place.bytes(out)
    };
    let one = tune("a.safetensors", "--threads 1");
    assert!(one == tune("b.safetensors", "--threads 2"), "two threads");
    assert!(one == tune("c.safetensors", "--threads 1 --update during"), "updates during the walk");
}

#[test]
fn every_option_of_a_recipe_runs() {
    let place = Place::new();
    for more in [
        "--augment --nesterov --weight-decay 1e-4 --schedule cosine:1",
        "--schedule onecycle --label-smoothing 0.1 --clip-grad-norm 1",
        "--schedule step:1:0.5 --momentum 0 --memory small",
        "--schedule multistep:1,2:0.1 --bn-statistics batch --dampening 0.1",
    ] {
        place.ok(&place.tune("m.safetensors", &format!("--epochs 2 {more}")));
    }
}

#[test]
fn one_level_is_divided_and_more_images_than_a_batch_are_no_need() {
    let place = Place::new();
    let run = place.ok(&place.tune("m.safetensors", "--epochs 1 --batch 64").replace("data", "data/train").replace("--batch 8", ""));
    assert!(run.err.contains("21 images of 3 classes to train on, 6 to validate with"), "{}", run.err);
}
