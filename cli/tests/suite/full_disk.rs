//! A disk that is full, or broken, at any write: an error that names the file and the cause, nothing lost, nothing left.

use crate::faults::{Struck, files, injector, struck, whole};
use crate::running::Place;
use nunatak_nn::files::{Checkpoint, Data, TensorOut, write_safetensors};
use std::path::{Path, PathBuf};

/// A fault: the calls that it strikes, which, and what the system says of it.
const FAULTS: [[&str; 3]; 3] = [
    // It stays full, but a file can be removed.
    ["grow", "ENOSPC+", "No space left on device"],
    ["change", "EIO", "Input/output error"],
    // What a system does with a disk that it does not trust any more: nothing can be removed either.
    ["change", "EROFS+", "Read-only file system"],
];

/// A command that writes files.
struct Case {
    words: String,
    /// The files that it writes, by which an error names them.
    names: &'static [&'static str],
    /// Files that it may have removed before it failed.
    removes: &'static [&'static str],
}

impl Case {
    fn new(words: impl Into<String>, names: &'static [&'static str]) -> Case {
        Case { words: words.into(), names, removes: &[] }
    }
}

/// The contents of a file in a listing.
fn of<'l>(list: &'l [(PathBuf, Vec<u8>)], name: &Path) -> Option<&'l Vec<u8>> {
    list.iter().find(|(path, _)| path == name).map(|(_, bytes)| bytes)
}

/// Whether a listing has this file with these contents.
fn has(list: &[(PathBuf, Vec<u8>)], name: &Path, bytes: &[u8]) -> bool {
    list.iter().any(|(path, other)| path == name && other == bytes)
}

/// Tries a command with a fault at every moment. What it does when nothing fails must be done already, by the same words or
/// others: `before` is the state of the folder that it begins from, `after` what it makes of it.
fn try_all(place: &Place, case: &Case) {
    let Some(injector) = injector() else { return };
    let root = place.dir.path();
    let before = files(root);
    let (mut tried, mut after) = (0, before.clone());
    for [calls, fault, cause] in FAULTS.into_iter().take(if whole() { 3 } else { 1 }) {
        restore(root, &before);
        let clean = struck(injector, place, calls, 0, fault, &case.words);
        assert_eq!(clean.run.code, Some(0), "{}: {}", case.words, clean.run.err);
        assert!(!clean.calls.is_empty());
        after.extend(files(root));
        for n in clean.moments() {
            restore(root, &before);
            let struck = struck(injector, place, calls, n, fault, &case.words);
            if struck.at.is_some() {
                judge(case, &struck, cause, [&before, &files(root), &after]);
                tried += 1;
            }
        }
    }
    restore(root, &before);
    eprintln!("{}: {tried} faults", case.words);
}

/// Makes of a folder what it was.
fn restore(root: &Path, list: &[(PathBuf, Vec<u8>)]) {
    for (path, bytes) in files(root) {
        if of(list, &path) != Some(&bytes) {
            std::fs::remove_file(root.join(&path)).unwrap();
        }
    }
    remove_empty(root);
    for (path, bytes) in list {
        if !root.join(path).exists() {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), bytes).unwrap();
        }
    }
}

/// Removes folders in which nothing is.
fn remove_empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        remove_empty(&entry.path());
        // One that has something stays.
        let _ = std::fs::remove_dir(entry.path());
    }
}

/// Whether a file is whole: for those that differ from run to run, or have several states on the way.
fn is_whole(path: &Path, bytes: &[u8]) -> bool {
    let text = || std::str::from_utf8(bytes).unwrap_or_default();
    match path.extension().and_then(|end| end.to_str()).unwrap_or_default() {
        "safetensors" | "last" | "pth" | "nunatak" => Checkpoint::parse(bytes).is_ok(),
        "html" => text().trim_end().ends_with("</html>"),
        // A line is one write: the last may be cut where the disk was full.
        "jsonl" => text().lines().rev().skip(1).all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        _ => false,
    }
}

/// What must hold after a fault.
fn judge(case: &Case, struck: &Struck, cause: &str, [before, now, after]: [&Vec<(PathBuf, Vec<u8>)>; 3]) {
    let (run, what) = (&struck.run, format!("{} at {}: {}", case.words, struck.call(), struck.run.err));
    let (call, at) = &struck.calls[struck.at.unwrap()];
    // What can't be removed is still there, and that alone; what was to be written is.
    let (removing, frozen) = (call.starts_with("unlink"), cause.starts_with("Read-only"));
    if !removing || frozen && run.code != Some(0) {
        assert_eq!(run.code, Some(1), "{what}");
        assert!(run.err.contains(cause), "no cause: {what}");
        assert!(case.names.iter().any(|name| run.err.contains(name)), "no name: {what}");
    }
    // What an error says of the one file is true.
    if let [name] = case.names
        && run.err.contains("unchanged")
    {
        assert!(of(now, Path::new(name)) == of(before, Path::new(name)), "not unchanged: {what}");
    }
    for (path, bytes) in now {
        let name = path.to_string_lossy();
        let is_known = has(before, path, bytes) || has(after, path, bytes);
        let is_passing = name.ends_with(".tmp") || name.ends_with(".lock");
        let stuck = is_passing && (frozen || removing && at.ends_with(path));
        assert!(is_known || stuck || is_whole(path, bytes), "{name} is torn: {what}");
        assert!(!is_passing || stuck, "{name} is left: {what}");
    }
    for (path, _) in before {
        let gone = of(now, path).is_none();
        assert!(!gone || case.removes.iter().any(|name| path.ends_with(name)), "{} is gone: {what}", path.display());
    }
}

