//! The weight's gradient: `dw[k][c][tap] = Σ over pixels, x[pixel·stride + tap − pad][c] · dy[pixel][k]`.
//!
//! A few lines of the images at a time are copied into scratch: x with its padding in groups of 16
//! channels, dy in blocks of output channels. Then each part of dw (16 input channels of one block of
//! output channels: contiguous memory) belongs to one thread, which keeps a tile of it in registers
//! while the pixels pass by. No sum crosses threads, so their number changes no bit. Each piece's sum
//! starts from zero and is added to dw as a whole, which keeps the rounding error of long sums small.

use super::group::{self, Group};
use super::{BackwardWeight, Conv2d, thin as lines};
use crate::dispatch::Task;
use crate::gemm::for_vectors;
use crate::gemm::micro::{self, GROUP, Lines};
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu, RowMap, Tile, Tiles};

/// Pixels of a piece, about: enough to amortise the pass over dw.
const PIXELS: usize = 2048;

/// How the work is cut: bands of lines of one image, several bands a piece.
#[derive(Clone, Copy)]
struct Bands {
    /// Output lines of a band (the last of an image may have fewer).
    lines: usize,
    /// Bands of an image.
    per_image: usize,
    /// Bands of a piece.
    piece: usize,
    /// Numbers from one channel group's lines to the next group's (or, thin, from group to group
    /// inside a line).
    x_group: usize,
    /// Numbers of an x line with its padding.
    x_line: usize,
    /// Numbers from an output pixel to the next in x.
    x_pixel: usize,
    /// Numbers from a tap to the next in a line.
    x_tap: usize,
    /// Numbers of x in a band.
    x_band: usize,
    /// Numbers of dy in a band.
    dy_band: usize,
    /// Channels of a tap, and taps: [lines, columns].
    span: usize,
    taps: [usize; 2],
}

/// A convolution 1x1 of stride 1 has no lines: all pixels are one line, if that is not too long.
fn flat(conv: &Conv2d) -> Conv2d {
    let pixels = conv.n() * conv.h() * conv.w();
    if (conv.kernel(), conv.stride(), conv.pad()) == ([1; 2], [1; 2], [0; 2]) {
        let w = (1..=PIXELS.min(pixels)).rev().find(|w| pixels.is_multiple_of(*w)).unwrap_or(1);
        if pixels / w <= u32::MAX as usize {
            return conv.of_pixels(1, pixels / w, w);
        }
    }
    *conv
}

fn bands(group: &Group, budget: usize) -> Bands {
    let conv = &group.conv;
    let (oh, ow) = (conv.out_h(), conv.out_w());
    let ([step_h, step_w], [reach_h, reach_w]) = (conv.stride(), conv.reach());
    let padded = (ow - 1) * step_w + reach_w;
    let groups = conv.c().div_ceil(GROUP);
    let thin = group.thin();
    let (x_line, x_pixel, x_tap) =
        if thin { (padded * conv.c(), step_w * conv.c(), 0) } else { (padded * GROUP, step_w * GROUP, conv.dilation()[1] * GROUP) };
    let in_lines = |lines: usize| (lines - 1) * step_h + reach_h;
    let x_len = |lines: usize| in_lines(lines) * x_line * if thin { 1 } else { groups };
    let dy_len = |lines: usize| lines * ow * conv.weights().blocks() * conv.weights().block();
    let fits = |lines: usize| x_len(lines) + dy_len(lines) <= budget && lines * ow <= PIXELS;
    // No more than `fits` can allow, so that planning takes no longer for larger images.
    let lines = (1..=oh.min(PIXELS / ow)).rev().find(|&l| fits(l)).unwrap_or(1);
    let per_image = oh.div_ceil(lines);
    let lines = oh.div_ceil(per_image);
    let (x_band, dy_band) = (x_len(lines), dy_len(lines));
    let piece = (budget / (x_band + dy_band)).min(PIXELS / (lines * ow)).clamp(1, conv.n() * per_image);
    Bands {
        lines,
        per_image,
        piece,
        x_group: if thin { GROUP } else { in_lines(lines) * x_line },
        x_line,
        x_pixel,
        x_tap,
        x_band,
        dy_band,
        span: if thin { conv.kernel()[1] * conv.c() } else { conv.c() },
        taps: [conv.kernel()[0], if thin { 1 } else { conv.kernel()[1] }],
    }
}

