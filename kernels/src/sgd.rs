//! Stochastic gradient descent with momentum, weight decay and Nesterov's variant, as PyTorch's
//! `torch.optim.SGD` (whose page has the formula and its difference from Sutskever et al.), in one
//! pass over parameter, gradient and buffer:
//!
//! ```text
//! g = −grad if maximize else grad
//! g += weight_decay·p
//! buffer = g on the first step, else momentum·buffer + (1−dampening)·g
//! g = g + momentum·buffer if nesterov else buffer
//! p −= lr·g
//! ```
//!
//! A parameter without a gradient is not stepped at all: the caller does not call.

use crate::isa::Isa;
use crate::lanes::{MOST, PART, load_padded, store_padded};
use crate::{Cpu, Task, parallel::Chunks};
use core::fmt;

/// An optimizer's numbers. [`Sgd::validate`] says whether they make sense.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sgd {
    /// Learning rate: 0 or more.
    pub lr: f32,
    /// How much of the buffer stays: 0 (no buffer) or more.
    pub momentum: f32,
    /// How much of the gradient is kept out of the buffer.
    pub dampening: f32,
    /// How much of the parameter is added to the gradient: 0 or more.
    pub weight_decay: f32,
    /// Step along `g + momentum·buffer` instead of along the buffer.
    pub nesterov: bool,
    /// Climb instead of descend.
    pub maximize: bool,
}

/// Numbers that no optimizer can have.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum SgdError {
    /// The learning rate is negative, infinite or NaN.
    Lr(f32),
    /// The momentum is negative, infinite or NaN.
    Momentum(f32),
    /// The dampening is infinite or NaN.
    Dampening(f32),
    /// The weight decay is negative, infinite or NaN.
    WeightDecay(f32),
    /// Nesterov with no momentum or with dampening.
    Nesterov {
        /// The momentum, which must be above 0.
        momentum: f32,
        /// The dampening, which must be 0.
        dampening: f32,
    },
}

impl fmt::Display for SgdError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Lr(v) => write!(f, "the learning rate is {v}, but must be a finite number of 0 or more"),
            Self::Momentum(v) => write!(f, "the momentum is {v}, but must be a finite number of 0 or more"),
            Self::Dampening(v) => write!(f, "the dampening is {v}, but must be a finite number"),
            Self::WeightDecay(v) => write!(f, "the weight decay is {v}, but must be a finite number of 0 or more"),
            Self::Nesterov { momentum, dampening } => {
                write!(f, "nesterov needs a momentum above 0 and no dampening, but they are {momentum} and {dampening}")
            }
        }
    }
}

impl core::error::Error for SgdError {}

impl Sgd {
    /// Plain descent: `p −= lr·grad`.
    pub const fn new(lr: f32) -> Sgd {
        Sgd { lr, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, maximize: false }
    }

    /// Whether the numbers make sense. Stricter than PyTorch: NaN and infinity are refused too.
    ///
    /// # Errors
    /// [`SgdError`] with the first number that breaks its rule.
    pub fn validate(&self) -> Result<(), SgdError> {
        let bad = |v: f32| !v.is_finite() || v < 0.0;
        if bad(self.lr) {
            return Err(SgdError::Lr(self.lr));
        }
        if bad(self.momentum) {
            return Err(SgdError::Momentum(self.momentum));
        }
        if !self.dampening.is_finite() {
            return Err(SgdError::Dampening(self.dampening));
        }
        if bad(self.weight_decay) {
            return Err(SgdError::WeightDecay(self.weight_decay));
        }
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            return Err(SgdError::Nesterov { momentum: self.momentum, dampening: self.dampening });
        }
        Ok(())
    }
}

/// One step of one parameter.
///
/// | name | shape | |
/// |---|---|---|
/// | `p` | any | read and overwritten |
/// | `grad` | as `p` | read |
/// | `momentum` | as `p` | overwritten if `first`, else read and overwritten; needed, and used, only if `sgd.momentum` is not 0 |
///
/// No scratch. Reference: [`crate::reference::sgd::step`].
///
/// # Panics
/// If lengths differ or the buffer is missing.
pub fn step(cpu: &Cpu, sgd: &Sgd, p: &mut [f32], grad: &[f32], momentum: Option<&mut [f32]>, first: bool) {
    let len = p.len();
    assert_eq!(grad.len(), len, "a gradient of another length than its parameter");
    let parts = len.div_ceil(PART);
    let part = |i: usize, len: usize| &grad[i * PART..][..len];
    if sgd.momentum == 0.0 {
        cpu.run(Chunks::new(p, PART, parts), &mut [], 0, |i, p, _| {
            let grad = part(i, p.len());
            cpu.level.run(StepTask { sgd, p, grad, buffer: &mut [], first });
        });
        return;
    }
    let Some(buffer) = momentum else {
        panic!("a momentum without a buffer");
    };
    assert_eq!(buffer.len(), len, "a momentum buffer of another length than its parameter");
    cpu.run((Chunks::new(p, PART, parts), Chunks::new(buffer, PART, parts)), &mut [], 0, |i, (p, buffer), _| {
        let grad = part(i, p.len());
        cpu.level.run(StepTask { sgd, p, grad, buffer, first });
    });
}

