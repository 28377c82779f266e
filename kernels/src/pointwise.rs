//! Functions of one number, applied to every element: activations and the maths of expressions.
//!
//! Each function is a formula in a file of its own family: its value, and dy times its slope. To add
//! one: write its formula (as in `pointwise/tanh.rs`), give it a line with a new number in the
//! table of [`Pointwise`] below and an arm in the two matches of [`crate::reference::pointwise`].
//!
//! Values and slopes are PyTorch's, at kinks, for NaN, infinities and −0.0 as well; errors are a few
//! units in the last place. Where PyTorch itself depends on a tensor's length (the slope of relu6 and
//! hardswish at NaN), its vector code is followed.

mod clamp;
mod exp;
mod formula;
mod gelu;
mod hard;
mod log;
mod power;
mod sigmoid;
mod simple;
mod tanh;

use crate::isa::Isa;
use crate::lanes::{PART, load_padded, store_padded};
use crate::{Cpu, Task, parallel::Chunks};
use formula::Formula;

/// What a backward pass must be given besides dy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reads {
    /// The input of forward.
    X,
    /// The output of forward, which may then lie where its input was.
    Y,
    /// Neither.
    Nothing,
}

macro_rules! pointwise {
    (@f32 $number:ident) => { f32 };
    (@next $number:ident $next:ident) => { $next() };
    ($(
        $(#[$doc:meta])*
        $code:literal $variant:ident $(($number:ident))? $({ $($(#[$field_doc:meta])* $field:ident),+ })? => $formula:expr;
    )+) => {
        /// A function of one number.
        #[derive(Clone, Copy, PartialEq, Debug)]
        #[non_exhaustive]
        pub enum Pointwise {
            $($(#[$doc])* $variant $((pointwise!(@f32 $number)))? $({ $($(#[$field_doc])* $field: f32),+ })?,)+
        }

        impl Pointwise {
            /// The number by which files name the function, and its own numbers (zeros behind them).
            pub fn encode(self) -> (u32, [f32; 2]) {
                let mut numbers = [0.0; 2];
                let mut keep = |own: &[f32]| numbers[..own.len()].copy_from_slice(own);
                let code = match self {
                    $(Pointwise::$variant $(($number))? $({ $($field),+ })? => {
                        keep(&[$($number)? $($($field),+)?]);
                        $code
                    })+
                };
                (code, numbers)
            }

            /// The function that [`Pointwise::encode`] wrote, if there is one with this number.
            pub fn decode(code: u32, numbers: [f32; 2]) -> Option<Pointwise> {
                let mut numbers = numbers.into_iter();
                let mut next = || numbers.next().unwrap_or(0.0);
                match code {
                    $($code => Some(Pointwise::$variant $((pointwise!(@next $number next)))? $({ $($field: next()),+ })?),)+
                    _ => None,
                }
            }

            /// Hands this function's formula to a job.
            fn visit<J: Job>(self, job: J) -> J::Out {
                match self {
                    $(Pointwise::$variant $(($number))? $({ $($field),+ })? => job.run($formula),)+
                }
            }
        }
    };
}

pointwise! {
    /// `min(max(x, 0), 6)`; dy passes where 0 < x < 6.
    1 Relu6 => clamp::Relu6;
    /// `x·relu6(x + 3)/6`; slope 0 up to −3, 1 from 3 on, x/3 + ½ between.
    2 Hardswish => hard::Hardswish;
    /// `relu6(x + 3)/6`; slope 1/6 where −3 < x < 3.
    3 Hardsigmoid => hard::Hardsigmoid;
    /// `x·sigmoid(x)`, also called swish.
    4 Silu => sigmoid::Silu;
    /// `1/(1 + e⁻ˣ)`
    5 Sigmoid => sigmoid::Sigmoid;
    /// `tanh(x)`
    6 Tanh => tanh::Tanh;
    /// `x·Φ(x)` with the normal distribution's Φ(x) = (1 + erf(x/√2))/2. NaN at ±∞, as in PyTorch.
    7 Gelu => gelu::Gelu;
    /// The approximation `x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2`.
    8 GeluTanh => gelu::GeluTanh;
    /// `eˣ`
    9 Exp => exp::Exp;
    /// `ln x`
    10 Log => log::Log;
    /// `√x`
    11 Sqrt => power::Sqrt;
    /// `|x|`; slope 0 at 0.
    12 Abs => simple::Abs;
    /// `x²`
    13 Square => simple::Square;
    /// `1/x`
    14 Reciprocal => simple::Reciprocal;
    /// `x` to this power. Slope 0 for power 0.
    15 Pow(exponent) => power::Pow(exponent);
    /// `min(max(x, low), high)`; dy passes where low < x < high. No bound: −∞, ∞. All is NaN where a bound is NaN.
    16 Clamp {
        /// The least value.
        low,
        /// The largest value; it wins where it is below `low`.
        high
    } => clamp::Clamp { low, high };
    /// `x·factor`; −1 negates.
    17 Scale(factor) => simple::Scale(factor);
    /// `x + number`
    18 AddScalar(number) => simple::AddScalar(number);
    /// `x/divisor`
    19 Divide(divisor) => simple::Divide(divisor);
}

/// Something to do with a formula.
trait Job {
    type Out;
    fn run<F: Formula>(self, f: F) -> Self::Out;
}

impl Pointwise {
    /// The function's name: `relu6`, `hardswish` …
    pub fn name(self) -> &'static str {
        struct Name;
        impl Job for Name {
            type Out = &'static str;
            fn run<F: Formula>(self, _: F) -> &'static str {
                F::NAME
            }
        }
        self.visit(Name)
    }

    /// What [`backward_input`] must be given as `saved`.
    pub fn backward_reads(self) -> Reads {
        struct What;
        impl Job for What {
            type Out = Reads;
            fn run<F: Formula>(self, _: F) -> Reads {
                F::READS
            }
        }
        self.visit(What)
    }
}

/// `y = op(x)`
///
/// | name | shape | |
/// |---|---|---|
/// | `x` | any | read; `None`: `y` holds it on entry |
/// | `y` | as `x` | overwritten |
///
/// No scratch. Reference: [`crate::reference::pointwise::forward`].
///
/// # Panics
/// If the lengths differ.
pub fn forward(cpu: &Cpu, op: Pointwise, x: Option<&[f32]>, y: &mut [f32]) {
    if let Some(x) = x {
        assert_eq!(x.len(), y.len(), "{}: input and output of different lengths", op.name());
    }
    op.visit(Forward { cpu, x, y });
}

/// `dx = dy·op'(x)`, or added to what `dx` holds.
///
/// | name | shape | |
/// |---|---|---|
/// | `saved` | any | read: x or y, as [`Pointwise::backward_reads`] says; empty where it says nothing |
/// | `dy` | as `dx` | read; `None`: `dx` holds it on entry |
/// | `dx` | as `saved` | overwritten, or where `add` accumulated |
///
/// No scratch. Reference: [`crate::reference::pointwise::backward_input`].
///
/// # Panics
/// If the lengths differ, or where `dx` shall hold dy and be added to.
pub fn backward_input(cpu: &Cpu, op: Pointwise, saved: &[f32], dy: Option<&[f32]>, dx: &mut [f32], add: bool) {
    let len = if op.backward_reads() == Reads::Nothing { 0 } else { dx.len() };
    assert!(saved.len() == len || saved.len() == dx.len(), "{}: {} saved numbers for {}", op.name(), saved.len(), dx.len());
    match dy {
        Some(dy) => assert_eq!(dy.len(), dx.len(), "{}: gradients of different lengths", op.name()),
        None => assert!(!add, "{}: a gradient in its own place can't be added to", op.name()),
    }
    op.visit(Backward { cpu, saved, dy, dx, add });
}

struct Forward<'a, 't> {
    cpu: &'a Cpu<'t>,
    x: Option<&'a [f32]>,
    y: &'a mut [f32],
}

impl Job for Forward<'_, '_> {
    type Out = ();
    fn run<F: Formula>(self, f: F) {
        let parts = self.y.len().div_ceil(PART);
        self.cpu.run(Chunks::new(self.y, PART, parts), &mut [], 0, |i, y, _| {
            let x = self.x.map(|x| &x[i * PART..][..y.len()]);
            self.cpu.level.run(ForwardTask { f, x, y });
        });
    }
}

struct Backward<'a, 't> {
    cpu: &'a Cpu<'t>,
    saved: &'a [f32],
    dy: Option<&'a [f32]>,
    dx: &'a mut [f32],
    add: bool,
}

impl Job for Backward<'_, '_> {
    type Out = ();
    fn run<F: Formula>(self, f: F) {
        let parts = self.dx.len().div_ceil(PART);
        self.cpu.run(Chunks::new(self.dx, PART, parts), &mut [], 0, |i, dx, _| {
            let saved = if F::READS == Reads::Nothing { &[] } else { &self.saved[i * PART..][..dx.len()] };
            let dy = self.dy.map(|dy| &dy[i * PART..][..dx.len()]);
            self.cpu.level.run(BackwardTask { f, saved, dy, dx, add: self.add });
        });
    }
}

struct ForwardTask<'a, 'p, F> {
    f: F,
    x: Option<&'a [f32]>,
    y: &'p mut [f32],
}

impl<F: Formula> Task for ForwardTask<'_, '_, F> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (len, whole) = (self.y.len(), self.y.len() / I::LANES * I::LANES);
        let mut i = 0;
        while i < whole {
            let y = &mut self.y[i..i + I::LANES];
            let x = match self.x {
                Some(x) => isa.load(&x[i..i + I::LANES]),
                None => isa.load(y),
            };
            isa.store(self.f.value(isa, x), y);
            i += I::LANES;
        }
        if whole < len {
            let y = &mut self.y[whole..];
            let x = match self.x {
                Some(x) => load_padded(isa, &x[whole..], 0.0),
                None => load_padded(isa, y, 0.0),
            };
            store_padded(isa, self.f.value(isa, x), y);
        }
    }
}

struct BackwardTask<'a, 'p, F> {
    f: F,
    /// Empty where nothing is read.
    saved: &'a [f32],
    dy: Option<&'a [f32]>,
    dx: &'p mut [f32],
    add: bool,
}

impl<F: Formula> Task for BackwardTask<'_, '_, F> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (len, whole) = (self.dx.len(), self.dx.len() / I::LANES * I::LANES);
        let zero = isa.splat(0.0);
        let mut i = 0;
        while i < whole {
            let dx = &mut self.dx[i..i + I::LANES];
            let saved = if F::READS == Reads::Nothing { zero } else { isa.load(&self.saved[i..i + I::LANES]) };
            let dy = match self.dy {
                Some(dy) => isa.load(&dy[i..i + I::LANES]),
                None => isa.load(dx),
            };
            let mut v = self.f.gradient(isa, saved, dy);
            if self.add {
                v = isa.add(isa.load(dx), v);
            }
            isa.store(v, dx);
            i += I::LANES;
        }
        if whole < len {
            let dx = &mut self.dx[whole..];
            let saved = if F::READS == Reads::Nothing { zero } else { load_padded(isa, &self.saved[whole..], 0.0) };
            let dy = match self.dy {
                Some(dy) => load_padded(isa, &dy[whole..], 0.0),
                None => load_padded(isa, dx, 0.0),
            };
            let mut v = self.f.gradient(isa, saved, dy);
            if self.add {
                v = isa.add(load_padded(isa, dx, 0.0), v);
            }
            store_padded(isa, v, dx);
        }
    }
}
