//! One number at a time, for boards without SIMD, and for desktops that compute what a board will.

#![allow(clippy::needless_range_loop)] // plain loops of constant length: their arrays live in registers

use super::super::BLOCK;
use super::super::table::Rescale;
use super::{Bytes, Walk};

/// Exists on every CPU.
#[derive(Clone, Copy)]
pub(in super::super) struct Scalar;

/// Output channels whose sums are in registers together.
const TOGETHER: usize = 4;

impl Bytes for Scalar {
    type Sums = [i32; BLOCK];
    type Wide = [i16; BLOCK];
    type Scale = (Rescale, [i32; BLOCK]);
    const PIXELS: usize = 2;
    const BLOCKS: usize = 1;
    const FEW: bool = true;

    #[inline(always)]
    fn start(self, bias: &[i32; BLOCK]) -> [i32; BLOCK] {
        *bias
    }
    #[inline(always)]
    fn wide(self, x: &[u8; BLOCK]) -> [i16; BLOCK] {
        x.map(i16::from)
    }
    #[inline(always)]
    fn wide_weights(self, w: &[i8; BLOCK]) -> [i16; BLOCK] {
        w.map(i16::from)
    }
    #[inline(always)]
    fn multiply_add(self, mut sums: [i32; BLOCK], x: [i16; BLOCK], w: [i16; BLOCK]) -> [i32; BLOCK] {
        for (sum, (x, w)) in sums.iter_mut().zip(x.iter().zip(&w)) {
            *sum = sum.wrapping_add(i32::from(*x) * i32::from(*w));
        }
        sums
    }
    #[inline(always)]
    fn scale(self, rescale: &Rescale, multipliers: &[i32; BLOCK]) -> (Rescale, [i32; BLOCK]) {
        (*rescale, *multipliers)
    }
    #[inline(always)]
    fn bytes(self, sums: [i32; BLOCK], (rescale, multipliers): &(Rescale, [i32; BLOCK]), residual: Option<&[u8; BLOCK]>) -> [u8; BLOCK] {
        rescale.bytes_by_loop(&sums, multipliers, residual)
    }
    #[inline(always)]
    unsafe fn tile<const P: usize, const B: usize>(
        self,
        x: [*const u8; P],
        walk: &Walk,
        w: [*const i8; B],
        start: [[i32; BLOCK]; B],
    ) -> [[[i32; BLOCK]; B]; P] {
        let mut sums = [start; P];
        for b in 0..B {
            for channel in (0..BLOCK).step_by(TOGETHER) {
                let mut few: [[i32; TOGETHER]; P] = core::array::from_fn(|p| core::array::from_fn(|i| sums[p][b][channel + i]));
                // SAFETY: the caller's duty: of each group of 64 weights the 16 of these channels.
                unsafe { few_channels(&x, walk, w[b].add(4 * channel), &mut few) };
                for (p, few) in few.iter().enumerate() {
                    sums[p][b][channel..channel + TOGETHER].copy_from_slice(few);
                }
            }
        }
        sums
    }
}

/// Some output channels of `P` pixels.
///
/// # Safety
/// As [`Bytes::tile`]; of each 64 weights the first 16 are read.
#[inline(always)]
unsafe fn few_channels<const P: usize>(x: &[*const u8; P], walk: &Walk, mut w: *const i8, sums: &mut [[i32; TOGETHER]; P]) {
    for line in 0..walk.lines {
        for column in 0..walk.columns {
            let first = line * walk.line + column * walk.column;
            for at in (first..first + 4 * walk.fours).step_by(4) {
                for c in 0..4 {
                    // SAFETY: the caller's duty.
                    let x: [i32; P] = core::array::from_fn(|p| i32::from(unsafe { *x[p].add(at + c) }));
                    for i in 0..TOGETHER {
                        // SAFETY: as above.
                        let w = i32::from(unsafe { *w.add(4 * i + c) });
                        for p in 0..P {
                            sums[p][i] = sums[p][i].wrapping_add(x[p] * w);
                        }
                    }
                }
                w = w.wrapping_add(4 * BLOCK);
            }
        }
    }
}
