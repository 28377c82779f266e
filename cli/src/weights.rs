//! Weights files: reading one whole, with errors that name it.

use crate::block;
use crate::failure::Failure;
use crate::model::ModelFile;
use crate::setup::Asked;
use memmap2::MmapMut;
use nunatak_nn::files::native::NativeErrorKind;
use nunatak_nn::files::save::Save;
use nunatak_nn::files::state::Loaded;
use nunatak_nn::files::{Checkpoint, Entry, Head, Mapped};
use nunatak_nn::{Level, Native, Threads, Trainer};
use std::path::{Path, PathBuf};

/// A native file, mapped into memory, so that its weights can be used where they lie.
#[derive(Debug)]
pub struct Backbone {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mapped),
    /// Made of a file of another format.
    Made(MmapMut),
}

impl Backbone {
    /// Maps a file.
    ///
    /// # Errors
    /// [`Failure`] that names it.
    pub fn open(path: &Path) -> Result<Backbone, Failure> {
        let map = Mapped::open(path).map_err(|e| Failure::with(path.display(), format_args!("can't be mapped: {e}")))?;
        Ok(Backbone { path: path.to_owned(), bytes: Bytes::Mapped(map) })
    }

    /// Maps a file, or makes a native one in memory of a file of another format.
    ///
    /// # Errors
    /// [`Failure`] that names it.
    pub fn open_any(path: &Path) -> Result<Backbone, Failure> {
        let file = Backbone::open(path)?;
        if !matches!(Native::parse(file.bytes()), Err(e) if e.kind == NativeErrorKind::NotNative) {
            return Ok(file);
        }
        drop(file);
        let file = ModelFile::open(path, None, false)?;
        let model = file.parse(Asked::default())?;
        let mut trainer = Trainer::owning(model.network.program()?, Level::detect(), Threads::serial())?;
        model.load(&mut trainer, Head::Load)?;
        let saving = trainer.saving(Save::Network, &[])?;
        let mut made = block::reserve(saving.len())?;
        saving.write_to(&mut made[..saving.len()])?;
        Ok(Backbone { path: path.to_owned(), bytes: Bytes::Made(made) })
    }

    /// The native file in it; its data are not looked at.
    ///
    /// # Errors
    /// [`Failure`] that names the file and what is wrong.
    pub fn native(&self) -> Result<Native<'_>, Failure> {
        Native::parse(self.bytes()).map_err(|e| Failure::with(self.path.display(), e))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map.bytes(),
            Bytes::Made(made) => made,
        }
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
