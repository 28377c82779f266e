//! What happens to a convolution's output while it is still in the cache.
//!
//! A forward pass calls `Finish::tile` exactly once for each tile of y, as soon as nothing will be
//! added to it any more; the tiles cover y. So a normalisation with given statistics, the residual
//! addition and relu behind a convolution cost no pass over memory of their own, and the weights stay
//! as they are. And the mean and variance that a normalisation of the batch needs cost no pass either
//! (see `moments`).
//!
//! The formulas and their order are those of [`crate::batchnorm::forward_running`],
//! [`crate::elementwise::add`] and [`crate::relu::forward`]: the same bits as these three called one
//! after the other, which are the reference.

mod moments;

#[cfg(feature = "algorithms")]
use super::grouped;
use super::{Algorithm, Conv2d, Forward, ForwardMoments, Memory, Pass, depthwise, product};
use crate::batchnorm::{self, BatchNorm};
use crate::isa::Isa;
use crate::lanes::{load_padded, store_padded};
use crate::parallel::{Cpu, RowMap, Tile, Tiles};
use crate::{Level, Task};
use core::slice;
pub use moments::Moments;

/// What happens to finished output.
#[derive(Clone, Copy, Debug, Default)]
pub enum Finish<'a> {
    /// Nothing: y is what was convolved.
    #[default]
    None,
    /// A normalisation, and what follows it.
    Normalise(Normalise<'a>),
    /// A bias, and what follows it.
    Bias(Bias<'a>),
    /// Nothing; the channels' moments are taken.
    Moments(&'a Moments<'a>),
}

/// `y ← (y − mean)·scale + shift`, then `y + residual`, then the activation, where these are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Normalise<'a> {
    /// Subtracted: one number for each output channel.
    pub mean: &'a [f32],
    /// Then multiplied by, likewise.
    pub scale: &'a [f32],
    /// Then added, likewise.
    pub shift: &'a [f32],
    /// Then added: as y.
    pub residual: Option<&'a [f32]>,
    /// Applied at the end.
    pub activation: Activation,
}

/// `y ← y + bias`, then the activation.
#[derive(Clone, Copy, Debug)]
pub struct Bias<'a> {
    /// One number for each output channel.
    pub bias: &'a [f32],
    /// Applied at the end.
    pub activation: Activation,
}

/// A function of one number that costs nothing while an output is in registers. NaN stays NaN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Activation {
    /// v
    #[default]
    None,
    /// 0 where v < 0, else v: −0 stays −0.
    Relu,
    /// The same, and 6 where v > 6.
    Relu6,
    /// v · relu6(v + 3) / 6, rounded after each operation.
    Hardswish,
}

impl Activation {
    #[inline(always)]
    fn of<I: Isa, const A: u8>(isa: I, v: I::V) -> I::V {
        let (zero, six) = (isa.splat(0.0), isa.splat(6.0));
        let relu = |v: I::V| isa.select(isa.lt(v, zero), zero, v);
        if A == Activation::Relu as u8 {
            relu(v)
        } else if A == Activation::Relu6 as u8 {
            let v = relu(v);
            isa.select(isa.lt(six, v), six, v)
        } else if A == Activation::Hardswish as u8 {
            let gate = isa.add(v, isa.splat(3.0));
            let gate = isa.select(isa.lt(gate, zero), zero, gate);
            let gate = isa.select(isa.lt(six, gate), six, gate);
            isa.div(isa.mul(v, gate), six)
        } else {
            v
        }
    }

    /// Applied to every number, where a vector is one number. Compiled once, which matters in a board's flash.
    #[inline(never)]
    fn plain<I: Isa>(self, isa: I, y: &mut [f32]) {
        match self {
            Activation::None => {}
            Activation::Relu => Self::each::<I, { Activation::Relu as u8 }>(isa, y),
            Activation::Relu6 => Self::each::<I, { Activation::Relu6 as u8 }>(isa, y),
            Activation::Hardswish => Self::each::<I, { Activation::Hardswish as u8 }>(isa, y),
        }
    }

    #[inline(always)]
    fn each<I: Isa, const A: u8>(isa: I, y: &mut [f32]) {
        for y in y.chunks_exact_mut(1) {
            isa.store(Self::of::<I, A>(isa, isa.load(y)), y);
        }
    }
}

impl<'a> Normalise<'a> {
    /// Numbers of the tables of `k` channels.
    pub const fn tables_len(k: usize) -> usize {
        crate::bounds::product(&[3, k])
    }

