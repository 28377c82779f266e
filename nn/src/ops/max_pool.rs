//! The largest value of a window.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Attribute, Form, Nodes, OnnxError};
use crate::ops::{Choice, Chosen, Context, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, lend};
use crate::record::{Pair, Var};
use nunatak_core::Shape;
use nunatak_core::program::{Call, Numbers, Writer};
use nunatak_core::shape::windows;
use nunatak_core::tape::Reads;
use nunatak_kernels::maxpool as kernel;
use nunatak_kernels::window::Window;

impl<'g> Var<'g> {
    /// The largest value of each window of `kernel` pixels (a number, or `[lines, columns]`) that moves by `stride`,
    /// with `pad` pixels around the image that are never chosen. (PyTorch's `MaxPool2d(kernel, stride, pad)`.)
    pub fn max_pool(self, kernel: impl Into<Pair>, stride: impl Into<Pair>, pad: impl Into<Pair>) -> Var<'g> {
        self.max_pool_dilated(kernel, stride, pad, 1)
    }

    /// The same with a distance between the pixels of a window.
    pub fn max_pool_dilated(
        self,
        kernel: impl Into<Pair>,
        stride: impl Into<Pair>,
        pad: impl Into<Pair>,
        dilation: impl Into<Pair>,
    ) -> Var<'g> {
        let (Pair(kernel), Pair(stride), Pair(pad), Pair(dilation)) = (kernel.into(), stride.into(), pad.into(), dilation.into());
        match [kernel, stride, pad, dilation] {
            [[kernel, kw], [stride, sw], [pad, pw], [1, 1]] if (kernel, stride, pad) == (kw, sw, pw) && kernel <= 15 => {
                self.square_max_pool(kernel, stride, pad)
            }
            _ => self.window_max_pool(Window { kernel, stride, pad, dilation }),
        }
    }

    fn square_max_pool(self, kernel: usize, stride: usize, pad: usize) -> Var<'g> {
        let s = self.shape();
        let size = kernel::MaxPool { n: s.n(), h: s.h(), w: s.w(), c: s.c(), kernel, stride, pad };
        let fits = || match (1..=15).contains(&kernel) && pad <= kernel / 2 {
            true => {
                Shape::new(s.n(), s.c(), windows(s.h(), kernel, stride, pad)?, windows(s.w(), kernel, stride, pad)?).map_err(Error::from)
            }
            false => Err(Error::Window { kernel, pad }),
        };
        self.unary(Op::MaxPool(MaxPool { size, places: true }), fits())
    }
}

/// A max-pooling on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxPool {
    pub(crate) size: kernel::MaxPool,
    /// Whether it leaves for backward where the maxima were: the plan decides it.
    pub(crate) places: bool,
}

/// Why a backward call of a pooling is refused: nothing says where its gradient goes.
pub(crate) const NO_PLACES: Misfit = "a pooling's backward without the places of its maxima";

/// Room for the places of a pooling's maxima, a byte each.
pub(crate) const fn places_room(pool: &MaxPool) -> usize {
    if pool.places { pool.size.y_len().div_ceil(4) } else { 0 }
}

pub(crate) fn write_pool(pool: &MaxPool, out: &mut Writer) -> Result<(), nunatak_core::Error> {
    let p = &pool.size;
    [p.n, p.h, p.w, p.c, p.kernel, p.stride, p.pad].into_iter().try_for_each(|size| out.size(size))?;
    out.word(pool.places.into())
}

pub(crate) fn read_pool(numbers: &mut Numbers, call: &Call) -> Result<MaxPool, Misfit> {
    let mut size = || numbers.size();
    let size = kernel::MaxPool { n: size(), h: size(), w: size(), c: size(), kernel: size(), stride: size(), pad: size() };
    let side = |len| windows(len, size.kernel, size.stride, size.pad);
    let fits = Shape::new(size.n, size.c, size.h, size.w).and_then(|_| Shape::new(size.n, size.c, side(size.h)?, side(size.w)?));
    if fits.is_err() || !(1..=15).contains(&size.kernel) || size.pad > size.kernel / 2 {
        return Err("sizes that are no pooling's");
    }
    let places = numbers.flag();
    if call.is_backward() && !places { Err(NO_PLACES) } else { Ok(MaxPool { size, places }) }
}

pub(crate) fn write_window(window: &Window, out: &mut Writer) -> Result<(), nunatak_core::Error> {
    let Window { kernel, stride, pad, dilation } = window;
    [kernel, stride, pad, dilation].into_iter().flatten().try_for_each(|size| out.size(*size))
}

pub(crate) fn read_window(numbers: &mut Numbers) -> Window {
    let mut pair = || [numbers.size(), numbers.size()];
    Window { kernel: pair(), stride: pair(), pad: pair(), dilation: pair() }
}

/// The node of a pooling by any window.
#[cfg(feature = "std")]
pub(crate) fn max_pool(nodes: &mut Nodes, window: &Window) {
    let (x, [top, left]) = (nodes.images(0), window.pad);
    let attributes = [
        Attribute::Ints("dilations", &window.dilation),
        Attribute::Ints("kernel_shape", &window.kernel),
        Attribute::Ints("pads", &[top, left, top, left]),
        Attribute::Ints("strides", &window.stride),
    ];
    nodes.result(Form::Images, "MaxPool", &[&x], &attributes);
}

impl Facts for MaxPool {
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
        false
    }
    fn saved_len(&self, _: &Context) -> usize {
        places_room(self)
    }
    fn forward_scratch_len(&self, _: &Context) -> usize {
        0
    }
    fn backward_scratch_len(&self, _: &Context, _: bool, _: bool) -> usize {
        0
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        write_pool(self, out)
    }
    fn read(call: &Call) -> Result<MaxPool, Misfit> {
        read_pool(&mut call.numbers(), call)
    }
    fn lengths(&self) -> Lengths<'_> {
        Lengths { x: Inputs::Few([Some(self.size.x_len()), None, None]), y: self.size.y_len(), ..Lengths::default() }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        let kernel::MaxPool { kernel, stride, pad, .. } = self.size;
        max_pool(nodes, &Window::square(kernel, stride, pad));
        Ok(())
    }
    crate::ops::nothing_to_train!();
    crate::ops::nothing_attached!();
    crate::ops::no_product!();
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };
pub(crate) static BACKWARD_INPUT: Routine = Routine { part: Part::BackwardInput, run: backward_input };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = MaxPool::read(call)?;
    let ([x], [y, saved]) = lend(run.memory, [call.x(0)], [call.y(), call.saved()])?;
    match op.places {
        true => kernel::forward(&run.cpu, &op.size, x, y, &mut bytemuck::cast_slice_mut(saved)[..y.len()]),
        false => kernel::forward_only(&run.cpu, &op.size, x, y),
    }
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let op = MaxPool::read(call)?;
    let ([saved, dy], [dx]) = lend(run.memory, [call.saved(), call.dy()], [call.dx(position)])?;
    kernel::backward_input(&run.cpu, &op.size, dy, &bytemuck::cast_slice(saved)[..dy.len()], dx);
    Ok(())
}
