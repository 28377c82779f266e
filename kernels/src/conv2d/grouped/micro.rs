//! The two innermost loops of grouped convolutions.

#![allow(clippy::needless_range_loop)] // plain loops of constant length: their arrays live in registers

use crate::isa::Isa;

/// Columns that [`strip`] takes at most: those of seven pixels with a stride of 2 and three taps.
const MOST: usize = 15;

/// How a vector of output channels gets the numbers of input channel j of its groups.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// The vector lies in one group: a single number is broadcast.
    Broadcast,
    /// The vector's groups read the channels of the same places: they lie as in x, and lanes are exchanged in registers.
    Permute,
    /// Any groups: a vector for each j, copied so.
    Spread,
}

impl Take {
    pub(super) const BROADCAST: u8 = Take::Broadcast as u8;
    pub(super) const PERMUTE: u8 = Take::Permute as u8;
    pub(super) const SPREAD: u8 = Take::Spread as u8;

    /// For `per_from` input and `per_to` output channels of a group, and vectors of so many lanes.
    #[inline(always)]
    pub(super) const fn new(per_from: usize, per_to: usize, lanes: usize) -> Take {
        if per_to.is_multiple_of(lanes) {
            Take::Broadcast
        } else if per_from == per_to && lanes.is_multiple_of(per_to) {
            Take::Permute
        } else {
            Take::Spread
        }
    }

    /// Numbers of a copied pixel.
    #[inline(always)]
    pub(super) const fn pixel(self, per_from: usize, lanes: usize) -> usize {
        match self {
            Take::Broadcast => per_from,
            Take::Permute => lanes,
            Take::Spread => per_from * lanes,
        }
    }

    /// Numbers from a channel of a copied pixel to the next.
    #[inline(always)]
    const fn unit(self, lanes: usize) -> usize {
        match self {
            Take::Broadcast => 1,
            Take::Permute => 0,
            Take::Spread => lanes,
        }
    }
}

/// For each lane the first lane of its group, where groups of `per` channels divide a vector's lanes: as those, `per` is
/// then a power of two.
#[inline(always)]
fn first_lanes(per: usize) -> [i32; 16] {
    let mut lanes = [0; 16];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = (i & !(per - 1)) as i32;
    }
    lanes
}

/// The numbers of a channel: `lanes` says which lanes of the pixel.
///
/// # Safety
/// What [`Take`] says must be readable at `x`.
#[inline(always)]
unsafe fn take<I: Isa, const TAKE: u8>(isa: I, x: *const f32, lanes: &[i32; 16]) -> I::V {
    // SAFETY: the caller's duty.
    unsafe {
        if TAKE == Take::BROADCAST {
            isa.splat(*x)
        } else if TAKE == Take::PERMUTE {
            isa.permute(isa.load_at(x), lanes)
        } else {
            isa.load_at(x)
        }
    }
}

/// Some output pixels side by side, and where their taps lie. All places and distances are in numbers.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    /// Lines and columns of taps, and input channels of a group.
    pub(super) lines: usize,
    pub(super) columns: usize,
    pub(super) channels: usize,
    /// Numbers of a copied pixel, and how they are taken.
    pub(super) pixel: usize,
    pub(super) take: Take,
    /// Where the leftmost tap of the first pixel lies; how far apart the next line, the next column and the next pixel
    /// are.
    pub(super) start: isize,
    pub(super) line: isize,
    pub(super) column: usize,
    pub(super) advance: usize,
    /// Where its weight lies; how far apart those of the next line, column and channel are.
    pub(super) tap: usize,
    pub(super) tap_line: usize,
    pub(super) tap_column: isize,
    pub(super) tap_channel: usize,
    /// Output channels that are there: at most a vector.
    pub(super) count: usize,
    /// Where the first output pixel lies, and how far apart the others are.
    pub(super) out: usize,
    pub(super) out_apart: usize,
}