    /// The normalisation of [`crate::batchnorm::forward_running`], with nothing behind it; `tables` are
    /// overwritten.
    ///
    /// # Panics
    /// If a length is not that of `gamma`, or `tables` not three times as long.
    pub fn running(eps: f32, gamma: &[f32], beta: &[f32], mean: &[f32], var: &[f32], tables: &'a mut [f32]) -> Normalise<'a> {
        let channels = gamma.len();
        assert_eq!(tables.len(), Self::tables_len(channels), "tables of {channels} channels");
        let (means, rest) = tables.split_at_mut(channels);
        let (scales, shifts) = rest.split_at_mut(channels);
        batchnorm::running_tables(
            &BatchNorm { rows: 0, channels, eps },
            [gamma, beta, mean, var],
            [&mut *means, &mut *scales, &mut *shifts],
        );
        Normalise { mean: means, scale: scales, shift: shifts, residual: None, activation: Activation::None }
    }
}

/// Rows of a tile where a whole output is finished at once.
const ROWS: usize = 128;

impl Finish<'_> {
    /// Finishes one tile of y.
    #[inline]
    pub(crate) fn tile(&self, level: Level, tile: &mut Tile) {
        match self {
            Finish::None => {}
            Finish::Normalise(with) => normalise(level, with, tile, None),
            Finish::Bias(with) => level.run(BiasTask { with, tile }),
            Finish::Moments(moments) => moments.tile(level, tile),
        }
    }

    /// Normalises some rows of a tile from inside a task, while they are in the first-level cache. [`Finish::behind`] says
    /// what is left for the whole tile.
    #[inline(always)]
    pub(super) fn rows<I: Isa>(&self, isa: I, mut rows: Tile) {
        if let Finish::Normalise(with) = self {
            NormaliseTask { with, tile: &mut rows, kept: None }.run(isa);
        }
    }

    /// What is left where [`Finish::rows`] was called for all rows.
    pub(super) fn behind(self) -> Self {
        if let Finish::Normalise(_) = self { Finish::None } else { self }
    }

    /// Finishes all of y in a pass of its own, after an algorithm that has no tiles.
    pub(crate) fn whole(&self, cpu: &Cpu, conv: &Conv2d, y: &mut [f32]) {
        if let Finish::None = self {
            return;
        }
        let rows = y.len() / conv.k();
        cpu.run(Tiles::new(y, RowMap::plain(rows, conv.k()), rows, conv.k(), ROWS, conv.k()), &mut [], 0, |_, mut tile, _| {
            self.tile(cpu.level, &mut tile);
        });
    }

    /// Stops where a length is not the convolution's.
    pub(crate) fn check(&self, conv: &Conv2d) {
        if let Finish::Normalise(with) = self {
            for (what, table) in [("means", with.mean), ("scales", with.scale), ("shifts", with.shift)] {
                assert_eq!(table.len(), conv.k(), "{what} for the output channels of {conv:?}");
            }
            if let Some(residual) = with.residual {
                assert_eq!(residual.len(), conv.y_len(), "numbers of the residual of {conv:?}");
            }
        }
        if let Finish::Bias(with) = self {
            assert_eq!(with.bias.len(), conv.k(), "bias for the output channels of {conv:?}");
        }
    }
}

/// How many row tiles an algorithm's forward pass has at most; `None`: it does not finish tile by tile
/// with numbers of their own, so moments are taken in a pass of their own.
fn row_tiles(conv: &Conv2d, algorithm: Algorithm, memory: Memory) -> Option<usize> {
    match algorithm.built() {
        Algorithm::Gemm => Some(product::row_tiles(conv, memory.budget())),
        Algorithm::Depthwise => Some(depthwise::row_tiles(conv)),
        #[cfg(feature = "algorithms")]
        Algorithm::Grouped => Some(grouped::row_tiles(conv)),
        #[cfg(feature = "matrixmultiply")]
        Algorithm::Im2col => None,
        #[cfg(feature = "algorithms")]
        tuned => conv.tuned(tuned).row_tiles(tuned),
        #[cfg(not(feature = "algorithms"))]
        _ => unreachable!("an algorithm that this build has not"),
    }
}

impl Conv2d {
    fn moments_parts(&self, algorithm: Algorithm, memory: Memory) -> usize {
        row_tiles(self, algorithm, memory).unwrap_or((self.y_len() / self.k()).div_ceil(ROWS))
    }

    /// Numbers of scratch that [`Conv2d::forward_moments`] needs before that of the forward pass; a
    /// multiple of 16.
    pub fn moments_scratch_len(&self, algorithm: Algorithm, memory: Memory) -> usize {
        Moments::scratch_len(self.k(), self.moments_parts(algorithm, memory))
    }

