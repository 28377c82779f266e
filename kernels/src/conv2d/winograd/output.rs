//! Pixels from products: Aᵀ m A.

use super::micro::{self, Positions, Square};
use super::order::Order;
use super::plane::Plane;
use super::scheme::{MOST, Scheme};
use crate::dispatch::Task;
use crate::gemm::micro::GROUP;
use crate::isa::Isa;
use crate::lanes::{load_padded, store_padded};
use crate::parallel::Tile;
use core::marker::PhantomData;

/// One block of output channels of some tiles: overwrites, or adds to, the pixels of `out`.
pub(super) struct Output<'a, 'p, 't, S> {
    pub(super) scheme: PhantomData<S>,
    pub(super) plane: &'a Plane,
    /// `[positions][tiles][block]`; anything where a position does not need a tile
    pub(super) m: &'a [f32],
    /// Of which tiles.
    pub(super) order: Order,
    /// The block's first column in `out`.
    pub(super) column: usize,
    pub(super) add: bool,
    pub(super) out: &'p mut Tile<'t>,
}

impl<S: Scheme> Task for Output<'_, '_, '_, S> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (s, block) = (self.plane, self.plane.block());
        let tiles = self.order.count();
        let position = s.product_position(tiles);
        let width = (self.out.columns() - self.column).min(block);
        let mut pixels = [0.0; MOST * MOST * GROUP];
        for tile in 0..tiles {
            let [image, line, column] = self.order.tile(tile);
            let ([top, high], [left, wide]) = (s.pixels(0, line), s.pixels(1, column));
            let corner = (image * s.out_h + top) * s.out_w + left - self.out.first_row();
            for lane in (0..width).step_by(I::LANES) {
                let m = Square::whole::<I>(&self.m[tile * block + lane..], [S::POINTS * position, position], S::POINTS);
                micro::output::<S, I>(isa, m, Positions::new::<I>(&mut pixels, S::OUT * S::OUT, I::LANES));
                let there = (width - lane).min(I::LANES);
                for y in 0..S::OUT {
                    if y >= high {
                        break;
                    }
                    for x in 0..S::OUT {
                        if x >= wide {
                            break;
                        }
                        let to = &mut self.out.row(corner + y * s.out_w + x)[self.column + lane..][..there];
                        let value = isa.load(&pixels[(y * S::OUT + x) * I::LANES..]);
                        let sum = if self.add { isa.add(load_padded(isa, to, 0.0), value) } else { value };
                        store_padded(isa, sum, to);
                    }
                }
            }
        }
    }
}
