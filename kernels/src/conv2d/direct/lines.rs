//! Copies the lines that a band reads, in the order in which its rows pass by.

use super::{Band, Shape};
use crate::dispatch::Task;
use crate::gemm::micro::GROUP;
use crate::isa::Isa;

/// Copies some groups of 16 channels of a band, with zeros around the image.
pub(super) struct CopyLines<'a, 'p> {
    pub(super) s: Shape,
    pub(super) band: Band,
    /// The source, channels last.
    pub(super) x: &'a [f32],
    /// First group.
    pub(super) first: usize,
    /// Groups.
    pub(super) groups: usize,
    /// Overwritten, as [`Band`] says. Places beyond the last channel stay as they are: nothing reads them.
    pub(super) to: &'p mut [f32],
}

impl Task for CopyLines<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (s, b) = (self.s, self.band);
        for phase in 0..s.step.min(s.reach) {
            for line in 0..b.copied {
                let y = ((b.line + line) * s.step + phase) as isize + s.low;
                for i in 0..b.images {
                    let to = phase * b.phase_len + line * b.line_len + i * s.grid_w * GROUP;
                    if y < 0 || y >= s.h as isize {
                        for at in 0..self.groups * s.reach {
                            let at = at / s.reach * b.group_len + at % s.reach * b.copy_len + to;
                            self.to[at..at + s.grid_w * GROUP].fill(0.0);
                        }
                        continue;
                    }
                    let from = &self.x[((b.image + i) * s.h + y as usize) * s.w * s.c..][..s.w * s.c];
                    for g in 0..self.groups {
                        for column in 0..s.reach {
                            let to = &mut self.to[g * b.group_len + column * b.copy_len + to..][..s.grid_w * GROUP];
                            copy_line(isa, &s, from, (self.first + g) * GROUP, column, to);
                        }
                    }
                }
            }
        }
    }
}

/// The 16 channels from `channel` of every pixel of a line that one column of the filter sees.
#[inline(always)]
fn copy_line<I: Isa>(isa: I, s: &Shape, from: &[f32], channel: usize, column: usize, to: &mut [f32]) {
    let x = s.low + column as isize; // the first row's pixel
    let before = (-x).max(0) as usize;
    let low = before.div_ceil(s.step).min(s.grid_w);
    let high = ((s.w as isize - x).max(0) as usize).div_ceil(s.step).clamp(low, s.grid_w);
    let channels = GROUP.min(s.c - channel);
    to[..low * GROUP].fill(0.0);
    to[high * GROUP..].fill(0.0);
    let mut at = (low * s.step) as isize + x;
    for to in to[low * GROUP..high * GROUP].chunks_exact_mut(GROUP) {
        let from = &from[at as usize * s.c + channel..][..channels];
        if channels == GROUP {
            for lane in (0..GROUP).step_by(I::LANES) {
                isa.store(isa.load(&from[lane..]), &mut to[lane..]);
            }
        } else {
            to[..channels].copy_from_slice(from);
        }
        at += s.step as isize;
    }
}
