//! Sums, differences and products of tensors, element by element. Where shapes differ, see
//! [`crate::ops::broadcast`].

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Nodes, OnnxError};
use crate::ops::{Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, Shorter, lend};
use crate::record::Var;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::broadcast::Binary;
use nunatak_kernels::elementwise as kernel;

impl<'g> core::ops::Add for Var<'g> {
    type Output = Var<'g>;
    /// A size of 1 is repeated.
    fn add(self, other: Var<'g>) -> Var<'g> {
        match self.same_shape(other) {
            Ok(shape) => self.binary(Op::Add(Add { len: shape.len() }), other, Ok(shape)),
            Err(_) => self.broadcast(Binary::Add, other),
        }
    }
}

impl<'g> core::ops::Sub for Var<'g> {
    type Output = Var<'g>;
    /// A size of 1 is repeated.
    fn sub(self, other: Var<'g>) -> Var<'g> {
        match self.same_shape(other) {
            Ok(shape) => self.binary(Op::Sub(Sub { len: shape.len() }), other, Ok(shape)),
            Err(_) => self.broadcast(Binary::Sub, other),
        }
    }
}

impl<'g> core::ops::Mul for Var<'g> {
    type Output = Var<'g>;
    /// A size of 1 is repeated.
    fn mul(self, other: Var<'g>) -> Var<'g> {
        match self.same_shape(other) {
            Ok(shape) => self.binary(Op::Mul(Mul { len: shape.len() }), other, Ok(shape)),
            Err(_) => self.broadcast(Binary::Mul, other),
        }
    }
}

macro_rules! elementwise {
    ($kind:ident, $name:literal, reads: $reads:expr, dx: $dx:expr, onnx: $onnx:literal) => {
        #[doc = concat!("`", $name, "` on the tape, of so many numbers.")]
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $kind {
            len: usize,
        }

        impl Facts for $kind {
            fn name(&self) -> &'static str {
                $name
            }
            fn backward_input_reads(&self) -> Reads {
                Reads { x: $reads, ..Reads::default() }
            }
            fn differentiable(&self, _: usize) -> bool {
                true
            }
            fn overwrites(&self, input: usize) -> bool {
                input == 0
            }
            fn gradient_overwrites(&self, input: usize) -> bool {
                let which: fn(usize) -> bool = $dx;
                which(input)
            }
            fn accumulates(&self, _: usize) -> bool {
                true
            }
            fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
                out.size(self.len)
            }
            fn read(call: &Call) -> Result<$kind, Misfit> {
                Ok($kind { len: call.numbers().size() })
            }
            fn lengths(&self) -> Lengths<'_> {
                Lengths { x: Inputs::Few([Some(self.len), Some(self.len), None]), y: self.len, ..Lengths::default() }
            }
            #[cfg(feature = "std")]
            fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
                let (form, x) = nodes.alike();
                nodes.result(form, $onnx, &[&x[0], &x[1]], &[]);
                Ok(())
            }
            crate::ops::nothing_to_choose!();
            crate::ops::nothing_to_train!();
            crate::ops::nothing_attached!();
            crate::ops::no_memory!();
            crate::ops::no_product!();
        }
    };
}

elementwise!(Add, "add", reads: 0, dx: |_| true, onnx: "Add");
elementwise!(Sub, "sub", reads: 0, dx: |input| input == 0, onnx: "Sub");
elementwise!(Mul, "mul", reads: 0b11, dx: |_| false, onnx: "Mul");

pub(crate) static ADD_FORWARD: Routine = Routine { part: Part::Forward, run: add };
pub(crate) static ADD_BACKWARD: Routine = Routine { part: Part::BackwardInput, run: add_backward };
pub(crate) static SUB_FORWARD: Routine = Routine { part: Part::Forward, run: sub };
pub(crate) static SUB_BACKWARD: Routine = Routine { part: Part::BackwardInput, run: sub_backward };
pub(crate) static MUL_FORWARD: Routine = Routine { part: Part::Forward, run: mul };
pub(crate) static MUL_BACKWARD: Routine = Routine { part: Part::BackwardInput, run: mul_backward };

/// Two inputs, the first unless it lies where the result does, and the result.
type Operands<'a> = (Option<&'a [f32]>, &'a [f32], &'a mut [f32]);

/// Lends both inputs and the result, and tells whether the first lies where the result does.
fn operands<'a>(run: &'a mut Run, call: &Call) -> Result<Operands<'a>, Error> {
    let in_place = call.x(0) == call.y();
    let ([a, b], [y]) = lend(run.memory, [call.x(0).when(!in_place), call.x(1)], [call.y()])?;
    Ok(((!in_place).then_some(a), b, y))
}

fn add(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let cpu = run.cpu;
    match operands(run, call)? {
        (Some(a), b, y) => kernel::add(&cpu, a, b, y),
        (None, b, y) => kernel::add_assign(&cpu, b, y),
    }
    Ok(())
}

fn sub(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let cpu = run.cpu;
    match operands(run, call)? {
        (Some(a), b, y) => kernel::sub(&cpu, a, b, y),
        (None, b, y) => kernel::sub_assign(&cpu, b, y),
    }
    Ok(())
}

fn mul(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let cpu = run.cpu;
    match operands(run, call)? {
        (Some(a), b, y) => kernel::mul(&cpu, a, b, y),
        (None, b, y) => kernel::mul_assign(&cpu, b, y),
    }
    Ok(())
}

fn add_backward(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let dy = call.dy().when(call.dx(position) != call.dy());
    run.pass_on(dy, call.dx(position), call.adds(position))
}

fn sub_backward(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    if call.dx(position) == call.dy() {
        return Ok(()); // the first input's gradient is dy
    }
    let sign = if position == 0 { 1.0 } else { -1.0 };
    let ([dy], [dx]) = lend(run.memory, [call.dy()], [call.dx(position)])?;
    match call.adds(position) {
        true => kernel::scaled_add_assign(&run.cpu, sign, dy, dx),
        false => kernel::scale(&run.cpu, dy, sign, dx),
    }
    Ok(())
}

fn mul_backward(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let ([dy, other], [dx]) = lend(run.memory, [call.dy(), call.x(1 - position)], [call.dx(position)])?;
    match call.adds(position) {
        true => kernel::mul_add_assign(&run.cpu, dy, other, dx),
        false => kernel::mul(&run.cpu, dy, other, dx),
    }
    Ok(())
}
