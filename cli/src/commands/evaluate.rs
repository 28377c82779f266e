//! `nunatak evaluate`: how often a model is right, class by class, and what it takes for what.

use crate::engine::{Showing, largest, log_softmax, show};
use crate::failure::Failure;
use crate::model::Model;
use crate::outln;
use crate::output::printable;
use crate::output::say;
use crate::report::answers::{Answer, Answers};
use crate::report::html::{Page, pairs};
use crate::report::thumbnails::read_again;
use crate::report::validation::{Shown, WORST, skipped};
use crate::report::{self, read_by};
use nunatak_data::{ImageFolder, Sample};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Options of `nunatak evaluate`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The model: .safetensors, .pth or .nunatak; the network is read from it. Or the name of published weights, as of
    /// `nunatak finetune`
    pub model: PathBuf,
    /// Folder with one folder of images per class; where it has train/ and val/, val/ is taken; or a table FILE.csv
    pub dir: PathBuf,
    /// Everything as one object of JSON
    #[arg(long)]
    pub json: bool,
    /// Writes a page in HTML: the confusion matrix, precision and recall, calibration, the images with the largest loss
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub showing: Showing,
}

/// More classes than this make no readable table.
const TABLE: usize = 20;
/// The confusion of more classes than this takes too much memory: their number squared.
const MOST: usize = 10_000;
/// How many confusions are listed instead.
const LISTED: usize = 10;

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &Args) -> Result<(), Failure> {
    args.showing.compute.level()?;
    let began = Instant::now();
    if let Some(path) = &args.report {
        report::check(path, &read_by(&args.model, std::slice::from_ref(&args.dir)))?;
    }
    let file = args.showing.open(&args.model)?;
    let model = file.parse(args.showing.reading.asked()?)?;
    model.tells_classes()?;
    let samples = samples(args, &model)?;
    if model.network.classes() > MOST {
        return Err(Failure::with(args.model.display(), format_args!("{} classes; at most {MOST} are compared", model.network.classes())));
    }
    let mut result = Counts::new(model.network.classes());
    let mut seen = args.report.as_deref().map(|path| Seen::new(path, &samples));
    show(&model, samples, &args.showing, |batch, logits| {
        for (path, reason) in &batch.skipped {
            result.skipped += 1;
            say(format_args!("skipped {path:?}: {reason}"));
        }
        let images = batch.labels.iter().zip(&batch.indices);
        for ((&label, &index), row) in images.zip(logits.chunks_exact(model.network.classes())) {
            result.add(label as usize, row);
            seen.iter_mut().for_each(|seen| seen.answers.0.push(Answer::of(index, label as usize, row)));
        }
        seen.iter_mut().for_each(|seen| seen.skipped.extend_from_slice(&batch.skipped));
        Ok(())
    })?;
    if result.images == 0 {
        return Err(Failure::with(args.dir.display(), "none of its images could be read"));
    }
    let written = seen.map_or(Ok(()), |seen| seen.write(args, &model, began));
    if args.json { outln!("{}", result.json(&model)) } else { result.print(&model) }?;
    written
}

/// What `--report` shows.
struct Seen<'p> {
    path: &'p Path,
    samples: Vec<Sample>,
    answers: Answers,
    skipped: Vec<(PathBuf, String)>,
}

