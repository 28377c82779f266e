//! The natural logarithm.

use super::{Reads, formula::Formula};
use crate::isa::Isa;
use crate::math;

#[derive(Clone, Copy)]
pub(super) struct Log;

impl Formula for Log {
    const NAME: &'static str = "log";
    const READS: Reads = Reads::X;

    #[inline(always)]
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V {
        math::log(isa, x)
    }

    /// dy/x
    #[inline(always)]
    fn gradient<I: Isa>(self, isa: I, x: I::V, dy: I::V) -> I::V {
        isa.div(dy, x)
    }
}
