//! Functions of one number, applied to every element: activations, and the maths of expressions.

use crate::Error;
use crate::ops::{Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, Shorter, lend};
use crate::record::Var;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::pointwise::{self as kernel, Reads as Saved};

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident($($argument:ident),*) => $function:expr;)+) => {
        impl<'g> Var<'g> {
            $($(#[$doc])*
            pub fn $name(self, $($argument: f32),*) -> Var<'g> {
                self.pointwise($function)
            })+
        }
    };
}

methods! {
    /// min(max(x, 0), 6)
    relu6() => kernel::Pointwise::Relu6;
    /// x · relu6(x + 3) / 6
    hardswish() => kernel::Pointwise::Hardswish;
    /// relu6(x + 3) / 6
    hardsigmoid() => kernel::Pointwise::Hardsigmoid;
    /// x · sigmoid(x), also called swish.
    silu() => kernel::Pointwise::Silu;
    /// 1 / (1 + e⁻ˣ)
    sigmoid() => kernel::Pointwise::Sigmoid;
    /// tanh(x)
    tanh() => kernel::Pointwise::Tanh;
    /// x · Φ(x), where Φ is the normal distribution's. (PyTorch's `GELU()`.)
    gelu() => kernel::Pointwise::Gelu;
    /// The approximation of it by tanh. (PyTorch's `GELU(approximate='tanh')`.)
    gelu_tanh() => kernel::Pointwise::GeluTanh;
    /// eˣ
    exp() => kernel::Pointwise::Exp;
    /// ln x
    log() => kernel::Pointwise::Log;
    /// √x
    sqrt() => kernel::Pointwise::Sqrt;
    /// |x|; its slope at 0 is 0.
    abs() => kernel::Pointwise::Abs;
    /// x²
    square() => kernel::Pointwise::Square;
    /// 1 / x
    reciprocal() => kernel::Pointwise::Reciprocal;
    /// x to this power.
    pow(exponent) => kernel::Pointwise::Pow(exponent);
    /// min(max(x, low), high): values kept between two bounds. No bound: ∓infinity.
    clamp(low, high) => kernel::Pointwise::Clamp { low, high };
}

impl<'g> Var<'g> {
    fn pointwise(self, function: kernel::Pointwise) -> Var<'g> {
        self.unary(Op::Pointwise(Pointwise { function, len: self.shape().len() }), Ok(self.shape()))
    }
}

impl<'g> core::ops::Add<f32> for Var<'g> {
    type Output = Var<'g>;
    fn add(self, number: f32) -> Var<'g> {
        self.pointwise(kernel::Pointwise::AddScalar(number))
    }
}

impl<'g> core::ops::Sub<f32> for Var<'g> {
    type Output = Var<'g>;
    fn sub(self, number: f32) -> Var<'g> {
        self.pointwise(kernel::Pointwise::AddScalar(-number))
    }
}

impl<'g> core::ops::Div<f32> for Var<'g> {
    type Output = Var<'g>;
    fn div(self, divisor: f32) -> Var<'g> {
        self.pointwise(kernel::Pointwise::Divide(divisor))
    }
}

impl<'g> core::ops::Neg for Var<'g> {
    type Output = Var<'g>;
    fn neg(self) -> Var<'g> {
        self * -1.0
    }
}

/// A function on the tape, of so many numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pointwise {
    pub(crate) function: kernel::Pointwise,
    len: usize,
}

impl Facts for Pointwise {
    fn name(&self) -> &'static str {
        self.function.name()
    }
    fn backward_input_reads(&self) -> Reads {
        match self.function.backward_reads() {
            Saved::X => Reads { x: 1, ..Reads::default() },
            Saved::Y => Reads { y: true, ..Reads::default() },
            Saved::Nothing => Reads::default(),
        }
    }
    fn differentiable(&self, _: usize) -> bool {
        true
    }
    fn overwrites(&self, _: usize) -> bool {
        true // the plan keeps x where backward reads it
    }
    fn gradient_overwrites(&self, _: usize) -> bool {
        true
    }
    fn accumulates(&self, _: usize) -> bool {
        true
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        let (code, numbers) = self.function.encode();
        out.word(code)?;
        numbers.into_iter().try_for_each(|number| out.float(number))?;
        out.size(self.len)
    }
    fn read(call: &Call) -> Result<Pointwise, Misfit> {
        let numbers = &mut call.numbers();
        let (code, own) = (numbers.word(), [numbers.float(), numbers.float()]);
        let function = kernel::Pointwise::decode(code, own).ok_or("an unknown function")?;
        Ok(Pointwise { function, len: numbers.size() })
    }
    fn lengths(&self) -> Lengths<'_> {
        Lengths { x: Inputs::Few([Some(self.len), None, None]), y: self.len, ..Lengths::default() }
    }
    crate::ops::nothing_to_choose!();
    crate::ops::nothing_to_train!();
    crate::ops::nothing_attached!();
    crate::ops::no_memory!();
    crate::ops::no_product!();
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };
pub(crate) static BACKWARD_INPUT: Routine = Routine { part: Part::BackwardInput, run: backward_input };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let function = Pointwise::read(call)?.function;
    let in_place = call.x(0) == call.y();
    let ([x], [y]) = lend(run.memory, [call.x(0).when(!in_place)], [call.y()])?;
    kernel::forward(&run.cpu, function, (!in_place).then_some(x), y);
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let function = Pointwise::read(call)?.function;
    let in_place = call.dx(position) == call.dy();
    let saved = match function.backward_reads() {
        Saved::X => call.x(0),
        Saved::Y => call.y(),
        Saved::Nothing => Default::default(),
    };
    let ([saved, dy], [dx]) = lend(run.memory, [saved, call.dy().when(!in_place)], [call.dx(position)])?;
    kernel::backward_input(&run.cpu, function, saved, (!in_place).then_some(dy), dx, call.adds(position));
    Ok(())
}
