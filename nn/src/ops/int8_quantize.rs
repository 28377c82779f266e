//! From floats to 8 bits: `q = round(x / scale) + zero`.

use crate::Error;
use crate::ops::{Entries, Facts, Inputs, Lengths, Misfit, Part, Routine, Run, lend};
use nunatak_core::Shape;
use nunatak_core::program::{Call, Numbers, Writer};
use nunatak_core::tape::EntryId;
use nunatak_kernels::int8;

/// A quantisation on the tape; its scale is a number of an entry of words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int8Quantize {
    pub(crate) scaled: Scaled,
}

/// Bytes of a tensor of 8 bits: its pixels have a multiple of 4.
pub(crate) fn bytes(shape: Shape) -> usize {
    shape.rows() * int8::padded(shape.c())
}

/// The same, where it can be.
pub(crate) fn checked_bytes(shape: Shape) -> Option<usize> {
    shape.rows().checked_mul(shape.c().checked_next_multiple_of(4)?).filter(|bytes| *bytes < isize::MAX as usize)
}

/// A tensor whose real numbers are known by a scale that lies in an entry of words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scaled {
    /// Of the real numbers.
    pub(crate) shape: Shape,
    /// The number that stands for 0.
    pub(crate) zero: u8,
    /// The scales of the network, as words: bits of floats.
    pub(crate) scales: EntryId,
    /// How many these are.
    pub(crate) count: usize,
    /// Which of them it is.
    pub(crate) index: usize,
}

impl Scaled {
    /// Words in which the tensor lies in 8 bits, in images of their own.
    pub(crate) fn words(&self) -> usize {
        bytes(self.shape) / 4
    }
    /// Numbers as floats.
    pub(crate) fn numbers(&self) -> usize {
        self.shape.len()
    }
    pub(crate) fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        [self.shape.n(), self.shape.c(), self.shape.h(), self.shape.w()].into_iter().try_for_each(|size| out.size(size))?;
        out.word(self.zero.into())?;
        out.size(self.count)?;
        out.size(self.index)
    }
    pub(crate) fn read(numbers: &mut Numbers, call: &Call) -> Result<Scaled, Misfit> {
        let [n, c, h, w] = [(); 4].map(|()| numbers.size());
        let shape = Shape::new(n, c, h, w).map_err(|_| "a tensor of no numbers")?;
        let zero = u8::try_from(numbers.word()).map_err(|_| "a zero that is no byte")?;
        let (count, index) = (numbers.size(), numbers.size());
        if index >= count || call.entry_count() != 1 {
            return Err("a scale that there is not");
        }
        if checked_bytes(shape).is_none() {
            return Err("a tensor that is too large");
        }
        Ok(Scaled { shape, zero, scales: call.entry(0), count, index })
    }
    pub(crate) fn entries(&self) -> Entries {
        Entries::new(&[], &[Some(self.scales)])
    }
    /// The lengths of a call that reads so many numbers and writes so many.
    pub(crate) fn lengths(&self, x: usize, y: usize) -> Lengths<'static> {
        Lengths { x: Inputs::Few([Some(x), None, None]), y, entries: [Some(self.count), None, None, None, None] }
    }
}

impl Facts for Int8Quantize {
    fn name(&self) -> &'static str {
        "int8_quantize"
    }
    fn entries(&self) -> Entries {
        self.scaled.entries()
    }
    #[cfg(feature = "std")]
    fn renumber(&mut self, number: &dyn Fn(EntryId) -> EntryId) {
        self.scaled.scales = number(self.scaled.scales);
    }
    fn overwrites(&self, _: usize) -> bool {
        false
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        self.scaled.write(out)
    }
    fn read(call: &Call) -> Result<Self, Misfit> {
        Ok(Int8Quantize { scaled: Scaled::read(&mut call.numbers(), call)? })
    }
    fn lengths(&self) -> Lengths<'_> {
        self.scaled.lengths(self.scaled.numbers(), self.scaled.words())
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
    let op = Int8Quantize::read(call)?.scaled;
    let ([x, scales], [y]) = lend(run.memory, [call.x(0), call.param(0)], [call.y()])?;
    int8::quantize(&run.cpu, op.shape.c(), 1.0 / scales[op.index], op.zero, x, bytemuck::cast_slice_mut(y));
    Ok(())
}