impl Strip {
    /// Stops where something that would be read or written is not there.
    #[inline(always)]
    fn check(&self, lanes: usize, pixels: usize, x: usize, w: usize, y: usize) {
        assert!(self.pixel == self.take.pixel(self.channels, lanes));
        if self.lines * self.columns * self.channels > 0 {
            let (down, across) = ((self.lines - 1) as isize * self.line, (self.columns - 1) * self.column);
            let (low, high) = (self.start + down.min(0), self.start + down.max(0));
            assert!(low >= 0 && high as usize + across + (pixels - 1) * self.advance + self.pixel <= x);
            let (down, across) = ((self.lines - 1) * self.tap_line, (self.columns - 1) as isize * self.tap_column);
            assert!(self.tap as isize + across.min(0) >= 0);
            assert!(self.tap as isize + across.max(0) + (down + (self.channels - 1) * self.tap_channel + lanes) as isize <= w as isize);
        }
        assert!(self.count <= lanes && self.out + (pixels - 1) * self.out_apart + self.count <= y);
    }
}

/// `y[i] = Σ over taps and channels, x[i, tap][channel] · w[channel][tap]` for `pixels` pixels of a line and a vector of
/// output channels (+ y where `add`).
///
/// Columns of taps are taken `T` at a time, of which `T` must divide the number. Where `T` is above 1 they lie side by
/// side and a pixel's next is `STEP` of them further, so that a number of x is taken once for all the products that
/// it has part in; where `T` is 1 anything goes. Each element is one chain of fused products, whose order does not depend
/// on how many pixels are in registers.
///
/// # Panics
/// If a slice has fewer numbers than are read or written.
#[inline(always)]
pub(super) fn line<I: Isa, const T: usize, const STEP: usize, const TAKE: u8>(
    isa: I,
    s: &Strip,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    add: bool,
    pixels: usize,
) {
    if pixels == 0 {
        return;
    }
    s.check(I::LANES, pixels, x.len(), w.len(), y.len());
    assert!(s.take as u8 == TAKE && s.columns.is_multiple_of(T) && (T == 1 || s.column == s.pixel && s.advance == STEP * s.pixel));
    let mut i = 0;
    while i < pixels {
        let (x, w) = (x.as_ptr().wrapping_offset(s.start).wrapping_add(i * s.advance), w.as_ptr());
        let y = y.as_mut_ptr().wrapping_add(s.out + i * s.out_apart);
        // Seven divides the lines of most networks.
        // SAFETY: all pixels were checked to be there, and so many are left.
        unsafe {
            match pixels - i {
                7.. => {
                    strip::<I, 7, T, STEP, TAKE>(isa, s, x, w, y, add);
                    i += 7;
                }
                4..=6 => {
                    strip::<I, 4, T, STEP, TAKE>(isa, s, x, w, y, add);
                    i += 4;
                }
                2 | 3 => {
                    strip::<I, 2, T, STEP, TAKE>(isa, s, x, w, y, add);
                    i += 2;
                }
                _ => {
                    strip::<I, 1, T, STEP, TAKE>(isa, s, x, w, y, add);
                    i += 1;
                }
            }
        }
    }
}

/// `R` pixels of [`line()`]: `x` is where the leftmost tap of the first lies, `y` where its output lies.
///
/// # Safety
/// [`Strip::check`] must have passed for these pixels.
#[inline(always)]
unsafe fn strip<I: Isa, const R: usize, const T: usize, const STEP: usize, const TAKE: u8>(
    isa: I,
    s: &Strip,
    x: *const f32,
    w: *const f32,
    y: *mut f32,
    add: bool,
) {
    let unit = s.take.unit(I::LANES);
    let first = first_lanes(s.channels.max(1));
    let mut acc = [isa.splat(0.0); R];
    for line in 0..s.lines {
        for column in (0..s.columns).step_by(T) {
            let mut from = x.wrapping_offset(line as isize * s.line + (column * s.column) as isize);
            let mut tap = w.wrapping_offset((s.tap + line * s.tap_line) as isize + column as isize * s.tap_column);
            let mut lanes = first;
            for _ in 0..s.channels {
                let mut weights = [isa.splat(0.0); T];
                for t in 0..T {
                    // SAFETY: the weights of the outermost taps and channels were checked to be there.
                    weights[t] = unsafe { isa.load_at(tap.wrapping_offset(t as isize * s.tap_column)) };
                }
                if T == 1 {
                    for r in 0..R {
                        // SAFETY: the first and the last place were checked to be there.
                        let v = unsafe { take::<I, TAKE>(isa, from.wrapping_add(r * s.advance), &lanes) };
                        acc[r] = isa.fma(v, weights[0], acc[r]);
                    }
                } else {
                    // Loops of constant length, so that all of this lives in registers.
                    let mut taken = [weights[0]; MOST];
                    for q in 0..(R - 1) * STEP + T {
                        // SAFETY: as above; q is a column of one of the pixels.
                        taken[q] = unsafe { take::<I, TAKE>(isa, from.wrapping_add(q * s.pixel), &lanes) };
                    }
                    for r in 0..R {
                        for t in 0..T {
                            acc[r] = isa.fma(taken[r * STEP + t], weights[t], acc[r]);
                        }
                    }
                }
                from = from.wrapping_add(unit);
                tap = tap.wrapping_add(s.tap_channel);
                for lane in &mut lanes {
                    *lane += 1;
                }
            }
        }
    }
    for r in 0..R {
        let to = y.wrapping_add(r * s.out_apart);
        // SAFETY: the last output pixel was checked to be there; only the channels that are there are touched.
        unsafe {
            if s.count == I::LANES {
                let sum = if add { isa.add(isa.load_at(to), acc[r]) } else { acc[r] };
                isa.store_at(sum, to);
            } else {
                let sum = if add { isa.add(isa.load_first(to, s.count), acc[r]) } else { acc[r] };
                isa.store_first(sum, to, s.count);
            }
        }
    }
}

