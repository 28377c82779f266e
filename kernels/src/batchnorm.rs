//! Batch normalisation.

/// A batch normalisation's numbers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BatchNorm {
    /// Pixels: n·h·w.
    pub rows: usize,
    /// Channels.
    pub channels: usize,
    /// Added to the variance, so that it can be divided by: 1e-5 in PyTorch.
    pub eps: f32,
}
