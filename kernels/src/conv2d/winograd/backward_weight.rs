//! The weight's gradient: the exact adjoint of the forward computation in the filters.
//!
//! Forward is `y = Aᵀ[(G w Gᵀ) ⊙ (Bᵀ x B)]A` per tile; so the gradient dU of the transformed filters is,
//! at each position, the product of the transformed inputs and of `A dy Aᵀ`, summed over the tiles, and
//! `dw = Gᵀ dU G`.
//!
//! dU is cut into squares of 64 input channels by 64 output channels (or one block of them), which fit a
//! second-level cache together with what they are made of. Two schedules, by the number of squares:
//!
//! * *few squares:* the tiles are dealt to lanes, as many as keep the threads busy; each lane of each
//!   square transforms its tiles, some at a time, into its own cache and sums for itself. At the end the
//!   lanes' sums are added in the order of the lanes.
//! * *many squares*, or few tiles: some tiles are transformed at a time, all channels of them, for all squares; each
//!   square sums over them and is transformed back.
//!
//! Squares, lanes and pieces depend on the shape alone: no bit depends on the threads.

use super::input::{self, Input};
use super::micro::{self, Pairs, Positions, Square};
use super::order::Order;
use super::plane::{Panels, Plane};
use super::scheme::Scheme;
use crate::conv2d::{BackwardWeight, Uniform};
use crate::dispatch::Task;
use crate::gemm::micro::GROUP;
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu, RowMap, Tiles};
use core::marker::PhantomData;

/// Channels of a square, input and, of few squares, output.
const SQUARE: usize = 64;
/// Squares that are few.
const FEW: usize = 4;
/// Squares times lanes, at most, where squares are few.
const PARTS: usize = 8;
/// Tiles of a lane, at least.
const LANE: usize = 32;
/// Tiles that a lane transforms at a time.
const TILES: usize = 56;
/// Tiles that are transformed at a time for many squares.
const PIECE: usize = 128;

/// How a convolution is cut.
#[derive(Clone, Copy)]
struct Cut {
    plane: Plane,
    /// Squares along the input channels, along the output channels.
    squares: [usize; 2],
    /// Blocks of output channels of a square.
    blocks: usize,
    lanes: usize,
    /// Tiles transformed at a time.
    tiles: usize,
}

impl Cut {
    fn new<S: Scheme>(conv: &Uniform) -> Cut {
        let plane = Plane::forward::<S>(conv);
        let blocks = SQUARE / plane.block();
        let squares = [conv.c.div_ceil(SQUARE), plane.blocks().div_ceil(blocks)];
        let all = plane.n * plane.image_tiles();
        let count = squares[0] * squares[1];
        // A single square whose tiles are too few for two lanes would be a single part.
        if count > FEW || count == 1 && all < 2 * LANE {
            return Cut { plane, squares: [squares[0], plane.blocks()], blocks: 1, lanes: 0, tiles: PIECE.min(all) };
        }
        let mut lanes = 1;
        while 2 * lanes * count <= PARTS && all >= 2 * lanes * LANE {
            lanes *= 2;
        }
        let lane = all.div_ceil(lanes);
        Cut { plane, squares, blocks, lanes, tiles: lane.div_ceil(lane.div_ceil(TILES)) }
    }
    /// Transformed inputs of a square.
    fn inputs(&self, tiles: usize) -> Panels {
        Panels { tiles, rows: tiles, groups: (SQUARE / GROUP).min(self.plane.groups()), unit: GROUP, positions: self.plane.positions }
    }
    /// Transformed gradients of a square.
    fn gradients(&self, tiles: usize) -> Panels {
        let unit = self.plane.block();
        Panels { tiles, rows: tiles, groups: self.blocks.min(self.plane.blocks()), unit, positions: self.plane.positions }
    }
    /// Numbers from one position of a square to the next, of input channel to the next.
    fn square(&self) -> [usize; 2] {
        let (inputs, gradients) = (self.inputs(1), self.gradients(1));
        let line = gradients.groups * gradients.unit;
        [inputs.groups * GROUP * line + GROUP, line]
    }
    /// Numbers of a square.
    fn square_len(&self) -> usize {
        self.plane.filter_positions() * self.square()[0]
    }
    /// Numbers of the transformed tiles that one square reads.
    fn tiles_len(&self) -> usize {
        self.inputs(self.tiles).len() + self.gradients(self.tiles).len()
    }
}

