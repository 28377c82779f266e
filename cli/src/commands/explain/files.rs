//! Where the pictures go, and that nothing is written over.

use crate::failure::Failure;
use crate::images::Image;
use crate::paths::real;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What is put in the place of an image's ending.
const ENDING: &str = "cam.png";

/// The picture of each image: of `cat.jpg` OUT/cat.cam.png, of an image in a folder that was named at the same place below
/// OUT. Where several images would have one, those after the first are numbered: cat-2.cam.png.
pub(super) fn outputs(out: &Path, images: &[Image]) -> Vec<PathBuf> {
    // Some file systems take large and small letters for the same.
    let key = |path: &Path| path.to_string_lossy().to_lowercase();
    let (mut taken, mut next) = (HashSet::new(), HashMap::new());
    let mut place = |image: &Image| {
        let below = image.below.with_extension(ENDING);
        let below = if below.as_os_str().is_empty() { PathBuf::from(format!("image.{ENDING}")) } else { below };
        if taken.insert(key(&below)) {
            return out.join(below);
        }
        let stem = image.below.file_stem().unwrap_or_default();
        let number: &mut u64 = next.entry(key(&below)).or_insert(2);
        loop {
            let mut name = stem.to_owned();
            name.push(format!("-{number}.{ENDING}"));
            let numbered = below.with_file_name(name);
            *number += 1;
            if taken.insert(key(&numbered)) {
                return out.join(numbered);
            }
        }
    };
    images.iter().map(&mut place).collect()
}

/// Refuses pictures in the place of what is read or of the report, and, unless that is asked for, of what is there. Makes
/// `out` where it is not there.
///
/// # Errors
/// [`Failure`] that names the file.
pub(super) fn check(out: &Path, outputs: &[PathBuf], read: &[PathBuf], report: Option<&Path>, overwrite: bool) -> Result<(), Failure> {
    if out.exists() && !out.is_dir() {
        return Err(Failure::usage(format_args!("--out {}: is a file; name a folder for the pictures", out.display())));
    }
    // A link that leads nowhere is there too.
    let there: Vec<&PathBuf> = outputs.iter().filter(|path| path.symlink_metadata().is_ok()).collect();
    let read: HashSet<PathBuf> = if there.is_empty() { HashSet::new() } else { read.iter().map(|path| real(path)).collect() };
    if let Some(path) = there.iter().find(|path| read.contains(&real(path))) {
        let path = path.display();
        return Err(Failure::usage(format_args!("--out: {path} is read and would be written over; give --out another folder")));
    }
    if let Some(path) = there.first().filter(|_| !overwrite) {
        return Err(Failure::with(
            path.display(),
            "is there; nothing was started: give --out another folder, or replace such pictures by --overwrite",
        ));
    }
    std::fs::create_dir_all(out).map_err(|e| Failure::with(out.display(), format_args!("can't be made: {e}")))?;
    let report = report.map(real);
    match outputs.iter().find(|path| report.as_deref().is_some_and(|report| real(path) == report)) {
        Some(path) => {
            Err(Failure::usage(format_args!("--report and a picture are the same file, {}; give --report another name", path.display())))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_a_picture_of_its_own() {
        let image = |below: &str| Image { path: PathBuf::from("x").join(below), below: below.into() };
        let names = ["cat.jpg", "cat.png", "red/cat.png", "CAT.PNG", "cat-2.png", "plain", "a.b.jpeg", ""];
        let places = outputs(Path::new("out"), &names.map(image));
        let due = [
            "cat.cam.png",
            "cat-2.cam.png",
            "red/cat.cam.png",
            "CAT-3.cam.png",
            "cat-2-2.cam.png",
            "plain.cam.png",
            "a.b.cam.png",
            "image.cam.png",
        ];
        assert_eq!(places, due.map(|name| Path::new("out").join(name)));
    }
}
