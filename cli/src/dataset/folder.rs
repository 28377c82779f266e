//! Folders of images, one folder per class, as `torchvision.datasets.ImageFolder` reads them.
//!
//! Either `DIR/train/CLASS/…` and `DIR/val/CLASS/…`, or `DIR/CLASS/…`, of which a part is
//! then put aside for validation. Classes are numbered in the order of their names, files
//! ordered by folder and name, so that a sample has the index it has in PyTorch.
//!
//! Unlike torchvision this leaves out whatever begins with a dot (`.ipynb_checkpoints` is
//! nobody's class) and enters a folder once only, so that links can't lead in circles.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nunatak_core::rng::Generator;

/// The endings of image files, in any case: torchvision's list.
pub const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];

/// One image and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where the file lies.
    pub path: PathBuf,
    /// Its class, an index into [`ImageFolder::classes`].
    pub label: usize,
}

/// How a folder without `train/` and `val/` is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitOptions {
    /// The same seed puts the same files aside.
    pub seed: u64,
    /// The part of every class that is put aside, at least 0 and below 1.
    pub val_fraction: f64,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { seed: 0, val_fraction: 0.2 }
    }
}

/// The images of a folder, by class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFolder {
    /// The names of the classes, sorted; a label is an index into them.
    pub classes: Vec<String>,
    /// The samples to train on, sorted by class, folder and name.
    pub train: Vec<Sample>,
    /// The samples to measure with, likewise.
    pub val: Vec<Sample>,
}

/// Why a folder can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderError {
    /// The folder or file that it is about.
    pub path: PathBuf,
    /// What is wrong with it and what to do.
    pub reason: String,
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quoted, because a file name may hold line ends and terminal commands.
        write!(f, "{:?}: {}", self.path, self.reason)
    }
}

impl std::error::Error for FolderError {}

fn error<T>(path: &Path, reason: impl Into<String>) -> Result<T, FolderError> {
    Err(FolderError { path: path.to_owned(), reason: reason.into() })
}

impl ImageFolder {
    /// Opens `dir`: its `train/` and `val/` if it has both, else its class folders, with
    /// `options.val_fraction` of each class put aside (at least one image and at most all
    /// but one, of a class that has two or more).
    pub fn open(dir: &Path, options: &SplitOptions) -> Result<Self, FolderError> {
        let (train, val) = (dir.join("train"), dir.join("val"));
        match (train.is_dir(), val.is_dir()) {
            (true, true) => Self::of_parts(&train, &val),
            (true, false) => Self::half(dir, &train, "val", options),
            (false, true) => Self::half(dir, &val, "train", options),
            (false, false) => Self::divided(dir, options),
        }
    }

    /// Opens the class folders of `dir` without dividing them: all images are in `val`,
    /// `train` is empty.
    pub fn flat(dir: &Path) -> Result<Self, FolderError> {
        if dir.join("train").is_dir() && dir.join("val").is_dir() {
            return error(
                dir,
                "has the parts train/ and val/, but a folder of classes was \
                 expected; name one of the parts",
            );
        }
        let (classes, val) = scan(dir)?;
        Ok(Self { classes, train: Vec::new(), val })
    }

    fn of_parts(train_dir: &Path, val_dir: &Path) -> Result<Self, FolderError> {
        let (classes, train) = scan(train_dir)?;
        let (others, val) = scan(val_dir)?;
        let missing = difference(&classes, &others);
        let extra = difference(&others, &classes);
        if !missing.is_empty() || !extra.is_empty() {
            let mut reason = String::from("must have the classes of train/");
            if !missing.is_empty() {
                reason += &format!("; it lacks {}", list(&missing));
            }
            if !extra.is_empty() {
                reason += &format!("; only here: {}", list(&extra));
            }
            return error(val_dir, reason);
        }
        Ok(Self { classes, train, val })
    }

    /// Only one of the parts is there: the other was forgotten, unless it is a class that
    /// happens to be called "train", beside "bus" and "car".
    fn half(dir: &Path, part: &Path, other: &str, options: &SplitOptions) -> Result<Self, FolderError> {
        let aside = ["test", "valid", "validation"];
        let folders = class_folders(dir)?;
        let alone = folders.iter().all(|(name, path)| path == part || aside.contains(&name.as_str()));
        if alone {
            return error(
                dir,
                format!(
                    "has {part:?} but no {other}/; add it, or name {part:?} itself to have \
                     a part of it put aside for validation"
                ),
            );
        }
        Self::divided(dir, options)
    }

