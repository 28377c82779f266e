//! Two-dimensional convolution (cross-correlation, as in PyTorch), without bias:
//!
//! `y[n][oy][ox][k] = Σ over c, i, j: x[n][oy·stride + i − pad][ox·stride + j − pad][c] · w[k][c][i][j]`
//!
//! where x is zero outside the image. All of ResNet18's arithmetic but one layer is here.
//!
//! A pass takes its tensors by name, in a struct that tells how they lie and what becomes of them: [`Forward`],
//! [`BackwardInput`], [`BackwardWeight`] and their kin.
//!
//! Scratch: [`Conv2d::scratch_len`]. Reference: [`crate::reference::conv2d`].

mod add_up;
#[cfg_attr(not(feature = "algorithms"), allow(dead_code))]
mod ahead;
pub(crate) mod backward_weight;
mod calls;
mod depthwise;
#[cfg_attr(not(feature = "algorithms"), allow(dead_code))]
mod direct;
pub mod finish;
mod geometry;
mod group;
#[cfg_attr(not(feature = "algorithms"), allow(dead_code))]
mod grouped;
#[cfg(feature = "matrixmultiply")]
mod im2col;
#[cfg_attr(not(feature = "algorithms"), allow(dead_code))]
mod nine;
mod patches;
pub(crate) mod product;
#[cfg_attr(not(feature = "algorithms"), allow(dead_code))]
mod rows;
pub(crate) mod side;
#[cfg_attr(not(feature = "algorithms"), allow(dead_code))]
mod stem;
#[cfg_attr(not(feature = "algorithms"), allow(dead_code))]
mod stream;
#[cfg_attr(not(feature = "algorithms"), allow(dead_code))]
mod strided;
mod thin;
mod transposed;
#[cfg_attr(not(feature = "algorithms"), allow(dead_code))]
mod uniform;
#[cfg_attr(not(feature = "algorithms"), allow(dead_code))]
mod winograd;
#[cfg_attr(not(feature = "algorithms"), allow(dead_code))]
mod winograd2;
#[cfg_attr(not(feature = "algorithms"), allow(dead_code))]
mod winograd4;

use crate::parallel::Cpu;
use crate::sgd::Sgd;
use core::fmt;

pub use calls::{BackwardInput, BackwardStep, BackwardWeight, Forward, ForwardMoments, ForwardOver};
pub use finish::{Activation, Bias, Finish, Normalise};
pub use geometry::{Conv2d, Window};
use uniform::Uniform;

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
    /// Vectors along the channels, nothing copied: convolutions in which every channel has a filter of its own.
    Depthwise,
    /// Groups of a few channels: vectors along the output channels, with numbers of the input spread to the lanes that
    /// read them.
    Grouped,
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
    /// Rows with all their columns, each read and written once: 1x1 filters with stride 1.
    Rows,
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
    pub const ALL: &[Algorithm] = &[Algorithm::Gemm, Algorithm::Depthwise];

    /// Every algorithm of this build.
    #[cfg(feature = "algorithms")]
    pub const ALL: &[Algorithm] = &[
        Algorithm::Gemm,
        Algorithm::Depthwise,
        Algorithm::Grouped,
        Algorithm::Direct,
        Algorithm::Polyphase,
        Algorithm::Winograd4,
        Algorithm::Winograd2,
        Algorithm::Nine,
        Algorithm::Rows,
        Algorithm::Stream,
        #[cfg(feature = "matrixmultiply")]
        Algorithm::Im2col,
    ];

    /// The algorithm, where this build has it; else `gemm`. Without the feature `algorithms` the compiler
    /// sees that nothing else is ever called.
    const fn built(self) -> Algorithm {
        if cfg!(feature = "algorithms") || matches!(self, Algorithm::Depthwise) { self } else { Algorithm::Gemm }
    }

    /// The number by which a program names it; none is used twice.
    pub const fn code(self) -> u32 {
        match self {
            Algorithm::Gemm => 0,
            Algorithm::Direct => 1,
            Algorithm::Polyphase => 2,
            Algorithm::Winograd4 => 3,
            Algorithm::Winograd2 => 4,
            Algorithm::Nine => 5,
            Algorithm::Stream => 6,
            #[cfg(feature = "matrixmultiply")]
            Algorithm::Im2col => 7,
            Algorithm::Depthwise => 8,
            Algorithm::Grouped => 9,
            Algorithm::Rows => 10,
        }
    }

    /// The algorithm with a number, where this build has it.
    pub fn of_code(code: u32) -> Option<Algorithm> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.code() == code)
    }

    /// The name by which it is asked for.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Gemm => "gemm",
            Algorithm::Depthwise => "depthwise",
            Algorithm::Grouped => "grouped",
            Algorithm::Direct => "direct",
            Algorithm::Polyphase => "polyphase",
            Algorithm::Winograd4 => "winograd4",
            Algorithm::Winograd2 => "winograd2",
            Algorithm::Nine => "nine",
            Algorithm::Rows => "rows",
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
    /// For boards: 16 kB of scratch in a call of `gemm`, where it can do with so few.
    Tiny,
    /// As little as possible without becoming slow.
    Small,
    /// What speed asks for.
    #[default]
    Fast,
}