impl<'p> Seen<'p> {
    fn new(path: &'p Path, samples: &[Sample]) -> Seen<'p> {
        Seen { path, samples: samples.to_vec(), answers: Answers::default(), skipped: Vec::new() }
    }

    /// Writes the page.
    fn write(self, args: &Args, model: &Model, began: Instant) -> Result<(), Failure> {
        let seconds = began.elapsed().as_secs_f64();
        let Seen { path, samples, answers, skipped: broken } = self;
        let name = |c: usize| model.class_name(c).map_or_else(|| format!("class {c}"), str::to_owned);
        let names: Vec<String> = (0..model.network.classes()).map(name).collect();
        let worst: Vec<usize> = answers.worst(WORST).iter().map(|answer| answer.index).collect();
        let pictures = read_again(&args.showing.loader(model, samples.clone())?, &worst);
        let title = args.model.file_name().unwrap_or(args.model.as_os_str()).to_string_lossy();
        let mut page = Page::new(&title, &format!("evaluated on {} images of {}", answers.0.len(), args.dir.display()));
        let of = |index: usize| samples[index].path.clone();
        let shown = Shown { answers: &answers, names: &names, pictures, path: &of, folder: &args.dir };
        shown.numbers(&mut page);
        shown.sections(&mut page);
        page.section("skipped", "Left out", skipped(&broken, &args.dir));
        let mut settings = args.showing.settings(model);
        settings.insert(1, ("images".into(), args.dir.to_string_lossy().into_owned()));
        page.section("settings", "Settings", pairs(&settings));
        let time =
            [("seconds", format!("{seconds:.1}")), ("images a second", format!("{:.1}", answers.0.len() as f64 / seconds.max(1e-9)))];
        page.section("time", "Time", pairs(&time.map(|(key, value)| (key.to_string(), value))));
        report::write(path, &page)
    }
}

/// The images of the folder, with the labels that the model gives to classes of these names.
fn samples(args: &Args, model: &Model) -> Result<Vec<Sample>, Failure> {
    let folder = |e: nunatak_data::FolderError| Failure::Failed(e.to_string());
    let dir = &args.dir;
    let found = ImageFolder::measured(dir).map_err(folder)?;
    found.notes.iter().for_each(say);
    let labels: Vec<usize> = match &model.classes {
        Some(names) => {
            let place = |class: &String| names.iter().position(|n| n == class);
            let unknown: Vec<_> = found.classes.iter().filter(|c| place(c).is_none()).take(5).map(|c| format!("{c:?}")).collect();
            if !unknown.is_empty() {
                return Err(Failure::with(
                    dir.display(),
                    format_args!("the model knows no class {}; it knows {} classes: {}", unknown.join(", "), names.len(), some(names)),
                ));
            }
            found.classes.iter().filter_map(place).collect()
        }
        None if found.classes.len() == model.network.classes() => (0..found.classes.len()).collect(),
        None => {
            return Err(Failure::with(
                dir.display(),
                format_args!(
                    "has {} classes, but the model tells {} apart and has no names for them, so their order can't be known",
                    found.classes.len(),
                    model.network.classes()
                ),
            ));
        }
    };
    Ok(found.val.into_iter().map(|s| Sample { label: labels[s.label], ..s }).collect())
}

fn some(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(5).map(|n| format!("{n:?}")).collect();
    format!("{}{}", shown.join(", "), if names.len() > 5 { ", …" } else { "" })
}

/// What stands over the columns of a table: the names where they are short, their beginnings where those differ, else
/// numbers from 1.
fn columns(names: &[String]) -> Vec<String> {
    const CELL: usize = 8;
    let cut: Vec<String> = names.iter().map(|name| name.chars().take(CELL).collect()).collect();
    let different = cut.iter().collect::<std::collections::BTreeSet<_>>().len() == names.len();
    if different { cut } else { (1..=names.len()).map(|n| n.to_string()).collect() }
}

/// What was seen and what was said.
struct Counts {
    classes: usize,
    images: usize,
    skipped: usize,
    loss: f64,
    /// `[truth][answer]`.
    confusion: Vec<u64>,
}

impl Counts {
    fn new(classes: usize) -> Counts {
        Counts { classes, images: 0, skipped: 0, loss: 0.0, confusion: vec![0; classes * classes] }
    }

    fn add(&mut self, label: usize, logits: &[f32]) {
        self.images += 1;
        self.loss -= log_softmax(logits).nth(label).unwrap_or(f64::NAN);
        self.confusion[label * self.classes + largest(logits)] += 1;
    }

    fn row(&self, truth: usize) -> &[u64] {
        &self.confusion[truth * self.classes..][..self.classes]
    }
    fn of(&self, truth: usize) -> (u64, u64) {
        (self.row(truth)[truth], self.row(truth).iter().sum())
    }
    fn right(&self) -> u64 {
        (0..self.classes).map(|c| self.of(c).0).sum()
    }

