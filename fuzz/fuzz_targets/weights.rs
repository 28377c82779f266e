//! Files of weights that fit a network, with changed bytes and hashes that are right again, into trainers: `.safetensors`
//! with and without a heap, native files, deltas over their base, weights in place. After an error every tensor is as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nunatak_nn::files::save::Save;
use nunatak_nn::files::state::recipe_of;
use nunatak_nn::files::{Checkpoint, Head, Native};
use nunatak_nn::{Graph, Level, Loss, Recipe, Stem, Step, Threads, Trainer};
use std::sync::OnceLock;

#[path = "weights/change.rs"]
mod change;

fuzz_target!(|bytes: &[u8]| {
    let [how, rest @ ..] = bytes else { return };
    let files = good();
    match how % 4 {
        0 => load(rest, how & 4 != 0),
        1 => load(&change::text(&files[0], rest), how & 4 != 0),
        2 => native(&change::native(&files[1], rest)),
        _ => delta(&files[1], &change::native(&files[2], rest)),
    }
});

fn with_trainer(train: &str, weights: Option<Native>, then: impl FnOnce(&mut Trainer)) {
    let stem = Stem { kernel: 3, stride: 1, pad: 1, pool: false };
    let recipe = Recipe::new(&[1, 1], &[3, 5], stem, 2, 2).expect("a recipe");
    let graph = Graph::new();
    let values = graph.usual([2, 2, 8, 8], Loss::Sum, |g, x| recipe.record(g, x)).expect("a recording");
    let program = Step::new(&graph).root(values.root).train(train).plan().expect("a plan");
    let mut memory = vec![0; Trainer::bytes(&program)];
    let bound = match weights {
        Some(weights) => Trainer::with_weights(program, &mut memory, weights, Level::PORTABLE, Threads::serial()),
        None => Trainer::new(program, &mut memory, Level::PORTABLE, Threads::serial()),
    };
    if let Ok(mut trainer) = bound {
        then(&mut trainer);
    }
}

/// What a trainer's tensors and momenta are, as a file.
fn all(trainer: &Trainer) -> Vec<u8> {
    let mut file = vec![0; trainer.safetensors_bytes(true)];
    trainer.save_safetensors(true, &mut file).expect("room");
    file
}

/// Calls what loads, and compares where it was refused.
fn kept<E: std::fmt::Display>(trainer: &mut Trainer, load: impl FnOnce(&mut Trainer) -> Result<(), E>) {
    let before = all(trainer);
    if let Err(error) = load(trainer) {
        let text = error.to_string();
        assert!(text.len() < 8000 && !text.contains(|c: char| c.is_control() && c != '\n'), "{text}");
        assert!(all(trainer) == before, "a file was refused, and something has changed: {text}");
    }
}

fn load(bytes: &[u8], keep: bool) {
    let head = if keep { Head::Keep } else { Head::Load };
    with_trainer("all", None, |trainer| {
        trainer.init(1);
        kept(trainer, |trainer| trainer.load_safetensors(bytes, head));
        kept(trainer, |trainer| trainer.load_momentum_safetensors(bytes));
        if let Ok(file) = Checkpoint::parse(bytes) {
            let _ = recipe_of(&file).map(|recipe| recipe.to_string());
            kept(trainer, |trainer| trainer.load(&file, head).map(drop));
            kept(trainer, |trainer| trainer.load_momentum(&file));
        }
    });
}

fn native(bytes: &[u8]) {
    let Ok(file) = Native::parse(bytes) else { return };
    with_trainer("all", None, |trainer| {
        trainer.init(1);
        kept(trainer, |trainer| trainer.load_native(&file, false));
    });
    with_trainer("head", Some(file), |trainer| drop(all(trainer)));
}

fn delta(base: &[u8], bytes: &[u8]) {
    let Ok(delta) = Native::parse(bytes) else { return };
    with_trainer("all", Some(Native::parse(base).expect("good")), |trainer| kept(trainer, |trainer| trainer.load_delta(&delta)));
}

/// A network as `.safetensors` with momenta, as a native file, and a delta over that.
fn good() -> &'static [Vec<u8>; 3] {
    static GOOD: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
    GOOD.get_or_init(|| {
        let save = |trainer: &Trainer, what| {
            let saving = trainer.saving(what, &[("a", "one")]).expect("can be saved");
            let mut bytes = vec![0; saving.len()];
            saving.write_to(&mut bytes).expect("room");
            bytes
        };
        let mut files = [const { Vec::new() }; 3];
        with_trainer("all", None, |trainer| {
            trainer.init(1);
            files[0] = all(trainer);
            files[1] = save(trainer, Save::Network);
        });
        let base = files[1].clone();
        with_trainer("all", Some(Native::parse(&base).expect("good")), |trainer| files[2] = save(trainer, Save::Delta));
        files
    })
}
