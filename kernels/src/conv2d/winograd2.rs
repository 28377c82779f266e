//! `winograd2`: Winograd's F(2x2, 3x3), 16 products for 4 pixels instead of 36.
//!
//! Derived as [`super::winograd4`], from the points 0, 1, −1, ∞. With `m(t) = t² − 1`:
//!
//! * row p of Bᵀ holds the coefficients of `t·m(t) / (t − p)`, that is `t + t²` for 1 and `t² − t` for −1;
//!   of `m(t)` for p = 0 and of `t·m(t)` for ∞;
//! * row p of G is `(1, p, p²)` divided by the value of that polynomial at p: −1 for 0 (the sign is moved
//!   to Bᵀ), 2 for ±1; `(0, 0, 1)` for ∞;
//! * column p of Aᵀ is `(1, p)`; `(0, 1)` for ∞.
//!
//! ```text
//!      | 1  0 −1  0 |        |  1    0    0  |
//! Bᵀ = | 0  1  1  0 |    G = |  ½    ½    ½  |    Aᵀ = | 1  1  1  0 |
//!      | 0 −1  1  0 |        |  ½   −½    ½  |         | 0  1 −1  1 |
//!      | 0 −1  0  1 |        |  0    0    1  |
//! ```
//!
//! Smaller tiles than F(4x4, 3x3): less is wasted on small planes, fewer filters' numbers are written,
//! and the error is as small as that of plain sums.

use super::winograd::{Line, Scheme};
use crate::isa::Isa;

/// F(2x2, 3x3).
#[derive(Clone, Copy)]
pub(crate) struct Winograd2;

impl Scheme for Winograd2 {
    const IN: usize = 4;
    const POINTS: usize = 4;
    const OUT: usize = 2;
    const KNOWN: usize = 0;

    #[inline(always)]
    fn input<I: Isa>(isa: I, d: Line<I>) -> Line<I> {
        [isa.sub(d[0], d[2]), isa.add(d[1], d[2]), isa.sub(d[2], d[1]), isa.sub(d[3], d[1]), d[0], d[0], d[0]]
    }

    #[inline(always)]
    fn filter<I: Isa>(isa: I, g: Line<I>) -> Line<I> {
        let half = isa.splat(0.5);
        let (even, odd) = (isa.mul(half, isa.add(g[0], g[2])), isa.mul(half, g[1]));
        [g[0], isa.add(even, odd), isa.sub(even, odd), g[2], g[0], g[0], g[0]]
    }

    #[inline(always)]
    fn output<I: Isa>(isa: I, m: Line<I>) -> Line<I> {
        let (even, odd) = (isa.add(m[1], m[2]), isa.sub(m[1], m[2]));
        [isa.add(m[0], even), isa.add(odd, m[3]), m[0], m[0], m[0], m[0], m[0]]
    }

    #[inline(always)]
    fn output_adjoint<I: Isa>(isa: I, y: Line<I>) -> Line<I> {
        [y[0], isa.add(y[0], y[1]), isa.sub(y[0], y[1]), y[1], y[0], y[0], y[0]]
    }

    #[inline(always)]
    fn filter_adjoint<I: Isa>(isa: I, u: Line<I>) -> Line<I> {
        let half = isa.splat(0.5);
        let (even, odd) = (isa.add(u[1], u[2]), isa.sub(u[1], u[2]));
        [isa.fma(half, even, u[0]), isa.mul(half, odd), isa.fma(half, even, u[3]), u[0], u[0], u[0], u[0]]
    }
}
