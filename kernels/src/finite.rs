//! Whether numbers are finite, and whether they are so small that products of them are.
//!
//! Both ask one multiplication and one addition of each vector, and write nothing.

use crate::isa::Isa;
use crate::lanes::PART;
use crate::parallel::Chunks;
use crate::reduce::{Square, Term, total_of_part};
use crate::{Cpu, Task};
use core::sync::atomic::{AtomicBool, Ordering};

/// Squares of a part's numbers add up to less than this: 2^64.
const LIMIT: f64 = 18_446_744_073_709_551_616.0;

/// Whether no number is NaN or infinite.
pub fn all(cpu: &Cpu, x: &[f32]) -> bool {
    // 0 times a finite number is 0, times another it is NaN.
    every_part(cpu, x, Nought, |sum| sum == 0.0)
}

/// Whether numbers are finite and small: of each 8192 the squares add up to less than 2^64. Not so is no fault
/// yet: ask [`all`].
///
/// By the inequality of Cauchy and Schwarz no sum of products of two such tensors, of at most 2^32 numbers, is
/// larger than 2^51. A convolution's weight gradient is such a sum, so it is finite for certain, and added to any
/// finite number the sum is finite too: it is too small to change the largest ones.
pub fn is_small(cpu: &Cpu, x: &[f32]) -> bool {
    every_part(cpu, x, Square, |sum| sum < LIMIT)
}

/// Whether a condition holds of every part's sum.
fn every_part(cpu: &Cpu, x: &[f32], f: impl Term<1>, holds: impl Fn(f64) -> bool + Sync) -> bool {
    let whole = AtomicBool::new(true);
    let nothing: &mut [f32] = &mut [];
    cpu.run(Chunks::new(nothing, 1, x.len().div_ceil(PART)), &mut [], 0, |i, _, _| {
        let mut sum = 0.0;
        cpu.level.run(Part { f, x: &x[i * PART..x.len().min((i + 1) * PART)], sum: &mut sum });
        if !holds(sum) {
            whole.store(false, Ordering::Relaxed);
        }
    });
    whole.load(Ordering::Relaxed)
}

struct Part<'a, F> {
    f: F,
    x: &'a [f32],
    sum: &'a mut f64,
}

impl<F: Term<1>> Task for Part<'_, F> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        *self.sum = total_of_part(isa, self.f, [self.x]);
    }
}

#[derive(Clone, Copy)]
struct Nought;

impl Term<1> for Nought {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, [x]: [I::V; 1]) -> I::V {
        isa.mul(x, isa.splat(0.0))
    }
}
