//! Mean over windows.

/// An average-pooling's numbers: `n` images of `h` x `w` with `c` channels to `out_h` x `out_w`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdaptiveAvgPool {
    /// Images.
    pub n: usize,
    /// Input lines.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Output lines.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
}
