//! What each pass of a convolution is handed: its tensors by name.

use super::{Finish, Normalise};

/// The tensors of [`Conv2d::forward`](super::Conv2d::forward).
#[derive(Debug)]
pub struct Forward<'a> {
    /// `[n][h][w][c]`: read.
    pub x: &'a [f32],
    /// As [`Conv2d::weights`](super::Conv2d::weights) says: read.
    pub w: &'a [f32],
    /// `[n][out_h][out_w][k]`: overwritten, or added to where `add`.
    pub y: &'a mut [f32],
    /// Whether the sums are added to what y holds.
    pub add: bool,
    /// What happens to y when nothing will be added to it any more.
    pub finish: Finish<'a>,
    /// [`Conv2d::scratch_len`](super::Conv2d::scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`Conv2d::forward_over`](super::Conv2d::forward_over).
#[derive(Debug)]
pub struct ForwardOver<'a> {
    /// `[n][h][w][c]`: read.
    pub x: &'a [f32],
    /// As [`Conv2d::weights`](super::Conv2d::weights) says: read.
    pub w: &'a [f32],
    /// `[n][out_h][out_w][k]`: holds the residual on entry, overwritten.
    pub y: &'a mut [f32],
    /// What is made of the sums, without a residual of its own.
    pub how: Normalise<'a>,
    /// [`Conv2d::over_scratch_len`](super::Conv2d::over_scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`Conv2d::forward_moments`](super::Conv2d::forward_moments).
#[derive(Debug)]
pub struct ForwardMoments<'a> {
    /// `[n][h][w][c]`: read.
    pub x: &'a [f32],
    /// As [`Conv2d::weights`](super::Conv2d::weights) says: read.
    pub w: &'a [f32],
    /// `[n][out_h][out_w][k]`: overwritten.
    pub y: &'a mut [f32],
    /// 2·k: overwritten by the means of y's channels, then the sums of the squared deviations from them.
    pub moments: &'a mut [f64],
    /// [`Conv2d::moments_scratch_len`](super::Conv2d::moments_scratch_len) numbers, and those of the forward pass with the
    /// same `memory`: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`Conv2d::backward_input`](super::Conv2d::backward_input).
#[derive(Debug)]
pub struct BackwardInput<'a> {
    /// As [`Conv2d::weights`](super::Conv2d::weights) says: read.
    pub w: &'a [f32],
    /// `[n][out_h][out_w][k]`: read.
    pub dy: &'a [f32],
    /// `[n][h][w][c]`: overwritten, or added to where `add`.
    pub dx: &'a mut [f32],
    /// Whether the gradient is added to what dx holds.
    pub add: bool,
    /// [`Conv2d::scratch_len`](super::Conv2d::scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`Conv2d::backward_weight`](super::Conv2d::backward_weight).
#[derive(Debug)]
pub struct BackwardWeight<'a> {
    /// `[n][h][w][c]`: read.
    pub x: &'a [f32],
    /// `[n][out_h][out_w][k]`: read.
    pub dy: &'a [f32],
    /// As [`Conv2d::weights`](super::Conv2d::weights) says: overwritten, or added to where `add`.
    pub dw: &'a mut [f32],
    /// Whether the gradient is added to what dw holds.
    pub add: bool,
    /// [`Conv2d::scratch_len`](super::Conv2d::scratch_len) numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// The tensors of [`Conv2d::backward_step`](super::Conv2d::backward_step).
#[derive(Debug)]
pub struct BackwardStep<'a> {
    /// `[n][h][w][c]`: read.
    pub x: &'a [f32],
    /// `[n][out_h][out_w][k]`: read.
    pub dy: &'a [f32],
    /// As [`Conv2d::weights`](super::Conv2d::weights) says: read and overwritten.
    pub w: &'a mut [f32],
    /// As w: read and overwritten as [`crate::sgd::step`] says; not used where `sgd.momentum` is 0.
    pub momentum: &'a mut [f32],
    /// Whether this is the first step: what `momentum` holds is not read.
    pub first: bool,
    /// `[n][h][w][c]`: overwritten, or added to where `add`. `None`: it is not computed.
    pub dx: Option<&'a mut [f32]>,
    /// Whether the gradient is added to what dx holds.
    pub add: bool,
    /// As many numbers as [`Conv2d::backward_weight`](super::Conv2d::backward_weight) by
    /// [`Algorithm::Stream`](super::Algorithm::Stream) needs: overwritten.
    pub scratch: &'a mut [f32],
}
