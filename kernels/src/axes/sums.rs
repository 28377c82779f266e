//! Sums over axes, cut by the shape alone.
//!
//! Each number of the output is a sum over rows: either the innermost axis is kept, and rows are
//! added to each other, or it is summed, and a row becomes one number. Long sums are cut into panels;
//! each panel's sum goes to scratch, and panels are added in `f64`, in order. Which thread computes
//! which panel changes nothing.

use super::{AXES, Merged, Operand, Operands, Rows, len, merge, outer, steps};
use crate::isa::Isa;
use crate::lanes::{MOST, load_padded, store_padded};
use crate::parallel::{Chunks, RowMap, Tile, Tiles};
use crate::reduce::Term;
use crate::{Cpu, Task};
use core::ops::Range;

/// Elements of a panel, about.
const PANEL: usize = 16_384;
/// Rows that are added in `f32` from zero; also the fewest of a panel is twice this.
const GROUP: usize = 32;
/// Columns of a part where rows are kept.
const COLUMNS: usize = 1024;
/// Numbers of a row that are added in `f32`.
const BLOCK: usize = 512;

/// A sum over axes of a term of `N` operands.
#[derive(Clone, Copy)]
pub(crate) struct Sums<const N: usize> {
    lens: [usize; N],
    inner: usize,
    inner_kept: bool,
    inner_steps: [usize; N],
    kept: [usize; 3],
    kept_steps: [[usize; 3]; N],
    summed: [usize; 3],
    summed_steps: [[usize; 3]; N],
}

impl<const N: usize> Sums<N> {
    /// Of operands of these sizes (n h w c; an operand that has not an axis is repeated along it), over
    /// the axes that are not kept.
    pub(crate) fn new(sizes: [usize; AXES], has: [[bool; AXES]; N], kept: [bool; AXES]) -> Self {
        // The output takes part in merging as one more operand. There are at most three others.
        assert!(N <= 3);
        let mut all = [[true; AXES]; 4];
        all[..N].copy_from_slice(&has[..]);
        all[3] = kept;
        let Merged { sizes, has: all } = merge(sizes, all);
        let is_kept = all[3];
        let mut sums = Sums {
            lens: [0; N],
            inner: sizes[3],
            inner_kept: is_kept[3],
            inner_steps: [0; N],
            kept: [1; 3],
            kept_steps: [[0; 3]; N],
            summed: [1; 3],
            summed_steps: [[0; 3]; N],
        };
        for (axis, size) in outer(sizes).into_iter().enumerate() {
            let sizes = if is_kept[axis] { &mut sums.kept } else { &mut sums.summed };
            sizes[axis] = size;
        }
        for (k, has) in all[..N].iter().enumerate() {
            let steps = steps(sizes, *has);
            sums.lens[k] = len(sizes, *has);
            sums.inner_steps[k] = steps[3];
            // An axis of size 1 is never stepped along.
            sums.kept_steps[k] = outer(steps);
            sums.summed_steps[k] = outer(steps);
        }
        sums
    }

    /// Rows and columns of the output.
    fn output(&self) -> (usize, usize) {
        (self.kept.iter().product(), if self.inner_kept { self.inner } else { 1 })
    }

    /// Rows that are added, and how many of them (or, of a summed innermost axis, elements) a panel has.
    fn panel(&self) -> (usize, usize) {
        let rows: usize = self.summed.iter().product();
        if self.inner_kept {
            (rows, (PANEL / self.inner.min(PANEL)).next_multiple_of(GROUP).max(2 * GROUP))
        } else {
            (rows * self.inner, 2 * PANEL)
        }
    }

    fn panels(&self) -> usize {
        let (all, each) = self.panel();
        all.div_ceil(each)
    }

    /// Scratch in `f32`: the sums of panels, where there are several.
    pub(crate) fn scratch_len(&self) -> usize {
        let (rows, columns) = self.output();
        if self.panels() > 1 { self.panels() * rows * columns } else { 0 }
    }

    /// `dx = Σ f(x)` over the axes that are not kept (+ dx where `add`).
    pub(crate) fn run<F: Term<N>>(&self, cpu: &Cpu, f: F, x: [&[f32]; N], dx: &mut [f32], add: bool, scratch: &mut [f32]) {
        match self.check(&x, dx, scratch) {
            [] => self.partial(cpu, f, x, dx, 1, add),
            scratch => {
                self.partial(cpu, f, x, scratch, self.panels(), false);
                combine(cpu, Some(scratch), 1.0, dx, add);
            }
        }
    }

    /// `dx = factor·Σ f(x)` over the axes that are not kept.
    pub(crate) fn scaled<F: Term<N>>(&self, cpu: &Cpu, f: F, x: [&[f32]; N], factor: f64, dx: &mut [f32], scratch: &mut [f32]) {
        match self.check(&x, dx, scratch) {
            [] => {
                self.partial(cpu, f, x, dx, 1, false);
                combine(cpu, None, factor, dx, false);
            }
            scratch => {
                self.partial(cpu, f, x, scratch, self.panels(), false);
                combine(cpu, Some(scratch), factor, dx, false);
            }
        }
    }

