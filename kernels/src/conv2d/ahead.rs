//! Asking for the next piece's numbers while this piece is computed: a few cache lines at a time. All at once, the CPU would
//! wait for memory before it goes on, and what comes from its caches would queue behind hundreds of lines.

use crate::gemm::micro::GROUP;
use crate::isa::Isa;

/// Numbers that the next piece of work needs: runs of some, equally far apart.
pub(super) struct Ahead {
    at: *const f32,
    /// Cache lines of a run, and those of this run that were asked for.
    run: usize,
    asked: usize,
    /// Numbers from a run to the next.
    apart: usize,
    /// Cache lines that are left, and those of a step.
    left: usize,
    each: usize,
}

impl Ahead {
    /// So many numbers one behind the other, in so many steps.
    #[inline(always)]
    pub(super) fn new(at: *const f32, numbers: usize, steps: usize) -> Ahead {
        Self::runs(at, [1, numbers], 0, steps)
    }
    /// So many runs of so many numbers, in so many steps.
    #[inline(always)]
    pub(super) fn runs(at: *const f32, [runs, numbers]: [usize; 2], apart: usize, steps: usize) -> Ahead {
        let run = numbers.div_ceil(GROUP);
        let left = runs * run;
        Ahead { at, run, asked: 0, apart, left, each: left.div_ceil(steps.max(1)) }
    }
    /// Asks for the next lines.
    #[inline(always)]
    pub(super) fn ask<I: Isa>(&mut self, isa: I) {
        let count = self.each.min(self.left);
        for _ in 0..count {
            isa.prefetch(self.at.wrapping_add(self.asked * GROUP));
            self.asked += 1;
            if self.asked == self.run {
                self.at = self.at.wrapping_add(self.apart);
                self.asked = 0;
            }
        }
        self.left -= count;
    }
}
