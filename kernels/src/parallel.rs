//! Work on several threads, in fixed parts.
//!
//! An output is cut into parts that do not overlap ([`Parts`]), each part is handed to exactly one
//! call of a closure, and which thread makes that call changes nothing: the result is the same
//! bits for any number of threads. Without the feature `rayon` the same parts run in order.
//!
//! This file holds the `unsafe` that lends one slice to many threads; those who call it need none.

use crate::Level;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicUsize, Ordering};

/// How many threads work, and where they come from.
#[derive(Clone)]
pub struct Threads {
    count: usize,
    #[cfg(feature = "rayon")]
    pool: Option<std::sync::Arc<rayon::ThreadPool>>,
}

/// The operating system gave no threads.
#[cfg(feature = "rayon")]
#[derive(Debug)]
pub struct ThreadsError {
    /// The number asked for.
    pub count: usize,
    cause: rayon::ThreadPoolBuildError,
}

#[cfg(feature = "rayon")]
impl core::fmt::Display for ThreadsError {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        write!(f, "can't start {} threads ({}); ask for 1 to do without", self.count, self.cause)
    }
}

#[cfg(feature = "rayon")]
impl core::error::Error for ThreadsError {}

impl Threads {
    /// The caller's thread alone: nothing is started, nothing allocated.
    pub const fn serial() -> Threads {
        Threads {
            count: 1,
            #[cfg(feature = "rayon")]
            pool: None,
        }
    }

    /// `count` threads (at least 1).
    ///
    /// # Errors
    /// [`ThreadsError`] where the operating system refuses.
    #[cfg(feature = "rayon")]
    pub fn new(count: usize) -> Result<Threads, ThreadsError> {
        if count <= 1 {
            return Ok(Self::serial());
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|i| std::format!("nunatak-{i}"))
            .build()
            .map_err(|cause| ThreadsError { count, cause })?;
        Ok(Threads { count, pool: Some(std::sync::Arc::new(pool)) })
    }

    /// The number of threads: so many pieces of scratch memory are in use at once.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Runs `work` where the loops inside it can reach the threads without a detour. Enter once
    /// per step, not once per loop: entering costs a wake-up.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        #[cfg(feature = "rayon")]
        if let Some(pool) = &self.pool {
            return pool.install(work);
        }
        work()
    }

    /// Calls `worker(0)` … `worker(count − 1)`, at the same time where it can.
    fn workers(&self, worker: &(dyn Fn(usize) + Sync)) {
        #[cfg(feature = "rayon")]
        if let Some(pool) = &self.pool {
            return pool.install(|| fork(0, self.count, worker));
        }
        for i in 0..self.count {
            worker(i);
        }
    }
}

/// `worker(low)` … `worker(high − 1)` as a tree of joins (which need no heap).
#[cfg(feature = "rayon")]
fn fork(low: usize, high: usize, worker: &(dyn Fn(usize) + Sync)) {
    if high - low <= 1 {
        worker(low);
    } else {
        let middle = low + (high - low) / 2;
        rayon::join(|| fork(low, middle, worker), || fork(middle, high, worker));
    }
}

/// The machine that kernels run on: an instruction set and threads.
#[derive(Clone, Copy)]
pub struct Cpu<'t> {
    /// The instruction set.
    pub level: Level,
    /// The threads.
    pub threads: &'t Threads,
}

impl Cpu<'_> {
    /// Calls `work(index, part, scratch)` once for each part of `outputs`, on all threads.
    ///
    /// Each thread has `each` numbers of `scratch` for itself, with unspecified contents.
    ///
    /// # Panics
    /// If `scratch` is shorter than `each` times the number of threads.
    pub fn run<P: Parts>(&self, outputs: P, scratch: &mut [f32], each: usize, work: impl Fn(usize, P::Part, &mut [f32]) + Sync) {
        let count = outputs.count();
        let threads = self.threads.count.min(count.max(1));
        assert!(
            scratch.len() >= each * self.threads.count,
            "scratch of {} numbers for {} threads of {each}",
            scratch.len(),
            self.threads.count
        );
        let scratch = Chunks::new(&mut scratch[..each * threads], each.max(1), threads);
        let next = AtomicUsize::new(0);
        let worker = |thread: usize| {
            if thread >= threads {
                return;
            }
            let scratch: &mut [f32] = if each == 0 {
                &mut []
            } else {
                // SAFETY: every thread has a number of its own, and takes this part once.
                unsafe { scratch.part(thread) }
            };
            loop {
                // Relaxed is enough: the counter only hands out numbers; the end of the parallel
                // section orders the writes before whatever follows.
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                // SAFETY: `fetch_add` gives each index to one thread, once.
                work(index, unsafe { outputs.part(index) }, scratch);
            }
        };
        if threads == 1 {
            worker(0);
        } else {
            self.threads.workers(&worker);
        }
    }
}