/// Rows that a linear layer sums before it adds to dw, where the scratch has so many numbers.
#[cfg(any(test, not(feature = "algorithms")))]
pub(crate) fn rows_of_piece(conv: &Conv2d, scratch: usize) -> usize {
    let conv = flat(conv);
    let b = bands(&Group::nth(&conv, 0), scratch);
    b.piece * b.lines * conv.out_w()
}

/// Scratch of [`backward_weight`].
pub(crate) fn scratch_len(conv: &Conv2d, budget: usize) -> usize {
    let conv = flat(conv);
    let group = Group::nth(&conv, 0);
    let b = bands(&group, budget);
    let lines = if group.thin() { group.conv.weights().len() } else { 0 };
    group::own_len(&conv) + lines + b.piece * (b.x_band + b.dy_band)
}

/// dw = the weight's gradient (+ dw where `add`).
pub(crate) fn backward_weight(conv: &Conv2d, cpu: &Cpu, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, scratch } = call;
    let conv = &flat(conv);
    let (own, scratch) = scratch.split_at_mut(group::own_len(conv));
    group::gradients(conv, dw, add, own, |group, dw, add| {
        if group.thin() {
            let (gradient, scratch) = scratch.split_at_mut(group.conv.weights().len());
            let b = bands(group, scratch.len());
            pieces(group, cpu, b, BackwardWeight { x, dy, dw: gradient, add: false, scratch });
            lines::from_lines(&group.conv, gradient, dw, add);
        } else {
            let b = bands(group, scratch.len());
            pieces(group, cpu, b, BackwardWeight { x, dy, dw, add, scratch });
        }
    });
}

/// The gradient of a group's weights, or of its lines, piece by piece.
fn pieces(group: &Group, cpu: &Cpu, b: Bands, call: BackwardWeight) {
    let BackwardWeight { x, dy, dw, add, scratch } = call;
    let conv = &group.conv;
    let layout = conv.weights();
    let (block, blocks) = (layout.block(), layout.blocks());
    let taps = b.taps[0] * b.taps[1];
    let groups = b.span.div_ceil(GROUP);
    let all = conv.n() * b.per_image;
    for first in (0..all).step_by(b.piece) {
        let count = b.piece.min(all - first);
        let (xs, rest) = scratch.split_at_mut(count * b.x_band);
        let dys = &mut rest[..count * b.dy_band];
        let x_part = if group.thin() { b.x_band } else { b.x_group };
        let x_parts = b.x_band / x_part;
        cpu.run(Chunks::new(xs, x_part, count * x_parts), &mut [], 0, |i, part, _| {
            pad_lines(group, &b, x, first + i / x_parts, i % x_parts, part);
        });
        let dy_part = b.dy_band / blocks;
        cpu.run(Chunks::new(dys, dy_part, count * blocks), &mut [], 0, |i, part, _| {
            block_lines(group, &b, dy, first + i / blocks, i % blocks * block, block, part);
        });
        let (xs, dys) = (&*xs, &*dys);
        let tiles = Tiles::new(dw, RowMap::plain(blocks, b.span * taps * block), blocks, b.span * taps * block, 1, GROUP * taps * block);
        debug_assert_eq!(tiles.column_tiles(), groups);
        cpu.run(tiles, &mut [], 0, |i, out, _| {
            let job = Outer { conv, b, xs, dys, first, count, group: i % groups, j: i / groups, block, add: add || first > 0, out };
            cpu.level.run(job);
        });
    }
}

/// Image, first output line and number of output lines of a band.
fn band(conv: &Conv2d, b: &Bands, index: usize) -> (usize, usize, usize) {
    let (image, i) = (index / b.per_image, index % b.per_image);
    let line = i * b.lines;
    (image, line, b.lines.min(conv.out_h().saturating_sub(line)))
}

/// Copies the lines that a band reads, with zeros around the image: 16 channels, or (thin) all.
fn pad_lines(group: &Group, b: &Bands, x: &[f32], index: usize, sixteen: usize, part: &mut [f32]) {
    let conv = &group.conv;
    let (image, line, _) = band(conv, b, index);
    let (size, pad) = ([conv.h(), conv.w(), group.x.pixel], conv.pad()[1]);
    let top = (line * conv.stride()[0]) as isize - conv.pad()[0] as isize;
    for (i, to) in part.chunks_exact_mut(b.x_line).enumerate() {
        let y = top + i as isize;
        if group.thin() {
            lines::padded_line(x, size, pad, image, y, to);
            continue;
        }
        if y < 0 || y >= conv.h() as isize {
            to.fill(0.0);
            continue;
        }
        let from = &x[(image * conv.h() + y as usize) * conv.w() * group.x.pixel..][..conv.w() * group.x.pixel];
        let c = sixteen * GROUP;
        let channels = GROUP.min(conv.c() - c);
        let c = group.x.first + c;
        let (left, rest) = to.split_at_mut((pad * GROUP).min(to.len()));
        left.fill(0.0);
        let mut pixels = rest.chunks_exact_mut(GROUP);
        for (from, to) in from.chunks_exact(group.x.pixel).zip(&mut pixels) {
            if channels == GROUP {
                to.copy_from_slice(&from[c..c + GROUP]);
            } else {
                to[..channels].copy_from_slice(&from[c..c + channels]);
                to[channels..].fill(0.0);
            }
        }
        // What is left of the line lies to the right of the image.
        let done = left.len() + conv.w().min(rest.len() / GROUP) * GROUP;
        to[done..].fill(0.0);
    }
}

