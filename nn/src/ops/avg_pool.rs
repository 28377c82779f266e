//! Means of windows that cut an image evenly: PyTorch's adaptive average pooling.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Attribute, Form, Nodes, OnnxError};
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
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        let kernel::AdaptiveAvgPool { h, w, out_h, out_w, .. } = self.size;
        let x = nodes.images(0);
        if [out_h, out_w] == [1, 1] {
            nodes.result(Form::Images, "GlobalAveragePool", &[&x], &[]);
        } else if h.is_multiple_of(out_h) && w.is_multiple_of(out_w) {
            let window = [h / out_h, w / out_w];
            let attributes = [Attribute::Ints("kernel_shape", &window), Attribute::Ints("strides", &window)];
            nodes.result(Form::Images, "AveragePool", &[&x], &attributes);
        } else {
            // ONNX has no windows of different sizes. The mean over a window is one over its lines and one over its columns:
            // a matrix from the left, and one from the right.
            let lines = nodes.numbers("lines", &[out_h, h], &shares(h, out_h));
            let columns = nodes.numbers("columns", &[w, out_w], &transposed(&shares(w, out_w), w));
            let across = nodes.node("MatMul", &[&x, &columns], &[]);
            nodes.result(Form::Images, "MatMul", &[&lines, &across], &[]);
        }
        Ok(())
    }
    crate::ops::nothing_to_choose!();
    crate::ops::nothing_to_train!();
    crate::ops::nothing_attached!();
    crate::ops::no_memory!();
    crate::ops::no_product!();
}

/// For each of `out` windows over `len` pixels, how much each pixel counts in the mean.
#[cfg(feature = "std")]
fn shares(len: usize, out: usize) -> std::vec::Vec<f32> {
    let mut shares = std::vec![0.0; out * len];
    for (i, row) in shares.chunks_exact_mut(len).enumerate() {
        let window = i * len / out..((i + 1) * len).div_ceil(out);
        let share = 1.0 / window.len() as f32;
        row[window].fill(share);
    }
    shares
}

/// A matrix with so many columns, mirrored.
#[cfg(feature = "std")]
fn transposed(matrix: &[f32], columns: usize) -> std::vec::Vec<f32> {
    (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns).copied()).collect()
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
