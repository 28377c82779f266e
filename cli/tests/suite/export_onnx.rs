//! `nunatak export --onnx`: what the file says, and what is refused. Its numbers are tested in nunatak-nn.

use crate::running::Place;
use nunatak_cli::setup::Network;
use nunatak_nn::models::by_name;

/// The bytes hold this text, with its length before it as protobuf has it.
fn has(bytes: &[u8], text: &str) -> bool {
    let mut due = vec![u8::try_from(text.len()).expect("a short text")];
    due.extend_from_slice(text.as_bytes());
    bytes.windows(due.len()).any(|window| window == due)
}

fn fails(place: &Place, words: &str, code: i32, says: &[&str]) {
    let run = place.run(words);
    assert_eq!(run.code, Some(code), "{words}: {}", run.err);
    assert!(says.iter().all(|word| run.err.contains(word)), "{words}: {:?} does not say {says:?}", run.err);
}

/// Makes of what `convert` wrote a state dict that tells nothing besides.
fn bare(place: &Place, name: &str) {
    std::fs::write(place.path(&format!("{name}.classes.json")), "{}").expect("written");
    place.bare(name);
}

#[test]
fn a_tuned_model_takes_its_classes_and_view_along() {
    let place = Place::new();
    place.ok(&place.tune("m.safetensors", "--epochs 1 --trainable fc"));
    let run = place.ok("export --weights m.safetensors --onnx m.onnx");
    assert!(run.out.contains("resnet8 with 3 classes") && run.out.contains("input [N, 3, 32, 32], logits [N, 3]"), "{}", run.out);
    assert!(!run.err.contains("assumed"), "{}", run.err);
    let bytes = place.bytes("m.onnx");
    let pairs = [
        ("nunatak.classes", "[\"blue\",\"green\",\"red\"]"),
        ("nunatak.view", "{\"resize\":32,\"size\":32}"),
        ("nunatak.mean", "[0.485,0.456,0.406]"),
        ("nunatak.std", "[0.229,0.224,0.225]"),
    ];
    for text in pairs.iter().flat_map(|(key, value)| [key, value]).chain(&["input", "logits", "fc.weight", "layer1.0.bn1.running_var"]) {
        assert!(has(&bytes, text), "{text}");
    }
    assert!(!has(&bytes, "bn1.num_batches_tracked"));

    // A .pth with the names beside it, and a .nunatak, give the same bytes; so does a second export.
    for name in ["m.pth", "m.nunatak"] {
        place.ok(&format!("convert m.safetensors {name}"));
        if name == "m.pth" {
            bare(&place, name);
            let names = r#"{"classes": ["blue", "green", "red"], "view": {"size": 32, "resize": 32}, "recipe": "stem 3 1 1 0"}"#;
            std::fs::write(place.path("m.pth.classes.json"), names).expect("written");
        }
        place.ok(&format!("export --weights {name} --onnx {name}.onnx"));
        assert!(place.bytes(&format!("{name}.onnx")) == bytes, "{name}");
    }

    // Another size than the model was trained with.
    place.ok("export --weights m.safetensors --onnx large.onnx --size 224");
    assert!(has(&place.bytes("large.onnx"), "{\"resize\":256,\"size\":224}"));
}

#[test]
fn a_delta_is_laid_over_its_base() {
    let place = Place::new();
    place.ok("convert weights.safetensors base.nunatak");
    let tune = "finetune data --weights base.nunatak --in-place --size 32 --resize 32 --batch 8 --threads 1 --epochs 1";
    place.ok(&format!("{tune} --delta --out head.nunatak"));
    place.ok("export --weights head.nunatak --onnx a.onnx");
    place.ok("export --weights head.nunatak --base base.nunatak --onnx b.onnx");
    place.ok("convert head.nunatak whole.safetensors --base base.nunatak");
    place.ok("export --weights whole.safetensors --onnx c.onnx");
    assert!(place.bytes("a.onnx") == place.bytes("b.onnx") && place.bytes("a.onnx") == place.bytes("c.onnx"));
    std::fs::rename(place.path("base.nunatak"), place.path("elsewhere.nunatak")).expect("renamed");
    fails(&place, "export --weights head.nunatak --onnx d.onnx", 1, &["head.nunatak", "--base"]);
}

