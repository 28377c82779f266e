//! Two-dimensional convolution (cross-correlation, as in PyTorch), without bias:
//!
//! `y[n][oy][ox][k] = Σ over c, i, j: x[n][oy·stride + i − pad][ox·stride + j − pad][c] · w[k][c][i][j]`
//!
//! where x is zero outside the image. All of ResNet18's arithmetic but one layer is here.
//!
//! | tensor | lies as | forward | backward_input | backward_weight |
//! |---|---|---|---|---|
//! | x | `[n][h][w][c]` | read | | read |
//! | w | [`WeightLayout`] | read | read | |
//! | y | `[n][out_h][out_w][k]` | overwritten | | |
//! | dy | as y | | read | read |
//! | dx | as x | | overwritten or added to | |
//! | dw | as w | | | overwritten or added to |
//!
//! Scratch: [`Conv2d::scratch_len`]. Reference: [`crate::reference::conv2d`].

mod backward_weight;
mod direct;
pub mod finish;
mod nine;
mod patches;
mod product;
mod stem;
mod stream;
mod strided;
mod thin;
mod transposed;
mod winograd;
mod winograd2;
mod winograd4;

use crate::parallel::Cpu;
use crate::sgd::Sgd;
use crate::weights::WeightLayout;
use core::fmt;
use nunatak_core::Error;
use nunatak_core::shape::windows;

use nine::Nine;
use strided::{Strided, StridedInput};
use winograd2::Winograd2;
use winograd4::Winograd4;

pub use finish::{Finish, Normalise};

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

/// The three passes of an operation with weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pass {
    /// y from x and w.
    Forward,
    /// dx from dy and w.
    BackwardInput,
    /// dw from dy and x.
    BackwardWeight,
}

impl Pass {
    /// All three.
    pub const ALL: [Pass; 3] = [Pass::Forward, Pass::BackwardInput, Pass::BackwardWeight];

    /// `forward`, `backward_input` or `backward_weight`.
    pub const fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::BackwardInput => "backward_input",
            Pass::BackwardWeight => "backward_weight",
        }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a pass is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// Matrix products over patches that are gathered a piece at a time.
    #[default]
    Gemm,
    /// Neither patches nor packed panels: lines of the input are copied a few at a time, and broadcast
    /// from there.
    Direct,
    /// Winograd's algorithm where a stride was taken apart: F(4, 4) along the lines of a stem, half the products of
    /// 7x7 with stride 2, forward and for the weight's gradient; F(3, 2) in both directions, 0.6 times the products
    /// of 3x3 with stride 2 and padding 1, for all passes.
    Polyphase,
    /// Winograd's F(4x4, 3x3): a quarter of the products. 3x3 filters with stride 1.
    Winograd4,
    /// Winograd's F(2x2, 3x3): four ninths of the products. 3x3 filters with stride 1.
    Winograd2,
    /// A quarter of the products for planes of 2 x 2: 3x3 filters with stride 1 and padding 1.
    Nine,
    /// Weights read once, for a handful of pixels: what counts there is the time that they take from
    /// memory.
    Stream,
    /// The whole patch matrix, and the crate `matrixmultiply`. Allocates on every call; only with the
    /// feature `matrixmultiply`, only where it is asked for.
    #[cfg(feature = "matrixmultiply")]
    Im2col,
}

impl Algorithm {
    /// Every algorithm of this build.
    #[cfg(not(feature = "algorithms"))]
    pub const ALL: &[Algorithm] = &[Algorithm::Gemm];

    /// Every algorithm of this build.
    #[cfg(feature = "algorithms")]
    pub const ALL: &[Algorithm] = &[
        Algorithm::Gemm,
        Algorithm::Direct,
        Algorithm::Polyphase,
        Algorithm::Winograd4,
        Algorithm::Winograd2,
        Algorithm::Nine,
        Algorithm::Stream,
        #[cfg(feature = "matrixmultiply")]
        Algorithm::Im2col,
    ];

