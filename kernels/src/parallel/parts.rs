//! Outputs cut into parts that do not overlap: what one slice becomes when many threads write it.
//!
//! This file holds the `unsafe` that lends one slice to many threads; those who call it need none.

use crate::bounds::product;
use core::marker::PhantomData;

/// An output cut into parts that do not overlap.
///
/// # Safety
/// The parts of different indices below `count()` must not share memory.
pub(crate) unsafe trait Parts: Sync {
    /// What one call gets.
    type Part;
    /// How many parts there are.
    fn count(&self) -> usize;
    /// # Safety
    /// `index < count()`, and of one index there is at most one part at a time.
    unsafe fn part(&self, index: usize) -> Self::Part;
}

/// No output: so many calls.
#[cfg(all(test, feature = "std"))]
pub(crate) struct Calls(pub(crate) usize);

#[cfg(all(test, feature = "std"))]
// SAFETY: there is no memory in the parts.
unsafe impl Parts for Calls {
    type Part = ();
    fn count(&self) -> usize {
        self.0
    }
    unsafe fn part(&self, _: usize) {}
}

/// A slice in consecutive parts of equal length; the last may be shorter, and where the slice ends
/// early the rest are empty.
pub(crate) struct Chunks<'a, T> {
    data: *mut T,
    len: usize,
    each: usize,
    count: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out disjoint `&mut [T]`, which may go to other threads where T may.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    /// `count` parts of `each` numbers.
    ///
    /// # Panics
    /// If so many parts do not cover the slice.
    pub(crate) fn new(data: &'a mut [T], each: usize, count: usize) -> Self {
        assert!(each.saturating_mul(count) >= data.len(), "{count} parts of {each} do not cover {}", data.len());
        Chunks { data: data.as_mut_ptr(), len: data.len(), each, count, life: PhantomData }
    }
}

// SAFETY: part i is [i·each, (i+1)·each) cut at the end of the slice.
unsafe impl<'a, T: Send> Parts for Chunks<'a, T> {
    type Part = &'a mut [T];
    fn count(&self) -> usize {
        self.count
    }
    unsafe fn part(&self, index: usize) -> &'a mut [T] {
        debug_assert!(index < self.count);
        // A product that does not fit a `usize` lies behind the slice's end, as its true value does.
        let start = index.saturating_mul(self.each).min(self.len);
        let len = self.each.min(self.len - start);
        // SAFETY: inside the slice that was borrowed for 'a; disjoint as said above.
        unsafe { core::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}

/// Where the rows of a matrix lie: row m is pixel (m / (h·w), m / w mod h, m mod w) of images whose
/// neighbouring pixels, lines and images lie so many numbers apart.
#[derive(Clone, Copy)]
pub(crate) struct RowMap {
    /// Pixels a line.
    pub(crate) w: usize,
    /// Lines an image.
    pub(crate) h: usize,
    /// Numbers from pixel to pixel.
    pub(crate) pixel: usize,
    /// Numbers from line to line.
    pub(crate) line: usize,
    /// Numbers from image to image.
    pub(crate) image: usize,
    /// Numbers before row 0.
    pub(crate) start: usize,
}

impl RowMap {
    /// Rows of `columns` numbers one behind the other.
    ///
    /// # Panics
    /// If so many numbers do not fit the address space.
    pub(crate) const fn plain(rows: usize, columns: usize) -> RowMap {
        let all = product(&[rows, columns]);
        RowMap { w: rows, h: 1, pixel: columns, line: all, image: all, start: 0 }
    }

    /// The slice's length that the rows below `end`, of `n` numbers each, need at least; none where it does
    /// not fit a `usize`.
    pub(super) fn reach(&self, end: usize, n: usize) -> Option<usize> {
        let Some(m) = end.checked_sub(1) else { return Some(0) };
        let (line, x) = (m / self.w, m % self.w);
        let places = [(line / self.h, self.image), (line % self.h, self.line), (x, self.pixel)];
        places.iter().try_fold(self.start, |sum, (count, each)| sum.checked_add(count.checked_mul(*each)?))?.checked_add(n)
    }

    /// Whether the rows below `end`, of `n` numbers each, lie one behind the other: in a line, from line to
    /// line, and from image to image.
    pub(super) fn ascends(&self, end: usize, n: usize) -> Result<(), &'static str> {
        let numbers = |count: usize, each: usize, last: usize| (count - 1).checked_mul(each)?.checked_add(last);
        let line = numbers(self.w, self.pixel, n);
        if n > self.pixel || self.h > 1 && line.is_none_or(|line| line > self.line) {
            return Err("rows of a matrix overlap");
        }
        // Where the rows end in the first image, nothing follows it.
        let one = self.w.checked_mul(self.h).is_none_or(|rows| end <= rows);
        let image = line.and_then(|line| numbers(self.h, self.line, line));
        if !one && image.is_none_or(|image| image > self.image) { Err("images of a matrix overlap") } else { Ok(()) }
    }

