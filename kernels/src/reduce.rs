//! Sums over all elements: the tutorial's loss `(prediction − labels).sum()`, means, and the norms
//! of gradients.
//!
//! A tensor is cut into fixed parts; each part adds blocks of numbers in `f32` vectors and the
//! blocks in `f64`; the parts are added in `f64`, in order. So the result is the same bits for any
//! number of threads and far more precise than a sum in `f32`.

use crate::isa::Isa;
use crate::lanes::{MOST, Map, PART, as_f64, load_each, load_each_padded, map};
use crate::{Cpu, Task, parallel::Chunks};

/// Numbers that are added in `f32` before the sum goes on in `f64`.
const BLOCK: usize = 512;

/// Scratch in `f32` for a sum over `len` numbers (64-byte aligned): one `f64` per part.
pub const fn scratch_len(len: usize) -> usize {
    2 * len.div_ceil(PART)
}

/// `Σ x`
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | any | read |
/// | `scratch` | `scratch_len(x.len())` | overwritten |
///
/// Backward: [`fill`] or [`fill_accumulate`] with dy. Reference: [`crate::reference::reduce::sum`].
///
/// # Panics
/// If `scratch` is too short.
pub fn sum(cpu: &Cpu, x: &[f32], scratch: &mut [f32]) -> f32 {
    total(cpu, Itself, [x], scratch) as f32
}

/// `Σ x / n`, NaN where there is nothing, as in PyTorch.
///
/// Operands as in [`sum`]. Backward: [`fill`] or [`fill_accumulate`] with dy / n.
///
/// # Panics
/// If `scratch` is too short.
pub fn mean(cpu: &Cpu, x: &[f32], scratch: &mut [f32]) -> f32 {
    (total(cpu, Itself, [x], scratch) / x.len() as f64) as f32
}

/// `Σ x²`, for the norm of a gradient; operands as in [`sum`].
///
/// # Panics
/// If `scratch` is too short.
pub fn sum_of_squares(cpu: &Cpu, x: &[f32], scratch: &mut [f32]) -> f64 {
    total(cpu, Square, [x], scratch)
}

/// `dx = value` (overwrites `dx`): backward of a sum, or of a mean with dy / n.
pub fn fill(cpu: &Cpu, value: f32, dx: &mut [f32]) {
    map(cpu, Value(value), [], dx);
}

/// `dx += value` (accumulates).
pub fn fill_accumulate(cpu: &Cpu, value: f32, dx: &mut [f32]) {
    map(cpu, PlusValue(value), [], dx);
}

/// What is added up: a number per element of `N` inputs. Must be 0 where all inputs are 0.
pub(crate) trait Term<const N: usize>: Copy + Sync {
    /// The number. Must be `#[inline(always)]`.
    fn of<I: Isa>(self, isa: I, x: [I::V; N]) -> I::V;
}

/// The sum of a term over all elements.
pub(crate) fn total<const N: usize, F: Term<N>>(cpu: &Cpu, f: F, x: [&[f32]; N], scratch: &mut [f32]) -> f64 {
    let len = x[0].len();
    for x in x {
        assert_eq!(x.len(), len, "operands of different lengths");
    }
    let needed = scratch_len(len);
    assert!(scratch.len() >= needed, "scratch of {} numbers for a sum that needs {needed}", scratch.len());
    let partial: &mut [f64] = as_f64(&mut scratch[..needed]);
    let parts = partial.len();
    cpu.run(Chunks::new(partial, 1, parts), &mut [], 0, |i, sum, _| {
        let part = i * PART..len.min((i + 1) * PART);
        cpu.level.run(SumTask { f, x: x.map(|x| &x[part.clone()]), sum: &mut sum[0] });
    });
    partial.iter().sum()
}

struct SumTask<'a, const N: usize, F> {
    f: F,
    x: [&'a [f32]; N],
    sum: &'a mut f64,
}

impl<const N: usize, F: Term<N>> Task for SumTask<'_, N, F> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        *self.sum = total_of_part(isa, self.f, self.x);
    }
}

/// The sum of a term over slices of equal lengths, on this thread.
#[inline(always)]
pub(crate) fn total_of_part<I: Isa, const N: usize, F: Term<N>>(isa: I, f: F, x: [&[f32]; N]) -> f64 {
    let len = x[0].len();
    let mut sum = 0.0;
    let mut start = 0;
    while start < len {
        let end = len.min(start + BLOCK);
        let mut part = x;
        for x in &mut part {
            *x = &x[start..end];
        }
        sum += block(isa, f, part, end - start);
        start = end;
    }
    sum
}

/// The sum over at most [`BLOCK`] elements: four vectors in `f32`, then their lanes in `f64`.
#[inline(always)]
fn block<I: Isa, const N: usize, F: Term<N>>(isa: I, f: F, x: [&[f32]; N], len: usize) -> f64 {
    let mut sums = [isa.splat(0.0); 4];
    let mut i = 0;
    while i + 4 * I::LANES <= len {
        for (j, sum) in sums.iter_mut().enumerate() {
            let at = i + j * I::LANES;
            *sum = isa.add(*sum, f.of(isa, load_each(isa, &x, at)));
        }
        i += 4 * I::LANES;
    }
    while i < len {
        sums[0] = isa.add(sums[0], f.of(isa, load_each_padded(isa, &x, i)));
        i += I::LANES;
    }
    let sum = isa.add(isa.add(sums[0], sums[1]), isa.add(sums[2], sums[3]));
    let mut lanes = [0.0; MOST];
    isa.store(sum, &mut lanes);
    lanes.iter().map(|v| f64::from(*v)).sum()
}

#[derive(Clone, Copy)]
pub(crate) struct Itself;

impl Term<1> for Itself {
    #[inline(always)]
    fn of<I: Isa>(self, _: I, [x]: [I::V; 1]) -> I::V {
        x
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Square;

impl Term<1> for Square {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, [x]: [I::V; 1]) -> I::V {
        isa.mul(x, x)
    }
}

#[derive(Clone, Copy)]
struct Value(f32);

impl Map<0> for Value {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, _: I::V, []: [I::V; 0]) -> I::V {
        isa.splat(self.0)
    }
}

#[derive(Clone, Copy)]
struct PlusValue(f32);

impl Map<0> for PlusValue {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, y: I::V, []: [I::V; 0]) -> I::V {
        isa.add(y, isa.splat(self.0))
    }
}
