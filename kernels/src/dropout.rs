//! Elements set to zero by chance, PyTorch's `dropout` in train mode: what is kept is multiplied by
//! 1/(1 − p), so that means stay as they were.
//!
//! `y = x · m` and `dx = dy · m`, where m is 0 with probability p, else 1/(1 − p). As in PyTorch a
//! dropped NaN or infinity becomes NaN.
//!
//! Which elements are dropped follows from a seed, a step and the element's place in memory alone:
//! nothing is saved, backward computes m again, and the bits are the same for any number of threads and
//! at every level. PyTorch's own draws differ (and are not promised by PyTorch).
//!
//! # The generator
//! SplitMix64 (Steele, Lea, Flood 2014, with the constants of Stafford's mix 13), which turns a counter
//! into a 64-bit word; all arithmetic wraps:
//!
//! ```text
//! mix(z):  z = (z ^ z >> 30) · 0xbf58476d1ce4e5b9
//!          z = (z ^ z >> 27) · 0x94d049bb133111eb
//!          z ^ z >> 31
//! key     = mix(mix(seed) + step)
//! word(j) = mix(key + (j + 1) · 0x9e3779b97f4a7c15)
//! ```
//!
//! Elements are taken in blocks of 32, which share 16 words: element i has the word
//! `j = 16·⌊i/32⌋ + i mod 16`, of it the lower 32 bits where `i mod 32 < 16`, else the upper ones. It is
//! dropped where this number is below p·2³².

use crate::isa::Isa;
use crate::lanes::{PART, load_padded, store_padded};
use crate::{Cpu, Task, parallel::Chunks};
use core::fmt;

/// Elements that share [`WORDS`] words; parts are whole blocks.
const BLOCK: usize = 32;
const WORDS: usize = BLOCK / 2;
const _: () = assert!(PART.is_multiple_of(BLOCK));

/// Which elements are dropped.
///
/// Give every dropout of a network a seed of its own: two with the same seed drop the same places.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dropout {
    probability: f32,
    key: u64,
}

/// A probability that is none.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ProbabilityError {
    /// What was given.
    pub probability: f32,
}

impl fmt::Display for ProbabilityError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a dropout's probability must lie between 0 and 1, but it is {}", self.probability)
    }
}

impl core::error::Error for ProbabilityError {}

impl Dropout {
    /// Drops with this probability, in this step of the sequence that the seed begins.
    ///
    /// # Errors
    /// [`ProbabilityError`] where it is below 0, above 1 or NaN.
    pub fn new(probability: f32, seed: u64, step: u64) -> Result<Dropout, ProbabilityError> {
        if !(0.0..=1.0).contains(&probability) {
            return Err(ProbabilityError { probability });
        }
        Ok(Dropout { probability, key: mix(mix(seed).wrapping_add(step)) })
    }

    /// The probability.
    pub const fn probability(&self) -> f32 {
        self.probability
    }

    /// What kept elements are multiplied by; 0 where none is kept.
    pub fn factor(&self) -> f32 {
        if self.probability == 1.0 { 0.0 } else { (1.0 / (1.0 - f64::from(self.probability))) as f32 }
    }

    /// Numbers below this are dropped. (Of p = 1, where 2³² does not fit, the factor is 0.)
    fn threshold(&self) -> u32 {
        (f64::from(self.probability) * 4_294_967_296.0) as u32
    }
}

/// Stafford's mix 13.
#[inline(always)]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `y = x · m`
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | any | read; `None`: `y` holds it on entry |
/// | `y` | as `x` | overwritten |
///
/// No scratch. Reference: [`crate::reference::dropout::forward`].
///
/// # Panics
/// If the lengths differ.
pub fn forward(cpu: &Cpu, p: &Dropout, x: Option<&[f32]>, y: &mut [f32]) {
    run(cpu, p, x, y, false);
}

/// `dx = dy · m`
///
/// | name | shape | |
/// |---|---|---|
/// | `dy` | any | read; `None`: `dx` holds it on entry |
/// | `dx` | as `dy` | overwritten, or where `add` accumulated |
///
/// No scratch. Reference: [`crate::reference::dropout::backward_input`].
///
/// # Panics
/// If the lengths differ, or where `dx` shall hold dy and be added to.
pub fn backward_input(cpu: &Cpu, p: &Dropout, dy: Option<&[f32]>, dx: &mut [f32], add: bool) {
    assert!(dy.is_some() || !add, "a gradient in its own place can't be added to");
    run(cpu, p, dy, dx, add);
}

fn run(cpu: &Cpu, p: &Dropout, x: Option<&[f32]>, y: &mut [f32], add: bool) {
    if let Some(x) = x {
        assert_eq!(x.len(), y.len(), "operands of different lengths");
    }
    let parts = y.len().div_ceil(PART);
    cpu.run(Chunks::new(y, PART, parts), &mut [], 0, |i, y, _| {
        let x = x.map(|x| &x[i * PART..][..y.len()]);
        cpu.level.run(MaskTask { p, first: i * (PART / BLOCK), x, y, add });
    });
}

/// Some blocks.
struct MaskTask<'a, 'p> {
    p: &'a Dropout,
    /// The number of the first block.
    first: usize,
    x: Option<&'a [f32]>,
    y: &'p mut [f32],
    add: bool,
}

impl Task for MaskTask<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (threshold, factor) = (self.p.threshold(), self.p.factor());
        let mut masks = [0.0; BLOCK];
        for (i, y) in self.y.chunks_mut(BLOCK).enumerate() {
            fill_masks(self.p.key, self.first + i, threshold, factor, &mut masks);
            let mut at = 0;
            while at < y.len() {
                let m = isa.load(&masks[at..]);
                let y = &mut y[at..];
                let x = match self.x {
                    Some(x) => load_padded(isa, &x[i * BLOCK + at..], 0.0),
                    None => load_padded(isa, y, 0.0),
                };
                let mut v = isa.mul(x, m);
                if self.add {
                    v = isa.add(load_padded(isa, y, 0.0), v);
                }
                store_padded(isa, v, y);
                at += I::LANES;
            }
        }
    }
}

/// What a block is multiplied by. Plain numbers: the compiler makes vectors of the level of them.
#[inline(always)]
fn fill_masks(key: u64, block: usize, threshold: u32, factor: f32, masks: &mut [f32; BLOCK]) {
    let first = (block * WORDS) as u64;
    let mut words = [0_u64; WORDS];
    for (i, word) in words.iter_mut().enumerate() {
        let counter = (first + i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *word = mix(key.wrapping_add(counter));
    }
    for i in 0..WORDS {
        masks[i] = if (words[i] as u32) < threshold { 0.0 } else { factor };
    }
    for i in 0..WORDS {
        masks[WORDS + i] = if ((words[i] >> 32) as u32) < threshold { 0.0 } else { factor };
    }
}

#[cfg(test)]
mod tests {
    use super::mix;

    #[test]
    fn the_generator_is_splitmix64() {
        // The sequence of seed 0 begins with these, in every implementation.
        let gamma = 0x9e37_79b9_7f4a_7c15_u64;
        let first = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f, 0xf88b_b8a8_724c_81ec];
        for (i, word) in first.into_iter().enumerate() {
            assert_eq!(mix(gamma.wrapping_mul(i as u64 + 1)), word);
        }
    }
}
