//! The weight's gradient by F(4x4, 3x3): the exact adjoint of the forward computation in the filters.
//!
//! Forward is y = Aᵀ[(G w Gᵀ) ⊙ (Bᵀ x B)]A per tile; so the gradient of the transformed filters is, at
//! each of the 36 positions, the product of the transformed inputs and of A dy Aᵀ, summed over the
//! tiles, and dw = Gᵀ dU G.
//!
//! A few images' tiles are transformed at a time; then each part of dw (16 input channels of one block
//! of output channels) belongs to one thread. No sum crosses threads.

#![allow(clippy::needless_range_loop)] // plain loops: see `transforms::Transform`

use super::transforms::{self, Transform};
use super::{IN, OUT, POSITIONS, Shape, TransformInput, load_some};
use crate::conv2d::Conv2d;
use crate::dispatch::Task;
use crate::gemm::micro::{self, GROUP, Lines};
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu, RowMap, Tile, Tiles};

/// Numbers of transformed tiles that are made at a time, about.
const PIECE: usize = 1 << 20;
/// Numbers of a part's gradient of transformed filters, at most: `[36][16][32]`.
const PART: usize = POSITIONS * GROUP * 32;

/// Images of a piece.
fn images(s: &Shape) -> usize {
    let of_image = POSITIONS * s.image_tiles() * (s.groups() * GROUP + s.blocks() * s.block());
    (PIECE / of_image).clamp(1, s.n)
}

/// Numbers of a block of output channels of `tiles` transformed tiles of dy.
fn block_len(s: &Shape, tiles: usize) -> usize {
    POSITIONS * Shape::position_len(tiles, s.block())
}

/// Scratch of [`run`].
pub(crate) fn scratch_len(conv: &Conv2d, threads: usize) -> usize {
    let s = Shape::forward(conv);
    let tiles = images(&s) * s.image_tiles();
    s.groups() * Shape::group_len(tiles) + s.blocks() * block_len(&s, tiles) + threads * PART
}

/// dw = the weight's gradient (+ dw where `add`).
pub(crate) fn run(conv: &Conv2d, cpu: &Cpu, x: &[f32], dy: &[f32], dw: &mut [f32], add: bool, scratch: &mut [f32]) {
    let s = Shape::forward(conv);
    let block = s.block();
    for image in (0..s.n).step_by(images(&s)) {
        let images = images(&s).min(s.n - image);
        let (first, tiles) = (image * s.image_tiles(), images * s.image_tiles());
        let (v, scratch) = scratch.split_at_mut(s.groups() * Shape::group_len(tiles));
        let (d, scratch) = scratch.split_at_mut(s.blocks() * block_len(&s, tiles));
        cpu.run(Chunks::new(v, Shape::group_len(tiles), s.groups()), &mut [], 0, |group, v, _| {
            cpu.level.run(TransformInput { s, x, group, first, tiles, v });
        });
        cpu.run(Chunks::new(d, block_len(&s, tiles), s.blocks()), &mut [], 0, |j, d, _| {
            cpu.level.run(TransformGradient { s, dy, column: j * block, first, tiles, d });
        });
        let (v, d) = (&*v, &*d);
        let row = s.c * 9 * block;
        let parts = Tiles::new(dw, RowMap::plain(s.blocks(), row), s.blocks(), row, 1, GROUP * 9 * block);
        cpu.run(parts, scratch, PART, |i, out, u| {
            let (j, group) = (i / s.groups(), i % s.groups());
            let v = &v[group * Shape::group_len(tiles)..];
            let d = &d[j * block_len(&s, tiles)..];
            cpu.level.run(Outer { s, v, d, group, tiles, add: add || image > 0, u, out });
        });
    }
}

/// A dy Aᵀ for one block of output channels of some tiles, as `[36][tiles][block]`.
struct TransformGradient<'a, 'p> {
    s: Shape,
    dy: &'a [f32],
    column: usize,
    first: usize,
    tiles: usize,
    d: &'p mut [f32],
}

