//! Functions of one number, applied to every element: activations, and the maths of expressions.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Nodes, OnnxError};
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
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        let x = nodes.x(0);
        match onnx::Formula::of(self.function) {
            Some(formula) => formula.write(nodes, x.form, &x.name),
            None => return Err(nodes.refused("the function is not known here; write it as arithmetic of others")),
        }
        Ok(())
    }
    crate::ops::nothing_to_choose!();
    crate::ops::nothing_to_train!();
    crate::ops::nothing_attached!();
    crate::ops::no_memory!();
    crate::ops::no_product!();
}

/// Functions as nodes of ONNX.
#[cfg(feature = "std")]
mod onnx {
    use crate::files::onnx::{Attribute, Form, Name, Nodes};
    use nunatak_kernels::pointwise::Pointwise;

    /// A function as nodes of ONNX.
    pub(super) enum Formula {
        /// A node that reads x alone.
        Node(&'static str, &'static [Attribute<'static>]),
        /// A node that reads x, then a number.
        Number(&'static str, &'static str, f32),
        /// A node that reads x, then a least and a largest number.
        Clip(f32, f32),
        /// Several nodes.
        Nodes(fn(&mut Nodes, Form, &Name)),
    }

    impl Formula {
        pub(super) fn of(function: Pointwise) -> Option<Formula> {
            use Pointwise as F;
            const SIXTH: &[Attribute] = &[Attribute::Float("alpha", 1.0 / 6.0), Attribute::Float("beta", 0.5)];
            Some(match function {
                F::Relu6 => Formula::Clip(0.0, 6.0),
                F::Hardswish => Formula::Node("HardSwish", &[]),
                F::Hardsigmoid => Formula::Node("HardSigmoid", SIXTH),
                F::Silu => Formula::Nodes(silu),
                F::Sigmoid => Formula::Node("Sigmoid", &[]),
                F::Tanh => Formula::Node("Tanh", &[]),
                F::Gelu => Formula::Nodes(gelu),
                F::GeluTanh => Formula::Nodes(gelu_tanh),
                F::Exp => Formula::Node("Exp", &[]),
                F::Log => Formula::Node("Log", &[]),
                F::Sqrt => Formula::Node("Sqrt", &[]),
                F::Abs => Formula::Node("Abs", &[]),
                F::Square => Formula::Nodes(square),
                F::Reciprocal => Formula::Node("Reciprocal", &[]),
                F::Pow(exponent) => Formula::Number("Pow", "exponent", exponent),
                // Everything becomes NaN; what Clip makes of such a bound is not said.
                F::Clamp { low, high } if low.is_nan() || high.is_nan() => Formula::Number("Mul", "nan", f32::NAN),
                F::Clamp { low, high } => Formula::Clip(low, high),
                F::Scale(factor) => Formula::Number("Mul", "factor", factor),
                F::AddScalar(number) => Formula::Number("Add", "number", number),
                F::Divide(divisor) => Formula::Number("Div", "divisor", divisor),
                // The list is open to other crates. Whatever is new is refused until it has a line, and a test asks for it.
                _ => return None,
            })
        }

        pub(super) fn write(&self, nodes: &mut Nodes, form: Form, x: &Name) {
            match *self {
                Formula::Node(op, attributes) => nodes.result(form, op, &[x], attributes),
                Formula::Number(op, what, number) => {
                    let number = nodes.number(what, number);
                    nodes.result(form, op, &[x, &number], &[]);
                }
                Formula::Clip(low, high) => {
                    // Where there is no bound, infinity is one: without it Clip has the largest finite number.
                    let (low, high) = (nodes.number("low", low), nodes.number("high", high));
                    nodes.result(form, "Clip", &[x, &low, &high], &[]);
                }
                Formula::Nodes(write) => write(nodes, form, x),
            }
        }
    }

    fn square(nodes: &mut Nodes, form: Form, x: &Name) {
        nodes.result(form, "Mul", &[x, x], &[]);
    }

    fn silu(nodes: &mut Nodes, form: Form, x: &Name) {
        let sigmoid = nodes.node("Sigmoid", &[x], &[]);
        nodes.result(form, "Mul", &[x, &sigmoid], &[]);
    }

    /// x / 2 times 1 and another function's value.
    fn half_of(nodes: &mut Nodes, form: Form, x: &Name, value: &Name) {
        let (half, one) = (nodes.number("half", 0.5), nodes.number("one", 1.0));
        let halved = nodes.node("Mul", &[x, &half], &[]);
        let raised = nodes.node("Add", &[value, &one], &[]);
        nodes.result(form, "Mul", &[&halved, &raised], &[]);
    }

    /// x · (1 + erf(x/√2)) / 2
    fn gelu(nodes: &mut Nodes, form: Form, x: &Name) {
        let scale = nodes.number("scale", core::f32::consts::FRAC_1_SQRT_2);
        let scaled = nodes.node("Mul", &[x, &scale], &[]);
        let erf = nodes.node("Erf", &[&scaled], &[]);
        half_of(nodes, form, x, &erf);
    }

    /// x · (1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2
    fn gelu_tanh(nodes: &mut Nodes, form: Form, x: &Name) {
        let (cube, scale) = (nodes.number("cube", 0.044715), nodes.number("scale", 0.797_884_6));
        let square = nodes.node("Mul", &[x, x], &[]);
        let cubed = nodes.node("Mul", &[&square, x], &[]);
        let small = nodes.node("Mul", &[&cubed, &cube], &[]);
        let sum = nodes.node("Add", &[x, &small], &[]);
        let scaled = nodes.node("Mul", &[&sum, &scale], &[]);
        let tanh = nodes.node("Tanh", &[&scaled], &[]);
        half_of(nodes, form, x, &tanh);
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// The numbers of functions have no gaps, so a new one is found here.
        #[test]
        fn every_function_has_nodes() {
            let known = (1..).map_while(|code| Pointwise::decode(code, [0.5, 1.5]));
            let without: std::vec::Vec<_> = known.clone().filter(|function| Formula::of(*function).is_none()).collect();
            assert!(without.is_empty() && known.count() >= 19, "no nodes: {without:?}");
        }
    }
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
