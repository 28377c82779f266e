//! Products of a packed panel of patches and a block of weights: the heart of convolution and linear
//! layers, forward and for the input's gradient.
//!
//! Goto and van de Geijn's scheme ("Anatomy of High-Performance Matrix Multiplication", 2008) with
//! the roles that the layout asks for: the weights' sub-panel (some 18 kB) stays in the first-level
//! cache while the rows of a tile pass by it. Each sub-panel's sum starts from zero and is added to the
//! output as a whole: the rounding error of a chain of 4608 products would be four times larger.

#[cfg(nunatak_mve)]
#[allow(unsafe_code)]
pub(crate) mod helium;
#[allow(unsafe_code)]
pub(crate) mod micro;

use crate::dispatch::Task;
use crate::isa::Isa;
use crate::parallel::Tile;
use micro::{GROUP, Window};

/// The longest sub-panel, in products per element: 16 channels of a 3x3 filter.
const DEPTH: usize = 144;

/// Numbers between output rows from which on they are asked for before they are computed: a CPU does not foresee where the
/// next short piece of a row lies.
const FAR: usize = 256;

/// Groups of 16 channels in a sub-panel of so many taps.
pub(crate) const fn sub_panel(taps: usize) -> usize {
    let group = taps * GROUP;
    if group == 0 || DEPTH < group { 1 } else { DEPTH / group }
}

/// How many rows a panel has when `m` rows are cut evenly into panels of at most `most`.
pub(crate) fn panel_rows(m: usize, most: usize) -> usize {
    m.div_ceil(m.div_ceil(most).max(1))
}

/// One tile of the output: rows times one block of columns.
pub(crate) struct Multiply<'a, 't> {
    /// The packed panels of the tile's rows, each `[channels / 16][taps][rows][16]`.
    pub(crate) a: &'a [f32],
    /// Rows of a panel; the tile's last may have fewer.
    pub(crate) panel: usize,
    /// The block of weights, `[channels][taps][block]`.
    pub(crate) b: &'a [f32],
    /// Columns of a block: 16 or 32.
    pub(crate) block: usize,
    /// Channels to sum over.
    pub(crate) channels: usize,
    /// Filter positions to sum over.
    pub(crate) taps: usize,
    /// Add to the output instead of overwriting it.
    pub(crate) add: bool,
    /// The output.
    pub(crate) out: &'a mut Tile<'t>,
}

impl Task for Multiply<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // Constant but for the block: what does not apply to `I` is never compiled.
        match (I::LANES, I::COLUMNS.min(self.block) / I::LANES) {
            (16, 1) => self.columns::<I, 1>(isa),
            (16 | 8, _) => self.columns::<I, 2>(isa),
            _ => self.columns::<I, 4>(isa),
        }
    }
}

/// Calls a macro with the number of rows as a literal.
macro_rules! for_rows {
    ($rows:expr, $call:ident!($($n:literal)+)) => {
        match $rows {
            $($n => if I::ROWS >= $n { $call!($n) },)+
            _ => unreachable!("a panel of {} rows", $rows),
        }
    };
}

pub(crate) use for_rows;

