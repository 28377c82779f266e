//! The portable level: `wide`, whose instruction set is chosen when the crate is built (SSE2, NEON,
//! wasm simd128, or plain numbers).

use super::Isa;
use wide::{f32x8, u32x8};

/// Exists on every CPU.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Isa for Portable {
    type V = f32x8;
    type M = f32x8;
    const LANES: usize = 8;
    const ROWS: usize = 4;
    const GRADIENT_ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> f32x8 {
        f32x8::splat(x)
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> f32x8 {
        let x: &[f32; 8] = x[..8].try_into().expect("eight numbers");
        f32x8::new(*x)
    }
    #[inline(always)]
    fn store(self, v: f32x8, y: &mut [f32]) {
        y[..8].copy_from_slice(&v.to_array());
    }
    #[inline(always)]
    unsafe fn load_at(self, x: *const f32) -> f32x8 {
        // SAFETY: the caller vouches for eight readable numbers; an array of f32 needs no more
        // alignment than one f32.
        f32x8::new(unsafe { *x.cast::<[f32; 8]>() })
    }
    #[inline(always)]
    unsafe fn store_at(self, v: f32x8, y: *mut f32) {
        // SAFETY: as for `load_at`, writable.
        unsafe { *y.cast::<[f32; 8]>() = v.to_array() }
    }
    #[inline(always)]
    fn add(self, a: f32x8, b: f32x8) -> f32x8 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32x8, b: f32x8) -> f32x8 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32x8, b: f32x8) -> f32x8 {
        a * b
    }
    #[inline(always)]
    fn fma(self, a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
        // A fused operation without the instruction is a call into software, hundreds of times
        // slower: two operations, at this level always, so that its bits do not depend on flags.
        a * b + c
    }
    #[inline(always)]
    fn div(self, a: f32x8, b: f32x8) -> f32x8 {
        a / b
    }
    #[inline(always)]
    fn sqrt(self, a: f32x8) -> f32x8 {
        a.sqrt()
    }
    #[inline(always)]
    fn bits_and(self, a: f32x8, b: f32x8) -> f32x8 {
        a & b
    }
    #[inline(always)]
    fn bits_or(self, a: f32x8, b: f32x8) -> f32x8 {
        a | b
    }
    #[inline(always)]
    fn bits_up<const N: u32>(self, a: f32x8) -> f32x8 {
        bytemuck::cast(bytemuck::cast::<f32x8, u32x8>(a) << N)
    }
    #[inline(always)]
    fn bits_down<const N: u32>(self, a: f32x8) -> f32x8 {
        bytemuck::cast(bytemuck::cast::<f32x8, u32x8>(a) >> N)
    }
    #[inline(always)]
    fn lt(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_lt(b)
    }
    #[inline(always)]
    fn le(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_le(b)
    }
    #[inline(always)]
    fn is_nan(self, a: f32x8) -> f32x8 {
        a.is_nan()
    }
    #[inline(always)]
    fn or(self, a: f32x8, b: f32x8) -> f32x8 {
        a | b
    }
    #[inline(always)]
    fn select(self, m: f32x8, a: f32x8, b: f32x8) -> f32x8 {
        m.select(a, b)
    }
    #[inline(always)]
    fn sum(self, v: f32x8) -> f32 {
        let [a, b, c, d, e, f, g, h] = v.to_array();
        ((a + e) + (b + f)) + ((c + g) + (d + h))
    }
}