    /// As much of the scratch as is needed.
    fn check<'s>(&self, x: &[&[f32]; N], dx: &[f32], scratch: &'s mut [f32]) -> &'s mut [f32] {
        let (rows, columns) = self.output();
        assert_eq!(dx.len(), rows * columns, "a sum of another size");
        for (k, x) in x.iter().enumerate() {
            assert_eq!(x.len(), self.lens[k], "operand {k} of another size");
        }
        let needed = self.scratch_len();
        assert!(scratch.len() >= needed, "scratch of {} numbers for sums that need {needed}", scratch.len());
        &mut scratch[..needed]
    }

    /// The panels' sums.
    fn partial<F: Term<N>>(&self, cpu: &Cpu, f: F, x: [&[f32]; N], out: &mut [f32], panels: usize, add: bool) {
        let (kept, columns) = self.output();
        let (all, each) = self.panel();
        let work = if self.inner_kept { all.min(each) * columns.min(COLUMNS) } else { all.min(each) };
        let tile_rows = (PANEL / work.min(PANEL)).max(1);
        let tiles = Tiles::new(out, RowMap::plain(panels * kept, columns), panels * kept, columns, tile_rows, COLUMNS);
        cpu.run(tiles, &mut [], 0, |_, mut tile, _| {
            cpu.level.run(SumTask { sums: self, f, x, kept, tile: &mut tile, add });
        });
    }
}

struct SumTask<'a, 't, const N: usize, F> {
    sums: &'a Sums<N>,
    f: F,
    x: [&'a [f32]; N],
    /// Rows of the output.
    kept: usize,
    /// Some rows of all panels' outputs.
    tile: &'a mut Tile<'t>,
    add: bool,
}

impl<const N: usize, F: Term<N>> Task for SumTask<'_, '_, N, F> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let SumTask { sums, f, x, kept, tile, add } = self;
        let (all, each) = sums.panel();
        for i in 0..tile.rows() {
            let number = tile.first_row() + i;
            let (panel, k) = (number / kept, number % kept);
            let (from, to) = (panel * each, ((panel + 1) * each).min(all));
            let operands = Operands { x, at: Rows::new(sums.kept, sums.kept_steps, k, [0; N]).at };
            let column = tile.first_column();
            let out = tile.row(i);
            if sums.inner_kept {
                if !add {
                    out.fill(0.0);
                }
                add_rows(isa, sums, f, operands, from..to, column, out);
            } else {
                let sum = sum_row(isa, sums, f, operands, from..to) as f32;
                out[0] = if add { out[0] + sum } else { sum };
            }
        }
    }
}

/// The sums of rows from a column on, column by column, added to `out`.
#[inline(always)]
fn add_rows<I: Isa, const N: usize, F: Term<N>>(
    isa: I,
    sums: &Sums<N>,
    f: F,
    operands: Operands<&[f32], N>,
    rows: Range<usize>,
    column: usize,
    out: &mut [f32],
) {
    let Operands { x, at } = operands;
    let mut walk = Rows::new(sums.summed, sums.summed_steps, rows.start, at);
    let mut left = rows.len();
    let mut starts = [[0; N]; GROUP];
    while left > 0 {
        let count = left.min(GROUP);
        for starts in &mut starts[..count] {
            *starts = walk.at;
            for (start, step) in starts.iter_mut().zip(&sums.inner_steps) {
                *start += column * step;
            }
            walk.advance();
        }
        let starts = &starts[..count];
        let mut j = 0;
        while j + 4 * I::LANES <= out.len() {
            columns::<I, N, F, 4>(isa, sums, f, x, starts, j, out);
            j += 4 * I::LANES;
        }
        if j + 2 * I::LANES <= out.len() {
            columns::<I, N, F, 2>(isa, sums, f, x, starts, j, out);
            j += 2 * I::LANES;
        }
        if j + I::LANES <= out.len() {
            columns::<I, N, F, 1>(isa, sums, f, x, starts, j, out);
            j += I::LANES;
        }
        if j < out.len() {
            let lanes = out.len() - j;
            let mut sum = isa.splat(0.0);
            for at in starts {
                sum = isa.add(sum, term::<I, N, F, false>(isa, sums, f, x, at, j, lanes));
            }
            let out = &mut out[j..];
            store_padded(isa, isa.add(load_padded(isa, out, 0.0), sum), out);
        }
        left -= count;
    }
}

/// The sums of a group of rows in `B` vectors of columns, added to `out`.
#[inline(always)]
fn columns<I: Isa, const N: usize, F: Term<N>, const B: usize>(
    isa: I,
    sums: &Sums<N>,
    f: F,
    x: [&[f32]; N],
    starts: &[[usize; N]],
    j: usize,
    out: &mut [f32],
) {
    let mut sum = [isa.splat(0.0); B];
    for at in starts {
        for (lane, sum) in sum.iter_mut().enumerate() {
            *sum = isa.add(*sum, term::<I, N, F, true>(isa, sums, f, x, at, j + lane * I::LANES, I::LANES));
        }
    }
    for (lane, sum) in sum.iter().enumerate() {
        let out = &mut out[j + lane * I::LANES..][..I::LANES];
        isa.store(isa.add(isa.load(out), *sum), out);
    }
}

