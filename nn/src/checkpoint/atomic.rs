//! Writing a file so that at every moment either the old or the new one stands there.
//!
//! A temporary file in the same folder (so that the rename stays on one file system), its bytes
//! flushed to the disk, the rename, and the folder's entry flushed in turn: a crash after the
//! return finds the new file, a crash before it the old. On any error the temporary is removed.

#![forbid(unsafe_code)]

use super::error::WriteError;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Replaces the file at `path` by what `write` writes.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> Result<(), WriteError> {
    // A link keeps pointing where it did: its target is what is replaced.
    let target = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => fs::canonicalize(path).map_err(|e| WriteError::io(path, "following the link", e))?,
        _ => path.to_path_buf(),
    };
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let fail = |doing| move |e| WriteError::io(path, doing, e);
    if target.file_name().is_none() || target.is_dir() {
        return Err(fail("opening")(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder")));
    }
    // A rename would put a file in the place of a device or a pipe.
    if target.exists() && !target.is_file() {
        return Err(fail("opening")(io::Error::new(io::ErrorKind::InvalidInput, "it is a device or a pipe, not a file")));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".nunatak-").suffix(".tmp");
    // Without this the model would be readable by its owner only; the umask still applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(folder).map_err(fail("making a temporary file beside it"))?;
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
    File::open(folder).and_then(|f| f.sync_all()).map_err(fail("flushing its folder to the disk"))?;
    Ok(())
}
