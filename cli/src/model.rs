//! Model files: opening one, what stands in its metadata, saving one.
//!
//! A model file holds exactly the entries of PyTorch's `state_dict`. What a program needs besides
//! them lies in the metadata of a `.safetensors` or `.nunatak`:
//!
//! | key | what |
//! |---|---|
//! | `nunatak.classes` | the names of the classes, a list in JSON |
//! | `nunatak.view` | how images were shown to it: the square's side, the shorter side before |
//! | `nunatak.recipe` | the stem, which leaves no trace in a state dict |
//! | `nunatak.training` | only in `FILE.last`: where the run stands, in JSON |
//! | `nunatak.base` | only in a delta: the name of the file that it is laid over, which is looked for beside it |
//!
//! A `.pth` has no room for metadata: names and view then lie beside it, in `FILE.classes.json`.

use crate::failure::Failure;
use crate::weights::Backbone;
use nunatak_nn::checkpoint::{Checkpoint, write_pth, write_safetensors};
use nunatak_nn::state::{Head, State, recipe_metadata, recipe_of};
use nunatak_nn::{Native, Recipe, Save, Trainer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The key of the metadata under which the names of the classes are saved.
pub const CLASSES_KEY: &str = "nunatak.classes";
/// The key of the metadata under which the view is saved.
pub const VIEW_KEY: &str = "nunatak.view";
/// The key of the metadata under which a delta names its base.
pub const BASE_KEY: &str = "nunatak.base";
/// The largest file that is read, in bytes: hundreds of times what ResNet34 takes.
pub(crate) const MAX_FILE: u64 = 1 << 35;
/// The largest list of class names that is read, in bytes.
const MAX_SIDECAR: u64 = 1 << 28;

/// The bytes of a model file, and where they came from.
pub struct ModelFile {
    path: PathBuf,
    bytes: Bytes,
    /// Of a delta: what it is laid over.
    base: Option<(PathBuf, Backbone)>,
}

/// The bytes of a model file.
enum Bytes {
    Read(Vec<u8>),
    /// To be used in place.
    Mapped(Backbone),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Read(bytes) => bytes,
            Bytes::Mapped(file) => file.bytes(),
        }
    }
}

