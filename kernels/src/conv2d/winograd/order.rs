//! The order in which tiles are computed, and which of them a position needs.
//!
//! Where a plane is no multiple of the tile, its last lines and columns of tiles are shorter by a pixel
//! (14 = 4 + 4 + 3 + 3) instead of hanging over (4 + 4 + 4 + 2). A short tile lacks the last output of its
//! direction, and the product at the point ∞ goes to that output alone: it is not computed. Of the 36
//! products of F(4x4, 3x3), a tile that is short in one direction takes 30, in both 25. (With a stride it may
//! be more than one output, and more than one product: [`Scheme::SHORT`], [`Scheme::LAST`].)
//!
//! [`Scheme::SHORT`]: super::Scheme::SHORT
//! [`Scheme::LAST`]: super::Scheme::LAST

use core::ops::Range;

/// The tiles of some images, or some lines of them. They are computed sorted by the directions that they are short in, so that
/// those which a position needs lie side by side:
///
/// | lines are | columns are | the last lines of positions need it | the last columns of positions |
/// |---|---|---|---|
/// | short | whole | | yes |
/// | whole | whole | yes | yes |
/// | whole | short | yes | |
/// | short | short | | |
#[derive(Clone, Copy)]
pub(super) struct Order {
    /// The first image.
    pub(super) image: usize,
    pub(super) images: usize,
    /// The first line of tiles of each image.
    pub(super) line: usize,
    /// Tiles of an image, lines and columns, and how many of them are whole: the first.
    pub(super) tiles: [usize; 2],
    pub(super) whole: [usize; 2],
    /// Points of the scheme, and how many of them a short tile does not need: the last.
    pub(super) points: usize,
    pub(super) last: usize,
}

/// Whether lines, columns are short, in the order of computation.
const SORTS: [[bool; 2]; 4] = [[true, false], [false, false], [false, true], [true, true]];

impl Order {
    /// Lines and columns of tiles of a sort: the first, and how many.
    #[inline(always)]
    fn sort(&self, short: [bool; 2]) -> [[usize; 2]; 2] {
        let mut found = [[0; 2]; 2];
        for i in 0..2 {
            found[i] = if short[i] { [self.whole[i], self.tiles[i] - self.whole[i]] } else { [0, self.whole[i]] };
        }
        found
    }

    /// How many tiles of the first `sorts` sorts there are.
    fn before(&self, sorts: usize) -> usize {
        let mut count = 0;
        for short in &SORTS[..sorts] {
            let [lines, columns] = self.sort(*short);
            count += self.images * lines[1] * columns[1];
        }
        count
    }

    /// Tiles.
    pub(super) fn count(&self) -> usize {
        self.images * self.tiles[0] * self.tiles[1]
    }

    /// Tile t: its image, its line and column of tiles.
    #[inline(always)]
    pub(super) fn tile(&self, mut t: usize) -> [usize; 3] {
        for short in SORTS {
            let [lines, columns] = self.sort(short);
            let each = lines[1] * columns[1];
            if t < self.images * each {
                let (image, t) = (t / each, t % each);
                return [self.image + image, self.line + lines[0] + t / columns[1], columns[0] + t % columns[1]];
            }
            t -= self.images * each;
        }
        unreachable!("a tile beyond the last")
    }

    /// Which of the tiles `among` position p needs, counted from the first of them; `0..0` where it needs none.
    #[inline(always)]
    pub(super) fn needed(&self, p: usize, among: Range<usize>) -> Range<usize> {
        let last = [p / self.points, p % self.points].map(|point| point >= self.points - self.last);
        let from = if last[0] { self.before(1) } else { 0 };
        let to = match last {
            [_, true] => self.before(2),
            [true, false] => self.before(3),
            [false, false] => self.count(),
        };
        let from = from.clamp(among.start, among.end);
        let to = to.clamp(from, among.end);
        // Behind the last tile nothing may be there, not even for a slice to begin.
        if from == to { 0..0 } else { from - among.start..to - among.start }
    }
}

#[cfg(test)]
mod tests {
    use crate::conv2d::Uniform;
    use crate::conv2d::strided::{Strided, StridedInput};
    use crate::conv2d::winograd::Scheme;
    use crate::conv2d::winograd::plane::Plane;
    use crate::conv2d::{winograd2::Winograd2, winograd4::Winograd4};
    use std::vec;
    use std::vec::Vec;

    /// Every pixel belongs to one tile, and a position needs exactly those tiles that have the outputs it goes to.
    fn check<S: Scheme>(plane: Plane) {
        let (n, h, w) = (plane.n, plane.out_h, plane.out_w);
        let order = plane.order(0, n);
        let mut covered = vec![0; n * h * w];
        let mut whole = Vec::new();
        for t in 0..order.count() {
            let [image, line, column] = order.tile(t);
            let ([top, high], [left, wide]) = (plane.pixels(0, line), plane.pixels(1, column));
            assert!(0 < high && high <= S::OUT && 0 < wide && wide <= S::OUT);
            assert_eq!((top * S::STEPS[0] % S::STEPS[1], left * S::STEPS[0] % S::STEPS[1]), (0, 0));
            whole.push([line < plane.whole[0], column < plane.whole[1]]);
            assert!(whole[t][0] || high <= S::OUT - S::SHORT);
            assert!(whole[t][1] || wide <= S::OUT - S::SHORT);
            for y in top..top + high {
                for x in left..left + wide {
                    covered[(image * h + y) * w + x] += 1;
                }
            }
        }
        assert!(covered.iter().all(|c| *c == 1), "{n} x {h} x {w}: {covered:?}");
        for among in [0..order.count(), 0..1, order.count() / 3..order.count() / 2 + 1] {
            for p in 0..S::POSITIONS {
                let needed = order.needed(p, among.clone());
                assert!(!needed.is_empty() || needed.start == 0, "a slice would begin behind the last tile");
                let few = S::POINTS - S::LAST;
                for t in among.clone() {
                    let needs = (p / S::POINTS < few || whole[t][0]) && (p % S::POINTS < few || whole[t][1]);
                    assert_eq!(needed.contains(&(t - among.start)), needs, "{n} x {h} x {w}: position {p}, tile {t}");
                }
            }
        }
    }

    #[test]
    fn tiles_cover_a_plane_once_and_positions_have_theirs() {
        for h in 1..=15 {
            for w in [1, 2, 3, 4, 5, 6, 7, 9, 14, 16, 17] {
                for n in 1..4 {
                    let conv = |stride| Uniform { n, h, w, c: 1, k: 1, kernel: 3, stride, pad: 1 };
                    check::<Winograd4>(Plane::forward::<Winograd4>(&conv(1)));
                    check::<Winograd2>(Plane::backward_input::<Winograd2>(&conv(1)));
                    check::<Strided>(Plane::forward::<Strided>(&conv(2)));
                    check::<StridedInput>(Plane::backward_input::<StridedInput>(&conv(2)));
                }
            }
        }
    }
}