    fn divided(dir: &Path, options: &SplitOptions) -> Result<Self, FolderError> {
        let fraction = options.val_fraction;
        if !(0.0..1.0).contains(&fraction) {
            return error(
                dir,
                format!(
                    "can't put the fraction {fraction} aside for validation; \
                     it must be at least 0 and below 1"
                ),
            );
        }
        let (classes, samples) = scan(dir)?;
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for one_class in samples.chunk_by(|a, b| a.label == b.label) {
            let n = one_class.len();
            let name = &classes[one_class[0].label];
            let aside = set_aside(n, fraction, options.seed, name, one_class)?;
            for (sample, aside) in one_class.iter().zip(aside) {
                if aside { &mut val } else { &mut train }.push(sample.clone());
            }
        }
        Ok(Self { classes, train, val })
    }
}

/// Which of a class's images are put aside. Seeded by the class's name too, so that a new
/// class leaves the division of the others as it was.
fn set_aside(n: usize, fraction: f64, seed: u64, class: &str, samples: &[Sample]) -> Result<Vec<bool>, FolderError> {
    let mut aside = vec![false; n];
    if n < 2 || fraction == 0.0 {
        return Ok(aside);
    }
    if u32::try_from(n).is_err() {
        return error(&samples[0].path, format!("class of {n} images; 2^32 at most"));
    }
    let wanted = ((n as f64 * fraction).round() as usize).clamp(1, n - 1);
    let mut order = vec![0; n];
    // FNV-1a: any fixed hash would do, but it must stay the same for ever.
    let hash = class.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    let mixed = super::loader::mix(seed ^ hash);
    Generator::manual_seed(mixed).permutation(&mut order);
    for &i in &order[..wanted] {
        aside[i as usize] = true;
    }
    Ok(aside)
}

fn difference<'a>(of: &'a [String], without: &[String]) -> Vec<&'a str> {
    let without: HashSet<&String> = without.iter().collect();
    of.iter().filter(|name| !without.contains(name)).map(String::as_str).collect()
}

/// Names in quotes, and no more of them than one wants to read.
fn list(names: &[&str]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    let mut text = shown.join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}

/// The classes of a folder and all their images.
fn scan(dir: &Path) -> Result<(Vec<String>, Vec<Sample>), FolderError> {
    let folders = class_folders(dir)?;
    if folders.is_empty() {
        let loose = entries(dir)?.iter().filter(|e| is_image(e)).count();
        let hint = match loose {
            0 => "it must hold one folder of images per class".to_owned(),
            n => format!("the {n} images directly in it must lie in one folder per class"),
        };
        return error(dir, format!("has no class folder; {hint}"));
    }
    let (mut classes, mut samples, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for (label, (name, path)) in folders.into_iter().enumerate() {
        let before = samples.len();
        let files = images_below(&path)?;
        samples.extend(files.into_iter().map(|path| Sample { path, label }));
        if samples.len() == before {
            empty.push(name.clone());
        }
        classes.push(name);
    }
    if !empty.is_empty() {
        let names: Vec<&str> = empty.iter().map(String::as_str).collect();
        return error(
            dir,
            format!("no image in the class {}; images end in .{}; add some or remove the folder", list(&names), EXTENSIONS.join(" .")),
        );
    }
    Ok((classes, samples))
}

/// The class folders of `dir`, sorted by name.
fn class_folders(dir: &Path) -> Result<Vec<(String, PathBuf)>, FolderError> {
    let mut folders = Vec::new();
    for entry in entries(dir)? {
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

struct Entry {
    path: PathBuf,
    folder: bool,
    /// A file, or a link to nothing: the latter is an image that can't be read, which is
    /// for the loader to report.
    file: bool,
}

/// What lies in a folder, links followed, unsorted, without names that begin with a dot.
fn entries(dir: &Path) -> Result<Vec<Entry>, FolderError> {
    let cannot = |e: std::io::Error| FolderError { path: dir.to_owned(), reason: format!("can't be listed: {e}") };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let (folder, file) = match fs::metadata(&path) {
            Ok(meta) => (meta.is_dir(), meta.is_file()),
            Err(_) => (false, true),
        };
        found.push(Entry { path, folder, file });
    }
    Ok(found)
}

fn is_image(entry: &Entry) -> bool {
    let known = |ending: &OsStr| EXTENSIONS.iter().any(|e| ending.eq_ignore_ascii_case(e));
    entry.file && entry.path.extension().is_some_and(known)
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

/// All images in a folder and below it. A list of folders still to visit stands in for
/// recursion, so that depth costs no stack.
fn images_below(top: &Path) -> Result<Vec<PathBuf>, FolderError> {
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
        for entry in entries(&dir)? {
            if is_image(&entry) {
                images.push(entry.path);
            } else if entry.folder {
                below.push(entry.path);
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
