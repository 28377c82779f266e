//! The files of a run: which it writes, which it reads, and that none of them is lost.

use super::Args;
use super::log::is_table;
use crate::about::sidecar;
use crate::failure::Failure;
use crate::lock::Lock;
use crate::model::{OutFormat, beside, check_writable};
use crate::paths::{Named, refuse_same};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where the newest state lies.
pub(super) fn last_path(out: &Path) -> PathBuf {
    beside(out, ".last")
}

/// Where the options of a run lie.
pub(super) fn config_path(out: &Path) -> PathBuf {
    beside(out, ".toml")
}

/// Where the page that shows a run lies.
pub(super) fn report_path(out: &Path) -> PathBuf {
    beside(out, ".report.html")
}

/// What a run leaves.
fn left(args: &Args) -> Result<Vec<Named>, Failure> {
    let mut files = vec![("--out", args.out.clone()), ("the state beside --out", last_path(&args.out))];
    files.push(("the options beside --out", config_path(&args.out)));
    if !args.no_report {
        files.push(("the report beside --out", report_path(&args.out)));
    }
    if OutFormat::of(&args.out)? == OutFormat::Pth {
        files.push(("what lies beside --out", sidecar(&args.out)));
    }
    files.extend(args.log.clone().map(|path| ("--log", path)));
    Ok(files)
}

/// What a run reads.
fn read(args: &Args) -> Vec<Named> {
    let weights = args.weights.iter().filter(|_| !args.resume || args.in_place);
    let beside_weights = weights.clone().map(|path| ("what lies beside --weights", sidecar(path)));
    let arch = args.reading.arch.iter().map(|arch| ("--arch", PathBuf::from(arch))).filter(|(_, path)| path.is_file());
    let config = args.config.iter().filter(|_| !args.overwrite).map(|path| ("--config", path.clone()));
    weights.map(|path| ("--weights", path.clone())).chain(beside_weights).chain(arch).chain(config).collect()
}

/// Refuses names that would have one file written over another, a log in the place of something that is no log,
/// and places where nothing can be written.
///
/// # Errors
/// [`Failure`] that names the file.
pub(super) fn check(args: &Args) -> Result<(), Failure> {
    let mut written = left(args)?;
    written.push(("the lock of --out", Lock::path_of(&args.out)));
    refuse_same(&written, &read(args))?;
    for (what, path) in left(args)? {
        if what != "--log" {
            check_writable(&path)?;
        }
    }
    args.log.as_deref().map_or(Ok(()), check_log)
}

/// A log is never put in the place of something else.
fn check_log(log: &Path) -> Result<(), Failure> {
    if !log.is_file() {
        return Ok(()); // new, or a pipe or terminal that somebody reads
    }
    let begins = if is_table(log) { "epoch,train_loss," } else { "{" };
    let mut first = Vec::new();
    let read = std::fs::File::open(log).and_then(|f| f.take(begins.len() as u64).read_to_end(&mut first));
    match read {
        Ok(1..) if first != begins.as_bytes() => Err(Failure::with(
            log.display(),
            format_args!("is there and is no log (a log begins with `{begins}`); give --log another name"),
        )),
        _ => Ok(()),
    }
}

/// Refuses to begin a run in the place of an earlier one, unless that is asked for.
///
/// # Errors
/// [`Failure`] that names the file that is there.
pub(super) fn check_free(args: &Args) -> Result<(), Failure> {
    if args.resume || args.overwrite {
        return Ok(());
    }
    let there = left(args)?.into_iter().find(|(_, path)| path.is_file());
    let Some((what, path)) = there else { return Ok(()) };
    let resume = if last_path(&args.out).is_file() { ", go on with that run by --resume" } else { "" };
    let other = if what == "--log" { "--log" } else { "--out" };
    Err(Failure::with(
        path.display(),
        format_args!("is there, of an earlier run; nothing was started: give {other} another name{resume}, or replace it by --overwrite"),
    ))
}
