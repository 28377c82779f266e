//! The innermost loops of the family: squares of vectors in and out of memory, and the two products.
//! Each checks once what it is about to read and write.

use super::scheme::{Line, MOST, Scheme};
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
            let first = corner + (lines[0] * step[0] + columns[0] * step[1]) as isize;
            let last = corner + ((lines[1] - 1) * step[0] + (columns[1] - 1) * step[1]) as isize;
            assert!(first >= 0 && last as usize + I::LANES <= x.len());
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

/// Asks for a square's vectors, which will be read or written soon: those at
/// `corner + i·step[0] + j·step[1]` for the lines i and the columns j that are there. Lines and columns of an
/// image lie so far apart that no CPU foresees them.
#[inline(always)]
pub(super) fn ask<I: Isa>(isa: I, corner: *const f32, step: [usize; 2], [lines, columns]: [[usize; 2]; 2]) {
    for i in lines[0]..lines[1] {
        for j in columns[0]..columns[1] {
            isa.prefetch(corner.wrapping_add(i * step[0] + j * step[1]));
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
        assert!(count > 0 && y.len() >= (count - 1) * step + I::LANES);
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

/// `m[r][v] = Σ a[r][k] · b[k][v]` (+ m where `add`): `R` rows times `V` vectors.
///
/// The rows are some of `[channels / 16][rows][16]`; the lines of `b` are `stride` numbers apart, those of
/// `m` also. Each sum starts from zero.
///
/// # Panics
/// If a slice is too short.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // the parts of a product
pub(super) fn multiply<I: Isa, const R: usize, const V: usize>(
    isa: I,
    a: &[f32],
    rows: usize,
    b: &[f32],
    channels: usize,
    stride: usize,
    m: &mut [f32],
    add: bool,
) {
    assert!(channels > 0 && a.len() >= ((channels - 1) / GROUP * rows + R) * GROUP);
    assert!(b.len() >= (channels - 1) * stride + V * I::LANES);
    assert!(m.len() >= (R - 1) * stride + V * I::LANES);
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
        a = a.wrapping_add(rows * GROUP);
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

/// `u[i][v] = Σ over tiles: x[tile][i] · d[tile][v]` (+ u where `add`): `R` input channels times `V`
/// vectors of output channels. Tiles of `x` lie 16 numbers apart, those of `d` `step`, lines of `u` `line`.
///
/// # Panics
/// If a slice is too short.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // the parts of a product
pub(super) fn outer<I: Isa, const R: usize, const V: usize>(
    isa: I,
    x: &[f32],
    d: &[f32],
    step: usize,
    tiles: usize,
    u: &mut [f32],
    line: usize,
    add: bool,
) {
    assert!(tiles == 0 || x.len() >= (tiles - 1) * GROUP + R && d.len() >= (tiles - 1) * step + V * I::LANES);
    assert!(u.len() >= (R - 1) * line + V * I::LANES);
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
