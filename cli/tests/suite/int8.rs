//! `--frozen int8`: networks whose frozen layers compute in 8 bits, made, shown images, trained on and exported.

use crate::running::Place;
use serde_json::Value;
use std::fs::read;

/// A model that tells the three colours apart.
fn trained() -> Place {
    let place = Place::new();
    place.ok(
        "finetune data --weights weights.safetensors --trainable all --size 32 --resize 32 --batch 9 --epochs 4 --out m.safetensors -q",
    );
    place
}

fn evaluated(place: &Place, model: &str) -> Value {
    serde_json::from_str(&place.ok(&format!("evaluate {model} data --json")).out).unwrap()
}

/// What a run says that ends with this code.
fn fails(place: &Place, words: &str, code: i32) -> String {
    let run = place.run(words);
    assert_eq!(run.code, Some(code), "{words}: {}", run.err);
    run.err
}

#[test]
fn a_converted_network_is_as_right_in_a_third_of_the_bytes() {
    let place = trained();
    let said = place.ok("convert m.safetensors m.nunatak --frozen int8 --calibrate data/train").err;
    assert!(said.contains("9 convolutions compute in 8 bits; ranges from 27 images"), "{said}");
    // The same bytes again: nothing depends on the machine or the time.
    place.ok("convert m.safetensors again.nunatak --frozen int8 --calibrate data/train");
    assert_eq!(read(place.path("m.nunatak")).unwrap(), read(place.path("again.nunatak")).unwrap());
    assert!(3 * read(place.path("m.nunatak")).unwrap().len() < read(place.path("m.safetensors")).unwrap().len());
    let (floats, ints) = (evaluated(&place, "m.safetensors"), evaluated(&place, "m.nunatak"));
    assert_eq!(floats["top1"], ints["top1"], "{floats} {ints}");
    // Class names, view and stem travel on, in every format.
    for name in ["m.pth", "other.safetensors"] {
        place.ok(&format!("convert m.nunatak {name}"));
        assert_eq!(evaluated(&place, name), ints, "{name}");
    }
    assert!(place.ok("inspect m.nunatak").out.contains("layer3.0.conv2.int8"));
}

#[test]
fn a_head_is_trained_on_it_and_the_run_can_be_resumed() {
    let place = trained();
    place.ok("convert m.safetensors m.nunatak --frozen int8 --calibrate data/train --calibrate-images 8");
    for (more, out) in [("", "a.safetensors"), ("--in-place --delta", "b.nunatak")] {
        let finetune = format!("finetune data --weights m.nunatak --new-head --batch 9 --out {out} -q {more}");
        place.ok(&format!("{finetune} --epochs 4"));
        let whole = read(place.path(out)).unwrap();
        place.ok(&format!("{finetune} --epochs 2 --overwrite"));
        place.ok(&format!("finetune data --resume --out {out} --epochs 4 -q"));
        assert_eq!(read(place.path(out)).unwrap(), whole, "{out}");
        assert!(evaluated(&place, out)["top1"].as_f64().unwrap() > 0.6, "{out}");
    }
    // What is trained is what is there as floats.
    let said = fails(&place, "finetune data --weights m.nunatak --trainable layer3,fc --out c.safetensors", 2);
    assert!(said.contains("layer3"), "{said}");
}

