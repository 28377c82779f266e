//! Weights files: reading one whole, with errors that name it.

use crate::failure::Failure;
use nunatak_nn::files::state::Loaded;
use nunatak_nn::files::{Checkpoint, Entry, Head, Mapped};
use nunatak_nn::{Native, Trainer};
use std::path::{Path, PathBuf};

/// A native file, mapped into memory, so that its weights can be used where they lie.
#[derive(Debug)]
pub struct Backbone {
    path: PathBuf,
    map: Mapped,
}

impl Backbone {
    /// Maps a file.
    ///
    /// # Errors
    /// [`Failure`] that names it.
    pub fn open(path: &Path) -> Result<Backbone, Failure> {
        let map = Mapped::open(path).map_err(|e| Failure::with(path.display(), format_args!("can't be mapped: {e}")))?;
        Ok(Backbone { path: path.to_owned(), map })
    }

    /// The native file in it; its data are not looked at.
    ///
    /// # Errors
    /// [`Failure`] that names the file and what is wrong.
    pub fn native(&self) -> Result<Native<'_>, Failure> {
        Native::parse(self.map.bytes()).map_err(|e| Failure::with(self.path.display(), e))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }
}

/// The bytes of a file.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    crate::model::read_at_most(path, crate::model::MAX_FILE)
}

/// The checkpoint in the bytes of the file `path`: the state dict that `key` names, if one is named.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn parse<'f>(path: &Path, bytes: &'f [u8], key: Option<&str>) -> Result<Checkpoint<'f>, Failure> {
    let file = match key {
        Some(key) => Checkpoint::parse_key(bytes, key),
        None => Checkpoint::parse(bytes),
    };
    file.map_err(|e| Failure::with(path.display(), e))
}

/// Says on stderr what was assumed about a file, and what of it was left out.
pub fn remark(path: &Path, file: &Checkpoint) {
    for remark in file.remarks() {
        crate::output::say(format_args!("note: {}: {}", path.display(), crate::output::printable(remark)));
    }
}

/// Loads a checkpoint into a trainer; says on stderr where it holds numbers that are not finite.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn load(trainer: &mut Trainer, path: &Path, file: &Checkpoint, head: Head) -> Result<Loaded, Failure> {
    remark(path, file);
    let loaded = trainer.load(file, head).map_err(|e| Failure::with(path.display(), e))?;
    for (name, count) in &loaded.not_finite {
        crate::output::warn(format_args!("warning: {}: {name} holds {count} numbers that are NaN or infinite", path.display()));
    }
    Ok(loaded)
}

/// The entry of this name.
///
/// # Errors
/// [`Failure`] that names the file and what it holds.
pub fn entry<'a, 'f>(path: &Path, file: &'a Checkpoint<'f>, name: &str) -> Result<&'a Entry<'f>, Failure> {
    file.get(name).ok_or_else(|| {
        let there: Vec<_> = file.entries().iter().take(5).map(Entry::name).collect();
        Failure::with(path.display(), format_args!("there is no {name:?}; it begins with {}", there.join(", ")))
    })
}
