//! The portable level where there is no SIMD: one number at a time. A vector of `wide` would be eight
//! numbers in as many instructions, and code eight times as large.
//!
//! The register tile of 4 x 4 sums fits the 32 single registers of a Cortex-M with its operands.

use super::Isa;

/// Exists on every CPU.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Isa for Portable {
    type V = f32;
    type M = bool;
    const LANES: usize = 1;
    const ROWS: usize = 4;
    const GRADIENT_ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> f32 {
        x[0]
    }
    #[inline(always)]
    fn store(self, v: f32, y: &mut [f32]) {
        y[0] = v;
    }
    #[inline(always)]
    unsafe fn load_at(self, x: *const f32) -> f32 {
        // SAFETY: the caller vouches for a readable number.
        unsafe { *x }
    }
    #[inline(always)]
    unsafe fn store_at(self, v: f32, y: *mut f32) {
        // SAFETY: as for `load_at`, writable.
        unsafe { *y = v }
    }
    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        // Two operations, as at the portable level everywhere.
        a * b + c
    }
    #[inline(always)]
    fn div(self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn sqrt(self, a: f32) -> f32 {
        libm::sqrtf(a)
    }
    #[inline(always)]
    fn bits_and(self, a: f32, b: f32) -> f32 {
        f32::from_bits(a.to_bits() & b.to_bits())
    }
    #[inline(always)]
    fn bits_or(self, a: f32, b: f32) -> f32 {
        f32::from_bits(a.to_bits() | b.to_bits())
    }
    #[inline(always)]
    fn bits_up<const N: u32>(self, a: f32) -> f32 {
        f32::from_bits(a.to_bits() << N)
    }
    #[inline(always)]
    fn bits_down<const N: u32>(self, a: f32) -> f32 {
        f32::from_bits(a.to_bits() >> N)
    }
    #[inline(always)]
    fn lt(self, a: f32, b: f32) -> bool {
        a < b
    }
    #[inline(always)]
    fn le(self, a: f32, b: f32) -> bool {
        a <= b
    }
    #[inline(always)]
    fn is_nan(self, a: f32) -> bool {
        a.is_nan()
    }
    #[inline(always)]
    fn or(self, a: bool, b: bool) -> bool {
        a | b
    }
    #[inline(always)]
    fn select(self, m: bool, a: f32, b: f32) -> f32 {
        if m { a } else { b }
    }
    #[inline(always)]
    fn sum(self, v: f32) -> f32 {
        v
    }
}