impl Memory {
    /// All of them.
    pub const ALL: [Memory; 3] = [Memory::Tiny, Memory::Small, Memory::Fast];

    /// `tiny`, `small` or `fast`.
    pub const fn name(self) -> &'static str {
        match self {
            Memory::Tiny => "tiny",
            Memory::Small => "small",
            Memory::Fast => "fast",
        }
    }

    /// The number by which a program names it.
    pub const fn code(self) -> u32 {
        match self {
            Memory::Small => 0,
            Memory::Fast => 1,
            Memory::Tiny => 2,
        }
    }

    /// The setting with this number.
    pub fn of_code(code: u32) -> Option<Memory> {
        Self::ALL.into_iter().find(|memory| memory.code() == code)
    }

    /// Numbers of scratch that one call may use, where it can do with so few.
    const fn budget(self) -> usize {
        match self {
            Memory::Tiny => 4 << 10,
            Memory::Small => 128 << 10,
            Memory::Fast => 512 << 10,
        }
    }
}

impl Conv2d {
    /// The algorithm that serves a pass best: a function of the shape and of what memory may be spent
    /// on, never of the number of threads. The first line that applies:
    ///
    /// | convolution | passes | algorithm |
    /// |---|---|---|
    /// | every channel has a filter of its own, and there are several | all | `depthwise` |
    /// | groups of channels, at most 1152 products for each number, windows of at most 32 x 32 | all | `grouped` |
    /// | other groups, dilation, or other numbers for lines than for columns | all | `gemm` |
    /// | at least 393216 weights, at most 16 output pixels and 16·stride² input pixels | all | `stream` |
    /// | few input channels, stride 2, lines of at least 8 pixels, at least 16 channels out | all but the input's gradient | `polyphase` |
    /// | few input channels | all but the input's gradient | `direct` |
    /// | 3x3, stride 1, at least 16 channels in and out, planes of 2 x 2 with padding 1, 3 images | all | `nine` |
    /// | the same with fewer images | the input's gradient | `nine` |
    /// | 3x3, stride 1, at least 16 channels in and out, output planes of at least 4 x 4, 80 output pixels, for the weight's gradient 48 | all | `winograd4` |
    /// | the same with 32 output pixels | all | `winograd2` |
    /// | 3x3, stride 2, padding 1, at least 16 channels in and out, 16 output tiles of 3 x 3, for the input's gradient 8 | all | `polyphase` |
    /// | 1x1, stride 1, at least 192 pixels, at most 1048576 weights | forward, the input's gradient | `rows` |
    /// | 1x1, stride 1, at least 768 pixels, at most 262144 weights | the weight's gradient | `rows` |
    /// | any | both gradients | `direct` |
    /// | any | all | `gemm` |
    ///
    /// With [`Memory::Small`] and [`Memory::Tiny`] it is the one of these, `direct` and `gemm` that takes the least
    /// scratch on one thread, so that less memory is never more. Without the feature `algorithms` it is always `gemm`
    /// or `depthwise`.
    #[cfg_attr(not(feature = "algorithms"), allow(unused_variables))]
    pub fn algorithm(&self, pass: Pass, memory: Memory) -> Algorithm {
        match self.uniform() {
            #[cfg(feature = "algorithms")]
            Some(uniform) => self.sparing(pass, memory, uniform.fastest(pass)),
            None if depthwise::accepts(self) => Algorithm::Depthwise,
            #[cfg(feature = "algorithms")]
            None if grouped::accepts(self) => Algorithm::Grouped,
            _ => Algorithm::Gemm,
        }
    }

