//! The weight's gradient: `dw[k][c][tap] = Σ over pixels, x[pixel·stride + tap − pad][c] · dy[pixel][k]`.
//!
//! Bands of x are copied as the forward pass copies them, and dy beside them in the same order of rows,
//! by blocks of output channels: so a tap's pixels are two runs of memory, without lines or edges. Then
//! each part of dw (16 input channels of one block of output channels: contiguous memory) belongs to one
//! thread. It takes some rows at a time, so that their dy stays in the first-level cache, and for each tap
//! keeps tiles of dw in registers while the rows pass by. No sum crosses threads, so their number changes
//! no bit. Each run's sum starts from zero and is added to dw as a whole, which keeps the rounding error
//! of long sums small.

use super::{Band, Shape};
use crate::conv2d::direct::lines::CopyLines;
use crate::conv2d::{BackwardWeight, Uniform};
use crate::dispatch::Task;
use crate::gemm::for_vectors;
use crate::gemm::micro::{self, GROUP, Lines};
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu, RowMap, Tile, Tiles};

/// Rows of a run: 16 kB of dy.
const RUN: usize = 128;
/// Rows of a piece at most: no pass over dw is noticed then.
const ROWS: usize = 2048;

/// How the work is cut: bands of lines of one image, or of several images as a whole.
#[derive(Clone, Copy)]
struct Cut {
    images: usize,
    lines: usize,
    /// Bands of an image.
    per_image: usize,
    /// Bands of a piece.
    together: usize,
    /// Numbers of a band's copy of x and of dy.
    x_len: usize,
    dy_len: usize,
}

fn dy_len(conv: &Uniform, images: usize, lines: usize) -> usize {
    let layout = conv.weights();
    layout.blocks() * layout.block() * images * lines * conv.out_w()
}

fn cut(s: &Shape, conv: &Uniform, budget: usize) -> Cut {
    let (oh, ow) = (conv.out_h(), conv.out_w());
    let len = |images: usize, lines: usize| s.band_len(images, lines) + dy_len(conv, images, lines);
    let fits = |lines: &usize| len(1, *lines) <= budget;
    // No more than `fits` can allow, so that planning takes no longer for larger images.
    let lines = (1..=oh.min(ROWS.div_ceil(ow))).rev().find(fits).unwrap_or(1);
    let per_image = oh.div_ceil(lines);
    let lines = oh.div_ceil(per_image);
    let mut images = 1;
    if per_image == 1 {
        images = (budget / len(1, oh)).min(ROWS / (oh * ow)).clamp(1, conv.n);
        images = conv.n.div_ceil(conv.n.div_ceil(images));
    }
    let bands = conv.n.div_ceil(images) * per_image;
    let together = (budget / len(images, lines)).min(ROWS / (images * lines * ow)).clamp(1, bands);
    Cut { images, lines, per_image, together, x_len: s.band_len(images, lines), dy_len: dy_len(conv, images, lines) }
}

/// Scratch of [`run`].
pub(crate) fn scratch_len(conv: &Uniform, budget: usize) -> usize {
    let cut = cut(&Shape::forward(conv), conv, budget);
    cut.together * (cut.x_len + cut.dy_len)
}

/// dw = the weight's gradient (+ dw where `add`).
pub(crate) fn run(conv: &Uniform, cpu: &Cpu, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, scratch } = call;
    let s = Shape::forward(conv);
    let cut = cut(&s, conv, scratch.len());
    let layout = conv.weights();
    let (block, blocks, groups) = (layout.block(), layout.blocks(), s.groups());
    let bands = conv.n.div_ceil(cut.images) * cut.per_image;
    let nth = |index: usize| {
        let (image, line) = (index / cut.per_image * cut.images, index % cut.per_image * cut.lines);
        s.band(image, cut.images.min(s.n - image), line, cut.lines.min(s.out_h - line))
    };
    for first in (0..bands).step_by(cut.together) {
        let count = cut.together.min(bands - first);
        let (xs, rest) = scratch.split_at_mut(count * cut.x_len);
        let dys = &mut rest[..count * cut.dy_len];
        cpu.run(Chunks::new(xs, cut.x_len / groups, count * groups), &mut [], 0, |i, to, _| {
            cpu.level.run(CopyLines { s, band: nth(first + i / groups), x, first: i % groups, groups: 1, to });
        });
        cpu.run(Chunks::new(dys, cut.dy_len / blocks, count * blocks), &mut [], 0, |i, to, _| {
            copy_block(conv, &nth(first + i / blocks), dy, i % blocks * block, block, to);
        });
        let (xs, dys) = (&*xs, &*dys);
        let length = layout.block_len();
        let tiles = Tiles::new(dw, RowMap::plain(blocks, length), blocks, length, 1, GROUP * layout.taps() * block);
        cpu.run(tiles, &mut [], 0, |i, mut out, _| {
            let (j, group) = (i / groups, i % groups);
            for at in 0..count {
                let band = nth(first + at);
                let x = &xs[at * cut.x_len + group * cut.x_len / groups..][..band.group_len];
                let dy = &dys[at * cut.dy_len + j * cut.dy_len / blocks..][..cut.dy_len / blocks];
                let channels = GROUP.min(conv.c - group * GROUP);
                cpu.level.run(Outer { s, band, x, dy, channels, block, add: add || first + at > 0, out: &mut out });
            }
        });
    }
}

