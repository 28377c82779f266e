//! The fuzzer's good programs, small enough for Miri: every operation, every algorithm of a convolution, every order of
//! updates, each executed for two steps; and with wrong words.

use nunatak_core::program::{Program, checksum};
use nunatak_nn::{Graph, Native, Step};

#[path = "../fuzz/fuzz_targets/program/execute.rs"]
mod execute;
#[path = "../fuzz/fuzz_targets/program/networks.rs"]
mod networks;
#[path = "../fuzz/fuzz_targets/program/small.rs"]
mod small;

/// As in the fuzz target.
const MOST: usize = 1 << 14;

/// Miri takes a thousand times as long: one of so many programs, and one step.
const SHARE: usize = if cfg!(miri) { 7 } else { 1 };

fn word(program: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(program[at..at + 4].try_into().expect("four"))
}

/// A program with other words at some places, and the checksum that fits.
fn with(program: &[u8], words: &[(usize, u32)]) -> Vec<u8> {
    let mut changed = program.to_vec();
    words.iter().for_each(|(at, word)| changed[*at..at + 4].copy_from_slice(&word.to_le_bytes()));
    let hash = checksum(&changed);
    changed[20..28].copy_from_slice(&hash.to_le_bytes());
    changed
}

/// A flag that is taken away and any other word that is zero: a backward call of a pooling was accepted without the
/// places of its maxima, and without the room where they should be.
#[cfg(not(miri))]
#[test]
fn two_words_of_a_poolings_program_can_be_zero() {
    let graph = Graph::new();
    let data = graph.input([1, 2, 5, 4]);
    let (loss, keep) = (data.max_pool_dilated(2, 1, 1, 2).sum(), [data.id()]);
    let program = Step::new(&graph).loss(loss).keep_gradients(&keep).plan().expect("a plan");
    let bytes = program.bytes();
    let (_, weights) = networks::programs();
    let (mut refused, mut executed) = (0, 0);
    for flag in (28..bytes.len()).step_by(4).filter(|at| word(bytes, *at) == 1) {
        for at in (28..bytes.len()).step_by(4) {
            let changed = with(bytes, &[(flag, 0), (at, 0)]);
            match Program::check(&changed).ok().and_then(|program| execute::execute(&program, weights, 4)) {
                Some(_) => executed += 1,
                None => refused += 1,
            }
        }
    }
    assert!(refused > 500 && executed > 100, "{refused} refused, {executed} executed");
}

/// Words of small programs, set to zero or with another lowest bit: what is accepted is executed.
#[cfg(not(miri))]
#[test]
fn every_word_of_small_programs_can_be_wrong() {
    let (_, weights) = networks::programs();
    let (mut refused, mut executed) = (0, 0);
    for (i, program) in small::programs().iter().enumerate().step_by(3) {
        for at in (28..program.len()).step_by(4) {
            for wrong in [|_| 0, |old| old ^ 1_u32] {
                let old = word(program, at);
                let changed = with(program, &[(at, wrong(old))]);
                let run = || Program::check(&changed).ok().and_then(|program| execute::execute(&program, weights, 4));
                match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
                    Ok(Some(_)) => executed += 1,
                    Ok(None) => refused += 1,
                    Err(_) => panic!("program {i}, word {}: {old} was {}", at / 4, wrong(old)),
                }
            }
        }
    }
    assert!(refused > 5000 && executed > 5000, "{refused} refused, {executed} executed");
}

/// A program that reads in place, and gives the file more numbers than it has, with a tensor among them.
#[cfg(not(miri))]
#[test]
fn weights_behind_the_end_of_their_file_are_refused() {
    let (programs, weights) = networks::programs();
    let units = |program: &[u8]| word(program, 4 * 22);
    let reads: Vec<_> = programs.iter().filter(|program| units(program) > 0).collect();
    assert!(!reads.is_empty());
    for program in reads {
        let longer = with(program, &[(4 * 22, units(program) + 1000)]);
        let checked = Program::check(&longer).expect("right by itself");
        assert_eq!(execute::execute(&checked, weights, 0), None);
        assert!(execute::execute(&Program::check(program).expect("a program"), weights, 0).is_some());
    }
}

fn run(programs: &[Vec<u8>], weights: Native<'static>) {
    let two_steps = if cfg!(miri) { 0 } else { 2 };
    for (i, bytes) in programs.iter().enumerate().step_by(SHARE) {
        let program = Program::check(bytes).expect("a program");
        // At the portable level, and at the best that there is, which Miri has not got.
        for level in if cfg!(miri) { 0..1 } else { 0..2 } {
            assert_eq!(execute::execute(&program, weights, two_steps | level), Some(Ok(())), "program {i}");
        }
    }
}

#[test]
fn every_program_that_the_fuzzer_begins_with_is_executed() {
    let (mut programs, weights) = networks::programs();
    if cfg!(miri) {
        programs.clear();
    }
    programs.extend(small::programs());
    assert!(programs.len() > 150, "{} programs", programs.len());
    run(&programs, weights);
}
