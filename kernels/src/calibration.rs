//! What a CPU can do at best, to be run beside whatever is timed.
//!
//! Times mean little on a machine that is shared, throttled or simply another one. These two loops do
//! a known amount of work in the cheapest way there is: [`products`] only multiplies and adds in
//! registers, [`stream`] only reads and writes memory. A kernel's time divided by theirs, taken a
//! moment before or after, says how good the kernel is; the rate of `products` is *the measured peak*.
//!
//! **These loops never change.** Figures of different days are compared through them.

use crate::Cpu;
use crate::dispatch::Task;
use crate::isa::Isa;
use crate::parallel::Chunks;

/// Sums that are under way at once: enough to hide the latency of two units of four cycles, few
/// enough for sixteen registers.
const CHAINS: usize = 12;
/// Rounds of a run of [`peak`].
const ROUNDS: usize = 10_000;
/// Numbers that one call of the stream's loop takes.
const PIECE: usize = 16 << 10;

/// Runs `rounds` of 12 fused multiply-adds of vectors for every number of `results`, in as many
/// parts as there are results.
///
/// | name | shape | |
/// |---|---|---|
/// | `results` | any | overwritten with what came out, so that nothing is optimised away |
///
/// Its operations (a multiplication and an addition count two): [`products_flops`].
pub fn products(cpu: &Cpu, rounds: usize, results: &mut [f32]) {
    let parts = results.len();
    cpu.run(Chunks::new(results, 1, parts), &mut [], 0, |i, result, _| {
        // Below 1 and different every time: neither overflows nor becomes a constant.
        let factor = core::hint::black_box(0.999_f32 - i as f32 * 1e-6);
        cpu.level.run(Products { factor, rounds, result });
    });
}

/// Operations of [`products`].
pub fn products_flops(cpu: &Cpu, rounds: usize, parts: usize) -> u64 {
    let mut lanes = 0;
    cpu.level.run(Lanes(&mut lanes));
    [CHAINS, lanes, rounds, parts].iter().fold(2, |flops: u64, n| flops.saturating_mul(*n as u64))
}

/// The measured peak: operations a second of [`products`], the fastest of 40 runs of some 50
/// microseconds, by the caller's clock in seconds.
///
/// | name | shape | |
/// |---|---|---|
/// | `results` | a number or more for each thread | overwritten |
pub fn peak(cpu: &Cpu, results: &mut [f32], clock: &(dyn Fn() -> f64 + Sync)) -> f64 {
    let mut best = f64::INFINITY;
    cpu.threads.enter(|| {
        for _ in 0..40 {
            let start = clock();
            products(cpu, ROUNDS, results);
            best = best.min(clock() - start);
        }
    });
    products_flops(cpu, ROUNDS, results.len()) as f64 / best
}

/// `y = y/2 + 1` over all of `y`: reads and writes 8 bytes for each number.
///
/// | name | shape | |
/// |---|---|---|
/// | `y` | any; larger than the caches to time the memory | overwritten |
pub fn stream(cpu: &Cpu, y: &mut [f32]) {
    let parts = y.len().div_ceil(PIECE);
    cpu.run(Chunks::new(y, PIECE, parts), &mut [], 0, |_, y, _| cpu.level.run(Stream(y)));
}

struct Products<'a> {
    factor: f32,
    rounds: usize,
    result: &'a mut [f32],
}

impl Task for Products<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (factor, one) = (isa.splat(self.factor), isa.splat(1.0));
        let mut sums = [one; CHAINS];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = isa.splat(i as f32);
        }
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = isa.fma(*sum, factor, one);
            }
        }
        let mut total = sums[0];
        for sum in &sums[1..] {
            total = isa.add(total, *sum);
        }
        self.result[0] = isa.sum(total);
    }
}

struct Lanes<'a>(&'a mut usize);

impl Task for Lanes<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        *self.0 = I::LANES;
    }
}

struct Stream<'a>(&'a mut [f32]);

impl Task for Stream<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (half, one) = (isa.splat(0.5), isa.splat(1.0));
        let mut pieces = self.0.chunks_exact_mut(I::LANES);
        for y in &mut pieces {
            isa.store(isa.fma(isa.load(y), half, one), y);
        }
        for y in pieces.into_remainder() {
            *y = *y * 0.5 + 1.0;
        }
    }
}
