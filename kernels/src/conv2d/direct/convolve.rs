//! The products of one band and some blocks of output channels.

use super::{Band, Filters, Shape, Side};
use crate::conv2d::transposed::Transposed;
use crate::dispatch::Task;
use crate::gemm::micro::{self, GROUP};
use crate::gemm::{add_row, for_rows, for_vectors, panel_rows, sub_panel};
use crate::isa::Isa;
use crate::parallel::Tile;

/// Computes the tile of the output that belongs to a band: all its phases.
pub(super) struct Convolve<'a, 'p, 't> {
    pub(super) s: Shape,
    pub(super) band: Band,
    /// The band's copy, all groups.
    pub(super) copy: &'a [f32],
    pub(super) filters: Filters<'a>,
    /// Room for exchanged weights: [`Shape::exchanged_len`].
    pub(super) exchanged: &'p mut [f32],
    /// Add to the output instead of overwriting it.
    pub(super) add: bool,
    /// Rows: the band's output pixels in their own order. Columns: whole blocks of channels.
    pub(super) out: &'p mut Tile<'t>,
}

/// One phase of the band times one block of output channels.
#[derive(Clone, Copy)]
struct Block {
    /// The output phase: line, column.
    phase: [usize; 2],
    sides: [Side; 2],
    /// Rows of the phase.
    rows: usize,
    /// First column in the output tile.
    column: usize,
}

/// A register tile's place in a block.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    /// First column in the block, and in the weights.
    part: usize,
    /// First group of channels, and channels.
    first: usize,
    channels: usize,
}

/// Goes through a phase's rows: pixels of a line, the same line of the other images, the next line.
struct Walk {
    phase: [usize; 2],
    x: usize,
    image: usize,
    line: usize,
}

impl Walk {
    /// Where this row lies in the output tile, if it exists (phases may differ by a column); goes on.
    #[inline(always)]
    fn next(&mut self, s: &Shape, images: usize) -> Option<usize> {
        let [y, x] = [self.line * s.phases + self.phase[0], self.x * s.phases + self.phase[1]];
        let pixel = (self.image * s.out_h + y) * s.out_w + x;
        self.x += 1;
        if self.x == s.grid_w {
            self.x = 0;
            self.image += 1;
            if self.image == images {
                self.image = 0;
                self.line += 1;
            }
        }
        if x < s.out_w { Some(pixel) } else { None }
    }
}

impl Task for Convolve<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for_vectors!(self.s.block(), self.phases(isa));
    }
}

impl Convolve<'_, '_, '_> {
    #[inline(always)]
    fn phases<I: Isa, const V: usize>(mut self, isa: I) {
        let s = self.s;
        // Lines of the output that the band has, before they fall into phases.
        let lines = (self.band.lines * s.phases).min(s.out_h - self.band.line * s.phases);
        for y in 0..s.phases.min(lines) {
            for x in 0..s.phases.min(s.out_w) {
                let rows = (lines - y).div_ceil(s.phases) * self.band.images * s.grid_w;
                let sides = [s.side(y), s.side(x)];
                for column in (0..self.out.columns()).step_by(s.block()) {
                    self.block::<I, V>(isa, Block { phase: [y, x], sides, rows, column });
                }
            }
        }
    }

    #[inline(always)]
    fn block<I: Isa, const V: usize>(&mut self, isa: I, block: Block) {
        let s = self.s;
        let taps = block.sides[0].count * block.sides[1].count;
        let (width, groups) = (s.block(), s.groups());
        let there = width.min(self.out.columns() - block.column);
        let j = (self.out.first_column() + block.column) / width;
        if taps == 0 {
            // No tap hits these pixels.
            let mut walk = self.walk(&block, 0);
            for _ in 0..if self.add { 0 } else { block.rows } {
                if let Some(pixel) = walk.next(&s, self.band.images) {
                    self.out.row(pixel)[block.column..][..there].fill(0.0);
                }
            }
            return;
        }
        let panel = panel_rows(block.rows, I::ROWS);
        let pass = sub_panel(taps);
        for first in (0..groups).step_by(pass) {
            let channels = (pass * GROUP).min(s.c - first * GROUP);
            if let Filters::Exchanged(w, layout) = self.filters {
                let [y, x] = block.sides;
                let how =
                    Transposed { layout, kernel: s.kernel, stride: [s.phases; 2], first: [y.first, x.first], taps: [y.count, x.count] };
                let each = GROUP * taps * width;
                for g in 0..channels.div_ceil(GROUP) {
                    how.group(isa, w, (j * width, width), (first + g) * GROUP, &mut self.exchanged[g * each..][..each]);
                }
            }
            for part in (0..there).step_by(V * I::LANES) {
                for row in (0..block.rows).step_by(panel) {
                    let place = Place { row, part, first, channels };
                    macro_rules! tile {
                        ($n:literal) => {
                            self.tile::<I, $n, V>(isa, &block, place)
                        };
                    }
                    for_rows!(isa, panel.min(block.rows - row), tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14));
                }
            }
        }
    }

    /// Row `row` of a phase.
    #[inline(always)]
    fn walk(&self, block: &Block, row: usize) -> Walk {
        let (line, x) = (row / self.s.grid_w, row % self.s.grid_w);
        Walk { phase: block.phase, x, image: line % self.band.images, line: line / self.band.images }
    }

    #[inline(always)]
    fn tile<I: Isa, const R: usize, const V: usize>(&mut self, isa: I, block: &Block, place: Place) {
        let s = &self.s;
        let taps = block.sides[0].count * block.sides[1].count;
        let width = s.block();
        let b = match self.filters {
            Filters::AsTheyLie(w, layout) => &w[layout.index(self.out.first_column() + block.column, place.first * GROUP, 0)..],
            Filters::Exchanged(..) => &*self.exchanged,
        };
        let b = &b[..place.channels * taps * width][place.part..];
        let a = &self.copy[place.first * self.band.group_len + place.row * GROUP..];
        let mut acc = [[isa.splat(0.0); V]; R];
        let window = s.window(&self.band, block.sides);
        micro::multiply::<I, R, V>(isa, a, &window, b, place.channels, width, &mut acc);

        let there = (self.out.columns() - block.column - place.part).min(V * I::LANES);
        let load = self.add || place.first > 0;
        let mut walk = self.walk(block, place.row);
        for acc in &acc {
            if let Some(pixel) = walk.next(&self.s, self.band.images) {
                let y = &mut self.out.row(pixel)[block.column + place.part..][..there];
                add_row(isa, acc, y, load);
            }
        }
    }
}
