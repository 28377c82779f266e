//! `FILE.lock`: one run at a time writes `FILE`.
//!
//! The file holds the number of the process that has it. What keeps others away is the system's lock on it, which
//! ends with the process however that ends: a file that a killed run left is no obstacle.

use crate::failure::Failure;
use crate::model::beside;
use crate::output::say;
use crate::signals;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks at a lock that another process has.
const PAUSE: Duration = Duration::from_millis(100);

/// Held for as long as a run writes.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Kept for its lock, where the file system has locks.
    file: File,
}

impl Lock {
    /// Where the lock of `out` lies: beside the file itself, where `out` is a link to it.
    pub fn path_of(out: &Path) -> PathBuf {
        beside(&std::fs::canonicalize(out).unwrap_or_else(|_| out.to_owned()), ".lock")
    }

    /// Takes the lock of `out`.
    ///
    /// # Errors
    /// [`Failure`] that names the process that has it, or what the system refuses.
    pub fn take(out: &Path) -> Result<Lock, Failure> {
        Self::attempt(out)?.map_err(|owner| {
            let held = Self::path_of(out);
            let why = format_args!("{owner} is writing it (it holds {}); wait for it, or give --out another name", held.display());
            Failure::with(out.display(), why)
        })
    }

    /// Takes the lock of `out` as soon as nobody else has it; `told` is called once, with who that is.
    ///
    /// # Errors
    /// [`Failure`] of what the system refuses; [`Failure::Interrupted`] where a signal came.
    pub fn wait(out: &Path, told: impl FnOnce(&str)) -> Result<Lock, Failure> {
        let mut told = Some(told);
        loop {
            match Self::attempt(out)? {
                Ok(lock) => return Ok(lock),
                Err(owner) => told.take().into_iter().for_each(|told| told(&owner)),
            }
            if let Some(signal) = signals::heard() {
                return Err(Failure::Interrupted(signal));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Takes the lock of `out`, or tells who has it.
    fn attempt(out: &Path) -> Result<Result<Lock, String>, Failure> {
        let path = Self::path_of(out);
        let fail = |e: std::io::Error| Failure::with(path.display(), format_args!("can't be locked: {e}; nothing was started"));
        if path.exists() && !path.is_file() {
            return Err(Failure::with(path.display(), "is no file, so it can't be locked; nothing was started"));
        }
        loop {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut owner = String::new();
                    let _ = file.read_to_string(&mut owner);
                    return Ok(Err(owner.trim().parse::<u32>().map_or("another process".into(), |id| format!("process {id}"))));
                }
                Err(TryLockError::Error(e)) => {
                    say(format_args!("note: {} can't be locked: {e}; start no second run on it", path.display()))
                }
            }
            // Whoever had it may have removed it between opening and locking: then this is a file without a name.
            if !same_file(&file, &path) {
                continue;
            }
            // From here on it is removed again, whatever happens.
            let mut lock = Lock { path: path.clone(), file };
            let number = format!("{}\n", std::process::id());
            lock.file.set_len(0).and_then(|()| lock.file.write_all(number.as_bytes())).map_err(fail)?;
            return Ok(Ok(lock));
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before it is unlocked: nobody else has this name then.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: &std::fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), std::fs::metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

#[cfg(not(unix))]
fn same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_what_a_killed_run_left_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("m.safetensors");
        let lock = Lock::take(&out).unwrap();
        let error = Lock::take(&out).unwrap_err();
        assert!(matches!(error, Failure::Failed(text) if text.contains(&std::process::id().to_string())));
        drop(lock);
        assert!(!Lock::path_of(&out).exists());
        std::fs::write(Lock::path_of(&out), "4000000\n").unwrap();
        drop(Lock::take(&out).unwrap());
        assert!(Lock::take(&folder.path().join("none/m.safetensors")).is_err());
    }

    #[test]
    fn who_waits_gets_it_when_the_other_has_done() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("m.pth");
        let first = Lock::take(&out).unwrap();
        let (told, hears) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Lock::wait(&out, |owner| told.send(owner.to_string()).unwrap()).map(drop));
            assert_eq!(hears.recv().unwrap(), format!("process {}", std::process::id()));
            assert!(!second.is_finished());
            drop(first);
            assert!(second.join().unwrap().is_ok());
        });
        assert!(!Lock::path_of(&out).exists());
    }
}