impl Multiply<'_, '_> {
    #[inline(always)]
    fn columns<I: Isa, const V: usize>(mut self, isa: I) {
        let rows = self.out.rows();
        let group = self.taps * GROUP;
        let groups = self.channels.div_ceil(GROUP);
        assert!(self.a.len() >= rows * groups * group && self.b.len() >= self.channels * self.taps * self.block);
        assert!(self.panel <= I::ROWS && self.out.columns() <= self.block && V * I::LANES <= self.block);
        let pass = sub_panel(self.taps);
        for first in (0..groups.max(1)).step_by(pass) {
            let channels = (pass * GROUP).min(self.channels - first * GROUP);
            for row in (0..rows).step_by(self.panel) {
                let count = self.panel.min(rows - row);
                for column in (0..self.out.columns()).step_by(V * I::LANES) {
                    if I::LANES == 1 && count == 4 {
                        self.tile::<I, 4, V>(isa, [row, 0, count], column, first, channels);
                        continue;
                    }
                    if I::LANES == 1 {
                        // Rows one at a time: tiles of every size would be most of the code in a board's flash.
                        for r in 0..count {
                            self.tile::<I, 1, V>(isa, [row, r, count], column, first, channels);
                        }
                        continue;
                    }
                    macro_rules! tile {
                        ($n:literal) => {
                            self.tile::<I, $n, V>(isa, [row, 0, count], column, first, channels)
                        };
                    }
                    for_rows!(count, tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14));
                }
            }
        }
    }

    /// Numbers from an output row to the next.
    #[inline(always)]
    fn apart(&self) -> usize {
        if self.out.rows() > 1 { self.out.row_start(1) - self.out.row_start(0) } else { 0 }
    }

    /// `R` rows of a panel that begins at `row` and has `count`, from its row `r` on.
    #[inline(always)]
    #[cfg_attr(nunatak_mve, allow(unsafe_code))]
    fn tile<I: Isa, const R: usize, const V: usize>(
        &mut self,
        isa: I,
        [row, r, count]: [usize; 3],
        column: usize,
        first: usize,
        channels: usize,
    ) {
        let group = self.taps * GROUP;
        let groups = self.channels.div_ceil(GROUP);
        let a = &self.a[(row * groups + first * count) * group..][..channels.div_ceil(GROUP) * count * group];
        let b = &self.b[first * group * self.block..][..channels * self.taps * self.block];
        let b = b.get(column..).unwrap_or(&[]); // empty where there are no taps
        let width = V * I::LANES;
        let there = (self.out.columns() - column).min(width);
        let load = self.add || first > 0;

        if first == 0 && self.apart() >= FAR {
            for i in r..r + R {
                let to = self.out.row(row + i).as_ptr().wrapping_add(column);
                for line in (0..there).step_by(GROUP) {
                    isa.prefetch(to.wrapping_add(line));
                }
            }
        }
        #[cfg(nunatak_mve)]
        if I::LANES == 1 && R == 4 && V == 4 && count == 4 && there == 4 && channels.is_multiple_of(GROUP) && group > 0 {
            let mut tile = [[0.0; 4]; 4];
            for (i, a) in a.chunks_exact(4 * group).enumerate() {
                let b = &b[i * group * self.block..];
                assert!(b.len() >= (group - 1) * self.block + 4);
                // SAFETY: the panel's group has 4·`group` numbers, and the weights' last place was checked to be there.
                unsafe { helium::sixteen(a.as_ptr(), b.as_ptr(), [self.block, self.taps * self.block], self.taps, i > 0, &mut tile) };
            }
            for (i, sums) in tile.iter().enumerate() {
                let y = self.out.row(row + i)[column..].first_chunk_mut().expect("four columns");
                helium::put(sums, y, load);
            }
            return;
        }
        let mut acc = [[isa.splat(0.0); V]; R];
        let window = Window { start: r * GROUP, ..Window::panel(self.taps, count) };
        micro::multiply::<I, R, V>(isa, a, &window, b, channels, self.block, &mut acc);
        if I::LANES == 1 {
            let mut sums = [[0.0; V]; R];
            for (acc, sums) in acc.iter().zip(&mut sums) {
                for (acc, sum) in acc.iter().zip(sums) {
                    isa.store(*acc, core::slice::from_mut(sum));
                }
            }
            return add_rows(sums.as_flattened(), V, self.out, row + r, column, load);
        }
        for (i, acc) in acc.iter().enumerate() {
            add_row(isa, acc, &mut self.out.row(row + r + i)[column..][..there], load);
        }
    }
}

/// Writes rows of `columns` sums each to a tile of the output, or adds them where `load`: [`add_row`] of all rows, where a
/// vector is one number. Compiled once, which matters in a board's flash.
#[inline(never)]
fn add_rows(sums: &[f32], columns: usize, out: &mut Tile, row: usize, column: usize, load: bool) {
    for (i, sums) in sums.chunks_exact(columns).enumerate() {
        for (y, sum) in out.row(row + i)[column..].iter_mut().zip(sums) {
            *y = if load { *y + sum } else { *sum };
        }
    }
}

/// Writes one row of a register tile to `y`, or adds it where `load`. At the edge of a matrix `y` may be
/// shorter than the row.
#[inline(always)]
pub(crate) fn add_row<I: Isa, const V: usize>(isa: I, row: &[I::V; V], y: &mut [f32], load: bool) {
    let there = y.len();
    let mut edge = [0.0_f32; 32];
    let whole = if there == V * I::LANES {
        &mut *y
    } else {
        edge[..there].copy_from_slice(y);
        &mut edge[..]
    };
    for (v, sum) in row.iter().enumerate() {
        let to = &mut whole[v * I::LANES..];
        let sum = if load { isa.add(isa.load(to), *sum) } else { *sum };
        isa.store(sum, to);
    }
    if there != V * I::LANES {
        y.copy_from_slice(&edge[..there]);
    }
}
