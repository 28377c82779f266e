//! The largest number of a window, in 8 bits.

use crate::Error;
use crate::ops::max_pool::{read_window, write_window};
use crate::ops::{Facts, Inputs, Lengths, Misfit, Part, Routine, Run, lend};
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_kernels::int8;
use nunatak_kernels::window::Window;

/// A max-pooling on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int8MaxPool {
    /// Of the input.
    pub(crate) shape: Shape,
    pub(crate) window: Window,
}

impl Int8MaxPool {
    /// What the kernel takes.
    fn size(&self) -> Result<int8::MaxPool, Misfit> {
        let (s, Window { kernel, stride, pad, dilation }) = (self.shape, self.window);
        let wrong = "sizes that are no pooling's in 8 bits";
        if dilation != [1; 2] {
            return Err(wrong);
        }
        int8::MaxPool::new([s.n(), s.h(), s.w(), s.c()], kernel, stride, pad).map_err(|_| wrong)
    }
}

impl Facts for Int8MaxPool {
    fn name(&self) -> &'static str {
        "int8_maxpool"
    }
    fn overwrites(&self, _: usize) -> bool {
        false
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        [self.shape.n(), self.shape.c(), self.shape.h(), self.shape.w()].into_iter().try_for_each(|size| out.size(size))?;
        write_window(&self.window, out)
    }
    fn read(call: &Call) -> Result<Self, Misfit> {
        let numbers = &mut call.numbers();
        let [n, c, h, w] = [(); 4].map(|()| numbers.size());
        let shape = Shape::new(n, c, h, w).map_err(|_| "a tensor of no numbers")?;
        let pool = Int8MaxPool { shape, window: read_window(numbers) };
        pool.size().map(|_| pool)
    }
    fn lengths(&self) -> Lengths<'_> {
        let [x, y] = self.size().map_or([0; 2], |size| [size.x_len() / 4, size.y_len() / 4]);
        Lengths { x: Inputs::Few([Some(x), None, None]), y, ..Lengths::default() }
    }
    fn entries(&self) -> crate::ops::Entries {
        crate::ops::Entries::default()
    }
    #[cfg(feature = "std")]
    fn renumber(&mut self, _: &dyn Fn(nunatak_core::tape::EntryId) -> nunatak_core::tape::EntryId) {}
    crate::ops::no_onnx!(int8);
    crate::ops::nothing_to_choose!();
    crate::ops::no_gradient!();
    crate::ops::nothing_attached!();
    crate::ops::no_memory!();
    crate::ops::no_product!();
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = Int8MaxPool::read(call)?;
    let ([x], [y]) = lend(run.memory, [call.x(0)], [call.y()])?;
    op.size()?.forward(&run.cpu, bytemuck::cast_slice(x), bytemuck::cast_slice_mut(y));
    Ok(())
}
