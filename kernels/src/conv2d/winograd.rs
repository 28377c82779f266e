//! 3x3 convolutions with fewer products, whose members ([`super::winograd4`], [`super::winograd2`],
//! [`super::nine`], and [`super::strided`] for stride 2) differ in their transforms alone.
//!
//! The output is cut into tiles. Both the input that a tile reads and the filter are transformed to some
//! positions per channel (36, 16, 9 or 49), there is one matrix product over the channels for each
//! position, and the result is transformed back to the tile's pixels. What tiles at the edge do not need is
//! left out: see [`order`].
//!
//! The input's gradient is the same computation on dy, with the filters flipped, channels exchanged
//! and the padding 2 − pad. For the weight's gradient see [`backward_weight`].
//!
//! Two schedules, by the size of the transformed filters and the number of tiles:
//!
//! * *by tiles*, where filters are small and tiles many: all filters are transformed first; then each part takes a few
//!   lines of tiles through all three stages, with its transformed input in the second-level cache.
//! * *by filters*, otherwise: a few images' tiles are transformed first; then each part
//!   takes one block of output channels, and transforms 128 input channels' filters at a time into its
//!   own cache, just before they are used. Transformed filters never go to memory.

#![allow(clippy::needless_range_loop)] // plain loops: see `Scheme`

mod backward_weight;
mod filters;
mod input;
#[allow(unsafe_code)]
mod micro;
mod order;
mod output;
mod plane;
mod product;
mod scheme;

pub(super) use scheme::{Line, Scheme};

use super::{BackwardInput, BackwardWeight, Finish, Forward, Pass, Uniform};
use crate::Level;
use crate::gemm::panel_rows;
use crate::parallel::{Chunks, Cpu, RowMap, Tile, Tiles};
use core::marker::PhantomData;
use filters::{Filters, Weights};
use input::Input;
use order::Order;
use output::Output;
use plane::{Panels, Plane};
use product::Products;

/// Transformed filters up to this many numbers are made all at once; more only for many parts.
const SHARED_FILTERS: usize = 36 * 128 * 128;
const MANY_PARTS: usize = 8;
/// Tiles of a part, by tiles: at least, but for half of it where this makes too few parts and the filters
/// are light.
const TILES: usize = 28;
/// Transformed filters up to this many numbers lie in the second-level cache beside everything else.
const LIGHT_FILTERS: usize = 36 * 64 * 64;
/// Parts, by tiles: at least.
const PARTS: usize = 4;
/// Input channels to sum over at a time: a block of their transformed filters fits the second-level
/// cache, one position of it the first.
const CHANNELS: usize = 128;
/// Tiles times channels of a piece, by filters.
const PIECE: usize = 32 << 10;

impl Plane {
    fn by_tiles(&self) -> bool {
        let (filters, parts) = (self.filter_positions() * self.k * self.c, self.parts(self.part()));
        filters <= SHARED_FILTERS && parts >= PARTS || filters <= 2 * SHARED_FILTERS && parts >= MANY_PARTS
    }
    /// Images and lines of tiles of a part, by tiles: whole images, or some lines of one.
    fn part(&self) -> [usize; 2] {
        let part = self.part_of(TILES);
        let light = self.filter_positions() * self.k * self.c <= LIGHT_FILTERS;
        if light && self.parts(part) < 4 * PARTS { self.part_of(TILES / 2) } else { part }
    }
    /// The same, of at least so many tiles, cut evenly.
    fn part_of(&self, tiles: usize) -> [usize; 2] {
        if self.image_tiles() >= 2 * tiles {
            let parts = (self.tiles[0] / tiles.div_ceil(self.tiles[1])).max(1);
            [1, self.tiles[0].div_ceil(parts)]
        } else {
            let parts = (self.n / tiles.div_ceil(self.image_tiles())).max(1);
            [self.n.div_ceil(parts), self.tiles[0]]
        }
    }
    /// How many parts of these images and lines there are.
    fn parts(&self, [images, lines]: [usize; 2]) -> usize {
        if images > 1 { self.n.div_ceil(images) } else { self.n * self.tiles[0].div_ceil(lines) }
    }
    fn part_tiles(&self) -> usize {
        let [images, lines] = self.part();
        images * lines * self.tiles[1]
    }
    /// Images of a piece, by filters.
    fn images(&self) -> usize {
        (PIECE / (self.groups() * crate::gemm::micro::GROUP * self.image_tiles())).clamp(1, self.n)
    }
    /// Input channels to sum over at a time.
    fn channels(&self) -> usize {
        CHANNELS.min(self.c)
    }
}

