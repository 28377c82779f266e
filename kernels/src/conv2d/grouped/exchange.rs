//! Weights with input and output channels exchanged inside their groups, for the input's gradient: from
//! `[k / B][c / groups][taps][B]` to `[c / N][k / groups][taps][N]`.

use crate::conv2d::Conv2d;
use crate::dispatch::Task;
use crate::gemm::micro::GROUP;
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu};
use crate::weights::WeightLayout;

/// How the exchanged weights lie: an input channel reads the output channels of its group.
pub(super) fn layout(conv: &Conv2d) -> WeightLayout {
    WeightLayout::of(conv.c(), conv.k() / conv.groups(), conv.taps())
}

/// Fills `out`.
pub(super) fn run(conv: &Conv2d, cpu: &Cpu, w: &[f32], out: &mut [f32]) {
    let to = layout(conv);
    cpu.run(Chunks::new(out, to.block_len(), to.blocks()), &mut [], 0, |block, out, _| {
        cpu.level.run(Block { conv, w, first: block * to.block(), out });
    });
}

/// One block of input channels.
struct Block<'a, 'p> {
    conv: &'a Conv2d,
    w: &'a [f32],
    first: usize,
    out: &'p mut [f32],
}

impl Task for Block<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (from, taps) = (self.conv.weights(), self.conv.taps());
        let (per_c, per_k) = (self.conv.c() / self.conv.groups(), self.conv.k() / self.conv.groups());
        let block = layout(self.conv).block();
        if per_c.is_multiple_of(GROUP) && per_k.is_multiple_of(GROUP) {
            for half in (0..block).step_by(GROUP) {
                let (group, c) = ((self.first + half) / per_c, (self.first + half) % per_c);
                for j in (0..per_k).step_by(GROUP) {
                    for tap in 0..taps {
                        let x = &self.w[from.index(group * per_k + j, c, tap)..];
                        let y = &mut self.out[(j * taps + tap) * block + half..];
                        isa.transpose_16(x, taps * from.block(), y, taps * block);
                    }
                }
            }
            return;
        }
        for j in 0..per_k {
            for tap in 0..taps {
                for lane in 0..block {
                    let c = self.first + lane;
                    let there = c < self.conv.c();
                    let number = if there { self.w[from.index(c / per_c * per_k + j, c % per_c, tap)] } else { 0.0 };
                    self.out[(j * taps + tap) * block + lane] = number;
                }
            }
        }
    }
}
