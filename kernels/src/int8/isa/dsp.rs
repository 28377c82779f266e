//! Cortex-M4, M7, M33 and others with the DSP instructions: two 16-bit products and their sum in one instruction.
//!
//! A word holds 4 bytes: the bytes 0 and 2, and 1 and 3, become the halves of two words. That is done once for the bytes of
//! four pixels, [`DEPTH`] words of each at a time. Then all output channels pass by them: for 4 weights there are 5 loads,
//! 2 times two weights made wide, and 8 instructions for 16 products.

#![allow(clippy::needless_range_loop)] // plain loops of constant length: their arrays live in registers

use super::super::BLOCK;
use super::super::table::Rescale;
use super::scalar::Scalar;
use super::{Bytes, Walk};
use core::arch::asm;
use core::mem::MaybeUninit;

/// Pixels of a tile.
const PIXELS: usize = 4;
/// Words of a pixel that are made wide at a time: those of a 3x3 filter of 16 channels. On the stack they take 1.2 kB.
const DEPTH: usize = 36;
/// The bytes of the tile's pixels as pairs of 16 bits: of the first word of each pixel, then of the second, ….
type Pairs = [[[MaybeUninit<u32>; 2]; PIXELS]; DEPTH];

/// Exists where the build is for a CPU with the DSP instructions.
#[derive(Clone, Copy)]
pub(in super::super) struct Dsp;

impl Bytes for Dsp {
    type Sums = [i32; BLOCK];
    type Wide = [i16; BLOCK];
    type Scale = (Rescale, [i32; BLOCK]);
    const PIXELS: usize = PIXELS;
    const BLOCKS: usize = 1;
    const FEW: bool = true;

    #[inline(always)]
    fn start(self, bias: &[i32; BLOCK]) -> [i32; BLOCK] {
        Scalar.start(bias)
    }
    #[inline(always)]
    fn wide(self, x: &[u8; BLOCK]) -> [i16; BLOCK] {
        Scalar.wide(x)
    }
    #[inline(always)]
    fn wide_weights(self, w: &[i8; BLOCK]) -> [i16; BLOCK] {
        Scalar.wide_weights(w)
    }
    #[inline(always)]
    fn multiply_add(self, sums: [i32; BLOCK], x: [i16; BLOCK], w: [i16; BLOCK]) -> [i32; BLOCK] {
        Scalar.multiply_add(sums, x, w)
    }
    #[inline(always)]
    fn scale(self, rescale: &Rescale, multipliers: &[i32; BLOCK]) -> (Rescale, [i32; BLOCK]) {
        Scalar.scale(rescale, multipliers)
    }
    #[inline(always)]
    fn bytes(self, sums: [i32; BLOCK], scale: &(Rescale, [i32; BLOCK]), residual: Option<&[u8; BLOCK]>) -> [u8; BLOCK] {
        Scalar.bytes(sums, scale, residual)
    }
    #[inline(always)]
    unsafe fn tile<const P: usize, const B: usize>(
        self,
        x: [*const u8; P],
        walk: &Walk,
        w: [*const i8; B],
        start: [[i32; BLOCK]; B],
    ) -> [[[i32; BLOCK]; B]; P] {
        // A block at a time, and no more pixels; where there are fewer, the last one stands for the others.
        let mut sums = [start[0]; PIXELS];
        let x: [*const u8; PIXELS] = core::array::from_fn(|p| x[p.min(P - 1)]);
        // SAFETY: the caller's duty.
        unsafe { block(&x, walk, w[0], &mut sums) };
        core::array::from_fn(|p| [sums[p]; B])
    }
}

