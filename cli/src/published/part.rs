//! A file that is being downloaded: `FILE.part`, which stays where a download breaks off, so that the next one goes on
//! from there. `FILE.part.tag` holds what the server called that version of the file (its ETag).

use super::places::Places;
use super::table::Weights;
use crate::failure::Failure;
use crate::model::{beside, human_bytes, read_at_most, replace};
use crate::output::say;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The longest tag that is kept, in bytes.
const LONGEST_TAG: usize = 1 << 10;

/// The part of a file that is there.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    tag: Option<String>,
    joined: bool,
}

impl Part {
    /// Opens what an earlier download of `target` left, or begins it.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn open(target: &Path) -> Result<Part, Failure> {
        let path = beside(target, ".part");
        let fail = |e: io::Error| Failure::with(path.display(), format_args!("can't be written: {e}; NUNATAK_CACHE names another folder"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        let len = file.seek(SeekFrom::End(0)).map_err(fail)?;
        let tag = read_at_most(&tag_path(&path), LONGEST_TAG as u64).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(Part { tag: tag.and_then(strong), path, file, len, joined: false })
    }

    /// Its bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is there yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the server called the version that this is a part of, if that tells versions apart byte by byte.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its bytes came in several answers.
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// Goes on with another answer.
    pub fn join(&mut self) {
        self.joined |= !self.is_empty();
    }

    /// Begins anew, with a version of this tag.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn begin(&mut self, tag: Option<String>) -> Result<(), Failure> {
        let fail = |e: io::Error| Failure::with(self.path.display(), format_args!("can't be emptied: {e}"));
        // A pipe or a device can't be cut; it has no length either.
        if self.len > 0 {
            self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(fail)?;
        }
        (self.len, self.tag, self.joined) = (0, tag.and_then(strong), false);
        match &self.tag {
            Some(tag) => replace(&tag_path(&self.path), tag.as_bytes()),
            None => remove(&tag_path(&self.path)),
        }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`Failure`] that names the file; where the disk is full also what to do.
    pub fn append(&mut self, bytes: &[u8], weights: &Weights) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|e| not_written(&self.path, &e, self.len, weights))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Whether the bytes that are there are the whole file.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn is_whole(&self, weights: &Weights) -> Result<bool, Failure> {
        Ok(sha256(&self.path)?.starts_with(weights.hash))
    }

    /// Gives the whole file its name.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn finish(self, target: &Path, weights: &Weights) -> Result<(), Failure> {
        self.file.sync_all().map_err(|e| not_written(&self.path, &e, self.len, weights))?;
        drop(self.file);
        fs::rename(&self.path, target)
            .map_err(|e| Failure::with(self.path.display(), format_args!("can't be renamed to {}: {e}", target.display())))?;
        // The file is whole and has its name: what fails now is for the next sweep.
        let _ = fs::remove_file(tag_path(&self.path));
        #[cfg(unix)]
        let _ = target.parent().map(|folder| File::open(folder).and_then(|folder| folder.sync_all()));
        Ok(())
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn remove(self) -> Result<(), Failure> {
        drop(self.file);
        remove(&self.path)?;
        remove(&tag_path(&self.path))
    }
}

fn tag_path(part: &Path) -> PathBuf {
    beside(part, ".tag")
}

/// A tag that can be sent back, and that the same bytes alone have: a weak one (`W/`) is not.
fn strong(tag: String) -> Option<String> {
    let quoted = tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"');
    (quoted && tag.len() <= LONGEST_TAG && tag.bytes().all(|b| b.is_ascii_graphic())).then_some(tag)
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Failure::with(path.display(), format_args!("can't be removed: {e}"))),
        _ => Ok(()),
    }
}

/// What is said where `path` can't be written.
fn not_written(path: &Path, e: &io::Error, len: u64, weights: &Weights) -> Failure {
    if !matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) {
        return Failure::with(path.display(), format_args!("can't be written: {e}"));
    }
    let left = human_bytes(weights.bytes.saturating_sub(len) as usize);
    Failure::with(
        path.display(),
        format_args!(
            "can't be written: {e}; {left} more are needed: make room, and the same command goes on from there, or name a folder on \
             another disk with NUNATAK_CACHE"
        ),
    )
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn sha256(path: &Path) -> Result<String, Failure> {
    let fail = |e: io::Error| Failure::with(path.display(), format_args!("can't be read: {e}"));
    let (mut file, mut hash, mut room) = (File::open(path).map_err(fail)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut room) {
            Ok(0) => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            Ok(n) => hash.update(&room[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(fail(e)),
        }
    }
}

/// The file of these weights, where it is on this machine already, whole: in the cache, or in another program's folder. A
/// damaged one is named on stderr, where that is to be `told`.
pub fn held(weights: &Weights, places: &Places, told: bool) -> Option<PathBuf> {
    let others = places.others.iter().map(|folder| folder.join(weights.file));
    std::iter::once(places.target(weights)).chain(others).find(|path| {
        if !path.is_file() {
            return false;
        }
        match sha256(path) {
            Ok(hash) if hash.starts_with(weights.hash) => return true,
            _ if !told => {}
            Ok(hash) => say(format_args!(
                "note: {} is not used: its SHA-256 begins with {}, expected {}",
                path.display(),
                &hash[..weights.hash.len()],
                weights.hash
            )),
            Err(failure) => say(format_args!("note: {}", failure.text())),
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard_and_tags_are_strong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        assert_eq!(sha256(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(sha256(folder.path()).is_err());
        assert_eq!(strong("\"a-1\"".into()).as_deref(), Some("\"a-1\""));
        for weak in ["", "\"", "W/\"a\"", "a", "\"a\nb\"", "\"a b\""] {
            assert_eq!(strong(weak.into()), None, "{weak:?}");
        }
        assert_eq!(strong(format!("\"{}\"", "a".repeat(LONGEST_TAG))), None);
    }

    #[test]
    fn a_part_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x.pth");
        let weights = super::super::table::TABLE[0];
        let mut part = Part::open(&target).unwrap();
        assert!(part.is_empty());
        part.begin(Some("\"t\"".into())).unwrap();
        part.append(b"ab", &weights).unwrap();
        drop(part);
        let mut part = Part::open(&target).unwrap();
        assert_eq!((part.len(), part.tag()), (2, Some("\"t\"")));
        part.append(b"c", &weights).unwrap();
        assert!(!part.is_whole(&weights).unwrap());
        assert!(part.is_whole(&Weights { hash: "ba7816bf", ..weights }).unwrap());
        part.finish(&target, &weights).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"abc");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let mut part = Part::open(&target).unwrap();
        part.append(b"ab", &weights).unwrap();
        part.begin(None).unwrap();
        assert_eq!((part.len(), part.tag()), (0, None));
        part.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
