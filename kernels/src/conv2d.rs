//! Two-dimensional convolution (cross-correlation, as in PyTorch).

/// A convolution's numbers: `n` images of `h` x `w` with `c` channels (channels last) to `k` channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conv2d {
    /// Images.
    pub n: usize,
    /// Input lines.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Input channels.
    pub c: usize,
    /// Output channels.
    pub k: usize,
    /// Height and width of the filter.
    pub kernel: usize,
    /// Step of the filter in both directions.
    pub stride: usize,
    /// Zeros around the input on every side.
    pub pad: usize,
}

impl Conv2d {
    /// Output lines: ⌊(h + 2·pad − kernel) / stride⌋ + 1.
    pub const fn out_h(&self) -> usize {
        (self.h + 2 * self.pad - self.kernel) / self.stride + 1
    }
    /// Output columns.
    pub const fn out_w(&self) -> usize {
        (self.w + 2 * self.pad - self.kernel) / self.stride + 1
    }
}