/// Copies one block of output channels of a band of dy, in the order of the copied lines.
fn copy_block(conv: &Uniform, band: &Band, dy: &[f32], k: usize, block: usize, to: &mut [f32]) {
    let (oh, ow) = (conv.out_h(), conv.out_w());
    let channels = block.min(conv.k - k);
    for (row, to) in to.chunks_exact_mut(block * ow).take(band.lines * band.images).enumerate() {
        let (line, image) = (band.line + row / band.images, band.image + row % band.images);
        let from = &dy[(image * oh + line) * ow * conv.k..][..ow * conv.k];
        for (from, to) in from.chunks_exact(conv.k).zip(to.chunks_exact_mut(block)) {
            to[..channels].copy_from_slice(&from[k..k + channels]);
            to[channels..].fill(0.0);
        }
    }
}

/// One part of dw: a group of input channels of a block of output channels.
struct Outer<'a, 'p, 't> {
    s: Shape,
    band: Band,
    /// The group's copy.
    x: &'a [f32],
    /// The block's copy, `[rows][block]`.
    dy: &'a [f32],
    channels: usize,
    block: usize,
    add: bool,
    /// `[channels][taps][block]`
    out: &'p mut Tile<'t>,
}

impl Task for Outer<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for_vectors!(self.block, self.runs(isa));
    }
}

impl Outer<'_, '_, '_> {
    #[inline(always)]
    fn runs<I: Isa, const V: usize>(mut self, isa: I) {
        let s = &self.s;
        let window = s.window(&self.band, [s.side(0), s.side(0)]);
        let rows = self.band.lines * self.band.images * s.grid_w;
        for row in (0..rows).step_by(RUN) {
            let count = RUN.min(rows - row);
            for i in 0..window.taps[0] {
                for j in 0..window.taps[1] {
                    let x = (window.line_at(i) + j as isize * window.column) as usize + row * GROUP;
                    for column in (0..self.block).step_by(V * I::LANES) {
                        let mut c = 0;
                        while c < self.channels {
                            let at = [x + c, (row * self.block) + column, count];
                            let to = (c * window.taps[0] * window.taps[1] + i * window.taps[1] + j) * self.block + column;
                            match (self.channels - c).min(I::GRADIENT_ROWS) {
                                8.. if const { I::GRADIENT_ROWS >= 8 } => self.tile::<I, 8, V>(isa, at, to, row > 0, &mut c),
                                6 | 7 if const { I::GRADIENT_ROWS >= 6 } => self.tile::<I, 6, V>(isa, at, to, row > 0, &mut c),
                                4..=7 => self.tile::<I, 4, V>(isa, at, to, row > 0, &mut c),
                                2 | 3 => self.tile::<I, 2, V>(isa, at, to, row > 0, &mut c),
                                _ => self.tile::<I, 1, V>(isa, at, to, row > 0, &mut c),
                            }
                        }
                    }
                }
            }
        }
    }

    /// `R` channels from where they begin in x; dy and the number of rows; the place in dw.
    #[inline(always)]
    fn tile<I: Isa, const R: usize, const V: usize>(
        &mut self,
        isa: I,
        [x, dy, rows]: [usize; 3],
        to: usize,
        again: bool,
        next: &mut usize,
    ) {
        let shape = Lines { lines: 1, pixels: rows, x_pixel: GROUP, x_line: 0, dy_pixel: self.block };
        let mut acc = [[isa.splat(0.0); V]; R];
        micro::outer::<I, R, V>(isa, &self.x[x..], &self.dy[dy..], shape, &mut acc);
        let dw = self.out.row(0);
        let channel = self.s.kernel * self.s.kernel * self.block;
        for (r, acc) in acc.iter().enumerate() {
            let to = &mut dw[to + r * channel..];
            for (v, acc) in acc.iter().enumerate() {
                let to = &mut to[v * I::LANES..];
                let sum = if self.add || again { isa.add(isa.load(to), *acc) } else { *acc };
                isa.store(sum, to);
            }
        }
        *next += R;
    }
}
