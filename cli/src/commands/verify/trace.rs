//! A trace: the tensors and settings that `trace.py` writes.
//!
//! | tensor | what |
//! |---|---|
//! | `input`, `labels` | images, and what the loss compares predictions with |
//! | `start.NAME` | the state dict before the first step |
//! | `forward.NAME` | what a layer gave in the first forward; any layers that have parameters, or none |
//! | `features`, `prediction` | what the head was given and gave, in the first forward |
//! | `loss` | of every step |
//! | `grad.NAME` | gradients of the first step |
//! | `state.NAME`, `momentum.NAME` | after the last step |
//!
//! Settings are in the metadata, under `nunatak.trace`, in JSON.

use super::compare::Tolerances;
use crate::args::{Compute, MemoryArg};
use crate::commands::step::{self, LossArg, ModeArg};
use crate::failure::Failure;
use crate::output::printable;
use nunatak_nn::files::{Checkpoint, Dtype, Entry};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The key of the metadata.
const KEY: &str = "nunatak.trace";
/// What every message about a trace that can't be used ends with.
const AGAIN: &str = "write it with the script that `nunatak verify --script` prints";
/// The least tolerance, of SEMANTICS: what float32 may be from float64 without a yardstick.
const LEAST: f64 = 5e-5;
/// The tolerance of gradients and states where PyTorch's own distance was not measured: one flipped sign of a relu moves
/// them that far.
const UNMEASURED: f64 = 1e-2;

/// How PyTorch was run.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Settings {
    arch: String,
    loss: LossArg,
    mode: ModeArg,
    steps: usize,
    lr: f32,
    #[serde(default)]
    momentum: f32,
    #[serde(default)]
    dampening: f32,
    #[serde(default)]
    weight_decay: f32,
    #[serde(default)]
    nesterov: bool,
    #[serde(default)]
    maximize: bool,
    #[serde(default = "all")]
    trainable: String,
    /// Whether it computed in float64.
    #[serde(default)]
    double: bool,
    /// How far PyTorch's float32 is from its float64 in the first forward.
    first: Option<f64>,
    /// How far float32 and disturbed runs are from it in all else.
    rest: Option<f64>,
    torch: Option<String>,
}

fn all() -> String {
    "all".into()
}

/// A trace whose tensors are numbers.
pub(super) struct Trace<'f> {
    pub(super) path: PathBuf,
    file: Checkpoint<'f>,
    settings: Settings,
    classes: usize,
}

