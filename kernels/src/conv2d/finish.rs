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

use super::nine::Nine;
use super::strided::{self, Strided};
use super::winograd2::Winograd2;
use super::winograd4::Winograd4;
use super::{Algorithm, Conv2d, Memory, product, stem, winograd};
use crate::batchnorm::{self, BatchNorm};
use crate::isa::Isa;
use crate::lanes::{load_padded, store_padded};
use crate::parallel::{Cpu, RowMap, Tile, Tiles};
use crate::{Level, Task};
pub use moments::Moments;

/// What happens to finished output.
#[derive(Clone, Copy, Debug, Default)]
pub enum Finish<'a> {
    /// Nothing: y is what was convolved.
    #[default]
    None,
    /// A normalisation, and what follows it.
    Normalise(Normalise<'a>),
    /// Nothing; the channels' moments are taken.
    Moments(&'a Moments<'a>),
}

/// `y ← (y − mean)·scale + shift`, then `y + residual`, then `max(y, 0)`, where these are wanted.
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
    /// Whether negative numbers become zero at the end.
    pub relu: bool,
}

impl<'a> Normalise<'a> {
    /// Numbers of the tables of `k` channels.
    pub const fn tables_len(k: usize) -> usize {
        3 * k
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
        Normalise { mean: means, scale: scales, shift: shifts, residual: None, relu: false }
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
            Finish::Normalise(with) => level.run(NormaliseTask { with, tile }),
            Finish::Moments(moments) => moments.tile(level, tile),
        }
    }

    /// Finishes all of y in a pass of its own, after an algorithm that has no tiles.
    pub(crate) fn whole(&self, cpu: &Cpu, conv: &Conv2d, y: &mut [f32]) {
        if let Finish::None = self {
            return;
        }
        let rows = y.len() / conv.k;
        cpu.run(Tiles::new(y, RowMap::plain(rows, conv.k), rows, conv.k, ROWS, conv.k), &mut [], 0, |_, mut tile, _| {
            self.tile(cpu.level, &mut tile);
        });
    }

    /// Stops where a length is not the convolution's.
    pub(crate) fn check(&self, conv: &Conv2d) {
        if let Finish::Normalise(with) = self {
            for (what, table) in [("means", with.mean), ("scales", with.scale), ("shifts", with.shift)] {
                assert_eq!(table.len(), conv.k, "{what} for the output channels of {conv:?}");
            }
            if let Some(residual) = with.residual {
                assert_eq!(residual.len(), conv.y_len(), "numbers of the residual of {conv:?}");
            }
        }
    }
}

/// How many row tiles an algorithm's forward pass has at most; `None`: it does not finish tile by tile
/// with numbers of their own, so moments are taken in a pass of their own.
fn row_tiles(conv: &Conv2d, algorithm: Algorithm, memory: Memory) -> Option<usize> {
    match algorithm.built() {
        Algorithm::Gemm => Some(product::row_tiles(conv, memory.budget())),
        Algorithm::Winograd4 => Some(winograd::row_tiles::<Winograd4>(conv)),
        Algorithm::Winograd2 => Some(winograd::row_tiles::<Winograd2>(conv)),
        Algorithm::Nine => Some(winograd::row_tiles::<Nine>(conv)),
        Algorithm::Polyphase if strided::accepts(conv) => Some(winograd::row_tiles::<Strided>(conv)),
        Algorithm::Direct => stem::accepts(conv).then(|| stem::row_tiles(conv)),
        #[allow(unreachable_patterns)] // every algorithm of some builds
        _ => None,
    }
}

impl Conv2d {
    fn moments_parts(&self, algorithm: Algorithm, memory: Memory) -> usize {
        row_tiles(self, algorithm, memory).unwrap_or((self.y_len() / self.k).div_ceil(ROWS))
    }

