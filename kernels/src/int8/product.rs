//! Convolutions of one group: a matrix product over bytes as they lie, or as they were copied with their padding.
//!
//! A part of the work is some bands of pixels (see [`super::pixels`]) and as many blocks of output channels as have weights
//! that stay in the second-level cache. There a register tile of some pixels and one or two blocks is computed at a time.
//! Sums of integers have no order, so nothing of this changes a bit.

use super::dispatch::{Way, Work};
use super::geometry::Forward;
use super::isa::Bytes;
use super::micro::{self, Source};
use super::pixels::{self, Bands, Pixels};
use super::table::{Table, residual_bytes};
use super::{BLOCK, Conv2d, padded};
use crate::Cpu;
use crate::bounds::room;
use crate::parallel::{RowMap, Tile, Tiles};

/// Bytes of weights that stay in a core's second-level cache.
const WEIGHTS: usize = 256 << 10;
/// Parts for each thread, where there are several: so many that all end at about the same time.
const PARTS: usize = 4;

pub(super) fn scratch_len(p: &Conv2d, threads: usize) -> usize {
    room(&[&[Bands::new(p).copy_len, threads]])
}

/// Blocks of output channels of a part.
fn blocks_together(p: &Conv2d, way: Way) -> usize {
    let together = if way.shifted() { SHIFTED } else { (WEIGHTS / p.block_len()).max(2) & !1 };
    together.min(p.blocks())
}

/// Blocks of a part where sums begin with more than the bias: that is computed once for all pixels of the part.
const SHIFTED: usize = 2;

pub(super) fn forward(p: &Conv2d, way: Way, cpu: &Cpu, call: Forward) {
    let Forward { x, w, table, residual, y, scratch } = call;
    let g = p.geometry();
    let (bands, k4) = (Bands::new(p), padded(g.k()));
    let together = blocks_together(p, way);
    let all = g.n() * g.out_h() * g.out_w();
    let threads = cpu.threads.count();
    let mut each = bands.per_period();
    if threads > 1 {
        // Parts by pixels that are wanted in each period; bands are not cut.
        let columns = p.blocks().div_ceil(together).saturating_mul(all / bands.period);
        each = each.div_ceil(threads.saturating_mul(PARTS).div_ceil(columns));
    }
    let rows = each.saturating_mul(bands.pixels).min(bands.period);
    let tiles = Tiles::new(y, RowMap::plain(all, k4), all, k4, rows, together * BLOCK).with_period(bands.period);
    let table = Table::new(p, table);
    cpu.run_with(tiles, scratch, bands.copy_len, |_, mut out, copy| {
        way.run(Part { p, bands, x, w, table: &table, residual, out: &mut out, copy });
    });
}

/// Some bands, and some blocks of output channels.
struct Part<'a, 'p, 't> {
    p: &'a Conv2d,
    bands: Bands,
    x: &'a [u8],
    w: &'a [i8],
    table: &'a Table<'a>,
    residual: Option<&'a [u8]>,
    out: &'p mut Tile<'t, u8>,
    copy: &'p mut [u8],
}

impl Work for Part<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Bytes>(self, isa: I) {
        let Part { p, bands, x, w, table, residual, out, copy } = self;
        let (first, blocks) = (out.first_column() / BLOCK, out.columns().div_ceil(BLOCK));
        let w = &w[first * p.block_len()..];
        let mut shifts = [[0; BLOCK]; SHIFTED];
        if I::SHIFTED {
            for (block, shift) in shifts.iter_mut().enumerate().take(blocks) {
                *shift = micro::shifted(isa, p.block_len() / (4 * BLOCK), &w[block * p.block_len()..]);
            }
        }
        for row in (0..out.rows()).step_by(bands.pixels) {
            let count = bands.pixels.min(out.rows() - row);
            let (x, (pixels, walk)) = if bands.copy_len == 0 {
                (x, pixels::in_place(p, out.first_row() + row))
            } else {
                let found = pixels::copied(p, x, out.first_row() + row, count, copy);
                (&*copy, found)
            };
            let source = Source::new(x, walk);
            let mut band = Band { p, source, pixels, row, count, first, w, table, residual, shifts: &shifts, out };
            let mut block = 0;
            while block < blocks {
                if I::BLOCKS > 1 && blocks - block > 1 {
                    band.blocks::<I, 2>(isa, block);
                    block += 2;
                } else {
                    band.blocks::<I, 1>(isa, block);
                    block += 1;
                }
            }
        }
    }
}

/// The pixels of a band.
struct Band<'a, 'p, 't> {
    p: &'a Conv2d,
    source: Source<'p>,
    pixels: Pixels,
    /// The first one's row of the part, and how many there are.
    row: usize,
    count: usize,
    /// The part's first block; its weights begin with this block.
    first: usize,
    w: &'a [i8],
    table: &'a Table<'a>,
    residual: Option<&'a [u8]>,
    shifts: &'p [[i32; BLOCK]; SHIFTED],
    out: &'p mut Tile<'t, u8>,
}

