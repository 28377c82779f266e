//! Weights with input and output channels exchanged, for the input's gradient.
//!
//! From `[k / B][c][all taps][B]` to `[c / N][k][some taps][N]`, for a range of k at a time, by
//! transposing blocks of 16 x 16 in registers.

use crate::dispatch::Task;
use crate::gemm::micro::GROUP;
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu};
use crate::weights::{WeightLayout, block};
use core::ops::Range;

/// Which taps are taken.
#[derive(Clone, Copy)]
pub(crate) struct Transposed {
    pub(crate) layout: WeightLayout,
    /// Width of the filter.
    pub(crate) kernel: usize,
    /// Distance of taken taps: lines, columns.
    pub(crate) stride: [usize; 2],
    /// First taken tap: line, column.
    pub(crate) first: [usize; 2],
    /// Taken taps: lines, columns.
    pub(crate) taps: [usize; 2],
}

impl Transposed {
    /// Fills `out` = `[n / block][groups·16][taps][block]` with the channels from 16·`group` of k.
    pub(crate) fn run(&self, cpu: &Cpu, w: &[f32], n: usize, group: usize, groups: usize, out: &mut [f32]) {
        let block = block(n);
        self.blocks(cpu, w, (block, 0..n.div_ceil(block)), group, groups, out);
    }

    /// The same for some blocks of this width alone.
    pub(crate) fn blocks(
        &self,
        cpu: &Cpu,
        w: &[f32],
        (block, blocks): (usize, Range<usize>),
        group: usize,
        groups: usize,
        out: &mut [f32],
    ) {
        let each = GROUP * self.taps[0] * self.taps[1] * block;
        if each == 0 {
            return;
        }
        cpu.run(Chunks::new(out, each, blocks.len() * groups), &mut [], 0, |i, out, _| {
            let first_c = (blocks.start + i / groups) * block;
            cpu.level.run(Exchange { how: *self, w, first_c, block, k: (group + i % groups) * GROUP, out });
        });
    }

    /// The same for the 16 output channels from `k` and one block (first input channel, width):
    /// `out` is `[16][taps][block]`.
    #[inline(always)]
    pub(crate) fn group<I: Isa>(&self, isa: I, w: &[f32], (first_c, block): (usize, usize), k: usize, out: &mut [f32]) {
        Exchange { how: *self, w, first_c, block, k, out }.run(isa);
    }
}

/// One group of 16 output channels times one block of input channels.
struct Exchange<'a, 'p> {
    how: Transposed,
    w: &'a [f32],
    first_c: usize,
    block: usize,
    k: usize,
    /// `[16][taps][block]`
    out: &'p mut [f32],
}

impl Task for Exchange<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Transposed { layout, kernel, stride, first, taps } = self.how;
        let count = taps[0] * taps[1];
        let row = layout.taps() * layout.block(); // from one input channel to the next
        for t in 0..count {
            let tap = (first[0] + t / taps[1] * stride[0]) * kernel + first[1] + t % taps[1] * stride[1];
            for half in (0..self.block).step_by(GROUP) {
                let c = self.first_c + half;
                let to = &mut self.out[t * self.block + half..];
                let to_stride = count * self.block;
                if c + GROUP <= layout.c() {
                    // The next channels of k are called while these are exchanged: lines so far apart are no
                    // order that a CPU foresees.
                    let next = self.w.as_ptr().wrapping_add(layout.index(self.k + GROUP, c, tap));
                    for i in 0..GROUP {
                        isa.prefetch(next.wrapping_add(i * row));
                    }
                    isa.transpose_16(&self.w[layout.index(self.k, c, tap)..], row, to, to_stride);
                } else {
                    for k in 0..GROUP {
                        for i in 0..GROUP {
                            let inside = c + i < layout.c();
                            to[k * to_stride + i] = if inside { self.w[layout.index(self.k + k, c + i, tap)] } else { 0.0 };
                        }
                    }
                }
            }
        }
    }
}
