//! `FILE.report.html`: what happened, in one page.

use super::history::Line;
use super::log::short_json;
use super::paths::{config_path, report_path};
use super::progress::clock;
use super::resume::{Sums, load_entries};
use super::run::Run;
use super::survey::counts;
use crate::block::peak_rss;
use crate::failure::Failure;
use crate::model::{human_bytes, read_at_most};
use crate::output::say;
use crate::report::answers::Answers;
use crate::report::html::{Cell, Page, details, lines, note, pairs, table};
use crate::report::plot::{Plot, Series};
use crate::report::thumbnails::read_again;
use crate::report::validation::{Shown, WORST, skipped};
use crate::{report, weights};
use std::path::PathBuf;

/// Points of the learning rate's curve.
const POINTS: u64 = 400;
/// The largest file of options that is shown.
const MOST: u64 = 1 << 20;

/// How long an epoch took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    pub(super) epoch: u64,
    pub(super) seconds: f64,
    /// Images a second.
    pub(super) rate: Option<f64>,
}

impl Run<'_, '_> {
    /// Writes the report.
    ///
    /// # Errors
    /// [`Failure`] where it can't be written; the model is saved, and stays so.
    pub(super) fn report(&mut self) -> Result<(), Failure> {
        let path = report_path(&self.args.out);
        // A run that had nothing left to do leaves the report that is there.
        if self.args.no_report || (self.took.is_empty() && path.is_file()) {
            return Ok(());
        }
        let due = self.position.best.is_some_and(|best| best.images > 0);
        if self.best_answers.0.is_empty() && due {
            match self.answer_again() {
                Ok(answers) => self.best_answers = answers,
                Err(e) => say(format_args!("note: {} has no validation: {}", path.display(), e.text())),
            }
        }
        report::write(&path, &self.page())?;
        say(format_args!("{}: curves, confusion, top losses, calibration", path.display()));
        Ok(())
    }

    /// The best model's answers, where it was found before the run was stopped and gone on with. The trainer has its
    /// weights afterwards.
    fn answer_again(&mut self) -> Result<Answers, Failure> {
        let bytes = weights::read(&self.args.out)?;
        let checkpoint = weights::parse(&self.args.out, &bytes, None)?;
        load_entries(&self.args.out, "shown", &checkpoint, &mut self.engine.trainer)?;
        let validated = self.validate()?;
        self.progress.end();
        let answers = std::mem::take(&mut self.answers);
        // Half of the images would give wrong numbers.
        Ok(validated.map_or_else(Answers::default, |_| answers))
    }

    fn page(&self) -> Page {
        let out = &self.args.out;
        let title = out.file_name().unwrap_or(out.as_os_str()).to_string_lossy();
        let images = &self.position.images;
        let best = match self.position.best.map(|best| best.epochs) {
            Some(0) => "; the best model is the one before the first epoch".into(),
            Some(epoch) => format!("; the best model is that of epoch {epoch}"),
            None => String::new(),
        };
        let (epochs, dir, classes) = (self.position.epoch, self.args.folder().display(), self.classes().len());
        let lead = format!("{epochs} epochs on {} images of {classes} classes in {dir}, validated with {}{best}", images.train, images.val);
        let mut page = Page::new(&title, &lead);
        let answers = &self.best_answers;
        let worst: Vec<usize> = answers.worst(WORST).iter().map(|answer| answer.index).collect();
        let of = |index: usize| self.val.samples()[index].path.clone();
        let pictures = read_again(&self.val, &worst);
        let shown = Shown { answers, names: self.classes(), pictures, path: &of, folder: self.args.folder() };
        if !answers.0.is_empty() {
            shown.numbers(&mut page);
        }
        page.section("curves", "Curves", self.curves());
        if !answers.0.is_empty() {
            shown.sections(&mut page);
        }
        page.section("data", "Images", self.data());
        page.section("settings", "Settings", self.settings_shown());
        page.section("time", "Memory and time", self.memory_and_time());
        page
    }

