//! The weight's gradient by F(4, 4): the exact adjoint of the forward computation in the filters.
//!
//! Forward is y = Aᵀ[(G w) ⊙ (Bᵀ x)] per tile, so the gradient of the transformed filters is, at each
//! point, the product of the transformed input and of A dy, summed over the tiles, and dw = Gᵀ du. How
//! the output lines are shared out is [`super::super::backward_weight`]'s.

#![allow(clippy::needless_range_loop)] // plain loops: see `transforms::Transform`

use super::transforms::{FilterAdjoint, OutputAdjoint, Transform};
use super::{GROUP, OUT, POINTS, Shape, TAPS};
use crate::conv2d::stem::backward_weight::{self, PIXELS};
use crate::conv2d::stem::part_lines;
use crate::conv2d::{BackwardWeight, Uniform};
use crate::dispatch::Task;
use crate::gemm::micro::{self, Lines};
use crate::gemm::{for_rows, for_vectors, panel_rows};
use crate::isa::Isa;
use crate::lanes::load_padded;
use crate::parallel::Cpu;

/// Output lines whose tiles are summed at a time: as many tiles as a plain sum takes pixels.
fn lines_at_once(conv: &Uniform) -> usize {
    part_lines(conv, OUT * PIXELS)
}

/// Numbers that a thread needs: an input line, transformed lines, transformed dy of a block of output
/// channels, and the gradient of the transformed filters.
fn own_len(s: &Shape) -> [usize; 4] {
    let (lines, layout) = (lines_at_once(&s.conv), s.conv.weights());
    [s.line(), s.transformed(lines), POINTS * lines * s.tiles * layout.block(), layout.blocks() * s.filters()]
}

/// Scratch of [`run`].
pub(crate) fn scratch_len(conv: &Uniform, threads: usize) -> usize {
    backward_weight::parts_len(conv) + threads * own_len(&Shape::new(conv)).iter().sum::<usize>()
}

/// dw = the weight's gradient (+ dw where `add`).
pub(crate) fn run(conv: &Uniform, cpu: &Cpu, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, scratch } = call;
    let s = Shape::new(conv);
    let [line, transformed, d, du] = own_len(&s);
    backward_weight::by_parts(conv, cpu, dw, add, scratch, line + transformed + d + du, |first, end, sum, scratch| {
        let (line, scratch) = scratch.split_at_mut(line);
        let (transformed, scratch) = scratch.split_at_mut(transformed);
        let (d, du) = scratch.split_at_mut(d);
        cpu.level.run(Sum { s, x, dy, first, end, line, transformed, d, du, sum });
    });
}

/// The gradient of some output lines.
struct Sum<'a, 'p> {
    s: Shape,
    x: &'a [f32],
    dy: &'a [f32],
    /// First output line and the one behind the last, over all images.
    first: usize,
    end: usize,
    line: &'p mut [f32],
    transformed: &'p mut [f32],
    /// `[point][line][tile][block]`
    d: &'p mut [f32],
    /// Blocks of `[point][filter line][number of a group][block]`.
    du: &'p mut [f32],
    /// As dw.
    sum: &'p mut [f32],
}

/// Where a tile lies in the gradient of the transformed filters.
#[derive(Clone, Copy)]
struct Place {
    /// The block of output channels, and the first of them there.
    j: usize,
    column: usize,
    /// The point.
    p: usize,
    /// The filter line.
    i: usize,
    /// The first number of a group.
    row: usize,
}

impl Task for Sum<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for_vectors!(self.s.conv.weights().block(), self.lines(isa));
    }
}

impl Sum<'_, '_> {
    #[inline(always)]
    fn lines<I: Isa, const V: usize>(mut self, isa: I) {
        let s = self.s;
        let (high, blocks) = (s.conv.out_h(), s.conv.weights().blocks());
        let most = lines_at_once(&s.conv);
        let mut line = self.first;
        while line < self.end {
            let lines = most.min(high - line % high).min(self.end - line);
            s.inputs(isa, self.x, line, lines, self.line, self.transformed);
            for j in 0..blocks {
                self.outputs(isa, line, lines, j);
                self.tiles::<I, V>(isa, lines, j, line > self.first);
            }
            line += lines;
        }
        for j in 0..blocks {
            self.filters(isa, j);
        }
    }

