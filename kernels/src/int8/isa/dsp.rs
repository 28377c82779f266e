//! Cortex-M4, M7, M33 and others with the DSP instructions: two 16-bit products and their sum in one instruction.
//!
//! A word holds 4 bytes: the bytes 0 and 2, and 1 and 3, become the halves of two words. Two pixels and two output channels
//! make the tile: 4 loads, 8 times two bytes made wide, and 8 instructions for 16 products.

#![allow(clippy::needless_range_loop)] // plain loops of constant length: their arrays live in registers

use super::super::BLOCK;
use super::super::table::Rescale;
use super::scalar::Scalar;
use super::{Bytes, Walk};
use core::arch::asm;

/// Exists where the build is for a CPU with the DSP instructions.
#[derive(Clone, Copy)]
pub(in super::super) struct Dsp;

impl Bytes for Dsp {
    type Sums = [i32; BLOCK];
    type Wide = [i16; BLOCK];
    type Scale = (Rescale, [i32; BLOCK]);
    const PIXELS: usize = 2;
    const BLOCKS: usize = 1;

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
        let mut sums = [start; P];
        for b in 0..B {
            for channel in (0..BLOCK).step_by(2) {
                let mut two: [[i32; 2]; P] = core::array::from_fn(|p| [sums[p][b][channel], sums[p][b][channel + 1]]);
                // SAFETY: the caller's duty: of each group of 64 weights the 8 of these channels.
                unsafe { two_channels(x, walk, w[b].add(4 * channel), &mut two) };
                for p in 0..P {
                    sums[p][b][channel..channel + 2].copy_from_slice(&two[p]);
                }
            }
        }
        sums
    }
}

/// Two output channels of `P` pixels.
///
/// # Safety
/// As [`Bytes::tile`]; of each 64 weights the first 8 are read.
#[inline(always)]
unsafe fn two_channels<const P: usize>(x: [*const u8; P], walk: &Walk, mut w: *const i8, sums: &mut [[i32; 2]; P]) {
    for line in 0..walk.lines {
        for column in 0..walk.columns {
            let first = line * walk.line + column * walk.column;
            let mut x = x.map(|x| x.wrapping_add(first));
            // SAFETY: the caller's duty.
            unsafe {
                if P == 2 {
                    sixteens(walk.fours / 4, &mut x, &mut w, sums);
                } else {
                    for _ in 0..walk.fours / 4 * 4 {
                        four(&mut x, &mut w, sums);
                    }
                }
            }
            for _ in 0..walk.fours % 4 {
                // SAFETY: as above.
                unsafe { four(&mut x, &mut w, sums) };
            }
        }
    }
}

/// What two pixels and two output channels make of 4 bytes, as instructions: with all of them in one piece no sum and no
/// place leaves its register. `tile!` repeats it.
macro_rules! tile {
    () => {
        concat!(
            "ldr {a}, [{x0}], #4\n",
            "ldr {b}, [{x1}], #4\n",
            "ldr {c}, [{w}], #4\n",
            "uxtb16 {d}, {a}\n",
            "uxtb16 {a}, {a}, ror #8\n",
            "uxtb16 {e}, {b}\n",
            "uxtb16 {b}, {b}, ror #8\n",
            "sxtb16 {f}, {c}\n",
            "sxtb16 {c}, {c}, ror #8\n",
            "smlad {s00}, {d}, {f}, {s00}\n",
            "smlad {s10}, {e}, {f}, {s10}\n",
            "ldr {f}, [{w}], #60\n",
            "smlad {s00}, {a}, {c}, {s00}\n",
            "smlad {s10}, {b}, {c}, {s10}\n",
            "sxtb16 {c}, {f}\n",
            "sxtb16 {f}, {f}, ror #8\n",
            "smlad {s01}, {d}, {c}, {s01}\n",
            "smlad {s11}, {e}, {c}, {s11}\n",
            "smlad {s01}, {a}, {f}, {s01}\n",
            "smlad {s11}, {b}, {f}, {s11}\n",
        )
    };
}

/// `count` times 16 bytes of each of two pixels, with their weights; goes on to the next. There are registers for all but
/// the counter, which is on the stack.
///
/// # Safety
/// They must be there, and there must be two pixels.
#[inline(always)]
unsafe fn sixteens<const P: usize>(count: usize, x: &mut [*const u8; P], w: &mut *const i8, sums: &mut [[i32; 2]; P]) {
    if count == 0 {
        return;
    }
    let (mut x0, mut x1, mut at) = (x[0], x[P - 1], *w);
    let [mut s00, mut s01] = sums[0];
    let [mut s10, mut s11] = sums[P - 1];
    // SAFETY: the caller's duty; words may lie anywhere. A sum that wraps sets a flag, so flags are not preserved.
    unsafe {
        asm!(
            "push {{{a}}}",
            "2:",
            tile!(), tile!(), tile!(), tile!(),
            "ldr {a}, [sp]",
            "subs {a}, {a}, #1",
            "str {a}, [sp]",
            "bne 2b",
            "add sp, sp, #4",
            x0 = inout(reg) x0, x1 = inout(reg) x1, w = inout(reg) at,
            s00 = inout(reg) s00, s01 = inout(reg) s01, s10 = inout(reg) s10, s11 = inout(reg) s11,
            a = inout(reg) count => _, b = out(reg) _, c = out(reg) _, d = out(reg) _, e = out(reg) _, f = out(reg) _,
            options(pure, readonly)
        );
    }
    (x[0], x[P - 1], *w) = (x0, x1, at);
    (sums[0], sums[P - 1]) = ([s00, s01], [s10, s11]);
}

/// 4 bytes of each pixel, with their weights; goes on to the next.
///
/// # Safety
/// They must be there.
#[inline(always)]
unsafe fn four<const P: usize>(x: &mut [*const u8; P], w: &mut *const i8, sums: &mut [[i32; 2]; P]) {
    // SAFETY: the caller's duty; words may lie anywhere.
    unsafe {
        let weights = [w.cast::<u32>().read_unaligned(), w.cast::<u32>().add(1).read_unaligned()];
        *w = w.wrapping_add(4 * BLOCK);
        let mut words = [[0; 2]; P];
        for p in 0..P {
            let word = x[p].cast::<u32>().read_unaligned();
            x[p] = x[p].wrapping_add(4);
            words[p] = [bytes_02(word), bytes_13(word)];
        }
        for i in 0..2 {
            let (w02, w13) = (weights_02(weights[i]), weights_13(weights[i]));
            for p in 0..P {
                sums[p][i] = add_two(add_two(sums[p][i], words[p][0], w02), words[p][1], w13);
            }
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
wide!(weights_02, "sxtb16 {}, {}", "The weights 0 and 2 as halves of a word.");
wide!(weights_13, "sxtb16 {}, {}, ror #8", "The weights 1 and 3 as halves of a word.");

/// `sum + x0 · w0 + x1 · w1` over the halves of words; it wraps.
#[inline(always)]
fn add_two(sum: i32, x: u32, w: u32) -> i32 {
    let all;
    // SAFETY: only registers are touched, and the flag that says that a sum wrapped: so flags are not preserved.
    unsafe { asm!("smlad {}, {}, {}, {}", out(reg) all, in(reg) x, in(reg) w, in(reg) sum, options(pure, nomem, nostack)) };
    all
}
