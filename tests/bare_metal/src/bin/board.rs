//! The lessons on a Cortex-M that execute programs which were planned on the machine that compiled this. Which one
//! is said by the emulator's command line (`-append`): `learn whole`, `learn three`, `tutorial`. All memory is
//! static; at the end it tells how much of the stack was used.
#![no_std]
#![no_main]

#[path = "../firmware.rs"]
mod firmware;

use cortex_m_rt::entry;
use firmware::{Board, arena, front};
use lessons::learn::{self, NUMBERS, Steps};
use lessons::nets::BATCH;
use lessons::tutorial::{self, ROOM};
use lessons::{Place, planned};
use nunatak_nn::{Error, Level, Program};

#[entry]
fn main() -> ! {
    firmware::run(|board, words| match words {
        words if words.ends_with("learn whole") => learn(board, Steps::WHOLE),
        words if words.ends_with("learn three") => learn(board, Steps::THREE),
        words if words.ends_with("tutorial") => tutorial(board),
        words => {
            board.say(format_args!("no lesson: {words}"));
            false
        }
    })
}

fn learn(board: &mut Board, steps: Steps) -> bool {
    let (images, memory) = front::<{ BATCH * NUMBERS }>(arena());
    let programs = planned::resnet8().map_err(learn::Failed::from);
    let result = programs.and_then(|programs| learn::run(board, Level::detect(), &programs, steps, memory, images, |_| Ok(())));
    result.inspect_err(|e| board.say(format_args!("{e:?}"))).is_ok()
}

fn tutorial(board: &mut Board) -> bool {
    let (room, memory) = front::<ROOM>(arena());
    let program = Program::check(planned::TUTORIAL).map_err(Error::from).map_err(tutorial::Failed::from);
    let result = program.and_then(|program| tutorial::run(board, Level::detect(), program, memory, room));
    result.inspect_err(|e| board.say(format_args!("{e:?}"))).is_ok()
}