/// The term of a row at column `j`.
#[inline(always)]
fn term<I: Isa, const N: usize, F: Term<N>, const WHOLE: bool>(
    isa: I,
    sums: &Sums<N>,
    f: F,
    x: [&[f32]; N],
    at: &[usize; N],
    j: usize,
    lanes: usize,
) -> I::V {
    let mut v = [isa.splat(0.0); N];
    for k in 0..N {
        v[k] = if sums.inner_steps[k] == 0 {
            isa.splat(x[k][at[k]])
        } else if WHOLE {
            isa.load(&x[k][at[k] + j..])
        } else {
            load_padded(isa, &x[k][at[k] + j..][..lanes], 0.0)
        };
    }
    f.of(isa, v)
}

/// The sum of these elements of all summed rows, which lie one after the other.
#[inline(always)]
fn sum_row<I: Isa, const N: usize, F: Term<N>>(isa: I, sums: &Sums<N>, f: F, operands: Operands<&[f32], N>, elements: Range<usize>) -> f64 {
    let Operands { x, at } = operands;
    let mut rows = Rows::new(sums.summed, sums.summed_steps, elements.start / sums.inner, at);
    let mut column = elements.start % sums.inner;
    let mut left = elements.end - elements.start;
    let mut total = 0.0;
    while left > 0 {
        let count = (sums.inner - column).min(left);
        let mut done = 0;
        while done < count {
            let len = (count - done).min(BLOCK);
            let mut operands = [Operand::Output; N];
            for k in 0..N {
                operands[k] = if sums.inner_steps[k] == 0 {
                    Operand::One(x[k][rows.at[k]])
                } else {
                    Operand::Row(&x[k][rows.at[k] + column + done..][..len])
                };
            }
            total += f64::from(block(isa, f, operands, len));
            done += len;
        }
        left -= count;
        column = 0;
        rows.advance();
    }
    total
}

/// The sum over at most [`BLOCK`] elements of a row.
#[inline(always)]
fn block<I: Isa, const N: usize, F: Term<N>>(isa: I, f: F, x: [Operand; N], len: usize) -> f32 {
    let zero = isa.splat(0.0);
    let (mut v, mut sums) = ([zero; N], [zero; 4]);
    let mut i = 0;
    while i + 4 * I::LANES <= len {
        for (j, sum) in sums.iter_mut().enumerate() {
            for k in 0..N {
                v[k] = x[k].load::<I, true>(isa, i + j * I::LANES, zero);
            }
            *sum = isa.add(*sum, f.of(isa, v));
        }
        i += 4 * I::LANES;
    }
    while i + I::LANES <= len {
        for k in 0..N {
            v[k] = x[k].load::<I, true>(isa, i, zero);
        }
        sums[0] = isa.add(sums[0], f.of(isa, v));
        i += I::LANES;
    }
    if i < len {
        for k in 0..N {
            v[k] = x[k].load::<I, false>(isa, i, zero);
        }
        // What the term makes of the padding does not count.
        let mut lanes = [0.0; MOST];
        isa.store(f.of(isa, v), &mut lanes);
        lanes[len - i..].fill(0.0);
        sums[1] = isa.add(sums[1], isa.load(&lanes));
    }
    isa.sum(isa.add(isa.add(sums[0], sums[1]), isa.add(sums[2], sums[3])))
}

/// `dx = factor` times the sum of the panels (of dx itself where there are none), added where `add`.
fn combine(cpu: &Cpu, panels: Option<&[f32]>, factor: f64, dx: &mut [f32], add: bool) {
    let len = dx.len();
    cpu.run(Chunks::new(dx, COLUMNS, len.div_ceil(COLUMNS)), &mut [], 0, |i, dx, _| {
        cpu.level.run(CombineTask { panels, len, first: i * COLUMNS, factor, dx, add });
    });
}

struct CombineTask<'a, 'p> {
    panels: Option<&'a [f32]>,
    /// Numbers of a panel.
    len: usize,
    first: usize,
    factor: f64,
    dx: &'p mut [f32],
    add: bool,
}

impl Task for CombineTask<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        const EACH: usize = 64;
        for (i, dx) in self.dx.chunks_mut(EACH).enumerate() {
            let first = self.first + i * EACH;
            let mut sums = [0.0_f64; EACH];
            match self.panels {
                Some(panels) => {
                    for panel in panels.chunks_exact(self.len) {
                        for (sum, v) in sums.iter_mut().zip(&panel[first..first + dx.len()]) {
                            *sum += f64::from(*v);
                        }
                    }
                }
                None => {
                    for (sum, v) in sums.iter_mut().zip(dx.iter()) {
                        *sum = f64::from(*v);
                    }
                }
            }
            for (dx, sum) in dx.iter_mut().zip(&sums) {
                let sum = (*sum * self.factor) as f32;
                *dx = if self.add { *dx + sum } else { sum };
            }
        }
    }
}
