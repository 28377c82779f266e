//! The mean of each window of a fixed size.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Attribute, Form, Nodes, OnnxError};
use crate::ops::broadcast::{read_shape, write_shape};
use crate::ops::max_pool::{read_window, write_window};
use crate::ops::{Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, lend};
use crate::record::{Pair, Var};
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::avgpool::windows as kernel;

impl<'g> Var<'g> {
    /// The mean of each window of `kernel` pixels (a number, or `[lines, columns]`) that moves by `stride`, with `pad`
    /// zeros around the image. Zeros count as pixels of a window where `count_include_pad` says so. (PyTorch's
    /// `AvgPool2d(kernel, stride, pad, count_include_pad)`, where `count_include_pad` is true if it is left out.)
    pub fn avg_pool(self, kernel: impl Into<Pair>, stride: impl Into<Pair>, pad: impl Into<Pair>, count_include_pad: bool) -> Var<'g> {
        let (Pair(kernel), Pair(stride), Pair(pad)) = (kernel.into(), stride.into(), pad.into());
        match kernel::AvgPool::new(self.shape(), kernel, stride, pad, count_include_pad) {
            Ok(size) => self.unary(Op::WindowAvgPool(WindowAvgPool { size }), Ok(size.y_shape())),
            Err(e) => self.unary(Op::Nothing, Err(e.into())),
        }
    }
}

/// An average pooling on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowAvgPool {
    size: kernel::AvgPool,
}

impl Facts for WindowAvgPool {
    fn name(&self) -> &'static str {
        "avgpool"
    }
    fn backward_input_reads(&self) -> Reads {
        Reads::default()
    }
    fn differentiable(&self, _: usize) -> bool {
        true
    }
    fn overwrites(&self, _: usize) -> bool {
        false
    }
    fn gradient_overwrites(&self, _: usize) -> bool {
        false
    }
    fn accumulates(&self, _: usize) -> bool {
        true
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        write_shape(self.size.x_shape(), out)?;
        write_window(&self.size.window(), out)?;
        out.word(self.size.count_include_pad().into())
    }
    fn read(call: &Call) -> Result<WindowAvgPool, Misfit> {
        let numbers = &mut call.numbers();
        let (shape, window) = (read_shape(numbers)?, read_window(numbers));
        let size = kernel::AvgPool::new(shape, window.kernel, window.stride, window.pad, numbers.flag());
        size.map(|size| WindowAvgPool { size }).map_err(|_| "sizes that are no pooling's")
    }
    fn lengths(&self) -> Lengths<'_> {
        Lengths { x: Inputs::Few([Some(self.size.x_shape().len()), None, None]), y: self.size.y_shape().len(), ..Lengths::default() }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        let (x, window) = (nodes.images(0), self.size.window());
        let [top, left] = window.pad;
        let attributes = [
            Attribute::Int("count_include_pad", self.size.count_include_pad().into()),
            Attribute::Ints("kernel_shape", &window.kernel),
            Attribute::Ints("pads", &[top, left, top, left]),
            Attribute::Ints("strides", &window.stride),
        ];
        nodes.result(Form::Images, "AveragePool", &[&x], &attributes);
        Ok(())
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
    let op = WindowAvgPool::read(call)?;
    let ([x], [y]) = lend(run.memory, [call.x(0)], [call.y()])?;
    kernel::forward(&run.cpu, &op.size, x, y);
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let op = WindowAvgPool::read(call)?;
    let ([dy], [dx]) = lend(run.memory, [call.dy()], [call.dx(position)])?;
    kernel::backward_input(&run.cpu, &op.size, dy, dx, call.adds(position));
    Ok(())
}
