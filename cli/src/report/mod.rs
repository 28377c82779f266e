//! Pages in HTML that show what happened: one file each, which needs no network and runs no script.
//!
//! | file | what it does |
//! |---|---|
//! | `html` | the frame of a page, its tables, and text made harmless |
//! | `plot` | curves as SVG |
//! | `answers` | what a model said to images, and what is counted of it |
//! | `confusion` | what is taken for what |
//! | `classes` | precision, recall and F1 |
//! | `calibration` | whether a model knows how often it is right |
//! | `thumbnails` | small pictures inside the page |
//! | `validation` | the sections of a page that answers to labelled images fill |
//!
//! Markup is well formed in the sense of XML: every element is closed. The same results give the same bytes, apart
//! from sections of times.

pub mod answers;
pub mod calibration;
pub mod classes;
pub mod confusion;
pub mod html;
pub mod plot;
pub mod thumbnails;
pub mod validation;

use crate::failure::Failure;
use crate::model::{check_writable, replace};
use crate::paths::{Named, refuse_same};
use html::Page;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What every page begins with.
pub const BEGIN: &str = "<!DOCTYPE html>";

/// Refuses `--report FILE` in the place of something that is no page or is read, and where nothing can be written.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn check(path: &Path, read: &[Named]) -> Result<(), Failure> {
    refuse_same(&[("--report", path.to_owned())], read)?;
    if path.is_file() && !is_page(path) {
        return Err(Failure::with(path.display(), "is there and is no report; give --report another name"));
    }
    check_writable(path)
}

/// Whether a file begins as a page, or is empty.
fn is_page(path: &Path) -> bool {
    let mut first = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(BEGIN.len() as u64).read_to_end(&mut first));
    read.is_ok() && (first.is_empty() || first.eq_ignore_ascii_case(BEGIN.as_bytes()))
}

/// Writes a page, atomically.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn write(path: &Path, page: &Page) -> Result<(), Failure> {
    replace(path, page.to_html().as_bytes())
}

/// What a command reads, for [`check`].
pub fn read_by(model: &Path, images: &[PathBuf]) -> Vec<Named> {
    let images = images.iter().map(|path| ("the images", path.clone()));
    std::iter::once(("the model", model.to_owned())).chain(images).collect()
}