impl<'f> Trace<'f> {
    /// Reads a trace; whether all gradients and states are there is seen when they are compared.
    ///
    /// # Errors
    /// [`Failure`] that names the file, what is wrong and what to do.
    pub(super) fn parse(path: &Path, bytes: &'f [u8]) -> Result<Trace<'f>, Failure> {
        let bad = |what: String| Failure::with(path.display(), what);
        let file = Checkpoint::parse_all(bytes).map_err(|e| bad(e.to_string()))?;
        let Some(text) = file.metadata().get(KEY) else {
            return Err(bad(format!("is no trace: its metadata have no {KEY:?}; {AGAIN}")));
        };
        let settings: Settings = serde_json::from_str(text)
            .map_err(|e| bad(format!("the settings under {KEY:?} can't be used: {}; {AGAIN}", printable(&e.to_string()))))?;
        let due = ["input", "labels", "features", "prediction", "loss"];
        let missing: Vec<String> = due.iter().filter(|name| file.get(name).is_none()).map(|name| (*name).to_string()).collect();
        refuse_missing(path, &missing)?;
        let shape = |name: &str| file.get(name).map_or(&[][..], Entry::shape);
        if shape("loss") != [settings.steps] || settings.steps == 0 {
            let (shape, steps) = (shape("loss"), settings.steps);
            return Err(bad(format!("`loss` has the shape {shape:?}, expected [{steps}] with at least 1, as the settings say; {AGAIN}")));
        }
        let &[_, classes] = shape("prediction") else {
            return Err(bad(format!("`prediction` has the shape {:?}, expected [images, classes]; {AGAIN}", shape("prediction"))));
        };
        file.entries().iter().try_for_each(|entry| check(entry).map_err(bad))?;
        Ok(Trace { path: path.to_owned(), file, settings, classes })
    }

    /// The same steps, to be computed here.
    pub(super) fn steps(&self, compute: Compute, memory: MemoryArg) -> step::Args {
        let s = &self.settings;
        let layers = self.file.entries().iter().filter_map(|entry| entry.name().strip_prefix("forward."));
        step::Args {
            arch: s.arch.clone(),
            classes: Some(self.classes),
            weights: Some(self.path.clone()),
            key: Some("start".into()),
            in_place: false,
            input: self.path.clone(),
            loss: s.loss,
            mode: s.mode,
            trainable: s.trainable.clone(),
            lr: s.lr,
            momentum: s.momentum,
            dampening: s.dampening,
            weight_decay: s.weight_decay,
            nesterov: s.nesterov,
            maximize: s.maximize,
            no_dropout: true,
            layers: layers.map(str::to_string).collect(),
            no_fuse: false,
            steps: s.steps,
            compute,
            algorithm: None,
            update: None,
            micro_batch: None,
            accumulate: None,
            memory,
            seed: 0,
            out: PathBuf::new(),
        }
    }

    /// The tolerances: the one that is asked for, or those of the measured distances.
    pub(super) fn tolerances(&self, asked: Option<f64>) -> Tolerances {
        let of = |measured: Option<f64>, instead: f64| asked.unwrap_or(measured.map_or(instead, |far| LEAST.max(4.0 * far)));
        Tolerances { first: of(self.settings.first, LEAST), rest: of(self.settings.rest, UNMEASURED) }
    }

    /// The share of the largest number of a kind below which a tensor is 0 but for rounding.
    pub(super) fn zero(&self) -> f64 {
        if self.settings.double { 1e-10 } else { 1e-5 }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Entry<'f>> {
        self.file.get(name)
    }

    /// The names of what PyTorch computed.
    pub(super) fn computed(&self) -> impl Iterator<Item = &str> {
        let given = |name: &str| matches!(name, "input" | "labels") || name.starts_with("start.");
        self.file.entries().iter().map(Entry::name).filter(move |name| !given(name))
    }

    pub(super) fn arch(&self) -> &str {
        &self.settings.arch
    }

    /// PyTorch's version.
    pub(super) fn torch(&self) -> Option<&str> {
        self.settings.torch.as_deref()
    }
}

/// Refuses tensors without numbers, and numbers that nothing can be compared with.
fn check(entry: &Entry) -> Result<(), String> {
    let name = printable(entry.name());
    if entry.is_empty() {
        return Err(format!("{name} has no numbers: its shape is {:?}; {AGAIN}", entry.shape()));
    }
    if entry.dtype() == Dtype::I64 {
        return Ok(());
    }
    let mut numbers = Vec::new();
    entry.read_f32(&mut numbers).map_err(|e| e.to_string())?;
    match numbers.iter().filter(|number| !number.is_finite()).count() {
        0 => Ok(()),
        bad => Err(format!(
            "{bad} numbers of {name} are NaN or infinite, nothing can be compared with them: PyTorch's steps went too far (take a smaller \
             --lr of the script), or the state dict was damaged"
        )),
    }
}

/// Refuses a trace that lacks tensors.
///
/// # Errors
/// [`Failure`] that names the first of them.
pub(super) fn refuse_missing(path: &Path, missing: &[String]) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let shown: Vec<&str> = missing.iter().take(5).map(String::as_str).collect();
    let more = if missing.len() > shown.len() { ", …" } else { "" };
    let (count, shown) = (missing.len(), shown.join(", "));
    Err(Failure::with(path.display(), format_args!("lacks {count} of the tensors that are compared: {shown}{more}; {AGAIN}")))
}

/// Refuses a trace with tensors that are not computed here.
///
/// # Errors
/// [`Failure`] that names the first of them.
pub(super) fn refuse_unknown(path: &Path, name: &str, arch: &str) -> Result<(), Failure> {
    let (name, arch) = (printable(name), printable(arch));
    Err(Failure::with(path.display(), format_args!("holds {name}, which steps of {arch} with these settings do not have; {AGAIN}")))
}
