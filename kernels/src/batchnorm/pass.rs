//! Batchnorm's passes over an activation that write one: a formula per element with the channel's
//! numbers from tables.

use crate::Task;
use crate::isa::Isa;
use crate::lanes::{load_padded, store_padded};
use core::array::from_fn;

/// A formula per element: what `y` becomes, given what it holds, `X` inputs and the channel's
/// entries in `T` tables.
pub(super) trait Rows<const X: usize, const T: usize>: Copy + Sync {
    /// The new `y`. Must be `#[inline(always)]`.
    fn of<I: Isa>(self, isa: I, y: I::V, x: [I::V; X], tables: [I::V; T]) -> I::V;
}

/// `(x − mean)·scale + shift`, and not below `floor`.
#[derive(Clone, Copy)]
pub(super) struct Normalise {
    pub(super) floor: f32,
}

impl Rows<1, 3> for Normalise {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, _: I::V, [x]: [I::V; 1], [mean, scale, shift]: [I::V; 3]) -> I::V {
        not_below(isa, isa.fma(isa.sub(x, mean), scale, shift), self.floor)
    }
}

impl Rows<0, 3> for Normalise {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, y: I::V, []: [I::V; 0], tables: [I::V; 3]) -> I::V {
        <Self as Rows<1, 3>>::of(self, isa, y, [y], tables)
    }
}

/// The same with a residual, the last of the inputs, added before that.
#[derive(Clone, Copy)]
pub(super) struct NormaliseAdd {
    pub(super) floor: f32,
}

impl Rows<2, 3> for NormaliseAdd {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, _: I::V, [x, residual]: [I::V; 2], [mean, scale, shift]: [I::V; 3]) -> I::V {
        not_below(isa, isa.add(isa.fma(isa.sub(x, mean), scale, shift), residual), self.floor)
    }
}

impl Rows<1, 3> for NormaliseAdd {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, y: I::V, [residual]: [I::V; 1], tables: [I::V; 3]) -> I::V {
        <Self as Rows<2, 3>>::of(self, isa, y, [y, residual], tables)
    }
}

/// `max(v, floor)`: relu's result as [`crate::relu::forward`] has it where that is 0, v where it is −∞. NaN stays NaN.
#[inline(always)]
fn not_below<I: Isa>(isa: I, v: I::V, floor: f32) -> I::V {
    let floor = isa.splat(floor);
    isa.select(isa.lt(v, floor), floor, v)
}

/// dy where relu let `(x − mean)·scale + shift` through, else 0: as [`crate::relu::backward_input`].
#[inline(always)]
pub(super) fn gate<I: Isa>(isa: I, dy: I::V, x_less_mean: I::V, scale: I::V, shift: I::V) -> I::V {
    let zero = isa.splat(0.0);
    isa.select(isa.le(isa.fma(x_less_mean, scale, shift), zero), zero, dy)
}

/// `(dy − shift + (x − mean)·slope)·scale`
#[derive(Clone, Copy)]
pub(super) struct InputBatch;

impl Rows<2, 4> for InputBatch {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, _: I::V, [x, dy]: [I::V; 2], [mean, slope, shift, scale]: [I::V; 4]) -> I::V {
        isa.mul(isa.fma(isa.sub(x, mean), slope, isa.sub(dy, shift)), scale)
    }
}

impl Rows<1, 4> for InputBatch {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, dx: I::V, [x]: [I::V; 1], tables: [I::V; 4]) -> I::V {
        <Self as Rows<2, 4>>::of(self, isa, dx, [x, dx], tables)
    }
}

/// The same behind a relu that is computed anew from x: the last two tables are forward's.
#[derive(Clone, Copy)]
pub(super) struct InputBatchGated;

impl Rows<2, 6> for InputBatchGated {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, _: I::V, [x, dy]: [I::V; 2], [mean, slope, shift, scale, up, add]: [I::V; 6]) -> I::V {
        let x = isa.sub(x, mean);
        isa.mul(isa.fma(x, slope, isa.sub(gate(isa, dy, x, up, add), shift)), scale)
    }
}

