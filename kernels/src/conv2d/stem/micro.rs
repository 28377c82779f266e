//! The innermost loop of the forward pass.

use super::{CHANNELS, KERNEL};
use crate::bounds::inside;
use crate::isa::Isa;

/// Where the numbers lie that a pixel is summed from, relative to its first.
pub(super) struct Offsets {
    at: [u32; CHANNELS * KERNEL * KERNEL],
    len: usize,
    /// The largest of them.
    reach: usize,
}

impl Offsets {
    /// `at(0)` … `at(len − 1)`.
    ///
    /// # Panics
    /// If there are more than the largest filter has, or one does not fit 32 bits.
    pub(super) fn new(len: usize, at: impl Fn(usize) -> usize) -> Offsets {
        let mut offsets = Offsets { at: [0; CHANNELS * KERNEL * KERNEL], len, reach: 0 };
        for (t, to) in offsets.at[..len].iter_mut().enumerate() {
            let place = at(t);
            offsets.reach = offsets.reach.max(place);
            *to = u32::try_from(place).unwrap_or_else(|_| panic!("a filter that reaches {place} numbers far"));
        }
        offsets
    }
}

/// `sum[r][v] += Σ over t, x[r·STEP + offsets[t]] · w[t·stride + v]`: a tile of `R` pixels times `V`
/// vectors of output channels, in registers. Each element is one chain of fused products in the order
/// of t, so a result does not depend on how the pixels were cut into tiles.
///
/// # Panics
/// If `x` or `w` has fewer numbers than are read.
#[inline(always)]
pub(super) fn multiply<I: Isa, const R: usize, const V: usize, const STEP: usize>(
    isa: I,
    x: &[f32],
    offsets: &Offsets,
    w: &[f32],
    stride: usize,
    sum: &mut [[I::V; V]; R],
) {
    let at = &offsets.at[..offsets.len];
    // Nothing wraps where these hold: no place below lies behind the last one, which was computed here.
    assert!(offsets.reach < x.len() && inside(x.len() - offsets.reach, R, STEP, 1));
    assert!(inside(w.len(), at.len(), stride, V * I::LANES));
    let (x, mut w) = (x.as_ptr(), w.as_ptr());
    // A copy that is only ever indexed by constants, so that it lives in registers.
    let mut acc = *sum;
    for &at in at {
        let mut ws = [isa.splat(0.0); V];
        for (v, ws) in ws.iter_mut().enumerate() {
            // SAFETY: `w` has moved `stride` numbers for each t before this one; the last was checked to
            // be there.
            *ws = unsafe { isa.load_at(w.add(v * I::LANES)) };
        }
        let x = x.wrapping_add(at as usize);
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: at most (R − 1)·STEP + reach numbers from the first, which was checked.
            let x = isa.splat(unsafe { *x.add(r * STEP) });
            for v in 0..V {
                acc[v] = isa.fma(x, ws[v], acc[v]);
            }
        }
        w = w.wrapping_add(stride);
    }
    *sum = acc;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Task;
    use crate::testing::{for_each_cpu, panics};

    struct Multiply {
        offsets: Offsets,
        stride: usize,
    }

    impl Task for Multiply {
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let (x, w) = ([1.0; 64], [1.0; 64]);
            let mut sum = [[isa.splat(0.0); 1]; 2];
            multiply::<I, 2, 1, 2>(isa, &x, &self.offsets, &w, self.stride, &mut sum);
        }
    }

    #[test]
    fn products_over_sizes_that_wrap_are_refused() {
        const HALF: usize = 1 << (usize::BITS - 1);
        for_each_cpu(|cpu| {
            let run = |len: usize, step: usize, stride: usize| {
                cpu.level.run(Multiply { offsets: Offsets::new(len, |t| t.wrapping_mul(step)), stride });
            };
            run(3, 30, 16);
            for (len, step, stride) in [
                (3, 31, 16), // the last pixel's last number is behind x
                (3, u32::MAX as usize, 16),
                (2, u32::MAX as usize, 16),
                (2, HALF, 16),
                (3, 1, HALF), // twice the stride wraps to 0
                (3, 1, HALF + 1),
                (2, 1, usize::MAX),
                (2, 1, usize::MAX - 7),
                (usize::MAX, 1, 0),
            ] {
                assert!(panics(|| run(len, step, stride)), "{len} taps of {step}, stride {stride}, at {}", cpu.level);
            }
        });
    }
}
