//! `nunatak predict`: what a model sees in images.

use crate::engine::{Showing, log_softmax, show};
use crate::failure::Failure;
use crate::images::images;
use crate::model::Model;
use crate::outln;
use crate::output::{self, printable, say};
use crate::report::html::{Page, note, pairs};
use crate::report::thumbnails::{PICTURES, SIDE, Thumbnail, answered, gallery, pixels};
use crate::report::validation::skipped as left_out;
use crate::report::{self, read_by};
use nunatak_data::Sample;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Options of `nunatak predict`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The model: .safetensors, .pth or .nunatak; the network is read from it. Or the name of published weights, as of
    /// `nunatak finetune`
    pub model: PathBuf,
    /// Images, and folders of which all images are taken; - reads such names from stdin, one a line
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// How many answers are given
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,
    /// One list in JSON: path, and class, index and probability of every answer
    #[arg(long)]
    pub json: bool,
    /// A table in CSV: path, rank, class, index and probability, a line for every answer
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Writes a page in HTML: every image with its answers
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub showing: Showing,
}

/// Runs it.
///
/// # Errors
/// [`Failure`]; also where an image could not be read, after all others were answered.
pub fn run(args: &Args) -> Result<(), Failure> {
    args.showing.compute.level()?;
    let file = args.showing.open(&args.model)?;
    let model = file.parse(args.showing.reading.asked()?)?;
    let images: Vec<PathBuf> = images(&args.images)?.into_iter().map(|image| image.path).collect();
    if let Some(path) = &args.report {
        report::check(path, &read_by(&args.model, &images))?;
    }
    let mut gallery = Gallery::default();
    let samples: Vec<Sample> = images.iter().map(|path| Sample { path: path.clone(), label: 0 }).collect();
    let (mut list, mut skipped) = (Vec::new(), 0);
    if args.csv {
        line(["path", "rank", "class", "index", "probability"])?;
    }
    show(&model, samples, &args.showing, |batch, logits| {
        for (path, reason) in &batch.skipped {
            skipped += 1;
            say(format_args!("skipped {path:?}: {reason}"));
        }
        let mut seen = pixels(batch);
        if args.report.is_some() {
            gallery.skipped.extend_from_slice(&batch.skipped);
        }
        for (&index, row) in batch.indices.iter().zip(logits.chunks_exact(model.network.classes())) {
            let mut ranked: Vec<(usize, f64)> = log_softmax(row).map(f64::exp).enumerate().collect();
            // Stable: of equals the first class comes first.
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
            ranked.truncate(args.top as usize);
            let path = &images[index];
            if args.report.is_some() {
                gallery.add(path, seen.next().map(|(_, pixels)| pixels), &ranked, &model);
            }
            if args.json {
                let name = |i: usize| model.class_name(i).map_or_else(|| i.to_string(), str::to_owned);
                let top: Vec<_> = ranked.iter().map(|&(i, p)| json!({"class": name(i), "index": i, "probability": p})).collect();
                list.push(json!({"path": path.to_string_lossy(), "top": top}));
                continue;
            }
            if args.csv {
                for (rank, (i, p)) in ranked.iter().enumerate() {
                    let (name, path) =
                        (model.class_name(*i).map_or_else(|| i.to_string(), str::to_owned), path.to_string_lossy().into_owned());
                    line([path.as_str(), &(rank + 1).to_string(), &name, &i.to_string(), &format!("{p:.6}")])?;
                }
                continue;
            }
            outln!("{}", printable(&path.to_string_lossy()))?;
            for (i, p) in ranked {
                outln!("  {:6.2} %  {}", 100.0 * p, model.class(i))?;
            }
        }
        Ok(())
    })?;
    if args.json {
        outln!("{}", serde_json::Value::from(list))?;
    }
    if let Some(path) = &args.report {
        report::write(path, &gallery.page(args, &model))?;
    }
    match skipped {
        0 => Ok(()),
        n => Err(Failure::Failed(format!("{n} of {} images could not be read", images.len()))),
    }
}

/// What `--report` shows.
#[derive(Default)]
struct Gallery {
    images: Vec<(Option<Thumbnail>, String)>,
    skipped: Vec<(PathBuf, String)>,
}

impl Gallery {
    fn add(&mut self, path: &Path, pixels: Option<&[u8]>, ranked: &[(usize, f64)], model: &Model) {
        let picture = pixels.filter(|_| self.images.len() < PICTURES).and_then(|pixels| Thumbnail::of(pixels, SIDE));
        let answers = ranked.iter().map(|&(class, p)| (model.class(class), p));
        self.images.push((picture, answered(path, answers)));
    }

    fn page(self, args: &Args, model: &Model) -> Page {
        let title = args.model.file_name().unwrap_or(args.model.as_os_str()).to_string_lossy();
        let mut page = Page::new(&title, &format!("what it sees in {} images", self.images.len()));
        let many = self.images.len() > PICTURES;
        let few = if many { note(&format!("The first {PICTURES} are shown with their pictures.")) } else { String::new() };
        page.section("answers", "Answers", few + &gallery(self.images));
        page.section("skipped", "Left out", left_out(&self.skipped, Path::new("")));
        page.section("settings", "Settings", pairs(&args.showing.settings(model)));
        page
    }
}

/// Prints a line of CSV; what has a comma, a quotation mark or the end of a line in it stands in quotation marks.
fn line<'t>(fields: impl IntoIterator<Item = &'t str>) -> Result<(), Failure> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
    let told = |e: &dyn std::fmt::Display| Failure::Failed(e.to_string());
    writer.write_record(fields).map_err(|e| told(&e))?;
    let line = writer.into_inner().map_err(|e| told(&e))?;
    output::write(format_args!("{}", String::from_utf8_lossy(&line)))
}
