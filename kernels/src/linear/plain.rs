//! A linear layer without packed panels, for builds without the feature `algorithms`: a convolution's code would be most of
//! what a trained head takes in a board's flash.
//!
//! The same bits as `gemm`: an output's products are summed over 144 inputs at a time, each sum from zero, and a weight's
//! gradient over the same pieces of rows.

use super::{BackwardWeight, Linear};
use crate::conv2d::backward_weight::rows_of_piece;
use crate::dispatch::Task;
use crate::gemm::micro::GROUP;
use crate::gemm::{add_row, sub_panel};
use crate::isa::Isa;
use crate::lanes::load_padded;
use crate::parallel::{Chunks, Cpu};
use crate::weights::WeightLayout;

/// y = x·Wᵀ (+ y where `add`).
///
/// # Panics
/// If a slice has another length than the layer says.
pub(super) fn forward(p: &Linear, cpu: &Cpu, x: &[f32], w: &[f32], y: &mut [f32], add: bool) {
    let layout = p.weights();
    assert_eq!(x.len(), p.n * p.inputs, "numbers of x of {p:?}");
    assert_eq!(w.len(), layout.len(), "numbers of w of {p:?}");
    assert_eq!(y.len(), p.n * p.outputs, "numbers of y of {p:?}");
    cpu.run(Chunks::new(y, p.outputs, p.n), &mut [], 0, |i, y, _| {
        cpu.level.run(Row { layout, x: &x[i * p.inputs..][..p.inputs], w, y, add });
    });
}

/// One row of y.
struct Row<'a, 'p> {
    layout: WeightLayout,
    x: &'a [f32],
    w: &'a [f32],
    y: &'p mut [f32],
    add: bool,
}

impl Task for Row<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if I::LANES <= 4 { self.vectors::<I, 4>(isa) } else { self.vectors::<I, 1>(isa) }
    }
}

impl Row<'_, '_> {
    /// `V` vectors of columns at a time: a block of weights has a whole number of them.
    #[inline(always)]
    fn vectors<I: Isa, const V: usize>(self, isa: I) {
        let block = self.layout.block();
        for (column, y) in self.y.chunks_mut(V * I::LANES).enumerate() {
            let column = column * V * I::LANES;
            let w = &self.w[column / block * self.layout.block_len()..][..self.layout.block_len()];
            let mut add = self.add;
            let depth = sub_panel(1) * GROUP;
            for (x, w) in self.x.chunks(depth).zip(w.chunks(depth * block)) {
                let mut sums = [isa.splat(0.0); V];
                for (x, w) in x.iter().zip(w.chunks_exact(block)) {
                    let (x, w) = (isa.splat(*x), &w[column % block..][..V * I::LANES]);
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = isa.fma(x, isa.load(&w[v * I::LANES..]), *sum);
                    }
                }
                add_row(isa, &sums, y, add);
                add = true;
            }
        }
    }
}

/// dw = dyᵀ·x (+ dw where `add`). The scratch is not used; its length says how rows are cut into pieces.
///
/// # Panics
/// If a slice has another length than its field says.
pub(super) fn backward_weight(p: &Linear, cpu: &Cpu, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, scratch } = call;
    let layout = p.weights();
    assert_eq!(x.len(), p.n * p.inputs, "numbers of x of {p:?}");
    assert_eq!(dy.len(), p.n * p.outputs, "numbers of dy of {p:?}");
    assert_eq!(dw.len(), layout.len(), "numbers of dw of {p:?}");
    let piece = rows_of_piece(&p.conv(), scratch.len());
    cpu.run(Chunks::new(dw, layout.block_len(), layout.blocks()), &mut [], 0, |i, dw, _| {
        cpu.level.run(Gradient { p, block: layout.block(), first: i * layout.block(), piece, x, dy, dw, add });
    });
}

