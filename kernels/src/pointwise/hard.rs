//! Sigmoid and swish made of straight lines: MobileNetV3's.

use super::{Reads, formula::Formula};
use crate::isa::Isa;
use crate::math::{at_least, at_most};

/// relu6(x + 3)
#[inline(always)]
fn line<I: Isa>(isa: I, x: I::V) -> I::V {
    at_most(isa, at_least(isa, isa.add(x, isa.splat(3.0)), isa.splat(0.0)), isa.splat(6.0))
}

#[derive(Clone, Copy)]
pub(super) struct Hardsigmoid;

impl Formula for Hardsigmoid {
    const NAME: &'static str = "hardsigmoid";
    // Just below 3 the value is rounded to 1, but the slope is 1/6: y does not tell.
    const READS: Reads = Reads::X;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        isa.div(line(isa, x), isa.splat(6.0))
    }

    /// dy/6 where −3 < x < 3
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, x: I::V, dy: I::V) -> I::V {
        let (zero, three) = (isa.splat(0.0), isa.splat(3.0));
        let dx = isa.mul(dy, isa.splat(1.0 / 6.0));
        let dx = isa.select(isa.lt(isa.splat(-3.0), x), dx, zero);
        isa.select(isa.lt(x, three), dx, zero)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Hardswish;

impl Formula for Hardswish {
    const NAME: &'static str = "hardswish";
    const READS: Reads = Reads::X;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        isa.div(isa.mul(x, line(isa, x)), isa.splat(6.0))
    }

    /// 0 up to −3, dy from 3 on, dy·(x/3 + ½) between
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, x: I::V, dy: I::V) -> I::V {
        let between = isa.mul(dy, isa.add(isa.div(x, isa.splat(3.0)), isa.splat(0.5)));
        let dx = isa.select(isa.le(x, isa.splat(-3.0)), isa.splat(0.0), between);
        isa.select(isa.le(isa.splat(3.0), x), dy, dx)
    }
}
