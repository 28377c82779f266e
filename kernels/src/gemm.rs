//! Products of a packed panel of patches and a block of weights: the heart of convolution and linear
//! layers, forward and for the input's gradient.
//!
//! Goto and van de Geijn's scheme ("Anatomy of High-Performance Matrix Multiplication", 2008) with
//! the roles that the layout asks for: the weights' sub-panel (some 18 kB) stays in the first-level
//! cache while the rows of a tile pass by it. Each sub-panel's sum starts from zero and is added to the
//! output as a whole: the rounding error of a chain of 4608 products would be four times larger.

#[allow(unsafe_code)]
pub(crate) mod micro;

use crate::dispatch::Task;
#[cfg(nunatak_mve)]
use crate::helium;
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
        for_vectors!(self.block, self.columns(isa));
    }
}

/// Calls a method of a [`Task`] with the vectors that a tile has side by side as a constant `V`, where weights lie in blocks of so
/// many columns. Conditions are constants of `I`, so that what does not apply to a level is not compiled for it.
macro_rules! for_vectors {
    ($block:expr, $self:ident.$method:ident($isa:ident)) => {
        if const { I::LANES == 16 } {
            if $block < 32 { $self.$method::<I, 1>($isa) } else { $self.$method::<I, 2>($isa) }
        } else if const { I::LANES == 8 } {
            $self.$method::<I, 2>($isa)
        } else {
            $self.$method::<I, 4>($isa)
        }
    };
}

pub(crate) use for_vectors;

/// Calls a macro with the number of rows as a literal, each in a function of its own.
macro_rules! for_rows {
    ($isa:ident, $rows:expr, $call:ident!($($n:literal)+)) => {
        match $rows {
            $($n => if const { I::ROWS >= $n } {
                $isa.apart(
                    #[inline(always)]
                    || $call!($n),
                )
            },)+
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
                if const { I::LANES == 1 } {
                    // Rows one at a time where there are no four: tiles of every size would be most of the code in a board's
                    // flash.
                    if count == 4 {
                        self.rows::<I, 4>(isa, [row, 0, count], first, channels);
                        continue;
                    }
                    for r in 0..count {
                        self.rows::<I, 1>(isa, [row, r, count], first, channels);
                    }
                    continue;
                }
                for column in (0..self.out.columns()).step_by(V * I::LANES) {
                    macro_rules! tile {
                        ($n:literal) => {
                            self.tile::<I, $n, V>(isa, row, column, first, channels)
                        };
                    }
                    for_rows!(isa, count, tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14));
                }
            }
        }
    }

    /// Numbers from an output row to the next.
    #[inline(always)]
    fn apart(&self) -> usize {
        if self.out.rows() > 1 { self.out.row_start(1) - self.out.row_start(0) } else { 0 }
    }

    /// `R` rows of a panel that begins at `row` and has `count`, from its row `r` on, where a vector is one number: all columns, so
    /// that the places of the rows are found once.
    #[inline(always)]
    fn rows<I: Isa, const R: usize>(&mut self, isa: I, [row, r, count]: [usize; 3], first: usize, channels: usize) {
        let (taps, block, load) = (self.taps, self.block, self.add || first > 0);
        let group = taps * GROUP;
        let groups = self.channels.div_ceil(GROUP);
        let a = &self.a[(row * groups + first * count) * group..][..channels.div_ceil(GROUP) * count * group];
        let b = &self.b[first * group * block..][..channels * taps * block];
        let window = Window { start: r * GROUP, ..Window::panel(taps, count) };
        let columns = self.out.columns();
        let mut rows = self.out.rows_at::<R>(row + r);
        #[cfg(nunatak_mve)]
        let done = if R == 4 && count == 4 { whole_tiles(a, b, [channels, taps, block], &mut rows, load) } else { 0 };
        #[cfg(not(nunatak_mve))]
        let done = 0;
        for column in (done..columns).step_by(4) {
            let b = b.get(column..).unwrap_or(&[]); // empty where there are no taps
            let mut acc = [[isa.splat(0.0); 4]; R];
            micro::multiply::<I, R, 4>(isa, a, &window, b, channels, block, &mut acc);
            let mut sums = [[0.0; 4]; R];
            for (acc, sums) in acc.as_flattened().iter().zip(sums.as_flattened_mut().chunks_exact_mut(1)) {
                isa.store(*acc, sums);
            }
            for (y, sums) in rows.iter_mut().zip(&sums) {
                match y[column..].first_chunk_mut::<4>() {
                    Some(y) if load => y.iter_mut().zip(sums).for_each(|(y, sum)| *y += sum),
                    Some(y) => *y = *sums,
                    None => y[column..].iter_mut().zip(sums).for_each(|(y, sum)| *y = if load { *y + sum } else { *sum }),
                }
            }
        }
    }

    /// One tile: the `R` rows of a panel that begins at `row`.
    #[inline(always)]
    fn tile<I: Isa, const R: usize, const V: usize>(&mut self, isa: I, row: usize, column: usize, first: usize, channels: usize) {
        let group = self.taps * GROUP;
        let groups = self.channels.div_ceil(GROUP);
        let a = &self.a[(row * groups + first * R) * group..][..channels.div_ceil(GROUP) * R * group];
        let b = &self.b[first * group * self.block..][..channels * self.taps * self.block];
        let b = b.get(column..).unwrap_or(&[]); // empty where there are no taps
        let width = V * I::LANES;
        let there = (self.out.columns() - column).min(width);
        let load = self.add || first > 0;

        if first == 0 && self.apart() >= FAR {
            for i in 0..R {
                let to = self.out.row(row + i).as_ptr().wrapping_add(column);
                for line in (0..there).step_by(GROUP) {
                    isa.prefetch(to.wrapping_add(line));
                }
            }
        }
        let mut acc = [[isa.splat(0.0); V]; R];
        let window = Window::panel(self.taps, R);
        micro::multiply::<I, R, V>(isa, a, &window, b, channels, self.block, &mut acc);
        add_tile(isa, &acc, &mut self.out.rows_at::<R>(row), column, load);
    }
}

