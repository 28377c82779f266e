//! Which pixels meet at which tap, on the way back.
//!
//! Tap (i, j) joins the output pixel (oy, ox) to the input pixel (oy·stride + i − pad,
//! ox·stride + j − pad). So the taps and the input's pixels fall into stride² classes: line y goes
//! with the taps i for which y + pad − i is a multiple of the stride. In a class every tap meets every
//! pixel; where the output pixel would lie outside its plane a zero stands for its gradient.
//!
//! The pixels of a class are taken [`Pairs::rows`] at a time, a *slot* for each; slots beyond the last
//! pixel of a class are empty (zeros).

use super::super::Uniform;

/// The largest stride: classes are kept in a table.
pub(crate) const MOST_STRIDE: usize = 4;

/// Taps and input pixels that meet.
#[derive(Clone, Copy, Default)]
pub(crate) struct Class {
    /// First tap: line and column; the others lie a stride apart.
    pub(crate) tap: [usize; 2],
    /// Taps: lines and columns.
    pub(crate) taps: [usize; 2],
    /// First input pixel: line and column; the others lie a stride apart.
    pixel: [usize; 2],
    /// Input pixels of an image: lines and columns.
    pixels: [usize; 2],
    /// The first slot.
    pub(crate) slot: usize,
    /// Groups of [`Pairs::rows`] slots.
    pub(crate) groups: usize,
    /// Where the class begins in the arrangement of dy, in rows of one slot.
    pub(crate) row: usize,
}

/// All classes of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct Pairs {
    conv: Uniform,
    classes: [Class; MOST_STRIDE * MOST_STRIDE],
    /// Slots that are taken at a time: 1, 2, 4, 8 or 16.
    pub(crate) rows: usize,
    /// Slots in all.
    pub(crate) slots: usize,
    /// Rows of the arrangement of dy: a slot for each tap of its class.
    pub(crate) dy_rows: usize,
}

impl Pairs {
    /// The pairs, with at most `most` slots at a time.
    pub(crate) fn new(conv: &Uniform, most: usize) -> Pairs {
        let s = conv.stride;
        let mut classes = [Class::default(); MOST_STRIDE * MOST_STRIDE];
        let mut largest = 1;
        for (i, class) in classes[..s * s].iter_mut().enumerate() {
            let tap = [i / s, i % s];
            let first = |tap: usize| (tap + s - conv.pad % s) % s;
            let pixel = [first(tap[0]), first(tap[1])];
            class.tap = tap;
            class.taps = [conv.kernel.saturating_sub(tap[0]).div_ceil(s), conv.kernel.saturating_sub(tap[1]).div_ceil(s)];
            class.pixel = pixel;
            class.pixels = [conv.h.saturating_sub(pixel[0]).div_ceil(s), conv.w.saturating_sub(pixel[1]).div_ceil(s)];
            largest = largest.max(conv.n * class.pixels[0] * class.pixels[1]);
        }
        let rows = largest.next_power_of_two().min(most);
        let mut pairs = Pairs { conv: *conv, classes, rows, slots: 0, dy_rows: 0 };
        for class in &mut pairs.classes[..s * s] {
            class.groups = (conv.n * class.pixels[0] * class.pixels[1]).div_ceil(rows);
            class.slot = pairs.slots;
            class.row = pairs.dy_rows;
            pairs.slots += class.groups * rows;
            pairs.dy_rows += class.groups * rows * class.taps[0] * class.taps[1];
        }
        pairs
    }

    /// The classes.
    #[inline(always)]
    pub(crate) fn classes(&self) -> &[Class] {
        &self.classes[..self.conv.stride * self.conv.stride]
    }

    /// A class, to be changed by a test.
    #[cfg(test)]
    pub(crate) fn class(&mut self, i: usize) -> &mut Class {
        &mut self.classes[i]
    }

    /// Calls with each input pixel and its slot.
    #[inline(always)]
    pub(crate) fn for_each_pixel(&self, mut each: impl FnMut(usize, usize)) {
        let conv = &self.conv;
        for class in self.classes() {
            let [lines, columns] = class.pixels;
            let mut slot = class.slot;
            for image in 0..conv.n {
                for i in 0..lines {
                    let line = (image * conv.h + class.pixel[0] + i * conv.stride) * conv.w + class.pixel[1];
                    for j in 0..columns {
                        each(line + j * conv.stride, slot);
                        slot += 1;
                    }
                }
            }
        }
    }

    /// Arranges one block of dy: `[group of slots][tap][vector][slot][lane]`, class after class, in
    /// vectors of `lanes`. Of the `block` numbers the first `channels` exist from `k` on; the rest are
    /// zeros.
    #[inline(always)]
    pub(crate) fn arrange(&self, dy: &[f32], k: usize, channels: usize, block: usize, lanes: usize, to: &mut [f32]) {
        let conv = &self.conv;
        let (oh, ow) = (conv.out_h(), conv.out_w());
        let to = &mut to[..self.dy_rows * block];
        to.fill(0.0);
        for class in self.classes() {
            let [lines, columns] = class.pixels;
            let taps = class.taps[0] * class.taps[1];
            // Tap 0 of the class joins its first pixel to this one; the next tap to the one before.
            let origin = |d: usize| ((class.pixel[d] + conv.pad) as isize - class.tap[d] as isize) / conv.stride as isize;
            let origin = [origin(0), origin(1)];
            let (mut group, mut slot) = (0, 0);
            for image in 0..conv.n {
                for i in 0..lines {
                    for j in 0..columns {
                        let first = (class.row + group * taps * self.rows) * block + slot * lanes;
                        for a in 0..class.taps[0] {
                            let oy = (origin[0] + i as isize - a as isize) as usize;
                            if oy >= oh {
                                continue; // also what was negative
                            }
                            for b in 0..class.taps[1] {
                                let ox = (origin[1] + j as isize - b as isize) as usize;
                                if ox < ow {
                                    let from = &dy[((image * oh + oy) * ow + ox) * conv.k + k..][..channels];
                                    let tap = first + (a * class.taps[1] + b) * self.rows * block;
                                    for (v, from) in from.chunks(lanes).enumerate() {
                                        to[tap + v * self.rows * lanes..][..from.len()].copy_from_slice(from);
                                    }
                                }
                            }
                        }
                        slot += 1;
                        if slot == self.rows {
                            (group, slot) = (group + 1, 0);
                        }
                    }
                }
            }
        }
    }
}
