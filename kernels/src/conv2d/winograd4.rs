//! `winograd4`: Winograd's F(4x4, 3x3), 36 products for 16 pixels instead of 144.
//!
//! A 1-D convolution of 6 numbers d with a filter of 3, giving 4, is a product of polynomials read
//! backwards (transposed Toom-Cook): evaluate at six points, multiply, interpolate:
//! `y = Aᵀ[(G g) ⊙ (Bᵀ d)]`. (S. Winograd, "Arithmetic Complexity of Computations", 1980; A. Lavin and
//! S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.)
//!
//! The points are 0, ±a, ±b, ∞ with a = √½ and b = √2. With `m(t) = (t² − ½)(t² − 2) = t⁴ − 5/2·t² + 1`:
//!
//! * row p of Bᵀ holds the coefficients of `t·m(t) / (t − p)`; of `m(t)` for p = 0, of `t·m(t)` for ∞;
//! * row p of G is `(1, p, p²)` divided by the value of that polynomial at p:
//!   1 for 0, −3/2 for ±a, 6 for ±b; `(0, 0, 1)` for ∞;
//! * column p of Aᵀ is `(1, p, p², p³)`; `(0, 0, 0, 1)` for ∞.
//!
//! As many operations as with the textbook's points 0, ±1, ±2, ∞, and 4 to 5 times less rounding
//! error: the points' powers stay near 1.

use super::winograd::{Line, Scheme};
use crate::isa::Isa;

const A: f32 = core::f32::consts::FRAC_1_SQRT_2;
const B: f32 = core::f32::consts::SQRT_2;

/// F(4x4, 3x3).
#[derive(Clone, Copy)]
pub(crate) struct Winograd4;

impl Scheme for Winograd4 {
    const IN: usize = 6;
    const POINTS: usize = 6;
    const OUT: usize = 4;
    const KNOWN: usize = 0;

    #[inline(always)]
    fn input<I: Isa>(isa: I, d: Line<I>) -> Line<I> {
        let (a, b) = (isa.splat(A), isa.splat(B));
        let even_a = isa.fma(isa.splat(-2.0), d[2], d[4]);
        let odd_a = isa.fma(isa.splat(-2.0), d[1], d[3]);
        let even_b = isa.fma(isa.splat(-0.5), d[2], d[4]);
        let odd_b = isa.fma(isa.splat(-0.5), d[1], d[3]);
        [
            isa.add(isa.fma(isa.splat(-2.5), d[2], d[0]), d[4]),
            isa.fma(a, odd_a, even_a),
            isa.fma(isa.splat(-A), odd_a, even_a),
            isa.fma(b, odd_b, even_b),
            isa.fma(isa.splat(-B), odd_b, even_b),
            isa.add(isa.fma(isa.splat(-2.5), d[3], d[1]), d[5]),
            d[0],
        ]
    }

    #[inline(always)]
    fn filter<I: Isa>(isa: I, g: Line<I>) -> Line<I> {
        let even_a = isa.mul(isa.splat(-1.0 / 1.5), isa.fma(isa.splat(0.5), g[2], g[0]));
        let odd_a = isa.mul(isa.splat(-A / 1.5), g[1]);
        let even_b = isa.mul(isa.splat(1.0 / 6.0), isa.fma(isa.splat(2.0), g[2], g[0]));
        let odd_b = isa.mul(isa.splat(B / 6.0), g[1]);
        [g[0], isa.add(even_a, odd_a), isa.sub(even_a, odd_a), isa.add(even_b, odd_b), isa.sub(even_b, odd_b), g[2], g[0]]
    }

    #[inline(always)]
    fn output<I: Isa>(isa: I, m: Line<I>) -> Line<I> {
        let (even_a, odd_a) = (isa.add(m[1], m[2]), isa.sub(m[1], m[2]));
        let (even_b, odd_b) = (isa.add(m[3], m[4]), isa.sub(m[3], m[4]));
        [
            isa.add(isa.add(m[0], even_a), even_b),
            isa.fma(isa.splat(A), odd_a, isa.mul(isa.splat(B), odd_b)),
            isa.fma(isa.splat(0.5), even_a, isa.mul(isa.splat(2.0), even_b)),
            isa.fma(isa.splat(0.5 * A), odd_a, isa.fma(isa.splat(2.0 * B), odd_b, m[5])),
            m[0],
            m[0],
            m[0],
        ]
    }

    #[inline(always)]
    fn output_adjoint<I: Isa>(isa: I, y: Line<I>) -> Line<I> {
        let (half, two) = (isa.splat(0.5), isa.splat(2.0));
        let even_a = isa.fma(half, y[2], y[0]);
        let odd_a = isa.mul(isa.splat(A), isa.fma(half, y[3], y[1]));
        let even_b = isa.fma(two, y[2], y[0]);
        let odd_b = isa.mul(isa.splat(B), isa.fma(two, y[3], y[1]));
        [y[0], isa.add(even_a, odd_a), isa.sub(even_a, odd_a), isa.add(even_b, odd_b), isa.sub(even_b, odd_b), y[3], y[0]]
    }

    #[inline(always)]
    fn filter_adjoint<I: Isa>(isa: I, u: Line<I>) -> Line<I> {
        let (even_a, odd_a) = (isa.add(u[1], u[2]), isa.sub(u[1], u[2]));
        let (even_b, odd_b) = (isa.add(u[3], u[4]), isa.sub(u[3], u[4]));
        [
            isa.fma(isa.splat(-1.0 / 1.5), even_a, isa.fma(isa.splat(1.0 / 6.0), even_b, u[0])),
            isa.fma(isa.splat(-A / 1.5), odd_a, isa.mul(isa.splat(B / 6.0), odd_b)),
            isa.fma(isa.splat(-0.5 / 1.5), even_a, isa.fma(isa.splat(2.0 / 6.0), even_b, u[5])),
            u[0],
            u[0],
            u[0],
            u[0],
        ]
    }
}