    /// y = x ⊛ w, and the moments of y's channels.
    ///
    /// # Panics
    /// As [`Conv2d::forward`], or if `moments` or `scratch` has another length.
    pub fn forward_moments(&self, cpu: &Cpu, algorithm: Algorithm, memory: Memory, call: ForwardMoments) {
        let ForwardMoments { x, w, y, moments, scratch } = call;
        let (cells, scratch) = scratch.split_at_mut(self.moments_scratch_len(algorithm, memory));
        // No more than planned: the cut into tiles depends on it.
        let scratch = &mut scratch[..self.scratch_len(Pass::Forward, algorithm, memory, cpu.threads.count())];
        let partial = Moments::new(self.k(), self.moments_parts(algorithm, memory), cells);
        let taken = Finish::Moments(&partial);
        let (by_tiles, whole) = match row_tiles(self, algorithm, memory) {
            Some(_) => (taken, Finish::None),
            None => (Finish::None, taken),
        };
        self.forward(cpu, algorithm, Forward { x, w, y: &mut *y, add: false, finish: by_tiles, scratch });
        whole.whole(cpu, self, y);
        partial.merge(cpu.level, moments);
    }
}

impl Normalise<'_> {
    /// Finishes one tile of y, to which `kept` is added: the tile's rows one behind the other.
    #[inline]
    pub(crate) fn tile_over(&self, level: Level, tile: &mut Tile, kept: &[f32]) {
        normalise(level, self, tile, Some(kept));
    }
}

/// Compiled once, which matters in a board's flash.
#[inline(never)]
fn normalise(level: Level, with: &Normalise, tile: &mut Tile, kept: Option<&[f32]>) {
    level.run(NormaliseTask { with, tile, kept });
}

struct NormaliseTask<'a, 't, 'p> {
    with: &'a Normalise<'a>,
    tile: &'p mut Tile<'t>,
    /// The residual's rows of this tile, one behind the other, instead of the whole residual.
    kept: Option<&'a [f32]>,
}

impl Task for NormaliseTask<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if const { I::LANES == 1 } {
            return self.plain(isa);
        }
        match self.with.activation {
            Activation::None => self.residual::<I, { Activation::None as u8 }>(isa),
            Activation::Relu => self.residual::<I, { Activation::Relu as u8 }>(isa),
            Activation::Relu6 => self.residual::<I, { Activation::Relu6 as u8 }>(isa),
            Activation::Hardswish => self.residual::<I, { Activation::Hardswish as u8 }>(isa),
        }
    }
}