    /// Where row `m` begins.
    #[inline(always)]
    pub(crate) const fn row(&self, m: usize) -> usize {
        if m < self.w {
            return self.start + m * self.pixel;
        }
        let (line, x) = (m / self.w, m % self.w);
        self.start + (line / self.h) * self.image + (line % self.h) * self.line + x * self.pixel
    }
}

/// A matrix cut into tiles of `rows` x `columns`; tile index = row tile · column tiles + column tile.
pub(crate) struct Tiles<'a, T = f32> {
    data: *mut T,
    map: RowMap,
    first: usize,
    m: usize,
    /// Columns: from, to.
    from: usize,
    n: usize,
    rows: usize,
    columns: usize,
    /// Rows are cut anew after so many.
    period: usize,
    /// The number of the first row tile.
    number: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out disjoint tiles of a slice of T, which may go to other threads where T may.
unsafe impl<T: Send> Sync for Tiles<'_, T> {}

impl<'a, T> Tiles<'a, T> {
    /// The `m` x `n` matrix whose rows lie in `data` as `map` says, in tiles of `rows` x `columns`.
    ///
    /// # Panics
    /// If rows would overlap or leave the slice.
    pub(crate) fn new(data: &'a mut [T], map: RowMap, m: usize, n: usize, rows: usize, columns: usize) -> Self {
        Self::from_row(data, map, 0, m, n, rows, columns)
    }

    /// The same for `m` rows of a matrix from its row `first` on.
    ///
    /// # Panics
    /// If rows would overlap or leave the slice.
    pub(crate) fn from_row(data: &'a mut [T], map: RowMap, first: usize, m: usize, n: usize, rows: usize, columns: usize) -> Self {
        assert!(rows > 0 && columns > 0 && map.w > 0 && map.h > 0);
        let end = first.checked_add(m).unwrap_or_else(|| panic!("{m} rows from row {first} on: more than there are numbers"));
        // Together: every row's place is a sum of products that fit, and each row ends before the next begins.
        map.ascends(end, n).unwrap_or_else(|fault| panic!("{fault}"));
        assert!(
            m == 0 || map.reach(end, n).is_some_and(|all| all <= data.len()),
            "a matrix of {end} x {n} leaves its {} numbers",
            data.len()
        );
        Tiles { data: data.as_mut_ptr(), map, first, m, from: 0, n, rows, columns, period: m.max(1), number: 0, life: PhantomData }
    }

    /// The same, with the rows of each `period` (an image, say) cut for themselves: no tile crosses
    /// from one to the next.
    pub(crate) fn with_period(self, period: usize) -> Self {
        assert!(period > 0 && self.m.is_multiple_of(period), "{} rows are no multiple of {period}", self.m);
        Tiles { period, ..self }
    }

    /// The same without the columns before `from`: they belong to nobody.
    ///
    /// # Panics
    /// If there are not so many.
    pub(crate) fn beyond_column(self, from: usize) -> Self {
        assert!(from <= self.n, "column {from} of {}", self.n);
        Tiles { from, ..self }
    }

    /// The same, with row tiles counted from `first` on.
    ///
    /// # Panics
    /// If the last one's number does not fit a `usize`.
    pub(crate) fn numbered_from(self, first: usize) -> Self {
        assert!(first.checked_add(self.m).is_some(), "{} rows' tiles counted from {first} on", self.m);
        Tiles { number: first, ..self }
    }

    /// Tiles side by side.
    pub(crate) fn column_tiles(&self) -> usize {
        (self.n - self.from).div_ceil(self.columns)
    }
}

// SAFETY: tiles are products of disjoint row ranges and disjoint column ranges of rows that
// `Tiles::new` found not to overlap.
unsafe impl<'a, T: Send> Parts for Tiles<'a, T> {
    type Part = Tile<'a, T>;
    fn count(&self) -> usize {
        (self.m / self.period) * self.period.div_ceil(self.rows) * self.column_tiles()
    }
    unsafe fn part(&self, index: usize) -> Tile<'a, T> {
        let (i, j) = (index / self.column_tiles(), index % self.column_tiles());
        let each = self.period.div_ceil(self.rows);
        let (inside, column) = (i % each * self.rows, self.from + j * self.columns);
        let row = i / each * self.period + inside;
        Tile {
            data: self.data,
            map: self.map,
            row: self.first + row,
            rows: self.rows.min(self.period - inside),
            column,
            columns: self.columns.min(self.n - column),
            number: self.number + i,
            life: PhantomData,
        }
    }
}

/// Some consecutive ones of other parts.
pub(crate) struct Section<P> {
    parts: P,
    first: usize,
    count: usize,
}

impl<P: Parts> Section<P> {
    /// `count` parts from part `first` on.
    ///
    /// # Panics
    /// If there are not so many.
    pub(crate) fn new(parts: P, first: usize, count: usize) -> Self {
        let all = parts.count();
        assert!(first <= all && count <= all - first, "{count} parts from part {first} on of {all}");
        Section { parts, first, count }
    }
}

