//! Model files: opening one, what stands in its metadata, saving one.
//!
//! A model file holds exactly the entries of PyTorch's `state_dict`. What a program needs besides them is told
//! by [`About`]. Two more keys of the metadata are not of the model but of the file:
//!
//! | key | what |
//! |---|---|
//! | `nunatak.training` | only in `FILE.last`: where the run stands, in JSON |
//! | `nunatak.base` | only in a delta: the name of the file that it is laid over, which is looked for beside it |

use crate::about::About;
pub use crate::about::View;
use crate::failure::Failure;
use crate::published::{IMAGENET_CLASSES, imagenet_class};
use crate::setup::{Asked, Found, Network};
use crate::weights::{self, Backbone};
use nunatak_nn::files::save::Save;
use nunatak_nn::files::state::State;
use nunatak_nn::files::{Checkpoint, Format, Head, atomic, write_pth, write_safetensors};
use nunatak_nn::{Native, Stem, Trainer};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The key of the metadata under which a delta names its base.
pub const BASE_KEY: &str = "nunatak.base";
/// The largest file that is read, in bytes: hundreds of times what ResNet34 takes.
pub(crate) const MAX_FILE: u64 = 1 << 35;

/// The bytes of a model file, and where they came from.
pub struct ModelFile {
    path: PathBuf,
    bytes: Bytes,
    /// Of a delta: what it is laid over.
    base: Option<(PathBuf, Backbone)>,
    /// Of a file with several state dicts: the name of one.
    key: Option<String>,
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

    /// The native file that would be saved of a trainer, in memory; errors name `path`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn of(path: &Path, trainer: &Trainer, about: &About) -> Result<ModelFile, Failure> {
        let metadata = native_metadata(about);
        let pairs: Vec<(&str, &str)> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let saving = trainer.saving(Save::Network, &pairs)?;
        let mut bytes = vec![0; saving.len()];
        saving.write_to(&mut bytes)?;
        Self::with_base(path, Bytes::Read(bytes), None)
    }

    fn with_base(path: &Path, bytes: Bytes, base: Option<&Path>) -> Result<ModelFile, Failure> {
        let mut file = ModelFile { path: path.to_owned(), bytes, base: None, key: None };
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

    /// The same file, of whose state dicts `key` names one.
    pub fn with_key(self, key: Option<String>) -> ModelFile {
        ModelFile { key, ..self }
    }

    /// What the bytes hold; of the network, what they do not tell is as it is asked for. What was assumed about the
    /// file is said on stderr.
    ///
    /// # Errors
    /// [`Failure`] that names the file, the place and the cause.
    pub fn parse(&self, asked: Asked) -> Result<Model<'_>, Failure> {
        let checkpoint = weights::parse(&self.path, self.bytes.as_slice(), self.key.as_deref())?;
        weights::remark(&self.path, &checkpoint);
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
        let about = About::of(&self.path, &checkpoint)?;
        let Found { network, assumed } = self.network(&checkpoint, about.stem(&self.path)?, asked)?;
        let About { classes, view, .. } = about;
        if let Some(names) = classes.as_ref().filter(|names| names.len() != network.classes()) {
            return Err(Failure::with(
                self.path.display(),
                format_args!("comes with {} class names, but the network tells {} classes apart", names.len(), network.classes()),
            ));
        }
        Ok(Model { path: self.path.clone(), checkpoint, base, network, assumed, classes, view })
    }

    /// The network that the file is of; of a delta, with what it is laid over.
    fn network(&self, checkpoint: &Checkpoint, stem: Option<Stem>, asked: Asked) -> Result<Found, Failure> {
        let base = match &self.base {
            None => None,
            Some((path, file)) => Some(Checkpoint::parse(file.bytes()).map_err(|e| Failure::with(path.display(), e))?),
        };
        if base.is_some() && checkpoint.native().and_then(Native::recipe).is_some() {
            let network = Network::of(checkpoint, base.as_ref()).map_err(|e| Failure::with(self.path.display(), e))?;
            return Ok(Found { network, assumed: None });
        }
        Network::find(checkpoint, base.as_ref(), stem, asked).map_err(|e| e.of(self.path.display()))
    }
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
    std::fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::OutOfMemory => Failure::with(
            path.display(),
            format_args!("can't be read: its {} are more memory than there is", human_bytes(meta.len() as usize)),
        ),
        _ => fail(e),
    })
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
    pub network: Network,
    /// What was taken for granted of the network, for which the file has no words.
    pub assumed: Option<String>,
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
        if trainer.program().weights_hash().is_some() {
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
        let channels = self.network.in_channels();
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
        if self.network.classes() > 0 {
            return Ok(());
        }
        Err(Failure::with(self.path.display(), "the network has no head; `nunatak finetune` gives it one"))
    }

    /// Whether the classes are taken for ImageNet's: they have no names, and there are as many.
    pub fn is_taken_for_imagenet(&self) -> bool {
        self.classes.is_none() && self.network.classes() == IMAGENET_CLASSES
    }

    /// The name of a class, if it is known.
    pub fn class_name(&self, index: usize) -> Option<&str> {
        match &self.classes {
            Some(names) => names.get(index).map(String::as_str),
            None if self.is_taken_for_imagenet() => imagenet_class(index),
            None => None,
        }
    }

    /// The name of a class for people, or its number where no names are known.
    pub fn class(&self, index: usize) -> String {
        self.class_name(index).map_or(format!("class {index}"), crate::output::printable)
    }
}

