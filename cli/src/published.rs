//! What is published for everybody: torchvision's weights files, and the names of ImageNet's classes.
//!
//! | file | what it does |
//! |---|---|
//! | `table` | which weights there are, their names, files and hashes |
//! | `places` | folders, addresses and variables |
//! | `fetch` | brings a file, checks it, gives it its name |
//! | `http` | one request |
//! | `part` | what of a file is there, and its hash |
//! | `bar` | what people see |

mod bar;
pub mod fetch;
mod http;
pub mod part;
pub mod places;
pub mod table;

use crate::failure::Failure;
use crate::model::View;
use crate::output::printable;
use places::{ADDRESS, Places};
use std::path::{Path, PathBuf};
use table::{IMAGENET, TABLE, USUAL, Weights};

/// The names of ImageNet's 1000 classes, in the order of the outputs, as torchvision writes them.
static NAMES: &str = include_str!("published/imagenet.txt");

/// How many classes ImageNet has.
pub const IMAGENET_CLASSES: usize = 1000;

/// The name of one of ImageNet's classes.
pub fn imagenet_class(index: usize) -> Option<&'static str> {
    NAMES.lines().nth(index)
}

/// The file that is meant where weights are asked for: the one at this path, or published weights of this name, which are
/// downloaded if they are not on this machine. `imagenet` means the network `arch`.
///
/// # Errors
/// [`Failure`] where there is neither, or the file can't be had.
pub fn find(given: &Path, arch: Option<&str>) -> Result<PathBuf, Failure> {
    match meant(given, arch)? {
        None => Ok(given.to_owned()),
        Some(weights) => fetch::get(weights, &Places::from_environment()?),
    }
}

/// Refuses published weights where weights are to be read in place: their files are no native ones.
///
/// # Errors
/// [`Failure::Usage`] that says how to make one.
pub fn refuse_in_place(given: &Path) -> Result<(), Failure> {
    let is_name = given.as_os_str() == IMAGENET || given.to_str().is_some_and(|name| table::named(name).is_some());
    match given.try_exists() {
        Ok(false) if is_name => Err(crate::engine::in_place_needs_native(given)),
        _ => Ok(()),
    }
}

/// The published weights that are meant; none where `given` is the path of something that is there.
fn meant(given: &Path, arch: Option<&str>) -> Result<Option<&'static Weights>, Failure> {
    let named = given.to_str().and_then(table::named);
    let imagenet = given.as_os_str() == IMAGENET;
    // A path that is there, or of which the system does not tell, wins over a name.
    if !matches!(given.try_exists(), Ok(false)) {
        if given.is_dir() && (named.is_some() || imagenet) {
            let full = named.unwrap_or(&TABLE[0]).name();
            let why = format_args!("is a folder here, and what is there comes before a name; torchvision's weights are {full} too");
            return Err(Failure::with(given.display(), why));
        }
        return Ok(None);
    }
    if imagenet {
        let arch = arch.unwrap_or(USUAL);
        let none = || {
            let known: Vec<&str> = networks().collect();
            Failure::usage(format_args!(
                "{IMAGENET}: nobody publishes weights of {}; there are some of {}",
                printable(arch),
                known.join(", ")
            ))
        };
        return table::named(arch).filter(|weights| weights.network == arch).map(Some).ok_or_else(none);
    }
    if named.is_some() {
        return Ok(named);
    }
    let looks_like_a_path = given.extension().is_some_and(|e| FORMATS.iter().any(|format| e.eq_ignore_ascii_case(format)))
        || given.components().count() > 1
        || given.is_absolute();
    let why = match looks_like_a_path {
        true => format!("can't be read: there is no such file; {}", address_for(given)),
        false => {
            let near = table::near(&given.to_string_lossy());
            format!("can't be read: there is no such file, and no weights of this name are published; near: {}", near.join(", "))
        }
    };
    Err(Failure::with(given.display(), why))
}

/// How the names of weights files end.
const FORMATS: [&str; 4] = ["pth", "pt", "safetensors", "nunatak"];

