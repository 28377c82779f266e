//! `nunatak predict`: what a model sees in images.

use crate::dataset::Sample;
use crate::engine::{Showing, log_softmax, show};
use crate::failure::Failure;
use crate::model::printable;
use crate::outln;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// Options of `nunatak predict`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The model: .safetensors, .pth or .nunatak; the network is read from it
    pub model: PathBuf,
    /// Images
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// How many answers are given
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,
    /// One list in JSON: path, and class, index and probability of every answer
    #[arg(long)]
    pub json: bool,
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
    let model = file.parse()?;
    let samples: Vec<Sample> = args.images.iter().map(|path| Sample { path: path.clone(), label: 0 }).collect();
    let mut list = Vec::new();
    let mut skipped = 0;
    show(&model, samples, &args.showing, |batch, logits| {
        for (path, reason) in &batch.skipped {
            skipped += 1;
            let _ = writeln!(std::io::stderr(), "skipped {path:?}: {reason}");
        }
        for (&index, row) in batch.indices.iter().zip(logits.chunks_exact(model.recipe.classes)) {
            let mut ranked: Vec<(usize, f64)> = log_softmax(row).map(f64::exp).enumerate().collect();
            // Stable: of equals the first class comes first.
            ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
            ranked.truncate(args.top as usize);
            let path = &args.images[index];
            if args.json {
                let name = |i: usize| model.classes.as_ref().map_or_else(|| i.to_string(), |names| names[i].clone());
                let top: Vec<_> = ranked.iter().map(|&(i, p)| json!({"class": name(i), "index": i, "probability": p})).collect();
                list.push(json!({"path": path.to_string_lossy(), "top": top}));
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
    match skipped {
        0 => Ok(()),
        n => Err(Failure::Failed(format!("{n} of {} images could not be read", args.images.len()))),
    }
}
