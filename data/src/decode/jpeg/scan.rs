//! One scan: its blocks' coefficients, sequential or progressive.

use super::bits::{Bits, Table};

/// Where a coefficient of the zigzag order lies, row by row.
#[rustfmt::skip]
pub(super) const ZIGZAG: [u8; 64] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The place of coefficient `k`; damaged data may name one past the last.
fn place(k: usize) -> usize {
    usize::from(ZIGZAG[k.min(63)])
}

/// Which coefficients of a block a progressive scan brings, and which of their bits.
#[derive(Clone, Copy)]
pub(super) struct Band {
    /// First and last coefficient in zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// The bit that was sent before, 0 if none was.
    pub(super) before: u8,
    /// The bit that is sent now.
    pub(super) bit: u8,
}

/// What a scan remembers from block to block.
pub(super) struct State<'a> {
    pub(super) bits: Bits<'a>,
    /// The last DC value, by component of the scan.
    pub(super) dc: [i32; 4],
    /// Blocks that are known to have no more coefficients in this band.
    run: u32,
    /// The data had ended before this unit began: its blocks stay as they are. A unit in which it ends is read on, as
    /// zeros.
    ended: bool,
}

impl<'a> State<'a> {
    pub(super) fn new(bits: Bits<'a>) -> Self {
        State { bits, dc: [0; 4], run: 0, ended: false }
    }

    /// Before every unit.
    pub(super) fn begin_unit(&mut self) {
        self.ended = self.bits.short;
    }

    /// At a restart marker.
    pub(super) fn restart(&mut self, number: u8) {
        self.bits.restart(number);
        self.dc = [0; 4];
        self.run = 0;
    }

    /// A block of a sequential scan, into zeros. Where the data has ended, the block stays grey as in libjpeg.
    pub(super) fn sequential(&mut self, dc: &Table, ac: &Table, component: usize, block: &mut [i16; 64]) {
        if self.ended {
            return;
        }
        let size = self.bits.symbol(dc).min(16);
        self.dc[component] = self.dc[component].wrapping_add(self.bits.signed(u32::from(size)));
        block[0] = self.dc[component] as i16;
        let mut k = 1;
        while k < 64 {
            let symbol = self.bits.symbol(ac);
            let (zeros, size) = (usize::from(symbol >> 4), symbol & 15);
            if size > 0 {
                k += zeros;
                block[place(k)] = self.bits.signed(u32::from(size)) as i16;
                k += 1;
            } else if zeros == 15 {
                k += 16;
            } else {
                return;
            }
        }
    }

    /// A block of a progressive scan: more of what the scans before have left in it.
    pub(super) fn progressive(&mut self, band: Band, table: Option<&Table>, component: usize, block: &mut [i16; 64]) {
        match (band.first, band.before, table) {
            // A bit needs no table, and libjpeg reads it past the end too: zeros.
            (0, 1.., _) => {
                if self.bits.bit() {
                    block[0] |= 1_i16.wrapping_shl(u32::from(band.bit));
                }
            }
            _ if self.ended => {}
            (0, 0, Some(table)) => {
                let size = self.bits.symbol(table).min(16);
                self.dc[component] = self.dc[component].wrapping_add(self.bits.signed(u32::from(size)));
                block[0] = self.dc[component].wrapping_shl(u32::from(band.bit)) as i16;
            }
            (_, 0, Some(table)) => self.ac_first(band, table, block),
            (_, _, Some(table)) => self.ac_more(band, table, block),
            (_, _, None) => {}
        }
    }

    /// The number of blocks, this one among them, that end here.
    fn end_of_band(&mut self, size: usize) {
        self.run = (1_u32 << size) + self.bits.take(size as u32) as u32;
    }

    fn ac_first(&mut self, band: Band, table: &Table, block: &mut [i16; 64]) {
        if self.run > 0 {
            self.run -= 1;
            return;
        }
        let mut k = band.first;
        while k <= band.last {
            let symbol = self.bits.symbol(table);
            let (zeros, size) = (usize::from(symbol >> 4), symbol & 15);
            if size > 0 {
                k += zeros;
                block[place(k)] = self.bits.signed(u32::from(size)).wrapping_shl(u32::from(band.bit)) as i16;
                k += 1;
            } else if zeros == 15 {
                k += 16;
            } else {
                self.end_of_band(zeros);
                self.run -= 1;
                return;
            }
        }
    }

    /// One more bit of coefficients that are known, and new ones whose first bit this is.
    fn ac_more(&mut self, band: Band, table: &Table, block: &mut [i16; 64]) {
        let one = 1_i16.wrapping_shl(u32::from(band.bit));
        let mut k = band.first;
        if self.run == 0 {
            while k <= band.last {
                let symbol = self.bits.symbol(table);
                let (mut zeros, size) = (usize::from(symbol >> 4), symbol & 15);
                let mut new = 0;
                if size > 0 {
                    // A size other than 1 is damage; libjpeg goes on with 1.
                    new = if self.bits.bit() { one } else { one.wrapping_neg() };
                } else if zeros != 15 {
                    self.end_of_band(zeros);
                    break;
                }
                while k <= band.last {
                    let old = &mut block[place(k)];
                    if *old != 0 {
                        refine(old, one, self.bits.bit());
                    } else if zeros == 0 {
                        break;
                    } else {
                        zeros -= 1;
                    }
                    k += 1;
                }
                if new != 0 {
                    block[place(k)] = new;
                }
                k += 1;
            }
        }
        if self.run > 0 {
            for k in k..=band.last {
                let old = &mut block[place(k)];
                if *old != 0 {
                    refine(old, one, self.bits.bit());
                }
            }
            self.run -= 1;
        }
    }
}

/// Adds a bit to a coefficient's absolute value, unless it has it already.
fn refine(coefficient: &mut i16, one: i16, bit: bool) {
    if bit && *coefficient & one == 0 {
        *coefficient = if *coefficient >= 0 { coefficient.wrapping_add(one) } else { coefficient.wrapping_sub(one) };
    }
}