    /// The fastest, or what takes less scratch where memory is dear. Weights that are read once need no other way.
    #[cfg(feature = "algorithms")]
    fn sparing(&self, pass: Pass, memory: Memory, fastest: Algorithm) -> Algorithm {
        if memory == Memory::Fast || fastest == Algorithm::Stream {
            return fastest;
        }
        let ways = [fastest, Algorithm::Direct, Algorithm::Gemm].into_iter().filter(|way| self.accepts(pass, *way));
        ways.min_by_key(|way| self.scratch_len(pass, *way, memory, 1)).unwrap_or(Algorithm::Gemm)
    }

    /// Whether an algorithm can do a pass of this convolution.
    #[cfg_attr(not(feature = "algorithms"), allow(unused_variables))]
    pub fn accepts(&self, pass: Pass, algorithm: Algorithm) -> bool {
        algorithm == algorithm.built()
            && match algorithm {
                Algorithm::Gemm => true,
                Algorithm::Depthwise => depthwise::accepts(self),
                #[cfg(feature = "algorithms")]
                Algorithm::Grouped => grouped::accepts(self),
                #[cfg(feature = "matrixmultiply")]
                Algorithm::Im2col => self.groups() == 1,
                #[cfg(feature = "algorithms")]
                tuned => self.uniform().is_some_and(|uniform| uniform.can(pass, tuned)),
                #[cfg(not(feature = "algorithms"))]
                _ => false,
            }
    }

    /// The numbers as a tuned algorithm takes them.
    #[cfg(feature = "algorithms")]
    fn tuned(&self, algorithm: Algorithm) -> Uniform {
        self.uniform().unwrap_or_else(|| panic!("{algorithm} can't do {self:?}"))
    }

    /// Numbers of scratch that a pass needs on so many threads. With more, `gemm` and `direct` may cut the
    /// pixels of `backward_weight` elsewhere, which changes the last bits of its sums.
    ///
    /// # Panics
    /// If the algorithm does not accept the pass, here and in the passes.
    #[cfg_attr(not(feature = "algorithms"), allow(unused_variables))]
    pub fn scratch_len(&self, pass: Pass, algorithm: Algorithm, memory: Memory, threads: usize) -> usize {
        let budget = memory.budget();
        match (algorithm.built(), pass) {
            (Algorithm::Gemm, Pass::Forward) => product::forward_scratch(self, budget),
            (Algorithm::Gemm, Pass::BackwardInput) => product::backward_input_scratch(self, budget),
            (Algorithm::Gemm, Pass::BackwardWeight) => backward_weight::scratch_len(self, budget),
            (Algorithm::Depthwise, Pass::Forward | Pass::BackwardInput) => 0,
            (Algorithm::Depthwise, Pass::BackwardWeight) => depthwise::backward_weight::scratch_len(self),
            #[cfg(feature = "algorithms")]
            (Algorithm::Grouped, Pass::Forward) => grouped::forward_scratch(self, threads),
            #[cfg(feature = "algorithms")]
            (Algorithm::Grouped, Pass::BackwardInput) => grouped::backward_input_scratch(self, threads),
            #[cfg(feature = "algorithms")]
            (Algorithm::Grouped, Pass::BackwardWeight) => grouped::backward_weight::scratch_len(self, threads),
            #[cfg(feature = "matrixmultiply")]
            (Algorithm::Im2col, _) => 0,
            #[cfg(feature = "algorithms")]
            (tuned, pass) => self.tuned(tuned).scratch_len(pass, tuned, budget, threads),
            #[cfg(not(feature = "algorithms"))]
            _ => unreachable!("an algorithm that this build has not"),
        }
    }

    /// y = x ⊛ w (+ y where `add`), then what `finish` says.
    ///
    /// # Panics
    /// If a slice has another length than its field says, or `finish` does not fit.
    pub fn forward(&self, cpu: &Cpu, algorithm: Algorithm, call: Forward) {
        self.check(Pass::Forward, algorithm, call.x.len(), call.w.len(), call.y.len());
        call.finish.check(self);
        match algorithm.built() {
            Algorithm::Gemm => product::forward(self, cpu, call),
            Algorithm::Depthwise => depthwise::forward(self, cpu, call),
            #[cfg(feature = "algorithms")]
            Algorithm::Grouped => grouped::forward(self, cpu, call),
            #[cfg(feature = "matrixmultiply")]
            Algorithm::Im2col => im2col::forward(self, cpu, call),
            #[cfg(feature = "algorithms")]
            tuned => self.tuned(tuned).forward(cpu, tuned, call),
            #[cfg(not(feature = "algorithms"))]
            _ => unreachable!("an algorithm that this build has not"),
        }
    }