impl Task for TransformGradient<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (s, block) = (&self.s, self.s.block());
        let position = Shape::position_len(self.tiles, block);
        let zero = isa.splat(0.0);
        for tile in 0..self.tiles {
            let t = self.first + tile;
            let (image, t) = (t / s.image_tiles(), t % s.image_tiles());
            let (top, left) = (t / s.tiles[1] * OUT, t % s.tiles[1] * OUT);
            for lane in (0..block).step_by(I::LANES) {
                let channel = self.column + lane;
                let there = s.k.saturating_sub(channel).min(I::LANES);
                let mut y = [[zero; OUT]; OUT];
                for p in 0..OUT * OUT {
                    let (line, column) = (top + p / OUT, left + p % OUT);
                    if there > 0 && line < s.out_h && column < s.out_w {
                        let at = ((image * s.out_h + line) * s.out_w + column) * s.k + channel;
                        y[p / OUT][p % OUT] = load_some(isa, &self.dy[at..], there);
                    }
                }
                let y = transforms::OutputAdjoint::square(isa, y);
                let d = &mut self.d[tile * block + lane..];
                for p in 0..POSITIONS {
                    isa.store(y[p / IN][p % IN], &mut d[p * position..]);
                }
            }
        }
    }
}

/// One part of dw: sums over the tiles, then Gᵀ dU G.
struct Outer<'a, 'p, 't> {
    s: Shape,
    /// `[36][tiles][16]`
    v: &'a [f32],
    /// `[36][tiles][block]`
    d: &'a [f32],
    group: usize,
    tiles: usize,
    add: bool,
    /// `[36][16][block]`
    u: &'p mut [f32],
    out: Tile<'t>,
}

impl Task for Outer<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        match (I::LANES, I::COLUMNS.min(self.s.block()) / I::LANES) {
            (16, 1) => self.positions::<I, 8, 1>(isa),
            (16, _) => self.positions::<I, 8, 2>(isa),
            (8, _) => self.positions::<I, 4, 2>(isa),
            _ => self.positions::<I, 4, 4>(isa),
        }
        self.filters(isa);
    }
}

impl Outer<'_, '_, '_> {
    /// The sums over the tiles. Channels beyond the last hold whatever the transform left there and
    /// are not read afterwards.
    #[inline(always)]
    fn positions<I: Isa, const R: usize, const V: usize>(&mut self, isa: I) {
        let block = self.s.block();
        let channels = GROUP.min(self.s.c - self.group * GROUP);
        let shape = Lines { lines: 1, pixels: self.tiles, x_pixel: GROUP, x_line: 0, dy_pixel: block };
        for p in 0..POSITIONS {
            let v = &self.v[p * Shape::position_len(self.tiles, GROUP)..][..self.tiles * GROUP];
            let d = &self.d[p * Shape::position_len(self.tiles, block)..][..self.tiles * block];
            for column in (0..block).step_by(V * I::LANES) {
                for c in (0..channels).step_by(R) {
                    let mut acc = [[isa.splat(0.0); V]; R];
                    micro::outer::<I, R, V>(isa, &v[c..], &d[column..], shape, &mut acc);
                    for (r, acc) in acc.iter().enumerate() {
                        for (i, acc) in acc.iter().enumerate() {
                            isa.store(*acc, &mut self.u[(p * GROUP + c + r) * block + column + i * I::LANES..]);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn filters<I: Isa>(&mut self, isa: I) {
        let block = self.s.block();
        let (add, u) = (self.add, &*self.u);
        let dw = self.out.row(0);
        for c in 0..GROUP.min(self.s.c - self.group * GROUP) {
            for lane in (0..block).step_by(I::LANES) {
                let mut numbers = [[isa.splat(0.0); IN]; IN];
                for p in 0..POSITIONS {
                    numbers[p / IN][p % IN] = isa.load(&u[(p * GROUP + c) * block + lane..]);
                }
                let taps = transforms::FilterAdjoint::square(isa, numbers);
                for t in 0..9 {
                    let to = &mut dw[(c * 9 + t) * block + lane..];
                    let value = taps[t / 3][t % 3];
                    let sum = if add { isa.add(isa.load(to), value) } else { value };
                    isa.store(sum, to);
                }
            }
        }
    }
}