impl Rows<1, 6> for InputBatchGated {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, dx: I::V, [x]: [I::V; 1], tables: [I::V; 6]) -> I::V {
        <Self as Rows<2, 6>>::of(self, isa, dx, [x, dx], tables)
    }
}

/// `dy·scale`
#[derive(Clone, Copy)]
pub(super) struct InputRunning;

impl Rows<1, 1> for InputRunning {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, _: I::V, [dy]: [I::V; 1], [scale]: [I::V; 1]) -> I::V {
        isa.mul(dy, scale)
    }
}

impl Rows<0, 1> for InputRunning {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, dx: I::V, []: [I::V; 0], [scale]: [I::V; 1]) -> I::V {
        isa.mul(dx, scale)
    }
}

/// Whole rows, from the first of a period.
pub(super) struct RowsTask<'a, const X: usize, const T: usize, F> {
    pub(super) f: F,
    pub(super) x: [&'a [f32]; X],
    pub(super) tables: [&'a [f32]; T],
    pub(super) period: usize,
    pub(super) y: &'a mut [f32],
}

impl<const X: usize, const T: usize, F: Rows<X, T>> Task for RowsTask<'_, X, T, F> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if const { I::LANES == 1 } {
            return self.plain(isa);
        }
        let period = self.period;
        let zero = isa.splat(0.0);
        let mut tables = self.tables;
        for table in &mut tables {
            *table = &table[..period];
        }
        let mut start = 0;
        while start < self.y.len() {
            let len = period.min(self.y.len() - start);
            let mut x = self.x;
            for x in &mut x {
                *x = &x[start..][..len];
            }
            let y = &mut self.y[start..][..len];
            let (mut v, mut t) = ([zero; X], [zero; T]);
            let mut i = 0;
            while i + I::LANES <= len {
                for (t, table) in t.iter_mut().zip(&tables) {
                    *t = isa.load(&table[i..i + I::LANES]);
                }
                for (v, x) in v.iter_mut().zip(&x) {
                    *v = isa.load(&x[i..i + I::LANES]);
                }
                let y = &mut y[i..i + I::LANES];
                isa.store(self.f.of(isa, isa.load(y), v, t), y);
                i += I::LANES;
            }
            if i < len {
                // Only in the last period; tables are whole vectors.
                for (t, table) in t.iter_mut().zip(&tables) {
                    *t = isa.load(&table[i..i + I::LANES]);
                }
                for (v, x) in v.iter_mut().zip(&x) {
                    *v = load_padded(isa, &x[i..], 0.0);
                }
                let y = &mut y[i..];
                store_padded(isa, self.f.of(isa, load_padded(isa, y, 0.0), v, t), y);
            }
            start += len;
        }
    }
}

impl<const X: usize, const T: usize, F: Rows<X, T>> RowsTask<'_, X, T, F> {
    /// Where a vector is one number: four columns of all periods after four, whose tables stay in registers; where a processor
    /// has vectors after all, the compiler makes one of each four numbers. Then what is left.
    #[inline(always)]
    fn plain<I: Isa>(self, isa: I) {
        let RowsTask { f, x, tables, period, y } = self;
        let (len, whole) = (y.len(), period / 4 * 4);
        let x = x.map(|x| &x[..len]);
        for at in (0..whole).step_by(4) {
            let tables = tables.map(|table| from_fn::<_, 4, _>(|j| isa.splat(table[at + j])));
            let mut i = at;
            while i + 4 <= len {
                let v: [&[f32]; X] = x.map(|x| &x[i..i + 4]);
                let y = &mut y[i..i + 4];
                for j in 0..4 {
                    let new = f.of(isa, isa.splat(y[j]), v.map(|v| isa.splat(v[j])), tables.map(|table| table[j]));
                    isa.store(new, &mut y[j..=j]);
                }
                i += period;
            }
        }
        if whole == period && len.is_multiple_of(4) {
            return;
        }
        for start in (0..len).step_by(period) {
            let there = period.min(len - start);
            for j in there.min(whole) / 4 * 4..there {
                let (v, y) = (x.map(|x| isa.splat(x[start + j])), &mut y[start + j..=start + j]);
                isa.store(f.of(isa, isa.splat(y[0]), v, tables.map(|table| isa.splat(table[j]))), y);
            }
        }
    }
}