/// In one command: what `convert` would write is trained on, and no file of it is left.
#[test]
fn finetune_rounds_what_is_frozen() {
    let place = trained();
    let finetune = |weights: &str, out: &str, more: &str| {
        let words = format!("finetune data --weights {weights} --trainable layer3,fc --batch 9 --epochs 2 --out {out} {more}");
        place.ok(&words).err
    };
    place.ok("convert m.safetensors m.nunatak --frozen int8 --calibrate data/train --trainable layer3,fc --calibrate-images 9");
    finetune("m.nunatak", "due.safetensors", "--new-head");
    let due = read(place.path("due.safetensors")).unwrap();
    let int8 = "--frozen int8 --calibrate-images 9";
    let said = finetune("m.safetensors", "a.safetensors", &format!("{int8} --calibrate data/train --new-head"));
    assert!(said.contains("6 convolutions compute in 8 bits; ranges from 9 images"), "{said}");
    assert_eq!(read(place.path("a.safetensors")).unwrap(), due);
    // The images of the run where none are named; and the file of its options repeats the run.
    finetune("m.safetensors", "b.safetensors", &format!("{int8} --new-head"));
    assert_eq!(read(place.path("b.safetensors")).unwrap(), due);
    place.ok("finetune --config a.safetensors.toml --out c.safetensors -q");
    assert_eq!(read(place.path("c.safetensors")).unwrap(), due);
    // A run that was stopped goes on in 8 bits, whether that is said again or not.
    for more in ["", "--frozen int8"] {
        finetune("m.safetensors", "d.safetensors", &format!("{int8} --new-head --overwrite --stop-after 4"));
        place.ok(&format!("finetune data --resume --out d.safetensors -q {more}"));
        assert_eq!(read(place.path("d.safetensors")).unwrap(), due, "{more}");
    }
    for (words, due) in [
        ("finetune data --arch resnet8 --frozen int8", "--weights"),
        ("finetune data --weights m.nunatak --frozen int8 --in-place", "convert"),
        ("finetune data --weights m.safetensors --frozen int8 --recipe auto", "--recipe"),
        ("finetune data --resume --out m.safetensors --frozen int8", "without"),
    ] {
        let said = fails(&place, &format!("{words} -q"), 2);
        assert!(said.contains(due), "{words}: {said}");
    }
    let said = fails(&place, "finetune data --weights m.safetensors --frozen int8 --trainable all --out e.safetensors -q", 1);
    assert!(said.contains("8 bits"), "{said}");
    assert!(fails(&place, "finetune data --weights m.nunatak --frozen int8 --out e.safetensors -q", 1).contains("already"));
}

#[test]
fn what_is_to_be_trained_stays_as_floats() {
    let place = trained();
    place.ok("convert m.safetensors m.nunatak --frozen int8 --calibrate data --trainable layer3,fc");
    let there = place.ok("inspect m.nunatak").out;
    assert!(there.contains("layer2.0.conv2.int8") && there.contains("layer3.0.conv1.weight"), "{there}");
    assert_eq!(evaluated(&place, "m.nunatak")["top1"], evaluated(&place, "m.safetensors")["top1"]);
    place.ok("finetune data --weights m.nunatak --trainable layer3,fc --keep-head --batch 9 --epochs 1 --out c.safetensors -q");
    assert!(evaluated(&place, "c.safetensors")["top1"].as_f64().unwrap() > 0.6);
}

#[test]
fn an_exported_head_takes_80_kb_and_what_can_t_be_is_said() {
    let place = trained();
    let board = "--trainable fc --batch 1 --size 32 --target m4f --region ram=80K --name model";
    place.ok(&format!("export --weights m.safetensors {board} --frozen int8 --calibrate data/train --out folder"));
    let header = std::fs::read_to_string(place.path("folder/README.md")).unwrap();
    assert!(header.contains("`int8_conv2d_forward`") && !header.contains("`conv2d_forward`"), "{header}");
    // The same from a file that was converted before.
    place.ok("convert m.safetensors m.nunatak --frozen int8 --calibrate data/train");
    place.ok(&format!("export --weights m.nunatak {board} --out again"));
    for file in ["model.c", "model.h", "selftest.c"] {
        assert_eq!(read(place.path("folder").join(file)).unwrap(), read(place.path("again").join(file)).unwrap(), "{file}");
    }
    for (words, code, due) in [
        ("convert m.safetensors x.nunatak --frozen int8", 2, "--calibrate"),
        ("convert m.safetensors x.nunatak --calibrate data", 2, "--frozen"),
        ("convert m.safetensors x.nunatak --trainable fc", 2, "--frozen"),
        ("convert m.safetensors x.nunatak --frozen int8 --calibrate nowhere", 1, "nowhere"),
        ("convert m.safetensors x.nunatak --frozen int8 --calibrate data --trainable all", 1, "8 bits"),
        ("convert m.safetensors x.nunatak --frozen int8 --calibrate data --trainable layer9", 1, "layer9"),
        ("convert m.nunatak x.nunatak --frozen int8 --calibrate data", 1, "already"),
        ("export --weights m.nunatak --onnx x.onnx", 1, "8 bits"),
        ("explain m.nunatak data/val/red/0.png --out x.nunatak", 1, "8 bits"),
    ] {
        let said = fails(&place, words, code);
        assert!(said.contains(due), "{words}: {said}");
        assert!(!place.path("x.nunatak").exists() && !place.path("x.onnx").exists(), "{words}");
    }
}
