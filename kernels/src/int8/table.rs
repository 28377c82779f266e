//! What becomes of the sums: the table's words, and the formula for one number.

use super::{BLOCK, Conv2d};

/// The words of a table, and how they are used.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    words: &'a [i32],
    pub(super) rescale: Rescale,
    /// Output channels.
    k: usize,
}

impl<'a> Table<'a> {
    pub(super) fn new(conv: &Conv2d, words: &'a [i32]) -> Table<'a> {
        Table { words, rescale: Rescale::new(conv, words[0], words[1]), k: conv.geometry().k() }
    }

    /// The biases of a block of output channels.
    #[inline(always)]
    pub(super) fn bias(&self, block: usize) -> &'a [i32; BLOCK] {
        self.block(block, 0)
    }

    /// The multipliers of a block of output channels.
    #[inline(always)]
    pub(super) fn multipliers(&self, block: usize) -> &'a [i32; BLOCK] {
        self.block(block, BLOCK)
    }

    #[inline(always)]
    fn block(&self, block: usize, at: usize) -> &'a [i32; BLOCK] {
        match self.words[BLOCK + 2 * BLOCK * block + at..].first_chunk() {
            Some(words) => words,
            None => panic!("block {block} of a table of {} words", self.words.len()),
        }
    }

    /// Writes a block's bytes at the beginning of `y`: all, or in the last block those that a pixel has. Beyond the
    /// channels it is the zero point.
    #[inline(always)]
    pub(super) fn store(&self, block: usize, mut bytes: [u8; BLOCK], y: &mut [u8]) {
        let left = self.k - block * BLOCK;
        if left >= BLOCK {
            y[..BLOCK].copy_from_slice(&bytes);
            return;
        }
        bytes[left..].fill(self.rescale.zero);
        let width = y.len().min(BLOCK);
        y[..width].copy_from_slice(&bytes[..width]);
    }
}

/// The formula of [`crate::int8`], without bias and multiplier.
#[derive(Clone, Copy)]
pub(super) struct Rescale {
    /// 1 to 56.
    pub(super) shift: u32,
    /// 2^(shift − 1).
    pub(super) half: i64,
    /// The output's zero point.
    pub(super) zero: u8,
    /// The least byte.
    pub(super) low: u8,
    /// The residual's multiplier and zero point.
    pub(super) residual: i32,
    pub(super) residual_zero: u8,
}

impl Rescale {
    fn new(conv: &Conv2d, shift: i32, residual: i32) -> Rescale {
        let shift = shift.clamp(1, 56) as u32;
        let (zero, residual_zero) = (conv.y_zero(), conv.residual().unwrap_or(0));
        let low = if conv.relu() { zero } else { 0 };
        Rescale { shift, half: 1 << (shift - 1), zero, low, residual, residual_zero }
    }

    /// The byte of one sum.
    ///
    /// No intermediate result leaves 64 bits: the product is at most 2^62, the residual's below 2^39, `half` at most 2^55.
    #[inline(always)]
    pub(super) fn byte(&self, acc: i32, multiplier: i32, r: Option<u8>) -> u8 {
        let mut y = i64::from(acc) * i64::from(multiplier) + self.half;
        if let Some(r) = r {
            y += (i64::from(r) - i64::from(self.residual_zero)) * i64::from(self.residual);
        }
        if self.shift >= 32 {
            // The usual case, for CPUs whose numbers have 32 bits: nothing of the lower half is left.
            let y = ((y >> 32) as i32 >> (self.shift - 32)) + i32::from(self.zero);
            return y.clamp(i32::from(self.low), 255) as u8;
        }
        ((y >> self.shift) + i64::from(self.zero)).clamp(i64::from(self.low), 255) as u8
    }

    /// The bytes of 16 sums.
    #[cfg(not(any(target_arch = "arm", target_arch = "riscv32")))]
    #[inline(always)]
    pub(super) fn bytes(&self, sums: &[i32; BLOCK], multipliers: &[i32; BLOCK], residual: Option<&[u8; BLOCK]>) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = self.byte(sums[i], multipliers[i], residual.map(|r| r[i]));
        }
        bytes
    }

    /// The same, compiled once and not unrolled: for boards, where flash and registers are few.
    #[cfg(any(feature = "scalar", target_arch = "arm", target_arch = "riscv32"))]
    #[inline(never)]
    pub(super) fn bytes_by_loop(&self, sums: &[i32; BLOCK], multipliers: &[i32; BLOCK], residual: Option<&[u8; BLOCK]>) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        let Rescale { shift, half, zero, low, residual: factor, residual_zero } = *self;
        let within = |y: i32| y.clamp(0, 255).max(i32::from(low)) as u8;
        let all = bytes.iter_mut().zip(sums.iter().zip(multipliers));
        match residual {
            // The usual cases. In the first two nothing of the lower half of y is left, and in the first `half` does not touch it.
            // In the third, an upper half that is far from 0 is as good as one that is less far.
            None if shift > 32 => {
                for (byte, (sum, multiplier)) in all {
                    let y = ((i64::from(*sum) * i64::from(*multiplier)) >> 32) as i32 + (half >> 32) as i32;
                    *byte = within((y >> (shift - 32)) + i32::from(zero));
                }
            }
            Some(residual) if shift >= 32 => {
                for ((byte, (sum, multiplier)), r) in all.zip(residual) {
                    let y = i64::from(*sum) * i64::from(*multiplier) + half;
                    let y = y + i64::from(i32::from(*r) - i32::from(residual_zero)) * i64::from(factor);
                    *byte = within(((y >> 32) as i32 >> (shift - 32)) + i32::from(zero));
                }
            }
            Some(residual) if shift >= 24 => {
                for ((byte, (sum, multiplier)), r) in all.zip(residual) {
                    let y = i64::from(*sum) * i64::from(*multiplier) + half;
                    let y = y + i64::from(i32::from(*r) - i32::from(residual_zero)) * i64::from(factor);
                    let upper = ((y >> 32) as i32).clamp(-512, 511) << (32 - shift);
                    *byte = within((upper | (y as u32 >> shift) as i32) + i32::from(zero));
                }
            }
            _ => {
                for (i, (byte, (sum, multiplier))) in all.enumerate() {
                    *byte = self.byte(*sum, *multiplier, residual.map(|r| r[i]));
                }
            }
        }
        bytes
    }
}

/// The 16 bytes of a residual at `at`, or as many as are left, with anything behind them.
#[inline(always)]
pub(super) fn residual_bytes(residual: &[u8], at: usize) -> [u8; BLOCK] {
    let from = &residual[at..];
    match from.first_chunk() {
        Some(bytes) => *bytes,
        None => {
            let mut bytes = [0; BLOCK];
            bytes[..from.len()].copy_from_slice(from);
            bytes
        }
    }
}
