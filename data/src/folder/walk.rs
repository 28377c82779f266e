//! What lies in folders: class folders, images in and below them, and what is passed over.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::{EXTENSIONS, FolderError, error};

/// Folders that programs leave behind, in any case; nobody's classes.
const LEFT_BEHIND: [&str; 7] = ["__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__"];

/// What was passed over, to be told.
#[derive(Default)]
pub(super) struct Passed {
    /// Folders that programs leave behind, and hidden ones.
    folders: BTreeMap<String, usize>,
    hidden: usize,
    /// By ending: files in class folders that are no images.
    others: BTreeMap<String, usize>,
}

impl Passed {
    /// One line for each kind.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let named = |map: &BTreeMap<String, usize>, form: fn(&String, usize) -> String| {
            let mut all: Vec<String> = map.iter().take(8).map(|(name, n)| form(name, *n)).collect();
            if map.len() > 8 {
                all.push(format!("{} more", map.len() - 8));
            }
            all.join(", ")
        };
        if !self.folders.is_empty() {
            let list = named(&self.folders, |name, n| if n == 1 { format!("{name:?}") } else { format!("{name:?} ({n} times)") });
            notes.push(format!("passed over the folders {list}"));
        }
        if self.hidden > 0 {
            notes.push(format!("passed over {} hidden files (their names begin with a dot)", self.hidden));
        }
        if !self.others.is_empty() {
            let list = named(&self.others, |ending, n| format!("{n} {ending}"));
            notes.push(format!("passed over files that are no images by their names: {list}"));
        }
        notes
    }
}

pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) folder: bool,
    /// A file, or a link to nothing: the latter is an image that can't be read, which is
    /// for the loader to report.
    file: bool,
}

/// What lies in a folder, links followed, unsorted, without names that begin with a dot and folders that programs leave.
pub(super) fn entries(dir: &Path, passed: &mut Passed) -> Result<Vec<Entry>, FolderError> {
    let cannot = |e: std::io::Error| FolderError { path: dir.to_owned(), reason: format!("can't be listed: {e}") };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let path = entry.path();
        let (folder, file) = match fs::metadata(&path) {
            Ok(meta) => (meta.is_dir(), meta.is_file()),
            Err(_) => (false, true),
        };
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if hidden && !folder {
            passed.hidden += 1;
        } else if folder && (hidden || LEFT_BEHIND.iter().any(|left| name.eq_ignore_ascii_case(left))) {
            *passed.folders.entry(name.to_string_lossy().into_owned()).or_default() += 1;
        } else {
            found.push(Entry { path, folder, file });
        }
    }
    Ok(found)
}

/// Whether a file's name says that it is an image.
pub(super) fn is_named_as_image(path: &Path) -> bool {
    let known = |ending: &OsStr| EXTENSIONS.iter().any(|e| ending.eq_ignore_ascii_case(e));
    path.extension().is_some_and(known)
}

impl Entry {
    pub(super) fn is_image(&self) -> bool {
        self.file && is_named_as_image(&self.path)
    }
}

/// The folders in `dir`, sorted by name.
pub(super) fn class_folders(dir: &Path, passed: &mut Passed) -> Result<Vec<(String, PathBuf)>, FolderError> {
    let mut folders = Vec::new();
    for entry in entries(dir, passed)? {
        if !entry.folder {
            continue;
        }
        // A class name goes into reports and model files: it must be text.
        match entry.path.file_name().map(|n| n.to_str().ok_or(n)) {
            Some(Ok(name)) => folders.push((name.to_owned(), entry.path)),
            other => {
                let name = other.and_then(Result::err).unwrap_or_default();
                return error(dir, format!("the class folder {name:?} has a name that is not UTF-8; rename it"));
            }
        }
    }
    folders.sort();
    Ok(folders)
}

/// What a folder has in common with every link to it.
#[cfg(unix)]
fn identity(dir: &Path) -> std::io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(dir)?;
    Ok((meta.dev(), meta.ino()))
}

/// What a folder has in common with every link to it.
#[cfg(not(unix))]
fn identity(dir: &Path) -> std::io::Result<PathBuf> {
    fs::canonicalize(dir)
}

/// All images in a folder and below it, by folder and name. A list of folders still to visit stands in for
/// recursion, so that depth costs no stack.
///
/// # Errors
/// [`FolderError`] where a folder can't be listed.
pub fn images_below(top: &Path) -> Result<Vec<PathBuf>, FolderError> {
    images_of(top, &mut Passed::default())
}

/// [`images_below`], and what was passed over.
pub(super) fn images_of(top: &Path, passed: &mut Passed) -> Result<Vec<PathBuf>, FolderError> {
    let mut entered = HashSet::new();
    let mut waiting = vec![top.to_owned()];
    let mut images = Vec::new();
    while let Some(dir) = waiting.pop() {
        // A link back up, or two links to one folder, are seen through.
        let real = identity(&dir).or_else(|e| error(&dir, format!("can't be opened: {e}")))?;
        if !entered.insert(real) {
            continue;
        }
        let mut below = Vec::new();
        for entry in entries(&dir, passed)? {
            if entry.is_image() {
                images.push(entry.path);
            } else if entry.folder {
                below.push(entry.path);
            } else {
                let ending = entry.path.extension().map_or("without an ending".into(), |e| format!(".{}", e.to_string_lossy()));
                *passed.others.entry(ending).or_default() += 1;
            }
        }
        // Taken from the end, so that the first name is entered first whatever order the
        // file system has.
        below.sort();
        waiting.extend(below.into_iter().rev());
    }
    // torchvision sorts the folders as text and then the names within each.
    images.sort_by_cached_key(|path| {
        let bytes = |s: Option<&OsStr>| s.unwrap_or_default().as_encoded_bytes().to_vec();
        let folder = bytes(path.parent().map(Path::as_os_str));
        (folder, bytes(path.file_name()))
    });
    Ok(images)
}
