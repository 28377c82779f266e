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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::testing::*;
    use std::vec::Vec;

    fn variants() -> Vec<Sgd> {
        let mut all = Vec::new();
        for momentum in [0.0, 0.9] {
            for weight_decay in [0.0, 0.1] {
                for maximize in [false, true] {
                    for (dampening, nesterov) in [(0.0, false), (0.5, false), (0.0, true)] {
                        if !nesterov || momentum > 0.0 {
                            all.push(Sgd { lr: 0.1, momentum, dampening, weight_decay, nesterov, maximize });
                        }
                    }
                }
            }
        }
        all
    }

    #[test]
    fn steps_match_the_reference() {
        let mut random = Random::new(6);
        // What goes in is of size 1; what comes out may be the little that is left.
        let tolerance = |v: &[f64]| 4e-7 / v.iter().fold(1e-30_f64, |m, v| m.max(v.abs())).min(1.0);
        for len in [0, 1, 3, 8, 10, 16, 17, 33, 64, 8192, 17000] {
            let offsets = match len {
                8192 => 7..8,
                17000 => 8..9,
                _ => 0..16,
            };
            for offset in offsets {
                let (start, first, second) = (random.vector(len), random.vector(len), Offset::copy(&random.vector(len), offset));
                for sgd in variants() {
                    assert_eq!(sgd.validate(), Ok(()));
                    let mut expected: Vec<f64> = start.iter().map(|v| f64::from(*v)).collect();
                    let mut buffer = zeros(len);
                    reference::sgd::step(&sgd, &mut expected, &first, Some(&mut buffer), true);
                    reference::sgd::step(&sgd, &mut expected, &second, Some(&mut buffer), false);
                    for_each_cpu(|cpu| {
                        let mut p = Offset::copy(&start, offset);
                        let mut m = Offset::nan(len, 15 - offset);
                        step(cpu, &sgd, &mut p, &first, Some(&mut m), true);
                        step(cpu, &sgd, &mut p, &second, Some(&mut m), false);
                        assert_within(&p, &expected, tolerance(&expected), "p");
                        if sgd.momentum != 0.0 {
                            assert_within(&m, &buffer, tolerance(&buffer), "buffer");
                        } else {
                            step(cpu, &sgd, &mut p, &second, None, false);
                        }
                    });
                }
            }
        }
    }

    /// SEMANTICS §3.
    #[test]
    fn golden_trajectories() {
        let momentum = Sgd { momentum: 0.9, ..Sgd::new(0.1) };
        let cases: [(Sgd, [f32; 3]); 4] = [
            (momentum, [0.9, 0.71, 0.439]),
            (Sgd { dampening: 0.5, ..momentum }, [0.9, 0.76, 0.584]),
            (Sgd { nesterov: true, ..momentum }, [0.81, 0.539, 0.1951]),
            (Sgd { weight_decay: 0.1, ..momentum }, [0.89, 0.6821, 0.388169]),
        ];
        for_each_cpu(|cpu| {
            for (sgd, expected) in &cases {
                let (mut p, mut m) = ([1.0], [f32::NAN]);
                for (i, e) in expected.iter().enumerate() {
                    step(cpu, sgd, &mut p, &[1.0], Some(&mut m), i == 0);
                    assert!((p[0] - e).abs() < 1e-6, "{sgd:?}: {} instead of {e}", p[0]);
                }
            }
            // g = [1, none, 0, none]: none is no call at all, zero still moves.
            let (mut p, mut m) = ([1.0], [f32::NAN]);
            step(cpu, &momentum, &mut p, &[1.0], Some(&mut m), true);
            assert_eq!(p, [0.9]);
            step(cpu, &momentum, &mut p, &[0.0], Some(&mut m), false);
            assert!((p[0] - 0.81).abs() < 1e-6);
        });
    }

    /// Three steps of `torch.optim.SGD` (2.x, one thread) from p[i] = (7919·i mod 1009)/1009 − ½ with
    /// grad[i] = ((104729 + 31·step)·i mod 2003)/2003 − ½, all in float32; the elements named in `AT`.
    #[test]
    fn bits_of_torch() {
        const AT: [usize; 6] = [0, 1, 5, 17, 33, 34];
        let plain = Sgd::new(0.1);
        let cases: [(Sgd, [u32; 6]); 6] = [
            (plain, [3199415090, 1053874259, 3196411900, 3179710984, 1055646379, 1050878307]),
            (Sgd { weight_decay: 0.01, ..plain }, [3199369841, 1053837125, 3196386378, 3179674960, 1055597609, 1050844362]),
            (Sgd { lr: 0.01, momentum: 0.9, ..plain }, [3203507054, 1052259020, 3196304168, 3181555640, 1056611080, 1051601823]),
            (
                Sgd { lr: 0.03, momentum: 0.9, dampening: 0.3, weight_decay: 0.1, ..plain },
                [3201829194, 1052686891, 3196091959, 3182828648, 1056181325, 1051098080],
            ),
            (
                Sgd { momentum: 0.8, nesterov: true, weight_decay: 1e-4, ..plain },
                [3188702506, 1056724592, 3196221020, 3180815873, 1053958987, 1049841379],
            ),
            (
                Sgd { momentum: 0.9, maximize: true, weight_decay: 0.05, ..plain },
                [3208899859, 1046909130, 3196386088, 3178546915, 1057766319, 1052827807],
            ),
        ];
        let vector = |a: usize, b: usize| -> Vec<f32> { (0..35).map(|i| (i * a % b) as f32 / b as f32 - 0.5).collect() };
        for_each_cpu(|cpu| {
            for (sgd, expected) in &cases {
                let (mut p, mut m) = (vector(7919, 1009), [f32::NAN; 35]);
                for i in 0..3 {
                    step(cpu, sgd, &mut p, &vector(104_729 + 31 * i, 2003), Some(&mut m), i == 0);
                }
                for (at, bits) in AT.into_iter().zip(expected) {
                    let ulps = (i64::from(p[at].to_bits()) - i64::from(*bits)).abs();
                    // Torch fuses where its CPU can; the portable level never does.
                    let allowed = if cpu.level == crate::Level::PORTABLE { 4 } else { 1 };
                    assert!(ulps <= allowed, "{ulps} ulps at {at} of {sgd:?} at {}", cpu.level);
                }
            }
        });
    }

    #[test]
    fn senseless_numbers_are_refused() {
        let ok = Sgd::new(0.1);
        assert_eq!(Sgd { lr: 0.0, ..ok }.validate(), Ok(()));
        assert_eq!(Sgd { lr: -1.0, ..ok }.validate(), Err(SgdError::Lr(-1.0)));
        assert_eq!(Sgd { lr: f32::INFINITY, ..ok }.validate(), Err(SgdError::Lr(f32::INFINITY)));
        assert!(matches!(Sgd { lr: f32::NAN, ..ok }.validate(), Err(SgdError::Lr(v)) if v.is_nan()));
        assert_eq!(Sgd { momentum: -0.5, ..ok }.validate(), Err(SgdError::Momentum(-0.5)));
        assert!(matches!(Sgd { momentum: f32::NAN, ..ok }.validate(), Err(SgdError::Momentum(_))));
        assert_eq!(Sgd { dampening: f32::INFINITY, ..ok }.validate(), Err(SgdError::Dampening(f32::INFINITY)));
        assert_eq!(Sgd { weight_decay: -2.0, ..ok }.validate(), Err(SgdError::WeightDecay(-2.0)));
        for (momentum, dampening) in [(0.0, 0.0), (0.9, 0.1)] {
            let error = Sgd { nesterov: true, momentum, dampening, ..ok }.validate();
            assert_eq!(error, Err(SgdError::Nesterov { momentum, dampening }));
        }
        assert!(std::format!("{}", SgdError::Lr(-1.0)).contains("is -1, but must be"));
    }

    #[test]
    #[should_panic(expected = "without a buffer")]
    fn momentum_needs_a_buffer() {
        let cpu = Cpu { level: crate::Level::PORTABLE, threads: &crate::Threads::serial() };
        step(&cpu, &Sgd { momentum: 0.9, ..Sgd::new(0.1) }, &mut [1.0], &[1.0], None, true);
    }
}