#[test]
fn what_a_file_does_not_tell_is_assumed_or_asked_for() {
    let place = Place::new();
    let network = Network::Named(*by_name("mobilenet_v3_small").expect("a model"), 5);
    place.weights_of("v3.safetensors", network, None);
    let run = place.ok("export --weights v3.safetensors --onnx v3.onnx");
    assert!(run.err.contains("224 x 224 (--size)") && run.out.contains("mobilenet_v3_small with 5 classes"), "{} {}", run.err, run.out);
    let sized = place.ok("export --weights v3.safetensors --onnx sized.onnx --size 64 --classes 5");
    assert_eq!(sized.err, "");
    fails(&place, "export --weights v3.safetensors --onnx x.onnx --classes 6", 2, &["--classes 6", "tells 5 classes apart"]);
    fails(&place, "export --weights v3.safetensors --onnx x.onnx --arch resnet8", 1, &["v3.safetensors"]);

    place.ok("convert weights.safetensors w.pth");
    bare(&place, "w.pth");
    fails(&place, "export --weights w.pth --onnx x.onnx --size 32", 2, &["3 x 3", "--stem 3:1:1"]);
    place.ok("export --weights w.pth --onnx stem.onnx --size 32 --stem 3:1:1");
    place.ok("export --weights w.pth --onnx arch.onnx --size 32 --arch resnet8");
    place.ok("export --weights weights.safetensors --onnx told.onnx --size 32");
    for name in ["stem.onnx", "arch.onnx"] {
        assert!(place.bytes(name) == place.bytes("told.onnx"), "{name}");
    }
    assert!(!place.path("x.onnx").exists());
}

#[test]
fn nothing_is_replaced_unless_that_is_asked_for() {
    let place = Place::new();
    std::fs::write(place.path("there.onnx"), "before").expect("written");
    let words = "export --arch resnet8 --classes 4 --size 32";
    fails(&place, &format!("{words} --onnx there.onnx"), 1, &["there.onnx", "is there", "--overwrite"]);
    assert_eq!(place.bytes("there.onnx"), b"before");
    place.ok(&format!("{words} --onnx there.onnx --overwrite"));
    let drawn = place.ok(&format!("{words} --onnx again.onnx"));
    assert!(drawn.err.contains("drawn from seed 0") && place.bytes("again.onnx") == place.bytes("there.onnx"), "{}", drawn.err);
    place.ok(&format!("{words} --onnx other.onnx --seed 1"));
    assert!(place.bytes("other.onnx") != place.bytes("again.onnx"));

    fails(&place, &format!("{words} --onnx none/x.onnx"), 1, &["none/x.onnx"]);
    fails(&place, &format!("{words} --onnx data --overwrite"), 1, &["data", "folder"]);
    fails(&place, "export --weights weights.safetensors --onnx weights.safetensors --overwrite", 2, &["--onnx and --weights"]);
    std::fs::write(place.path("cut.safetensors"), &place.bytes("weights.safetensors")[..1000]).expect("written");
    fails(&place, "export --weights cut.safetensors --onnx there.onnx --overwrite", 1, &["cut.safetensors"]);
    place.weights("nan.safetensors", 10, Some(f32::NAN));
    fails(&place, "export --weights nan.safetensors --onnx there.onnx --size 32 --overwrite", 1, &["nan.safetensors", "NaN"]);
    assert!(place.bytes("there.onnx") == place.bytes("again.onnx"), "what stood there");
}

#[test]
fn options_of_boards_and_of_onnx_do_not_mix() {
    let place = Place::new();
    let words = "export --arch resnet8 --onnx x.onnx";
    fails(&place, &format!("{words} --target m7"), 2, &["--target", "--onnx"]);
    fails(&place, &format!("{words} --out folder"), 2, &["--out", "--onnx"]);
    fails(&place, &format!("{words} --batch 4"), 2, &["--batch", "--onnx"]);
    fails(&place, &format!("{words} --stem 3:1:1"), 2, &["--weights"]);
    fails(&place, "export --arch resnet8", 2, &["--target", "--region", "--out"]);
    fails(&place, "export --onnx x.onnx", 2, &["--arch"]);
    fails(&place, "export --arch resnet8 --target m7 --region ram=4M --out o --overwrite", 2, &["--onnx"]);
    assert!(!place.path("x.onnx").exists());
}
