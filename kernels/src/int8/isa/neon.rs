//! NEON: a block's 16 sums are four registers. With the dot product (from Armv8.4 on, and on many CPUs before) one
//! instruction does 16 products.
//!
//! Both multiply numbers with a sign, so bytes are taken as x − 128, and the sums begin with 128 · Σ w.

#![allow(clippy::needless_range_loop)] // plain loops of constant length: their arrays live in registers

use super::super::BLOCK;
use super::super::table::Rescale;
use super::{Bytes, Walk};
use core::arch::aarch64::*;

/// Proof that the CPU has NEON, and the dot product where `DOT`.
#[derive(Clone, Copy)]
pub(in super::super) struct Neon<const DOT: bool>(());

impl<const DOT: bool> Neon<DOT> {
    /// # Safety
    /// The CPU must have NEON, and the dot product where `DOT`.
    #[inline(always)]
    pub(in super::super) unsafe fn new() -> Self {
        Neon(())
    }
}

/// Four channels in each.
type Quads = [int32x4_t; 4];

/// The formula's numbers, in all lanes but the multipliers.
#[derive(Clone, Copy)]
pub(in super::super) struct Scale {
    multipliers: Quads,
    /// Negative: to the right.
    shift: int64x2_t,
    residual: int32x4_t,
    residual_zero: int32x4_t,
    zero: int16x8_t,
    low: uint8x16_t,
}

// SAFETY (every block below): a value of `Neon` exists only where the CPU has the instructions (`Neon::new`); loads and
// stores are of arrays that are there, or hand that duty to the caller.
impl<const DOT: bool> Bytes for Neon<DOT> {
    type Sums = Quads;
    type Wide = [int16x8_t; 2];
    type Scale = Scale;
    const PIXELS: usize = if DOT { 4 } else { 2 };
    const BLOCKS: usize = 1;
    const SHIFTED: bool = true;

