//! The two innermost loops of depthwise convolutions: vectors along the channels.

#![allow(clippy::needless_range_loop)] // plain loops of constant length: their arrays live in registers

use crate::isa::Isa;

/// Some output pixels side by side, and where their taps lie. All places and distances are in numbers.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    /// Channels.
    pub(super) channels: usize,
    /// Lines of taps, all of which are there, and columns of taps.
    pub(super) lines: usize,
    pub(super) columns: usize,
    /// Where the source line of the first line of taps begins; how far apart the others are.
    pub(super) line: usize,
    pub(super) line_apart: isize,
    /// Pixels of a source line.
    pub(super) wide: usize,
    /// The source column of the first tap of the first pixel; how far apart those of the next tap and the next pixel
    /// are. In pixels; what lies outside of `wide` is left out.
    pub(super) column: isize,
    pub(super) column_apart: isize,
    pub(super) advance: usize,
    /// Channels of a block of weights, the numbers of one, where the first tap lies in it, and how far apart the
    /// next line and the next column of taps are.
    pub(super) block: usize,
    pub(super) block_len: usize,
    pub(super) tap: usize,
    pub(super) tap_line: usize,
    pub(super) tap_column: usize,
    /// Where the first output pixel lies, and how far apart the others are.
    pub(super) out: usize,
    pub(super) out_apart: usize,
}

impl Strip {
    /// Stops where something that would be read or written is not there.
    #[inline(always)]
    fn check(&self, lanes: usize, pixels: usize, x: usize, w: usize, y: usize) {
        let line_len = self.wide * self.channels;
        if self.lines * self.columns > 0 {
            let last = self.line as isize + (self.lines - 1) as isize * self.line_apart;
            assert!(last >= 0 && self.line + line_len <= x && last as usize + line_len <= x);
            assert!(self.block.is_multiple_of(lanes));
            let blocks = self.channels.div_ceil(self.block);
            assert!((blocks - 1) * self.block_len + self.tap_of(self.lines - 1, self.columns - 1) + self.block <= w);
        }
        assert!(self.out + (pixels - 1) * self.out_apart + self.channels <= y);
    }

    #[inline(always)]
    fn tap_of(&self, line: usize, column: usize) -> usize {
        self.tap + line * self.tap_line + column * self.tap_column
    }

    /// Whether every tap of `pixels` pixels lies inside its line.
    #[inline(always)]
    fn whole(&self, pixels: usize) -> bool {
        let across = (self.columns.max(1) - 1) as isize * self.column_apart;
        let low = self.column + across.min(0);
        let high = self.column + across.max(0) + ((pixels - 1) * self.advance) as isize;
        low >= 0 && high < self.wide as isize
    }
}

/// `y[r][c] = Σ over taps, x[r, tap][c] · w[tap][c]` for `R` pixels and all channels (+ y where `add`). Each element is
/// one chain of fused products in the taps' order, whatever `R` is.
///
/// # Panics
/// If a slice has fewer numbers than are read or written.
#[inline(always)]
pub(super) fn strip<I: Isa, const R: usize>(isa: I, s: &Strip, x: &[f32], w: &[f32], y: &mut [f32], add: bool) {
    s.check(I::LANES, R, x.len(), w.len(), y.len());
    let whole = s.whole(R);
    let c = s.channels;
    let (pixel, column_apart) = (s.advance * c, s.column_apart * c as isize);
    let mut channel = 0;
    while channel < c {
        let count = (c - channel).min(I::LANES);
        let mut taps = w.as_ptr().wrapping_add(channel / s.block * s.block_len + channel % s.block + s.tap);
        let mut line = x.as_ptr().wrapping_add(s.line + channel).wrapping_offset(s.column * c as isize);
        let mut acc = [isa.splat(0.0); R];
        for _ in 0..s.lines {
            let (mut tap, mut from, mut column) = (taps, line, s.column);
            for _ in 0..s.columns {
                // SAFETY: a tap's place in its block of weights, which was checked to be there.
                let weight = unsafe { isa.load_at(tap) };
                if whole && count == I::LANES {
                    for r in 0..R {
                        // SAFETY: the pixel lies inside a line that was checked to be there, and has so many channels left.
                        let v = unsafe { isa.load_at(from.wrapping_add(r * pixel)) };
                        acc[r] = isa.fma(v, weight, acc[r]);
                    }
                } else {
                    for r in 0..R {
                        // Outside on the left is a huge number.
                        if ((column + (r * s.advance) as isize) as usize) < s.wide {
                            // SAFETY: as above; only the channels that are there are read.
                            let v = unsafe { isa.load_first(from.wrapping_add(r * pixel), count) };
                            acc[r] = isa.fma(v, weight, acc[r]);
                        }
                    }
                }
                tap = tap.wrapping_add(s.tap_column);
                from = from.wrapping_offset(column_apart);
                column += s.column_apart;
            }
            taps = taps.wrapping_add(s.tap_line);
            line = line.wrapping_offset(s.line_apart);
        }
        for r in 0..R {
            let to = y.as_mut_ptr().wrapping_add(s.out + r * s.out_apart + channel);
            // SAFETY: the last output pixel was checked to be there; only the channels that are there are touched.
            unsafe {
                let sum = if add { isa.add(isa.load_first(to, count), acc[r]) } else { acc[r] };
                isa.store_first(sum, to, count);
            }
        }
        channel += I::LANES;
    }
}

