//! What a run will take, and runs that have so many minutes; the log as a table.

use crate::running::Place;
use serde_json::Value;

#[test]
fn a_dry_run_is_one_object_of_json() {
    let place = Place::new();
    std::fs::write(place.path("data/train/red/broken.png"), b"\x89PNG\r\n\x1a\nno").unwrap();
    std::fs::copy(place.path("data/train/red/0.png"), place.path("data/val/red/again.png")).unwrap();
    for (recipe, parts) in [("auto", 2), ("pytorch", 1)] {
        let run = place.ok(&place.tune("m.safetensors", &format!("--recipe {recipe} --dry-run --json")));
        let json: Value = serde_json::from_str(&run.out).unwrap();
        assert_eq!((json["train"].as_u64(), json["val"].as_u64()), (Some(28), Some(10)), "{json}");
        assert_eq!(json["classes"][2], serde_json::json!({"class": "red", "train": 10, "val": 4}));
        assert_eq!(json["sizes"]["middle"], serde_json::json!([32, 32]));
        assert_eq!(json["broken"][0]["path"], "train/red/broken.png");
        assert_eq!(json["doubles"]["in_train_and_val"], serde_json::json!([["train/red/0.png", "val/red/again.png"]]));
        assert_eq!(
            (json["doubles"]["in_two_classes"].as_array().map(Vec::len), &json["settings"]["recipe"]),
            (Some(0), &Value::from(recipe))
        );
        assert!(json["memory"]["block"].as_u64().is_some_and(|bytes| bytes > 100_000), "{json}");
        let list = json["parts"].as_array().unwrap();
        let seconds = |part: &Value| part["seconds"].as_f64().unwrap();
        assert_eq!(list.len(), parts);
        assert!(list.iter().all(|part| seconds(part) > 0.0 && part["seconds_of_a_step"].as_f64().is_some_and(|s| s > 0.0)), "{json}");
        assert!((list.iter().map(seconds).sum::<f64>() - json["seconds"].as_f64().unwrap()).abs() < 1e-9);
        assert!(!place.path("m.safetensors").exists() && !place.path("m.safetensors.toml").exists());
    }
}

/// A run is laid out for its minutes where the rate looks at its end, and ends well though that was too little.
#[test]
fn a_run_is_laid_out_for_its_minutes() {
    let place = Place::new();
    let words =
        |out: &str, more: &str| format!("finetune data --weights weights.safetensors --out {out} --size 32 --resize 32 --threads 1 {more}");
    let run = place.ok(&words("short.safetensors", "--max-minutes 0.0000001"));
    assert!(run.err.contains("laid out for 1 epochs of ") && run.err.contains("1 of them of the head alone"), "{}", run.err);
    assert!(run.err.contains("stopped in epoch 1 after batch 1 of 4"), "{}", run.err);
    let toml = String::from_utf8(place.bytes("short.safetensors.toml")).unwrap();
    assert!(toml.contains("epochs = 1\n") && toml.contains("head-epochs = 1\n"), "{toml}");
    place.ok("finetune data --resume --out short.safetensors --threads 1");
    // Its options give the same run without a clock.
    place.ok("finetune --config short.safetensors.toml --out again.safetensors --threads 1");
    assert!(place.bytes("short.safetensors.last") == place.bytes("again.safetensors.last"));
    // Where there is time enough nothing changes.
    let course = "--schedule cosine --batch 8";
    let run = place.ok(&words("long.safetensors", &format!("{course} --max-minutes 1000")));
    assert!(run.err.contains("laid out for 10 epochs of 10"), "{}", run.err);
    place.ok(&words("free.safetensors", course));
    assert!(place.bytes("long.safetensors.last") == place.bytes("free.safetensors.last"));
    // Epochs that are asked for are what is laid out, and a constant rate has no end.
    for more in ["--epochs 2 --schedule onecycle --max-minutes 1000", "--batch 8 --max-minutes 1000"] {
        let run = place.ok(&words("n.safetensors", &format!("--overwrite {more}")));
        assert!(!run.err.contains("laid out"), "{more}: {}", run.err);
    }
}

/// The columns of timm's summary.csv, also of a run that is gone on with.
#[test]
fn a_log_can_be_a_table() {
    let place = Place::new();
    place.ok(&place.tune("m.safetensors", "--epochs 3 --log summary.csv --schedule step:1:0.1 --stop-after 6"));
    place.ok("finetune data --resume --out m.safetensors --threads 1 --log summary.csv");
    let text = String::from_utf8(place.bytes("summary.csv")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["epoch", "train_loss", "eval_loss", "eval_top1", "eval_top5", "lr"]);
    assert_eq!(rows.len(), 4, "{text}");
    for (epoch, row) in rows[1..].iter().enumerate() {
        let number = |at: usize| row[at].parse::<f64>().unwrap();
        assert_eq!(row[0], epoch.to_string());
        assert!(number(1) > 0.0 && number(2) > 0.0 && (0.0..=100.0).contains(&number(3)), "{text}");
        // Of three classes.
        assert_eq!(number(4), 100.0);
        assert!((number(5) / (0.01 * 0.1_f64.powi(epoch as i32)) - 1.0).abs() < 1e-5, "{text}");
    }
    // What is no log stays.
    std::fs::write(place.path("labels.csv"), "path,label\n").unwrap();
    let run = place.run(&place.tune("n.safetensors", "--epochs 1 --log labels.csv --overwrite"));
    assert!(run.code == Some(1) && run.err.contains("is no log"), "{}", run.err);
    assert_eq!(place.bytes("labels.csv"), b"path,label\n");
}

/// A name in a file of options that is none is told with the nearest one.
#[test]
fn unknown_names_in_a_file_of_options_are_told() {
    let place = Place::new();
    std::fs::write(place.path("o.toml"), "weight_decoy = 0.1\n").unwrap();
    let run = place.run("finetune data --config o.toml");
    assert!(
        run.code == Some(2) && run.err.contains("o.toml: weight_decoy") && run.err.contains("nearest name is weight-decay"),
        "{}",
        run.err
    );
    std::fs::write(place.path("o.toml"), "steps = 20\n").unwrap();
    let run = place.run("finetune data --config o.toml");
    assert!(run.code == Some(2) && run.err.contains("steps"), "an option of lr-find alone: {}", run.err);
}
