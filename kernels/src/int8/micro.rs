//! The innermost loops of the 8-bit kernels: checks, then loads by pointer.

#![allow(clippy::needless_range_loop)] // plain loops of constant length: their arrays live in registers

use super::BLOCK;
use super::isa::{Bytes, Walk};
use crate::bounds::{checked_product, inside, product};

/// Bytes, and what each pixel reads of them. A value proves that the sizes fit.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    x: &'a [u8],
    walk: Walk,
    /// The last place where a pixel may begin.
    last: usize,
    /// Groups of 4 bytes that a pixel reads.
    fours: usize,
}

impl<'a> Source<'a> {
    /// # Panics
    /// If not even a pixel at the beginning finds all its bytes.
    pub(super) fn new(x: &'a [u8], walk: Walk) -> Source<'a> {
        let Walk { lines, line, columns, column, fours } = walk;
        assert!(lines > 0 && columns > 0 && fours > 0, "a filter without positions: {walk:?}");
        let last = |count: usize, apart: usize| (count - 1).checked_mul(apart);
        let reach = last(lines, line)
            .and_then(|reach| reach.checked_add(last(columns, column)?))
            .and_then(|reach| reach.checked_add(fours.checked_mul(4)?))
            .unwrap_or(usize::MAX);
        assert!(reach <= x.len(), "{walk:?} reads {reach} of {} bytes", x.len());
        Source { x, walk, last: x.len() - reach, fours: product(&[lines, columns, fours]) }
    }
}

/// The sums of `P` pixels that begin at `starts` and of `B` blocks, whose weights lie `block_len` apart from the beginning
/// of `w` on.
///
/// # Panics
/// If bytes or weights are missing.
#[inline(always)]
pub(super) fn tile<I: Bytes, const P: usize, const B: usize>(
    isa: I,
    source: &Source,
    starts: &[usize; P],
    w: &[i8],
    block_len: usize,
    start: [I::Sums; B],
) -> [[I::Sums; B]; P] {
    let mut x = [source.x.as_ptr(); P];
    for p in 0..P {
        assert!(starts[p] <= source.last, "a pixel at {} of {}", starts[p], source.last);
        x[p] = x[p].wrapping_add(starts[p]);
    }
    check_weights(source.fours, w, block_len, B);
    let mut blocks = [w.as_ptr(); B];
    for b in 0..B {
        blocks[b] = blocks[b].wrapping_add(b * block_len);
    }
    // SAFETY: each pixel begins where all its bytes are there (`Source::new`, and the comparison above), and the weights of
    // each block were checked.
    unsafe { isa.tile(x, &source.walk, blocks, start) }
}

/// What the sums of a block begin with besides the bias: see [`Bytes::SHIFTED`].
///
/// # Panics
/// If weights are missing.
#[inline(always)]
pub(super) fn shifted<I: Bytes>(isa: I, fours: usize, w: &[i8]) -> [i32; BLOCK] {
    check_weights(fours, w, 0, 1);
    // SAFETY: so many weights are there.
    unsafe { isa.shifted(w.as_ptr(), fours) }
}

#[inline(always)]
fn check_weights(fours: usize, w: &[i8], block_len: usize, blocks: usize) {
    let numbers = checked_product(&[fours, 4 * BLOCK]);
    assert!(
        numbers.is_some_and(|numbers| inside(w.len(), blocks, block_len, numbers)),
        "weights of {blocks} blocks: {} are there",
        w.len()
    );
}

/// Some output pixels side by side of a depthwise convolution, and where their taps lie. All of these are there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strip {
    /// Where the first tap of the first pixel reads.
    pub(super) at: usize,
    /// Lines and columns of taps, and how far apart they read.
    pub(super) lines: usize,
    pub(super) line: usize,
    pub(super) columns: usize,
    pub(super) column: usize,
    /// How far apart the pixels read.
    pub(super) pixel: usize,
    /// The number of the first tap, and those from line to line.
    pub(super) tap: usize,
    pub(super) tap_line: usize,
}

/// `sums[p] + Σ over the strip's taps: x · w` of 16 channels, `w` being `[taps][16]`. Beyond the slice's end x is 0: that
/// is beyond the channels of its last pixel.
///
/// # Panics
/// If the first byte of a tap, or a tap's weights, are not there.
#[inline(always)]
pub(super) fn strip<I: Bytes, const P: usize>(isa: I, s: &Strip, x: &[u8], w: &[i8], mut sums: [I::Sums; P]) -> [I::Sums; P] {
    if s.lines == 0 || s.columns == 0 {
        return sums;
    }
    let (w, _) = w.as_chunks::<BLOCK>();
    let across = |parts: &[(usize, usize)]| {
        parts.iter().try_fold(s.at, |sum, (count, apart)| sum.checked_add((count - 1).checked_mul(*apart)?)).unwrap_or(usize::MAX)
    };
    let last = across(&[(s.lines, s.line), (s.columns, s.column), (P, s.pixel)]);
    assert!(last < x.len(), "{s:?} reads byte {last} of {}", x.len());
    if x.len() - last < BLOCK {
        return near_the_end(isa, s, x, w, sums);
    }
    let load = |at: usize| {
        debug_assert!(at <= last);
        // SAFETY: `at` is a place of the strip, so at most `last`, and 16 bytes are there from `last` on.
        unsafe { &*x.as_ptr().add(at).cast::<[u8; BLOCK]>() }
    };
    let shared = P > 2 && P <= 8 && s.columns == 3 && s.pixel == s.column;
    for i in 0..s.lines {
        let first = s.at + i * s.line;
        let w = &w[s.tap + i * s.tap_line..][..s.columns];
        if shared {
            // Neighbours read the same bytes: each is made wide once.
            let mut bytes = [isa.wide(load(first)); 10];
            for p in 1..P + 2 {
                bytes[p] = isa.wide(load(first + p * s.column));
            }
            for j in 0..3 {
                let weights = isa.wide_weights(&w[j]);
                for p in 0..P {
                    sums[p] = isa.multiply_add(sums[p], bytes[p + j], weights);
                }
            }
            continue;
        }
        for j in 0..s.columns {
            let weights = isa.wide_weights(&w[j]);
            for p in 0..P {
                sums[p] = isa.multiply_add(sums[p], isa.wide(load(first + j * s.column + p * s.pixel)), weights);
            }
        }
    }
    sums
}

/// The same where the slice ends before the last pixel's 16 channels.
#[inline(always)]
fn near_the_end<I: Bytes, const P: usize>(isa: I, s: &Strip, x: &[u8], w: &[[i8; BLOCK]], mut sums: [I::Sums; P]) -> [I::Sums; P] {
    for i in 0..s.lines {
        for j in 0..s.columns {
            let weights = isa.wide_weights(&w[s.tap + i * s.tap_line + j]);
            for p in 0..P {
                let at = s.at + i * s.line + j * s.column + p * s.pixel;
                let mut bytes = [0; BLOCK];
                let there = &x[at..x.len().min(at + BLOCK)];
                bytes[..there.len()].copy_from_slice(there);
                sums[p] = isa.multiply_add(sums[p], isa.wide(&bytes), weights);
            }
        }
    }
    sums
}
