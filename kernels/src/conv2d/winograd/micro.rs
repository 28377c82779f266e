//! The innermost loops of the family: squares of vectors in and out of memory, and the two products.
//! Each checks once what it is about to read and write.

use super::scheme::{Line, MOST, Scheme};
use crate::bounds::inside;
use crate::gemm::micro::GROUP;
use crate::isa::Isa;
use core::marker::PhantomData;

/// A square of vectors in memory, of which only some lines and columns are there; the others are zeros.
#[derive(Clone, Copy)]
pub(super) struct Square<'a> {
    /// Where the first line's first vector lies, or would lie.
    corner: *const f32,
    /// Numbers from line to line and from column to column.
    step: [usize; 2],
    /// Lines and columns that are there: from, to.
    there: [[usize; 2]; 2],
    life: PhantomData<&'a [f32]>,
}

impl<'a> Square<'a> {
    /// The vectors at `corner + i·step[0] + j·step[1]` for the lines i and the columns j that are there.
    ///
    /// # Panics
    /// If one of them leaves `x`.
    #[inline(always)]
    pub(super) fn new<I: Isa>(x: &'a [f32], corner: isize, step: [usize; 2], there: [[usize; 2]; 2]) -> Self {
        let [lines, columns] = there;
        if lines[0] < lines[1] && columns[0] < columns[1] {
            // Nothing wraps where this holds: each vector that is there lies between these two.
            let first = place(corner, step, [lines[0], columns[0]]);
            let last = place(corner, step, [lines[1] - 1, columns[1] - 1]);
            assert!(first.is_some() && last.is_some_and(|last| last < x.len() && I::LANES <= x.len() - last));
        }
        Square { corner: x.as_ptr().wrapping_offset(corner), step, there, life: PhantomData }
    }

    /// A square that is there as a whole.
    #[inline(always)]
    pub(super) fn whole<I: Isa>(x: &'a [f32], step: [usize; 2], size: usize) -> Self {
        Self::new::<I>(x, 0, step, [[0, size]; 2])
    }

    #[inline(always)]
    fn load<I: Isa>(&self, isa: I, i: usize, j: usize) -> I::V {
        let [lines, columns] = self.there;
        if i >= lines[0] && i < lines[1] && j >= columns[0] && j < columns[1] {
            // SAFETY: between the first and the last vector that is there, both of which were checked.
            unsafe { isa.load_at(self.corner.wrapping_add(i * self.step[0] + j * self.step[1])) }
        } else {
            isa.splat(0.0)
        }
    }
}

/// Where a vector of a square lies; none where it lies before the slice, or its place does not fit.
#[inline(always)]
const fn place(corner: isize, step: [usize; 2], [i, j]: [usize; 2]) -> Option<usize> {
    let (Some(line), Some(column)) = (i.checked_mul(step[0]), j.checked_mul(step[1])) else { return None };
    let Some(inside) = line.checked_add(column) else { return None };
    inside.checked_add_signed(corner)
}

/// Asks for a square's vectors, which will be read or written soon: those at
/// `corner + i·step[0] + j·step[1]` for the lines i and the columns j that are there. Lines and columns of an
/// image lie so far apart that no CPU foresees them.
#[inline(always)]
pub(super) fn ask<I: Isa>(isa: I, corner: *const f32, step: [usize; 2], [lines, columns]: [[usize; 2]; 2]) {
    for i in lines[0]..lines[1] {
        for j in columns[0]..columns[1] {
            isa.prefetch(corner.wrapping_add(i.wrapping_mul(step[0])).wrapping_add(j.wrapping_mul(step[1])));
        }
    }
}

/// Vectors at equal distances, to be written.
pub(super) struct Positions<'a> {
    data: *mut f32,
    step: usize,
    count: usize,
    life: PhantomData<&'a mut [f32]>,
}

impl<'a> Positions<'a> {
    /// # Panics
    /// If they leave `y`.
    #[inline(always)]
    pub(super) fn new<I: Isa>(y: &'a mut [f32], count: usize, step: usize) -> Self {
        assert!(count > 0 && inside(y.len(), count, step, I::LANES));
        Positions { data: y.as_mut_ptr(), step, count, life: PhantomData }
    }

    #[inline(always)]
    fn store<I: Isa>(&mut self, isa: I, position: usize, v: I::V) {
        assert!(position < self.count);
        // SAFETY: the last position was checked to be there.
        unsafe { isa.store_at(v, self.data.wrapping_add(position * self.step)) }
    }
}

/// A square of up to [`MOST`] lines in registers: with indices that are known when it is compiled, so results
/// go to memory instead of being returned.
type Held<I> = [Line<I>; MOST];

