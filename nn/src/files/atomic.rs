//! Writing a file so that at every moment either the old or the new one stands there.
//!
//! A temporary file in the same folder (so that the rename stays on one file system), its bytes
//! flushed to the disk, the rename, and the folder's entry flushed in turn: a crash after the
//! return finds the new file, a crash before it the old. On any error the temporary is removed.
//!
//! Who is killed while it writes leaves its temporary file behind. The writer holds a lock on it as long as
//! it lives, so [`sweep`] can tell a file that nobody writes any more from one that is being written.

#![forbid(unsafe_code)]

use super::error::WriteError;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// How the names of temporary files begin and end.
const NAME: [&str; 2] = [".nunatak-", ".tmp"];

/// Replaces the file at `path` by what `write` writes.
///
/// # Errors
/// [`WriteError::Io`] with what the system refused, or where `path` is a folder, a device or a pipe. What stood
/// there is then unchanged, unless the error says that the new file is there.
pub fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<(), WriteError> {
    let (target, folder) = place(path)?;
    let fail = |doing| move |e| WriteError::io(path, doing, e);
    let temporary = temporary(&folder).map_err(fail("making a temporary file beside it"))?;
    if let Ok(old) = fs::metadata(&target) {
        temporary.as_file().set_permissions(old.permissions()).map_err(fail("keeping its permissions"))?;
    }
    let mut out = BufWriter::with_capacity(1 << 16, temporary.as_file());
    write(&mut out).and_then(|()| out.flush()).map_err(fail("writing"))?;
    drop(out);
    temporary.as_file().sync_all().map_err(fail("flushing to the disk"))?;
    temporary.persist(&target).map_err(|e| WriteError::io(path, "renaming over it", e.error))?;
    // Folders can be opened and flushed on Unix only; elsewhere the rename is flushed by the system.
    #[cfg(unix)]
    File::open(&folder).and_then(|f| f.sync_all()).map_err(|source| WriteError::Io {
        path: path.to_path_buf(),
        doing: "flushing its folder to the disk",
        source,
        replaced: true,
    })?;
    Ok(())
}

/// Finds out whether [`replace`] could write a file at `path`, before there is anything to write.
///
/// # Errors
/// As for [`replace`].
pub fn check(path: &Path) -> Result<(), WriteError> {
    let (_, folder) = place(path)?;
    temporary(&folder).map(drop).map_err(|e| WriteError::io(path, "making a temporary file beside it", e))
}

/// Removes the temporary files in `folder` whose writers were killed; says how many. What can't be listed,
/// opened or removed stays.
pub fn sweep(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let ours = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.starts_with(NAME[0]) && name.ends_with(NAME[1]));
    let left = |path: &Path| {
        // A link is not followed, and a pipe is not waited for.
        fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
            && File::open(path).is_ok_and(|file| file.try_lock().is_ok() && fs::remove_file(path).is_ok())
    };
    entries.flatten().filter(|entry| ours(&entry.file_name()) && left(&entry.path())).count()
}

/// The file that is replaced, and its folder.
fn place(path: &Path) -> Result<(PathBuf, PathBuf), WriteError> {
    let fail = |doing| move |e| WriteError::io(path, doing, e);
    // A link keeps pointing where it did: its target is what is replaced.
    let target = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => fs::canonicalize(path).map_err(fail("following the link"))?,
        _ => path.to_path_buf(),
    };
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    if target.file_name().is_none() || target.is_dir() {
        return Err(fail("opening")(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder")));
    }
    // A rename would put a file in the place of a device or a pipe.
    if target.exists() && !target.is_file() {
        return Err(fail("opening")(io::Error::new(io::ErrorKind::InvalidInput, "it is a device or a pipe, not a file")));
    }
    Ok((target, folder))
}

/// A new temporary file, locked for as long as it is open.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(NAME[0]).suffix(NAME[1]);
    // Without this the model would be readable by its owner only; the umask still applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    loop {
        let file = builder.tempfile_in(folder)?;
        // Shared, so that whoever maps the finished file before this writer has closed it is not refused. A file
        // system without locks has no sweep either.
        let locked = file.as_file().lock_shared().is_ok();
        // A sweep may have come between making and locking.
        if !locked || file.path().exists() {
            return Ok(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_writes_any_more_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in [".nunatak-a.tmp", ".nunatak-b.tmp", "mine.tmp", ".nunatak-c"] {
            fs::write(path(name), "half").expect("written");
        }
        fs::create_dir(path(".nunatak-d.tmp")).expect("made");
        let written = temporary(folder.path()).expect("made");
        assert_eq!(sweep(folder.path()), 2);
        assert!(written.path().exists() && path("mine.tmp").exists() && path(".nunatak-c").exists() && path(".nunatak-d.tmp").exists());
        drop(written);
        assert_eq!(sweep(folder.path()), 0);
        replace(&path("new"), |out| out.write_all(b"whole")).expect("written");
        assert_eq!(fs::read(path("new")).expect("read"), b"whole");
        assert!(check(&path("new")).is_ok() && check(folder.path()).is_err() && check(&path("none/new")).is_err());
    }
}
