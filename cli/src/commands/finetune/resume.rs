//! `FILE.last`: the newest state of a run, from which it goes on as if it had never stopped.
//!
//! It is a `.safetensors` with the state dict's entries, `momentum.<name>` for each parameter that
//! has one, and in the metadata under `nunatak.training` a [`Position`] in JSON. Of a run with `--delta` it has
//! the entries that are not read from the base alone, and the metadata name the base and its hash.

use super::history::Line;
use super::keep::borrowed;
use super::settings::Settings;
use crate::about::About;
use crate::failure::Failure;
use crate::model::BASE_KEY;
use nunatak_core::fnv::Fnv;
use nunatak_core::program::EntryKind;
use nunatak_core::rng::Generator;
use nunatak_data::ImageFolder;
use nunatak_nn::Trainer;
use nunatak_nn::files::Checkpoint;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The key of the metadata under which the position is saved.
pub(super) const TRAINING_KEY: &str = "nunatak.training";

/// The key of the metadata under which a delta's state has the hash of its base.
pub(super) const BASE_HASH_KEY: &str = "nunatak.base_hash";

/// Raised whenever an older program could not go on from what a newer one saves.
const VERSION: u32 = 4;
/// The oldest version that is read: it has no history. Before 4 there was one recipe.
const OLDEST: u32 = 2;
/// More epochs, steps or images than any run has: larger numbers would not be counted on from.
const MOST_COUNT: u64 = 1 << 40;

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    pub(super) version: u32,
    /// What the run was started with.
    pub(super) settings: Settings,
    /// The epoch, from 0.
    pub(super) epoch: u64,
    /// Batches of this epoch that are done.
    pub(super) batch: u64,
    /// Draws of the generator of `settings.seed` before this epoch.
    pub(super) draws: u64,
    /// What this epoch's batches gave so far.
    pub(super) sums: Sums,
    /// Forward passes in train mode so far: what dropout draws its numbers by.
    pub(super) forwards: u64,
    /// Steps that the average of `--ema` has seen.
    pub(super) averaged: u64,
    /// The weights that the run was started with, as they were named.
    pub(super) weights: Option<String>,
    /// The best validation so far.
    pub(super) best: Option<Best>,
    /// What the epochs gave, for the report.
    #[serde(default)]
    pub(super) history: Vec<Line>,
    /// The images.
    pub(super) images: Images,
    /// The instruction set of the last step; another one rounds differently.
    pub(super) level: String,
    /// `small` or `fast`, of the last step.
    pub(super) memory: String,
}

/// Sums over the images of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    /// Losses.
    pub(super) loss: f64,
    /// Right answers.
    pub(super) right: u64,
    /// Images.
    pub(super) images: u64,
    /// Images whose class is among the five likeliest; of validation alone.
    #[serde(default)]
    pub(super) top5: u64,
}

impl Sums {
    /// The mean loss.
    pub(super) fn mean_loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }
    /// Right answers in a hundred.
    pub(super) fn percent(&self) -> f64 {
        100.0 * self.top1()
    }
    /// Right answers in one.
    pub(super) fn top1(&self) -> f64 {
        self.right as f64 / self.images.max(1) as f64
    }
    /// Images in one whose class is among the five likeliest.
    pub(super) fn top5(&self) -> f64 {
        self.top5 as f64 / self.images.max(1) as f64
    }
}

/// The best validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Best {
    /// After so many epochs; 0 where it is the model as it was.
    pub(super) epochs: u64,
    /// Right answers.
    pub(super) right: u64,
    /// Images.
    pub(super) images: u64,
    /// The mean loss.
    pub(super) loss: f64,
}

impl Best {
    /// A validation after so many epochs.
    pub(super) fn of(epochs: u64, sums: &Sums) -> Best {
        Best { epochs, right: sums.right, images: sums.images, loss: sums.mean_loss() }
    }

    /// Whether these answers are better: more of them right, in proportion; of as many, with a lower loss.
    pub(super) fn is_beaten_by(&self, sums: &Sums) -> bool {
        let (new, old) = (u128::from(sums.right) * u128::from(self.images), u128::from(self.right) * u128::from(sums.images));
        new > old || new == old && sums.mean_loss() < self.loss
    }
}

/// What tells one set of images from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Images {
    /// To train on.
    pub(super) train: usize,
    /// To validate with.
    pub(super) val: usize,
    /// A hash of their names and classes.
    pub(super) names: String,
}

