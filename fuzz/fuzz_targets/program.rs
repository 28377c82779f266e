//! Programs. The input is tried as it is, with the length and checksum that its header asks for (a random change
//! never gets past those), and as a list of words to be changed in a good program. What is accepted is executed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nunatak_core::program::{Flags, Program, ValueRecord, checksum};
use nunatak_nn::{CrossEntropyOptions, Graph, Level, Loss, Recipe, Sgd, Stem, Step, Threads, Trainer, Update, ValueId};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Blocks of more numbers are not run: they may be right, but take long.
const MOST: usize = 1 << 18;

/// Programs that were refused, and that were run; printed now and then.
static REFUSED: AtomicU64 = AtomicU64::new(0);
static RUN: AtomicU64 = AtomicU64::new(0);

fuzz_target!(|bytes: &[u8]| {
    if let Ok(program) = Program::check(bytes) {
        execute(&program);
    }
    let mut repaired = bytes.to_vec();
    repaired.resize(bytes.len().next_multiple_of(64), 0);
    run(&mut repaired);
    for good in programs() {
        let mut changed = good.clone();
        for edit in bytes.chunks_exact(6).take(8) {
            let word = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % (good.len() / 4);
            changed[4 * word..4 * word + 4].copy_from_slice(&edit[2..]);
        }
        run(&mut changed);
    }
});

/// Repairs what the header says of length and checksum, and runs the program.
fn run(bytes: &mut [u8]) {
    if bytes.len() < 256 {
        return;
    }
    let words = (bytes.len() / 4) as u32;
    bytes[16..20].copy_from_slice(&words.to_le_bytes());
    let hash = checksum(bytes);
    bytes[20..28].copy_from_slice(&hash.to_le_bytes());
    match Program::check(bytes) {
        Ok(program) => execute(&program),
        Err(error) => {
            assert!(error.to_string().len() < 400);
            count(&REFUSED);
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
    let (refused, run) = (REFUSED.load(Relaxed), RUN.load(Relaxed));
    if (refused + run).is_multiple_of(1 << 16) {
        eprintln!("{refused} programs refused, {run} run");
    }
}

/// Two steps, whatever they answer, and all that can be read.
fn execute(program: &Program) {
    if program.block_len() > MOST {
        return;
    }
    let Ok(mut trainer) = Trainer::owning(program.view(), Level::PORTABLE, Threads::serial()) else {
        return count(&REFUSED);
    };
    count(&RUN);
    trainer.init(1);
    let momentum = if program.flags().has(Flags::MOMENTUM) { 0.9 } else { 0.0 };
    let sgd = Sgd { momentum, ..Sgd::new(0.1) };
    for _ in 0..2 {
        for value in program.values() {
            let id = ValueId(value.node());
            if value.flags() & ValueRecord::INPUT != 0 {
                let _ = trainer.set_input(id, &vec![0.5; value.place().len()]);
            }
            if value.flags() & ValueRecord::LABELS != 0 {
                let _ = trainer.set_labels(id, &vec![0; value.shape()[0]]);
            }
        }
        let _ = trainer.forward();
        let root = program.root().and_then(|node| program.value_of_node(node));
        let gradient = vec![1.0; root.map_or(1, |(_, root)| root.place().len())];
        let _ = trainer.backward_with_and_step(&gradient, sgd);
        for value in program.values() {
            let mut room = vec![0.0; value.place().len()];
            let id = ValueId(value.node());
            let _ = (trainer.value(id, &mut room), trainer.value_gradient(id, &mut room));
        }
    }
    for id in program.entries() {
        let mut room = vec![0.0; program.entry(id).numbers()];
        let _ = (trainer.entry(id, &mut room), trainer.gradient(id, &mut room), trainer.momentum(id, &mut room));
    }
    let _ = nunatak_nn::step::Summary(program).to_string();
}

/// Good programs of small networks.
fn programs() -> &'static [Vec<u8>] {
    static PROGRAMS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let stem = Stem { kernel: 3, stride: 1, pad: 1, pool: true };
        let recipe = Recipe::new(&[1, 1], &[3, 5], stem, 2, 3).expect("a recipe");
        let cross_entropy = Loss::CrossEntropy(CrossEntropyOptions::default());
        let steps = [(cross_entropy, Update::After), (Loss::MeanSquaredError, Update::During)];
        let program = |(loss, update)| {
            let graph = Graph::new();
            let values = graph.usual([2, 2, 8, 8], loss, |g, x| recipe.record(g, x)).expect("a recording");
            let keep = [values.prediction];
            let step = Step::new(&graph).root(values.root).keep(&keep).update(update);
            step.plan().expect("a plan").bytes().to_vec()
        };
        steps.into_iter().map(program).collect()
    })
}
