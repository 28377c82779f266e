//! The lessons on a Cortex-M that record and plan there, in static memory. Which one is said by the emulator's
//! command line (`-append`): `plan`, `sizes`.
#![no_std]
#![no_main]

#[path = "../firmware.rs"]
mod firmware;

use cortex_m_rt::entry;
use firmware::{Board, arena, front};
use lessons::{Place, plan, sizes};
use nunatak_nn::Level;

#[entry]
fn main() -> ! {
    // Of a static in `main` this macro makes a reference: there is one call.
    static mut PLAN: plan::Room = plan::Room::new();
    static mut SIZES: sizes::Room = sizes::Room::new();
    firmware::run(|board, words| match words {
        words if words.ends_with("plan") => lesson_plan(board, PLAN),
        words if words.ends_with("sizes") => sizes::run(board, SIZES).inspect_err(|e| board.say(format_args!("{e}"))).is_ok(),
        words => {
            board.say(format_args!("no lesson: {words}"));
            false
        }
    })
}

fn lesson_plan(board: &mut Board, storage: &mut plan::Room) -> bool {
    let (images, memory) = front::<{ plan::IMAGES }>(arena());
    let result = plan::run(board, Level::detect(), storage, memory, images);
    result.inspect_err(|e| board.say(format_args!("{e:?}"))).is_ok()
}