impl Images {
    /// Of a folder at `dir`, wherever that lies.
    pub(super) fn of(folder: &ImageFolder, dir: &Path) -> Images {
        // For changes by mistake; nobody gains from forging it.
        let mut hash = Fnv::new();
        for class in &folder.classes {
            hash.write(class.as_bytes());
            hash.write(&[0]);
        }
        for (i, sample) in folder.train.iter().chain(&folder.val).enumerate() {
            let path = sample.path.strip_prefix(dir).unwrap_or(&sample.path);
            hash.write(path.as_os_str().as_encoded_bytes());
            hash.write(&[0, u8::from(i < folder.train.len())]);
        }
        let hash = hash.finish();
        Images { train: folder.train.len(), val: folder.val.len(), names: format!("{hash:016x}") }
    }
}

/// What the deltas of a run are laid over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Its hash, as text.
    pub(super) hash: String,
}

/// `FILE.last`, read.
pub(super) struct Last<'f> {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Its tensors.
    pub(super) checkpoint: Checkpoint<'f>,
    /// Where the run stands.
    pub(super) position: Position,
    /// What it says of the model.
    pub(super) about: About,
}

impl<'f> Last<'f> {
    /// What the bytes of the file hold.
    ///
    /// # Errors
    /// [`Failure`] that names the file, where it is no such file or a damaged one.
    pub(super) fn parse(path: &Path, bytes: &'f [u8]) -> Result<Last<'f>, Failure> {
        let checkpoint = Checkpoint::parse(bytes).map_err(|e| Failure::with(path.display(), e))?;
        let position = Position::from_json(path, checkpoint.metadata().get(TRAINING_KEY))?;
        let about = About::of(path, &checkpoint)?;
        Ok(Last { path: path.to_owned(), checkpoint, position, about })
    }

    /// Of a run that saves deltas: the base that it was over, in the file `given`, else where it was when the run was
    /// started, else beside this file.
    ///
    /// # Errors
    /// [`Failure::Usage`] where it is nowhere.
    pub(super) fn base(&self, given: Option<&Path>) -> Result<Option<Base>, Failure> {
        let metadata = self.checkpoint.metadata();
        let (Some(name), Some(hash)) = (metadata.get(BASE_KEY), metadata.get(BASE_HASH_KEY)) else { return Ok(None) };
        let started = self.position.weights.as_ref().map(PathBuf::from);
        let beside = Path::new(name).file_name().map(|name| self.path.with_file_name(name));
        let path = given.map(Path::to_owned).or_else(|| [started, beside].into_iter().flatten().find(|path| path.is_file()));
        let path = path.ok_or_else(|| {
            let last = self.path.display();
            Failure::usage(format_args!("{last} holds what was trained over {name}, which has the hash {hash}: name it with --weights"))
        })?;
        Ok(Some(Base { path, hash: hash.clone() }))
    }

    /// Loads into a trainer everything that it does not read in place.
    ///
    /// # Errors
    /// [`Failure`] that names the file and the entry that is missing or has another shape.
    pub(super) fn load(&self, trainer: &mut Trainer) -> Result<(), Failure> {
        load_entries(&self.path, "resumed from", &self.checkpoint, trainer)
    }
}

/// Loads from the file at `path` everything that a trainer does not read in place; where that fails the file "can't
/// be" what `done` says.
///
/// # Errors
/// [`Failure`] that names the file and the entry that is missing or has another shape.
pub(super) fn load_entries(path: &Path, done: &str, checkpoint: &Checkpoint, trainer: &mut Trainer) -> Result<(), Failure> {
    let fail = |what: &str, why: &str| Failure::with(path.display(), format_args!("can't be {done}: {what} {why}"));
    let borrowed = borrowed(trainer);
    let mut room = Vec::new();
    for id in trainer.program().entries().collect::<Vec<_>>() {
        let entry = trainer.program().entry(id);
        let (name, kind) = (entry.name().to_string(), entry.kind());
        if borrowed.contains(&name) {
            continue;
        }
        let saved = checkpoint.get(&name).ok_or_else(|| fail(&name, "is not there"))?;
        if kind == EntryKind::Count {
            let count = saved.read_i64().map_err(|e| fail(&name, &e.to_string()))?;
            trainer.set_count(id, count.first().copied().unwrap_or(0));
            continue;
        }
        if kind == EntryKind::Words {
            let words = saved.read_words().map_err(|e| fail(&name, &e.to_string()))?;
            trainer.set_words(id, &words).map_err(|e| fail(&name, &e.to_string()))?;
            continue;
        }
        saved.read_f32(&mut room).map_err(|e| fail(&name, &e.to_string()))?;
        trainer.set_entry(id, &room).map_err(|e| fail(&name, &e.to_string()))?;
    }
    Ok(())
}

impl Position {
    /// Of a new run.
    pub(super) fn start(settings: Settings, images: Images, draws: u64, weights: Option<&Path>) -> Position {
        Position {
            version: VERSION,
            settings,
            epoch: 0,
            batch: 0,
            draws,
            sums: Sums::default(),
            forwards: 0,
            averaged: 0,
            weights: weights.and_then(Path::to_str).map(String::from),
            best: None,
            history: Vec::new(),
            images,
            level: String::new(),
            memory: String::new(),
        }
    }

