//! What a function of one number consists of.

use super::Reads;
use crate::isa::Isa;

/// A function of one number, with its slope.
///
/// Both functions must be `#[inline(always)]`.
pub(super) trait Formula: Copy + Sync {
    /// Its name in the field.
    const NAME: &'static str;
    /// What `gradient` is given as `saved`.
    const READS: Reads;
    /// The function's value.
    fn value<I: Isa>(self, isa: I, x: I::V) -> I::V;
    /// dy times the slope, from x or from y.
    fn gradient<I: Isa>(self, isa: I, saved: I::V, dy: I::V) -> I::V;
}
