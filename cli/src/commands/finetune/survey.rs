//! What is in the folder: images of each class, broken ones, the same one twice.

use super::progress::Progress;
use crate::failure::Failure;
use crate::outln;
use crate::output::printable;
use nunatak_core::fnv::fnv;
use nunatak_data::threads::is_room;
use nunatak_data::{ImageFolder, Sample, decode};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// Names that are listed; of more the number is said.
const LISTED: usize = 10;

/// How many samples each class has.
pub(super) fn counts(samples: &[Sample], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    samples.iter().for_each(|sample| counts[sample.label] += 1);
    counts
}

/// Images that are there more than once, byte for byte.
#[derive(Debug, Default)]
pub(super) struct Doubles {
    /// Of these pairs one is to train on, the other to validate with: the model is measured by what it has learnt by heart.
    pub(super) across: Vec<[PathBuf; 2]>,
    /// Of these pairs the classes differ: one of the two is wrong.
    pub(super) contrary: Vec<[PathBuf; 2]>,
}

/// Finds them. Only files of the same length are read.
pub(super) fn doubles(folder: &ImageFolder) -> Doubles {
    let mut by_length: BTreeMap<u64, Vec<(&Sample, bool)>> = BTreeMap::new();
    let all = folder.train.iter().map(|sample| (sample, false)).chain(folder.val.iter().map(|sample| (sample, true)));
    for (sample, val) in all {
        if let Ok(meta) = std::fs::metadata(&sample.path) {
            by_length.entry(meta.len()).or_default().push((sample, val));
        }
    }
    let mut found = Doubles::default();
    for same_length in by_length.into_values().filter(|list| list.len() > 1) {
        let mut by_content: BTreeMap<u64, Vec<(&Sample, bool)>> = BTreeMap::new();
        for (sample, val) in same_length {
            if let Ok(bytes) = std::fs::read(&sample.path) {
                by_content.entry(fnv(&bytes)).or_default().push((sample, val));
            }
        }
        for same in by_content.into_values().filter(|list| list.len() > 1) {
            let (first, first_val) = same[0];
            for &(other, other_val) in &same[1..] {
                let pair = || [first.path.clone(), other.path.clone()];
                if first_val != other_val {
                    found.across.push(pair());
                }
                if first.label != other.label {
                    found.contrary.push(pair());
                }
            }
        }
    }
    found
}

/// Pairs of files for people: how many, and the first few.
pub(super) fn pairs_text(pairs: &[[PathBuf; 2]], dir: &Path) -> String {
    let name = |path: &Path| printable(&path.strip_prefix(dir).unwrap_or(path).to_string_lossy());
    let shown: Vec<String> = pairs.iter().take(3).map(|[a, b]| format!("{} = {}", name(a), name(b))).collect();
    format!("{}{}", shown.join(", "), if pairs.len() > 3 { ", …" } else { "" })
}

/// Every image of a folder, looked at.
pub(super) struct Survey {
    /// Which can't be read, and why.
    broken: Vec<(PathBuf, String)>,
    /// Width and height of the others, by their area.
    sizes: Vec<[usize; 2]>,
    doubles: Doubles,
}

impl Survey {
    /// Decodes every image, on this many threads.
    pub(super) fn of(folder: &ImageFolder, threads: usize) -> Survey {
        let samples: Vec<&Sample> = folder.train.iter().chain(&folder.val).collect();
        let (next, (send, receive)) = (AtomicUsize::new(0), mpsc::channel());
        let mut survey = Survey { broken: Vec::new(), sizes: Vec::new(), doubles: doubles(folder) };
        let mut progress = Progress::new();
        progress.begin("images".into(), samples.len() as u64, 0);
        std::thread::scope(|scope| {
            let (samples, next) = (&samples, &next);
            let work = |send: mpsc::Sender<_>| {
                while let Some(sample) = samples.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let seen = decode::read(&sample.path).map(|picture| [picture.width, picture.height]).map_err(|e| e.reason);
                    if send.send((sample.path.clone(), seen)).is_err() {
                        return;
                    }
                }
            };
            let start = |send: mpsc::Sender<_>| std::thread::Builder::new().spawn_scoped(scope, move || work(send)).is_ok();
            let started = (0..threads.max(1)).filter(|_| is_room() && start(send.clone())).count();
            if started == 0 {
                work(send);
            } else {
                drop(send);
            }
            for (done, (path, seen)) in receive.iter().enumerate() {
                match seen {
                    Ok(size) => survey.sizes.push(size),
                    Err(why) => survey.broken.push((path, why)),
                }
                progress.step(done as u64 + 1, 1, "", 0);
            }
        });
        progress.end();
        survey.broken.sort();
        survey.sizes.sort_by_key(|[width, height]| (width * height, *width));
        survey
    }

    /// Prints it.
    ///
    /// # Errors
    /// [`Failure::OutputClosed`].
    pub(super) fn print(&self, folder: &ImageFolder, dir: &Path) -> Result<(), Failure> {
        let classes = folder.classes.len();
        let (train, val) = (counts(&folder.train, classes), counts(&folder.val, classes));
        let names: Vec<String> = folder.classes.iter().map(|name| printable(name)).collect();
        let wide = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
        outln!("{:wide$}  {:>8}  {:>8}", "class", "train", "val")?;
        for (c, name) in names.iter().enumerate() {
            outln!("{name:wide$}  {:>8}  {:>8}", train[c], val[c])?;
        }
        outln!("{:wide$}  {:>8}  {:>8}", "all", folder.train.len(), folder.val.len())?;
        if let (Some(first), Some(last)) = (self.sizes.first(), self.sizes.last()) {
            let middle = self.sizes[self.sizes.len() / 2];
            let text = |[width, height]: &[usize; 2]| format!("{width} x {height}");
            outln!("sizes: smallest {}, middle {}, largest {}", text(first), text(&middle), text(last))?;
        }
        outln!("broken: {}", self.broken.len())?;
        for (path, why) in self.broken.iter().take(LISTED) {
            outln!("  {path:?}: {why}")?;
        }
        if self.broken.len() > LISTED {
            outln!("  and {} more", self.broken.len() - LISTED)?;
        }
        for (what, pairs) in [("in train and val", &self.doubles.across), ("in two classes", &self.doubles.contrary)] {
            let which = if pairs.is_empty() { String::new() } else { format!(": {}", pairs_text(pairs, dir)) };
            outln!("the same image {what}: {}{which}", pairs.len())?;
        }
        Ok(())
    }
}
