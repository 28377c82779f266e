//! What a model needs to be used that its tensors do not tell: class names, view, stem.
//!
//! One set of keys, wherever it lies. A `.safetensors` and a `.nunatak` have it in their metadata. A `.pth` has
//! no room for it: it then lies beside the file, in `FILE.classes.json`, under the same keys without `nunatak.`.
//!
//! | key | what |
//! |---|---|
//! | `nunatak.classes` | the names of the classes, a list in JSON |
//! | `nunatak.view` | how images were shown to it: the square's side, the shorter side before |
//! | `nunatak.recipe` | the stem (`stem KERNEL STRIDE PAD POOL`), which leaves no trace in a state dict |

use crate::failure::Failure;
use crate::model::{beside, read_at_most, replace};
use crate::published::view_of;
use crate::setup::Network;
use nunatak_nn::Stem;
use nunatak_nn::files::Checkpoint;
use nunatak_nn::files::state::{RECIPE_KEY, stem_of};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// The key of the metadata under which the names of the classes are saved.
pub const CLASSES_KEY: &str = "nunatak.classes";
/// The key of the metadata under which the view is saved.
pub const VIEW_KEY: &str = "nunatak.view";
/// The largest file beside a model that is read, in bytes.
const MAX_BESIDE: u64 = 1 << 28;

/// How images are shown to a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct View {
    /// Side of the square that it sees.
    pub size: u32,
    /// Shorter side after resizing, before the square is cut out.
    pub resize: u32,
    /// Whether pictures were turned as their EXIF orientation says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exif: bool,
}

impl View {
    /// The usual view of a size.
    pub fn of(size: u32) -> View {
        View { size, resize: (u64::from(size) * 256 / 224).max(1) as u32, exif: false }
    }
    /// What a file says may be any number: kept to what the options allow.
    fn within(self) -> View {
        View { size: self.size.clamp(1, 8192), resize: self.resize.clamp(1, 16384), ..self }
    }
}

/// What a model needs besides its tensors, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The names of the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// How images were shown to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
    /// The stem, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
}

impl About {
    /// Of a network that was trained on these classes with this view.
    pub fn new(network: &Network, classes: &[String], view: View) -> About {
        About { classes: Some(classes.to_vec()), view: Some(view), recipe: network.metadata().remove(RECIPE_KEY) }
    }

    /// What the file at `path` says: its metadata, and for what they lack the file beside it, and the name of a file that
    /// torchvision publishes.
    ///
    /// # Errors
    /// [`Failure`] that names the file with a value that can't be read.
    pub fn of(path: &Path, checkpoint: &Checkpoint) -> Result<About, Failure> {
        let metadata = checkpoint.metadata();
        let read = |e: serde_json::Error| unreadable(path, e);
        let classes = metadata.get(CLASSES_KEY).map(|text| serde_json::from_str(text)).transpose().map_err(read)?;
        let view = metadata.get(VIEW_KEY).map(|text| serde_json::from_str::<View>(text)).transpose().map_err(read)?;
        let inside = About { classes, view: view.map(View::within), recipe: metadata.get(RECIPE_KEY).cloned() };
        let outside = About::beside(path)?.unwrap_or_default();
        let about = About {
            classes: inside.classes.or(outside.classes),
            // Torchvision's own files say nothing, but are known by their names.
            view: inside.view.or(outside.view).or_else(|| view_of(path)),
            recipe: inside.recipe.or(outside.recipe),
        };
        about.stem(path)?;
        Ok(about)
    }

    /// What lies beside the file at `path`, if anything does.
    ///
    /// # Errors
    /// [`Failure`] that names the file where it can't be read.
    pub fn beside(path: &Path) -> Result<Option<About>, Failure> {
        let beside = sidecar(path);
        if !beside.is_file() {
            return Ok(None);
        }
        let about: About = serde_json::from_slice(&read_at_most(&beside, MAX_BESIDE)?).map_err(|e| unreadable(&beside, e))?;
        Ok(Some(About { view: about.view.map(View::within), ..about }))
    }

    /// The stem, if it is known.
    ///
    /// # Errors
    /// [`Failure`] that names `path` where the text describes none.
    pub fn stem(&self, path: &Path) -> Result<Option<Stem>, Failure> {
        let Some(text) = &self.recipe else { return Ok(None) };
        let stem = stem_of(text).ok_or_else(|| unreadable(path, format_args!("{text:?} describes no stem")))?;
        Ok(Some(stem))
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == About::default()
    }

    /// As metadata of a `.safetensors` or `.nunatak`.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let classes = self.classes.as_ref().map(|classes| (CLASSES_KEY, serde_json::json!(classes).to_string()));
        let view = self.view.map(|view| (VIEW_KEY, serde_json::json!(view).to_string()));
        let recipe = self.recipe.clone().map(|recipe| (RECIPE_KEY, recipe));
        [classes, view, recipe].into_iter().flatten().map(|(key, value)| (key.to_string(), value)).collect()
    }

    /// Writes it beside the file at `path`, which has no room for it; atomically.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn save_beside(&self, path: &Path) -> Result<(), Failure> {
        replace(&sidecar(path), serde_json::json!(self).to_string().as_bytes())
    }
}

fn unreadable(path: &Path, e: impl Display) -> Failure {
    Failure::with(path.display(), format_args!("class names, view and stem: {e}"))
}

/// Where what a model needs lies if the model's file has no room for it: `FILE.classes.json`.
pub fn sidecar(path: &Path) -> PathBuf {
    beside(path, ".classes.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nunatak_nn::Recipe;

    #[test]
    fn the_same_keys_inside_and_beside() {
        let network = Network::Recipe(Recipe::resnet8(2));
        let about = About::new(&network, &["a".into(), "b\"".into()], View::of(32));
        assert_eq!(about.stem(Path::new("x")).ok().flatten(), Some(Recipe::resnet8(2).stem));
        let metadata = about.metadata();
        assert_eq!(metadata[CLASSES_KEY], "[\"a\",\"b\\\"\"]");
        assert_eq!(metadata[RECIPE_KEY], "stem 3 1 1 0");
        let text = serde_json::json!(about).to_string();
        assert_eq!(serde_json::from_str::<About>(&text).unwrap(), about);
        assert_eq!(serde_json::from_str::<About>("{\"classes\": [\"one\"], \"view\": null}").unwrap().classes, Some(vec!["one".into()]));
        assert!(About { recipe: Some("stem 3".into()), ..About::default() }.stem(Path::new("x")).is_err());
        assert_eq!(sidecar(Path::new("x/a.pth")), Path::new("x/a.pth.classes.json"));
        assert!(About::default().is_empty() && About::default().metadata().is_empty());
    }
}