    /// A dy of one block of output channels.
    #[inline(always)]
    fn outputs<I: Isa>(&mut self, isa: I, line: usize, lines: usize, j: usize) {
        let (k, wide, block) = (self.s.conv.k, self.s.conv.out_w(), self.s.conv.weights().block());
        let point = lines * self.s.tiles * block;
        for i in 0..lines * self.s.tiles {
            let (y, pixel) = (line + i / self.s.tiles, i % self.s.tiles * OUT);
            for lane in (0..block).step_by(I::LANES) {
                let column = (j * block + lane).min(k);
                for o in 0..OUT {
                    // Blocks of pixels are no order that a CPU foresees.
                    isa.prefetch(self.dy.as_ptr().wrapping_add((y * wide + pixel + 2 * OUT + o) * k + column));
                }
                let there = I::LANES.min(k - column);
                let mut pixels = [isa.splat(0.0); OUT];
                for o in 0..OUT {
                    if pixel + o < wide {
                        pixels[o] = load_padded(isa, &self.dy[(y * wide + pixel + o) * k + column..][..there], 0.0);
                    }
                }
                let d = OutputAdjoint::line(isa, pixels);
                for p in 0..POINTS {
                    isa.store(d[p], &mut self.d[p * point + i * block + lane..]);
                }
            }
        }
    }

    /// What these lines add to the gradient of the transformed filters.
    #[inline(always)]
    fn tiles<I: Isa, const V: usize>(&mut self, isa: I, lines: usize, j: usize, add: bool) {
        let (kernel, block) = (self.s.conv.kernel, self.s.conv.weights().block());
        let panel = panel_rows(self.s.group, I::ROWS);
        for column in (0..block).step_by(V * I::LANES) {
            for p in 0..POINTS {
                for i in 0..kernel {
                    for row in (0..self.s.group).step_by(panel) {
                        macro_rules! tile {
                            ($n:literal) => {
                                self.tile::<I, $n, V>(isa, lines, Place { j, column, p, i, row }, add)
                            };
                        }
                        for_rows!(isa, panel.min(self.s.group - row), tile!(1 2 3 4 5 6 7 8));
                    }
                }
            }
        }
    }

    /// What `lines` output lines add to a tile.
    #[inline(always)]
    fn tile<I: Isa, const R: usize, const V: usize>(&mut self, isa: I, lines: usize, place: Place, add: bool) {
        let (s, Place { j, column, p, i, row }) = (&self.s, place);
        let block = s.conv.weights().block();
        let x_line = s.transformed_line();
        let shape = Lines { lines, pixels: s.tiles, x_pixel: GROUP, x_line: s.conv.stride * x_line, dy_pixel: block };
        let x = &self.transformed[i * x_line + p * s.point() + row..];
        let d = &self.d[p * lines * s.tiles * block + column..];
        let mut acc = [[isa.splat(0.0); V]; R];
        micro::outer::<I, R, V>(isa, x, d, shape, &mut acc);
        let du = &mut self.du[j * s.filters() + (p * s.depth() + i * s.group + row) * block + column..];
        for (r, acc) in acc.iter().enumerate() {
            for (v, acc) in acc.iter().enumerate() {
                let to = &mut du[r * block + v * I::LANES..];
                let sum = if add { isa.add(isa.load(to), *acc) } else { *acc };
                isa.store(sum, to);
            }
        }
    }

    /// Gᵀ du of one block of output channels.
    #[inline(always)]
    fn filters<I: Isa>(&mut self, isa: I, j: usize) {
        let (s, layout) = (&self.s, self.s.conv.weights());
        let block = layout.block();
        let du = &self.du[j * s.filters()..][..s.filters()];
        let sum = &mut self.sum[j * layout.block_len()..][..layout.block_len()];
        for t in 0..s.depth() {
            for lane in (0..block).step_by(I::LANES) {
                let mut u = [isa.splat(0.0); POINTS];
                for p in 0..POINTS {
                    u[p] = isa.load(&du[(p * s.depth() + t) * block + lane..]);
                }
                let taps = FilterAdjoint::line(isa, u);
                for q in 0..TAPS {
                    if let Some(at) = s.tap(t / s.group, t % s.group, q) {
                        isa.store(taps[q], &mut sum[at + lane..]);
                    }
                }
            }
        }
    }
}
