//! 3x3 convolutions of stride 1 with a quarter of the products: Winograd's F(4x4, 3x3).
//!
//! The output is cut into tiles of 4 x 4 pixels, each of which reads 6 x 6 pixels of input. Both the
//! input tile and the filter are transformed to 36 numbers per channel (see [`transforms`]), there is
//! one matrix product over the channels for each of the 36 positions, and the result is transformed
//! back: 36 products for 16 pixels instead of 144.
//!
//! The input's gradient is the same computation on dy, with the filters flipped, channels exchanged
//! and the padding 2 − pad. For the weight's gradient see [`backward_weight`].
//!
//! Two schedules, by the size of the transformed filters:
//!
//! * *by tiles*, where they are small: all filters are transformed first; then each part takes a few
//!   lines of tiles through all three stages, with its transformed input in the second-level cache.
//! * *by filters*, where they are large: a few images' tiles are transformed first; then each part
//!   takes one block of output channels, and transforms 128 input channels' filters at a time into its
//!   own cache, just before they are used. Transformed filters never go to memory.

#![allow(clippy::needless_range_loop)] // plain loops: see `transforms::Transform`

pub(crate) mod backward_weight;
mod transforms;

use super::transposed::Transposed;
use super::{Conv2d, Finish};
use crate::dispatch::Task;
use crate::gemm::micro::{self, GROUP};
use crate::gemm::panel_rows;
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu, RowMap, Tile, Tiles};
use crate::weights::{WeightLayout, block};
use transforms::Transform;

/// Pixels of a tile in each direction.
const OUT: usize = 4;
/// Pixels that a tile reads in each direction.
const IN: usize = 6;
/// Positions of a transformed tile.
const POSITIONS: usize = IN * IN;
/// Transformed filters up to this many numbers are made all at once.
const SHARED_FILTERS: usize = 36 * 128 * 128;
/// Tiles of a part, by tiles: at least.
const TILES: usize = 28;
/// Input channels whose filters are transformed at a time, by filters.
const CHANNELS: usize = 128;
/// Tiles times channels of a piece, by filters.
const PIECE: usize = 32 << 10;

/// A convolution as this file sees it: either pass.
#[derive(Clone, Copy)]
struct Shape {
    n: usize,
    h: usize,
    w: usize,
    c: usize,
    out_h: usize,
    out_w: usize,
    k: usize,
    pad: usize,
    /// Tiles of an image: lines, columns.
    tiles: [usize; 2],
}

impl Shape {
    fn new(n: usize, [h, w, c]: [usize; 3], [out_h, out_w, k]: [usize; 3], pad: usize) -> Shape {
        Shape { n, h, w, c, out_h, out_w, k, pad, tiles: [out_h.div_ceil(OUT), out_w.div_ceil(OUT)] }
    }
    fn forward(conv: &Conv2d) -> Shape {
        Self::new(conv.n, [conv.h, conv.w, conv.c], [conv.out_h(), conv.out_w(), conv.k], conv.pad)
    }
    fn backward_input(conv: &Conv2d) -> Shape {
        Self::new(conv.n, [conv.out_h(), conv.out_w(), conv.k], [conv.h, conv.w, conv.c], 2 - conv.pad)
    }
    fn groups(&self) -> usize {
        self.c.div_ceil(GROUP)
    }
    fn block(&self) -> usize {
        block(self.k)
    }
    fn blocks(&self) -> usize {
        self.k.div_ceil(self.block())
    }
    fn image_tiles(&self) -> usize {
        self.tiles[0] * self.tiles[1]
    }
    fn by_tiles(&self) -> bool {
        self.blocks() * self.filter_len(self.groups() * GROUP) <= SHARED_FILTERS + self.blocks() * POSITIONS * GROUP
    }
    /// Numbers of one block of transformed filters, for so many input channels. The 36 positions lie a
    /// cache line further apart than they are long: powers of two would share the same few sets.
    fn filter_len(&self, channels: usize) -> usize {
        POSITIONS * (channels * self.block() + GROUP)
    }
    /// Lines of tiles of a part, by tiles.
    fn tile_lines(&self) -> usize {
        TILES.div_ceil(self.tiles[1]).min(self.tiles[0])
    }
    /// Images of a piece, by filters.
    fn images(&self) -> usize {
        (PIECE / (self.groups() * GROUP * self.image_tiles())).clamp(1, self.n)
    }
    /// Numbers of a group of 16 channels of `tiles` transformed tiles.
    fn group_len(tiles: usize) -> usize {
        POSITIONS * Self::position_len(tiles, GROUP)
    }
    /// Numbers of one position of `tiles` tiles.
    fn position_len(tiles: usize, width: usize) -> usize {
        tiles * width + GROUP
    }
    /// Numbers of a part's products.
    fn product_len(&self, tiles: usize) -> usize {
        POSITIONS * Self::position_len(tiles, self.block())
    }
    fn scratch_len(&self, threads: usize) -> usize {
        if self.by_tiles() {
            let tiles = self.tile_lines() * self.tiles[1];
            let each = self.groups() * Self::group_len(tiles) + self.product_len(tiles);
            self.blocks() * self.filter_len(self.c) + threads * each
        } else {
            let tiles = self.images() * self.image_tiles();
            self.groups() * Self::group_len(tiles) + threads * (self.filter_len(CHANNELS.min(self.c)) + self.product_len(tiles))
        }
    }
}