/// Scratch of [`run`].
pub(super) fn scratch_len<S: Scheme>(conv: &Uniform, threads: usize) -> usize {
    let cut = Cut::new::<S>(conv);
    if cut.lanes > 0 {
        cut.squares[0] * cut.squares[1] * cut.lanes * cut.square_len() + threads * cut.tiles_len()
    } else {
        let (inputs, gradients) = (cut.inputs(cut.tiles).len(), cut.gradients(cut.tiles).len());
        cut.squares[0] * inputs + cut.squares[1] * gradients + threads * cut.square_len()
    }
}

/// dw = the weight's gradient (+ dw where `add`).
pub(super) fn run<S: Scheme>(conv: &Uniform, cpu: &Cpu, call: BackwardWeight) {
    let cut = Cut::new::<S>(conv);
    if cut.lanes > 0 {
        few_squares::<S>(&cut, cpu, call);
    } else {
        many_squares::<S>(&cut, cpu, call);
    }
}

fn few_squares<S: Scheme>(cut: &Cut, cpu: &Cpu, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, scratch } = call;
    let (plane, lanes, scheme) = (&cut.plane, cut.lanes, PhantomData::<S>);
    let order = plane.order(0, plane.n);
    let all = order.count();
    let each = cut.square_len();
    let (u, scratch) = scratch.split_at_mut(cut.squares[0] * cut.squares[1] * lanes * each);
    let sums = Chunks::new(u, each, cut.squares[0] * cut.squares[1] * lanes);
    cpu.run(sums, scratch, cut.tiles_len(), |i, u, scratch| {
        let (square, lane) = (i / lanes, i % lanes);
        let (k, c) = (square / cut.squares[0], square % cut.squares[0]);
        let (from, to) = (all * lane / lanes, all * (lane + 1) / lanes);
        for first in (from..to).step_by(cut.tiles) {
            let tiles = cut.tiles.min(to - first);
            let (v, d) = scratch.split_at_mut(cut.inputs(tiles).len());
            cpu.level.run(Input { scheme, plane, x, order, first, channel: c * SQUARE, panels: cut.inputs(tiles), panel: 0, v });
            cpu.level.run(Gradient { scheme, plane, dy, order, first, channel: k * SQUARE, panels: cut.gradients(tiles), d });
            cpu.level.run(Outer { cut, v, d, order, first, tiles, channels: SQUARE.min(plane.c - c * SQUARE), add: first > from, u });
        }
    });
    let u = &*u;
    let row = plane.c * 9 * plane.block();
    let parts = Tiles::new(dw, RowMap::plain(plane.blocks(), row), plane.blocks(), row, 1, SQUARE * 9 * plane.block());
    cpu.run(parts, &mut [], 0, |i, mut out, _| {
        let (j, c) = (i / cut.squares[0], i % cut.squares[0]);
        let u = &u[(j / cut.blocks * cut.squares[0] + c) * lanes * each + j % cut.blocks * plane.block()..];
        cpu.level.run(Filters { scheme, cut, u, lanes, add, dw: out.row(0) });
    });
}