/// A file's name with something after it.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
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
    /// The format as readers know it.
    pub fn format(self) -> Format {
        match self {
            OutFormat::Pth => Format::PthZip,
            OutFormat::Safetensors => Format::Safetensors,
            OutFormat::Native => Format::Native,
        }
    }

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
pub fn metadata(about: &About) -> BTreeMap<String, String> {
    let mut metadata = about.metadata();
    // The mark by which Python's libraries know tensors of PyTorch.
    metadata.insert("format".into(), "pt".into());
    metadata
}

/// The same of a native file, whose head holds the recipe.
fn native_metadata(about: &About) -> BTreeMap<String, String> {
    About { recipe: None, ..about.clone() }.metadata()
}

/// Saves a trainer's model, atomically: at every moment the old file or the new one stands there. To a
/// `.nunatak` only what is trained where `delta_over` names the file that the rest is read from.
///
/// # Errors
/// [`Failure`] that names the file and says what the system refused.
pub fn save(path: &Path, trainer: &Trainer, about: &About, delta_over: Option<&Path>) -> Result<(), Failure> {
    match OutFormat::of(path)? {
        OutFormat::Safetensors => save_safetensors(path, &trainer.state(), &metadata(about)),
        OutFormat::Native => {
            let mut metadata = native_metadata(about);
            metadata.extend(delta_over.and_then(Path::file_name).map(|name| (BASE_KEY.into(), name.to_string_lossy().into_owned())));
            let pairs: Vec<(&str, &str)> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            let what = if delta_over.is_some() { Save::Delta } else { Save::Network };
            trainer.saving(what, &pairs)?.save(path).map(drop).map_err(not_saved)
        }
        OutFormat::Pth => {
            // What lies beside comes first, for older readers: a model without it would be taken for one of unknown
            // classes.
            about.save_beside(path)?;
            write_pth(path, &trainer.state().views(), &metadata(about)).map_err(not_saved)
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

/// Writes a small file, atomically.
///
/// # Errors
/// As for [`save`].
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    atomic::replace(path, |out| out.write_all(bytes)).map_err(not_saved)
}

/// Finds out now whether a file can be written later, when hours of work hang on it. What earlier programs left
/// half written beside it is removed.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn check_writable(path: &Path) -> Result<(), Failure> {
    atomic::check(path).map_err(|e| Failure::Failed(format!("{e}; nothing was started")))?;
    atomic::sweep(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")));
    Ok(())
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
    }
}
