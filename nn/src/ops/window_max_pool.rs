//! The largest value of a window of any shape; squares without gaps are `max_pool.rs`'s.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Nodes, OnnxError};
use crate::ops::broadcast::{read_shape, write_shape};
#[cfg(feature = "std")]
use crate::ops::max_pool::max_pool;
use crate::ops::max_pool::{NO_PLACES, read_window, write_window};
use crate::ops::{Choice, Chosen, Context, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, lend};
use crate::record::Var;
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::maxpool::windows as kernel;
use nunatak_kernels::window::Window;

impl<'g> Var<'g> {
    /// Records a pooling by any window.
    pub(crate) fn window_max_pool(self, window: Window) -> Var<'g> {
        match kernel::MaxPool2d::new(self.shape(), window) {
            Ok(size) => self.unary(Op::WindowMaxPool(WindowMaxPool { size, places: true }), Ok(size.y_shape())),
            Err(e) => self.unary(Op::Nothing, Err(e.into())),
        }
    }
}

/// A max-pooling on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowMaxPool {
    size: kernel::MaxPool2d,
    /// Whether it leaves for backward where the maxima were: the plan decides it.
    pub(crate) places: bool,
}

impl Facts for WindowMaxPool {
    fn name(&self) -> &'static str {
        "maxpool"
    }
    fn choose(&mut self, _: &Choice, _: Shape) -> Result<Chosen, Error> {
        Ok(Chosen::Computes)
    }
    fn backward_is(&mut self, exists: bool) {
        self.places = exists;
    }
    fn repeat(&mut self) -> bool {
        true
    }
    fn backward_input_reads(&self) -> Reads {
        Reads { saved: true, ..Reads::default() }
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
    fn saved_len(&self, _: &Context) -> usize {
        if self.places { self.size.y_shape().len().div_ceil(4) } else { 0 }
    }
    fn forward_scratch_len(&self, _: &Context) -> usize {
        0
    }
    fn backward_scratch_len(&self, _: &Context, _: bool, _: bool) -> usize {
        0
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        write_shape(self.size.x_shape(), out)?;
        write_window(&self.size.window(), out)?;
        out.word(self.places.into())
    }
    fn read(call: &Call) -> Result<WindowMaxPool, Misfit> {
        let numbers = &mut call.numbers();
        let (shape, window) = (read_shape(numbers)?, read_window(numbers));
        let size = kernel::MaxPool2d::new(shape, window).map_err(|_| "sizes that are no pooling's")?;
        let places = numbers.flag();
        if call.is_backward() && !places { Err(NO_PLACES) } else { Ok(WindowMaxPool { size, places }) }
    }
    fn lengths(&self) -> Lengths<'_> {
        Lengths { x: Inputs::Few([Some(self.size.x_shape().len()), None, None]), y: self.size.y_shape().len(), ..Lengths::default() }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        max_pool(nodes, &self.size.window());
        Ok(())
    }
    crate::ops::nothing_to_train!();
    crate::ops::nothing_attached!();
    crate::ops::no_product!();
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };
pub(crate) static BACKWARD_INPUT: Routine = Routine { part: Part::BackwardInput, run: backward_input };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = WindowMaxPool::read(call)?;
    let ([x], [y, saved]) = lend(run.memory, [call.x(0)], [call.y(), call.saved()])?;
    match op.places {
        true => kernel::forward(&run.cpu, &op.size, x, y, &mut bytemuck::cast_slice_mut(saved)[..y.len()]),
        false => kernel::forward_only(&run.cpu, &op.size, x, y),
    }
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let op = WindowMaxPool::read(call)?;
    let ([saved, dy], [dx]) = lend(run.memory, [call.saved(), call.dy()], [call.dx(position)])?;
    kernel::backward_input(&run.cpu, &op.size, dy, &bytemuck::cast_slice(saved)[..dy.len()], dx, call.adds(position));
    Ok(())
}