fn many_squares<S: Scheme>(cut: &Cut, cpu: &Cpu, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, scratch } = call;
    let (plane, scheme) = (&cut.plane, PhantomData::<S>);
    let order = plane.order(0, plane.n);
    let all = order.count();
    for first in (0..all).step_by(cut.tiles) {
        let tiles = cut.tiles.min(all - first);
        let (inputs, gradients) = (cut.inputs(tiles), cut.gradients(tiles));
        let (v, scratch) = scratch.split_at_mut(cut.squares[0] * inputs.len());
        let (d, scratch) = scratch.split_at_mut(cut.squares[1] * gradients.len());
        cpu.run(Chunks::new(v, inputs.len(), cut.squares[0]), &mut [], 0, |c, v, _| {
            cpu.level.run(Input { scheme, plane, x, order, first, channel: c * SQUARE, panels: inputs, panel: 0, v });
        });
        cpu.run(Chunks::new(d, gradients.len(), cut.squares[1]), &mut [], 0, |k, d, _| {
            cpu.level.run(Gradient { scheme, plane, dy, order, first, channel: k * plane.block(), panels: gradients, d });
        });
        let (v, d) = (&*v, &*d);
        let row = plane.c * 9 * plane.block();
        let parts = Tiles::new(dw, RowMap::plain(plane.blocks(), row), plane.blocks(), row, 1, SQUARE * 9 * plane.block());
        cpu.run(parts, scratch, cut.square_len(), |i, mut out, u| {
            let (k, c) = (i / cut.squares[0], i % cut.squares[0]);
            let (v, d) = (&v[c * inputs.len()..], &d[k * gradients.len()..]);
            cpu.level.run(Outer { cut, v, d, order, first, tiles, channels: SQUARE.min(plane.c - c * SQUARE), add: false, u });
            cpu.level.run(Filters { scheme, cut, u, lanes: 1, add: add || first > 0, dw: out.row(0) });
        });
    }
}

/// A dy Aᵀ for one square's output channels of some tiles, as `[positions][blocks][tiles][block]`.
struct Gradient<'a, 'p, S> {
    scheme: PhantomData<S>,
    plane: &'a Plane,
    dy: &'a [f32],
    order: Order,
    first: usize,
    /// The first output channel.
    channel: usize,
    panels: Panels,
    d: &'p mut [f32],
}

impl<S: Scheme> Task for Gradient<'_, '_, S> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (s, panels) = (self.plane, self.panels);
        let step = [s.out_w * s.k, s.k];
        let mut pixels = self.pixels(self.first);
        for tile in 0..panels.tiles {
            let (corner, there) = pixels;
            // The next tile's pixels are asked for while this one's are transformed.
            pixels = self.pixels(self.first + tile + 1);
            for lane in (0..panels.groups * panels.unit).step_by(I::LANES) {
                let d = &mut self.d[(lane / panels.unit * panels.tiles + tile) * panels.unit + lane % panels.unit..];
                let d = Positions::new::<I>(d, S::POSITIONS, panels.position(panels.tiles));
                let channel = self.channel + lane;
                if lane % GROUP == 0 {
                    let next = self.dy.as_ptr().wrapping_offset(pixels.0 + channel as isize);
                    micro::ask(isa, next, step, pixels.1);
                }
                let corner = corner + channel as isize;
                if channel + I::LANES > s.k {
                    let (y, some) = input::some(self.dy, corner, step, there, s.k.saturating_sub(channel));
                    micro::output_adjoint::<S, I>(isa, Square::new::<I>(&y, 0, some, there), d);
                } else if there == [[0, S::OUT]; 2] {
                    micro::output_adjoint::<S, I>(isa, Square::new::<I>(self.dy, corner, step, [[0, S::OUT]; 2]), d);
                } else {
                    micro::output_adjoint::<S, I>(isa, Square::new::<I>(self.dy, corner, step, there), d);
                }
            }
        }
    }
}

impl<S: Scheme> Gradient<'_, '_, S> {
    /// Where in dy a tile begins, and its lines and columns; none behind the last tile.
    #[inline(always)]
    fn pixels(&self, tile: usize) -> (isize, [[usize; 2]; 2]) {
        let s = self.plane;
        if tile >= self.order.count() {
            return (0, [[0; 2]; 2]);
        }
        let [image, line, column] = self.order.tile(tile);
        let ([top, high], [left, wide]) = (s.pixels(0, line), s.pixels(1, column));
        ((((image * s.out_h + top) * s.out_w + left) * s.k) as isize, [[0, high], [0, wide]])
    }
}

