//! Transformed filters: G w Gᵀ of one block of output channels.

use super::micro::{self, Positions, Square};
use super::scheme::Scheme;
use crate::conv2d::transposed::Transposed;
use crate::dispatch::Task;
use crate::gemm::micro::GROUP;
use crate::isa::Isa;
use crate::weights::WeightLayout;
use core::marker::PhantomData;

/// Filters to be transformed.
#[derive(Clone, Copy)]
pub(super) enum Weights<'a> {
    /// As they lie: `[k / B][c][9][B]`.
    Forward(&'a [f32], WeightLayout),
    /// Flipped, and channels exchanged, from the same layout.
    Flipped(&'a [f32], WeightLayout),
}

/// Some input channels of one block, as `[positions][channels][block]`.
pub(super) struct Filters<'a, 'p, S> {
    pub(super) scheme: PhantomData<S>,
    pub(super) weights: Weights<'a>,
    pub(super) block: usize,
    /// The block.
    pub(super) j: usize,
    /// First input channel: a multiple of 16.
    pub(super) first: usize,
    pub(super) channels: usize,
    /// Numbers from one position to the next.
    pub(super) position: usize,
    pub(super) u: &'p mut [f32],
}

impl<S: Scheme> Task for Filters<'_, '_, S> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (block, position) = (self.block, self.position);
        match self.weights {
            Weights::Forward(w, layout) => {
                let w = &w[layout.index(self.j * block, self.first, 0)..];
                for c in 0..self.channels {
                    let ahead = w.as_ptr().wrapping_add((c + AHEAD) * 9 * block);
                    for line in (0..9 * block).step_by(GROUP) {
                        isa.prefetch(ahead.wrapping_add(line));
                    }
                    filters::<S, I, false>(isa, &w[c * 9 * block..][..9 * block], block, &mut self.u[c * block..], position);
                }
            }
            Weights::Flipped(w, layout) => {
                // 16 channels times 16 columns at a time are exchanged into a small buffer: it lies on the stack.
                let mut exchanged = [0.0_f32; GROUP * 9 * GROUP];
                let how = Transposed { layout, kernel: 3, stride: [1; 2], first: [0, 0], taps: [3, 3] };
                for c in (0..self.channels).step_by(GROUP) {
                    for column in (0..block).step_by(GROUP) {
                        how.group(isa, w, (self.j * block + column, GROUP), self.first + c, &mut exchanged);
                        for i in 0..GROUP.min(self.channels - c) {
                            let w = &exchanged[i * 9 * GROUP..][..9 * GROUP];
                            filters::<S, I, true>(isa, w, GROUP, &mut self.u[(c + i) * block + column..], position);
                        }
                    }
                }
            }
        }
    }
}

/// Channels whose weights are called before they are needed: about as many as the memory's latency lasts.
const AHEAD: usize = 8;

/// One input channel's filters: `w` is `[9][block]`.
#[inline(always)]
fn filters<S: Scheme, I: Isa, const FLIP: bool>(isa: I, w: &[f32], block: usize, u: &mut [f32], position: usize) {
    for lane in (0..block).step_by(I::LANES) {
        let w = Square::whole::<I>(&w[lane..], [3 * block, block], 3);
        micro::filter::<S, I, FLIP>(isa, w, Positions::new::<I>(&mut u[lane..], S::FILTERS * S::FILTERS, position));
    }
}