/// Copies one block of output channels of a band of dy.
fn block_lines(group: &Group, b: &Bands, dy: &[f32], index: usize, k: usize, block: usize, part: &mut [f32]) {
    let conv = &group.conv;
    let (image, line, lines) = band(conv, b, index);
    let (oh, ow) = (conv.out_h(), conv.out_w());
    let channels = block.min(conv.k() - k);
    let k = group.y.first + k;
    let from = &dy[(image * oh + line) * ow * group.y.pixel..][..lines * ow * group.y.pixel];
    for (from, to) in from.chunks_exact(group.y.pixel).zip(part.chunks_exact_mut(block)) {
        to[..channels].copy_from_slice(&from[k..k + channels]);
        to[channels..].fill(0.0);
    }
}

/// One part of dw: a group of input channels of a block of output channels.
struct Outer<'a, 't> {
    conv: &'a Conv2d,
    b: Bands,
    xs: &'a [f32],
    dys: &'a [f32],
    first: usize,
    count: usize,
    group: usize,
    j: usize,
    block: usize,
    add: bool,
    out: Tile<'t>,
}

impl Task for Outer<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for_vectors!(self.block, self.taps(isa));
    }
}

impl Outer<'_, '_> {
    #[inline(always)]
    fn taps<I: Isa, const V: usize>(mut self, isa: I) {
        let depth = GROUP.min(self.b.span - self.group * GROUP);
        for tap in 0..self.b.taps[0] * self.b.taps[1] {
            for column in (0..self.block).step_by(V * I::LANES) {
                let mut c = 0;
                while c < depth {
                    match (depth - c).min(I::GRADIENT_ROWS) {
                        8.. if const { I::GRADIENT_ROWS >= 8 } => self.tile::<I, 8, V>(isa, tap, c, column, &mut c),
                        6 | 7 if const { I::GRADIENT_ROWS >= 6 } => self.tile::<I, 6, V>(isa, tap, c, column, &mut c),
                        4..=7 => self.tile::<I, 4, V>(isa, tap, c, column, &mut c),
                        2 | 3 if const { I::LANES > 1 } => self.tile::<I, 2, V>(isa, tap, c, column, &mut c),
                        _ => self.tile::<I, 1, V>(isa, tap, c, column, &mut c),
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn tile<I: Isa, const R: usize, const V: usize>(&mut self, isa: I, tap: usize, c: usize, column: usize, next: &mut usize) {
        let (b, conv) = (&self.b, self.conv);
        let taps = b.taps[0] * b.taps[1];
        let (line, across) = (tap / b.taps[1], tap % b.taps[1]);
        let blocks = conv.weights().blocks();
        let mut acc = [[isa.splat(0.0); V]; R];
        for i in 0..self.count {
            let (_, _, lines) = band(conv, b, self.first + i);
            let x_line = conv.stride()[0] * b.x_line;
            let shape = Lines { lines, pixels: conv.out_w(), x_pixel: b.x_pixel, x_line, dy_pixel: self.block };
            let x = &self.xs[i * b.x_band + self.group * b.x_group + line * conv.dilation()[0] * b.x_line + across * b.x_tap + c..];
            let dy = &self.dys[(i * blocks + self.j) * (b.dy_band / blocks) + column..];
            micro::outer::<I, R, V>(isa, x, dy, shape, &mut acc);
        }
        let dw = self.out.row(0);
        for (r, acc) in acc.iter().enumerate() {
            let to = &mut dw[((c + r) * taps + tap) * self.block + column..];
            for (v, acc) in acc.iter().enumerate() {
                let to = &mut to[v * I::LANES..];
                let sum = if self.add { isa.add(isa.load(to), *acc) } else { *acc };
                isa.store(sum, to);
            }
        }
        *next = c + R;
    }
}
