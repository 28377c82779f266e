//! dx and dw, and both with the update in one pass over the weights: ranges of input channels with
//! all output channels.

use super::super::{BackwardInput, BackwardStep, BackwardWeight, Uniform};
use super::micro::{self, Fixed, Weights};
use super::pairs::Pairs;
use crate::dispatch::Task;
use crate::isa::Isa;
use crate::parallel::{Cpu, RowMap, Tile, Tiles};
use crate::sgd::{Rule, Sgd};

/// The most slots that are taken at a time at any level.
const MOST: usize = 16;

/// The most slots that are taken at a time at a level: a sum and a vector of dy for each are in registers.
const fn most<I: Isa>() -> usize {
    if I::ROWS > 8 { MOST } else { 8 }
}

/// Input channels of a part: enough that a part reads long runs of weights, and that arranging dy
/// anew for each is little beside them.
const fn range(conv: &Uniform) -> usize {
    if conv.kernel == 1 && conv.c > 256 { 64 } else { 32 }
}

/// Scratch of a thread for so many slots at a time: dy by tap, x, lanes to be summed, a channel's gradient.
fn rooms(conv: &Uniform, pairs: &Pairs) -> [usize; 4] {
    let block = conv.weights().block();
    let channels = range(conv).min(conv.c);
    [pairs.dy_rows * block, channels * pairs.slots, channels * pairs.slots * crate::lanes::MOST, conv.weights().taps() * block]
        .map(|numbers| numbers.next_multiple_of(16))
}

fn each(conv: &Uniform) -> usize {
    // Levels with shorter vectors take fewer slots at a time, and never more in all.
    rooms(conv, &Pairs::new(conv, MOST)).iter().sum()
}

/// Scratch of every pass.
pub(crate) fn scratch_len(conv: &Uniform, threads: usize) -> usize {
    threads * each(conv)
}

/// dx = the input's gradient (+ dx where `add`).
pub(crate) fn backward_input(conv: &Uniform, cpu: &Cpu, call: BackwardInput) {
    let BackwardInput { w, dy, dx, add, scratch } = call;
    cpu.run(inputs(conv, dx), scratch, each(conv), |_, dx, scratch| {
        let first = dx.first_column();
        cpu.level.run(Part { conv, dy, x: &[], first, dx: Some((dx, add)), what: What::Read(w), scratch });
    });
}

/// dw = the weight's gradient (+ dw where `add`).
pub(crate) fn backward_weight(conv: &Uniform, cpu: &Cpu, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, scratch } = call;
    let row = conv.weights().taps() * conv.weights().block();
    cpu.run(weights(conv, dw), scratch, each(conv), |_, dw, scratch| {
        let first = dw.first_column() / row;
        cpu.level.run(Part { conv, dy, x, first, dx: None, what: What::Gradient(dw, add), scratch });
    });
}

/// One step of SGD of `w` with its gradient, which is never stored; dx (where there is one) is of the
/// weights before the step.
pub(crate) fn step(conv: &Uniform, cpu: &Cpu, sgd: &Sgd, call: BackwardStep) {
    let BackwardStep { x, dy, w, momentum, first, dx, add, scratch } = call;
    let row = conv.weights().taps() * conv.weights().block();
    let (w, buffered, each) = (weights(conv, w), sgd.momentum != 0.0, each(conv));
    let run = |w: Tile, momentum: Option<Tile>, dx: Option<Tile>, scratch: &mut [f32]| {
        let (channel, dx) = (w.first_column() / row, dx.map(|dx| (dx, add)));
        cpu.level.run(Part { conv, dy, x, first: channel, dx, what: What::Step { w, momentum, sgd, first }, scratch });
    };
    match (buffered, dx) {
        (false, None) => cpu.run(w, scratch, each, |_, w, scratch| run(w, None, None, scratch)),
        (false, Some(dx)) => {
            cpu.run((w, inputs(conv, dx)), scratch, each, |_, (w, dx), scratch| run(w, None, Some(dx), scratch));
        }
        (true, None) => {
            cpu.run((w, weights(conv, momentum)), scratch, each, |_, (w, m), scratch| run(w, Some(m), None, scratch));
        }
        (true, Some(dx)) => cpu.run((w, weights(conv, momentum), inputs(conv, dx)), scratch, each, |_, (w, m, dx), scratch| {
            run(w, Some(m), Some(dx), scratch);
        }),
    }
}

