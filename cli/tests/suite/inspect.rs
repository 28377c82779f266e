//! `nunatak inspect`, run as a program.

use crate::program::{checkpoint, nunatak};
use nunatak_cli::setup::{Network, parameter_numbers};
use nunatak_nn::files::{Data, TensorOut, state, write_safetensors};
use nunatak_nn::{Level, Recipe, Threads, Trainer};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

fn inspect(file: &Path) -> crate::program::Ended {
    nunatak([OsStr::new("inspect"), file.as_os_str()])
}

#[test]
fn entries_types_and_shapes_of_every_format() {
    for (name, format) in
        [("dtypes.pth", "pth (zip)"), ("dtypes_legacy.pth", "pth (before torch 1.6)"), ("dtypes.safetensors", "safetensors")]
    {
        let file = checkpoint(name);
        let ended = inspect(&file);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{name}");
        let size = std::fs::metadata(&file).expect("the fixture").len();
        assert!(ended.stdout.starts_with(&format!("{}: {format}, {size} bytes\n", file.display())), "{}", ended.stdout);
        for (entry, dtype) in [
            ("float64", "F64"),
            ("float32", "F32"),
            ("float16", "F16"),
            ("bfloat16", "BF16"),
            ("int64", "I64"),
            ("int32", "I32"),
            ("int16", "I16"),
            ("int8", "I8"),
            ("uint8", "U8"),
            ("bool", "BOOL"),
        ] {
            let line = [entry, dtype, "2x3"];
            assert!(ended.stdout.lines().any(|l| l.split_whitespace().eq(line)), "{line:?} in {}", ended.stdout);
        }
        // 6 numbers each: four floats are parameters; 8 + 4 + 2 + 2 + 8 + 4 + 2 + 1 + 1 + 1 bytes.
        assert_eq!(ended.line("entries,").join(" "), "10 entries, 24 parameters, 198 bytes of numbers");
        assert!(ended.stdout.contains("network: none that can be trained here"));
    }
}

#[test]
fn json_says_the_same() {
    let file = checkpoint("small.safetensors");
    let ended = nunatak([OsStr::new("inspect"), OsStr::new("--json"), file.as_os_str()]);
    assert_eq!(ended.code, 0);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(json["format"], "safetensors");
    assert_eq!(json["metadata"], serde_json::json!({"format": "pt", "made by": "make.py"}));
    assert_eq!(json["totals"], serde_json::json!({"entries": 7, "parameters": 12, "bytes": 72}));
    assert_eq!(json["entries"][0], serde_json::json!({"name": "1.num_batches_tracked", "dtype": "I64", "shape": []}));
    assert_eq!(json["entries"][2], serde_json::json!({"name": "0.weight", "dtype": "F32", "shape": [2, 3]}));
    assert!(json["network"].is_null() && json["not_a_network"].is_string());
}

#[test]
fn a_network_is_recognised_and_a_wrong_one_is_told_apart() {
    let recipe = Recipe::resnet8(7);
    let program = Network::Recipe(recipe).program().expect("a plan");
    let mut trainer = Trainer::owning(program, Level::detect(), Threads::serial()).expect("a trainer");
    trainer.init(0);
    let mut saved = trainer.state();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.safetensors");
    write_safetensors(&path, &saved.views(), &state::recipe_metadata(&recipe)).expect("written");
    let ended = inspect(&path);
    assert_eq!(ended.code, 0);
    assert!(ended.stdout.contains("network: resnet8, blocks [1, 1, 1], widths [16, 32, 64], 3 channels in, 7 classes"), "{}", ended.stdout);
    let [numbers, _] = parameter_numbers(trainer.program());
    assert!(ended.stdout.contains(&format!(", {numbers} parameters,")));

    // One entry less, and everything else as it was.
    saved.tensors.retain(|(name, ..)| name != "layer2.0.bn1.bias");
    write_safetensors(&path, &saved.views(), &BTreeMap::new()).expect("written");
    let ended = inspect(&path);
    assert_eq!(ended.code, 0);
    assert!(ended.stdout.contains("network: none") && ended.stdout.contains("1 missing: layer2.0.bn1.bias"), "{}", ended.stdout);
}

#[test]
fn what_is_no_checkpoint_is_refused_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.pth");
    std::fs::write(&page, "<!DOCTYPE html><html>Not found</html>").expect("written");
    let empty = folder.path().join("empty.safetensors");
    std::fs::write(&empty, "").expect("written");
    for (file, why) in [
        (checkpoint("refused_single.pth"), "a single tensor"),
        (checkpoint("refused_torchscript.pth"), ""),
        (folder.path().join("missing.pth"), ""),
        (folder.path().to_path_buf(), ""),
        (page, "an HTML page"),
        (empty, "the file is empty"),
    ] {
        let ended = inspect(&file);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{}", file.display());
        assert!(ended.stderr.starts_with(&format!("error: {}: ", file.display())), "{}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
    assert_eq!(nunatak(["inspect"]).code, 2);
    assert_eq!(nunatak(["inspect", "a", "b"]).code, 2);
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.safetensors");
    let tensor = TensorOut { name: "a\x1b[2Jb", shape: &[1], data: Data::F32(&[1.0]) };
    write_safetensors(&path, &[tensor], &BTreeMap::from([("k\x07".into(), "v\x1b]0;x".into())])).expect("written");
    let ended = inspect(&path);
    assert_eq!(ended.code, 0);
    assert!(ended.stdout.contains("a\\u{1b}[2Jb") && ended.stdout.contains("metadata k\\u{7}: v\\u{1b}]0;x"), "{}", ended.stdout);
    assert!(!ended.stdout.contains(['\x1b', '\x07']));
}