    /// As text.
    pub(super) fn to_json(&self) -> String {
        // Only strings as keys and finite numbers: that can't fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From the metadata of `FILE.last`.
    ///
    /// # Errors
    /// [`Failure`] that names the file, where it is no such file or a damaged one.
    pub(super) fn from_json(path: &Path, text: Option<&String>) -> Result<Position, Failure> {
        let fail = |why: &dyn std::fmt::Display| Failure::with(path.display(), format_args!("can't be resumed from: {why}"));
        let text = text.ok_or_else(|| fail(&format_args!("it is a model, not the state of a run (no {TRAINING_KEY} in its metadata)")))?;
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_str(text).map_err(|e| fail(&e))?;
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(fail(&format_args!("its version is {version}, this program's {VERSION}")));
        }
        let mut position: Position = serde_json::from_str(text).map_err(|e| fail(&e))?;
        position.version = VERSION;
        let Position { epoch, batch, forwards, averaged, sums, best, .. } = &position;
        let best = best.iter().flat_map(|best| [best.epochs, best.right, best.images]);
        let mut counts = [*epoch, *batch, *forwards, *averaged, sums.right, sums.images].into_iter().chain(best);
        if position.draws > Generator::RESUME_LIMIT || counts.any(|count| count > MOST_COUNT) {
            return Err(fail(&"its numbers are out of range; the file is damaged"));
        }
        Ok(position)
    }

    /// Refuses other images than the run was started with.
    ///
    /// # Errors
    /// [`Failure`] that says what differs.
    pub(super) fn check_images(&self, now: &Images, dir: &Path) -> Result<(), Failure> {
        let was = &self.images;
        if was == now {
            return Ok(());
        }
        let how = if (was.train, was.val) == (now.train, now.val) {
            "other names or classes than when the run was started".to_string()
        } else {
            format!("{} + {} images; the run was started with {} + {}", now.train, now.val, was.train, was.val)
        };
        Err(Failure::with(
            dir.display(),
            format_args!("has {how} (to train on + to validate with); put the folder back as it was, or start anew without --resume"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Choices;
    use super::*;

    fn position() -> Position {
        let images = Images { train: 3, val: 1, names: "x".into() };
        let mut position = Position::start(Choices::default().settle(None, None).unwrap(), images, 5130, None);
        position.sums = Sums { loss: 0.1 + 0.2, right: 2, images: 3, top5: 3 };
        position
    }

    #[test]
    fn positions_survive_text() {
        let text = position().to_json();
        assert_eq!(Position::from_json(Path::new("x"), Some(&text)).unwrap(), position());
        let changed = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        };
        let huge = u64::MAX.to_string();
        let counts = ["\"epoch\":", "\"forwards\":", "\"averaged\":"].map(|key| changed(&format!("{key}0"), &format!("{key}{huge}")));
        let images = changed("\"images\":3,", &format!("\"images\":{huge},"));
        let others = [changed("\"version\":4", "\"version\":1"), changed("5130", "99999999999999"), images];
        for bad in ["", "{}", "["].map(String::from).iter().chain(&counts).chain(&others) {
            let error = Position::from_json(Path::new("x.last"), Some(&bad.to_string()));
            assert!(matches!(error, Err(Failure::Failed(text)) if text.starts_with("x.last: ")), "{bad}");
        }
        assert!(Position::from_json(Path::new("x"), None).is_err());
        let older = text.replace("\"version\":4", "\"version\":2").replace("\"history\":[],", "");
        assert_eq!(Position::from_json(Path::new("x"), Some(&older)).unwrap(), position());
    }

    #[test]
    fn of_equals_the_lower_loss_is_better_and_else_the_first() {
        let best = Best { epochs: 1, right: 3, images: 4, loss: 0.5 };
        let sums = |right, images, loss: f64| Sums { right, images, loss: loss * images as f64, top5: images };
        assert!(!best.is_beaten_by(&sums(3, 4, 0.5)) && !best.is_beaten_by(&sums(3, 4, 0.6)) && best.is_beaten_by(&sums(3, 4, 0.4)));
        assert!(best.is_beaten_by(&sums(4, 4, 9.0)) && best.is_beaten_by(&sums(4, 5, 9.0)) && !best.is_beaten_by(&sums(2, 4, 0.0)));
    }
}