impl ModelFile {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`Failure`] that names it.
    pub fn read(path: &Path) -> Result<ModelFile, Failure> {
        Self::with_base(path, Bytes::Read(read_at_most(path, MAX_FILE)?), None)
    }

    /// Opens a file; of a delta also its base, from `base` or, where that is not given, from the file
    /// of the name that the delta gives, beside it. With `in_place`, weights stay in the mapped file.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub fn open(path: &Path, base: Option<&Path>, in_place: bool) -> Result<ModelFile, Failure> {
        let bytes = if in_place { Bytes::Mapped(Backbone::open(path)?) } else { Bytes::Read(read_at_most(path, MAX_FILE)?) };
        Self::with_base(path, bytes, base)
    }

    fn with_base(path: &Path, bytes: Bytes, base: Option<&Path>) -> Result<ModelFile, Failure> {
        let mut file = ModelFile { path: path.to_owned(), bytes, base: None };
        // What is no native file is no delta; what is wrong with it is said when it is parsed.
        let Some(delta) = Native::parse(file.bytes.as_slice()).ok().filter(|native| native.base().is_some()) else {
            return match base {
                Some(_) => Err(Failure::usage(format_args!("--base: {} is no delta", path.display()))),
                None => Ok(file),
            };
        };
        let beside = || {
            let name = Path::new(delta.metadata_of(BASE_KEY)?).file_name()?;
            Some(path.parent().unwrap_or(Path::new("")).join(name)).filter(|path| path.is_file())
        };
        let base = base.map(Path::to_owned).or_else(beside).ok_or_else(|| {
            let due = delta.base().map_or(String::new(), |hash| hash.to_string());
            Failure::with(path.display(), format_args!("is a delta over weights with the hash {due}: name them with --base"))
        })?;
        let backbone = Backbone::open(&base)?;
        file.base = Some((base, backbone));
        Ok(file)
    }

    /// What the bytes hold.
    ///
    /// # Errors
    /// [`Failure`] that names the file, the place and the cause.
    pub fn parse(&self) -> Result<Model<'_>, Failure> {
        let checkpoint = Checkpoint::parse(self.bytes.as_slice()).map_err(|e| Failure::with(self.path.display(), e))?;
        let recipe = match (&self.base, checkpoint.native()) {
            (Some(_), Some(delta)) => *delta.recipe(),
            _ => recipe_of(&checkpoint).map_err(|e| Failure::with(self.path.display(), e))?,
        };
        let base = match &self.base {
            None => None,
            Some((path, file)) => {
                let native = file.native()?;
                native.verify().map_err(|e| Failure::with(path.display(), e))?;
                let due = checkpoint.native().and_then(|delta| delta.base());
                if let Some(expected) = due.filter(|due| *due != native.hash()) {
                    return Err(Failure::with(path.display(), nunatak_nn::Error::WrongBase { expected, got: native.hash() }));
                }
                Some(native)
            }
        };
        let (classes, view) = self.about(&checkpoint)?;
        if let Some(names) = classes.as_ref().filter(|names| names.len() != recipe.classes) {
            return Err(Failure::with(
                self.path.display(),
                format_args!("comes with {} class names, but `fc` tells {} classes apart", names.len(), recipe.classes),
            ));
        }
        Ok(Model { path: self.path.clone(), checkpoint, base, recipe, classes, view })
    }

    /// What is known besides the tensors: from the metadata, or from the file beside.
    fn about(&self, checkpoint: &Checkpoint) -> Result<(Option<Vec<String>>, Option<View>), Failure> {
        let fail = |path: &Path, e: serde_json::Error| Failure::with(path.display(), format_args!("class names and view: {e}"));
        let metadata = checkpoint.metadata();
        if !metadata.is_empty() {
            let classes = metadata.get(CLASSES_KEY).map(|text| serde_json::from_str(text)).transpose();
            let view = metadata.get(VIEW_KEY).map(|text| serde_json::from_str::<View>(text)).transpose();
            let view = view.map_err(|e| fail(&self.path, e))?;
            return Ok((classes.map_err(|e| fail(&self.path, e))?, view.map(View::within)));
        }
        let beside = sidecar(&self.path);
        if !beside.is_file() {
            return Ok((None, None));
        }
        let about: About = serde_json::from_slice(&read_at_most(&beside, MAX_SIDECAR)?).map_err(|e| fail(&beside, e))?;
        Ok((Some(about.classes), about.view.map(View::within)))
    }
}

/// How images are shown to a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct View {
    /// Side of the square that it sees.
    pub size: u32,
    /// Shorter side after resizing, before the square is cut out.
    pub resize: u32,
}

impl View {
    /// The usual view of a size.
    pub fn of(size: u32) -> View {
        View { size, resize: (u64::from(size) * 256 / 224).max(1) as u32 }
    }
    /// What a file says may be any number: kept to what the options allow.
    fn within(self) -> View {
        View { size: self.size.clamp(1, 8192), resize: self.resize.clamp(1, 16384) }
    }
}

/// What lies beside a `.pth`.
#[derive(Serialize, Deserialize)]
struct About {
    classes: Vec<String>,
    view: Option<View>,
}

pub(crate) fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let fail = |e: std::io::Error| Failure::with(path.display(), format_args!("can't be read: {e}"));
    // Looked at before it is opened: to open a pipe is to wait for a writer.
    let meta = std::fs::metadata(path).map_err(fail)?;
    if !meta.is_file() {
        return Err(Failure::with(path.display(), "is not a file"));
    }
    if meta.len() > most {
        return Err(Failure::with(path.display(), format_args!("has {} bytes; at most {most} are read", meta.len())));
    }
    std::fs::read(path).map_err(fail)
}

