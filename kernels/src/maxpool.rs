//! Maximum over windows.

/// A max-pooling's numbers: `n` images of `h` x `w` with `c` channels (channels last).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxPool {
    /// Images.
    pub n: usize,
    /// Input lines.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Height and width of the window.
    pub kernel: usize,
    /// Step of the window in both directions.
    pub stride: usize,
    /// Cells around the input on every side, which are never chosen.
    pub pad: usize,
}

impl MaxPool {
    /// Output lines: ⌊(h + 2·pad − kernel) / stride⌋ + 1.
    pub const fn out_h(&self) -> usize {
        (self.h + 2 * self.pad - self.kernel) / self.stride + 1
    }
    /// Output columns.
    pub const fn out_w(&self) -> usize {
        (self.w + 2 * self.pad - self.kernel) / self.stride + 1
    }
}
