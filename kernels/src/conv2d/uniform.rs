//! The convolutions that most tuned algorithms are written for: one group, no dilation, and the same filter,
//! stride and padding in both directions.

use super::nine::Nine;
use super::strided::{self, Strided, StridedInput};
use super::winograd2::Winograd2;
use super::winograd4::Winograd4;
use super::{Algorithm, BackwardInput, BackwardWeight, Forward, Pass, direct, rows, stem, stream, winograd};
use crate::parallel::Cpu;
use crate::weights::WeightLayout;

/// Such a convolution's numbers. It is made by [`super::Conv2d::uniform`] alone, which has checked them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uniform {
    /// Images.
    pub(super) n: usize,
    /// Input lines.
    pub(super) h: usize,
    /// Input columns.
    pub(super) w: usize,
    /// Input channels.
    pub(super) c: usize,
    /// Output channels.
    pub(super) k: usize,
    /// Height and width of the filter.
    pub(super) kernel: usize,
    /// Step of the filter in both directions.
    pub(super) stride: usize,
    /// Zeros around the input on every side.
    pub(super) pad: usize,
}

impl Uniform {
    pub(super) const fn out_h(&self) -> usize {
        (self.h + 2 * self.pad - self.kernel) / self.stride + 1
    }
    pub(super) const fn out_w(&self) -> usize {
        (self.w + 2 * self.pad - self.kernel) / self.stride + 1
    }
    /// How w lies.
    pub(super) const fn weights(&self) -> WeightLayout {
        WeightLayout::of(self.k, self.c, self.kernel * self.kernel)
    }
}

impl Uniform {
    /// What is fastest: the table of [`super::Conv2d::algorithm`].
    pub(super) fn fastest(&self, pass: Pass) -> Algorithm {
        if stream::pays(self) {
            return Algorithm::Stream;
        }
        if pass != Pass::BackwardInput && stem::accepts(self) {
            // Short lines and few output channels do not pay for the transforms.
            let pays = self.out_w() >= 8 && self.k >= 16;
            return if pays && self.can(pass, Algorithm::Polyphase) { Algorithm::Polyphase } else { Algorithm::Direct };
        }
        // Few channels are bound by the transforms. Where there are few pixels, the filters' transform
        // costs more than it saves.
        if self.c.min(self.k) >= 16 {
            if self.can(pass, Algorithm::Nine) && (self.n >= 3 || pass == Pass::BackwardInput) {
                return Algorithm::Nine;
            }
            let pixels = self.n * self.out_h() * self.out_w();
            if winograd::accepts(self) && self.out_h().min(self.out_w()) >= 4 {
                if pixels >= if pass == Pass::BackwardWeight { 48 } else { 80 } {
                    return Algorithm::Winograd4;
                }
                if pixels >= 32 {
                    return Algorithm::Winograd2;
                }
            }
            let tiles = self.n * self.out_h().div_ceil(3) * self.out_w().div_ceil(3);
            if strided::accepts(self) && tiles >= if pass == Pass::BackwardInput { 8 } else { 16 } {
                return Algorithm::Polyphase;
            }
        }
        if rows::pays(self, pass) {
            return Algorithm::Rows;
        }
        if pass != Pass::Forward && self.can(pass, Algorithm::Direct) { Algorithm::Direct } else { Algorithm::Gemm }
    }

