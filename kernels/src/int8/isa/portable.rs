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
    type Wide = [i32x4; 4];
    type Scale = (Rescale, [i32; BLOCK]);
    const PIXELS: usize = 2;
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn start(self, bias: &[i32; BLOCK]) -> [i32x4; 4] {
        bytemuck::cast(*bias)
    }
    #[inline(always)]
    fn wide(self, x: &[u8; BLOCK]) -> [i32x4; 4] {
        let mut wide = [0; BLOCK];
        for (wide, x) in wide.iter_mut().zip(x) {
            *wide = i32::from(*x);
        }
        bytemuck::cast(wide)
    }
    #[inline(always)]
    fn wide_weights(self, w: &[i8; BLOCK]) -> [i32x4; 4] {
        let mut wide = [0; BLOCK];
        for (wide, w) in wide.iter_mut().zip(w) {
            *wide = i32::from(*w);
        }
        bytemuck::cast(wide)
    }
    /// Pairs of 16-bit products, of which one is 0 since bytes are not negative: that half of x is 0.
    #[inline(always)]
    fn multiply_add(self, mut sums: [i32x4; 4], x: [i32x4; 4], w: [i32x4; 4]) -> [i32x4; 4] {
        for (sum, (x, w)) in sums.iter_mut().zip(x.into_iter().zip(w)) {
            *sum += bytemuck::cast::<_, i16x8>(x).dot(bytemuck::cast(w));
        }
        sums
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
        let all: i16x8 = bytemuck::cast(i32x4::splat(i32::from_ne_bytes(unsafe { x.cast::<[u8; 4]>().read() })));
        let byte = i16x8::splat(0xff);
        Halves { even: all & byte, odd: (all >> 8_i32) & byte }
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
