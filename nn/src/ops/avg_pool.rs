//! Means of windows that cut an image evenly: PyTorch's adaptive average pooling.

use crate::Error;
use crate::ops::{Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, lend};
use crate::record::{Pair, Var};
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::avgpool as kernel;

impl<'g> Var<'g> {
    /// The means of `size` (a number, or `[lines, columns]`) windows that cut each image evenly. (PyTorch's
    /// `AdaptiveAvgPool2d`.)
    pub fn adaptive_avg_pool(self, size: impl Into<Pair>) -> Var<'g> {
        let (s, Pair([out_h, out_w])) = (self.shape(), size.into());
        let size = kernel::AdaptiveAvgPool { n: s.n(), h: s.h(), w: s.w(), c: s.c(), out_h, out_w };
        self.unary(Op::AvgPool(AvgPool { size }), Shape::new(s.n(), s.c(), out_h, out_w).map_err(Error::from))
    }
}

/// An adaptive average pooling on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AvgPool {
    size: kernel::AdaptiveAvgPool,
}

impl Facts for AvgPool {
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
        let p = &self.size;
        [p.n, p.h, p.w, p.c, p.out_h, p.out_w].into_iter().try_for_each(|size| out.size(size))
    }
    fn read(call: &Call) -> Result<AvgPool, Misfit> {
        let numbers = &mut call.numbers();
        let mut size = || numbers.size();
        let size = kernel::AdaptiveAvgPool { n: size(), h: size(), w: size(), c: size(), out_h: size(), out_w: size() };
        let fits = Shape::new(size.n, size.c, size.h, size.w).is_ok() && Shape::new(size.n, size.c, size.out_h, size.out_w).is_ok();
        if fits { Ok(AvgPool { size }) } else { Err("sizes that are no pooling's") }
    }
    fn lengths(&self) -> Lengths<'_> {
        Lengths { x: Inputs::Few([Some(self.size.x_len()), None, None]), y: self.size.y_len(), ..Lengths::default() }
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
    let op = AvgPool::read(call)?;
    let ([x], [y]) = lend(run.memory, [call.x(0)], [call.y()])?;
    kernel::forward(&run.cpu, &op.size, x, y);
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let op = AvgPool::read(call)?;
    let ([dy], [dx]) = lend(run.memory, [call.dy()], [call.dx(position)])?;
    match call.adds(position) {
        true => kernel::backward_input_add(&run.cpu, &op.size, dy, dx),
        false => kernel::backward_input(&run.cpu, &op.size, dy, dx),
    }
    Ok(())
}
