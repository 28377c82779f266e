//! Sizes: a convolution as this family sees it, and how transformed tiles lie.

use super::order::Order;
use super::scheme::{MOST, Scheme};
use crate::conv2d::Uniform;
use crate::gemm::micro::GROUP;
use crate::weights::block;

/// A convolution, forward or for the input's gradient: `n` images of `h` x `w` x `c` to
/// `out_h` x `out_w` x `k`.
#[derive(Clone, Copy)]
pub(super) struct Plane {
    pub(super) n: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) c: usize,
    pub(super) out_h: usize,
    pub(super) out_w: usize,
    pub(super) k: usize,
    pub(super) pad: usize,
    /// Tiles of an image: lines, columns.
    pub(super) tiles: [usize; 2],
    /// How many of them are whole; those after them are shorter by so many pixels (see [`Order`]).
    pub(super) whole: [usize; 2],
    pub(super) short: usize,
    /// Products of the scheme in one dimension, and how many of them a short tile does not need.
    pub(super) points: usize,
    pub(super) last: usize,
    /// Numbers of a transformed filter in one dimension, and which of them a product takes.
    pub(super) filters: usize,
    pub(super) shared: [usize; MOST],
    /// Positions of a transformed tile.
    pub(super) positions: usize,
    /// Pixels of a tile in each direction.
    pub(super) out: usize,
}

impl Plane {
    fn new<S: Scheme>(n: usize, [h, w, c]: [usize; 3], [out_h, out_w, k]: [usize; 3], pad: usize) -> Plane {
        let tiles = [out_h.div_ceil(S::OUT), out_w.div_ceil(S::OUT)];
        let whole = |tiles: usize, size: usize| tiles.saturating_sub((tiles * S::OUT - size) / S::SHORT);
        let whole = [whole(tiles[0], out_h), whole(tiles[1], out_w)];
        let (short, points, last, filters, positions, out) = (S::SHORT, S::POINTS, S::LAST, S::FILTERS, S::POSITIONS, S::OUT);
        let mut shared = [0; MOST];
        for (point, filter) in shared[..points].iter_mut().enumerate() {
            *filter = S::shared(point);
        }
        Plane { n, h, w, c, out_h, out_w, k, pad, tiles, whole, short, points, last, filters, shared, positions, out }
    }
    pub(super) fn forward<S: Scheme>(conv: &Uniform) -> Plane {
        Self::new::<S>(conv.n, [conv.h, conv.w, conv.c], [conv.out_h(), conv.out_w(), conv.k], conv.pad)
    }
    pub(super) fn backward_input<S: Scheme>(conv: &Uniform) -> Plane {
        Self::new::<S>(conv.n, [conv.out_h(), conv.out_w(), conv.k], [conv.h, conv.w, conv.c], 2 - conv.pad)
    }
    /// Groups of 16 input channels.
    pub(super) fn groups(&self) -> usize {
        self.c.div_ceil(GROUP)
    }
    /// Output channels of a block.
    pub(super) fn block(&self) -> usize {
        block(self.k)
    }
    pub(super) fn blocks(&self) -> usize {
        self.k.div_ceil(self.block())
    }
    /// Tiles of an image.
    pub(super) fn image_tiles(&self) -> usize {
        self.tiles[0] * self.tiles[1]
    }
    /// The same plane with lines of whole tiles, of which the last hangs over.
    pub(super) fn of_whole_lines(&self) -> Plane {
        Plane { whole: [self.tiles[0], self.whole[1]], ..*self }
    }
    /// The tiles of some images.
    pub(super) fn order(&self, image: usize, images: usize) -> Order {
        Order { image, images, line: 0, tiles: self.tiles, whole: self.whole, points: self.points, last: self.last }
    }
    /// The filters' position that a position of the tiles takes, and whether it is the first to take it.
    #[inline(always)]
    pub(super) fn filter_of(&self, p: usize) -> (usize, bool) {
        let (i, j) = (p / self.points, p % self.points);
        let first = |point: usize| point == 0 || self.shared[point] != self.shared[point - 1];
        (self.shared[i] * self.filters + self.shared[j], first(i) && first(j))
    }
    /// Positions of a transformed filter.
    pub(super) fn filter_positions(&self) -> usize {
        self.filters * self.filters
    }
    /// The first pixel of line (0) or column (1) `tile` of tiles, and how many pixels it has.
    #[inline(always)]
    pub(super) fn pixels(&self, direction: usize, tile: usize) -> [usize; 2] {
        let start = tile * self.out - tile.saturating_sub(self.whole[direction]) * self.short;
        let size = if tile < self.whole[direction] { self.out } else { self.out - self.short };
        [start, size.min([self.out_h, self.out_w][direction] - start)]
    }
    /// Transformed input of so many tiles, `rows` to a panel.
    pub(super) fn panels(&self, tiles: usize, rows: usize) -> Panels {
        Panels { tiles, rows, groups: self.groups(), unit: GROUP, positions: self.positions }
    }
    /// Numbers of transformed input of so many tiles, whatever the rows of a panel: at least 4, but for
    /// an even cut.
    pub(super) fn input_len(&self, tiles: usize) -> usize {
        self.positions * (self.groups() * tiles * GROUP + tiles.div_ceil(4) * GROUP)
    }
    /// Numbers from one position of a block of transformed filters to the next.
    pub(super) fn filter_position(&self, channels: usize) -> usize {
        channels * self.block() + GROUP
    }
    /// Numbers of a block of transformed filters of so many input channels.
    pub(super) fn filter_len(&self, channels: usize) -> usize {
        self.filter_positions() * self.filter_position(channels)
    }
    /// Numbers from one position of a block's products to the next.
    pub(super) fn product_position(&self, tiles: usize) -> usize {
        tiles * self.block() + GROUP
    }
    /// Numbers of a block's products.
    pub(super) fn product_len(&self, tiles: usize) -> usize {
        self.positions * self.product_position(tiles)
    }
}

/// How transformed tiles lie: `[panels][positions][groups][rows][unit]`, so that a product reads what it
/// needs of a panel from front to back. The last panel may have fewer rows. Positions lie a cache line
/// further apart than they are long: powers of two would share the same few sets of a cache.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub(super) tiles: usize,
    /// Tiles of a panel.
    pub(super) rows: usize,
    pub(super) groups: usize,
    /// Channels of a group.
    pub(super) unit: usize,
    pub(super) positions: usize,
}

impl Panels {
    pub(super) fn count(&self) -> usize {
        self.tiles.div_ceil(self.rows)
    }
    /// Tiles of one panel.
    #[inline(always)]
    pub(super) fn rows_of(&self, panel: usize) -> usize {
        self.rows.min(self.tiles - panel * self.rows)
    }
    /// Numbers from one position to the next in a panel of so many tiles.
    #[inline(always)]
    pub(super) fn position(&self, rows: usize) -> usize {
        self.groups * rows * self.unit + GROUP
    }
    /// Numbers of a whole panel.
    #[inline(always)]
    pub(super) fn each(&self) -> usize {
        self.positions * self.position(self.rows)
    }
    /// Numbers of all panels.
    pub(super) fn len(&self) -> usize {
        let last = self.count() - 1;
        last * self.each() + self.positions * self.position(self.rows_of(last))
    }
}