/// A block's sums for four pixels.
///
/// # Safety
/// As [`Bytes::tile`].
#[inline(always)]
unsafe fn block(x: &[*const u8; PIXELS], walk: &Walk, mut w: *const i8, sums: &mut [[i32; BLOCK]; PIXELS]) {
    let mut pairs: Pairs = [[[MaybeUninit::uninit(); 2]; PIXELS]; DEPTH];
    let mut there = 0;
    for line in 0..walk.lines {
        for column in 0..walk.columns {
            let (mut at, mut left) = (line * walk.line + column * walk.column, walk.fours);
            while left > 0 {
                let count = left.min(DEPTH - there);
                for (i, pairs) in pairs[there..there + count].iter_mut().enumerate() {
                    for p in 0..PIXELS {
                        // SAFETY: the caller's duty; words may lie anywhere.
                        let word = unsafe { x[p].wrapping_add(at + 4 * i).cast::<u32>().read_unaligned() };
                        pairs[p] = [bytes_02(word), bytes_13(word)].map(MaybeUninit::new);
                    }
                }
                (there, at, left) = (there + count, at + 4 * count, left - count);
                if there == DEPTH {
                    // SAFETY: all pairs were written; that so many groups of 64 weights are there is the caller's duty.
                    unsafe { channels(&pairs, there, w, sums) };
                    w = w.wrapping_add(there * 4 * BLOCK);
                    there = 0;
                }
            }
        }
    }
    if there > 0 {
        // SAFETY: as above; so many pairs were written.
        unsafe { channels(&pairs, there, w, sums) };
    }
}

/// What four pixels make of 4 weights, as instructions: with all of them in one piece no sum and no place leaves its
/// register. `four!` repeats it.
macro_rules! four {
    () => {
        concat!(
            "ldr {a}, [{w}], #64\n",
            "ldrd {c}, {d}, [{x}, #8]\n",
            "sxtb16 {b}, {a}\n",
            "sxtb16 {a}, {a}, ror #8\n",
            "smlad {s1}, {c}, {b}, {s1}\n",
            "smlad {s1}, {d}, {a}, {s1}\n",
            "ldrd {c}, {d}, [{x}, #16]\n",
            "smlad {s2}, {c}, {b}, {s2}\n",
            "smlad {s2}, {d}, {a}, {s2}\n",
            "ldrd {c}, {d}, [{x}, #24]\n",
            "smlad {s3}, {c}, {b}, {s3}\n",
            "smlad {s3}, {d}, {a}, {s3}\n",
            "ldrd {c}, {d}, [{x}], #32\n",
            "smlad {s0}, {c}, {b}, {s0}\n",
            "smlad {s0}, {d}, {a}, {s0}\n",
        )
    };
}

/// Adds `count` words of each pixel, times their weights, to the sums of all output channels.
///
/// # Safety
/// The first `count` pairs of each pixel must be written, and from `w` on there must be as many groups of 64 weights;
/// `count` must be 1 to [`DEPTH`].
#[inline(never)]
unsafe fn channels(pairs: &Pairs, count: usize, w: *const i8, sums: &mut [[i32; BLOCK]; PIXELS]) {
    for channel in 0..BLOCK {
        let [mut s0, mut s1, mut s2, mut s3] = [0, 1, 2, 3].map(|p| sums[p][channel]);
        // SAFETY: so many pairs are written, and of each group of 64 weights the 4 of this channel: the caller's duty. A sum
        // that wraps sets a flag, so flags are not preserved.
        unsafe {
            asm!(
                "lsrs {n}, {n}, #1",
                "bcc 2f",
                four!(),
                "beq 3f",
                "2:",
                four!(), four!(),
                "subs {n}, {n}, #1",
                "bne 2b",
                "3:",
                x = inout(reg) pairs.as_ptr() => _, w = inout(reg) w.wrapping_add(4 * channel) => _,
                n = inout(reg) count => _,
                s0 = inout(reg) s0, s1 = inout(reg) s1, s2 = inout(reg) s2, s3 = inout(reg) s3,
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                options(pure, readonly, nostack)
            );
        }
        for (sums, sum) in sums.iter_mut().zip([s0, s1, s2, s3]) {
            sums[channel] = sum;
        }
    }
}

macro_rules! wide {
    ($name:ident, $instruction:literal, $what:literal) => {
        #[doc = $what]
        #[inline(always)]
        fn $name(word: u32) -> u32 {
            let wide;
            // SAFETY: only registers are touched; the build is for a CPU that has the instruction.
            unsafe { asm!($instruction, out(reg) wide, in(reg) word, options(pure, nomem, nostack, preserves_flags)) };
            wide
        }
    };
}

wide!(bytes_02, "uxtb16 {}, {}", "The bytes 0 and 2 as halves of a word.");
wide!(bytes_13, "uxtb16 {}, {}, ror #8", "The bytes 1 and 3 as halves of a word.");
