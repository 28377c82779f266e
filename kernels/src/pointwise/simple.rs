//! Functions of one operation.

use super::{Reads, formula::Formula};
use crate::isa::Isa;
use crate::math;

#[derive(Clone, Copy)]
pub(super) struct Abs;

impl Formula for Abs {
    const NAME: &'static str = "abs";
    const READS: Reads = Reads::X;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        math::abs(isa, x)
    }

    /// dy·sign(x), where the sign of 0 and of NaN is 0
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, x: I::V, dy: I::V) -> I::V {
        isa.mul(dy, math::sign(isa, x))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Square;

impl Formula for Square {
    const NAME: &'static str = "square";
    const READS: Reads = Reads::X;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        isa.mul(x, x)
    }

    /// dy·2·x
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, x: I::V, dy: I::V) -> I::V {
        isa.mul(dy, isa.add(x, x))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Reciprocal;

impl Formula for Reciprocal {
    const NAME: &'static str = "reciprocal";
    const READS: Reads = Reads::Y;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        isa.div(isa.splat(1.0), x)
    }

    /// −dy·y²
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, y: I::V, dy: I::V) -> I::V {
        isa.mul(isa.mul(dy, isa.splat(-1.0)), isa.mul(y, y))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Scale(pub(super) f32);

impl Formula for Scale {
    const NAME: &'static str = "scale";
    const READS: Reads = Reads::Nothing;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        isa.mul(x, isa.splat(self.0))
    }

    /// dy·factor
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, _: I::V, dy: I::V) -> I::V {
        isa.mul(dy, isa.splat(self.0))
    }
}

#[derive(Clone, Copy)]
pub(super) struct AddScalar(pub(super) f32);

impl Formula for AddScalar {
    const NAME: &'static str = "add_scalar";
    const READS: Reads = Reads::Nothing;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        isa.add(x, isa.splat(self.0))
    }

    /// dy
    #[inline(always)]
    fn gradient<I: Isa>(self, _: I, _: I::V, dy: I::V) -> I::V {
        dy
    }
}

#[derive(Clone, Copy)]
pub(super) struct Divide(pub(super) f32);

impl Formula for Divide {
    const NAME: &'static str = "divide";
    const READS: Reads = Reads::Nothing;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        isa.div(x, isa.splat(self.0))
    }

    /// dy/divisor
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, _: I::V, dy: I::V) -> I::V {
        isa.div(dy, isa.splat(self.0))
    }
}
