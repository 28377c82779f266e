//! Lines of a source as a vector of output channels wants them.

use super::micro::Take;
use crate::isa::Isa;
use core::ops::Range;

/// A part of an image for the vector of output channels from `channel` on.
#[derive(Clone)]
pub(super) struct Spread<'a> {
    pub(super) x: &'a [f32],
    /// The source: lines, columns, channels, channels of a group.
    pub(super) from: [usize; 4],
    /// Output channels of a group.
    pub(super) per_to: usize,
    pub(super) image: usize,
    /// Which lines and columns; zeros outside the image.
    pub(super) lines: Range<isize>,
    pub(super) columns: Range<isize>,
    /// The first output channel, and how many there are in all.
    pub(super) channel: usize,
    pub(super) k: usize,
}

impl Spread<'_> {
    /// Fills `to`, `[line][column][pixel]`, with the pixels as [`Take`] says: the channels of the one group; those of all
    /// the vector's groups; or for each channel of a group a vector. Zeros stand beyond the last output channel.
    #[inline(always)]
    pub(super) fn run<I: Isa>(&self, isa: I, to: &mut [f32]) {
        let [high, wide, c, per] = self.from;
        let take = Take::new(per, self.per_to, I::LANES);
        let pixel = take.pixel(per, I::LANES);
        let count = (self.k - self.channel).min(I::LANES);
        let width = (self.columns.end - self.columns.start) as usize;
        if width == 0 {
            return;
        }
        let left = (-self.columns.start).clamp(0, width as isize) as usize;
        let inside = (wide as isize - self.columns.start).clamp(left as isize, width as isize) as usize;
        for (line, to) in self.lines.clone().zip(to.chunks_exact_mut(width * pixel)) {
            if line < 0 || line >= high as isize {
                to.fill(0.0);
                continue;
            }
            to[..left * pixel].fill(0.0);
            to[inside * pixel..].fill(0.0);
            let first = (self.columns.start + left as isize) as usize;
            let x = &self.x[((self.image * high + line as usize) * wide + first) * c..][..(inside - left) * c];
            let pixels = x.chunks_exact(c).zip(to[left * pixel..inside * pixel].chunks_exact_mut(pixel));
            for (x, to) in pixels {
                match take {
                    Take::Broadcast => to.copy_from_slice(&x[self.channel / self.per_to * per..][..per]),
                    Take::Permute if count == I::LANES => isa.store(isa.load(&x[self.channel..]), to),
                    Take::Permute => {
                        to[..count].copy_from_slice(&x[self.channel..]);
                        to[count..].fill(0.0);
                    }
                    Take::Spread => {
                        for (j, to) in to.chunks_exact_mut(I::LANES).enumerate() {
                            for (lane, to) in to.iter_mut().enumerate() {
                                let k = self.channel + lane;
                                *to = if k < self.k { x[k / self.per_to * per + j] } else { 0.0 };
                            }
                        }
                    }
                }
            }
        }
    }
}
