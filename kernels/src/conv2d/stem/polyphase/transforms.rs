//! The transforms of F(4, 4) on vectors: y = Aᵀ[(G g) ⊙ (Bᵀ d)], as in `winograd4`'s transforms, for
//! a filter of four taps.
//!
//! The points are 0, ±1, ±½, 2, ∞. With M(t) = t·(t² − 1)·(t² − ¼)·(t − 2):
//!
//! * row p of Bᵀ holds the coefficients of M(t) / (t − p), and of M(t) for ∞;
//! * row p of G is (1, p, p², p³) divided by the value of that polynomial at p:
//!   −½, −3/2, −9/2, 9/16, 15/16, 45/2 for 0, 1, −1, ½, −½, 2; (0, 0, 0, 1) for ∞;
//! * column p of Aᵀ is (1, p, p², p³); (0, 0, 0, 1) for ∞.
//!
//! Results are off by about three times as much as a plain sum's, 1.3e-6 of the largest value: most of
//! it comes from the point 2. No set of seven is much better, and one of six would save less.

#![allow(clippy::needless_range_loop)] // indices say what moves where

use super::{OUT, POINTS, TAPS};
use crate::isa::Isa;

/// The values of the polynomials of the finite points.
const VALUES: [f32; 6] = [-0.5, -1.5, -4.5, 0.5625, 0.9375, 22.5];

/// A transform of `M` numbers to `N`.
///
/// A trait and not a closure: see [`crate::isa`].
pub(super) trait Transform<const M: usize, const N: usize> {
    /// The transform of one line.
    fn line<I: Isa>(isa: I, x: [I::V; M]) -> [I::V; N];
}

/// Bᵀ d
pub(super) struct Input;
/// G g
pub(super) struct Filter;
/// Aᵀ m
pub(super) struct Output;
/// A y: the adjoint of [`Output`].
pub(super) struct OutputAdjoint;
/// Gᵀ u: the adjoint of [`Filter`].
pub(super) struct FilterAdjoint;

impl Transform<POINTS, POINTS> for Input {
    #[inline(always)]
    fn line<I: Isa>(isa: I, d: [I::V; POINTS]) -> [I::V; POINTS] {
        let by = |factor: f32| isa.splat(factor);
        // t·(t² − 1)·(t² − ¼) and its neighbours: two of them make the rows of 0 and ∞.
        let u0 = isa.fma(by(0.25), d[0], isa.fma(by(-1.25), d[2], d[4]));
        let u1 = isa.fma(by(0.25), d[1], isa.fma(by(-1.25), d[3], d[5]));
        let u2 = isa.fma(by(0.25), d[2], isa.fma(by(-1.25), d[4], d[6]));
        // t·(t − 2)·(t² − ¼), times t and alone: their sum and difference are the rows of ±1.
        let (v1, v2, v3) = (isa.fma(by(-0.25), d[1], d[3]), isa.fma(by(-0.25), d[2], d[4]), isa.fma(by(-0.25), d[3], d[5]));
        let (one_t, one) = (isa.fma(by(-2.0), v2, v3), isa.fma(by(-2.0), v1, v2));
        // t·(t − 2)·(t² − 1), likewise for ±½.
        let (z1, z2, z3) = (isa.sub(d[3], d[1]), isa.sub(d[4], d[2]), isa.sub(d[5], d[3]));
        let (half_t, half) = (isa.fma(by(-2.0), z2, z3), isa.fma(by(-2.0), z1, z2));
        [
            isa.fma(by(-2.0), u0, u1),
            isa.add(one_t, one),
            isa.sub(one_t, one),
            isa.fma(by(0.5), half, half_t),
            isa.fma(by(-0.5), half, half_t),
            u1,
            isa.fma(by(-2.0), u1, u2),
        ]
    }
}

impl Transform<TAPS, POINTS> for Filter {
    #[inline(always)]
    fn line<I: Isa>(isa: I, g: [I::V; TAPS]) -> [I::V; POINTS] {
        let by = |factor: f32| isa.splat(factor);
        let u = OutputAdjoint::line(isa, g); // the powers of the same points
        [
            isa.mul(by(1.0 / VALUES[0]), u[0]),
            isa.mul(by(1.0 / VALUES[1]), u[1]),
            isa.mul(by(1.0 / VALUES[2]), u[2]),
            isa.mul(by(1.0 / VALUES[3]), u[3]),
            isa.mul(by(1.0 / VALUES[4]), u[4]),
            isa.mul(by(1.0 / VALUES[5]), u[5]),
            u[6],
        ]
    }
}

impl Transform<POINTS, OUT> for Output {
    #[inline(always)]
    fn line<I: Isa>(isa: I, m: [I::V; POINTS]) -> [I::V; OUT] {
        let by = |factor: f32| isa.splat(factor);
        let (even_1, odd_1) = (isa.add(m[1], m[2]), isa.sub(m[1], m[2]));
        let (even_h, odd_h) = (isa.add(m[3], m[4]), isa.sub(m[3], m[4]));
        [
            isa.add(isa.add(m[0], even_1), isa.add(even_h, m[5])),
            isa.fma(by(2.0), m[5], isa.fma(by(0.5), odd_h, odd_1)),
            isa.fma(by(4.0), m[5], isa.fma(by(0.25), even_h, even_1)),
            isa.fma(by(8.0), m[5], isa.add(m[6], isa.fma(by(0.125), odd_h, odd_1))),
        ]
    }
}

impl Transform<OUT, POINTS> for OutputAdjoint {
    #[inline(always)]
    fn line<I: Isa>(isa: I, y: [I::V; OUT]) -> [I::V; POINTS] {
        let by = |factor: f32| isa.splat(factor);
        let (even_1, odd_1) = (isa.add(y[0], y[2]), isa.add(y[1], y[3]));
        let (even_h, odd_h) = (isa.fma(by(0.25), y[2], y[0]), isa.fma(by(0.25), y[3], y[1]));
        let (even_2, odd_2) = (isa.fma(by(4.0), y[2], y[0]), isa.fma(by(4.0), y[3], y[1]));
        [
            y[0],
            isa.add(even_1, odd_1),
            isa.sub(even_1, odd_1),
            isa.fma(by(0.5), odd_h, even_h),
            isa.fma(by(-0.5), odd_h, even_h),
            isa.fma(by(2.0), odd_2, even_2),
            y[3],
        ]
    }
}

impl Transform<POINTS, TAPS> for FilterAdjoint {
    #[inline(always)]
    fn line<I: Isa>(isa: I, u: [I::V; POINTS]) -> [I::V; TAPS] {
        let mut m = u;
        for p in 0..6 {
            m[p] = isa.mul(isa.splat(1.0 / VALUES[p]), u[p]);
        }
        Output::line(isa, m) // the powers of the same points
    }
}