    fn curves(&self) -> String {
        let history = &self.position.history;
        let points = |part: fn(&Line) -> Option<Sums>, of: fn(&Sums) -> f64| {
            history.iter().filter_map(|line| Some([line.epoch as f64, of(&part(line)?)])).collect::<Vec<_>>()
        };
        let both = |of: fn(&Sums) -> f64| {
            let train = Series { name: "training", class: "a", points: points(|line| line.train, of) };
            vec![train, Series { name: "validation", class: "b", points: points(|line| line.val, of) }]
        };
        let best = self.position.best.filter(|best| best.images > 0).map(|best| best.epochs as f64);
        let rate = vec![Series { name: "learning rate", class: "a", points: self.rates() }];
        let plots = [
            Plot { title: "Loss", series: both(Sums::mean_loss), best, shares: false },
            Plot { title: "Top-1", series: both(Sums::top1), best, shares: true },
            Plot { title: "Learning rate", series: rate, best: None, shares: false },
        ];
        let plots: String = plots.iter().map(Plot::figure).collect();
        let share = |sums: Option<Sums>| [sums.map(|s| format!("{:.4}", s.mean_loss())), sums.map(|s| format!("{:.2} %", s.percent()))];
        let row = |line: &Line| {
            let cells = share(line.train).into_iter().chain(share(line.val)).map(|text| Cell::Number(text.unwrap_or("–".into())));
            std::iter::once(Cell::Number(line.epoch.to_string())).chain(cells).collect::<Vec<_>>()
        };
        let rows: Vec<_> = history.iter().map(row).collect();
        let epochs = table("list", &["epoch", "loss", "top-1", "val loss", "val top-1"], &rows);
        let mut words = "Training is measured while the weights move, over the images of an epoch; validation after it.".to_string();
        if let [first, second] = &self.stages[..] {
            let (what, then) = (&first.phase.trainable, &second.phase.trainable);
            words += &format!(" {what} alone was trained in the first {} epochs, {then} after that.", first.phase.epochs);
        }
        if !self.settings.mixing_options().is_empty() {
            words += " Training saw mixed images, which are harder: its loss may lie above that of validation.";
        }
        format!("<div class=\"plots\">\n{plots}</div>\n{}{}", note(&words), details("The epochs", &epochs))
    }

    /// The learning rate of steps over the epochs that are done: the highest below the head, where layers have
    /// different ones.
    fn rates(&self) -> Vec<[f64; 2]> {
        let batches = self.train.batches().max(1) as u64;
        let steps = self.position.epoch.saturating_mul(batches);
        let count = steps.min(POINTS);
        // From the first step to the last.
        let step = |i: u64| (u128::from(i) * u128::from(steps - 1) / u128::from((count - 1).max(1))) as u64;
        let point = |step: u64| [(step + 1) as f64 / batches as f64, f64::from(self.rate_at(step / batches, step % batches))];
        (0..count).map(step).map(point).collect()
    }

    fn data(&self) -> String {
        let classes = self.classes();
        let [train, val] = [&self.train, &self.val].map(|loader| counts(loader.samples(), classes.len()));
        let row = |name: &str, train: usize, val: usize| {
            vec![Cell::Text(name.into()), Cell::Number(train.to_string()), Cell::Number(val.to_string())]
        };
        let mut rows: Vec<_> = classes.iter().enumerate().map(|(c, name)| row(name, train[c], val[c])).collect();
        rows.push(row("all", train.iter().sum(), val.iter().sum()));
        let broken: Vec<(PathBuf, String)> = self.named.iter().map(|(path, why)| (path.clone(), why.clone())).collect();
        table("list", &["class", "to train on", "to validate with"], &rows) + &skipped(&broken, self.args.folder())
    }

    fn settings_shown(&self) -> String {
        let mut list: Vec<(String, String)> = Vec::new();
        let mut put = |key: &str, value: String| list.push((key.to_string(), value));
        put("dir", self.args.folder().to_string_lossy().into_owned());
        put("weights", self.position.weights.clone().unwrap_or_else(|| "none: trained from scratch".into()));
        if let serde_json::Value::Object(settings) = short_json(&self.settings) {
            for (key, value) in &settings {
                let value = match value {
                    serde_json::Value::String(text) => text.clone(),
                    serde_json::Value::Null => "none".into(),
                    value => value.to_string(),
                };
                put(&key.replace('_', "-"), value);
            }
        }
        put("threads", self.args.compute.thread_count().to_string());
        put("instruction set", self.position.level.clone());
        put("memory", self.position.memory.clone());
        let file = config_path(&self.args.out);
        let text = read_at_most(&file, MOST).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let file = text.map_or_else(|_| String::new(), |text| details("The options, as a file for --config", &lines(&text)));
        pairs(&list) + &file
    }

    fn memory_and_time(&self) -> String {
        let features = self.features.as_ref().map_or(0, |features| features.bytes());
        let mut list = vec![("weights, gradients, momentum, values", human_bytes(self.engine.bytes))];
        if features > 0 {
            list.push(("features that are computed once", human_bytes(features)));
        }
        list.extend(peak_rss().map(|bytes| ("the program's largest memory", human_bytes(bytes))));
        list.push(("time of this part of the run", clock(self.began.elapsed().as_secs_f64())));
        let list: Vec<_> = list.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
        let row = |took: &Took| {
            let rate = took.rate.map_or("–".into(), |rate| format!("{rate:.1}"));
            vec![Cell::Number(took.epoch.to_string()), Cell::Number(format!("{:.2}", took.seconds)), Cell::Number(rate)]
        };
        let rows: Vec<_> = self.took.iter().map(row).collect();
        let resumed = if self.args.resume { note("The run was gone on with: these are the epochs since then.") } else { String::new() };
        let epochs = table("list", &["epoch", "seconds of training", "images a second"], &rows);
        pairs(&list) + &resumed + &details("The epochs", &epochs)
    }
}
