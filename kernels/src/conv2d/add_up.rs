//! Gradients of parts of the pixels, added up in their order.

use crate::dispatch::Task;
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu};

/// Numbers of dw that are added up by one call.
const SUM: usize = 1024;

/// `dw = Σ over parts of sums` (+ dw where `add`); `sums` holds `count` gradients as long as dw.
pub(super) fn add_up(cpu: &Cpu, sums: &[f32], count: usize, dw: &mut [f32], add: bool) {
    let len = dw.len();
    cpu.run(Chunks::new(dw, SUM, len.div_ceil(SUM)), &mut [], 0, |i, dw, _| {
        cpu.level.run(AddUp { sums: &sums[i * SUM..], len, count, add, dw });
    });
}

struct AddUp<'a, 'p> {
    /// From the piece's first number on.
    sums: &'a [f32],
    /// Numbers from one part's gradient to the next.
    len: usize,
    count: usize,
    add: bool,
    dw: &'p mut [f32],
}

impl Task for AddUp<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // A block of output channels is a whole number of vectors.
        for at in (0..self.dw.len()).step_by(I::LANES) {
            let mut sum = isa.load(&self.sums[at..]);
            for i in 1..self.count {
                sum = isa.add(sum, isa.load(&self.sums[i * self.len + at..]));
            }
            let to = &mut self.dw[at..];
            isa.store(if self.add { isa.add(isa.load(to), sum) } else { sum }, to);
        }
    }
}