struct StepTask<'a> {
    sgd: &'a Sgd,
    p: &'a mut [f32],
    grad: &'a [f32],
    /// Empty where there is no momentum.
    buffer: &'a mut [f32],
    first: bool,
}

impl Task for StepTask<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // One loop per case, so that none asks inside.
        match (self.buffer.is_empty(), self.sgd.weight_decay != 0.0) {
            (true, false) => self.plain::<I, false>(isa),
            (true, true) => self.plain::<I, true>(isa),
            (false, false) => self.buffered::<I, false>(isa),
            (false, true) => self.buffered::<I, true>(isa),
        }
    }
}

impl StepTask<'_> {
    #[inline(always)]
    fn plain<I: Isa, const DECAY: bool>(self, isa: I) {
        // What the constant says is known to the compiler inside the rule too.
        let rule = Rule { decays: DECAY, buffered: false, ..Rule::new(isa, self.sgd, self.first) };
        let mut i = 0;
        while i < self.p.len() {
            let p = load_padded(isa, &self.p[i..], 0.0);
            let (p, _) = rule.step(isa, p, load_padded(isa, &self.grad[i..], 0.0), p);
            store_padded(isa, p, &mut self.p[i..]);
            i += I::LANES;
        }
    }

    #[inline(always)]
    fn buffered<I: Isa, const DECAY: bool>(self, isa: I) {
        let rule = Rule { decays: DECAY, buffered: true, ..Rule::new(isa, self.sgd, self.first) };
        let mut i = 0;
        // As many numbers at a time as the longest vector has: a length that is known needs no questions. (Iterators
        // over chunks would be calls: see `crate::isa`.)
        while i + MOST <= self.p.len() {
            let (p, grad, buffer) = (&mut self.p[i..i + MOST], &self.grad[i..i + MOST], &mut self.buffer[i..i + MOST]);
            for v in (0..MOST).step_by(I::LANES) {
                let old = if self.first { isa.load(&p[v..]) } else { isa.load(&buffer[v..]) };
                let (new, momentum) = rule.step(isa, isa.load(&p[v..]), isa.load(&grad[v..]), old);
                isa.store(momentum, &mut buffer[v..]);
                isa.store(new, &mut p[v..]);
            }
            i += MOST;
        }
        while i < self.p.len() {
            let p = load_padded(isa, &self.p[i..], 0.0);
            let grad = load_padded(isa, &self.grad[i..], 0.0);
            let old = if self.first { p } else { load_padded(isa, &self.buffer[i..], 0.0) };
            let (p, buffer) = rule.step(isa, p, grad, old);
            store_padded(isa, buffer, &mut self.buffer[i..]);
            store_padded(isa, p, &mut self.p[i..]);
            i += I::LANES;
        }
    }
}

/// The formula on vectors, with its numbers spread over all lanes: shared by all who update, so that
/// they give the same bits.
#[derive(Clone, Copy)]
pub(crate) struct Rule<V> {
    sign: V,
    decay: V,
    momentum: V,
    /// 1 − dampening
    share: V,
    /// −lr
    rate: V,
    decays: bool,
    nesterov: bool,
    /// There is a momentum, and so a buffer.
    pub(crate) buffered: bool,
    /// The buffer holds nothing yet.
    pub(crate) first: bool,
}

impl<V: Copy> Rule<V> {
    #[inline(always)]
    pub(crate) fn new<I: Isa<V = V>>(isa: I, sgd: &Sgd, first: bool) -> Self {
        Rule {
            sign: isa.splat(if sgd.maximize { -1.0 } else { 1.0 }),
            decay: isa.splat(sgd.weight_decay),
            momentum: isa.splat(sgd.momentum),
            share: isa.splat((1.0 - f64::from(sgd.dampening)) as f32),
            rate: isa.splat(-sgd.lr),
            decays: sgd.weight_decay != 0.0,
            nesterov: sgd.nesterov,
            buffered: sgd.momentum != 0.0,
            first,
        }
    }

    /// Whether it is the usual rule: a momentum that exists already, no decay, not Nesterov's.
    #[inline(always)]
    pub(crate) fn is_usual(&self) -> bool {
        self.buffered && !self.first && !self.decays && !self.nesterov
    }

    /// A usual rule, where the compiler knows that it is: an inner loop then asks nothing.
    #[inline(always)]
    pub(crate) fn usual(self) -> Self {
        Rule { buffered: true, first: false, decays: false, nesterov: false, ..self }
    }

    /// The new parameter and the new buffer; the old buffer is not used where there is none yet.
    #[inline(always)]
    pub(crate) fn step<I: Isa<V = V>>(&self, isa: I, p: V, grad: V, buffer: V) -> (V, V) {
        let g = isa.mul(grad, self.sign);
        let g = if self.decays { isa.fma(p, self.decay, g) } else { g };
        if !self.buffered {
            return (isa.fma(g, self.rate, p), buffer);
        }
        let buffer = if self.first { g } else { isa.fma(g, self.share, isa.mul(buffer, self.momentum)) };
        let g = if self.nesterov { isa.fma(buffer, self.momentum, g) } else { buffer };
        (isa.fma(g, self.rate, p), buffer)
    }
}
