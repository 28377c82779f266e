//! `FILE.last`: the newest state of a run, from which it goes on as if it had never stopped.
//!
//! It is a `.safetensors` with the state dict's entries, `momentum.<name>` for each parameter that
//! has one, and in the metadata under `nunatak.training` a [`Position`] in JSON.

use super::settings::Settings;
use crate::dataset::ImageFolder;
use crate::failure::Failure;
use nunatak_core::rng::Generator;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The key of the metadata under which the position is saved.
pub(super) const TRAINING_KEY: &str = "nunatak.training";

/// Raised whenever an older program could not go on from what a newer one saves.
const VERSION: u32 = 1;

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
    /// The best validation so far.
    pub(super) best: Option<Best>,
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
}

/// The best validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Best {
    /// After this epoch, from 0.
    pub(super) epoch: u64,
    /// Right answers.
    pub(super) right: u64,
    /// Images.
    pub(super) images: u64,
}

impl Best {
    /// Whether these answers are better: more of them right, in proportion.
    pub(super) fn is_beaten_by(&self, sums: &Sums) -> bool {
        u128::from(sums.right) * u128::from(self.images) > u128::from(self.right) * u128::from(sums.images)
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
        // FNV-1a, for changes by mistake; nobody gains from forging it.
        let add = |h: u64, bytes: &[u8]| bytes.iter().fold(h, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
        let mut hash = folder.classes.iter().fold(0xCBF2_9CE4_8422_2325, |h, class| add(add(h, class.as_bytes()), &[0]));
        for (i, sample) in folder.train.iter().chain(&folder.val).enumerate() {
            let path = sample.path.strip_prefix(dir).unwrap_or(&sample.path);
            hash = add(add(hash, path.as_os_str().as_encoded_bytes()), &[0, u8::from(i < folder.train.len())]);
        }
        Images { train: folder.train.len(), val: folder.val.len(), names: format!("{hash:016x}") }
    }
}

impl Position {
    /// Of a new run.
    pub(super) fn start(settings: Settings, images: Images, draws: u64) -> Position {
        let (level, memory) = (String::new(), String::new());
        Position { version: VERSION, settings, epoch: 0, batch: 0, draws, sums: Sums::default(), best: None, images, level, memory }
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
        if version != VERSION {
            return Err(fail(&format_args!("its version is {version}, this program's {VERSION}")));
        }
        let position: Position = serde_json::from_str(text).map_err(|e| fail(&e))?;
        if position.draws > Generator::RESUME_LIMIT || position.epoch > 1 << 40 || position.batch > 1 << 40 {
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
        let mut position = Position::start(Choices::default().settle(None).unwrap(), images, 5130);
        position.sums = Sums { loss: 0.1 + 0.2, right: 2, images: 3 };
        position
    }

    #[test]
    fn positions_survive_text() {
        let text = position().to_json();
        assert_eq!(Position::from_json(Path::new("x"), Some(&text)).unwrap(), position());
        for bad in ["", "{}", "[", &text.replace("\"version\":1", "\"version\":2"), &text.replace("5130", "99999999999999")] {
            let error = Position::from_json(Path::new("x.last"), Some(&bad.to_string()));
            assert!(matches!(error, Err(Failure::Failed(text)) if text.starts_with("x.last: ")), "{bad}");
        }
        assert!(Position::from_json(Path::new("x"), None).is_err());
    }

    #[test]
    fn the_first_of_equals_stays_best() {
        let best = Best { epoch: 0, right: 3, images: 4 };
        let sums = |right, images| Sums { right, images, loss: 0.0 };
        assert!(!best.is_beaten_by(&sums(3, 4)) && best.is_beaten_by(&sums(4, 4)) && best.is_beaten_by(&sums(4, 5)));
    }
}