impl NormaliseTask<'_, '_, '_> {
    /// Row by row, four numbers after four, where a vector is one number: the same operations in the same order. Where a
    /// processor has vectors after all, the compiler makes some of the loops over four.
    #[inline(always)]
    fn plain<I: Isa>(self, isa: I) {
        let (first, columns) = (self.tile.first_column(), self.tile.columns());
        let [mean, scale, shift] = [self.with.mean, self.with.scale, self.with.shift].map(|table| &table[first..first + columns]);
        // Relu leaves what is not below zero, nothing is below −∞.
        let (floor, more) = match self.with.activation {
            Activation::None => (f32::NEG_INFINITY, false),
            Activation::Relu => (0.0, false),
            Activation::Relu6 | Activation::Hardswish => (f32::NEG_INFINITY, true),
        };
        let floor = isa.splat(floor);
        for row in 0..self.tile.rows() {
            let start = if self.kept.is_some() { row * columns } else { self.tile.row_start(row) };
            let residual = self.kept.or(self.with.residual).map(|residual| &residual[start..start + columns]);
            let y = self.tile.row(row);
            let one = |y: &mut f32, tables: [f32; 3], residual: Option<f32>| {
                let [mean, scale, shift] = tables.map(|v| isa.splat(v));
                let v = isa.fma(isa.sub(isa.splat(*y), mean), scale, shift);
                let v = residual.map_or(v, |residual| isa.add(v, isa.splat(residual)));
                isa.store(isa.select(isa.lt(v, floor), floor, v), slice::from_mut(y));
            };
            let mut at = 0;
            while at + 4 <= columns {
                let [mean, scale, shift] = [mean, scale, shift].map(|table| &table[at..at + 4]);
                let y = &mut y[at..at + 4];
                match residual {
                    Some(residual) => {
                        let residual = &residual[at..at + 4];
                        (0..4).for_each(|j| one(&mut y[j], [mean[j], scale[j], shift[j]], Some(residual[j])));
                    }
                    None => (0..4).for_each(|j| one(&mut y[j], [mean[j], scale[j], shift[j]], None)),
                }
                at += 4;
            }
            for j in at..columns {
                one(&mut y[j], [mean[j], scale[j], shift[j]], residual.map(|residual| residual[j]));
            }
            if more {
                self.with.activation.plain(isa, y);
            }
        }
    }

    #[inline(always)]
    fn residual<I: Isa, const A: u8>(self, isa: I) {
        match self.kept.or(self.with.residual) {
            None => self.vectors::<I, false, A>(isa, &[]),
            Some(residual) => self.vectors::<I, true, A>(isa, residual),
        }
    }

    #[inline(always)]
    fn vectors<I: Isa, const ADD: bool, const A: u8>(mut self, isa: I, residual: &[f32]) {
        let columns = self.tile.columns();
        let mut at = 0;
        while at < columns {
            let left = columns - at;
            if left >= 4 * I::LANES {
                self.strip::<I, 4, ADD, A>(isa, residual, at);
                at += 4 * I::LANES;
            } else if left >= 2 * I::LANES {
                self.strip::<I, 2, ADD, A>(isa, residual, at);
                at += 2 * I::LANES;
            } else {
                self.strip::<I, 1, ADD, A>(isa, residual, at);
                at += I::LANES;
            }
        }
    }

    /// All rows of `V` vectors of columns from `at` on; the tables' parts stay in registers.
    #[inline(always)]
    fn strip<I: Isa, const V: usize, const ADD: bool, const A: u8>(&mut self, isa: I, residual: &[f32], at: usize) {
        let there = (self.tile.columns() - at).min(V * I::LANES);
        let column = self.tile.first_column() + at;
        let zero = isa.splat(0.0);
        let (mut mean, mut scale, mut shift) = ([zero; V], [zero; V], [zero; V]);
        for v in 0..V {
            let from = column + v * I::LANES..column + there.min((v + 1) * I::LANES);
            mean[v] = load_padded(isa, &self.with.mean[from.clone()], 0.0);
            scale[v] = load_padded(isa, &self.with.scale[from.clone()], 0.0);
            shift[v] = load_padded(isa, &self.with.shift[from], 0.0);
        }
        for row in 0..self.tile.rows() {
            let start = if self.kept.is_some() { row * self.tile.columns() } else { self.tile.row_start(row) } + at;
            let other = if ADD { &residual[start..start + there] } else { &[][..] };
            let y = &mut self.tile.row(row)[at..at + there];
            for v in 0..V {
                let part = &mut y[v * I::LANES..];
                let mut value = isa.fma(isa.sub(load_of::<I, V>(isa, part), mean[v]), scale[v], shift[v]);
                if ADD {
                    value = isa.add(value, load_of::<I, V>(isa, &other[v * I::LANES..]));
                }
                let value = Activation::of::<I, A>(isa, value);
                // As in `load_of`.
                if V > 1 { isa.store(value, part) } else { store_padded(isa, value, part) }
            }
        }
    }
}

/// A vector of a strip of `V`. Where there are several all are whole; said here, so that no loop has the way for a part.
#[inline(always)]
fn load_of<I: Isa, const V: usize>(isa: I, x: &[f32]) -> I::V {
    if V > 1 { isa.load(x) } else { load_padded(isa, x, 0.0) }
}

struct BiasTask<'a, 't, 'p> {
    with: &'a Bias<'a>,
    tile: &'p mut Tile<'t>,
}

impl Task for BiasTask<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if const { I::LANES == 1 } {
            return self.plain(isa);
        }
        match self.with.activation {
            Activation::None => self.rows::<I, { Activation::None as u8 }>(isa),
            Activation::Relu => self.rows::<I, { Activation::Relu as u8 }>(isa),
            Activation::Relu6 => self.rows::<I, { Activation::Relu6 as u8 }>(isa),
            Activation::Hardswish => self.rows::<I, { Activation::Hardswish as u8 }>(isa),
        }
    }
}

impl BiasTask<'_, '_, '_> {
    /// As [`NormaliseTask::plain`].
    #[inline(always)]
    fn plain<I: Isa>(self, isa: I) {
        let (first, columns) = (self.tile.first_column(), self.tile.columns());
        let bias = &self.with.bias[first..first + columns];
        for row in 0..self.tile.rows() {
            let y = self.tile.row(row);
            for (y, bias) in y.chunks_exact_mut(1).zip(bias.chunks_exact(1)) {
                isa.store(isa.add(isa.load(y), isa.load(bias)), y);
            }
            self.with.activation.plain(isa, y);
        }
    }

    #[inline(always)]
    fn rows<I: Isa, const A: u8>(self, isa: I) {
        let (first, columns) = (self.tile.first_column(), self.tile.columns());
        let bias = &self.with.bias[first..first + columns];
        for row in 0..self.tile.rows() {
            let y = self.tile.row(row);
            for (y, bias) in y.chunks_mut(I::LANES).zip(bias.chunks(I::LANES)) {
                let value = isa.add(load_padded(isa, y, 0.0), load_padded(isa, bias, 0.0));
                store_padded(isa, Activation::of::<I, A>(isa, value), y);
            }
        }
    }
}