/// Filters to be transformed.
#[derive(Clone, Copy)]
enum Filters<'a> {
    /// As they lie: `[k / B][c][9][B]`.
    Forward(&'a [f32], WeightLayout),
    /// Flipped, and channels exchanged, from the same layout.
    Flipped(&'a [f32], WeightLayout),
}

/// Whether this algorithm can do a convolution.
pub(crate) const fn accepts(conv: &Conv2d) -> bool {
    conv.kernel == 3 && conv.stride == 1 && conv.pad <= 2
}

/// Scratch of both passes that are here.
pub(crate) fn scratch_len(conv: &Conv2d, backward: bool, threads: usize) -> usize {
    (if backward { Shape::backward_input(conv) } else { Shape::forward(conv) }).scratch_len(threads)
}

/// How many row tiles [`forward`] has.
pub(crate) fn row_tiles(conv: &Conv2d) -> usize {
    let s = Shape::forward(conv);
    if s.by_tiles() { s.n * s.tiles[0].div_ceil(s.tile_lines()) } else { s.n.div_ceil(s.images()) }
}

/// y = x ⊛ w (+ y where `add`), then what `finish` says.
#[allow(clippy::too_many_arguments)] // as `Conv2d::forward`
pub(crate) fn forward(conv: &Conv2d, cpu: &Cpu, x: &[f32], w: &[f32], y: &mut [f32], add: bool, finish: Finish, scratch: &mut [f32]) {
    run(Shape::forward(conv), cpu, x, Filters::Forward(w, conv.weights()), y, add, finish, scratch);
}

/// dx = the input's gradient (+ dx where `add`).
pub(crate) fn backward_input(conv: &Conv2d, cpu: &Cpu, w: &[f32], dy: &[f32], dx: &mut [f32], add: bool, scratch: &mut [f32]) {
    run(Shape::backward_input(conv), cpu, dy, Filters::Flipped(w, conv.weights()), dx, add, Finish::None, scratch);
}

#[allow(clippy::too_many_arguments)]
fn run(s: Shape, cpu: &Cpu, x: &[f32], filters: Filters, y: &mut [f32], add: bool, finish: Finish, scratch: &mut [f32]) {
    if s.by_tiles() {
        by_tiles(s, cpu, x, filters, y, add, finish, scratch)
    } else {
        by_filters(s, cpu, x, filters, y, add, finish, scratch)
    }
}

#[allow(clippy::too_many_arguments)]
fn by_tiles(s: Shape, cpu: &Cpu, x: &[f32], filters: Filters, y: &mut [f32], add: bool, finish: Finish, scratch: &mut [f32]) {
    let each_filter = s.filter_len(s.c);
    let (u, scratch) = scratch.split_at_mut(s.blocks() * each_filter);
    cpu.run(Chunks::new(u, each_filter, s.blocks()), &mut [], 0, |j, u, _| {
        cpu.level.run(TransformFilters { filters, block: s.block(), j, first: 0, channels: s.c, u });
    });
    let u = &*u;
    let lines = s.tile_lines();
    let most = lines * s.tiles[1];
    let each = s.groups() * Shape::group_len(most) + s.product_len(most);
    let pixels = s.out_h * s.out_w;
    let parts = Tiles::new(y, RowMap::plain(s.n * pixels, s.k), s.n * pixels, s.k, lines * OUT * s.out_w, s.k).with_period(pixels);
    cpu.run(parts, scratch, each, |_, mut out, scratch| {
        let image = out.first_row() / pixels;
        let line = out.first_row() % pixels / s.out_w / OUT;
        let first = image * s.image_tiles() + line * s.tiles[1];
        let tiles = out.rows().div_ceil(OUT * s.out_w) * s.tiles[1];
        let (v, m) = scratch.split_at_mut(s.groups() * Shape::group_len(tiles));
        for group in 0..s.groups() {
            let v = &mut v[group * Shape::group_len(tiles)..];
            cpu.level.run(TransformInput { s, x, group, first, tiles, v });
        }
        for j in 0..s.blocks() {
            let u = &u[j * each_filter..];
            cpu.level.run(Products { s, v, group: 0, u, channels: s.c, tiles, add: false, m });
            cpu.level.run(TransformOutput { s, m, first, tiles, column: j * s.block(), add, out: &mut out });
        }
        finish.tile(cpu.level, &mut out);
    });
}

#[allow(clippy::too_many_arguments)]
fn by_filters(s: Shape, cpu: &Cpu, x: &[f32], filters: Filters, y: &mut [f32], add: bool, finish: Finish, scratch: &mut [f32]) {
    let pixels = s.out_h * s.out_w;
    let each_filter = s.filter_len(CHANNELS.min(s.c));
    for image in (0..s.n).step_by(s.images()) {
        let images = s.images().min(s.n - image);
        let (first, tiles) = (image * s.image_tiles(), images * s.image_tiles());
        let (v, scratch) = scratch.split_at_mut(s.groups() * Shape::group_len(tiles));
        cpu.run(Chunks::new(v, Shape::group_len(tiles), s.groups()), &mut [], 0, |group, v, _| {
            cpu.level.run(TransformInput { s, x, group, first, tiles, v });
        });
        let v = &*v;
        let (rows, block) = (images * pixels, s.block());
        let parts =
            Tiles::from_row(y, RowMap::plain(s.n * pixels, s.k), image * pixels, rows, s.k, rows, block).numbered_from(image / s.images());
        cpu.run(parts, scratch, each_filter + s.product_len(tiles), |j, mut out, scratch| {
            let (u, m) = scratch.split_at_mut(each_filter);
            for channel in (0..s.c).step_by(CHANNELS) {
                let channels = CHANNELS.min(s.c - channel);
                cpu.level.run(TransformFilters { filters, block, j, first: channel, channels, u });
                cpu.level.run(Products { s, v, group: channel / GROUP, u, channels, tiles, add: channel > 0, m });
            }
            cpu.level.run(TransformOutput { s, m, first, tiles, column: 0, add, out: &mut out });
            finish.tile(cpu.level, &mut out);
        });
    }
}

/// G g Gᵀ for one block of output channels and some input channels, as `[36][channels][block]`.
struct TransformFilters<'a, 'p> {
    filters: Filters<'a>,
    block: usize,
    /// The block.
    j: usize,
    /// First input channel: a multiple of 16.
    first: usize,
    channels: usize,
    u: &'p mut [f32],
}

impl Task for TransformFilters<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let position = self.channels * self.block + GROUP;
        match self.filters {
            Filters::Forward(w, layout) => {
                let w = &w[layout.index(self.j * self.block, self.first, 0)..];
                for c in 0..self.channels {
                    let w = &w[c * 9 * self.block..][..9 * self.block];
                    filter_tile::<I, false>(isa, w, self.block, &mut self.u[c * self.block..], position);
                }
            }
            Filters::Flipped(w, layout) => {
                // 16 channels at a time are exchanged into a small buffer.
                let mut exchanged = [0.0_f32; GROUP * 9 * 32];
                let how = Transposed { layout, kernel: 3, stride: 1, first: [0, 0], taps: [3, 3] };
                for c in (0..self.channels).step_by(GROUP) {
                    let exchanged = &mut exchanged[..GROUP * 9 * self.block];
                    how.group(isa, w, (self.j * self.block, self.block), self.first + c, exchanged);
                    for i in 0..GROUP.min(self.channels - c) {
                        let w = &exchanged[i * 9 * self.block..][..9 * self.block];
                        filter_tile::<I, true>(isa, w, self.block, &mut self.u[(c + i) * self.block..], position);
                    }
                }
            }
        }
    }
}

