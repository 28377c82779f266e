//! What the pixels of one direction (lines or columns) read.
//!
//! *Forward:* output pixel a reads, with tap t, the input at `a·stride + t·dilation − pad`.
//!
//! *Input's gradient:* input pixel p reads dy, with tap t, at `(p + pad − t·dilation) / stride`, where that is whole.
//! So the pixels p, p + stride, … meet the same taps: a *phase*. (V. Dumoulin and F. Visin, "A guide to convolution
//! arithmetic for deep learning", 2016, chapter 4.)

use super::Conv2d;
use core::ops::Range;

/// The pixels of one phase, and their taps. A forward pass has one phase.
#[derive(Clone, Copy)]
pub(crate) struct Side {
    /// The pixels are `start`, `start + every`, …: so many.
    pub(crate) start: usize,
    pub(crate) every: usize,
    pub(crate) pixels: usize,
    /// The taps are `first`, `first + step`, …: so many.
    pub(crate) first: usize,
    pub(crate) step: usize,
    pub(crate) taps: usize,
    /// Where the first tap of the first pixel reads; how far apart the next tap and the next pixel read.
    pub(crate) origin: isize,
    pub(crate) apart: isize,
    pub(crate) advance: usize,
}

impl Side {
    /// The forward pass, in direction 0 (lines) or 1 (columns).
    pub(crate) fn forward(conv: &Conv2d, direction: usize) -> Side {
        Side {
            start: 0,
            every: 1,
            pixels: [conv.out_h(), conv.out_w()][direction],
            first: 0,
            step: 1,
            taps: conv.kernel()[direction],
            origin: -(conv.pad()[direction] as isize),
            apart: conv.dilation()[direction] as isize,
            advance: conv.stride()[direction],
        }
    }

    /// The input's gradient, for the pixels from `start` on.
    pub(crate) fn backward_input(conv: &Conv2d, direction: usize, start: usize) -> Side {
        let [kernel, stride, pad, dilation] = [conv.kernel(), conv.stride(), conv.pad(), conv.dilation()].map(|sizes| sizes[direction]);
        let common = common_divisor(stride, dilation);
        let step = stride / common;
        let hit = (0..step.min(kernel)).find(|t| t * dilation % stride == (start + pad) % stride);
        let first = hit.unwrap_or(kernel);
        Side {
            start,
            every: stride,
            pixels: ([conv.h(), conv.w()][direction] - start).div_ceil(stride),
            first,
            step,
            taps: (kernel - first).div_ceil(step),
            origin: ((start + pad) as isize - (first * dilation) as isize) / stride as isize,
            apart: -((dilation / common) as isize),
            advance: 1,
        }
    }

    /// Where the first tap of pixel `i` of the phase reads.
    #[inline(always)]
    pub(crate) fn place(&self, i: usize) -> isize {
        self.origin + (i * self.advance) as isize
    }

    /// The taps of pixel `i` of the phase that read inside of `size` pixels.
    #[inline(always)]
    pub(crate) fn inside(&self, i: usize, size: usize) -> Range<usize> {
        // The taps before `bound` lie before place `end` (or behind it, where they go down).
        let before = |from: isize, apart: isize| if from <= 0 { 0 } else { (from as usize).div_ceil(apart as usize).min(self.taps) };
        let place = self.place(i);
        let (low, high) = if self.apart > 0 {
            (before(-place, self.apart), before(size as isize - place, self.apart))
        } else {
            (before(place - size as isize + 1, -self.apart), before(place + 1, -self.apart))
        };
        low..high.max(low)
    }
}

const fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv2d::Window;
    use nunatak_core::Shape;

    /// Every pair of pixels and every tap that joins them, from both sides and by the definition.
    #[test]
    fn both_passes_join_the_same_pixels() {
        for size in 1..12 {
            for kernel in 1..5 {
                for stride in 1..7 {
                    for pad in 0..4 {
                        for dilation in 1..7 {
                            let window = Window { kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 2], dilation: [dilation; 2] };
                            let Ok(conv) = Conv2d::general(Shape::new(1, 1, size, size).expect("a shape"), 1, window, 1) else { continue };
                            let mut due = std::vec::Vec::new();
                            for output in 0..conv.out_h() {
                                for tap in 0..kernel {
                                    let input = (output * stride + tap * dilation).wrapping_sub(pad);
                                    if input < size {
                                        due.push((input, output, tap));
                                    }
                                }
                            }
                            let taps = |side: Side, other: usize, swap: bool| {
                                (0..side.pixels).flat_map(move |i| {
                                    side.inside(i, other).map(move |t| {
                                        let read = (side.place(i) + t as isize * side.apart) as usize;
                                        let pixel = side.start + i * side.every;
                                        let tap = side.first + t * side.step;
                                        if swap { (pixel, read, tap) } else { (read, pixel, tap) }
                                    })
                                })
                            };
                            let forward: std::vec::Vec<_> = taps(Side::forward(&conv, 0), size, false).collect();
                            assert_eq!(forward, due, "{conv:?}");
                            let phases = (0..stride.min(size)).map(|start| Side::backward_input(&conv, 0, start));
                            let mut back: std::vec::Vec<_> = phases.flat_map(|side| taps(side, conv.out_h(), true)).collect();
                            back.sort_by_key(|(input, output, tap)| (*output, *tap, *input));
                            assert_eq!(back, due, "{conv:?}");
                        }
                    }
                }
            }
        }
    }
}
