//! The same lessons on a desktop: what the firmware's numbers are compared with.
//!
//!     desktop learn whole|three    losses as the board computes them, then as a desktop does, then how far
//!                                  rounding alone moves them
//!     desktop plan                 steps that are planned in lent storage, and a small network that is trained
//!     desktop sizes                what a board with 32 bits must print

use lessons::learn::{self, NUMBERS, Programs, Steps};
use lessons::nets::{self, BATCH, CLASSES};
use lessons::{Place, plan, planned, sizes};
use nunatak_core::rng::Generator;
use nunatak_nn::models::Recipe;
use nunatak_nn::{EntryKind, Error, Graph, Level, Trainer};
use std::fmt;

struct Desktop(&'static str);

impl Place for Desktop {
    fn say(&mut self, line: fmt::Arguments) {
        println!("{}{line}", self.0);
    }
    fn instructions(&mut self) -> u64 {
        0
    }
    fn begin_stack(&mut self) {}
    fn deepest_stack(&mut self) -> usize {
        0
    }
}

/// Multiplies every weight by a number that is at most `by` away from 1.
fn disturb(trainer: &mut Trainer, by: f32) -> Result<(), Error> {
    let mut random = Generator::manual_seed(f32::to_bits(by).into());
    let program = trainer.program();
    let parameters = program.entries().map(|id| (id, program.entry(id))).filter(|(_, entry)| entry.kind() == EntryKind::Parameter);
    let parameters: Vec<_> = parameters.map(|(id, entry)| (id, entry.numbers())).collect();
    for (id, numbers) in parameters {
        let mut weight = vec![0.0; numbers];
        trainer.entry(id, &mut weight)?;
        weight.iter_mut().for_each(|w| *w *= 1.0 + random.uniform(-by, by));
        trainer.set_entry(id, &weight)?;
    }
    Ok(())
}

/// The steps with the desktop's best algorithms.
fn best() -> Result<Programs<'static>, Error> {
    let plan = |train| nets::resnet8(train, false).recipe(&Graph::new(), Recipe::resnet8(CLASSES), |step| step.plan());
    Ok(Programs { head: plan("head")?, all: plan("all")?, predict: plan("none")? })
}

fn learn(who: &'static str, level: Level, programs: &Programs, steps: Steps, disturbed: f32) {
    let mut memory = vec![0; 64 << 20];
    let mut images = Box::new([0.0; BATCH * NUMBERS]);
    if let Err(e) = learn::run(&mut Desktop(who), level, programs, steps, &mut memory, &mut images, |trainer| disturb(trainer, disturbed)) {
        failed(&format_args!("{who}{e:?}"));
    }
}

/// What a board without SIMD computes with.
fn as_a_board() -> Level {
    Level::by_name("scalar").expect("the feature `scalar`")
}

fn failed(why: &dyn fmt::Display) -> ! {
    eprintln!("{why}");
    std::process::exit(1)
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["learn", length @ ("whole" | "three")] => {
            let steps = if length == "whole" { Steps::WHOLE } else { Steps::THREE };
            let (board, best) = (planned::resnet8().expect("planned when this was compiled"), best().expect("ResNet-8"));
            learn("as-a-board ", as_a_board(), &board, steps, 0.0);
            learn("desktop ", Level::detect(), &best, steps, 0.0);
            let untested = Steps { test: false, ..steps };
            for disturbed in [3e-7, 2.9e-7, 2.8e-7] {
                learn("disturbed ", Level::detect(), &best, untested, disturbed);
            }
        }
        ["plan"] => {
            let (mut storage, mut memory, mut images) = (Box::new(plan::Room::new()), vec![0; 4 << 20], Box::new([0.0; plan::IMAGES]));
            if let Err(e) = plan::run(&mut Desktop(""), as_a_board(), &mut storage, &mut memory, &mut images) {
                failed(&format_args!("{e:?}"));
            }
        }
        ["sizes"] => {
            if let Err(e) = sizes::run(&mut Desktop(""), &mut Box::new(sizes::Room::new())) {
                failed(&format_args!("{e}"));
            }
        }
        _ => {
            eprintln!("usage: desktop learn whole|three, desktop plan, or desktop sizes");
            std::process::exit(2);
        }
    }
}