/// One input channel's filters: `w` is `[9][block]`, positions of `u` lie `position` apart.
#[inline(always)]
fn filter_tile<I: Isa, const FLIP: bool>(isa: I, w: &[f32], block: usize, u: &mut [f32], position: usize) {
    for lane in (0..block).step_by(I::LANES) {
        let mut g = [[isa.splat(0.0); 3]; 3];
        for t in 0..9 {
            let tap = if FLIP { 8 - t } else { t };
            g[t / 3][t % 3] = isa.load(&w[tap * block + lane..]);
        }
        let g = transforms::Filter::square(isa, g);
        for p in 0..POSITIONS {
            isa.store(g[p / IN][p % IN], &mut u[p * position + lane..]);
        }
    }
}

/// Bᵀ d B for one group of 16 channels of some tiles, as `[36][tiles][16]`.
struct TransformInput<'a, 'p> {
    s: Shape,
    x: &'a [f32],
    group: usize,
    first: usize,
    tiles: usize,
    v: &'p mut [f32],
}

impl Task for TransformInput<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let s = &self.s;
        let position = Shape::position_len(self.tiles, GROUP);
        let zero = isa.splat(0.0);
        for tile in 0..self.tiles {
            let t = self.first + tile;
            let (image, t) = (t / s.image_tiles(), t % s.image_tiles());
            let top = (t / s.tiles[1] * OUT) as isize - s.pad as isize;
            let left = (t % s.tiles[1] * OUT) as isize - s.pad as isize;
            for lane in (0..GROUP).step_by(I::LANES) {
                let channel = self.group * GROUP + lane;
                let there = s.c.saturating_sub(channel).min(I::LANES);
                if there == 0 {
                    continue; // nothing reads these
                }
                let mut d = [[zero; IN]; IN];
                let inside = top >= 0 && left >= 0 && top as usize + IN <= s.h && left as usize + IN <= s.w;
                if inside && there == I::LANES {
                    let line = s.w * s.c;
                    let corner = image * s.h * line + top as usize * line + left as usize * s.c + channel;
                    for p in 0..POSITIONS {
                        d[p / IN][p % IN] = isa.load(&self.x[corner + p / IN * line + p % IN * s.c..]);
                    }
                } else {
                    for p in 0..POSITIONS {
                        let (y, x) = (top + (p / IN) as isize, left + (p % IN) as isize);
                        if y >= 0 && x >= 0 && y < s.h as isize && x < s.w as isize {
                            let at = ((image * s.h + y as usize) * s.w + x as usize) * s.c + channel;
                            d[p / IN][p % IN] = load_some(isa, &self.x[at..], there);
                        }
                    }
                }
                let d = transforms::Input::square(isa, d);
                let v = &mut self.v[tile * GROUP + lane..];
                for p in 0..POSITIONS {
                    isa.store(d[p / IN][p % IN], &mut v[p * position..]);
                }
            }
        }
    }
}

