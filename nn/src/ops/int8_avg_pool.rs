//! The mean of each channel of an image of 8 bits, as floats.

use crate::Error;
use crate::ops::int8_quantize::Scaled;
use crate::ops::{Entries, Facts, Lengths, Misfit, Part, Routine, Run, lend};
use nunatak_core::program::{Call, Writer};
use nunatak_kernels::int8;

/// An average pooling to one position on the tape; the shape is that of its input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int8AvgPool {
    pub(crate) scaled: Scaled,
}

impl Facts for Int8AvgPool {
    fn name(&self) -> &'static str {
        "int8_avgpool"
    }
    fn entries(&self) -> Entries {
        self.scaled.entries()
    }
    #[cfg(feature = "std")]
    fn renumber(&mut self, number: &dyn Fn(nunatak_core::tape::EntryId) -> nunatak_core::tape::EntryId) {
        self.scaled.scales = number(self.scaled.scales);
    }
    fn overwrites(&self, _: usize) -> bool {
        false
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        self.scaled.write(out)
    }
    fn read(call: &Call) -> Result<Self, Misfit> {
        Ok(Int8AvgPool { scaled: Scaled::read(&mut call.numbers(), call)? })
    }
    fn lengths(&self) -> Lengths<'_> {
        self.scaled.lengths(self.scaled.words(), self.scaled.shape.n() * self.scaled.shape.c())
    }
    crate::ops::no_onnx!(int8);
    crate::ops::nothing_to_choose!();
    crate::ops::no_gradient!();
    crate::ops::nothing_attached!();
    crate::ops::no_memory!();
    crate::ops::no_product!();
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = Int8AvgPool::read(call)?.scaled;
    let ([x, scales], [y]) = lend(run.memory, [call.x(0), call.param(0)], [call.y()])?;
    let s = op.shape;
    let pool = int8::AvgPool::new([s.n(), s.h(), s.w(), s.c()], op.zero, scales[op.index]);
    pool.map_err(|_| "sizes that are no pooling's in 8 bits")?.forward(&run.cpu, bytemuck::cast_slice(x), y);
    Ok(())
}
