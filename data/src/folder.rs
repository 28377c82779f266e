//! Folders of images, one folder per class, as `torchvision.datasets.ImageFolder` reads them; and tables of files.
//!
//! | given | to train on | to validate with |
//! |---|---|---|
//! | `DIR/CLASS/…` | all but a part of each class | that part |
//! | `DIR/train/CLASS/…`, `DIR/val/CLASS/…` | `train` | `val` |
//! | `DIR/train/CLASS/…`, with or without `DIR/test/` | all but a part of each class of `train` | that part |
//! | a table `FILE.csv` | its rows | the rows that it says, else a part of each class |
//!
//! [`TRAIN`], [`VAL`] and [`TEST`] list what the parts may be called. Classes are numbered in the order of their names
//! (or as a list says: [`ImageFolder::number_as`]), files ordered by folder and name, so that a sample has the index it
//! has in PyTorch.
//!
//! Unlike torchvision this leaves out whatever begins with a dot (`.ipynb_checkpoints` is nobody's class) and what
//! programs leave behind (`__MACOSX`, `@eaDir`), and enters a folder once only, so that links can't lead in circles.
//! What was passed over or assumed is told in [`ImageFolder::notes`].

mod divide;
mod table;
mod walk;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use walk::{Passed, class_folders, entries, images_of};

pub use table::class_list;
pub use walk::images_below;

/// The endings of image files, in any case: torchvision's list, then others that can be read.
pub const EXTENSIONS: [&str; 14] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "gif", "jfif", "jpe", "pbm", "pnm"];

/// What the part to train on may be called, in any case.
pub const TRAIN: [&str; 3] = ["train", "training", "trn"];
/// What the part to validate with may be called, in any case.
pub const VAL: [&str; 6] = ["val", "valid", "validation", "validate", "dev", "eval"];
/// What the part that is kept for the end may be called, in any case.
pub const TEST: [&str; 3] = ["test", "testing", "tst"];

/// One image and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where the file lies.
    pub path: PathBuf,
    /// Its class, an index into [`ImageFolder::classes`].
    pub label: usize,
}