/// A folder with a model, other weights, and a batch for `step`.
fn place() -> Place {
    let place = Place::new();
    place.weights("other.safetensors", 3, None);
    place.ok(&place.tune("m.safetensors", "--epochs 1 --no-report"));
    place.ok("convert weights.safetensors base.nunatak");
    let data = vec![0.5; 2 * 3 * 32 * 32];
    let input = TensorOut { name: "input", shape: &[2, 3, 32, 32], data: Data::F32(&data) };
    let labels = TensorOut { name: "labels", shape: &[2], data: Data::I64(&[3, 1]) };
    write_safetensors(&place.path("batch.safetensors"), &[input, labels], &Default::default()).unwrap();
    place
}

/// Each of these over a file of an earlier call.
#[test]
fn one_file_of_a_command() {
    let place = place();
    let step = "step --arch resnet8 --input batch.safetensors --loss cross-entropy --threads 1";
    let cases = [
        ("convert weights.safetensors c.safetensors", "convert other.safetensors c.safetensors", &["c.safetensors"][..]),
        ("convert weights.safetensors c.pth", "convert other.safetensors c.pth", &["c.pth"]),
        ("convert weights.safetensors c.nunatak", "convert other.safetensors c.nunatak", &["c.nunatak"]),
        ("plan --arch resnet8 --out p.program", "plan --arch resnet8 --classes 3 --out p.program", &["p.program"]),
        ("predict m.safetensors data/val/red/0.png --report p.html", "predict m.safetensors data/val --report p.html", &["p.html"]),
        ("evaluate m.safetensors data/val --report e.html", "evaluate m.safetensors data/val --report e.html", &["e.html"]),
        (&format!("{step} --out s.safetensors"), &format!("{step} --classes 3 --out s.safetensors"), &["s.safetensors"]),
    ];
    for (words, earlier, names) in cases {
        place.run(earlier);
        if whole() || !words.starts_with("evaluate") {
            try_all(&place, &Case::new(words, names));
        }
    }
}

/// Commands that write into a folder, some of which they make.
#[test]
fn folders_of_a_command() {
    let place = place();
    let export = "export --arch resnet8 --classes 3 --batch 1 --size 16 --target m7 --region ram=2M --out board";
    try_all(&place, &Case::new("man pages/man1", &["pages"]));
    try_all(&place, &Case::new("explain m.safetensors data/val/red/0.png --out maps --report maps.html", &["maps"]));
    if whole() {
        try_all(&place, &Case::new(export, &["board"]));
        place.ok(&export.replace("classes 3", "classes 4"));
        try_all(&place, &Case::new(export, &["board"]));
    }
}

/// A run that begins, one that goes on, and one in the place of another.
#[test]
fn every_file_of_a_run() {
    let place = place();
    let names = &["r.safetensors", "r.pth", "r.nunatak", "log.jsonl", "can't be locked"];
    let tune = |out: &str, more: &str| place.tune(out, &format!("--epochs 1 --log log.jsonl {more}"));
    try_all(&place, &Case::new(tune("r.safetensors", ""), names));
    place.ok(&tune("r.safetensors", "--stop-after 2"));
    try_all(&place, &Case::new("finetune data --resume --out r.safetensors --threads 1 --log log.jsonl", names));
    if whole() {
        let removes = &["r.safetensors.last", "r.safetensors.report.html"];
        let overwriting = tune("r.safetensors", "--overwrite --lr 0.02 --epochs 2 --save-every 3");
        try_all(&place, &Case { removes, ..Case::new(overwriting, names) });
        try_all(
            &place,
            &Case::new(tune("r.pth", "--ema 0.9").replace("log.jsonl", "pth.jsonl"), &["r.pth", "pth.jsonl", "can't be locked"]),
        );
        let delta = tune("r.nunatak", "--in-place --delta").replace("weights.safetensors", "base.nunatak").replace("log.jsonl", "d.jsonl");
        try_all(&place, &Case::new(delta, &["r.nunatak", "d.jsonl", "can't be locked"]));
    }
}
