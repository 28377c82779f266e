//! `polyphase`, 3x3 filters with stride 2 and padding 1: about 0.6 times the products.
//!
//! In one dimension (d begins with the padding) a pixel is `y[j] = g0·d[2j] + g1·d[2j+1] + g2·d[2j+2]`.
//! The even inputs e and the odd ones o fall into two phases without a stride:
//!
//! * `g0·e[j] + g2·e[j+1]`: a filter of two, which Winograd's F(3, 2) computes for three pixels with four
//!   products instead of six, at the points 0, 1, −1, ∞ (derived as [`super::winograd4`]; the sign of G's
//!   first row is moved to Bᵀ);
//! * `g1·o[j]`: three products, which share one number of the filter.
//!
//! ```text
//!       e0 e1 e2 e3 | o0 o1 o2                g0 g1 g2
//!      | 1  0 −1  0 |          |             | 1  0  0 |            | 1  1  1  1  0  0  0 |
//!      | 0  1  1  0 |          |             | ½  0  ½ |       Aᵀ = | 0  1 −1  0  1  0  0 |
//!      | 0 −1  1  0 |          |             | ½  0 −½ |            | 0  1  1  0  0  1  1 |
//! Bᵀ = |            | 1  0  0  |         G = | 0  1  0 |
//!      |            | 0  1  0  |             | 0  1  0 |
//!      |            | 0  0  1  |             | 0  1  0 |
//!      | 0 −1  0  1 |          |             | 0  0  1 |
//! ```
//!
//! Together 7 products instead of 9: 49 of 81 in two dimensions, with 25 different numbers of a filter.
//! (S. Winograd, "Arithmetic Complexity of Computations", 1980.) Errors are those of plain sums: all
//! factors are 1 and ½.
//!
//! The input's gradient falls into the same phases: `dx` at an odd place (counted from the padding) is
//! `g1·dy[j]`, at an even one a filter of two over dy, the flipped one. Six pixels take seven products.

use super::Uniform;
use super::winograd::{Line, Scheme};
use crate::isa::Isa;

/// Whether this algorithm can do a convolution.
pub(super) const fn accepts(conv: &Uniform) -> bool {
    conv.kernel == 3 && conv.stride == 2 && conv.pad == 1
}

/// Forward, and the weight's gradient.
#[derive(Clone, Copy)]
pub(crate) struct Strided;

/// The input's gradient.
#[derive(Clone, Copy)]
pub(crate) struct StridedInput;

/// The number of the transformed filter that a product takes.
const SHARED: [usize; 7] = [0, 1, 2, 3, 3, 3, 4];

impl Scheme for Strided {
    const IN: usize = 7;
    const POINTS: usize = 7;
    const OUT: usize = 3;
    const KNOWN: usize = 0;
    const STEPS: [usize; 2] = [2, 1];
    const LAST: usize = 2;
    const FILTERS: usize = 5;

    #[inline(always)]
    fn shared(point: usize) -> usize {
        SHARED[point]
    }

    #[inline(always)]
    fn input<I: Isa>(isa: I, d: Line<I>) -> Line<I> {
        [isa.sub(d[0], d[4]), isa.add(d[2], d[4]), isa.sub(d[4], d[2]), d[1], d[3], d[5], isa.sub(d[6], d[2])]
    }

    #[inline(always)]
    fn filter<I: Isa>(isa: I, g: Line<I>) -> Line<I> {
        let half = isa.splat(0.5);
        let (first, last) = (isa.mul(half, g[0]), isa.mul(half, g[2]));
        [g[0], isa.add(first, last), isa.sub(first, last), g[1], g[2], g[0], g[0]]
    }

    #[inline(always)]
    fn output<I: Isa>(isa: I, m: Line<I>) -> Line<I> {
        let sum = isa.add(m[1], m[2]);
        [isa.add(isa.add(m[0], sum), m[3]), isa.add(isa.sub(m[1], m[2]), m[4]), isa.add(isa.add(sum, m[6]), m[5]), m[0], m[0], m[0], m[0]]
    }

    #[inline(always)]
    fn output_adjoint<I: Isa>(isa: I, y: Line<I>) -> Line<I> {
        let ends = isa.add(y[0], y[2]);
        [y[0], isa.add(ends, y[1]), isa.sub(ends, y[1]), y[0], y[1], y[2], y[2]]
    }

    #[inline(always)]
    fn filter_adjoint<I: Isa>(isa: I, u: Line<I>) -> Line<I> {
        let half = isa.splat(0.5);
        let (sum, difference) = (isa.add(u[1], u[2]), isa.sub(u[1], u[2]));
        [isa.fma(half, sum, u[0]), u[3], isa.fma(half, difference, u[4]), u[0], u[0], u[0], u[0]]
    }
}

impl Scheme for StridedInput {
    const IN: usize = 4;
    const POINTS: usize = 7;
    const OUT: usize = 6;
    /// dy has no padding: an input's first pixel is at an odd place.
    const KNOWN: usize = 1;
    const STEPS: [usize; 2] = [1, 2];
    const SHORT: usize = 2;
    const LAST: usize = 2;
    const FILTERS: usize = 5;

    #[inline(always)]
    fn shared(point: usize) -> usize {
        SHARED[point]
    }

    #[inline(always)]
    fn input<I: Isa>(isa: I, d: Line<I>) -> Line<I> {
        [isa.sub(d[0], d[2]), isa.add(d[1], d[2]), isa.sub(d[2], d[1]), d[0], d[1], d[2], isa.sub(d[3], d[1])]
    }

    #[inline(always)]
    fn filter<I: Isa>(isa: I, g: Line<I>) -> Line<I> {
        Strided::filter(isa, g)
    }

    #[inline(always)]
    fn output<I: Isa>(isa: I, m: Line<I>) -> Line<I> {
        let sum = isa.add(m[1], m[2]);
        [m[3], isa.add(m[0], sum), m[4], isa.sub(m[1], m[2]), m[5], isa.add(sum, m[6]), m[0]]
    }

    /// Not used: the weight's gradient is [`Strided`]'s.
    fn output_adjoint<I: Isa>(_: I, y: Line<I>) -> Line<I> {
        y
    }

    /// Not used.
    fn filter_adjoint<I: Isa>(_: I, u: Line<I>) -> Line<I> {
        u
    }
}
