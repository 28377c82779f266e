//! How a parameter begins.

use super::Declared;
use nunatak_core::tape::EntryId;

/// How a parameter is initialised. Random numbers are PyTorch's, from the same seed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Init {
    /// PyTorch's default for the layer: uniform within ±1/√(numbers that one output reads).
    Default,
    /// Normal, so that the variance of what flows back stays (`kaiming_normal_`, fan_out, relu).
    KaimingNormal,
    /// Normal.
    Normal {
        /// Mean.
        mean: f32,
        /// Standard deviation.
        std: f32,
    },
    /// The same number everywhere.
    Constant(f32),
}

impl Init {
    /// The kind by which a program names it, and its numbers; `fan_out` is how many numbers one input is
    /// read by.
    pub(crate) fn encode(self, fan_out: usize) -> (u32, f32, f32) {
        match self {
            Init::Default => (0, 0.0, 0.0),
            Init::KaimingNormal => (1, 0.0, (core::f64::consts::SQRT_2 / libm::sqrt(fan_out as f64)) as f32),
            Init::Normal { mean, std } => (1, mean, std),
            Init::Constant(value) => (2, value, 0.0),
        }
    }

    /// Whether its numbers can be used.
    pub(crate) const fn is_valid(self) -> bool {
        match self {
            Init::Default | Init::KaimingNormal => true,
            Init::Normal { mean, std } => mean.is_finite() && std.is_finite() && std >= 0.0,
            Init::Constant(value) => value.is_finite(),
        }
    }
}

/// The entries that draw numbers when their layer is made, in PyTorch's order.
///
/// PyTorch draws a uniform for every weight when a layer is made (`reset_parameters`); some models then
/// draw again from another distribution. So the numbers of the first round count, though they may be
/// thrown away.
pub(crate) fn draw_order(declared: &[Declared]) -> impl Iterator<Item = EntryId> {
    // Entries of equal order stand in the order of recording. There are few layers: each round looks for the
    // next in order.
    let key = |i: usize| (declared[i].draw, i);
    let draws = |i: &usize| declared[*i].bound > 0.0;
    let mut last: Option<(u32, usize)> = None;
    core::iter::from_fn(move || {
        let next = (0..declared.len()).filter(draws).map(key).filter(|k| last.is_none_or(|last| *k > last)).min()?;
        last = Some(next);
        Some(EntryId(next.1 as u32))
    })
}