/// An output cut into parts that do not overlap.
///
/// # Safety
/// The parts of different indices below `count()` must not share memory.
pub unsafe trait Parts: Sync {
    /// What one call gets.
    type Part;
    /// How many parts there are.
    fn count(&self) -> usize;
    /// # Safety
    /// `index < count()`, and each index is asked for at most once.
    unsafe fn part(&self, index: usize) -> Self::Part;
}

/// No output: so many calls.
pub struct Calls(pub usize);

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
pub struct Chunks<'a, T> {
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
    pub fn new(data: &'a mut [T], each: usize, count: usize) -> Self {
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
        let start = (index * self.each).min(self.len);
        let len = self.each.min(self.len - start);
        // SAFETY: inside the slice that was borrowed for 'a; disjoint as said above.
        unsafe { core::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}

/// Where the rows of a matrix lie: row m is pixel (m / (h·w), m / w mod h, m mod w) of images whose
/// neighbouring pixels, lines and images lie so many numbers apart.
#[derive(Clone, Copy)]
pub struct RowMap {
    /// Pixels a line.
    pub w: usize,
    /// Lines an image.
    pub h: usize,
    /// Numbers from pixel to pixel.
    pub pixel: usize,
    /// Numbers from line to line.
    pub line: usize,
    /// Numbers from image to image.
    pub image: usize,
    /// Numbers before row 0.
    pub start: usize,
}

impl RowMap {
    /// Rows of `columns` numbers one behind the other.
    pub const fn plain(rows: usize, columns: usize) -> RowMap {
        RowMap { w: rows, h: 1, pixel: columns, line: rows * columns, image: rows * columns, start: 0 }
    }

    /// Where row `m` begins.
    #[inline(always)]
    pub const fn row(&self, m: usize) -> usize {
        if m < self.w {
            return self.start + m * self.pixel;
        }
        let (line, x) = (m / self.w, m % self.w);
        self.start + (line / self.h) * self.image + (line % self.h) * self.line + x * self.pixel
    }
}

/// A matrix cut into tiles of `rows` x `columns`; tile index = row tile · column tiles + column tile.
pub struct Tiles<'a> {
    data: *mut f32,
    map: RowMap,
    first: usize,
    m: usize,
    n: usize,
    rows: usize,
    columns: usize,
    /// Rows are cut anew after so many.
    period: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: it only hands out disjoint tiles of a slice of f32.
unsafe impl Sync for Tiles<'_> {}

impl<'a> Tiles<'a> {
    /// The `m` x `n` matrix whose rows lie in `data` as `map` says, in tiles of `rows` x `columns`.
    ///
    /// # Panics
    /// If rows would overlap or leave the slice.
    pub fn new(data: &'a mut [f32], map: RowMap, m: usize, n: usize, rows: usize, columns: usize) -> Self {
        Self::from_row(data, map, 0, m, n, rows, columns)
    }

    /// The same for `m` rows of a matrix from its row `first` on.
    ///
    /// # Panics
    /// If rows would overlap or leave the slice.
    pub fn from_row(data: &'a mut [f32], map: RowMap, first: usize, m: usize, n: usize, rows: usize, columns: usize) -> Self {
        let end = first + m;
        assert!(rows > 0 && columns > 0 && map.w > 0 && map.h > 0);
        // Injective: a line's pixels end before the next line starts, and so for images.
        let line = (map.w - 1) * map.pixel + n;
        assert!(n <= map.pixel && (map.h == 1 || line <= map.line), "rows of a matrix overlap");
        assert!(end <= map.w * map.h || (map.h - 1) * map.line + line <= map.image, "images of a matrix overlap");
        assert!(m == 0 || map.row(end - 1) + n <= data.len(), "a matrix of {end} x {n} leaves its {} numbers", data.len());
        Tiles { data: data.as_mut_ptr(), map, first, m, n, rows, columns, period: m.max(1), life: PhantomData }
    }

    /// The same, with the rows of each `period` (an image, say) cut for themselves: no tile crosses
    /// from one to the next.
    pub fn with_period(self, period: usize) -> Self {
        assert!(period > 0 && self.m.is_multiple_of(period), "{} rows are no multiple of {period}", self.m);
        Tiles { period, ..self }
    }

    /// Tiles side by side.
    pub fn column_tiles(&self) -> usize {
        self.n.div_ceil(self.columns)
    }
}

// SAFETY: tiles are products of disjoint row ranges and disjoint column ranges of rows that
// `Tiles::new` found not to overlap.
unsafe impl<'a> Parts for Tiles<'a> {
    type Part = Tile<'a>;
    fn count(&self) -> usize {
        (self.m / self.period) * self.period.div_ceil(self.rows) * self.column_tiles()
    }
    unsafe fn part(&self, index: usize) -> Tile<'a> {
        let (i, j) = (index / self.column_tiles(), index % self.column_tiles());
        let each = self.period.div_ceil(self.rows);
        let (inside, column) = (i % each * self.rows, j * self.columns);
        let row = i / each * self.period + inside;
        Tile {
            data: self.data,
            map: self.map,
            row: self.first + row,
            rows: self.rows.min(self.period - inside),
            column,
            columns: self.columns.min(self.n - column),
            life: PhantomData,
        }
    }
}

