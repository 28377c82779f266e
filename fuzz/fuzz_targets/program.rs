//! Programs. The input is tried as it is, with the length and checksum that its header asks for (a random change
//! never gets past those), and as a list of words to be changed in a good program. What is accepted is executed, and
//! changed at random again and again: most of an input's time would else be spent on the fuzzer's own work.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nunatak_core::program::Program;
use nunatak_nn::{Level, Native};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[path = "program/change.rs"]
mod change;
#[path = "program/execute.rs"]
mod execute;
#[path = "program/networks.rs"]
mod networks;
#[path = "program/small.rs"]
mod small;

use change::{Change, Draw, repair};

/// Blocks of more numbers are not run: they may be right, but take long.
const MOST: usize = 1 << 14;
/// Random changes for each input.
const MORE: usize = 150;

/// Programs that were refused, that were right but too large, and that were executed; printed now and then.
static COUNTS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
const REFUSED: usize = 0;
const TOO_LARGE: usize = 1;
const EXECUTED: usize = 2;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(program) = Program::check(bytes) {
        execute::execute(&program, good().1, Level::PORTABLE, 0);
    }
    let mut repaired = bytes.to_vec();
    repaired.resize(bytes.len().next_multiple_of(64), 0);
    run(&mut repaired, 0);
    // Which program, how it is executed, and what is changed: all at once, or, where that is refused, what is not.
    let [which, more, how, edits @ ..] = bytes else { return };
    let (programs, _) = good();
    let mut program = programs[usize::from(u16::from_le_bytes([*which, *more])) % programs.len()].clone();
    let (edits, _) = edits.as_chunks::<7>();
    let edits = || edits.iter().take(8).map(Change::read);
    let mut changed = program.clone();
    edits().for_each(|change| change.apply(&mut changed));
    match run(&mut changed, *how) {
        true => program = changed,
        false => {
            for change in edits() {
                try_out(&mut program, &[change], *how);
            }
        }
    }
    let mut draw = Draw::of(bytes);
    for _ in 0..MORE {
        let count = 1 + (draw.next() & draw.next() & 1) as usize;
        let changes = [Change::draw(&mut draw), Change::draw(&mut draw)];
        try_out(&mut program, &changes[..count], draw.next() as u8);
    }
});

/// Changes a program, and leaves it changed if it is accepted.
fn try_out(program: &mut Vec<u8>, changes: &[Change], how: u8) -> bool {
    let mut changed = program.clone();
    changes.iter().for_each(|change| change.apply(&mut changed));
    let other = changed != *program && run(&mut changed, how);
    if other {
        *program = changed;
    }
    other
}

/// Repairs what the header says of length and checksum, and executes the program if it is accepted: whether it was.
fn run(bytes: &mut [u8], how: u8) -> bool {
    if bytes.len() < 256 {
        return false;
    }
    repair(bytes);
    let level = if how & 1 == 0 { Level::PORTABLE } else { Level::detect() };
    let outcome = match Program::check(bytes) {
        Ok(program) if program.block_len() > MOST => TOO_LARGE,
        Ok(program) if execute::execute(&program, good().1, level, how).is_some() => EXECUTED,
        Ok(_) => REFUSED,
        Err(error) => {
            assert!(error.to_string().len() < 400);
            REFUSED
        }
    };
    COUNTS[outcome].fetch_add(1, Relaxed);
    let [refused, too_large, executed] = [0, 1, 2].map(|i| COUNTS[i].load(Relaxed));
    if (refused + too_large + executed).is_multiple_of(1 << 16) {
        eprintln!("{refused} programs refused, {too_large} too large, {executed} executed");
    }
    outcome == EXECUTED
}

/// Good programs, and the weights that some read in place.
fn good() -> &'static (Vec<Vec<u8>>, Native<'static>) {
    static GOOD: OnceLock<(Vec<Vec<u8>>, Native<'static>)> = OnceLock::new();
    GOOD.get_or_init(|| {
        let (mut programs, weights) = networks::programs();
        for (i, program) in programs.iter().enumerate() {
            let program = Program::check(program).expect("a program");
            assert!(program.block_len() <= 4 * MOST, "program {i} is too large: {}", program.block_len());
        }
        programs.retain(|program| Program::check(program).is_ok_and(|program| program.block_len() <= MOST));
        programs.extend(small::programs());
        eprintln!("{} good programs", programs.len());
        (programs, weights)
    })
}