/// Whether 3x3 filters are moved by one pixel at a time: for a scheme without a stride.
pub(super) const fn accepts(conv: &Uniform) -> bool {
    conv.kernel == 3 && conv.stride == 1 && conv.pad <= 2
}

/// Numbers of scratch of a pass.
pub(super) fn scratch_len<S: Scheme>(conv: &Uniform, pass: Pass, threads: usize) -> usize {
    let s = match pass {
        Pass::Forward => Plane::forward::<S>(conv),
        Pass::BackwardInput => Plane::backward_input::<S>(conv),
        Pass::BackwardWeight => return backward_weight::scratch_len::<S>(conv, threads),
    };
    if s.by_tiles() {
        let tiles = s.part_tiles();
        s.blocks() * s.filter_len(s.c) + threads * (s.input_len(tiles) + s.product_len(tiles))
    } else {
        let tiles = s.images() * s.image_tiles();
        s.input_len(tiles) + threads * (s.filter_len(s.channels()) + s.product_len(tiles))
    }
}

/// How many row tiles [`forward`] has.
pub(crate) fn row_tiles<S: Scheme>(conv: &Uniform) -> usize {
    let s = Plane::forward::<S>(conv);
    if s.by_tiles() { s.parts(s.part()) } else { s.n.div_ceil(s.images()) }
}

/// y = x ⊛ w (+ y where `add`), then what `finish` says.
pub(super) fn forward<S: Scheme>(conv: &Uniform, cpu: &Cpu, call: Forward) {
    let Forward { x, w, y, add, finish, scratch } = call;
    let plane = &Plane::forward::<S>(conv);
    Run::<S> { plane, cpu, x, weights: Weights::Forward(w, conv.weights()), add, finish, scheme: PhantomData }.run(y, scratch);
}

/// dx = the input's gradient (+ dx where `add`).
pub(super) fn backward_input<S: Scheme>(conv: &Uniform, cpu: &Cpu, call: BackwardInput) {
    let BackwardInput { w, dy, dx, add, scratch } = call;
    let plane = &Plane::backward_input::<S>(conv);
    let weights = Weights::Flipped(w, conv.weights());
    Run::<S> { plane, cpu, x: dy, weights, add, finish: Finish::None, scheme: PhantomData }.run(dx, scratch);
}

/// dw = the weight's gradient (+ dw where `add`).
pub(super) fn backward_weight<S: Scheme>(conv: &Uniform, cpu: &Cpu, call: BackwardWeight) {
    backward_weight::run::<S>(conv, cpu, call);
}

/// Forward, or the input's gradient.
#[derive(Clone, Copy)]
struct Run<'a, S> {
    plane: &'a Plane,
    cpu: &'a Cpu<'a>,
    x: &'a [f32],
    weights: Weights<'a>,
    add: bool,
    finish: Finish<'a>,
    scheme: PhantomData<S>,
}