/// Bᵀ x B
#[inline(always)]
pub(super) fn input<S: Scheme, I: Isa>(isa: I, x: Square, mut v: Positions) {
    let zero = isa.splat(0.0);
    let mut half: Held<I> = [[zero; MOST]; MOST];
    for j in 0..S::IN {
        let mut column = [zero; MOST];
        for i in 0..S::IN {
            column[i] = x.load(isa, i, j);
        }
        let column = S::input(isa, column);
        for i in 0..S::POINTS {
            half[i][j] = column[i];
        }
    }
    for i in 0..S::POINTS {
        let line = S::input(isa, half[i]);
        for j in 0..S::POINTS {
            v.store(isa, i * S::POINTS + j, line[j]);
        }
    }
}

/// G w Gᵀ, of the flipped filter where `FLIP`.
#[inline(always)]
pub(super) fn filter<S: Scheme, I: Isa, const FLIP: bool>(isa: I, w: Square, mut u: Positions) {
    let zero = isa.splat(0.0);
    let mut half: Held<I> = [[zero; MOST]; MOST];
    for j in 0..3 {
        let mut column = [zero; MOST];
        for i in 0..3 {
            column[i] = if FLIP { w.load(isa, 2 - i, 2 - j) } else { w.load(isa, i, j) };
        }
        let column = S::filter(isa, column);
        for i in 0..S::FILTERS {
            half[i][j] = column[i];
        }
    }
    for i in 0..S::FILTERS {
        let line = S::filter(isa, half[i]);
        for j in 0..S::FILTERS {
            u.store(isa, i * S::FILTERS + j, line[j]);
        }
    }
}

/// Aᵀ m A: lines and columns of pixels.
#[inline(always)]
pub(super) fn output<S: Scheme, I: Isa>(isa: I, m: Square, mut y: Positions) {
    let zero = isa.splat(0.0);
    let mut half: Held<I> = [[zero; MOST]; MOST];
    for j in 0..S::POINTS {
        let mut column = [zero; MOST];
        for i in 0..S::POINTS {
            column[i] = m.load(isa, i, j);
        }
        let column = S::output(isa, column);
        for i in 0..S::OUT {
            half[i][j] = column[i];
        }
    }
    for i in 0..S::OUT {
        let line = S::output(isa, half[i]);
        for j in 0..S::OUT {
            y.store(isa, i * S::OUT + j, line[j]);
        }
    }
}

/// A y Aᵀ
#[inline(always)]
pub(super) fn output_adjoint<S: Scheme, I: Isa>(isa: I, y: Square, mut d: Positions) {
    let zero = isa.splat(0.0);
    let mut half: Held<I> = [[zero; MOST]; MOST];
    for j in 0..S::OUT {
        let mut column = [zero; MOST];
        for i in 0..S::OUT {
            column[i] = y.load(isa, i, j);
        }
        let column = S::output_adjoint(isa, column);
        for i in 0..S::POINTS {
            half[i][j] = column[i];
        }
    }
    for i in 0..S::POINTS {
        let line = S::output_adjoint(isa, half[i]);
        for j in 0..S::POINTS {
            d.store(isa, i * S::POINTS + j, line[j]);
        }
    }
}

/// Gᵀ u G: lines and columns of taps.
#[inline(always)]
pub(super) fn filter_adjoint<S: Scheme, I: Isa>(isa: I, u: Square, mut w: Positions) {
    let zero = isa.splat(0.0);
    let mut half: Held<I> = [[zero; MOST]; MOST];
    for j in 0..S::FILTERS {
        let mut column = [zero; MOST];
        for i in 0..S::FILTERS {
            column[i] = u.load(isa, i, j);
        }
        let column = S::filter_adjoint(isa, column);
        for i in 0..3 {
            half[i][j] = column[i];
        }
    }
    for i in 0..3 {
        let line = S::filter_adjoint(isa, half[i]);
        for j in 0..3 {
            w.store(isa, i * 3 + j, line[j]);
        }
    }
}

/// The factors of [`multiply`].
#[derive(Clone, Copy)]
pub(super) struct Factors<'a> {
    /// Some rows of `[channels / 16][rows][16]`.
    pub(super) a: &'a [f32],
    pub(super) rows: usize,
    /// A line for each channel.
    pub(super) b: &'a [f32],
    pub(super) channels: usize,
    /// Numbers from line to line of b, and of the product.
    pub(super) stride: usize,
}

