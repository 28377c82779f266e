//! Batchnorm's passes over an activation that write one: a formula per element with the channel's
//! numbers from tables.

use crate::Task;
use crate::isa::Isa;
use crate::lanes::{load_padded, store_padded};

/// A formula per element: what `y` becomes, given what it holds, `X` inputs and the channel's
/// entries in `T` tables.
pub(super) trait Rows<const X: usize, const T: usize>: Copy + Sync {
    /// The new `y`. Must be `#[inline(always)]`.
    fn of<I: Isa>(self, isa: I, y: I::V, x: [I::V; X], tables: [I::V; T]) -> I::V;
}

/// `(x − mean)·scale + shift`
#[derive(Clone, Copy)]
pub(super) struct Normalise;

impl Rows<1, 3> for Normalise {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, _: I::V, [x]: [I::V; 1], [mean, scale, shift]: [I::V; 3]) -> I::V {
        isa.fma(isa.sub(x, mean), scale, shift)
    }
}

impl Rows<0, 3> for Normalise {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, y: I::V, []: [I::V; 0], tables: [I::V; 3]) -> I::V {
        <Self as Rows<1, 3>>::of(self, isa, y, [y], tables)
    }
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
        let period = self.period;
        let tables = self.tables.map(
            #[inline(always)]
            |t| &t[..period],
        );
        let mut start = 0;
        while start < self.y.len() {
            let end = self.y.len().min(start + period);
            let x = self.x.map(
                #[inline(always)]
                |x| &x[start..end],
            );
            let y = &mut self.y[start..end];
            let (len, whole) = (y.len(), y.len() / I::LANES * I::LANES);
            let mut i = 0;
            while i < whole {
                let t = tables.map(
                    #[inline(always)]
                    |t| isa.load(&t[i..i + I::LANES]),
                );
                let v = x.map(
                    #[inline(always)]
                    |x| isa.load(&x[i..i + I::LANES]),
                );
                let y = &mut y[i..i + I::LANES];
                let v = self.f.of(isa, isa.load(y), v, t);
                isa.store(v, y);
                i += I::LANES;
            }
            if whole < len {
                // Only in the last period; tables are whole vectors.
                let t = tables.map(
                    #[inline(always)]
                    |t| isa.load(&t[whole..whole + I::LANES]),
                );
                let v = x.map(
                    #[inline(always)]
                    |x| load_padded(isa, &x[whole..], 0.0),
                );
                let y = &mut y[whole..];
                let v = self.f.of(isa, load_padded(isa, y, 0.0), v, t);
                store_padded(isa, v, y);
            }
            start = end;
        }
    }
}
