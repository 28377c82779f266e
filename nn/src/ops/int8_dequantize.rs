//! From 8 bits to floats: `x = (q - zero) · scale`.

use crate::Error;
use crate::ops::int8_quantize::Scaled;
use crate::ops::{Entries, Facts, Lengths, Misfit, Part, Routine, Run, lend};
use nunatak_core::program::{Call, Writer};
use nunatak_kernels::int8;

/// The way back to floats on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int8Dequantize {
    pub(crate) scaled: Scaled,
}

impl Facts for Int8Dequantize {
    fn name(&self) -> &'static str {
        "int8_dequantize"
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
        Ok(Int8Dequantize { scaled: Scaled::read(&mut call.numbers(), call)? })
    }
    fn lengths(&self) -> Lengths<'_> {
        self.scaled.lengths(self.scaled.words(), self.scaled.numbers())
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
    let op = Int8Dequantize::read(call)?.scaled;
    let ([x, scales], [y]) = lend(run.memory, [call.x(0), call.param(0)], [call.y()])?;
    int8::dequantize(&run.cpu, op.shape.c(), scales[op.index], op.zero, bytemuck::cast_slice(x), y);
    Ok(())
}
