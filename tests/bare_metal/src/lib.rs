#![no_std]
//! What the firmware does, and the desktop after it: the same code on both, so that their numbers can be
//! compared.
//!
//! | lesson | what |
//! |---|---|
//! | [`learn`] | ResNet-8 on images that it draws: the head alone, then everything, until it classifies new ones |
//! | [`tutorial`] | the autograd tutorial's step of a whole ResNet18 at 64 x 64, with PyTorch's numbers |
//! | [`plan`] | steps that are recorded and planned here, in static memory: byte for byte the desktop's |
//! | [`sizes`] | how many bytes plans of all sizes take: a number, or an error, never a number that wrapped around |
//!
//! What the first two execute was planned when this was compiled, see [`planned`].

pub mod images;
pub mod learn;
pub mod nets;
pub mod plan;
pub mod planned;
pub mod sizes;
pub mod tutorial;

use core::fmt;

/// The stack that executing a program takes at most below the caller's own, in bytes.
pub const MOST_STACK: usize = 8192;

/// Where a lesson runs: tells lines, counts instructions, measures the stack.
pub trait Place {
    /// Tells a line.
    fn say(&mut self, line: fmt::Arguments);
    /// Instructions since the start, where they can be counted; else any number.
    fn instructions(&mut self) -> u64;
    /// Begins to measure the stack anew.
    fn begin_stack(&mut self);
    /// The deepest that the stack has been since then, in bytes below where it was; 0 where it can't be measured.
    fn deepest_stack(&mut self) -> usize;
}

/// The deepest stack of what is done with a program.
#[derive(Clone, Copy, Default)]
struct Stack {
    /// Checking a program and binding it to memory, or taking its place.
    bind: usize,
    /// Initialising.
    init: usize,
    /// Inputs, forward, loss, backward, update.
    step: usize,
}

impl Stack {
    /// Tells them.
    fn say(&self, place: &mut impl Place) {
        let Stack { bind, init, step } = self;
        place.say(format_args!("stack executing {} bytes (bind {bind}, init {init}, step {step})", bind.max(init).max(step)));
    }
    /// Whether a small stack would have sufficed.
    fn is_small(&self) -> bool {
        self.bind.max(self.init).max(self.step) <= MOST_STACK
    }
}

/// Does something, and notes how deep the stack was below its caller's.
#[inline(never)]
fn measured<P: Place, T>(place: &mut P, deepest: &mut usize, what: impl FnOnce(&mut P) -> T) -> T {
    place.begin_stack();
    let done = apart(place, what);
    *deepest = (*deepest).max(place.deepest_stack());
    done
}

/// A frame of its own, below where measuring began.
#[inline(never)]
fn apart<P, T>(place: &mut P, what: impl FnOnce(&mut P) -> T) -> T {
    what(place)
}