    #[inline(always)]
    fn start(self, bias: &[i32; BLOCK]) -> Quads {
        let b = bias.as_ptr();
        // SAFETY: see above.
        unsafe { [vld1q_s32(b), vld1q_s32(b.add(4)), vld1q_s32(b.add(8)), vld1q_s32(b.add(12))] }
    }
    #[inline(always)]
    fn wide(self, x: &[u8; BLOCK]) -> [int16x8_t; 2] {
        // SAFETY: see above.
        unsafe {
            let x = vld1q_u8(x.as_ptr());
            [vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(x))), vreinterpretq_s16_u16(vmovl_high_u8(x))]
        }
    }
    #[inline(always)]
    fn wide_weights(self, w: &[i8; BLOCK]) -> [int16x8_t; 2] {
        // SAFETY: see above.
        unsafe {
            let w = vld1q_s8(w.as_ptr());
            [vmovl_s8(vget_low_s8(w)), vmovl_high_s8(w)]
        }
    }
    #[inline(always)]
    fn multiply_add(self, sums: Quads, x: [int16x8_t; 2], w: [int16x8_t; 2]) -> Quads {
        // SAFETY: see above.
        unsafe {
            [
                vmlal_s16(sums[0], vget_low_s16(x[0]), vget_low_s16(w[0])),
                vmlal_high_s16(sums[1], x[0], w[0]),
                vmlal_s16(sums[2], vget_low_s16(x[1]), vget_low_s16(w[1])),
                vmlal_high_s16(sums[3], x[1], w[1]),
            ]
        }
    }
    #[inline(always)]
    fn scale(self, rescale: &Rescale, multipliers: &[i32; BLOCK]) -> Scale {
        // SAFETY: see above.
        unsafe {
            Scale {
                multipliers: self.start(multipliers),
                shift: vdupq_n_s64(-i64::from(rescale.shift)),
                residual: vdupq_n_s32(rescale.residual),
                residual_zero: vdupq_n_s32(i32::from(rescale.residual_zero)),
                zero: vdupq_n_s16(i16::from(rescale.zero)),
                low: vdupq_n_u8(rescale.low),
            }
        }
    }
    #[inline(always)]
    fn bytes(self, sums: Quads, s: &Scale, residual: Option<&[u8; BLOCK]>) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        // SAFETY: see above.
        unsafe {
            // What 16 bits can't hold is far outside of the bounds, with or without the zero point.
            let mut halves = [vdupq_n_s16(0); 2];
            for (i, half) in halves.iter_mut().enumerate() {
                let (mut first, mut second) = (None, None);
                if let Some(r) = residual {
                    let r = self.wide(r)[i];
                    first = Some(vsubq_s32(vmovl_s16(vget_low_s16(r)), s.residual_zero));
                    second = Some(vsubq_s32(vmovl_high_s16(r), s.residual_zero));
                }
                let first = four(sums[2 * i], s.multipliers[2 * i], first, s);
                let second = four(sums[2 * i + 1], s.multipliers[2 * i + 1], second, s);
                *half = vqaddq_s16(vcombine_s16(first, second), s.zero);
            }
            let all = vcombine_u8(vqmovun_s16(halves[0]), vqmovun_s16(halves[1]));
            vst1q_u8(bytes.as_mut_ptr(), vmaxq_u8(all, s.low));
        }
        bytes
    }
    #[inline(always)]
    unsafe fn tile<const P: usize, const B: usize>(
        self,
        x: [*const u8; P],
        walk: &Walk,
        mut w: [*const i8; B],
        start: [Quads; B],
    ) -> [[Quads; B]; P] {
        let mut sums = [start; P];
        for b in 0..B {
            // SAFETY: the caller's duty.
            unsafe {
                if DOT {
                    by_dots(&x, walk, &mut w[b], &mut sums, b);
                } else {
                    by_pairs(&x, walk, &mut w[b], &mut sums, b);
                }
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn shifted(self, w: *const i8, fours: usize) -> [i32; BLOCK] {
        let mut shifted = [0; BLOCK];
        // SAFETY: the caller's duty.
        unsafe {
            let mut sums = [vdupq_n_s32(0); 4];
            for i in 0..fours {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = vpadalq_s16(*sum, vpaddlq_s8(vld1q_s8(w.add(64 * i + 16 * v))));
                }
            }
            for (v, sum) in sums.iter().enumerate() {
                vst1q_s32(shifted.as_mut_ptr().add(4 * v), vshlq_n_s32::<7>(*sum));
            }
        }
        shifted
    }
}

/// What the formula makes of 4 sums, without the zero point, as far as 16 bits hold it.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
unsafe fn four(sums: int32x4_t, m: int32x4_t, residual: Option<int32x4_t>, s: &Scale) -> int16x4_t {
    // SAFETY: the caller's duty.
    unsafe {
        let (mut low, mut high) = (vmull_s32(vget_low_s32(sums), vget_low_s32(m)), vmull_high_s32(sums, m));
        if let Some(r) = residual {
            low = vmlal_s32(low, vget_low_s32(r), vget_low_s32(s.residual));
            high = vmlal_high_s32(high, r, s.residual);
        }
        // This shift adds half of what one is worth after it.
        let (low, high) = (vrshlq_s64(low, s.shift), vrshlq_s64(high, s.shift));
        vqmovn_s32(vcombine_s32(vqmovn_s64(low), vqmovn_s64(high)))
    }
}

/// 4 bytes, less 128 each, four times.
///
/// # Safety
/// `x` must be readable for 4 bytes.
#[inline(always)]
unsafe fn spread(x: *const u8) -> int8x16_t {
    // SAFETY: the caller's duty.
    unsafe {
        let x = vreinterpretq_s8_s32(vdupq_n_s32(x.cast::<i32>().read_unaligned()));
        veorq_s8(x, vdupq_n_s8(i8::MIN))
    }
}

/// By the dot product: 16 bytes of a pixel are loaded at once where a run has them.
///
/// # Safety
/// As [`Bytes::tile`]; and the CPU must have the dot product.
#[inline(always)]
unsafe fn by_dots<const P: usize, const B: usize>(
    x: &[*const u8; P],
    walk: &Walk,
    w: &mut *const i8,
    sums: &mut [[Quads; B]; P],
    b: usize,
) {
    // SAFETY: the caller's duty: every place is one that `walk` names, with its weights.
    unsafe {
        let mut few: [Quads; P] = [sums[0][b]; P];
        for line in 0..walk.lines {
            for column in 0..walk.columns {
                let mut at = line * walk.line + column * walk.column;
                let end = at + 4 * walk.fours;
                while end - at >= 16 {
                    let mut four = [vdupq_n_s8(0); P];
                    for p in 0..P {
                        four[p] = veorq_s8(vld1q_s8(x[p].add(at).cast()), vdupq_n_s8(i8::MIN));
                    }
                    dots::<P, 0>(&mut few, w, &four);
                    dots::<P, 1>(&mut few, w, &four);
                    dots::<P, 2>(&mut few, w, &four);
                    dots::<P, 3>(&mut few, w, &four);
                    at += 16;
                }
                while at < end {
                    let mut one = [vdupq_n_s8(0); P];
                    for p in 0..P {
                        one[p] = spread(x[p].add(at));
                    }
                    dots::<P, 0>(&mut few, w, &one);
                    at += 4;
                }
            }
        }
        for p in 0..P {
            sums[p][b] = few[p];
        }
    }
}

/// The products of the next 64 weights with the bytes `4 · LANE` to `4 · LANE + 3` of each pixel.
///
/// # Safety
/// The weights must be there; and the CPU must have the dot product.
#[inline(always)]
unsafe fn dots<const P: usize, const LANE: i32>(sums: &mut [Quads; P], w: &mut *const i8, x: &[int8x16_t; P]) {
    // SAFETY: the caller's duty.
    unsafe {
        for v in 0..4 {
            let weights = vld1q_s8(w.add(16 * v));
            for p in 0..P {
                sums[p][v] = dot::<LANE>(sums[p][v], weights, x[p]);
            }
        }
        *w = w.add(64);
    }
}

/// `sums + Σ x · w`, each lane over 4 weights and the 4 bytes of one lane of x.
///
/// # Safety
/// The CPU must have the dot product.
#[inline(always)]
unsafe fn dot<const LANE: i32>(mut sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the caller's duty; only registers are touched. The intrinsic is not stable.
    unsafe {
        core::arch::asm!(
            "sdot {sums:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
            sums = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Without the dot product: products of 16 bits, which are added pairwise to sums of 32 bits. Two of these make a channel.
///
/// # Safety
/// As [`Bytes::tile`].
#[inline(always)]
unsafe fn by_pairs<const P: usize, const B: usize>(
    x: &[*const u8; P],
    walk: &Walk,
    w: &mut *const i8,
    sums: &mut [[Quads; B]; P],
    b: usize,
) {
    // SAFETY: the caller's duty: every place is one that `walk` names, with its weights.
    unsafe {
        let mut pairs = [[[vdupq_n_s32(0); 2]; 4]; P];
        for line in 0..walk.lines {
            for column in 0..walk.columns {
                let first = line * walk.line + column * walk.column;
                for at in (first..first + 4 * walk.fours).step_by(4) {
                    let mut four = [vdupq_n_s8(0); P];
                    for p in 0..P {
                        four[p] = spread(x[p].add(at));
                    }
                    for v in 0..4 {
                        let weights = vld1q_s8(w.add(16 * v));
                        for p in 0..P {
                            let low = vmull_s8(vget_low_s8(weights), vget_low_s8(four[p]));
                            pairs[p][v][0] = vpadalq_s16(pairs[p][v][0], low);
                            pairs[p][v][1] = vpadalq_s16(pairs[p][v][1], vmull_high_s8(weights, four[p]));
                        }
                    }
                    *w = w.add(64);
                }
            }
        }
        for p in 0..P {
            for v in 0..4 {
                sums[p][b][v] = vaddq_s32(sums[p][b][v], vpaddq_s32(pairs[p][v][0], pairs[p][v][1]));
            }
        }
    }
}
