//! Files mapped into memory: the one call of memmap2.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

/// A file whose bytes are read from the disk when they are looked at, and which takes no memory of
/// the process that the system could not take back. They begin at a page, so weights can be used in
/// place.
///
/// **The file must stay as it is while it is mapped.** Who cuts it short ends the program with a
/// signal; who writes into it changes the weights. Nunatak itself only ever replaces files by new
/// ones, which leaves a mapped one alone; a shared lock keeps away programs that ask for locks.
#[derive(Debug)]
pub struct Mapped {
    map: memmap2::Mmap,
    /// Kept for its lock.
    _file: File,
}

impl Mapped {
    /// Maps a file for reading.
    ///
    /// # Errors
    /// What the system says; a folder, a device or a pipe is refused.
    pub fn open(path: &Path) -> io::Result<Mapped> {
        // Looked at before it is opened: to open a pipe is to wait for a writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
        }
        let file = File::open(path)?;
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "another program has locked it for writing"));
            }
            // A file system without locks.
            Err(std::fs::TryLockError::Error(_)) => {}
        }
        // SAFETY: the map is only read, and as bytes or floats, of which every pattern is a value. That
        // nobody else writes to the file is the caller's promise, stated above: no program can keep
        // others from it.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Mapped { map, _file: file })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}