    fn json(&self, model: &Model) -> serde_json::Value {
        let per_class: Vec<_> = (0..self.classes)
            .map(|c| {
                let (right, n) = self.of(c);
                let name = model.class_name(c).map_or_else(|| c.to_string(), str::to_owned);
                json!({"class": name, "n": n, "correct": right, "top1": if n > 0 { Some(right as f64 / n as f64) } else { None }})
            })
            .collect();
        json!({
            "top1": self.right() as f64 / self.images as f64,
            "n": self.images,
            "correct": self.right(),
            "loss": self.loss / self.images as f64,
            "skipped": self.skipped,
            "per_class": per_class,
            "confusion": (0..self.classes).map(|c| self.row(c).to_vec()).collect::<Vec<_>>(),
        })
    }

    fn print(&self, model: &Model) -> Result<(), Failure> {
        let percent = |right: u64, n: u64| 100.0 * right as f64 / n as f64;
        outln!("top-1 {:.2} % ({} of {})", percent(self.right(), self.images as u64), self.right(), self.images)?;
        outln!("loss {:.4}", self.loss / self.images as f64)?;
        let seen: Vec<usize> = (0..self.classes).filter(|&c| self.of(c).1 > 0).collect();
        let names: Vec<String> = (0..self.classes).map(|c| model.class(c)).collect();
        let wide = seen.iter().map(|&c| names[c].chars().count()).max().unwrap_or(0).max(5);
        outln!("\n{:wide$}  {:>8}  {:>6}  images", "class", "top-1", "right")?;
        for &c in &seen {
            let (right, n) = self.of(c);
            outln!("{:wide$}  {:6.2} %  {right:>6}  {n:>6}", names[c], percent(right, n))?;
        }
        if self.classes <= TABLE { self.print_table(&names, wide) } else { self.print_list(&names) }
    }

    /// The columns have the names of the rows, cut to what a cell holds; numbers, which the rows have too, where that
    /// would leave two of them alike.
    fn print_table(&self, names: &[String], wide: usize) -> Result<(), Failure> {
        outln!("\nconfusion: rows are the truth, columns the model's answers")?;
        let wide = wide.max(names.iter().map(|n| n.chars().count()).max().unwrap_or(0));
        let digits = self.confusion.iter().max().map_or(1, |m| m.to_string().len());
        let columns = columns(names);
        let cell = columns.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(digits).max(3);
        let numbered = columns != *names && columns.first().is_some_and(|first| first == "1");
        let mark = |c: usize| if numbered { format!("{:>2} ", c + 1) } else { String::new() };
        let head: Vec<_> = columns.iter().map(|name| format!("{name:>cell$}")).collect();
        outln!("{:indent$}  {}", "", head.join(" "), indent = wide + mark(0).len())?;
        for (c, name) in names.iter().enumerate() {
            let cells: Vec<_> = self.row(c).iter().map(|n| format!("{n:>cell$}")).collect();
            outln!("{}{name:wide$}  {}", mark(c), cells.join(" "))?;
        }
        Ok(())
    }

    fn print_list(&self, names: &[String]) -> Result<(), Failure> {
        let wrong = |i: &usize| i / self.classes != i % self.classes && self.confusion[*i] > 0;
        let mut pairs: Vec<usize> = (0..self.confusion.len()).filter(wrong).collect();
        pairs.sort_by_key(|&i| std::cmp::Reverse(self.confusion[i]));
        outln!("\nmost frequent confusions (the whole matrix: --json)")?;
        for &i in pairs.iter().take(LISTED) {
            outln!("{:>6}  {} taken for {}", self.confusion[i], printable(&names[i / self.classes]), printable(&names[i % self.classes]))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_names_that_tell_them_apart() {
        let of = |names: &[&str]| columns(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        assert_eq!(of(&["cat", "dog"]), ["cat", "dog"]);
        assert_eq!(of(&["sunflowers", "roses"]), ["sunflowe", "roses"]);
        assert_eq!(of(&["american bulldog", "american eagle"]), ["1", "2"]);
    }
}
