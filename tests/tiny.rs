//! The fuzzer's good programs: every operation, every algorithm of a convolution, every order of updates, each executed for two
//! steps; and with wrong words. Miri executes them too (`tests/miri.sh`), planned before, since it takes a thousand times as long.

use std::sync::OnceLock;

use nunatak_core::program::{Program, checksum};
use nunatak_nn::{Graph, Level, Native, Step};

#[path = "../fuzz/fuzz_targets/program/execute.rs"]
mod execute;
#[path = "../fuzz/fuzz_targets/program/networks.rs"]
mod networks;
#[path = "../fuzz/fuzz_targets/program/small.rs"]
mod small;

/// As in the fuzz target.
const MOST: usize = 1 << 14;

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
            match Program::check(&changed).ok().and_then(|program| execute::execute(&program, weights, Level::PORTABLE, 4)) {
                Some(_) => executed += 1,
                None => refused += 1,
            }
        }
    }
    assert!(refused > 500 && executed > 100, "{refused} refused, {executed} executed");
}

/// Words of small programs, set to zero or with another lowest bit: what is accepted is executed.
#[test]
fn every_word_of_small_programs_can_be_wrong() {
    let (_, weights) = networks::programs();
    let (mut refused, mut executed) = (0, 0);
    for (i, program) in small::programs().iter().enumerate().step_by(3) {
        for at in (28..program.len()).step_by(4) {
            for wrong in [|_| 0, |old| old ^ 1_u32] {
                let old = word(program, at);
                let changed = with(program, &[(at, wrong(old))]);
                let run = || Program::check(&changed).ok().and_then(|program| execute::execute(&program, weights, Level::PORTABLE, 4));
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
#[test]
fn weights_behind_the_end_of_their_file_are_refused() {
    let (programs, weights) = networks::programs();
    let units = |program: &[u8]| word(program, 4 * 22);
    let reads: Vec<_> = programs.iter().filter(|program| units(program) > 0).collect();
    assert!(!reads.is_empty());
    for program in reads {
        let longer = with(program, &[(4 * 22, units(program) + 1000)]);
        let checked = Program::check(&longer).expect("right by itself");
        assert_eq!(execute::execute(&checked, weights, Level::PORTABLE, 0), None);
        assert!(execute::execute(&Program::check(program).expect("a program"), weights, Level::PORTABLE, 0).is_some());
    }
}

/// Every good program of the fuzzer's, the small ones first.
fn programs() -> (Vec<Vec<u8>>, Native<'static>) {
    let (networks, weights) = networks::programs();
    let mut programs = small::programs();
    programs.extend(networks);
    assert!(programs.len() > 150, "{} programs", programs.len());
    (programs, weights)
}

#[test]
fn every_program_that_the_fuzzer_begins_with_is_executed() {
    let (programs, weights) = programs();
    for (i, bytes) in programs.iter().enumerate() {
        let program = Program::check(bytes).expect("a program");
        // Two steps at the portable level, and at the best that there is.
        for level in [Level::PORTABLE, Level::detect()] {
            assert_eq!(execute::execute(&program, weights, level, 2), Some(Ok(())), "program {i}");
        }
    }
}

/// The same bytes at a multiple of 64 bytes, for as long as the process lives.
fn aligned(bytes: &[u8]) -> &'static [u8] {
    static ROOM: OnceLock<Vec<u8>> = OnceLock::new();
    let room = ROOM.get_or_init(|| {
        let mut room = vec![0; bytes.len() + 63];
        let start = room.as_ptr().align_offset(64);
        room[start..start + bytes.len()].copy_from_slice(bytes);
        room
    });
    let start = room.as_ptr().align_offset(64);
    &room[start..start + bytes.len()]
}

/// A file for Miri: the weights, then the programs, each behind its length.
#[test]
#[ignore = "writes a file for tests/miri.sh"]
fn programs_are_written_for_miri() {
    let path = std::env::var("NUNATAK_PROGRAMS").expect("NUNATAK_PROGRAMS names a file");
    let (programs, weights) = programs();
    let all = std::iter::once(weights.bytes()).chain(programs.iter().map(Vec::as_slice));
    let file: Vec<u8> = all.flat_map(|bytes| [&u32::try_from(bytes.len()).expect("small").to_le_bytes(), bytes].concat()).collect();
    std::fs::write(path, file).expect("can be written");
}

/// A part of the file's programs: each is checked, and executed for a step at the level that NUNATAK_LEVEL names, or the portable
/// one.
#[test]
#[ignore = "what it executes was planned before: tests/miri.sh"]
fn written_programs_are_executed() {
    let path = std::env::var("NUNATAK_PROGRAMS").expect("NUNATAK_PROGRAMS names a file");
    let file = std::fs::read(path).expect("a file of programs");
    let mut left = &file[..];
    let mut next = || {
        let (length, rest) = left.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        left = rest;
        Some(bytes)
    };
    let first = next().expect("weights");
    let weights = Native::parse(aligned(first)).expect("a native file");
    let number = |name: &str| std::env::var(name).map_or(0, |v| v.parse::<usize>().expect("a number"));
    let (part, parts) = (number("NUNATAK_PART"), number("NUNATAK_PARTS").max(1));
    let level = std::env::var("NUNATAK_LEVEL").map_or(Level::PORTABLE, |name| Level::by_name(&name).expect("a level"));
    let mut executed = 0;
    for (i, bytes) in std::iter::from_fn(next).enumerate().filter(|(i, _)| i % parts == part) {
        let began = std::time::Instant::now();
        let program = Program::check(bytes).expect("a program");
        assert_eq!(execute::execute(&program, weights, level, 0), Some(Ok(())), "program {i}");
        executed += 1;
        println!("program {i}: {:.1} s", began.elapsed().as_secs_f64());
    }
    println!("{executed} programs executed");
    assert!(executed > 0);
}
