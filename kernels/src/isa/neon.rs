//! NEON (AArch64): 4 lanes, 32 registers.

use super::Isa;
use core::arch::aarch64::*;

/// Proof that the CPU has NEON, which every AArch64 application core has.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// # Safety
    /// The CPU must have NEON.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Neon(())
    }
}

// SAFETY (every block below): a value of `Neon` exists only where the CPU has the instructions
// (`Neon::new`); the loads and stores that take slices check their lengths first, those that take
// pointers hand that duty to the caller.
impl Isa for Neon {
    type V = float32x4_t;
    type M = uint32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 6;
    const GRADIENT_ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> float32x4_t {
        assert!(x.len() >= 4);
        // SAFETY: see above; the length was checked.
        unsafe { vld1q_f32(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: float32x4_t, y: &mut [f32]) {
        assert!(y.len() >= 4);
        // SAFETY: see above; the length was checked.
        unsafe { vst1q_f32(y.as_mut_ptr(), v) }
    }
    #[inline(always)]
    unsafe fn load_at(self, x: *const f32) -> float32x4_t {
        // SAFETY: the caller's duty.
        unsafe { vld1q_f32(x) }
    }
    #[inline(always)]
    unsafe fn store_at(self, v: float32x4_t, y: *mut f32) {
        // SAFETY: the caller's duty.
        unsafe { vst1q_f32(y, v) }
    }
    /// Without memory in between: [`Isa`]'s own way would put each vector on the stack.
    #[inline(always)]
    unsafe fn load_first(self, x: *const f32, count: usize) -> float32x4_t {
        // SAFETY: the caller's duty: `count` numbers are read.
        unsafe {
            let zero = vdupq_n_f32(0.0);
            match count {
                0 => zero,
                1 => vld1q_lane_f32::<0>(x, zero),
                2 => vcombine_f32(vld1_f32(x), vdup_n_f32(0.0)),
                3 => vld1q_lane_f32::<2>(x.add(2), vcombine_f32(vld1_f32(x), vdup_n_f32(0.0))),
                _ => vld1q_f32(x),
            }
        }
    }
    #[inline(always)]
    unsafe fn store_first(self, v: float32x4_t, y: *mut f32, count: usize) {
        // SAFETY: the caller's duty: `count` numbers are written.
        unsafe {
            match count {
                0 => {}
                1 => vst1q_lane_f32::<0>(y, v),
                2 => vst1_f32(y, vget_low_f32(v)),
                3 => {
                    vst1_f32(y, vget_low_f32(v));
                    vst1q_lane_f32::<2>(y.add(2), v);
                }
                _ => vst1q_f32(y, v),
            }
        }
    }
    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        // SAFETY: a hint; no address is wrong. (The intrinsic is not stable yet.)
        unsafe { core::arch::asm!("prfm pldl2keep, [{x}]", x = in(reg) x, options(nostack, preserves_flags, readonly)) }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vsqrtq_f32(a) }
    }
    #[inline(always)]
    fn bits_and(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b))) }
    }
    #[inline(always)]
    fn bits_or(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b))) }
    }
    #[inline(always)]
    fn bits_up<const N: u32>(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_f32_u32(vshlq_u32(vreinterpretq_u32_f32(a), vdupq_n_s32(N as i32))) }
    }
    #[inline(always)]
    fn bits_down<const N: u32>(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_f32_u32(vshlq_u32(vreinterpretq_u32_f32(a), vdupq_n_s32(-(N as i32)))) }
    }
    #[inline(always)]
    fn lt(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        // SAFETY: see above.
        unsafe { vcltq_f32(a, b) }
    }
    #[inline(always)]
    fn le(self, a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        // SAFETY: see above.
        unsafe { vcleq_f32(a, b) }
    }
    #[inline(always)]
    fn is_nan(self, a: float32x4_t) -> uint32x4_t {
        // SAFETY: see above.
        unsafe { vmvnq_u32(vceqq_f32(a, a)) }
    }
    #[inline(always)]
    fn or(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: see above.
        unsafe { vorrq_u32(a, b) }
    }
    #[inline(always)]
    fn select(self, m: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vbslq_f32(m, a, b) }
    }
    /// By bytes, as there is no instruction for whole numbers: lane l's are 4 l to 4 l + 3.
    #[inline(always)]
    fn permute(self, v: float32x4_t, from: &[i32; 16]) -> float32x4_t {
        // SAFETY: see above; four of sixteen numbers are read.
        unsafe {
            let lanes = vreinterpretq_u32_s32(vld1q_s32(from.as_ptr()));
            let bytes = vmlaq_n_u32(vdupq_n_u32(0x0302_0100), lanes, 0x0404_0404);
            vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(v), vreinterpretq_u8_u32(bytes)))
        }
    }
    #[inline(always)]
    fn sum(self, v: float32x4_t) -> f32 {
        // SAFETY: see above.
        unsafe { vaddvq_f32(v) }
    }
}
