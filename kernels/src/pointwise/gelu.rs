//! x times the normal distribution's share below x, exactly and by the approximation with tanh.

use super::{Reads, formula::Formula};
use crate::isa::Isa;
use crate::math;

#[derive(Clone, Copy)]
pub(super) struct Gelu;

impl Formula for Gelu {
    const NAME: &'static str = "gelu";
    const READS: Reads = Reads::X;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        nan_unless_finite(isa, x, isa.mul(x, math::normal(isa, x).0))
    }

    /// dy·(Φ(x) + x·φ(x))
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, x: I::V, dy: I::V) -> I::V {
        let (share, density) = math::normal(isa, x);
        nan_unless_finite(isa, x, isa.mul(dy, isa.fma(x, density, share)))
    }
}

/// `y` where x is finite, else NaN: what PyTorch gives at −∞ and at ∞.
#[inline(always)]
fn nan_unless_finite<I: Isa>(isa: I, x: I::V, y: I::V) -> I::V {
    let difference = isa.sub(x, x);
    isa.select(isa.is_nan(difference), difference, y)
}

#[derive(Clone, Copy)]
pub(super) struct GeluTanh;

/// 2·√(2/π), and it times 0.044715: (1 + tanh u)/2 is sigmoid(2u).
const SLOPE: f32 = 1.595_769;
const CUBE: f32 = 0.071_354_814;

impl Formula for GeluTanh {
    const NAME: &'static str = "gelu_tanh";
    const READS: Reads = Reads::X;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        let inner = isa.mul(x, isa.fma(isa.mul(x, x), isa.splat(CUBE), isa.splat(SLOPE)));
        isa.mul(x, math::sigmoid(isa, inner).0)
    }

    /// dy·(s + x·s·(1 − s)·v') with s = sigmoid(v), v = 2·√(2/π)·(x + 0.044715·x³)
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, x: I::V, dy: I::V) -> I::V {
        let square = isa.mul(x, x);
        let inner = isa.mul(x, isa.fma(square, isa.splat(CUBE), isa.splat(SLOPE)));
        let (s, rest) = math::sigmoid(isa, inner);
        let slope = isa.fma(square, isa.splat(3.0 * CUBE), isa.splat(SLOPE));
        // Far out s·(1 − s) is 0, and x·v' may be infinite: their product is 0 in the limit.
        let both = isa.mul(isa.mul(s, rest), slope);
        isa.mul(dy, isa.fma(x, both, s))
    }
}
