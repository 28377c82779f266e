//! `nine`: planes of 2 x 2 with padding 1, nine products for the plane instead of 36.
//!
//! In one dimension, two pixels between zeros give
//!
//! ```text
//! y0 = w1·x0 + w2·x1          | y0 |   | w1 w2 | | x0 |
//! y1 = w0·x0 + w1·x1    or    | y1 | = | w0 w1 | | x1 |
//! ```
//!
//! a Toeplitz matrix, for which three products are enough (Karatsuba's trick, transposed):
//!
//! ```text
//! m0 = (w0 − w1)·x0    m1 = w1·(x0 + x1)    m2 = (w2 − w1)·x1
//! y0 = m1 + m2         y1 = m1 + m0
//! ```
//!
//! In two dimensions these are 3 x 3 products. (A. Karatsuba and Yu. Ofman, 1962; as a Toeplitz product:
//! S. Winograd, "Arithmetic Complexity of Computations", 1980.) It is a scheme like F(2x2, 3x3) that
//! knows the zeros around the plane and does not read them. The last layer of a ResNet has such planes at
//! images of 64 x 64.

use super::winograd::{Line, Scheme};
use crate::isa::Isa;

/// Nine products for a plane of 2 x 2.
#[derive(Clone, Copy)]
pub(crate) struct Nine;

impl Scheme for Nine {
    const IN: usize = 2;
    const POINTS: usize = 3;
    const OUT: usize = 2;
    const KNOWN: usize = 1;

    #[inline(always)]
    fn input<I: Isa>(isa: I, d: Line<I>) -> Line<I> {
        [d[0], isa.add(d[0], d[1]), d[1], d[0], d[0], d[0], d[0]]
    }

    #[inline(always)]
    fn filter<I: Isa>(isa: I, g: Line<I>) -> Line<I> {
        [isa.sub(g[0], g[1]), g[1], isa.sub(g[2], g[1]), g[0], g[0], g[0], g[0]]
    }

    #[inline(always)]
    fn output<I: Isa>(isa: I, m: Line<I>) -> Line<I> {
        [isa.add(m[1], m[2]), isa.add(m[1], m[0]), m[0], m[0], m[0], m[0], m[0]]
    }

    #[inline(always)]
    fn output_adjoint<I: Isa>(isa: I, y: Line<I>) -> Line<I> {
        [y[1], isa.add(y[0], y[1]), y[0], y[0], y[0], y[0], y[0]]
    }

    #[inline(always)]
    fn filter_adjoint<I: Isa>(isa: I, u: Line<I>) -> Line<I> {
        [u[0], isa.sub(isa.sub(u[1], u[0]), u[2]), u[2], u[0], u[0], u[0], u[0]]
    }
}