impl<S: Scheme> Run<'_, S> {
    fn run(&self, y: &mut [f32], scratch: &mut [f32]) {
        if self.plane.by_tiles() {
            // Parts of some lines must be of the same height.
            let lines = self.plane.part()[1];
            let plane = if lines < self.plane.tiles[0] { &self.plane.of_whole_lines() } else { self.plane };
            Run { plane, ..*self }.by_tiles(y, scratch);
        } else {
            self.by_filters(y, scratch);
        }
    }

    fn by_tiles(&self, y: &mut [f32], scratch: &mut [f32]) {
        let (s, level) = (self.plane, self.cpu.level);
        let (u, scratch) = scratch.split_at_mut(s.blocks() * s.filter_len(s.c));
        self.cpu.run(Chunks::new(u, s.filter_len(s.c), s.blocks()), &mut [], 0, |j, u, _| {
            level.run(self.filters(j, 0, s.c, u));
        });
        let u = &*u;
        let each = s.input_len(s.part_tiles()) + s.product_len(s.part_tiles());
        let pixels = s.out_h * s.out_w;
        let [images, lines] = s.part();
        let whole_images = lines == s.tiles[0];
        let rows = if whole_images { images * pixels } else { lines * s.out * s.out_w };
        let parts = Tiles::new(y, RowMap::plain(s.n * pixels, s.k), s.n * pixels, s.k, rows, s.k);
        let parts = if whole_images { parts } else { parts.with_period(pixels) };
        self.cpu.run(parts, scratch, each, |_, mut out, scratch| {
            let image = out.first_row() / pixels;
            let order = if whole_images {
                s.order(image, out.rows() / pixels)
            } else {
                let (line, lines) = (out.first_row() % pixels / (s.out * s.out_w), out.rows().div_ceil(s.out * s.out_w));
                Order { line, tiles: [lines, s.tiles[1]], whole: [lines, s.whole[1]], ..s.order(image, 1) }
            };
            let tiles = order.count();
            let panels = s.panels(tiles, rows_at(level, tiles));
            let (v, m) = scratch.split_at_mut(panels.len());
            for (panel, v) in v.chunks_mut(panels.each()).enumerate() {
                level.run(self.input(order, panels, panel, v));
            }
            for j in 0..s.blocks() {
                let u = &u[j * s.filter_len(s.c)..];
                for channel in (0..s.c).step_by(CHANNELS) {
                    let channels = CHANNELS.min(s.c - channel);
                    let u = &u[channel * s.block()..];
                    let position = s.filter_position(s.c);
                    let add = channel > 0;
                    level.run(Products { plane: s, order, panels, v, first: channel, channels, u, position, add, m });
                }
                level.run(self.output(m, order, j * s.block(), &mut out));
            }
            self.finish.tile(level, &mut out);
        });
    }

    fn by_filters(&self, y: &mut [f32], scratch: &mut [f32]) {
        let (s, level) = (self.plane, self.cpu.level);
        let pixels = s.out_h * s.out_w;
        let each_filter = s.filter_len(s.channels());
        for image in (0..s.n).step_by(s.images()) {
            let images = s.images().min(s.n - image);
            let order = s.order(image, images);
            let tiles = order.count();
            let panels = s.panels(tiles, rows_at(level, tiles));
            let (v, scratch) = scratch.split_at_mut(panels.len());
            self.cpu.run(Chunks::new(v, panels.each(), panels.count()), &mut [], 0, |panel, v, _| {
                level.run(self.input(order, panels, panel, v));
            });
            let v = &*v;
            let rows = images * pixels;
            let map = RowMap::plain(s.n * pixels, s.k);
            let parts = Tiles::from_row(y, map, image * pixels, rows, s.k, rows, s.block()).numbered_from(image / s.images());
            self.cpu.run(parts, scratch, each_filter + s.product_len(tiles), |j, mut out, scratch| {
                let (u, m) = scratch.split_at_mut(each_filter);
                for channel in (0..s.c).step_by(CHANNELS) {
                    let channels = CHANNELS.min(s.c - channel);
                    level.run(self.filters(j, channel, channels, u));
                    let position = s.filter_position(channels);
                    let add = channel > 0;
                    level.run(Products { plane: s, order, panels, v, first: channel, channels, u, position, add, m });
                }
                level.run(self.output(m, order, 0, &mut out));
                self.finish.tile(level, &mut out);
            });
        }
    }

    fn filters<'p>(&'p self, j: usize, first: usize, channels: usize, u: &'p mut [f32]) -> Filters<'p, 'p, S> {
        let position = self.plane.filter_position(channels);
        Filters { scheme: self.scheme, weights: self.weights, block: self.plane.block(), j, first, channels, position, u }
    }

    fn input<'p>(&'p self, order: Order, panels: Panels, panel: usize, v: &'p mut [f32]) -> Input<'p, 'p, S> {
        Input { scheme: self.scheme, plane: self.plane, x: self.x, order, first: 0, channel: 0, panels, panel, v }
    }

    fn output<'p, 't>(&'p self, m: &'p [f32], order: Order, column: usize, out: &'p mut Tile<'t>) -> Output<'p, 'p, 't, S> {
        Output { scheme: self.scheme, plane: self.plane, m, order, column, add: self.add, out }
    }
}

/// Tiles of a panel where so many tiles are cut evenly.
fn rows_at(level: Level, tiles: usize) -> usize {
    panel_rows(tiles, super::product::rows_at(level))
}