// SAFETY: different indices stay different.
unsafe impl<P: Parts> Parts for Section<P> {
    type Part = P::Part;
    fn count(&self) -> usize {
        self.count
    }
    unsafe fn part(&self, index: usize) -> P::Part {
        debug_assert!(index < self.count);
        // SAFETY: below the count that was checked; asked for at most once as `index` is.
        unsafe { self.parts.part(self.first + index) }
    }
}

/// A rectangle of a matrix that one thread may write.
pub(crate) struct Tile<'a, T = f32> {
    data: *mut T,
    map: RowMap,
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
    number: usize,
    life: PhantomData<&'a mut [T]>,
}

impl<T> Tile<'_, T> {
    /// The number of this row tile: the same for all tiles side by side, another for each of those
    /// below each other.
    #[inline(always)]
    pub(crate) fn number(&self) -> usize {
        self.number
    }
    /// The first row's number in the matrix.
    #[inline(always)]
    pub(crate) fn first_row(&self) -> usize {
        self.row
    }
    /// Number of rows.
    #[inline(always)]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
    /// The first column's number in the matrix.
    #[inline(always)]
    pub(crate) fn first_column(&self) -> usize {
        self.column
    }
    /// Number of columns.
    #[inline(always)]
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }
    /// Where the tile's part of row `i` begins, in numbers of the whole matrix's slice.
    #[inline(always)]
    pub(crate) fn row_start(&self, i: usize) -> usize {
        self.map.row(self.row + i) + self.column
    }
    /// `count` rows from row `i` on as one slice, where rows lie one behind the other.
    ///
    /// # Panics
    /// If there are not so many rows, or something lies between them.
    #[inline(always)]
    pub(crate) fn rows_from(&mut self, i: usize, count: usize) -> &mut [T] {
        assert!(i + count <= self.rows, "rows {i} … {} of {}", i + count, self.rows);
        assert!(self.columns == self.map.pixel && self.map.h == 1, "a tile whose rows do not lie one behind the other");
        let at = self.row_start(i);
        // SAFETY: rows without a gap, each inside the slice (checked by `Tiles::new`), which this tile alone has.
        unsafe { core::slice::from_raw_parts_mut(self.data.add(at), count * self.columns) }
    }
    /// Where `N` numbers of row 0 from column `at` on lie, and how far it is to the next row's, where that is so for all rows.
    ///
    /// # Panics
    /// If there are not so many columns, or no rows.
    #[cfg(nunatak_mve)]
    #[inline(always)]
    pub(crate) fn column<const N: usize>(&self, at: usize) -> Option<(*const T, usize)> {
        assert!(self.rows > 0 && at <= self.columns && N <= self.columns - at);
        // SAFETY: inside the slice (checked by `Tiles::new`).
        let first = unsafe { self.data.add(self.row_start(0) + at) };
        (self.row + self.rows <= self.map.w).then_some((first, self.map.pixel))
    }
    /// The tile's parts of `N` rows from row `i` on.
    ///
    /// # Panics
    /// If there are not so many rows.
    #[inline(always)]
    pub(crate) fn rows_at<const N: usize>(&mut self, i: usize) -> [&mut [T]; N] {
        assert!(i <= self.rows && N <= self.rows - i);
        // SAFETY: as in `row`; rows of a matrix share no number (checked by `Tiles::new`).
        core::array::from_fn(|r| unsafe { core::slice::from_raw_parts_mut(self.data.add(self.row_start(i + r)), self.columns) })
    }
    /// `count` rows of the tile from row `i` on.
    ///
    /// # Panics
    /// If there are not so many.
    #[inline(always)]
    pub(crate) fn part(&mut self, i: usize, count: usize) -> Tile<'_, T> {
        assert!(i <= self.rows && count <= self.rows - i, "rows {i} … of {}", self.rows);
        Tile { row: self.row + i, rows: count, life: PhantomData, ..*self }
    }
    /// The tile's part of row `i` (counted from the tile's first).
    ///
    /// # Panics
    /// If there is no such row.
    #[inline(always)]
    pub(crate) fn row(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows);
        let at = self.row_start(i);
        // SAFETY: inside the slice (checked by `Tiles::new`), and this tile alone has this range.
        unsafe { core::slice::from_raw_parts_mut(self.data.add(at), self.columns) }
    }
}

macro_rules! parts_of_tuples {
    ($($name:ident $field:tt),+) => {
        // SAFETY: the parts of each member are disjoint, and members borrow different memory.
        unsafe impl<$($name: Parts),+> Parts for ($($name,)+) {
            type Part = ($($name::Part,)+);
            fn count(&self) -> usize {
                let count = self.0.count();
                $(assert_eq!(self.$field.count(), count, "outputs cut into different numbers of parts");)+
                count
            }
            unsafe fn part(&self, index: usize) -> Self::Part {
                // SAFETY: the caller's duty, passed on.
                ($(unsafe { self.$field.part(index) },)+)
            }
        }
    };
}
parts_of_tuples!(A 0, B 1);
parts_of_tuples!(A 0, B 1, C 2);
parts_of_tuples!(A 0, B 1, C 2, D 3);
