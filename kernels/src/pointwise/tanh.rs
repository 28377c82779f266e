//! The hyperbolic tangent.

use super::{Reads, formula::Formula};
use crate::isa::Isa;
use crate::math;

#[derive(Clone, Copy)]
pub(super) struct Tanh;

impl Formula for Tanh {
    const NAME: &'static str = "tanh";
    const READS: Reads = Reads::Y;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        math::tanh(isa, x)
    }

    /// dy·(1 − y²)
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, y: I::V, dy: I::V) -> I::V {
        let one = isa.splat(1.0);
        isa.mul(dy, isa.mul(isa.sub(one, y), isa.add(one, y)))
    }
}
