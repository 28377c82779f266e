//! Running the program with faults of the system: a call that fails, or a kill, at a chosen moment.
//!
//! `tests/c/faults.c` catches the calls below every library. How much is tried is for the environment to say: everything
//! with `NUNATAK_FAULTS=all` (`tests/faults.sh`), else the first call of each kind on each file.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use crate::running::{Place, Run};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Whether everything is tried.
pub fn whole() -> bool {
    std::env::var("NUNATAK_FAULTS").is_ok_and(|words| words == "all")
}

/// Compiles a file of `tests/c`; nothing where there is no compiler.
pub fn compiled(source: &str, flags: &[&str]) -> Option<PathBuf> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(source);
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(source.replace(".c", &format!("-{}", std::process::id())));
    let mut compiler = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
    compiler.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1"]).arg(from).arg("-o").arg(&to).args(flags);
    match compiler.output() {
        Ok(done) => assert!(done.status.success(), "{source}: {}", String::from_utf8_lossy(&done.stderr)),
        Err(e) => {
            eprintln!("SKIPPED: {source} needs a C compiler: {e}");
            return None;
        }
    }
    Some(to)
}

/// The program that makes calls fail, once for all tests; nothing, with a word, where it can't be had or may not watch
/// others.
pub fn injector() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        eprintln!("SKIPPED: faults of system calls: for Linux on x86-64 alone");
        return None;
    }
    let program = compiled("faults.c", &[])?;
    let folder = tempfile::tempdir().unwrap();
    let tried = Command::new(&program).args(["write", "0", "EIO", "/"]).arg(folder.path().join("record")).arg("/bin/true").output();
    let tried = tried.unwrap();
    if !tried.status.success() {
        eprintln!("SKIPPED: faults of system calls: {}", String::from_utf8_lossy(&tried.stderr).trim());
        return None;
    }
    Some(program)
}

/// A run with a fault.
pub struct Struck {
    pub run: Run,
    /// The calls that were counted, with the real path of their file.
    pub calls: Vec<(String, PathBuf)>,
    /// Which of them was the first that was touched.
    pub at: Option<usize>,
}

impl Struck {
    /// The numbers, from 1, of the calls that are tried: each, or the first of its kind on its file.
    pub fn moments(&self) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        let first = |(call, path): &(String, PathBuf)| {
            // Temporary files have names that nobody knows before.
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            seen.insert((call.clone(), if name.ends_with(".tmp") { "temporary".into() } else { name }))
        };
        let firsts: Vec<bool> = self.calls.iter().map(first).collect();
        (1..=self.calls.len()).filter(|n| whole() || firsts[n - 1]).collect()
    }

    /// The call that was touched, for people.
    pub fn call(&self) -> String {
        let (call, path) = &self.calls[self.at.unwrap()];
        format!("{call} {}", path.display())
    }
}

/// Runs the program with these words in the place's folder; call number `n` of this kind on files there gets `action`.
pub fn struck(injector: &Path, place: &Place, kind: &str, n: usize, action: &str, words: &str) -> Struck {
    let own = tempfile::tempdir().unwrap();
    let record = own.path().join("record");
    let real = place.dir.path().canonicalize().unwrap();
    let mut command = Command::new(injector);
    command.args([kind, &n.to_string(), action]).arg(&real).arg(&record).arg(env!("CARGO_BIN_EXE_nunatak"));
    let run = Run::of(command.args(words.split_whitespace()).current_dir(&real).env_remove("NUNATAK_LEVEL").output().unwrap());
    assert_ne!(run.code, Some(125), "{}", run.err);
    assert_ne!(run.code, Some(101), "{words}: {}", run.err);
    let text = std::fs::read_to_string(record).unwrap();
    let at = text.lines().position(|line| line.starts_with('!'));
    let call = |line: &str| line.trim_start_matches('!').split_once(' ').map(|(call, path)| (call.into(), path.into()));
    Struck { run, calls: text.lines().filter_map(call).collect(), at }
}

/// What lies in a folder and below, by its name there.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut all, mut due) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(next) = due.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            if entry.path().is_dir() {
                due.push(entry.path());
            } else {
                all.push((entry.path().strip_prefix(folder).unwrap().to_path_buf(), std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    all.sort();
    all
}