/// A rectangle of a matrix that one thread may write.
pub struct Tile<'a> {
    data: *mut f32,
    map: RowMap,
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
    life: PhantomData<&'a mut [f32]>,
}

impl Tile<'_> {
    /// The first row's number in the matrix.
    #[inline(always)]
    pub fn first_row(&self) -> usize {
        self.row
    }
    /// Number of rows.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// The first column's number in the matrix.
    #[inline(always)]
    pub fn first_column(&self) -> usize {
        self.column
    }
    /// Number of columns.
    #[inline(always)]
    pub fn columns(&self) -> usize {
        self.columns
    }
    /// Where the tile's part of row `i` begins, in numbers of the whole matrix's slice.
    #[inline(always)]
    pub fn row_start(&self, i: usize) -> usize {
        self.map.row(self.row + i) + self.column
    }
    /// The tile's part of row `i` (counted from the tile's first).
    ///
    /// # Panics
    /// If there is no such row.
    #[inline(always)]
    pub fn row(&mut self, i: usize) -> &mut [f32] {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn all_threads() -> std::vec::Vec<Threads> {
        #[cfg(feature = "rayon")]
        return [1, 2, 3, 7].map(|n| Threads::new(n).expect("threads")).into();
        #[cfg(not(feature = "rayon"))]
        [Threads::serial()].into()
    }

    #[test]
    fn every_part_is_visited_once() {
        for threads in all_threads() {
            let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
            let mut y = [0.0_f32; 103];
            let mut scratch = std::vec![f32::NAN; 5 * threads.count()];
            cpu.run(Chunks::new(&mut y, 10, 11), &mut scratch, 5, |i, part, scratch| {
                scratch.fill(i as f32);
                part.iter_mut().for_each(|v| *v += 1.0 + scratch[4]);
            });
            for (i, v) in y.iter().enumerate() {
                assert_eq!(*v, 1.0 + (i / 10) as f32);
            }
        }
    }

    #[test]
    fn tiles_cover_a_strided_matrix() {
        // Every second pixel of 2 images of 4 x 6 with 5 channels.
        let mut y = [0.0_f32; 2 * 4 * 6 * 5];
        let map = RowMap { w: 3, h: 2, pixel: 10, line: 60, image: 120, start: 5 };
        let tiles = Tiles::new(&mut y, map, 12, 5, 5, 2);
        let cpu = Cpu { level: Level::PORTABLE, threads: &Threads::serial() };
        assert_eq!(tiles.count(), 3 * 3);
        cpu.run(tiles, &mut [], 0, |_, mut tile, _| {
            for i in 0..tile.rows() {
                tile.row(i).iter_mut().for_each(|v| *v += 1.0);
            }
        });
        for (i, v) in y.iter().enumerate() {
            let (line, pixel) = (i / 30, i / 5 % 6);
            let expected = (line % 4 % 2 == 0 && pixel % 2 == 1) as u8 as f32;
            assert_eq!(*v, expected, "at {i}");
        }
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_rows_are_refused() {
        let mut y = [0.0; 64];
        Tiles::new(&mut y, RowMap { w: 4, h: 2, pixel: 4, line: 12, image: 32, start: 0 }, 8, 4, 2, 2);
    }
}
