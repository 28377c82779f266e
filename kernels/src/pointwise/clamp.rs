//! Values kept between two bounds.

use super::{Reads, formula::Formula};
use crate::isa::Isa;
use crate::math::{at_least, at_most};

#[derive(Clone, Copy)]
pub(super) struct Relu6;

impl Formula for Relu6 {
    const NAME: &'static str = "relu6";
    const READS: Reads = Reads::Y;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        Clamp { low: 0.0, high: 6.0 }.value(isa, x)
    }

    /// dy where 0 < y < 6
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, y: I::V, dy: I::V) -> I::V {
        Clamp { low: 0.0, high: 6.0 }.gradient(isa, y, dy)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Clamp {
    pub(super) low: f32,
    pub(super) high: f32,
}

impl Formula for Clamp {
    const NAME: &'static str = "clamp";
    const READS: Reads = Reads::Y;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        if self.low.is_nan() || self.high.is_nan() {
            return isa.splat(f32::NAN);
        }
        at_most(isa, at_least(isa, x, isa.splat(self.low)), isa.splat(self.high))
    }

    /// dy where low < y < high
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, y: I::V, dy: I::V) -> I::V {
        let zero = isa.splat(0.0);
        let dx = isa.select(isa.lt(isa.splat(self.low), y), dy, zero);
        isa.select(isa.lt(y, isa.splat(self.high)), dx, zero)
    }
}