impl Band<'_, '_, '_> {
    /// `B` blocks from the part's block `block` on, for all pixels.
    #[inline(always)]
    fn blocks<I: Bytes, const B: usize>(&mut self, isa: I, block: usize) {
        let mut start = [isa.start(&[0; BLOCK]); B];
        let mut scale = [isa.scale(&self.table.rescale, &[0; BLOCK]); B];
        for (b, start) in start.iter_mut().enumerate() {
            let mut bias = *self.table.bias(self.first + block + b);
            if I::SHIFTED {
                for (bias, shift) in bias.iter_mut().zip(&self.shifts[block + b]) {
                    *bias = bias.wrapping_add(*shift);
                }
            }
            *start = isa.start(&bias);
            scale[b] = isa.scale(&self.table.rescale, self.table.multipliers(self.first + block + b));
        }
        let mut pixels = self.pixels;
        if I::FEW {
            return match I::PIXELS {
                2 => self.equal_tiles::<I, 2, B>(isa, pixels, block, start, &scale),
                4 => self.equal_tiles::<I, 4, B>(isa, pixels, block, start, &scale),
                _ => unreachable!("tiles of {} pixels alone", I::PIXELS),
            };
        }
        // Tiles of about equal size: the first ones have a pixel more.
        let tiles = self.count.div_ceil(I::PIXELS);
        let (each, more) = (self.count / tiles, self.count % tiles);
        let mut done = 0;
        for tile in 0..tiles {
            let count = each + usize::from(tile < more);
            let row = self.row + done;
            match count {
                1 => self.next_tile::<I, 1, B>(isa, &mut pixels, row, block, start, &scale),
                2 if const { I::PIXELS >= 2 } => self.next_tile::<I, 2, B>(isa, &mut pixels, row, block, start, &scale),
                3 if const { I::PIXELS >= 3 } => self.next_tile::<I, 3, B>(isa, &mut pixels, row, block, start, &scale),
                4 if const { I::PIXELS >= 4 } => self.next_tile::<I, 4, B>(isa, &mut pixels, row, block, start, &scale),
                5 if const { I::PIXELS >= 5 } => self.next_tile::<I, 5, B>(isa, &mut pixels, row, block, start, &scale),
                6 if const { I::PIXELS >= 6 } => self.next_tile::<I, 6, B>(isa, &mut pixels, row, block, start, &scale),
                7 if const { I::PIXELS >= 7 } => self.next_tile::<I, 7, B>(isa, &mut pixels, row, block, start, &scale),
                8 if const { I::PIXELS >= 8 } => self.next_tile::<I, 8, B>(isa, &mut pixels, row, block, start, &scale),
                _ => unreachable!("a tile of {count} pixels, {} at most", I::PIXELS),
            }
            done += count;
        }
    }

    /// All pixels, `P` at a time. The last tile has the last `P` pixels, of which the one before has some; where there are
    /// fewer than `P`, the first one stands for those that are missing. What is computed again is the same bytes.
    #[inline(always)]
    fn equal_tiles<I: Bytes, const P: usize, const B: usize>(
        &mut self,
        isa: I,
        mut pixels: Pixels,
        block: usize,
        start: [I::Sums; B],
        scale: &[I::Scale; B],
    ) {
        let mut first = pixels;
        let mut starts = [first.next(); P];
        let mut done = 0;
        while done < self.count {
            let end = self.count.min(done + P);
            for _ in done..end {
                starts.copy_within(1.., 0);
                starts[P - 1] = pixels.next();
            }
            done = end;
            let rows = core::array::from_fn(|i| self.row + (done + i).saturating_sub(P));
            self.tile::<I, P, B>(isa, &starts, &rows, block, start, scale);
        }
    }

    /// The next `P` pixels, from row `row` of the part on.
    #[inline(always)]
    fn next_tile<I: Bytes, const P: usize, const B: usize>(
        &mut self,
        isa: I,
        pixels: &mut Pixels,
        row: usize,
        block: usize,
        start: [I::Sums; B],
        scale: &[I::Scale; B],
    ) {
        let (mut starts, mut rows) = ([0; P], [0; P]);
        for (i, (start, at)) in starts.iter_mut().zip(&mut rows).enumerate() {
            (*start, *at) = (pixels.next(), row + i);
        }
        self.tile::<I, P, B>(isa, &starts, &rows, block, start, scale);
    }

    /// `P` pixels and `B` blocks: where the pixels begin, and their rows of the part.
    #[inline(always)]
    fn tile<I: Bytes, const P: usize, const B: usize>(
        &mut self,
        isa: I,
        starts: &[usize; P],
        rows: &[usize; P],
        block: usize,
        start: [I::Sums; B],
        scale: &[I::Scale; B],
    ) {
        let len = self.p.block_len();
        let sums = micro::tile::<I, P, B>(isa, &self.source, starts, &self.w[block * len..], len, start);
        let (column, first) = (block * BLOCK, self.first + block);
        // All but the last block have 16 channels: the usual case, with as few questions as can be.
        let whole = (first + B) * BLOCK <= self.p.geometry().k();
        for (row, sums) in rows.iter().zip(sums) {
            let at = self.out.row_start(*row) + column;
            let y = &mut self.out.row(*row)[column..];
            if whole {
                let (y, _) = y.as_chunks_mut::<BLOCK>();
                let residual = self.residual.map(|r| r[at..at + B * BLOCK].as_chunks::<BLOCK>().0);
                for (b, y) in y[..B].iter_mut().enumerate() {
                    *y = isa.bytes(sums[b], &scale[b], residual.map(|r| &r[b]));
                }
                continue;
            }
            for (b, sums) in sums.into_iter().enumerate() {
                let residual = self.residual.map(|r| residual_bytes(r, at + b * BLOCK));
                let bytes = isa.bytes(sums, &scale[b], residual.as_ref());
                self.table.store(first + b, bytes, &mut y[b * BLOCK..]);
            }
        }
    }
}