    /// The algorithm, where this build has it; else `gemm`. Without the feature `algorithms` the compiler
    /// sees that nothing else is ever called.
    const fn built(self) -> Algorithm {
        if cfg!(feature = "algorithms") { self } else { Algorithm::Gemm }
    }

    /// The name by which it is asked for.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Gemm => "gemm",
            Algorithm::Direct => "direct",
            Algorithm::Polyphase => "polyphase",
            Algorithm::Winograd4 => "winograd4",
            Algorithm::Winograd2 => "winograd2",
            Algorithm::Nine => "nine",
            Algorithm::Stream => "stream",
            #[cfg(feature = "matrixmultiply")]
            Algorithm::Im2col => "im2col",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What memory may be spent on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Memory {
    /// As little as possible without becoming slow.
    Small,
    /// What speed asks for.
    #[default]
    Fast,
}

impl Memory {
    /// Numbers of scratch that one call may use, where it can do with so few.
    const fn budget(self) -> usize {
        match self {
            Memory::Small => 128 << 10,
            Memory::Fast => 512 << 10,
        }
    }
}

impl Conv2d {
    /// A convolution of `n` images of `h` x `w` with `c` channels to `k` channels.
    ///
    /// # Errors
    /// [`Error`] where a size is zero, the filter is larger than the padded image, or a tensor does
    /// not fit the address space.
    #[allow(clippy::too_many_arguments)] // the eight numbers of a convolution
    pub fn new(n: usize, h: usize, w: usize, c: usize, k: usize, kernel: usize, stride: usize, pad: usize) -> Result<Self, Error> {
        use nunatak_core::Shape;
        Shape::new(n, c, h, w)?;
        // A filter that is nothing but padding would compute nothing.
        let (h_out, w_out) = (windows(h, kernel, stride, pad)?, windows(w, kernel, stride, pad)?);
        Shape::new(n, k, h_out, w_out)?;
        Shape::new(k.max(1).next_multiple_of(16), c.next_multiple_of(16), kernel, kernel)?;
        Shape::new(1, c, h.saturating_add(2 * pad), w.saturating_add(2 * pad))?;
        Ok(Conv2d { n, h, w, c, k, kernel, stride, pad })
    }

    /// Output lines: ⌊(h + 2·pad − kernel) / stride⌋ + 1.
    pub const fn out_h(&self) -> usize {
        (self.h + 2 * self.pad - self.kernel) / self.stride + 1
    }
    /// Output columns.
    pub const fn out_w(&self) -> usize {
        (self.w + 2 * self.pad - self.kernel) / self.stride + 1
    }
    /// Numbers of x.
    pub const fn x_len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }
    /// Numbers of y.
    pub const fn y_len(&self) -> usize {
        self.n * self.out_h() * self.out_w() * self.k
    }
    /// How w lies.
    pub const fn weights(&self) -> WeightLayout {
        WeightLayout { k: self.k, c: self.c, taps: self.kernel * self.kernel }
    }
    /// Products of one pass.
    pub const fn products(&self) -> u64 {
        self.y_len() as u64 * (self.c * self.kernel * self.kernel) as u64
    }