/// `m[r][v] = Σ a[r][k] · b[k][v]` (+ m where `add`): `R` rows times `V` vectors. Each sum starts from zero.
///
/// # Panics
/// If a slice is too short.
#[inline(always)]
pub(super) fn multiply<I: Isa, const R: usize, const V: usize>(isa: I, factors: Factors, m: &mut [f32], add: bool) {
    let Factors { a, rows, b, channels, stride } = factors;
    // Nothing wraps where these hold: no place below lies behind the last one, which was computed here.
    let group = rows.saturating_mul(GROUP);
    assert!(channels > 0 && inside(a.len(), channels.div_ceil(GROUP), group, R * GROUP));
    assert!(inside(b.len(), channels, stride, V * I::LANES));
    assert!(inside(m.len(), R, stride, V * I::LANES));
    let (mut a, mut b, m) = (a.as_ptr(), b.as_ptr(), m.as_mut_ptr());
    let mut acc = [[isa.splat(0.0); V]; R];
    let mut left = channels;
    while left > 0 {
        let depth = left.min(GROUP);
        for k in 0..depth {
            let mut w = [isa.splat(0.0); V];
            for v in 0..V {
                // SAFETY: `b` has moved `stride` numbers for each channel before this one; the last was
                // checked to be there.
                w[v] = unsafe { isa.load_at(b.add(v * I::LANES)) };
            }
            for r in 0..R {
                // SAFETY: k < 16 and r < R: the last group's R·16 numbers were checked to be there.
                let x = isa.splat(unsafe { *a.add(r * GROUP + k) });
                for v in 0..V {
                    acc[r][v] = isa.fma(x, w[v], acc[r][v]);
                }
            }
            b = b.wrapping_add(stride);
        }
        a = a.wrapping_add(group);
        left -= depth;
    }
    for r in 0..R {
        for v in 0..V {
            // SAFETY: the last row's last vector was checked to be there.
            unsafe {
                let to = m.add(r * stride + v * I::LANES);
                let sum = if add { isa.add(isa.load_at(to), acc[r][v]) } else { acc[r][v] };
                isa.store_at(sum, to);
            }
        }
    }
}

/// Transformed tiles of the input and of the gradient of the output.
#[derive(Clone, Copy)]
pub(super) struct Pairs<'a> {
    /// Tiles 16 numbers apart.
    pub(super) x: &'a [f32],
    /// Tiles `step` numbers apart.
    pub(super) d: &'a [f32],
    pub(super) step: usize,
    pub(super) tiles: usize,
}