/// The first `count` numbers of `x`, zeros behind them.
#[inline(always)]
fn load_some<I: Isa>(isa: I, x: &[f32], count: usize) -> I::V {
    if count == I::LANES {
        return isa.load(x);
    }
    let mut part = [0.0; GROUP];
    part[..count].copy_from_slice(&x[..count]);
    isa.load(&part)
}

/// The 36 matrix products of one block of output channels: `m` is `[36][tiles][block]`.
struct Products<'a, 'p> {
    s: Shape,
    /// `[groups][36][tiles][16]`
    v: &'a [f32],
    /// The first group to be read.
    group: usize,
    /// `[36][channels][block]`
    u: &'a [f32],
    channels: usize,
    tiles: usize,
    add: bool,
    m: &'p mut [f32],
}

impl Task for Products<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match (I::LANES, I::COLUMNS.min(self.s.block()) / I::LANES) {
            (16, 1) => self.positions::<I, 1>(isa),
            (16 | 8, _) => self.positions::<I, 2>(isa),
            _ => self.positions::<I, 4>(isa),
        }
    }
}

impl Products<'_, '_> {
    #[inline(always)]
    fn positions<I: Isa, const V: usize>(mut self, isa: I) {
        let panel = panel_rows(self.tiles, I::ROWS);
        for p in 0..POSITIONS {
            for column in (0..self.s.block()).step_by(V * I::LANES) {
                for row in (0..self.tiles).step_by(panel) {
                    macro_rules! tile {
                        ($n:literal) => {
                            self.tile::<I, $n, V>(isa, p, column, row)
                        };
                    }
                    crate::gemm::for_rows!(panel.min(self.tiles - row), tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14));
                }
            }
        }
    }

    #[inline(always)]
    fn tile<I: Isa, const R: usize, const V: usize>(&mut self, isa: I, p: usize, column: usize, row: usize) {
        let block = self.s.block();
        let group = Shape::group_len(self.tiles);
        let groups = self.channels.div_ceil(GROUP);
        let a =
            &self.v[self.group * group + p * Shape::position_len(self.tiles, GROUP) + row * GROUP..][..(groups - 1) * group + R * GROUP];
        let b = &self.u[p * (self.channels * block + GROUP)..][..self.channels * block];
        let b = &b[column..];
        let m = &mut self.m[p * Shape::position_len(self.tiles, block) + row * block + column..];
        let mut acc = [[isa.splat(0.0); V]; R];
        micro::multiply_groups::<I, R, V>(isa, a, group, b, self.channels, block, &mut acc);
        for (r, acc) in acc.iter().enumerate() {
            for (v, acc) in acc.iter().enumerate() {
                let to = &mut m[r * block + v * I::LANES..];
                let sum = if self.add { isa.add(isa.load(to), *acc) } else { *acc };
                isa.store(sum, to);
            }
        }
    }
}