    /// The algorithm that serves a pass best: a function of the shape and of what memory may be spent
    /// on, never of the number of threads. The first line that applies:
    ///
    /// | memory | convolution | passes | algorithm |
    /// |---|---|---|---|
    /// | any | at least 393216 weights, at most 16 output pixels and 16·stride² input pixels | all | `stream` |
    /// | fast | few input channels, stride 2, lines of at least 8 pixels, at least 16 channels out | all but the input's gradient | `polyphase` |
    /// | any | few input channels | all but the input's gradient | `direct` |
    /// | fast | 3x3, stride 1, at least 16 channels in and out, planes of 2 x 2 with padding 1, 3 images | all | `nine` |
    /// | fast | the same with fewer images | the input's gradient | `nine` |
    /// | fast | 3x3, stride 1, at least 16 channels in and out, output planes of at least 4 x 4, 80 output pixels, for the weight's gradient 48 | all | `winograd4` |
    /// | fast | the same with 32 output pixels | all | `winograd2` |
    /// | fast | 3x3, stride 2, padding 1, at least 16 channels in and out, 16 output tiles of 3 x 3, for the input's gradient 8 | all | `polyphase` |
    /// | fast | any | both gradients | `direct` |
    /// | any | any | all | `gemm` |
    ///
    /// Without the feature `algorithms` it is always `gemm`.
    pub fn algorithm(&self, pass: Pass, memory: Memory) -> Algorithm {
        if cfg!(not(feature = "algorithms")) {
            return Algorithm::Gemm;
        }
        if stream::pays(self) {
            return Algorithm::Stream;
        }
        if pass != Pass::BackwardInput && stem::accepts(self) {
            // Short lines and few output channels do not pay for the transforms.
            let pays = memory == Memory::Fast && self.out_w() >= 8 && self.k >= 16;
            return if pays && self.accepts(pass, Algorithm::Polyphase) { Algorithm::Polyphase } else { Algorithm::Direct };
        }
        // Few channels are bound by the transforms. Where there are few pixels, the filters' transform
        // costs more than it saves.
        if memory == Memory::Fast && self.c.min(self.k) >= 16 {
            if self.accepts(pass, Algorithm::Nine) && (self.n >= 3 || pass == Pass::BackwardInput) {
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
        if memory == Memory::Fast && pass != Pass::Forward { Algorithm::Direct } else { Algorithm::Gemm }
    }

    /// Whether an algorithm can do a pass of this convolution.
    pub fn accepts(&self, pass: Pass, algorithm: Algorithm) -> bool {
        algorithm == algorithm.built() && self.can(pass, algorithm)
    }

    fn can(&self, pass: Pass, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Gemm | Algorithm::Direct => true,
            Algorithm::Winograd4 | Algorithm::Winograd2 => winograd::accepts(self),
            Algorithm::Nine => winograd::accepts(self) && (self.h, self.w, self.pad) == (2, 2, 1),
            Algorithm::Polyphase => strided::accepts(self) || pass != Pass::BackwardInput && stem::polyphase::accepts(self),
            Algorithm::Stream => stream::accepts(self),
            #[cfg(feature = "matrixmultiply")]
            Algorithm::Im2col => true,
        }
    }

    /// Numbers of scratch that a pass needs on so many threads. With more, `gemm` and `direct` may cut the
    /// pixels of `backward_weight` elsewhere, which changes the last bits of its sums.
    ///
    /// # Panics
    /// If the algorithm does not accept the pass, here and in the passes.
    pub fn scratch_len(&self, pass: Pass, algorithm: Algorithm, memory: Memory, threads: usize) -> usize {
        let budget = memory.budget();
        match (algorithm.built(), pass) {
            (Algorithm::Gemm, Pass::Forward) => product::forward_scratch(self, budget),
            (Algorithm::Direct, Pass::Forward) if stem::accepts(self) => stem::forward_scratch(self, threads),
            (Algorithm::Direct, Pass::BackwardWeight) if stem::accepts(self) => stem::backward_weight::scratch_len(self, threads),
            (Algorithm::Polyphase, Pass::BackwardInput) => winograd::scratch_len::<StridedInput>(self, pass, threads),
            (Algorithm::Polyphase, pass) if strided::accepts(self) => winograd::scratch_len::<Strided>(self, pass, threads),
            (Algorithm::Polyphase, Pass::BackwardWeight) => stem::polyphase::backward_weight::scratch_len(self, threads),
            (Algorithm::Polyphase, _) => stem::polyphase::forward_scratch(self, threads),
            (Algorithm::Gemm, Pass::BackwardInput) => product::backward_input_scratch(self, budget),
            (Algorithm::Gemm, Pass::BackwardWeight) => backward_weight::scratch_len(self, budget),
            (Algorithm::Direct, Pass::Forward) => direct::forward_scratch(self, threads),
            (Algorithm::Direct, Pass::BackwardInput) => direct::backward_input_scratch(self, threads),
            (Algorithm::Direct, Pass::BackwardWeight) => direct::backward_weight::scratch_len(self, budget),
            (Algorithm::Winograd4, pass) => winograd::scratch_len::<Winograd4>(self, pass, threads),
            (Algorithm::Winograd2, pass) => winograd::scratch_len::<Winograd2>(self, pass, threads),
            (Algorithm::Nine, pass) => winograd::scratch_len::<Nine>(self, pass, threads),
            (Algorithm::Stream, Pass::Forward) => stream::forward::scratch_len(self),
            (Algorithm::Stream, _) => stream::backward::scratch_len(self, threads),
            #[cfg(feature = "matrixmultiply")]
            (Algorithm::Im2col, _) => 0,
        }
    }

    /// y = x ⊛ w (+ y where `add`), then what `finish` says.
    ///
    /// # Panics
    /// If a slice has not the length that the table above says, or `finish` does not fit.
    #[allow(clippy::too_many_arguments)] // tensors are named, not packed into a struct
    pub fn forward(
        &self,
        cpu: &Cpu,
        algorithm: Algorithm,
        x: &[f32],
        w: &[f32],
        y: &mut [f32],
        add: bool,
        finish: Finish,
        scratch: &mut [f32],
    ) {
        self.check(Pass::Forward, algorithm, x.len(), w.len(), y.len());
        finish.check(self);
        match algorithm.built() {
            Algorithm::Gemm => product::forward(self, cpu, x, w, y, add, finish, scratch),
            Algorithm::Direct if stem::accepts(self) => stem::forward(self, cpu, x, w, y, add, finish, scratch),
            Algorithm::Direct => direct::forward(self, cpu, x, w, y, add, finish, scratch),
            Algorithm::Winograd4 => winograd::forward::<Winograd4>(self, cpu, x, w, y, add, finish, scratch),
            Algorithm::Winograd2 => winograd::forward::<Winograd2>(self, cpu, x, w, y, add, finish, scratch),
            Algorithm::Nine => winograd::forward::<Nine>(self, cpu, x, w, y, add, finish, scratch),
            Algorithm::Polyphase if strided::accepts(self) => winograd::forward::<Strided>(self, cpu, x, w, y, add, finish, scratch),
            Algorithm::Polyphase => stem::polyphase::forward(self, cpu, x, w, y, add, finish, scratch),
            Algorithm::Stream => stream::forward::forward(self, cpu, x, w, y, add, finish, scratch),
            #[cfg(feature = "matrixmultiply")]
            Algorithm::Im2col => {
                im2col::forward(self, cpu, x, w, y, add);
                finish.whole(cpu, self, y);
            }
        }
    }

    /// dx = the gradient of the input (+ dx where `add`).
    ///
    /// # Panics
    /// If a slice has not the length that the table above says.
    #[allow(clippy::too_many_arguments)]
    pub fn backward_input(&self, cpu: &Cpu, algorithm: Algorithm, w: &[f32], dy: &[f32], dx: &mut [f32], add: bool, scratch: &mut [f32]) {
        self.check(Pass::BackwardInput, algorithm, dx.len(), w.len(), dy.len());
        match algorithm.built() {
            Algorithm::Gemm => product::backward_input(self, cpu, w, dy, dx, add, scratch),
            Algorithm::Direct => direct::backward_input(self, cpu, w, dy, dx, add, scratch),
            Algorithm::Winograd4 => winograd::backward_input::<Winograd4>(self, cpu, w, dy, dx, add, scratch),
            Algorithm::Winograd2 => winograd::backward_input::<Winograd2>(self, cpu, w, dy, dx, add, scratch),
            Algorithm::Nine => winograd::backward_input::<Nine>(self, cpu, w, dy, dx, add, scratch),
            Algorithm::Polyphase => winograd::backward_input::<StridedInput>(self, cpu, w, dy, dx, add, scratch),
            Algorithm::Stream => stream::backward::backward_input(self, cpu, w, dy, dx, add, scratch),
            #[cfg(feature = "matrixmultiply")]
            Algorithm::Im2col => im2col::backward_input(self, cpu, w, dy, dx, add),
        }
    }

    /// dw = the gradient of the weight (+ dw where `add`).
    ///
    /// # Panics
    /// If a slice has not the length that the table above says.
    #[allow(clippy::too_many_arguments)]
    pub fn backward_weight(&self, cpu: &Cpu, algorithm: Algorithm, x: &[f32], dy: &[f32], dw: &mut [f32], add: bool, scratch: &mut [f32]) {
        self.check(Pass::BackwardWeight, algorithm, x.len(), dw.len(), dy.len());
        match algorithm.built() {
            Algorithm::Gemm => backward_weight::backward_weight(self, cpu, x, dy, dw, add, scratch),
            Algorithm::Direct if stem::accepts(self) => stem::backward_weight::run(self, cpu, x, dy, dw, add, scratch),
            Algorithm::Direct => direct::backward_weight::run(self, cpu, x, dy, dw, add, scratch),
            Algorithm::Winograd4 => winograd::backward_weight::<Winograd4>(self, cpu, x, dy, dw, add, scratch),
            Algorithm::Winograd2 => winograd::backward_weight::<Winograd2>(self, cpu, x, dy, dw, add, scratch),
            Algorithm::Nine => winograd::backward_weight::<Nine>(self, cpu, x, dy, dw, add, scratch),
            Algorithm::Polyphase if strided::accepts(self) => winograd::backward_weight::<Strided>(self, cpu, x, dy, dw, add, scratch),
            Algorithm::Polyphase => stem::polyphase::backward_weight::run(self, cpu, x, dy, dw, add, scratch),
            Algorithm::Stream => stream::backward::backward_weight(self, cpu, x, dy, dw, add, scratch),
            #[cfg(feature = "matrixmultiply")]
            Algorithm::Im2col => im2col::backward_weight(self, cpu, x, dy, dw, add),
        }
    }

    /// `backward_weight`, one step of SGD and (where `dx` is asked for) `backward_input` with the weights
    /// before the step, in one pass over the weights by [`Algorithm::Stream`]: the same bits as the three
    /// calls one after the other, without the gradient's memory.
    ///
    /// | name | shape | |
    /// |---|---|---|
    /// | `x`, `dy` | as above | read |
    /// | `w` | as above | read and overwritten |
    /// | `momentum` | as `w` | as [`crate::sgd::step`] says; not used where `sgd.momentum` is 0 |
    /// | `dx` | as above, and whether to add to it | overwritten or added to |
    ///
    /// Scratch: as the algorithm's `backward_weight`.
    ///
    /// # Panics
    /// If a slice has another length than the tables say, or `stream` does not accept the convolution.
    #[allow(clippy::too_many_arguments)]
    pub fn backward_step(
        &self,
        cpu: &Cpu,
        sgd: &Sgd,
        x: &[f32],
        dy: &[f32],
        w: &mut [f32],
        momentum: &mut [f32],
        first: bool,
        dx: Option<(&mut [f32], bool)>,
        scratch: &mut [f32],
    ) {
        self.check(Pass::BackwardWeight, Algorithm::Stream, x.len(), w.len(), dy.len());
        if cfg!(not(feature = "algorithms")) {
            unreachable!("refused above");
        }
        assert!(sgd.momentum == 0.0 || momentum.len() == w.len(), "a momentum buffer of another length than its parameter");
        if let Some((dx, _)) = &dx {
            assert_eq!(dx.len(), self.x_len(), "numbers of dx of {self:?}");
        }
        stream::backward::step(self, cpu, sgd, x, dy, w, momentum, first, dx, scratch);
    }

    fn check(&self, pass: Pass, algorithm: Algorithm, x: usize, w: usize, y: usize) {
        assert!(self.accepts(pass, algorithm), "{algorithm} can't do {pass} of {self:?}");
        assert_eq!(x, self.x_len(), "numbers of x of {self:?}");
        assert_eq!(w, self.weights().len(), "numbers of w of {self:?}");
        assert_eq!(y, self.y_len(), "numbers of y of {self:?}");
    }
}

#[cfg(feature = "matrixmultiply")]
mod im2col;
