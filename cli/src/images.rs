//! The images that a command is given: by their names, by folders, by lines of stdin.

use crate::failure::Failure;
use nunatak_data::folder::{EXTENSIONS, images_below};
use std::path::{Path, PathBuf};

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it lies.
    pub path: PathBuf,
    /// Its path in the folder that was named; where the image itself was named, its file name.
    pub below: PathBuf,
}

impl Image {
    fn of(path: PathBuf, folder: Option<&Path>) -> Image {
        let below = folder.and_then(|folder| path.strip_prefix(folder).ok()).map(Path::to_owned);
        let below = below.or_else(|| path.file_name().map(PathBuf::from)).unwrap_or_default();
        Image { path, below }
    }
}

/// The images that are named, and those of the folders that are named, in order; `-` stands for the names in stdin.
///
/// # Errors
/// [`Failure`] where a folder can't be read or has no image, or stdin names none.
pub fn images(named: &[PathBuf]) -> Result<Vec<Image>, Failure> {
    let mut all = Vec::new();
    for path in named {
        match path.as_os_str() == "-" {
            true => {
                let lines = std::io::stdin().lines().collect::<Result<Vec<_>, _>>().map_err(|e| Failure::with("stdin", e))?;
                all.extend(lines.into_iter().filter(|line| !line.is_empty()).map(PathBuf::from));
            }
            false => all.push(path.clone()),
        }
    }
    if all.is_empty() {
        return Err(Failure::Failed("stdin names no image".into()));
    }
    let mut images = Vec::new();
    for path in &all {
        if !path.is_dir() {
            images.push(Image::of(path.clone(), None));
            continue;
        }
        let below = images_below(path).map_err(|e| Failure::Failed(e.to_string()))?;
        if below.is_empty() {
            return Err(Failure::with(
                path.display(),
                format_args!("no image is in it or below; images end in .{}", EXTENSIONS.join(" .")),
            ));
        }
        images.extend(below.into_iter().map(|image| Image::of(image, Some(path))));
    }
    Ok(images)
}
