//! The logistic function, and x times it.

use super::{Reads, formula::Formula};
use crate::isa::Isa;
use crate::math;

#[derive(Clone, Copy)]
pub(super) struct Sigmoid;

impl Formula for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const READS: Reads = Reads::Y;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        math::sigmoid(isa, x).0
    }

    /// dy·(1 − y)·y
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, y: I::V, dy: I::V) -> I::V {
        isa.mul(dy, isa.mul(isa.sub(isa.splat(1.0), y), y))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Silu;

impl Formula for Silu {
    const NAME: &'static str = "silu";
    const READS: Reads = Reads::X;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        isa.mul(x, math::sigmoid(isa, x).0)
    }

    /// dy·s·(1 + x·(1 − s)) with s = sigmoid(x)
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, x: I::V, dy: I::V) -> I::V {
        let (s, rest) = math::sigmoid(isa, x);
        isa.mul(dy, isa.mul(s, isa.fma(x, rest, isa.splat(1.0))))
    }
}
