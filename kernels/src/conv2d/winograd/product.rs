//! The matrix products, one for each position.

use super::micro::{self, Factors};
use super::order::Order;
use super::plane::{Panels, Plane};
use crate::dispatch::Task;
use crate::gemm::micro::GROUP;
use crate::gemm::{for_rows, for_vectors};
use crate::isa::Isa;

/// Products of all tiles with one block of output channels: `m` is `[positions][tiles][block]`.
pub(super) struct Products<'a, 'p> {
    pub(super) plane: &'a Plane,
    /// Of which tiles.
    pub(super) order: Order,
    pub(super) panels: Panels,
    pub(super) v: &'a [f32],
    /// The first channel to sum over: a multiple of 16.
    pub(super) first: usize,
    pub(super) channels: usize,
    /// `[positions][channels][block]`
    pub(super) u: &'a [f32],
    /// Numbers from one position of `u` to the next.
    pub(super) position: usize,
    /// Add to `m` instead of overwriting it.
    pub(super) add: bool,
    pub(super) m: &'p mut [f32],
}

impl Task for Products<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for_vectors!(self.plane.block(), self.positions(isa));
    }
}

impl Products<'_, '_> {
    #[inline(always)]
    fn positions<I: Isa, const V: usize>(mut self, isa: I) {
        for p in 0..self.panels.positions {
            let needed = self.order.needed(p, 0..self.panels.tiles);
            let mut tile = needed.start;
            while tile < needed.end {
                let panel = tile / self.panels.rows;
                let count = ((panel + 1) * self.panels.rows).min(needed.end) - tile;
                for column in (0..self.plane.block()).step_by(V * I::LANES) {
                    macro_rules! rows {
                        ($n:literal) => {
                            self.rows::<I, $n, V>(isa, p, column, panel, tile)
                        };
                    }
                    for_rows!(isa, count, rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14));
                }
                tile += count;
            }
        }
    }

    /// `R` tiles from `tile` on, all of one panel.
    #[inline(always)]
    fn rows<I: Isa, const R: usize, const V: usize>(&mut self, isa: I, p: usize, column: usize, panel: usize, tile: usize) {
        let (panels, block) = (self.panels, self.plane.block());
        let rows = panels.rows_of(panel);
        let a = &self.v[panel * panels.each() + p * panels.position(rows) + self.first * rows + tile % panels.rows * GROUP..];
        let b = &self.u[self.plane.filter_of(p).0 * self.position + column..];
        let m = &mut self.m[p * self.plane.product_position(panels.tiles) + tile * block + column..];
        let factors = Factors { a, rows, b, channels: self.channels, stride: block };
        micro::multiply::<I, R, V>(isa, factors, m, self.add);
    }
}
