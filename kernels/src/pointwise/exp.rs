//! The exponential function.

use super::{Reads, formula::Formula};
use crate::isa::Isa;
use crate::math;

#[derive(Clone, Copy)]
pub(super) struct Exp;

impl Formula for Exp {
    const NAME: &'static str = "exp";
    const READS: Reads = Reads::Y;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        math::exp(isa, x)
    }

    /// dy·y
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, y: I::V, dy: I::V) -> I::V {
        isa.mul(dy, y)
    }
}
