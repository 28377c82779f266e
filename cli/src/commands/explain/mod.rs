//! `nunatak explain`: where in images a model sees a class, as heat maps.
//!
//! | file | what it does |
//! |---|---|
//! | `cam` | the formula of Grad-CAM, and the backward walk that it needs |
//! | `paint` | a map as colours over an image |
//! | `files` | where the pictures go |

mod cam;
mod files;
mod paint;

use crate::args::distance;
use crate::engine::{Depth, Engine, Showing, largest, log_softmax, show_by};
use crate::failure::Failure;
use crate::images::{Image, images};
use crate::model::{Model, replace};
use crate::outln;
use crate::output::{printable, say};
use crate::report::html::{Page, note, pairs};
use crate::report::thumbnails::{PICTURES, SIDE, Thumbnail, answered, gallery, pixels, png};
use crate::report::validation::skipped as left_out;
use crate::report::{self, read_by};
use crate::setup::Network;
use cam::{HeatMap, heat_maps};
use nunatak_data::{Batch, Sample};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Options of `nunatak explain`.
#[derive(clap::Args, Debug)]
#[command(
    long_about = "Where in images a model sees a class: heat maps (Grad-CAM).\n\nThe gradient of the class's logit says how much each \
                  channel of the last feature map before the pooling speaks for the class; the map is their weighted sum, where \
                  it is positive. It is scaled to its maximum, enlarged to what the network sees of the image, and laid over \
                  that: dark blue where nothing speaks for the class, over green to red where most does."
)]
pub struct Args {
    /// The model: .safetensors, .pth or .nunatak; the network is read from it. Or the name of published weights, as of
    /// `nunatak finetune`
    pub model: PathBuf,
    /// Images, and folders of which all images are taken; - reads such names from stdin, one a line
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// The folder for the pictures, NAME.cam.png for each image; made where it is not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The class that is looked for: its name, or its index from 0; the likeliest of each image where not given
    #[arg(long, value_name = "NAME_OR_INDEX")]
    pub class: Option<String>,
    /// Replaces pictures that are there
    #[arg(long)]
    pub overwrite: bool,
    /// One list in JSON: path, class, index, probability, file, and the map before it is enlarged
    #[arg(long)]
    pub json: bool,
    /// Writes a page in HTML: every picture with its class
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub showing: Showing,
}

/// Runs it.
///
/// # Errors
/// [`Failure`]; also where an image could not be read, after all others were explained.
pub fn run(args: &Args) -> Result<(), Failure> {
    args.showing.compute.level()?;
    let file = args.showing.open(&args.model)?;
    let model = file.parse(args.showing.reading.asked()?)?;
    model.takes_images()?;
    model.tells_classes()?;
    if let Network::Int8(_) = model.network {
        let what = "its layers compute in 8 bits, through which no gradient passes; explain the model of floats that it was made of";
        return Err(Failure::with(model.path.display(), what));
    }
    let class = args.class.as_deref().map(|class| class_of(&model, class)).transpose()?;
    shows_places(&model, &args.showing)?;
    let images = images(&args.images)?;
    let outputs = files::outputs(&args.out, &images);
    let paths: Vec<PathBuf> = images.iter().map(|image| image.path.clone()).collect();
    let read: Vec<PathBuf> = std::iter::once(args.model.clone()).chain(paths.iter().cloned()).collect();
    files::check(&args.out, &outputs, &read, args.report.as_deref(), args.overwrite)?;
    if let Some(path) = &args.report {
        report::check(path, &read_by(&args.model, &paths))?;
    }
    let samples = paths.into_iter().map(|path| Sample { path, label: 0 }).collect();
    let mut work =
        Work { args, model: &model, images: &images, outputs: &outputs, class, list: Vec::new(), shown: Vec::new(), skipped: Vec::new() };
    show_by(&model, samples, &args.showing, Depth::Map, |engine, batch, logits| work.explain(engine, batch, logits))?;
    if args.json {
        outln!("{}", serde_json::Value::from(std::mem::take(&mut work.list)))?;
    }
    let skipped = work.skipped.len();
    if let Some(path) = &args.report {
        report::write(path, &work.page())?;
    }
    match skipped {
        0 => Ok(()),
        n => Err(Failure::Failed(format!("{n} of {} images could not be read", images.len()))),
    }
}

/// The class that is meant: of this name, else of this index.
fn class_of(model: &Model, asked: &str) -> Result<usize, Failure> {
    let classes = model.network.classes();
    let mut named = (0..classes).filter(|&i| model.class_name(i) == Some(asked));
    match (named.next(), named.next()) {
        (Some(index), None) => return Ok(index),
        (Some(first), Some(second)) => {
            return Err(Failure::usage(format_args!(
                "--class: the classes {first} and {second} are both called {asked:?}; give the index"
            )));
        }
        (None, _) => {}
    }
    match asked.parse::<usize>() {
        Ok(index) if index < classes => return Ok(index),
        Ok(index) => {
            let last = classes.saturating_sub(1);
            return Err(Failure::usage(format_args!("--class {index}: the model has {classes} classes; give an index from 0 to {last}")));
        }
        Err(_) => {}
    }
    let mut near: Vec<(usize, &str)> = (0..classes).filter_map(|i| model.class_name(i)).map(|name| (distance(asked, name), name)).collect();
    near.sort();
    let near: Vec<String> = near.iter().take(5).map(|(_, name)| format!("{name:?}")).collect();
    let known = if near.is_empty() { "its classes have no names".into() } else { format!("near: {}", near.join(", ")) };
    let last = classes.saturating_sub(1);
    Err(Failure::usage(format_args!("--class: the model has no class {asked:?}; {known}; an index from 0 to {last} will do too")))
}

