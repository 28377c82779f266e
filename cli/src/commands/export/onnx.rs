//! The export as ONNX: a model as one file that other programs execute.
//!
//! What the file says of itself besides, in its `metadata_props`:
//!
//! | key | what |
//! |---|---|
//! | `nunatak.classes` | the names of the classes, a list in JSON, where they are known |
//! | `nunatak.view` | how images are shown to it: the square's side, the shorter side before (see [`crate::about`]) |
//! | `nunatak.mean`, `nunatak.std` | what is subtracted from red, green and blue between 0 and 1, and by what they are divided |

use super::Args;
use crate::about::{About, View};
use crate::args::{self, Reading};
use crate::block;
use crate::failure::Failure;
use crate::model::{Model, ModelFile, check_writable, human_bytes};
use crate::outln;
use crate::output::say;
use crate::paths::{Named, refuse_same};
use crate::published;
use crate::setup::{Network, Setup};
use nunatak_data::Normalize;
use nunatak_nn::files::Head;
use nunatak_nn::files::onnx::{Onnx, OnnxError};
use nunatak_nn::files::state::State;
use nunatak_nn::{Level, Threads, Trainer};
use std::collections::BTreeMap;
use std::path::Path;

/// The side of images at which a network is planned to read its weights, whose shapes do not depend on it.
const SMALL: usize = 64;

/// Writes a model to `path`.
///
/// # Errors
/// [`Failure`]; what stood at `path` is then as it was.
pub(super) fn run(args: &Args, path: &Path) -> Result<(), Failure> {
    let named = |what, path: &Option<std::path::PathBuf>| path.iter().map(|path| (what, path.clone())).collect::<Vec<Named>>();
    refuse_same(&[("--onnx", path.to_owned())], &[named("--weights", &args.weights), named("--base", &args.base)].concat())?;
    // A link that leads nowhere is there too.
    if path.symlink_metadata().is_ok() && !args.overwrite {
        return Err(Failure::with(path.display(), "is there; nothing was written: give --onnx another name, or replace it by --overwrite"));
    }
    check_writable(path)?;
    let found = args.weights.as_deref().map(|given| published::find(given, args.arch.as_deref())).transpose()?;
    match &found {
        None => {
            let arch = args.arch.as_deref().ok_or_else(|| Failure::usage("name a network with --arch, or a file with --weights"))?;
            let network = args::network(arch, args.classes.map(|classes| classes as usize))?;
            say(format_args!("note: no --weights: they are drawn from seed {}", args.seed));
            write(path, network, &drawn(network, args.seed)?, None, args.size.map_or(View::of(224), View::of))
        }
        Some(weights) => {
            let file = ModelFile::open(weights, args.base.as_deref(), false)?.with_key(args.key.clone());
            let model = file.parse(Reading { arch: args.arch.clone(), stem: args.stem.clone() }.asked()?)?;
            model.tells_classes()?;
            if let Some(classes) = args.classes.filter(|classes| *classes as usize != model.network.classes()) {
                let there = model.network.classes();
                let file = weights.display();
                return Err(Failure::usage(format_args!("--classes {classes}: {file} tells {there} classes apart; leave the option out")));
            }
            let view = view(args, &model);
            write(path, model.network, &loaded(&model)?, model.classes.clone(), view)
        }
    }
}

/// How images are shown to a model: as is asked for, else as when it was trained. What is assumed is said.
fn view(args: &Args, model: &Model) -> View {
    let mut assumed: Vec<String> = model.assumed.iter().cloned().collect();
    let view = match (model.view, args.size) {
        (Some(view), None) => view,
        (Some(view), Some(size)) if view.size == size => view,
        (_, Some(size)) => View::of(size),
        (None, None) => {
            assumed.push("images are shown as 224 x 224 (--size)".into());
            View::of(224)
        }
    };
    if !assumed.is_empty() {
        say(format_args!("assumed, for {} does not tell: {}", model.path.display(), assumed.join("; ")));
    }
    view
}

/// The weights that a seed gives.
fn drawn(network: Network, seed: u64) -> Result<State, Failure> {
    let program = Setup::inference(network, 1, SMALL).plan()?.program;
    let mut memory = block::reserve(Trainer::bytes(&program))?;
    let mut trainer = Trainer::new(program, &mut memory, Level::detect(), Threads::serial())?;
    trainer.init(seed);
    Ok(trainer.state())
}

/// The weights of a model; of a delta with those that it is laid over.
fn loaded(model: &Model) -> Result<State, Failure> {
    let hold = model.delta().iter().flat_map(|delta| delta.tensors()).map(|tensor| tensor.name().to_string()).collect();
    let program = Setup { hold, ..Setup::inference(model.network, 1, SMALL) }.plan()?.program;
    let mut memory = block::reserve(Trainer::bytes(&program))?;
    let (level, threads) = (Level::detect(), Threads::serial());
    let mut trainer = match model.base {
        Some(base) => Trainer::with_weights(program, &mut memory, base, level, threads)?,
        None => Trainer::new(program, &mut memory, level, threads)?,
    };
    model.load(&mut trainer, Head::Load)?;
    Ok(trainer.state())
}

/// Writes the file, and says what it is.
fn write(path: &Path, network: Network, state: &State, classes: Option<Vec<String>>, view: View) -> Result<(), Failure> {
    let side = view.size as usize;
    let (graph, values) = Setup::inference(network, 1, side).record()?;
    let refused = |e: OnnxError| Failure::with(path.display(), e);
    let onnx = Onnx::new(&graph, values.prediction, &state.views(), &metadata(&network, classes, view)).map_err(refused)?;
    onnx.save(path).map_err(|e| refused(e.into()))?;
    outln!(
        "{}: ONNX, {} with {} classes; input [N, {}, {side}, {side}], logits [N, {}]; {}",
        path.display(),
        network.name(),
        network.classes(),
        network.in_channels(),
        network.classes(),
        human_bytes(onnx.len() as usize),
    )
}

/// What the file says of itself besides.
fn metadata(network: &Network, classes: Option<Vec<String>>, view: View) -> BTreeMap<String, String> {
    // What else is no picture, and nobody knows how it was prepared.
    let pictures = network.in_channels() == 3;
    let mut metadata = About { classes, view: Some(view).filter(|_| pictures), recipe: None }.metadata();
    if pictures {
        let Normalize { mean, std } = Normalize::IMAGENET;
        // A list in JSON of the shortest digits: in double the numbers of 32 bits would have twice as many.
        let list = |numbers: [f32; 3]| format!("[{}]", numbers.map(|number| number.to_string()).join(","));
        metadata.insert("nunatak.mean".into(), list(mean));
        metadata.insert("nunatak.std".into(), list(std));
    }
    metadata
}
