//! The sections of a page that answers to labelled images fill.

use super::answers::{Answer, Answers};
use super::calibration::Calibration;
use super::classes::Scores;
use super::confusion;
use super::html::{Cell, Page, note, table, text};
use super::thumbnails::{Thumbnail, gallery, path_line};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Answers that are shown with their images.
pub const WORST: usize = 12;
/// Files that are named; of more the number is said.
const NAMED: usize = 50;

/// What a model said, and to what.
pub struct Shown<'s> {
    /// The answers.
    pub answers: &'s Answers,
    /// The names of the classes.
    pub names: &'s [String],
    /// The pictures of [`Answers::worst`], by the number of the sample.
    pub pictures: BTreeMap<usize, Thumbnail>,
    /// Where each sample lies.
    pub path: &'s dyn Fn(usize) -> PathBuf,
    /// What paths are shown without.
    pub folder: &'s Path,
}

impl Shown<'_> {
    /// The numbers that are seen first.
    pub fn numbers(&self, page: &mut Page) {
        let scores = Scores::of(self.answers, self.names.len());
        page.number(format!("{:.2} %", 100.0 * self.answers.top1()), "top-1");
        page.number(format!("{} of {}", self.answers.right(), self.answers.0.len()), "right answers");
        page.number(format!("{:.4}", self.answers.mean_loss()), "loss");
        page.number(format!("{:.3}", scores.macro_mean().f1), "F1, mean of the classes");
        page.number(format!("{:.4}", Calibration::of(self.answers).error()), "calibration error");
    }

    /// The sections.
    pub fn sections(&self, page: &mut Page) {
        page.section("confusion", "Confusion matrix", confusion::section(self.answers, self.names));
        page.section("classes", "Classes", self.classes());
        page.section("losses", "Top losses", self.worst());
        page.section("calibration", "Calibration", Calibration::of(self.answers).section());
    }

    fn classes(&self) -> String {
        note(
            "Precision: of what is taken for the class, how much is of it. Recall: of the class, how much is taken for it. F1: their \
             harmonic mean. A dash: no image to divide by; it counts 0 in the means.",
        ) + &Scores::of(self.answers, self.names.len()).table(self.names)
    }

    fn worst(&self) -> String {
        let caption = |answer: &Answer| {
            let (truth, said) = (text(&self.names[answer.truth]), text(&self.names[answer.said]));
            let kind = if answer.is_right() { "right" } else { "said" };
            let path = (self.path)(answer.index);
            format!(
                "<b>{truth}</b><div class=\"{kind}\">taken for {said}, {:.1} %</div><div>loss {:.3}, {:.1} % for the class</div>{}",
                100.0 * answer.confidence,
                answer.loss,
                100.0 * (-answer.loss).exp(),
                path_line(&below(&path, self.folder))
            )
        };
        let worst = self.answers.worst(WORST);
        note("The images that the model found hardest: look here for wrong labels. Shown are the pixels that the network saw.")
            + &gallery(worst.iter().map(|answer| (self.pictures.get(&answer.index).cloned(), caption(answer))))
    }
}

/// A path without the folder that it lies below.
pub fn below(path: &Path, folder: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned()
}

/// A table of files that could not be read, and why; nothing where there is none.
pub fn skipped(files: &[(PathBuf, String)], folder: &Path) -> String {
    if files.is_empty() {
        return String::new();
    }
    let row = |(path, why): &(PathBuf, String)| vec![Cell::Text(below(path, folder)), Cell::Text(why.clone())];
    let rows: Vec<_> = files.iter().take(NAMED).map(row).collect();
    let more = files.len().saturating_sub(NAMED);
    let more = if more > 0 { note(&format!("and {more} more")) } else { String::new() };
    let count = if files.len() == 1 { "one file".into() } else { format!("{} files", files.len()) };
    note(&format!("Could not be read, and left out: {count}.")) + &table("list", &["file", "why"], &rows) + &more
}