/// The sums of one square over some tiles: `u` is `[positions][channels][output channels]`.
struct Outer<'a, 'p> {
    cut: &'a Cut,
    /// `[positions][groups][tiles][16]`
    v: &'a [f32],
    /// `[positions][blocks][tiles][block]`
    d: &'a [f32],
    order: Order,
    first: usize,
    tiles: usize,
    /// Input channels.
    channels: usize,
    add: bool,
    u: &'p mut [f32],
}

impl Task for Outer<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        if const { I::LANES == 16 } {
            if self.cut.plane.block() < 32 { self.positions::<I, 8, 1>(isa) } else { self.positions::<I, 8, 2>(isa) }
        } else if const { I::LANES == 8 } {
            self.positions::<I, 4, 2>(isa)
        } else {
            self.positions::<I, 4, 4>(isa)
        }
    }
}

impl Outer<'_, '_> {
    /// Channels beyond the last hold whatever the transform left there and are not read afterwards.
    #[inline(always)]
    fn positions<I: Isa, const R: usize, const V: usize>(&mut self, isa: I) {
        let (inputs, gradients) = (self.cut.inputs(self.tiles), self.cut.gradients(self.tiles));
        let [position, line] = self.cut.square();
        for p in 0..inputs.positions {
            let needed = self.order.needed(p, self.first..self.first + self.tiles);
            let (filter, first) = self.cut.plane.filter_of(p);
            for column in (0..line).step_by(V * I::LANES) {
                let (block, lane) = (column / gradients.unit, column % gradients.unit);
                let d = &self.d[p * gradients.position(self.tiles) + (block * self.tiles + needed.start) * gradients.unit + lane..];
                for c in (0..self.channels).step_by(R) {
                    let x = &self.v[p * inputs.position(self.tiles) + (c / GROUP * self.tiles + needed.start) * GROUP + c % GROUP..];
                    let u = &mut self.u[filter * position + c * line + column..];
                    let pairs = Pairs { x, d, step: gradients.unit, tiles: needed.len() };
                    micro::outer::<I, R, V>(isa, pairs, u, line, self.add || !first);
                }
            }
        }
    }
}

/// `Gᵀ dU G` of one block of output channels.
struct Filters<'a, 'p, S> {
    scheme: PhantomData<S>,
    cut: &'a Cut,
    /// Where the block begins in the first lane's square.
    u: &'a [f32],
    lanes: usize,
    add: bool,
    /// `[channels][9][block]`
    dw: &'p mut [f32],
}

impl<S: Scheme> Task for Filters<'_, '_, S> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let block = self.cut.plane.block();
        let [position, line] = self.cut.square();
        let dw = self.dw;
        let (mut sums, mut taps) = ([0.0; super::scheme::MOST * super::scheme::MOST * GROUP], [0.0; 9 * GROUP]);
        for c in 0..dw.len() / (9 * block) {
            for lane in (0..block).step_by(I::LANES) {
                let u = &self.u[c * line + lane..];
                let square = if self.lanes == 1 {
                    Square::whole::<I>(u, [S::FILTERS * position, position], S::FILTERS)
                } else {
                    for p in 0..S::FILTERS * S::FILTERS {
                        let mut sum = isa.load(&u[p * position..]);
                        for other in 1..self.lanes {
                            sum = isa.add(sum, isa.load(&u[other * self.cut.square_len() + p * position..]));
                        }
                        isa.store(sum, &mut sums[p * GROUP..]);
                    }
                    Square::whole::<I>(&sums, [S::FILTERS * GROUP, GROUP], S::FILTERS)
                };
                micro::filter_adjoint::<S, I>(isa, square, Positions::new::<I>(&mut taps, 9, I::LANES));
                for t in 0..9 {
                    let to = &mut dw[(c * 9 + t) * block + lane..];
                    let value = isa.load(&taps[t * I::LANES..]);
                    let sum = if self.add { isa.add(isa.load(to), value) } else { value };
                    isa.store(sum, to);
                }
            }
        }
    }
}
