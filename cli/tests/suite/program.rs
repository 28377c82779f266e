//! Running the program `nunatak`.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the program ended, and what it said.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The words of the first line that has `what`, or a panic that shows everything.
    pub fn line(&self, what: &str) -> Vec<&str> {
        let line = self.stdout.lines().find(|l| l.contains(what));
        line.unwrap_or_else(|| panic!("no line has {what:?}:\n{}{}", self.stdout, self.stderr)).split_whitespace().collect()
    }
}

/// Runs the program.
pub fn nunatak<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    let out = Command::new(env!("CARGO_BIN_EXE_nunatak")).args(args).output().expect("the program starts");
    Ended {
        code: out.status.code().expect("no signal ended it"),
        stdout: String::from_utf8(out.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(out.stderr).expect("stderr is UTF-8"),
    }
}

/// A file of tests/golden/checkpoint.
pub fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/checkpoint").join(name)
}
