//! Nobody reads what the program prints, or the disk behind it is full: never a panic, and an exit code that tells.
#![cfg(unix)]

use crate::faults::whole;
use crate::running::Place;
use nunatak_nn::files::{Data, TensorOut, write_safetensors};
use std::process::Command;

/// How a shell cuts the program's outputs off, and the exit codes that tell the truth of a command that prints to stdout.
const WAYS: [(&str, &[i32]); 8] = [
    // What is closed is opened on /dev/null when Rust's programs start.
    (">&-", &[0]),
    ("2>&-", &[0]),
    (">&- 2>&-", &[0]),
    (">&- 2>&- <&-", &[0]),
    (">/dev/full", &[1]),
    ("2>/dev/full", &[0]),
    (">/dev/full 2>/dev/full", &[1]),
    // The reader goes after the first line: whether something was left to be written is for the pipe to say.
    ("| head -n 1 >/dev/null", &[0, 1]),
];

/// Every command, as it succeeds.
fn commands(place: &Place) -> Vec<String> {
    place.ok(&place.tune("m.safetensors", "--epochs 1 --no-report"));
    let data = vec![0.5; 2 * 3 * 32 * 32];
    let input = TensorOut { name: "input", shape: &[2, 3, 32, 32], data: Data::F32(&data) };
    let labels = TensorOut { name: "labels", shape: &[2], data: Data::I64(&[3, 1]) };
    write_safetensors(&place.path("batch.safetensors"), &[input, labels], &Default::default()).unwrap();
    let mut all: Vec<String> = [
        "predict m.safetensors data/val",
        "predict m.safetensors data/val --json",
        "predict m.safetensors data/val --csv",
        "evaluate m.safetensors data/val",
        "evaluate m.safetensors data/val --json",
        "explain m.safetensors data/val/red --out maps --overwrite",
        "explain m.safetensors data/val/red --out maps --overwrite --json",
        "inspect m.safetensors",
        "inspect m.safetensors --json",
        "plan --arch resnet8 --batch 2 --size 32",
        "plan --arch resnet8 --batch 2 --size 32 --json",
        "measure --arch resnet8 --batch 1 --size 16 --repeat 1",
        "profile --arch resnet8 --batch 1 --size 16 --repeat 1",
        "verify --script",
        "completions bash",
        "man pages",
        "convert weights.safetensors c.pth",
        "--help",
        "--version",
        "finetune --help",
        "export --arch resnet8 --classes 3 --batch 1 --size 16 --target m7 --region ram=2M --out board",
        "lr-find data --weights weights.safetensors --size 32 --resize 32 --batch 8 --threads 1 --steps 10",
    ]
    .map(String::from)
    .into();
    all.push(place.tune("n.safetensors", "--epochs 1 --overwrite"));
    all.push(place.tune("n.safetensors", "--dry-run"));
    if whole() {
        all.push("demo".into());
    }
    all
}

/// A command that prints nothing to stdout.
const SILENT: &str = "step --arch resnet8 --input batch.safetensors --loss cross-entropy --out s.safetensors";

/// The exit code of the program in a shell that cuts its outputs off; stderr where it goes nowhere else.
fn ends(place: &Place, words: &str, way: &str) -> (i32, String) {
    // The program's own code, before the pipe.
    let line = format!("{{ \"$0\" {words}; echo $? >code; }} {way}");
    let line = if way.contains('|') { line } else { format!("\"$0\" {words} {way}; echo $? >code") };
    let mut shell = Command::new("sh");
    shell.args(["-c", &line, env!("CARGO_BIN_EXE_nunatak")]).current_dir(place.dir.path()).env_remove("NUNATAK_LEVEL");
    let out = shell.output().unwrap();
    let code = String::from_utf8(place.bytes("code")).unwrap().trim().parse().unwrap();
    (code, String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn every_command() {
    let place = Place::new();
    let all = commands(&place);
    let ways: Vec<_> = WAYS.into_iter().filter(|(way, _)| whole() || [">&- 2>&- <&-", ">/dev/full 2>/dev/full"].contains(way)).collect();
    let has_full = std::path::Path::new("/dev/full").exists();
    for (way, codes) in ways.into_iter().filter(|(way, _)| has_full || !way.contains("full")) {
        for words in &all {
            let (code, err) = ends(&place, words, way);
            assert!(codes.contains(&code) && !err.contains("panicked"), "{words} {way}: {code} {err}");
        }
        let (code, err) = ends(&place, SILENT, way);
        assert!(code == 0 && !err.contains("panicked"), "{SILENT} {way}: {code} {err}");
    }
}

/// Errors keep their code where they can't be said.
#[test]
fn every_error() {
    let place = Place::new();
    for (words, due) in [
        ("predict nothing.pth x.png", 1),
        ("evaluate nothing.pth data", 1),
        ("explain nothing.pth x.png --out maps", 1),
        ("inspect nothing.pth", 1),
        ("convert nothing.pth c.pth", 1),
        ("verify nothing.safetensors", 1),
        ("finetune data --lr -1 --weights weights.safetensors", 2),
        ("plan --arch nothing", 2),
        ("nothing", 2),
    ] {
        for way in [">&- 2>&-", ">/dev/full 2>/dev/full"] {
            assert_eq!(ends(&place, words, way).0, due, "{words} {way}");
        }
    }
}