/// The networks of which weights are published.
fn networks() -> impl Iterator<Item = &'static str> {
    let first = |(i, weights): &(usize, &Weights)| TABLE[..*i].iter().all(|earlier| earlier.network != weights.network);
    TABLE.iter().enumerate().filter(first).map(|(_, weights)| weights.network)
}

/// What published weights are called whose file has this path.
pub fn name_of(path: &Path) -> Option<String> {
    table::of_file(path.file_name()?.to_str()?).map(Weights::name)
}

/// How images were shown to the network of a file, where it has the name of a published one.
pub fn view_of(path: &Path) -> Option<View> {
    table::of_file(path.file_name()?.to_str()?).map(Weights::view)
}

/// Where weights that are not at `path` could be had from: the file of that name or of the network of that name, else
/// an example.
fn address_for(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    match table::of_file(&file).or_else(|| table::named(&stem)) {
        Some(weights) => {
            let (name, file) = (weights.name(), weights.file);
            format!("the name {name} has it downloaded, or download {ADDRESS}{file} and name it here")
        }
        None => format!("torchvision's weights are at {ADDRESS}; the name {USUAL} has {ADDRESS}{} downloaded", TABLE[0].file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nunatak_nn::models::MODELS;

    #[test]
    fn classes_have_names() {
        assert_eq!(NAMES.lines().count(), IMAGENET_CLASSES);
        assert_eq!([0, 281, 999].map(imagenet_class), [Some("tench"), Some("tabby"), Some("toilet tissue")]);
        assert_eq!(imagenet_class(1000), None);
    }

    #[test]
    fn every_network_has_an_address() {
        for name in MODELS.iter().map(|model| model.name).chain(["resnet18", "resnet34"]) {
            let text = address_for(Path::new(name));
            assert!(text.contains(&format!("{ADDRESS}{name}-")), "{name}: {text}");
        }
        assert!(address_for(Path::new("models/resnet50-0676ba61.pth")).contains("/resnet50-0676ba61.pth"));
        assert!(address_for(Path::new("mine.pth")).contains("resnet18-f37072fd.pth"));
        assert_eq!(networks().count(), MODELS.len());
    }

    #[test]
    fn what_is_there_comes_before_a_name() {
        let file = |given: &str, arch: Option<&str>| meant(Path::new(given), arch).map(|found| found.map(|weights| weights.file));
        assert_eq!(file("imagenet", None).unwrap(), Some("resnet18-f37072fd.pth"));
        assert_eq!(file("imagenet", Some("resnet50")).unwrap(), Some("resnet50-11ad3fa6.pth"));
        assert_eq!(file("resnet50.IMAGENET1K_V1", Some("resnet18")).unwrap(), Some("resnet50-0676ba61.pth"));
        for arch in ["resnet8", "{\"block\":\"basic\"}", "resnet50.IMAGENET1K_V1", ""] {
            assert!(matches!(file("imagenet", Some(arch)), Err(Failure::Usage(text)) if text.contains("wide_resnet50_2")), "{arch}");
        }
        assert!(file("resnet-50", None).unwrap_err().text().contains("near: resnet50,"));
        assert!(file("x/resnet50", None).unwrap_err().text().contains("the name resnet50.IMAGENET1K_V2 has it downloaded"));
        let folder = tempfile::tempdir().unwrap();
        for name in ["imagenet", "resnet18", "x.pth"] {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            assert!(matches!(meant(&path, None), Ok(None)), "{name}");
        }
        // The tests run in the crate's folder, which has a `src`.
        assert!(matches!(file("src", None), Ok(None)));
    }

    #[test]
    fn published_files_are_shown_images_as_torchvision_does() {
        let resize = |path: &str| view_of(Path::new(path)).map(|view| view.resize);
        assert_eq!(resize("a/resnet50-11ad3fa6.pth"), Some(232));
        assert_eq!(resize("resnet50-0676ba61.pth"), Some(256));
        assert_eq!([resize("resnet50.pth"), resize("a/..")], [None, None]);
    }
}
