//! The portable level: 128-bit vectors of `wide`.

use super::super::BLOCK;
use super::super::table::Rescale;
use super::{Bytes, Fours, Walk};
use wide::{i16x8, i32x4};

/// Exists on every CPU.
#[derive(Clone, Copy)]
pub(in super::super) struct Portable;

/// The bytes or weights 0 and 2, and 1 and 3, of each group of 4, as 16-bit numbers: their products are added pairwise.
#[derive(Clone, Copy)]
pub(in super::super) struct Halves {
    even: i16x8,
    odd: i16x8,
}

impl Bytes for Portable {
    type Sums = [i32x4; 4];
    type Wide = [i32; BLOCK];
    type Scale = (Rescale, [i32; BLOCK]);
    const PIXELS: usize = 2;
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn start(self, bias: &[i32; BLOCK]) -> [i32x4; 4] {
        bytemuck::cast(*bias)
    }
    #[inline(always)]
    fn wide(self, x: &[u8; BLOCK]) -> [i32; BLOCK] {
        x.map(i32::from)
    }
    #[inline(always)]
    fn wide_weights(self, w: &[i8; BLOCK]) -> [i32; BLOCK] {
        w.map(i32::from)
    }
    #[inline(always)]
    fn multiply_add(self, sums: [i32x4; 4], x: [i32; BLOCK], w: [i32; BLOCK]) -> [i32x4; 4] {
        let mut all: [i32; BLOCK] = bytemuck::cast(sums);
        for (sum, (x, w)) in all.iter_mut().zip(x.iter().zip(&w)) {
            *sum = sum.wrapping_add(x * w);
        }
        bytemuck::cast(all)
    }
    #[inline(always)]
    fn scale(self, rescale: &Rescale, multipliers: &[i32; BLOCK]) -> (Rescale, [i32; BLOCK]) {
        (*rescale, *multipliers)
    }
    #[inline(always)]
    fn bytes(self, sums: [i32x4; 4], (rescale, multipliers): &(Rescale, [i32; BLOCK]), residual: Option<&[u8; BLOCK]>) -> [u8; BLOCK] {
        rescale.bytes(&bytemuck::cast(sums), multipliers, residual)
    }
    #[inline(always)]
    unsafe fn tile<const P: usize, const B: usize>(
        self,
        x: [*const u8; P],
        walk: &Walk,
        w: [*const i8; B],
        start: [[i32x4; 4]; B],
    ) -> [[[i32x4; 4]; B]; P] {
        // SAFETY: the caller's duty.
        unsafe { super::tile(self, x, walk, w, start) }
    }
}

impl Fours for Portable {
    type Weights = [Halves; 4];
    type Four = Halves;

    #[inline(always)]
    unsafe fn weights(self, w: *const i8) -> [Halves; 4] {
        // SAFETY: the caller's duty: 64 weights are there.
        let w: [i16x8; 4] = bytemuck::cast(unsafe { w.cast::<[i8; 64]>().read() });
        w.map(|w| Halves { even: (w << 8_i32) >> 8_i32, odd: w >> 8_i32 })
    }
    #[inline(always)]
    unsafe fn four(self, x: *const u8) -> Halves {
        // SAFETY: the caller's duty: 4 bytes are there.
        let x: [u16; 2] = bytemuck::cast(unsafe { x.cast::<[u8; 4]>().read() });
        let spread = |[a, b]: [u16; 2]| i16x8::new([a, b, a, b, a, b, a, b].map(|x| x as i16));
        Halves { even: spread(x.map(|x| x & 0xff)), odd: spread(x.map(|x| x >> 8)) }
    }
    #[inline(always)]
    fn dot(self, sums: [i32x4; 4], x: Halves, w: [Halves; 4]) -> [i32x4; 4] {
        let mut sums = sums;
        for (sum, w) in sums.iter_mut().zip(w) {
            *sum = *sum + x.even.dot(w.even) + x.odd.dot(w.odd);
        }
        sums
    }
}