/// `u[i][v] = Σ over tiles: x[tile][i] · d[tile][v]` (+ u where `add`): `R` input channels times `V`
/// vectors of output channels. Lines of `u` lie `line` numbers apart.
///
/// # Panics
/// If a slice is too short.
#[inline(always)]
pub(super) fn outer<I: Isa, const R: usize, const V: usize>(isa: I, pairs: Pairs, u: &mut [f32], line: usize, add: bool) {
    let Pairs { x, d, step, tiles } = pairs;
    // Nothing wraps where these hold: no place below lies behind the last one, which was computed here.
    assert!(inside(x.len(), tiles, GROUP, R) && inside(d.len(), tiles, step, V * I::LANES));
    assert!(inside(u.len(), R, line, V * I::LANES));
    let (mut x, mut d, u) = (x.as_ptr(), d.as_ptr(), u.as_mut_ptr());
    let mut acc = [[isa.splat(0.0); V]; R];
    for _ in 0..tiles {
        let mut y = [isa.splat(0.0); V];
        for v in 0..V {
            // SAFETY: no tile lies beyond the last, which was checked to be there.
            y[v] = unsafe { isa.load_at(d.add(v * I::LANES)) };
        }
        for i in 0..R {
            // SAFETY: as above.
            let x = isa.splat(unsafe { *x.add(i) });
            for v in 0..V {
                acc[i][v] = isa.fma(x, y[v], acc[i][v]);
            }
        }
        x = x.wrapping_add(GROUP);
        d = d.wrapping_add(step);
    }
    for i in 0..R {
        for v in 0..V {
            // SAFETY: the last line's last vector was checked to be there.
            unsafe {
                let to = u.add(i * line + v * I::LANES);
                let sum = if add { isa.add(isa.load_at(to), acc[i][v]) } else { acc[i][v] };
                isa.store_at(sum, to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::winograd2::Winograd2;
    use super::*;
    use crate::dispatch::Task;
    use crate::testing::{for_each_cpu, panics};

    const HALF: usize = 1 << (usize::BITS - 1);
    const MOST_SIZE: usize = usize::MAX;

    /// Bᵀ x B of a square of 64 numbers.
    struct Input {
        corner: isize,
        step: [usize; 2],
        there: [[usize; 2]; 2],
        positions: [usize; 2],
    }

    impl Task for Input {
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let (x, mut y) = ([1.0; 64], [0.0; 512]);
            let square = Square::new::<I>(&x, self.corner, self.step, self.there);
            input::<Winograd2, I>(isa, square, Positions::new::<I>(&mut y, self.positions[0], self.positions[1]));
        }
    }

    #[derive(Clone, Copy)]
    struct Product {
        rows: usize,
        channels: usize,
        stride: usize,
    }

    impl Task for Product {
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let (a, b, mut m) = ([1.0; 128], [1.0; 512], [0.0; 64]);
            let Product { rows, channels, stride } = self;
            multiply::<I, 2, 1>(isa, Factors { a: &a, rows, b: &b, channels, stride }, &mut m, true);
        }
    }

    #[derive(Clone, Copy)]
    struct Outer {
        step: usize,
        tiles: usize,
        line: usize,
    }

    impl Task for Outer {
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let (x, d, mut u) = ([1.0; 64], [1.0; 64], [0.0; 64]);
            outer::<I, 2, 1>(isa, Pairs { x: &x, d: &d, step: self.step, tiles: self.tiles }, &mut u, self.line, true);
        }
    }

    #[test]
    fn squares_whose_places_wrap_are_refused() {
        let all = [[0, 2]; 2];
        let fits = [16, 32];
        let cases = [
            (-1, [32, 16], all, fits),
            (17, [32, 16], all, fits),
            (isize::MIN, [32, 16], all, fits),
            (isize::MAX, [32, 16], all, fits),
            (0, [MOST_SIZE, 1], all, fits), // the last line lies before the first
            (1, [MOST_SIZE, 0], all, fits),
            (0, [HALF, HALF], all, fits), // line and column together wrap to 0
            (0, [HALF, 16], [[0, 3], [0, 2]], fits),
            (0, [HALF / 2, 0], [[0, 5], [0, 2]], fits),
            (0, [16, HALF], [[0, 2], [0, 3]], fits),
            (-16, [HALF, 16], [[2, 4], [1, 2]], fits), // the first wraps to 0
            (0, [0, 0], [[0, MOST_SIZE], [0, 2]], [16, HALF]),
            (0, [32, 16], all, [0, 32]),
            (0, [32, 16], all, [17, HALF]),
            (0, [32, 16], all, [16, MOST_SIZE]),
            (0, [32, 16], all, [MOST_SIZE, 512]),
            (0, [32, 16], all, [15, 32]), // one position too few
        ];
        for_each_cpu(|cpu| {
            cpu.level.run(Input { corner: 0, step: [32, 16], there: all, positions: fits });
            // Where nothing is there, nothing is read, wherever it would lie.
            cpu.level.run(Input { corner: isize::MIN, step: [HALF, MOST_SIZE], there: [[3, 3], [0, 4]], positions: fits });
            for (i, (corner, step, there, positions)) in cases.into_iter().enumerate() {
                assert!(panics(|| cpu.level.run(Input { corner, step, there, positions })), "case {i} at {}", cpu.level);
            }
        });
    }

    #[test]
    fn products_over_sizes_that_wrap_are_refused() {
        for_each_cpu(|cpu| {
            let fits = Product { rows: 4, channels: 17, stride: 16 };
            cpu.level.run(fits);
            cpu.level.run(Product { channels: 16, rows: MOST_SIZE, ..fits }); // one group: nothing is read behind it
            let cases = [
                Product { channels: 0, ..fits },
                Product { channels: MOST_SIZE, ..fits },
                Product { channels: 33, ..fits },
                Product { rows: HALF, ..fits },
                Product { rows: HALF / 8, ..fits }, // 16 of them wrap to 0
                Product { rows: HALF / 8 + 1, channels: 33, ..fits },
                Product { rows: 8, ..fits },
                Product { stride: HALF, ..fits },
                Product { stride: MOST_SIZE - 15, ..fits },
                Product { channels: 2, stride: MOST_SIZE, ..fits },
            ];
            for (i, product) in cases.into_iter().enumerate() {
                assert!(panics(|| cpu.level.run(product)), "case {i} at {}", cpu.level);
            }
            let fits = Outer { step: 16, tiles: 4, line: 32 };
            cpu.level.run(fits);
            cpu.level.run(Outer { tiles: 0, step: MOST_SIZE, ..fits });
            let cases = [
                Outer { tiles: MOST_SIZE, ..fits },
                Outer { tiles: HALF / 8 + 1, ..fits }, // 16 of them less one wrap to 0
                Outer { tiles: HALF / 8 + 1, step: 0, ..fits },
                Outer { tiles: 3, step: HALF, ..fits },
                Outer { tiles: 2, step: MOST_SIZE, ..fits },
                Outer { line: MOST_SIZE, ..fits },
                Outer { line: MOST_SIZE - 7, ..fits },
                Outer { line: 64, ..fits },
            ];
            for (i, outer) in cases.into_iter().enumerate() {
                assert!(panics(|| cpu.level.run(outer)), "case {i} at {}", cpu.level);
            }
        });
    }
}