/// A network in a file.
pub struct Model<'f> {
    /// Where the file lies.
    pub path: PathBuf,
    /// Its tensors.
    pub checkpoint: Checkpoint<'f>,
    /// Of a delta: the weights that it is laid over.
    pub base: Option<Native<'f>>,
    /// The network that they are of.
    pub recipe: Recipe,
    /// The names of its classes, if they are known.
    pub classes: Option<Vec<String>>,
    /// How images were shown to it, if that is known.
    pub view: Option<View>,
}

impl<'f> Model<'f> {
    /// The native file whose weights a trainer is made with: a delta's base, or the model itself.
    pub fn weights(&self) -> Option<Native<'f>> {
        self.base.or(self.checkpoint.native().copied())
    }

    /// The delta, if it is one.
    pub fn delta(&self) -> Option<&Native<'f>> {
        self.checkpoint.native().filter(|_| self.base.is_some())
    }

    /// Loads the tensors into a trainer, with or without the head.
    ///
    /// # Errors
    /// [`Failure`] that names the file; also where numbers are NaN or infinite.
    pub fn load(&self, trainer: &mut Trainer, head: Head) -> Result<(), Failure> {
        if let Some(delta) = self.delta() {
            return trainer.load_delta(delta).map_err(|e| Failure::with(self.path.display(), e));
        }
        if trainer.blueprint().borrows() {
            return Ok(()); // the trainer was made with the weights
        }
        let loaded = trainer.load(&self.checkpoint, head).map_err(|e| Failure::with(self.path.display(), e))?;
        match loaded.not_finite.first() {
            None => Ok(()),
            Some((name, count)) => Err(Failure::with(
                self.path.display(),
                format_args!("{count} numbers of {name} are NaN or infinite; the file is damaged, or its training had gone wrong"),
            )),
        }
    }

    /// Refuses what images can't be shown to.
    ///
    /// # Errors
    /// [`Failure`] where the network does not take three colours.
    pub fn takes_images(&self) -> Result<(), Failure> {
        let channels = self.recipe.in_channels;
        if channels == 3 {
            return Ok(());
        }
        Err(Failure::with(self.path.display(), format_args!("the network takes {channels} channels, images have 3 colours")))
    }

    /// Refuses a network that names no classes.
    ///
    /// # Errors
    /// [`Failure`] where it has no head.
    pub fn tells_classes(&self) -> Result<(), Failure> {
        if self.recipe.classes > 0 {
            return Ok(());
        }
        Err(Failure::with(self.path.display(), "the network has no head (fc); `nunatak finetune` gives it one"))
    }

    /// The name of a class, or its number where no names are known.
    pub fn class(&self, index: usize) -> String {
        match self.classes.as_ref().and_then(|names| names.get(index)) {
            Some(name) => printable(name),
            None => format!("class {index}"),
        }
    }
}

/// Where the class names of a `.pth` lie: `FILE.classes.json`.
pub fn sidecar(path: &Path) -> PathBuf {
    beside(path, ".classes.json")
}

/// A file's name with something after it.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Text from a file or a folder, made fit for a terminal: control characters are escaped.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The formats that are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutFormat {
    /// With metadata.
    Safetensors,
    /// For `torch.load`.
    Pth,
    /// For weights in place.
    Native,
}

impl OutFormat {
    /// The format that a name asks for.
    ///
    /// # Errors
    /// [`Failure::Usage`] where it ends in something else.
    pub fn of(path: &Path) -> Result<OutFormat, Failure> {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("safetensors") => Ok(OutFormat::Safetensors),
            Some("pth" | "pt") => Ok(OutFormat::Pth),
            Some("nunatak") => Ok(OutFormat::Native),
            _ => Err(Failure::usage(format_args!("--out {}: expected a name that ends in .safetensors, .pth or .nunatak", path.display()))),
        }
    }
}