/// Lines of output pixels, and what they read. All places and distances are in numbers.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    /// Lines, and pixels of a line.
    pub(super) lines: usize,
    pub(super) pixels: usize,
    /// Input channels of a group, the first of the channels, and how they are taken.
    pub(super) channels: usize,
    pub(super) first: usize,
    pub(super) take: Take,
    /// Where the first pixel reads with the first tap; how far apart the next line, pixel and column of taps are.
    pub(super) start: usize,
    pub(super) line: usize,
    pub(super) pixel: usize,
    pub(super) column: usize,
    /// Where dy's first pixel lies (lines follow each other), how far apart the next is, and how many channels there are:
    /// at most a vector.
    pub(super) out: usize,
    pub(super) out_apart: usize,
    pub(super) count: usize,
    /// Where the first sum lies; how far apart those of the next column and channel are.
    pub(super) sum: usize,
    pub(super) sum_column: usize,
    pub(super) sum_channel: usize,
}

/// `sum[j][t] += Σ over pixels, x[pixel, t][j] · dy[pixel]` for `J` channels and `T` columns of taps. Each sum starts from
/// zero and is added as a whole.
///
/// # Panics
/// If a slice has fewer numbers than are read or written.
#[inline(always)]
pub(super) fn sums<I: Isa, const J: usize, const T: usize, const TAKE: u8>(isa: I, s: &Sums, x: &[f32], dy: &[f32], sum: &mut [f32]) {
    assert!(s.take as u8 == TAKE && s.first + J <= s.channels && s.count <= I::LANES && s.lines * s.pixels > 0);
    let last = s.start + (s.lines - 1) * s.line + (s.pixels - 1) * s.pixel + (T - 1) * s.column;
    assert!(last + s.take.pixel(s.channels, I::LANES) <= x.len());
    assert!(s.out + (s.lines * s.pixels - 1) * s.out_apart + s.count <= dy.len());
    let unit = s.take.unit(I::LANES);
    let mut lanes = [first_lanes(s.channels); J];
    for j in 0..J {
        for lane in &mut lanes[j] {
            *lane += (s.first + j) as i32;
        }
    }
    let mut acc = [[isa.splat(0.0); T]; J];
    let mut out = dy.as_ptr().wrapping_add(s.out);
    for line in 0..s.lines {
        let mut from = x.as_ptr().wrapping_add(s.start + line * s.line + s.first * unit);
        for _ in 0..s.pixels {
            // SAFETY: the last pixel was checked to be there; only the channels that are there are read.
            let d = unsafe { if s.count == I::LANES { isa.load_at(out) } else { isa.load_first(out, s.count) } };
            for t in 0..T {
                for j in 0..J {
                    // SAFETY: the last place was checked to be there.
                    let number = unsafe { take::<I, TAKE>(isa, from.wrapping_add(t * s.column + j * unit), &lanes[j]) };
                    acc[j][t] = isa.fma(number, d, acc[j][t]);
                }
            }
            from = from.wrapping_add(s.pixel);
            out = out.wrapping_add(s.out_apart);
        }
    }
    for j in 0..J {
        for t in 0..T {
            let to = &mut sum[s.sum + j * s.sum_channel + t * s.sum_column..];
            isa.store(isa.add(isa.load(to), acc[j][t]), to);
        }
    }
}