    /// Whether a tuned algorithm can do a pass.
    pub(super) fn can(&self, pass: Pass, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Direct => direct::accepts(self),
            Algorithm::Winograd4 | Algorithm::Winograd2 => winograd::accepts(self),
            Algorithm::Nine => winograd::accepts(self) && (self.h, self.w, self.pad) == (2, 2, 1),
            Algorithm::Polyphase => strided::accepts(self) || pass != Pass::BackwardInput && stem::polyphase::accepts(self),
            Algorithm::Rows => rows::accepts(self),
            Algorithm::Stream => stream::accepts(self),
            Algorithm::Gemm => true,
            Algorithm::Depthwise | Algorithm::Grouped => false,
            #[cfg(feature = "matrixmultiply")]
            Algorithm::Im2col => true,
        }
    }

    /// Numbers of scratch of a tuned algorithm.
    pub(super) fn scratch_len(&self, pass: Pass, algorithm: Algorithm, budget: usize, threads: usize) -> usize {
        match (algorithm, pass) {
            (Algorithm::Direct, Pass::Forward) if stem::accepts(self) => stem::forward_scratch(self, threads),
            (Algorithm::Direct, Pass::BackwardWeight) if stem::accepts(self) => stem::backward_weight::scratch_len(self, threads),
            (Algorithm::Polyphase, Pass::BackwardInput) => winograd::scratch_len::<StridedInput>(self, pass, threads),
            (Algorithm::Polyphase, pass) if strided::accepts(self) => winograd::scratch_len::<Strided>(self, pass, threads),
            (Algorithm::Polyphase, Pass::BackwardWeight) => stem::polyphase::backward_weight::scratch_len(self, threads),
            (Algorithm::Polyphase, _) => stem::polyphase::forward_scratch(self, threads),
            (Algorithm::Direct, Pass::Forward) => direct::forward_scratch(self, threads),
            (Algorithm::Direct, Pass::BackwardInput) => direct::backward_input_scratch(self, threads),
            (Algorithm::Direct, Pass::BackwardWeight) => direct::backward_weight::scratch_len(self, budget),
            (Algorithm::Winograd4, pass) => winograd::scratch_len::<Winograd4>(self, pass, threads),
            (Algorithm::Winograd2, pass) => winograd::scratch_len::<Winograd2>(self, pass, threads),
            (Algorithm::Nine, pass) => winograd::scratch_len::<Nine>(self, pass, threads),
            (Algorithm::Rows, Pass::Forward) => rows::forward_scratch(self, threads),
            (Algorithm::Rows, Pass::BackwardInput) => rows::backward_input_scratch(self, threads),
            (Algorithm::Rows, Pass::BackwardWeight) => rows::backward_weight::scratch_len(self, threads),
            (Algorithm::Stream, Pass::Forward) => stream::forward::scratch_len(self),
            (Algorithm::Stream, _) => stream::backward::scratch_len(self, threads),
            (other, _) => unreachable!("{other} is not one of the tuned algorithms"),
        }
    }

    /// How many row tiles a tuned algorithm's forward pass has at most; `None`: it does not finish tile by tile with
    /// numbers of their own.
    pub(super) fn row_tiles(&self, algorithm: Algorithm) -> Option<usize> {
        match algorithm {
            Algorithm::Winograd4 => Some(winograd::row_tiles::<Winograd4>(self)),
            Algorithm::Winograd2 => Some(winograd::row_tiles::<Winograd2>(self)),
            Algorithm::Nine => Some(winograd::row_tiles::<Nine>(self)),
            Algorithm::Polyphase if strided::accepts(self) => Some(winograd::row_tiles::<Strided>(self)),
            Algorithm::Direct => stem::accepts(self).then(|| stem::row_tiles(self)),
            Algorithm::Rows => Some(rows::row_tiles(self)),
            _ => None,
        }
    }

    /// As [`super::Conv2d::forward`].
    pub(super) fn forward(&self, cpu: &Cpu, algorithm: Algorithm, call: Forward) {
        match algorithm {
            Algorithm::Direct if stem::accepts(self) => stem::forward(self, cpu, call),
            Algorithm::Direct => direct::forward(self, cpu, call),
            Algorithm::Winograd4 => winograd::forward::<Winograd4>(self, cpu, call),
            Algorithm::Winograd2 => winograd::forward::<Winograd2>(self, cpu, call),
            Algorithm::Nine => winograd::forward::<Nine>(self, cpu, call),
            Algorithm::Polyphase if strided::accepts(self) => winograd::forward::<Strided>(self, cpu, call),
            Algorithm::Polyphase => stem::polyphase::forward(self, cpu, call),
            Algorithm::Rows => rows::forward(self, cpu, call),
            Algorithm::Stream => stream::forward::forward(self, cpu, call),
            other => unreachable!("{other} is not one of the tuned algorithms"),
        }
    }

    /// As [`super::Conv2d::backward_input`].
    pub(super) fn backward_input(&self, cpu: &Cpu, algorithm: Algorithm, call: BackwardInput) {
        match algorithm {
            Algorithm::Direct => direct::backward_input(self, cpu, call),
            Algorithm::Winograd4 => winograd::backward_input::<Winograd4>(self, cpu, call),
            Algorithm::Winograd2 => winograd::backward_input::<Winograd2>(self, cpu, call),
            Algorithm::Nine => winograd::backward_input::<Nine>(self, cpu, call),
            Algorithm::Polyphase => winograd::backward_input::<StridedInput>(self, cpu, call),
            Algorithm::Rows => rows::backward_input(self, cpu, call),
            Algorithm::Stream => stream::backward::backward_input(self, cpu, call),
            other => unreachable!("{other} is not one of the tuned algorithms"),
        }
    }

    /// As [`super::Conv2d::backward_weight`].
    pub(super) fn backward_weight(&self, cpu: &Cpu, algorithm: Algorithm, call: BackwardWeight) {
        match algorithm {
            Algorithm::Direct if stem::accepts(self) => stem::backward_weight::run(self, cpu, call),
            Algorithm::Direct => direct::backward_weight::run(self, cpu, call),
            Algorithm::Winograd4 => winograd::backward_weight::<Winograd4>(self, cpu, call),
            Algorithm::Winograd2 => winograd::backward_weight::<Winograd2>(self, cpu, call),
            Algorithm::Nine => winograd::backward_weight::<Nine>(self, cpu, call),
            Algorithm::Polyphase if strided::accepts(self) => winograd::backward_weight::<Strided>(self, cpu, call),
            Algorithm::Polyphase => stem::polyphase::backward_weight::run(self, cpu, call),
            Algorithm::Rows => rows::backward_weight::run(self, cpu, call),
            Algorithm::Stream => stream::backward::backward_weight(self, cpu, call),
            other => unreachable!("{other} is not one of the tuned algorithms"),
        }
    }
}