/// Aᵀ m A for one block of output channels: writes, or adds to, the pixels of `out`.
struct TransformOutput<'a, 'p, 't> {
    s: Shape,
    m: &'a [f32],
    first: usize,
    tiles: usize,
    /// The block's first column in `out`.
    column: usize,
    add: bool,
    out: &'p mut Tile<'t>,
}

impl Task for TransformOutput<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (s, block) = (&self.s, self.s.block());
        let position = Shape::position_len(self.tiles, block);
        let width = (self.out.columns() - self.column).min(block);
        for tile in 0..self.tiles {
            let t = self.first + tile;
            let (image, t) = (t / s.image_tiles(), t % s.image_tiles());
            let (top, left) = (t / s.tiles[1] * OUT, t % s.tiles[1] * OUT);
            let (high, wide) = (OUT.min(s.out_h - top), OUT.min(s.out_w - left));
            for lane in (0..width).step_by(I::LANES) {
                let m = &self.m[tile * block + lane..];
                let mut products = [[isa.splat(0.0); IN]; IN];
                for p in 0..POSITIONS {
                    products[p / IN][p % IN] = isa.load(&m[p * position..]);
                }
                let pixels = transforms::Output::square(isa, products);
                let there = (width - lane).min(I::LANES);
                for y in 0..OUT {
                    if y >= high {
                        break;
                    }
                    let pixel = (image * s.out_h + top + y) * s.out_w + left - self.out.first_row();
                    for x in 0..OUT {
                        if x >= wide {
                            break;
                        }
                        let to = &mut self.out.row(pixel + x)[self.column + lane..][..there];
                        let value = pixels[y][x];
                        if there == I::LANES {
                            let sum = if self.add { isa.add(isa.load(to), value) } else { value };
                            isa.store(sum, to);
                        } else {
                            let mut part = [0.0; GROUP];
                            isa.store(value, &mut part);
                            to.iter_mut().zip(&part).for_each(|(y, v)| *y = if self.add { *y + *v } else { *v });
                        }
                    }
                }
            }
        }
    }
}