/// The metadata of a model.
pub fn metadata(recipe: &Recipe, classes: &[String], view: View) -> BTreeMap<String, String> {
    let mut metadata = recipe_metadata(recipe);
    metadata.insert("format".into(), "pt".into());
    metadata.insert(CLASSES_KEY.into(), serde_json::json!(classes).to_string());
    metadata.insert(VIEW_KEY.into(), serde_json::json!(view).to_string());
    metadata
}

/// Saves a trainer's model, atomically: at every moment the old file or the new one stands there. To a
/// `.nunatak` only what is trained where `delta_over` names the file that the rest is read from.
///
/// # Errors
/// [`Failure`] that names the file and says what the system refused.
pub fn save(path: &Path, trainer: &Trainer, classes: &[String], view: View, delta_over: Option<&Path>) -> Result<(), Failure> {
    let recipe = trainer.blueprint().network().recipe();
    match OutFormat::of(path)? {
        OutFormat::Safetensors => save_safetensors(path, &trainer.state(), &metadata(recipe, classes, view)),
        OutFormat::Native => {
            let (classes, view) = (serde_json::json!(classes).to_string(), serde_json::json!(view).to_string());
            let base = delta_over.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            let mut pairs = vec![(CLASSES_KEY, classes.as_str()), (VIEW_KEY, view.as_str())];
            pairs.extend(base.as_deref().map(|name| (BASE_KEY, name)));
            let what = if delta_over.is_some() { Save::Delta } else { Save::Network };
            trainer.saving(what, &pairs)?.save(path).map(drop).map_err(not_saved)
        }
        OutFormat::Pth => {
            // The names first: a model without them would be taken for one of unknown classes.
            let about = serde_json::json!(About { classes: classes.to_vec(), view: Some(view) });
            replace_small(&sidecar(path), &about.to_string())?;
            write_pth(path, &trainer.state().views()).map_err(not_saved)
        }
    }
}

/// Saves tensors with metadata, atomically.
///
/// # Errors
/// As for [`save`].
pub fn save_safetensors(path: &Path, state: &State, metadata: &BTreeMap<String, String>) -> Result<(), Failure> {
    write_safetensors(path, &state.views(), metadata).map_err(not_saved)
}

fn not_saved(e: impl std::fmt::Display) -> Failure {
    Failure::with("can't save", e)
}

fn replace_small(path: &Path, text: &str) -> Result<(), Failure> {
    let fail = |e: std::io::Error| Failure::with("can't save", format_args!("{}: {e}; what stood there is unchanged", path.display()));
    let mut file = temporary_beside(path).map_err(fail)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}

fn temporary_beside(path: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".nunatak-").suffix(".tmp");
    // Readable by others as the umask allows, not by the owner alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Finds out now whether a file can be written later, when hours of work hang on it.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn check_writable(path: &Path) -> Result<(), Failure> {
    let fail = |e: std::io::Error| Failure::with(path.display(), format_args!("can't be written: {e}; nothing was started"));
    if path.file_name().is_none() || path.is_dir() {
        return Err(Failure::with(path.display(), "can't be written: it is a folder; nothing was started"));
    }
    // A link is followed when saving: what it points to is what must be writable.
    let target = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => std::fs::canonicalize(path).map_err(fail)?,
        _ => path.to_owned(),
    };
    temporary_beside(&target).map(drop).map_err(fail)
}

/// A number of bytes for people: 46.8 MB.
pub fn human_bytes(bytes: usize) -> String {
    match bytes as f64 {
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.2} GB", b / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_formats() {
        assert_eq!(OutFormat::of(Path::new("a.safetensors")).ok(), Some(OutFormat::Safetensors));
        assert_eq!(OutFormat::of(Path::new("a.b.PTH")).ok(), Some(OutFormat::Pth));
        assert!(matches!(OutFormat::of(Path::new("a")), Err(Failure::Usage(_))));
        assert_eq!(sidecar(Path::new("x/a.pth")), Path::new("x/a.pth.classes.json"));
    }

    #[test]
    fn terminals_are_safe_from_names() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
