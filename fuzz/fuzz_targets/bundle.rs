//! Bundles: changed words with checksums that are right again. Every program of what is accepted runs in one block, which
//! goes from one program to the next.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nunatak_core::program::checksum;
use nunatak_nn::plan::bundle;
use nunatak_nn::step::check_program;
use nunatak_nn::{Bundle, Graph, Level, Loss, Mode, Recipe, Sgd, Stem, Step, Threads, Trainer, Update};
use std::sync::OnceLock;

#[path = "program/change.rs"]
mod change;

use change::{Change, Draw, repair};

/// Blocks of more numbers are not run.
const MOST: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    run(bytes);
    let mut changed = good().clone();
    let (edits, _) = bytes.as_chunks::<7>();
    edits.iter().take(8).for_each(|edit| Change::read(edit).apply(&mut changed));
    right(&mut changed);
    run(&changed);
    let mut draw = Draw::of(bytes);
    for _ in 0..8 {
        let mut more = changed.clone();
        Change::draw(&mut draw).apply(&mut more);
        right(&mut more);
        if run(&more) {
            changed = more;
        }
    }
});

/// Lengths and checksums: of the programs where the good ones lie, of the layout, of all.
fn right(bytes: &mut [u8]) {
    let places: Vec<_> = {
        let bundle = Bundle::check(good()).expect("good");
        let start = bundle.bytes().as_ptr() as usize;
        (0..bundle.count()).map(|i| (bundle.program_bytes(i).as_ptr() as usize - start, bundle.program_bytes(i).len())).collect()
    };
    places.iter().for_each(|(at, len)| repair(&mut bytes[*at..at + len]));
    if let Ok(first) = nunatak_nn::Program::check(&bytes[places[0].0..][..places[0].1]) {
        let hash = nunatak_core::bundle::layout_hash(&first).to_le_bytes();
        bytes[36..44].copy_from_slice(&hash);
    }
    let sum = checksum(bytes).to_le_bytes();
    bytes[20..28].copy_from_slice(&sum);
}

fn run(bytes: &[u8]) -> bool {
    let Ok(bundle) = Bundle::check(bytes).inspect_err(|error| assert!(error.to_string().len() < 500)) else { return false };
    for name in (0..bundle.count()).map(|i| bundle.name(i)) {
        assert!(bundle.named(name).is_some());
    }
    let all: Vec<_> = (0..bundle.count()).map(|i| bundle.program(i)).collect();
    if bundle.block_len() > MOST || all.iter().any(|program| check_program(program).is_err()) {
        return false;
    }
    let mut room = vec![0; all.iter().map(Trainer::bytes).max().unwrap_or(0)];
    let Ok(mut trainer) = Trainer::new(all[0].view(), &mut room, Level::PORTABLE, Threads::serial()) else { return false };
    trainer.init(1);
    for program in &all {
        if trainer.switch(program.view()).is_ok() {
            let _ = (trainer.forward(), trainer.backward_and_step(Sgd::new(0.1)));
        }
    }
    true
}

fn good() -> &'static Vec<u8> {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let stem = Stem { kernel: 3, stride: 1, pad: 1, pool: false };
        let recipe = Recipe::new(&[1], &[3], stem, 2, 3).expect("a recipe");
        let graph = Graph::new();
        let values = graph.usual([2, 2, 4, 4], Loss::Sum, |g, x| recipe.record(g, x)).expect("a recording");
        let step = || Step::new(&graph).root(values.root);
        let steps =
            [("all", step()), ("head", step().train("head").update(Update::During)), ("predict", step().train("none").mode(Mode::Eval))];
        bundle(&steps).expect("a bundle")
    })
}
