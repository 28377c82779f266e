//! The same lessons on a desktop: what the firmware's numbers are compared with.
//!
//!     desktop learn whole|three    losses as the board computes them, then as a desktop does, then how far
//!                                  rounding alone moves them
//!     desktop sizes                what a board with 32 bits must print

use lessons::images::NUMBERS;
use lessons::learn::{self, BATCH, How, Steps};
use lessons::{Place, sizes};
use nunatak_core::rng::Generator;
use nunatak_nn::{Algorithm, Error, Level, Trainer};
use std::fmt;

struct Desktop(&'static str);

impl Place for Desktop {
    fn say(&mut self, line: fmt::Arguments) {
        println!("{}{line}", self.0);
    }
    fn instructions(&mut self) -> u64 {
        0
    }
}

/// Multiplies every weight by a number that is at most `by` away from 1.
fn disturb(trainer: &mut Trainer, by: f32) -> Result<(), Error> {
    let mut random = Generator::manual_seed(f32::to_bits(by).into());
    let network = trainer.blueprint().network().clone();
    for id in network.param_ids() {
        let mut weight = vec![0.0; network.param_at(id).numbers()];
        trainer.param(id, &mut weight)?;
        weight.iter_mut().for_each(|w| *w *= 1.0 + random.uniform(-by, by));
        trainer.set_param(id, &weight)?;
    }
    Ok(())
}

fn learn(who: &'static str, how: How, steps: Steps, disturbed: f32) {
    let mut memory = vec![0; 64 << 20];
    let mut images = Box::new([0.0; BATCH * NUMBERS]);
    if let Err(e) = learn::run(&mut Desktop(who), how, steps, &mut memory, &mut images, |trainer| disturb(trainer, disturbed)) {
        eprintln!("{who}{e:?}");
        std::process::exit(1);
    }
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["learn", length @ ("whole" | "three")] => {
            let steps = if length == "whole" { Steps::WHOLE } else { Steps::THREE };
            let board = How { level: Level::PORTABLE, algorithm: Some(Algorithm::Gemm) };
            let desktop = How { level: Level::detect(), algorithm: None };
            learn("as-a-board ", board, steps, 0.0);
            learn("desktop ", desktop, steps, 0.0);
            let untested = Steps { test: false, ..steps };
            for disturbed in [3e-7, 2.9e-7, 2.8e-7] {
                learn("disturbed ", desktop, untested, disturbed);
            }
        }
        ["sizes"] => sizes::run(&mut Desktop("")).expect("shapes"),
        _ => {
            eprintln!("usage: desktop learn whole|three, or desktop sizes");
            std::process::exit(2);
        }
    }
}