/// How images that are not divided already are divided.
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFolder {
    /// The names of the classes, sorted; a label is an index into them.
    pub classes: Vec<String>,
    /// The samples to train on, sorted by class, folder and name.
    pub train: Vec<Sample>,
    /// The samples to measure with, likewise.
    pub val: Vec<Sample>,
    /// What was assumed or passed over and a user should be told: whole sentences without a full stop.
    pub notes: Vec<String>,
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

/// The parts that a folder has.
#[derive(Default)]
struct Parts {
    train: Option<PathBuf>,
    val: Option<PathBuf>,
    test: Option<PathBuf>,
    /// Folders with other names.
    others: Vec<String>,
}

impl Parts {
    fn of(dir: &Path, passed: &mut Passed) -> Result<Parts, FolderError> {
        let mut parts = Parts::default();
        for (name, path) in class_folders(dir, passed)? {
            let is = |names: &[&str]| names.iter().any(|n| n.eq_ignore_ascii_case(&name));
            let part = if is(&TRAIN) {
                &mut parts.train
            } else if is(&VAL) {
                &mut parts.val
            } else if is(&TEST) {
                &mut parts.test
            } else {
                parts.others.push(name);
                continue;
            };
            if let Some(other) = part {
                return error(dir, format!("has {:?} and {name:?}, which mean the same part; rename or remove one", name_of(other)));
            }
            *part = Some(path);
        }
        Ok(parts)
    }
}

/// A folder's own name.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl ImageFolder {
    /// Opens `dir`: its parts to train on and to validate with if it has them, else its class folders, with
    /// `options.val_fraction` of each class put aside (at least one image and at most all
    /// but one, of a class that has two or more). A file that ends in .csv or .tsv is read as a table of images: see
    /// [`ImageFolder::table`].
    ///
    /// # Errors
    /// [`FolderError`] where no class is found, a class has no image, or the parts do not fit each other.
    pub fn open(dir: &Path, options: &SplitOptions) -> Result<Self, FolderError> {
        if table::is_table(dir) {
            return Self::table(dir, options);
        }
        let mut passed = Passed::default();
        let parts = Parts::of(dir, &mut passed)?;
        let mut folder = match (&parts.train, &parts.val, &parts.test) {
            (Some(train), Some(val), _) => Self::of_parts(train, val, &mut passed)?,
            // A class that happens to be called so, beside "bus" and "car".
            (Some(_), None, None) | (None, Some(_), None) | (None, None, Some(_)) if !parts.others.is_empty() => {
                let (classes, samples) = scan(dir, &mut passed)?;
                Self::divided(dir, classes, samples, options)?
            }
            (Some(train), None, test) if parts.others.is_empty() => {
                let (classes, samples) = scan(train, &mut passed)?;
                let mut folder = Self::divided(train, classes, samples, options)?;
                let test =
                    test.as_ref().map_or(String::new(), |test| format!("; {:?} is kept for the end and not looked at", name_of(test)));
                folder.notes.push(format!(
                    "there is {:?} but no val/: {} of its images are put aside for validation{test}",
                    name_of(train),
                    folder.val.len()
                ));
                folder
            }
            (None, None, None) => {
                let (classes, samples) = scan(dir, &mut passed)?;
                Self::divided(dir, classes, samples, options)?
            }
            (Some(part), ..) | (_, Some(part), _) | (.., Some(part)) if !parts.others.is_empty() => {
                return error(
                    dir,
                    format!(
                        "has {:?} beside {}: part or class? Name the folder of classes itself, or put classes and parts into different folders",
                        name_of(part),
                        list(&parts.others.iter().map(String::as_str).collect::<Vec<_>>())
                    ),
                );
            }
            (_, Some(part), _) | (.., Some(part)) | (Some(part), ..) => {
                return error(
                    dir,
                    format!(
                        "has {:?} but no train/; add it, or name {part:?} itself to have a part of it put aside for validation",
                        name_of(part)
                    ),
                );
            }
        };
        if let (Some(_), Some(_), Some(test)) = (&parts.train, &parts.val, &parts.test) {
            folder.notes.push(format!("{:?} is kept for the end and not looked at", name_of(test)));
        }
        if let (Some(_), Some(_), false) = (&parts.train, &parts.val, parts.others.is_empty()) {
            let others: Vec<&str> = parts.others.iter().map(String::as_str).collect();
            folder.notes.push(format!("left out, beside the parts to train on and to validate with: {}", list(&others)));
        }
        folder.notes.extend(passed.notes());
        Ok(folder)
    }

    /// Opens the class folders of `dir` without dividing them: all images are in `val`,
    /// `train` is empty.
    ///
    /// # Errors
    /// [`FolderError`], also where `dir` has parts.
    pub fn flat(dir: &Path) -> Result<Self, FolderError> {
        let mut passed = Passed::default();
        let parts = Parts::of(dir, &mut passed)?;
        if let (Some(train), Some(other)) = (&parts.train, parts.val.as_ref().or(parts.test.as_ref())) {
            return error(
                dir,
                format!(
                    "has the parts {:?} and {:?}, but a folder of classes was expected; name one of the parts",
                    name_of(train),
                    name_of(other)
                ),
            );
        }
        let (classes, val) = scan(dir, &mut passed)?;
        Ok(Self { classes, train: Vec::new(), val, notes: passed.notes() })
    }

    /// What a finished model is to be measured with: the part to validate with, if `dir` has one beside a part to train
    /// on; else its part for the end; else all of its class folders. Everything is in `val`.
    ///
    /// # Errors
    /// As [`ImageFolder::open`].
    pub fn measured(dir: &Path) -> Result<Self, FolderError> {
        if table::is_table(dir) {
            let mut folder = Self::table(dir, &SplitOptions { val_fraction: 0.0, ..SplitOptions::default() })?;
            if folder.val.is_empty() {
                folder.val = std::mem::take(&mut folder.train);
            }
            folder.train.clear();
            return Ok(folder);
        }
        let parts = Parts::of(dir, &mut Passed::default())?;
        let (Some(_), Some(part)) = (&parts.train, parts.val.as_ref().or(parts.test.as_ref())) else { return Self::flat(dir) };
        let mut folder = Self::flat(part)?;
        folder.notes.insert(0, format!("measured with {:?}", name_of(part)));
        Ok(folder)
    }

    fn of_parts(train_dir: &Path, val_dir: &Path, passed: &mut Passed) -> Result<Self, FolderError> {
        let (classes, train) = scan(train_dir, passed)?;
        let (others, mut val) = scan(val_dir, passed)?;
        let extra = difference(&others, &classes);
        if !extra.is_empty() {
            return error(val_dir, format!("has classes that {:?} has not: {}; rename or remove them", name_of(train_dir), list(&extra)));
        }
        let places: Vec<usize> = others.iter().filter_map(|name| classes.iter().position(|class| class == name)).collect();
        val.iter_mut().for_each(|sample| sample.label = places[sample.label]);
        let missing = difference(&classes, &others);
        let mut notes = Vec::new();
        if !missing.is_empty() {
            notes.push(format!(
                "warning: {:?} has no image of {}: how well they are told apart is not measured",
                name_of(val_dir),
                list(&missing)
            ));
        }
        Ok(Self { classes, train, val, notes })
    }

    /// Numbers the classes as `names` does, for instance a list that comes with a data set ([`class_list`]). A name
    /// without images stays a class. Classes that are numbers and not in the list are places in it, from 0.
    ///
    /// # Errors
    /// [`FolderError`] where `names` lacks a class that has images, or has one twice.
    pub fn number_as(&mut self, names: &[String], dir: &Path) -> Result<(), FolderError> {
        let at = |class: &String| class.parse().ok().and_then(|i: usize| names.get(i).cloned());
        let by_number: Option<Vec<String>> = self.classes.iter().map(at).collect();
        if let (Some(named), true) = (by_number, self.classes.iter().all(|class| !names.contains(class))) {
            self.classes = named;
            self.notes.push("classes are numbers: taken for places in the list of classes, from 0".into());
        }
        let unknown = difference(&self.classes, names);
        if !unknown.is_empty() {
            return error(
                dir,
                format!("has classes that are not in the list of classes: {}; add them to it, or remove them", list(&unknown)),
            );
        }
        let distinct: HashSet<&String> = names.iter().collect();
        if distinct.len() != names.len() {
            return error(dir, "the list of classes has a name twice; remove one");
        }
        let empty = difference(names, &self.classes);
        if !empty.is_empty() {
            self.notes.push(format!("warning: the list of classes names some without any image: {}", list(&empty)));
        }
        let places: Vec<usize> = self.classes.iter().filter_map(|class| names.iter().position(|name| name == class)).collect();
        for samples in [&mut self.train, &mut self.val] {
            samples.iter_mut().for_each(|sample| sample.label = places[sample.label]);
            samples.sort_by_key(|sample| sample.label);
        }
        self.classes = names.to_vec();
        Ok(())
    }
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
fn scan(dir: &Path, passed: &mut Passed) -> Result<(Vec<String>, Vec<Sample>), FolderError> {
    let folders = class_folders(dir, &mut Passed::default())?;
    if folders.is_empty() {
        let loose = entries(dir, &mut Passed::default())?.iter().filter(|e| e.is_image()).count();
        let hint = match loose {
            0 => "it must hold one folder of images per class".to_owned(),
            n => format!("the {n} images directly in it must lie in one folder per class"),
        };
        return error(dir, format!("has no class folder; {hint}"));
    }
    // An archive that was unpacked into a folder of its own.
    if let [(_, only)] = &folders[..] {
        let inner = Parts::of(only, &mut Passed::default())?;
        if inner.train.is_some() && (inner.val.is_some() || inner.test.is_some()) {
            return error(dir, format!("holds nothing but {only:?}, which has the parts; name that one"));
        }
    }
    let (mut classes, mut samples, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for (label, (name, path)) in folders.into_iter().enumerate() {
        let before = samples.len();
        let files = images_of(&path, passed)?;
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
