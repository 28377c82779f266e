//! Programs. The input is tried as it is, with the length and checksum that its header asks for (a random change
//! never gets past those), and as a list of words to be changed in a good program. What is accepted is executed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nunatak_core::program::{Flags, Program, ValueRecord, checksum};
use nunatak_nn::{Level, Native, Sgd, Threads, Trainer, ValueId};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[path = "program/networks.rs"]
mod networks;

/// Blocks of more numbers are not run: they may be right, but take long.
const MOST: usize = 1 << 16;

/// Programs that were refused, that were right but too large, and that were executed; printed now and then.
static COUNTS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
const REFUSED: usize = 0;
const TOO_LARGE: usize = 1;
const EXECUTED: usize = 2;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(program) = Program::check(bytes) {
        execute(&program, 0);
    }
    let mut repaired = bytes.to_vec();
    repaired.resize(bytes.len().next_multiple_of(64), 0);
    run(&mut repaired, 0);
    // Which program, how it is executed, and what is changed: a word's place, and what is done to it.
    let [which, how, edits @ ..] = bytes else { return };
    let (programs, _) = good();
    let mut changed = programs[usize::from(*which) % programs.len()].clone();
    for edit in edits.chunks_exact(7).take(8) {
        let word = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % (changed.len() / 4);
        let old = u32::from_le_bytes(changed[4 * word..4 * word + 4].try_into().expect("four"));
        let number = u32::from_le_bytes(edit[3..].try_into().expect("four"));
        let new = match edit[2] % 4 {
            0 => number,
            1 => old.wrapping_add(number % 256).wrapping_sub(128),
            2 => old ^ 1 << (number % 32),
            _ => old.wrapping_mul(number % 8),
        };
        changed[4 * word..4 * word + 4].copy_from_slice(&new.to_le_bytes());
    }
    run(&mut changed, *how);
});

/// Repairs what the header says of length and checksum, and executes the program if it is accepted.
fn run(bytes: &mut [u8], how: u8) {
    if bytes.len() < 256 {
        return;
    }
    let words = (bytes.len() / 4) as u32;
    bytes[16..20].copy_from_slice(&words.to_le_bytes());
    let hash = checksum(bytes);
    bytes[20..28].copy_from_slice(&hash.to_le_bytes());
    match Program::check(bytes) {
        Ok(program) => execute(&program, how),
        Err(error) => {
            assert!(error.to_string().len() < 400);
            count(REFUSED);
        }
    }
}

fn count(counter: usize) {
    COUNTS[counter].fetch_add(1, Relaxed);
    let [refused, too_large, executed] = [0, 1, 2].map(|i| COUNTS[i].load(Relaxed));
    if (refused + too_large + executed).is_multiple_of(1 << 16) {
        eprintln!("{refused} programs refused, {too_large} too large, {executed} executed");
    }
}

/// One step or two, whatever they answer, and all that can be read. `how` chooses the steps and the level.
fn execute(program: &Program, how: u8) {
    if program.block_len() > MOST {
        return count(TOO_LARGE);
    }
    let level = if how & 1 == 0 { Level::PORTABLE } else { Level::detect() };
    let mut room = Vec::new();
    let bound = match program.weights_hash() {
        Some(_) => {
            room.resize(Trainer::bytes(program), 0xa5);
            Trainer::with_weights(program.view(), &mut room, good().1, level, Threads::serial())
        }
        None => Trainer::owning(program.view(), level, Threads::serial()),
    };
    let Ok(mut trainer) = bound else {
        return count(REFUSED);
    };
    count(EXECUTED);
    trainer.init(1);
    let momentum = if program.flags().has(Flags::MOMENTUM) { 0.9 } else { 0.0 };
    let sgd = Sgd { momentum, ..Sgd::new(0.1) };
    for _ in 0..1 + (how >> 1 & 1) {
        step(&mut trainer, program, sgd);
    }
    for id in program.entries() {
        let mut room = vec![0.0; program.entry(id).numbers()];
        let _ = (trainer.entry(id, &mut room), trainer.gradient(id, &mut room), trainer.momentum(id, &mut room));
    }
    let _ = nunatak_nn::step::Summary(program).to_string();
}

fn step(trainer: &mut Trainer, program: &Program, sgd: Sgd) {
    for value in program.values() {
        let id = ValueId(value.node());
        if value.flags() & ValueRecord::INPUT != 0 {
            let _ = trainer.set_input(id, &vec![0.5; value.place().len()]);
        }
        if value.flags() & ValueRecord::LABELS != 0 {
            let _ = trainer.set_labels(id, &vec![1; value.shape()[0]]);
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

/// Good programs of small networks, and the weights that some read in place.
fn good() -> &'static (Vec<Vec<u8>>, Native<'static>) {
    static GOOD: OnceLock<(Vec<Vec<u8>>, Native<'static>)> = OnceLock::new();
    GOOD.get_or_init(|| {
        let (programs, weights) = networks::programs();
        for (i, program) in programs.iter().enumerate() {
            let program = Program::check(program).expect("a program");
            assert!(program.block_len() <= MOST, "program {i} is too large: {}", program.block_len());
        }
        (programs, weights)
    })
}