/// dx in ranges of channels.
fn inputs<'a>(conv: &Uniform, dx: &'a mut [f32]) -> Tiles<'a> {
    let pixels = conv.n * conv.h * conv.w;
    Tiles::new(dx, RowMap::plain(pixels, conv.c), pixels, conv.c, pixels, range(conv))
}

/// w or what lies like it in ranges of input channels, with all blocks as rows.
fn weights<'a>(conv: &Uniform, w: &'a mut [f32]) -> Tiles<'a> {
    let layout = conv.weights();
    let row = layout.taps() * layout.block();
    Tiles::new(w, RowMap::plain(layout.blocks(), conv.c * row), layout.blocks(), conv.c * row, layout.blocks(), range(conv) * row)
}

/// What becomes of the weights.
enum What<'a, 't> {
    Read(&'a [f32]),
    Gradient(Tile<'t>, bool),
    Step { w: Tile<'t>, momentum: Option<Tile<'t>>, sgd: &'a Sgd, first: bool },
}

/// A range of input channels.
struct Part<'a, 't> {
    conv: &'a Uniform,
    dy: &'a [f32],
    /// Not read where only dx is wanted.
    x: &'a [f32],
    /// The first input channel.
    first: usize,
    dx: Option<(Tile<'t>, bool)>,
    what: What<'a, 't>,
    scratch: &'t mut [f32],
}

impl Task for Part<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let pairs = Pairs::new(self.conv, most::<I>());
        let [dy, x, sums, partial] = rooms(self.conv, &pairs);
        let (dy, rest) = self.scratch.split_at_mut(dy);
        let (x, rest) = rest.split_at_mut(x);
        let (sums, rest) = rest.split_at_mut(sums);
        let partial = &mut rest[..partial];
        let conv = self.conv;
        let channels = range(conv).min(conv.c - self.first);
        if !matches!(self.what, What::Read(_)) {
            x.fill(0.0);
            pairs.for_each_pixel(
                #[inline(always)]
                |pixel, slot| {
                    let from = &self.x[pixel * conv.c + self.first..][..channels];
                    for (c, v) in from.iter().enumerate() {
                        x[c * pairs.slots + slot] = *v;
                    }
                },
            );
        }
        if self.dx.is_some() {
            sums[..channels * pairs.slots * I::LANES].fill(0.0);
        }
        let layout = conv.weights();
        let (block, row) = (layout.block(), layout.taps() * layout.block());
        for j in 0..layout.blocks() {
            pairs.arrange(self.dy, j * block, block.min(conv.k - j * block), block, I::LANES, dy);
            let fixed = Fixed { pairs: &pairs, kernel: conv.kernel, stride: conv.stride, block, channels, dy, x };
            let mut weights = match &mut self.what {
                What::Read(w) => Weights::Read(&w[j * layout.block_len() + self.first * row..][..channels * row]),
                What::Gradient(dw, add) => Weights::Gradient(dw.row(j), *add),
                What::Step { w, momentum, sgd, first } => {
                    let momentum = momentum.as_mut().map_or(&mut [][..], |m| m.row(j));
                    Weights::Step(w.row(j), momentum, Rule::new(isa, sgd, *first))
                }
            };
            macro_rules! walk {
                ($($n:literal)+) => {
                    match (pairs.rows, self.dx.is_some()) {
                        $(
                            // What does not fit the registers of `I` is never compiled.
                            ($n, true) if $n <= most::<I>() => micro::walk::<I, $n, true>(isa, &fixed, &mut weights, sums, partial),
                            ($n, false) if $n <= most::<I>() => micro::walk::<I, $n, false>(isa, &fixed, &mut weights, sums, partial),
                        )+
                        (rows, _) => unreachable!("{rows} slots at a time"),
                    }
                };
            }
            walk!(1 2 4 8 16);
        }
        if let Some((dx, add)) = &mut self.dx {
            pairs.for_each_pixel(
                #[inline(always)]
                |pixel, slot| {
                    for (c, to) in dx.row(pixel).iter_mut().enumerate() {
                        let sum = isa.sum(isa.load(&sums[(c * pairs.slots + slot) * I::LANES..]));
                        *to = if *add { *to + sum } else { sum };
                    }
                },
            );
        }
    }
}