    /// Numbers of scratch that [`Conv2d::forward_moments`] needs before that of the forward pass; a
    /// multiple of 16.
    pub fn moments_scratch_len(&self, algorithm: Algorithm, memory: Memory) -> usize {
        Moments::scratch_len(self.k, self.moments_parts(algorithm, memory))
    }

    /// y = x ⊛ w; `moments` gets the means of y's channels, then the sums of the squared deviations
    /// from them: 2·k numbers. Scratch: [`Conv2d::moments_scratch_len`] and that of the forward pass
    /// with the same `memory`.
    ///
    /// # Panics
    /// As [`Conv2d::forward`], or if `moments` or `scratch` has another length.
    #[allow(clippy::too_many_arguments)]
    pub fn forward_moments(
        &self,
        cpu: &Cpu,
        algorithm: Algorithm,
        memory: Memory,
        x: &[f32],
        w: &[f32],
        y: &mut [f32],
        moments: &mut [f64],
        scratch: &mut [f32],
    ) {
        let (cells, scratch) = scratch.split_at_mut(self.moments_scratch_len(algorithm, memory));
        // No more than planned: the cut into tiles depends on it.
        let scratch = &mut scratch[..self.scratch_len(super::Pass::Forward, algorithm, memory, cpu.threads.count())];
        let partial = Moments::new(self.k, self.moments_parts(algorithm, memory), cells);
        let finish = Finish::Moments(&partial);
        if row_tiles(self, algorithm, memory).is_some() {
            self.forward(cpu, algorithm, x, w, y, false, finish, scratch);
        } else {
            self.forward(cpu, algorithm, x, w, y, false, Finish::None, scratch);
            finish.whole(cpu, self, y);
        }
        partial.merge(cpu.level, moments);
    }
}

struct NormaliseTask<'a, 't, 'p> {
    with: &'a Normalise<'a>,
    tile: &'p mut Tile<'t>,
}

impl Task for NormaliseTask<'_, '_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match (self.with.residual, self.with.relu) {
            (None, false) => self.vectors::<I, false, false>(isa, &[]),
            (None, true) => self.vectors::<I, false, true>(isa, &[]),
            (Some(residual), false) => self.vectors::<I, true, false>(isa, residual),
            (Some(residual), true) => self.vectors::<I, true, true>(isa, residual),
        }
    }
}

impl NormaliseTask<'_, '_, '_> {
    #[inline(always)]
    fn vectors<I: Isa, const ADD: bool, const RELU: bool>(mut self, isa: I, residual: &[f32]) {
        let columns = self.tile.columns();
        let mut at = 0;
        while at < columns {
            let left = columns - at;
            if left >= 4 * I::LANES {
                self.strip::<I, 4, ADD, RELU>(isa, residual, at);
                at += 4 * I::LANES;
            } else if left >= 2 * I::LANES {
                self.strip::<I, 2, ADD, RELU>(isa, residual, at);
                at += 2 * I::LANES;
            } else {
                self.strip::<I, 1, ADD, RELU>(isa, residual, at);
                at += I::LANES;
            }
        }
    }

    /// All rows of `V` vectors of columns from `at` on; the tables' parts stay in registers.
    #[inline(always)]
    fn strip<I: Isa, const V: usize, const ADD: bool, const RELU: bool>(&mut self, isa: I, residual: &[f32], at: usize) {
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
            let start = self.tile.row_start(row) + at;
            let other = if ADD { &residual[start..start + there] } else { &[][..] };
            let y = &mut self.tile.row(row)[at..at + there];
            for v in 0..V {
                let part = &mut y[v * I::LANES..];
                let mut value = isa.fma(isa.sub(load_padded(isa, part, 0.0), mean[v]), scale[v], shift[v]);
                if ADD {
                    value = isa.add(value, load_padded(isa, &other[v * I::LANES..], 0.0));
                }
                if RELU {
                    value = isa.select(isa.lt(value, zero), zero, value);
                }
                store_padded(isa, value, part);
            }
        }
    }
}