/// Refuses a network without a feature map, and images so small that the map is one place.
fn shows_places(model: &Model, showing: &Showing) -> Result<(), Failure> {
    let side = showing.view(model).size as usize;
    let shape = Depth::Map.setup(model.network, 1, side).plan()?.map_shape();
    let why = match shape {
        Some([_, _, height, width]) if height * width > 1 => return Ok(()),
        Some(_) => {
            let larger = (4 * side).max(224);
            format!(
                "its last feature map of images of {side} x {side} is one place, which shows nothing; take a larger --size, such as {larger}"
            )
        }
        None => "the network pools no feature map over all places, as a heat map asks for; explain a ResNet or a MobileNet".into(),
    };
    Err(Failure::with(model.path.display(), why))
}

/// A run.
struct Work<'a> {
    args: &'a Args,
    model: &'a Model<'a>,
    images: &'a [Image],
    outputs: &'a [PathBuf],
    class: Option<usize>,
    /// For `--json`.
    list: Vec<serde_json::Value>,
    /// For `--report`.
    shown: Vec<(Option<Thumbnail>, String)>,
    skipped: Vec<(PathBuf, String)>,
}

impl Work<'_> {
    /// Writes and tells a batch.
    fn explain(&mut self, engine: &mut Engine, batch: &Batch, logits: &[f32]) -> Result<(), Failure> {
        for (path, reason) in &batch.skipped {
            say(format_args!("skipped {path:?}: {reason}"));
        }
        self.skipped.extend_from_slice(&batch.skipped);
        if batch.indices.is_empty() {
            return Ok(());
        }
        let classes = self.model.network.classes();
        let rows = || logits.chunks_exact(classes);
        let chosen: Vec<usize> = rows().map(|row| self.class.unwrap_or_else(|| largest(row))).collect();
        let maps = heat_maps(engine, classes, &chosen)?;
        for ((((index, pixels), row), class), map) in pixels(batch).zip(rows()).zip(chosen).zip(maps) {
            let probability = log_softmax(row).nth(class).map_or(f64::NAN, f64::exp);
            let map = map.ok_or_else(|| {
                Failure::with(
                    printable(&self.images[index].path.to_string_lossy()),
                    format_args!(
                        "the gradient of {} in {} is not finite: its weights or statistics are too large or broken; train it anew, \
                         with a lower rate",
                        self.model.class(class),
                        self.model.path.display(),
                    ),
                )
            })?;
            self.image(index, pixels, (class, probability), &map)?;
        }
        Ok(())
    }

    /// Writes and tells an image.
    fn image(&mut self, index: usize, pixels: &[u8], (class, probability): (usize, f64), map: &HeatMap) -> Result<(), Failure> {
        let (path, out) = (&self.images[index].path, &self.outputs[index]);
        let side = (pixels.len() / 3).isqrt();
        let picture = paint::overlay(pixels, side, map);
        let bytes = png(&picture, side).ok_or_else(|| Failure::with(out.display(), "can't be made a PNG; take a smaller --size"))?;
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder).map_err(|e| Failure::with(folder.display(), format_args!("can't be made: {e}")))?;
        }
        replace(out, &bytes)?;
        let name = self.model.class(class);
        if map.peak == 0.0 {
            say(format_args!("note: {}: no place speaks for {name}; the map is zeros", printable(&path.to_string_lossy())));
        }
        if self.args.report.is_some() {
            let thumbnail = if self.shown.len() < PICTURES { Thumbnail::of(&picture, SIDE) } else { None };
            self.shown.push((thumbnail, answered(path, [(name.clone(), probability)])));
        }
        if self.args.json {
            let class_name = self.model.class_name(class).map_or_else(|| class.to_string(), str::to_owned);
            let rounded: Vec<f64> = map.numbers.iter().map(|number| (number * 1e6).round() / 1e6).collect();
            self.list.push(json!({
                "path": path.to_string_lossy(),
                "class": class_name,
                "index": class,
                "probability": probability,
                "file": out.to_string_lossy(),
                "map": rounded.chunks(map.width).collect::<Vec<_>>(),
                "peak": map.peak,
            }));
            return Ok(());
        }
        outln!("{}", printable(&path.to_string_lossy()))?;
        outln!("  {:6.2} %  {name}  {}", 100.0 * probability, printable(&out.to_string_lossy()))
    }

    /// The report.
    fn page(self) -> Page {
        let title = self.args.model.file_name().unwrap_or(self.args.model.as_os_str()).to_string_lossy();
        let mut page = Page::new(&title, &format!("where it sees a class in {} images", self.shown.len()));
        let mut words = note("Red is where the last feature map speaks most for the class, dark blue where it does not speak for it.");
        if self.shown.len() > PICTURES {
            words += &note(&format!("The first {PICTURES} are shown with their pictures."));
        }
        page.section("maps", "Heat maps", words + &gallery(self.shown));
        page.section("skipped", "Left out", left_out(&self.skipped, Path::new("")));
        let mut settings = self.args.showing.settings(self.model);
        let class = self.class.map_or_else(|| "the likeliest of each image".into(), |class| self.model.class(class));
        settings.insert(1, ("class".into(), class));
        page.section("settings", "Settings", pairs(&settings));
        page
    }
}