/// Lines of taps that [`sums`] takes at once, and columns: at most this many chains.
pub(super) const CHAINS: usize = 10;

/// One output line and some taps, for one vector of channels. All places and distances are in numbers.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    /// Channels that are there: at most a vector.
    pub(super) count: usize,
    /// Where the source line of the first line of taps begins (with the vector's first channel), and how far apart the
    /// others are.
    pub(super) line: usize,
    pub(super) line_apart: isize,
    /// Pixels of a source line, and numbers of a pixel.
    pub(super) wide: usize,
    pub(super) pixel: usize,
    /// The source column of the first tap of the first pixel; how far apart those of the next tap and the next pixel are.
    pub(super) column: isize,
    pub(super) column_apart: usize,
    pub(super) advance: usize,
    /// Where the output line begins (with the vector's first channel), and its pixels.
    pub(super) out: usize,
    pub(super) pixels: usize,
    /// Where the first tap's sum lies, and how far apart the next line and the next column of taps are.
    pub(super) tap: usize,
    pub(super) tap_line: usize,
    pub(super) tap_column: usize,
}

/// `sum[tap][c] += Σ over the line's pixels, x[pixel, tap][c] · dy[pixel][c]` for `T` lines x `U` columns of taps.
///
/// # Panics
/// If a slice has fewer numbers than are read or written.
#[inline(always)]
pub(super) fn sums<I: Isa, const T: usize, const U: usize>(isa: I, s: &Sums, x: &[f32], dy: &[f32], sum: &mut [f32]) {
    let line_len = (s.wide - 1) * s.pixel + s.count;
    let last = s.line as isize + (T - 1) as isize * s.line_apart;
    assert!(last >= 0 && s.line + line_len <= x.len() && last as usize + line_len <= x.len());
    assert!(s.pixels > 0 && s.out + (s.pixels - 1) * s.pixel + s.count <= dy.len() && s.count <= I::LANES);
    let mut acc = [[isa.splat(0.0); U]; T];
    // Pixels of which every column of taps lies inside the line.
    let reach = s.column + ((U - 1) * s.column_apart) as isize;
    let low = if s.column >= 0 { 0 } else { s.column.unsigned_abs().div_ceil(s.advance).min(s.pixels) };
    let high = if reach >= s.wide as isize { 0 } else { ((s.wide as isize - 1 - reach) as usize / s.advance + 1).min(s.pixels) };
    let (low, high) = if s.count < I::LANES { (s.pixels, s.pixels) } else { (low, high.max(low)) };
    let (x, dy) = (x.as_ptr().wrapping_add(s.line), dy.as_ptr().wrapping_add(s.out));
    let place = |pixel: usize| s.column + (pixel * s.advance) as isize;
    let apart = s.column_apart * s.pixel;
    for edge in [0..low, high..s.pixels] {
        for pixel in edge {
            // SAFETY: a pixel of the output line, which was checked to be there.
            let d = unsafe { isa.load_first(dy.wrapping_add(pixel * s.pixel), s.count) };
            for u in 0..U {
                let column = (place(pixel) + (u * s.column_apart) as isize) as usize;
                if column < s.wide {
                    for t in 0..T {
                        let from = x.wrapping_offset(t as isize * s.line_apart).wrapping_add(column * s.pixel);
                        // SAFETY: a pixel inside a line that was checked to be there.
                        acc[t][u] = isa.fma(unsafe { isa.load_first(from, s.count) }, d, acc[t][u]);
                    }
                }
            }
        }
    }
    let mut from = x.wrapping_offset(place(low) * s.pixel as isize);
    let mut out = dy.wrapping_add(low * s.pixel);
    for _ in low..high {
        // SAFETY: as above, with a whole vector of channels.
        let d = unsafe { isa.load_at(out) };
        for t in 0..T {
            let line = from.wrapping_offset(t as isize * s.line_apart);
            for u in 0..U {
                // SAFETY: as above; every column lies inside.
                acc[t][u] = isa.fma(unsafe { isa.load_at(line.wrapping_add(u * apart)) }, d, acc[t][u]);
            }
        }
        from = from.wrapping_add(s.advance * s.pixel);
        out = out.wrapping_add(s.pixel);
    }
    for t in 0..T {
        for u in 0..U {
            let to = &mut sum[s.tap + t * s.tap_line + u * s.tap_column..];
            isa.store(isa.add(isa.load(to), acc[t][u]), to);
        }
    }
}