    /// Numbers of scratch of [`Conv2d::forward_over`] with the algorithm `gemm`; `None` where it can't: where a residual's
    /// numbers would be gone before they are added.
    pub fn over_scratch_len(&self, memory: Memory, threads: usize) -> Option<usize> {
        product::over_scratch(self, memory.budget(), threads)
    }

    /// As [`Conv2d::forward`] by `gemm` with the finish `how`, whose residual is what y was before: the same bits, in a
    /// buffer less.
    ///
    /// # Panics
    /// As [`Conv2d::forward`]; where there is no scratch length; if `how` has a residual of its own.
    pub fn forward_over(&self, cpu: &Cpu, call: ForwardOver) {
        self.check(Pass::Forward, Algorithm::Gemm, call.x.len(), call.w.len(), call.y.len());
        Finish::Normalise(call.how).check(self);
        assert!(call.how.residual.is_none(), "a residual in place: {self:?}");
        product::forward_over(self, cpu, call);
    }

    /// dx = the gradient of the input (+ dx where `add`).
    ///
    /// # Panics
    /// If a slice has another length than its field says.
    pub fn backward_input(&self, cpu: &Cpu, algorithm: Algorithm, call: BackwardInput) {
        self.check(Pass::BackwardInput, algorithm, call.dx.len(), call.w.len(), call.dy.len());
        match algorithm.built() {
            Algorithm::Gemm => product::backward_input(self, cpu, call),
            Algorithm::Depthwise => depthwise::backward_input(self, cpu, call),
            #[cfg(feature = "algorithms")]
            Algorithm::Grouped => grouped::backward_input(self, cpu, call),
            #[cfg(feature = "matrixmultiply")]
            Algorithm::Im2col => im2col::backward_input(self, call),
            #[cfg(feature = "algorithms")]
            tuned => self.tuned(tuned).backward_input(cpu, tuned, call),
            #[cfg(not(feature = "algorithms"))]
            _ => unreachable!("an algorithm that this build has not"),
        }
    }

    /// dw = the gradient of the weight (+ dw where `add`).
    ///
    /// # Panics
    /// If a slice has another length than its field says.
    pub fn backward_weight(&self, cpu: &Cpu, algorithm: Algorithm, call: BackwardWeight) {
        self.check(Pass::BackwardWeight, algorithm, call.x.len(), call.dw.len(), call.dy.len());
        match algorithm.built() {
            Algorithm::Gemm => backward_weight::backward_weight(self, cpu, call),
            Algorithm::Depthwise => depthwise::backward_weight::run(self, cpu, call),
            #[cfg(feature = "algorithms")]
            Algorithm::Grouped => grouped::backward_weight::run(self, cpu, call),
            #[cfg(feature = "matrixmultiply")]
            Algorithm::Im2col => im2col::backward_weight(self, call),
            #[cfg(feature = "algorithms")]
            tuned => self.tuned(tuned).backward_weight(cpu, tuned, call),
            #[cfg(not(feature = "algorithms"))]
            _ => unreachable!("an algorithm that this build has not"),
        }
    }

    /// `backward_weight`, one step of SGD and (where `dx` is asked for) `backward_input` with the weights
    /// before the step, in one pass over the weights by [`Algorithm::Stream`]: the same bits as the three
    /// calls one after the other, without the gradient's memory.
    ///
    /// # Panics
    /// If a slice has another length than its field says, or `stream` does not accept the convolution.
    pub fn backward_step(&self, cpu: &Cpu, sgd: &Sgd, call: BackwardStep) {
        self.check(Pass::BackwardWeight, Algorithm::Stream, call.x.len(), call.w.len(), call.dy.len());
        #[cfg(not(feature = "algorithms"))]
        {
            let _ = (cpu, sgd);
            unreachable!("refused above");
        }
        #[cfg(feature = "algorithms")]
        {
            assert!(sgd.momentum == 0.0 || call.momentum.len() == call.w.len(), "a momentum buffer of another length than its parameter");
            if let Some(dx) = &call.dx {
                assert_eq!(dx.len(), self.x_len(), "numbers of dx of {self:?}");
            }
            stream::backward::step(&self.tuned(Algorithm::Stream), cpu, sgd, call);
        }
    }

    fn check(&self, pass: Pass, algorithm: Algorithm, x: usize, w: usize, y: usize) {
        assert!(self.accepts(pass, algorithm), "{algorithm} can't do {pass} of {self:?}");
        assert_eq!(x, self.x_len(), "numbers of x of {self:?}");
        assert_eq!(w, self.weights().len(), "numbers of w of {self:?}");
        assert_eq!(y, self.y_len(), "numbers of y of {self:?}");
    }
}
