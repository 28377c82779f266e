//! What is in the folder: images of each class, broken ones, the same one twice.

use super::log::short_json;
use super::pace::Pace;
use super::progress::{Progress, clock};
use super::recipe::Phase;
use super::run::Run;
use super::settings::Settings;
use crate::failure::Failure;
use crate::model::human_bytes;
use crate::outln;
use crate::output::printable;
use nunatak_core::fnv::fnv;
use nunatak_data::threads::is_room;
use nunatak_data::{ImageFolder, Sample, decode};
use serde_json::{Value, json};
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

    /// Prints it, and what the run will take: bytes of the block and beside it, and time.
    ///
    /// # Errors
    /// [`Failure`] of the steps that are timed, or of the output.
    pub(super) fn tell(&self, folder: &ImageFolder, run: &mut Run, bytes: [usize; 2]) -> Result<(), Failure> {
        let dir = run.args.folder();
        if run.args.json {
            let (phases, paces) = (run.stages.iter().map(|stage| stage.phase.clone()).collect::<Vec<_>>(), run.paces()?);
            return outln!("{}", self.json(folder, dir, &run.settings, bytes, phases.iter().zip(&paces)));
        }
        self.print(folder, dir)?;
        let [block, beside] = bytes;
        outln!("memory: {} for weights, gradients and values, {} beside it", human_bytes(block), human_bytes(beside))?;
        let paces = run.paces()?;
        let (mut all, settings) = (0.0, &run.settings);
        for (stage, pace) in run.stages.iter().zip(&paces) {
            let Phase { trainable, epochs, .. } = &stage.phase;
            let seconds = pace.epochs(*epochs);
            all += seconds;
            let once = match pace.first as u64 {
                0 => String::new(),
                1 => format!(", {:.3} s once features are known", pace.later_step),
                _ => format!(", {:.3} s once features of all cuts are known", pace.later_step),
            };
            outln!(
                "time: training {trainable}: {:.3} s a step of {} images{once}; {epochs} epochs in about {}",
                pace.step,
                settings.batch,
                clock(seconds)
            )?;
        }
        outln!("time: about {} in all, with validation", clock(all))?;
        outln!("nothing was trained and nothing written (--dry-run)")
    }

    /// The same as one object.
    fn json<'p>(
        &self,
        folder: &ImageFolder,
        dir: &Path,
        settings: &Settings,
        [block, beside]: [usize; 2],
        parts: impl Iterator<Item = (&'p Phase, &'p Pace)>,
    ) -> Value {
        let classes = folder.classes.len();
        let (train, val) = (counts(&folder.train, classes), counts(&folder.val, classes));
        let of_class = |c: usize| json!({"class": folder.classes[c], "train": train[c], "val": val[c]});
        let name = |path: &Path| path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned();
        let pairs = |pairs: &[[PathBuf; 2]]| pairs.iter().map(|pair| json!(pair.each_ref().map(|path| name(path)))).collect::<Vec<_>>();
        let size = |at: usize| self.sizes.get(at).map(|[width, height]| json!([width, height]));
        let mut seconds = 0.0;
        let mut parts_json = Vec::new();
        for (phase, pace) in parts {
            let of_part = pace.epochs(phase.epochs);
            seconds += of_part;
            parts_json.push(json!({
                "trainable": phase.trainable, "epochs": phase.epochs, "steps_of_an_epoch": pace.steps as u64,
                "seconds_of_a_step": pace.step, "seconds_of_a_later_step": pace.later_step,
                "seconds_of_a_validation": pace.validation, "seconds": of_part,
            }));
        }
        json!({
            "classes": (0..classes).map(of_class).collect::<Vec<_>>(),
            "train": folder.train.len(),
            "val": folder.val.len(),
            "sizes": {"smallest": size(0), "middle": size(self.sizes.len() / 2), "largest": size(self.sizes.len().wrapping_sub(1))},
            "broken": self.broken.iter().map(|(path, why)| json!({"path": name(path), "reason": why})).collect::<Vec<_>>(),
            "doubles": {"in_train_and_val": pairs(&self.doubles.across), "in_two_classes": pairs(&self.doubles.contrary)},
            "settings": short_json(settings),
            "memory": {"block": block, "beside": beside},
            "parts": parts_json,
            "seconds": seconds,
        })
    }

    /// Prints what is in the folder.
    ///
    /// # Errors
    /// [`Failure::OutputClosed`].
    fn print(&self, folder: &ImageFolder, dir: &Path) -> Result<(), Failure> {
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
