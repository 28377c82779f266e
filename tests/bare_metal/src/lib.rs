#![no_std]
//! What the firmware does, and the desktop after it: the same code on both, so that their numbers can be
//! compared.
//!
//! | lesson | what |
//! |---|---|
//! | [`learn`] | ResNet-8 on images that it draws: the head alone, then everything, until it classifies new ones |
//! | [`tutorial`] | the autograd tutorial's step of a whole ResNet18 at 64 x 64, with PyTorch's numbers |
//! | [`sizes`] | how many bytes plans of all sizes take: a number, or an error, never a number that wrapped around |

pub mod images;
pub mod learn;
pub mod sizes;
pub mod tutorial;

use core::fmt;

/// Where a lesson runs: tells lines, counts instructions.
pub trait Place {
    /// Tells a line.
    fn say(&mut self, line: fmt::Arguments);
    /// Instructions since the start, where they can be counted; else any number.
    fn instructions(&mut self) -> u64;
}