/// A block of output columns.
struct Gradient<'a, 'p> {
    p: &'a Linear,
    block: usize,
    /// The first column of dy, and the rows of a piece.
    first: usize,
    piece: usize,
    x: &'a [f32],
    dy: &'a [f32],
    dw: &'p mut [f32],
    add: bool,
}

impl Task for Gradient<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if I::LANES <= 4 { self.pieces::<I, 4>(isa) } else { self.pieces::<I, 1>(isa) }
    }
}

impl Gradient<'_, '_> {
    #[inline(always)]
    fn pieces<I: Isa, const V: usize>(self, isa: I) {
        let Linear { inputs, outputs, .. } = *self.p;
        let mut add = self.add;
        for (x, dy) in self.x.chunks(self.piece * inputs).zip(self.dy.chunks(self.piece * outputs)) {
            for (input, dw) in self.dw.chunks_exact_mut(self.block).enumerate() {
                for (column, dw) in dw.chunks_exact_mut(V * I::LANES).enumerate() {
                    let column = self.first + column * V * I::LANES;
                    let mut sums = [isa.splat(0.0); V];
                    for (x, dy) in x.chunks_exact(inputs).zip(dy.chunks_exact(outputs)) {
                        let x = isa.splat(x[input]);
                        for (v, sum) in sums.iter_mut().enumerate() {
                            // Columns that fill up the block are zeros.
                            let dy = dy.get(column + v * I::LANES..).unwrap_or(&[]);
                            *sum = isa.fma(x, load_padded(isa, dy, 0.0), *sum);
                        }
                    }
                    add_row(isa, &sums, dw, add);
                }
            }
            add = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv2d::{self, Algorithm, Finish, Memory, Pass, product};
    use crate::testing::{Random, for_each_cpu};
    use std::vec;
    use std::vec::Vec;

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    /// Many inputs, so that there are several sums; many rows, so that there are several pieces. The convolution's `gemm` is
    /// called by its own name: by the algorithm's the test would be built with all of them.
    #[test]
    fn the_same_bits_as_the_convolution() {
        let mut random = Random::new(7);
        for (n, inputs, outputs) in [(1, 64, 10), (8, 143, 16), (3, 145, 33), (5, 450, 70), (2, 3, 1), (2049, 5, 3), (4099, 17, 20)] {
            let p = Linear { n, inputs, outputs };
            let layout = p.weights();
            let (x, dy) = (random.vector(n * inputs), random.vector(n * outputs));
            let mut w = vec![0.0; layout.len()];
            layout.pack(&random.vector(layout.numbers()), &mut w);
            for (memory, add) in [(Memory::Tiny, false), (Memory::Small, true), (Memory::Fast, true)] {
                for_each_cpu(|cpu| {
                    let of = |pass| p.conv().scratch_len(pass, Algorithm::Gemm, memory, cpu.threads.count());
                    let mut scratch = vec![f32::NAN; of(Pass::Forward).max(of(Pass::BackwardWeight))];
                    let (mut y, mut due) = (dy.clone(), dy.clone());
                    forward(&p, cpu, &x, &w, &mut y, add);
                    let call = conv2d::Forward { x: &x, w: &w, y: &mut due, add, finish: Finish::None, scratch: &mut scratch };
                    product::forward(&p.conv(), cpu, call);
                    assert!(bits(&y) == bits(&due), "forward of {p:?} at {}, add {add}", cpu.level);
                    let scratch = &mut scratch[..of(Pass::BackwardWeight)];
                    let (mut dw, mut due) = (w.clone(), w.clone());
                    backward_weight(&p, cpu, BackwardWeight { x: &x, dy: &dy, dw: &mut dw, add, scratch });
                    let call = BackwardWeight { x: &x, dy: &dy, dw: &mut due, add, scratch };
                    conv2d::backward_weight::backward_weight(&p.conv(), cpu, call);
                    assert!(bits(&dw) == bits(&due), "the weight's gradient of {p:?} at {} with {memory:?}, add {add}", cpu.level);
                });
            }
        }
    }
}
