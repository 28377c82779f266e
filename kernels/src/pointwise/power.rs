//! Powers and the square root.

use super::{Reads, formula::Formula};
use crate::isa::Isa;
use crate::math;

#[derive(Clone, Copy)]
pub(super) struct Sqrt;

impl Formula for Sqrt {
    const NAME: &'static str = "sqrt";
    const READS: Reads = Reads::Y;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        isa.sqrt(x)
    }

    /// dy/(2·y)
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, y: I::V, dy: I::V) -> I::V {
        isa.div(dy, isa.add(y, y))
    }
}

/// To this power.
#[derive(Clone, Copy)]
pub(super) struct Pow(pub(super) f32);

impl Formula for Pow {
    const NAME: &'static str = "pow";
    const READS: Reads = Reads::X;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        math::power(isa, x, f64::from(self.0))
    }

    /// dy·(p·xᵖ⁻¹), and 0 whatever dy is where p is 0.
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, x: I::V, dy: I::V) -> I::V {
        if self.0 == 0.0 {
            return isa.splat(0.0);
        }
        let slope = math::power(isa, x, f64::from(self.0) - 1.0);
        isa.mul(dy, isa.mul(isa.splat(self.0), slope))
    }
}