/// The columns of a panel of four rows that are whole tiles of whole groups of channels: how many were computed. `b` has so
/// many channels and taps, in blocks of so many columns; its first columns are those of `rows`.
#[cfg(nunatak_mve)]
#[allow(unsafe_code)]
#[inline(always)]
fn whole_tiles<const R: usize>(a: &[f32], b: &[f32], [channels, taps, block]: [usize; 3], rows: &mut [&mut [f32]; R], load: bool) -> usize {
    let group = taps * GROUP;
    let Some(rows) = rows.first_chunk_mut::<4>().filter(|_| taps > 0 && channels > 0 && channels.is_multiple_of(GROUP)) else { return 0 };
    let columns = rows[0].len() / 4 * 4;
    assert!(rows.iter().all(|row| row.len() >= columns) && columns <= block);
    assert!(a.len() >= channels / GROUP * 4 * group && b.len() >= channels * taps * block);
    for i in 0..channels / GROUP {
        let (a, b) = (&a[i * 4 * group..], &b[i * group * block..]);
        let mut y = rows.each_mut().map(|row| row.as_mut_ptr());
        for column in (0..columns).step_by(4) {
            // SAFETY: a group of the panel has 4·`group` numbers, and of the weights `group` blocks; whole tiles fit a block, and
            // every row.
            unsafe { helium::sixteen(a.as_ptr(), b.as_ptr().add(column), [block, taps * block], taps, &mut y, load || i > 0) };
        }
    }
    columns
}

/// Writes a register tile to rows of equal length, from column `at` on, or adds it where `load`. At the edge of a matrix fewer
/// columns may be there than the tile has.
#[inline(always)]
pub(crate) fn add_tile<I: Isa, const R: usize, const V: usize>(
    isa: I,
    sums: &[[I::V; V]; R],
    rows: &mut [&mut [f32]; R],
    at: usize,
    load: bool,
) {
    let width = V * I::LANES;
    if rows[0].len() - at < width {
        for (sums, y) in sums.iter().zip(rows) {
            let there = (y.len() - at).min(width);
            add_row(isa, sums, &mut y[at..][..there], load);
        }
        return;
    }
    // Loops of constant length, with the question outside of them: the sums stay in registers.
    if load {
        for (sums, y) in sums.iter().zip(rows) {
            for (sum, y) in sums.iter().zip(y[at..][..width].chunks_exact_mut(I::LANES)) {
                isa.store(isa.add(isa.load(y), *sum), y);
            }
        }
    } else {
        for (sums, y) in sums.iter().zip(rows) {
            for (sum, y) in sums.iter().zip(y[at..][..width].chunks_exact_mut(I::LANES)) {
                isa.store(*sum, y);
            }
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
