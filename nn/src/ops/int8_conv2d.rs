//! Convolution in 8 bits, with a folded normalisation, a residual and a relu in the same rounding.

use crate::Error;
use crate::ops::conv2d::{read_size, write_size};
use crate::ops::{Context, Entries, Facts, Inputs, Lengths, Misfit, Part, Routine, Run, lend};
use nunatak_core::program::{Call, Place, Writer};
use nunatak_core::tape::EntryId;
use nunatak_kernels::{Pass, int8};

/// A convolution of 8 bits on the tape; its second input, if there is one, is a residual that is added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int8Conv2d {
    pub(crate) size: int8::Conv2d,
    /// Its words: the table, then the weights.
    pub(crate) words: EntryId,
}

/// Words of the entry of a convolution.
pub(crate) fn entry_words(size: &int8::Conv2d) -> usize {
    size.table_len() + size.weight_len() / 4
}

impl Facts for Int8Conv2d {
    fn name(&self) -> &'static str {
        match (self.size.residual().is_some(), self.size.relu()) {
            (false, false) => "int8_conv2d",
            (false, true) => "int8_conv2d+relu",
            (true, false) => "int8_conv2d+add",
            (true, true) => "int8_conv2d+add+relu",
        }
    }
    fn entries(&self) -> Entries {
        Entries::new(&[], &[Some(self.words)])
    }
    #[cfg(feature = "std")]
    fn renumber(&mut self, number: &dyn Fn(EntryId) -> EntryId) {
        self.words = number(self.words);
    }
    fn overwrites(&self, _: usize) -> bool {
        false
    }
    fn saved_len(&self, _: &Context) -> usize {
        0
    }
    fn forward_scratch_len(&self, context: &Context) -> usize {
        self.size.scratch_len(context.threads).div_ceil(4)
    }
    fn backward_scratch_len(&self, _: &Context, _: bool, _: bool) -> usize {
        0
    }
    fn flops(&self) -> u64 {
        2 * self.size.geometry().products()
    }
    fn algorithm(&self, _: Pass) -> &'static str {
        "int8"
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        write_size(self.size.geometry(), out)?;
        out.word(self.size.x_zero().into())?;
        out.word(self.size.y_zero().into())?;
        out.word(self.size.relu().into())?;
        out.word(self.size.residual().map_or(0, |zero| 1 + u32::from(zero)))
    }
    fn read(call: &Call) -> Result<Self, Misfit> {
        let numbers = &mut call.numbers();
        let conv = read_size(numbers)?;
        let byte = |word: u32| u8::try_from(word).map_err(|_| "a zero that is no byte");
        let (x_zero, y_zero, relu) = (byte(numbers.word())?, byte(numbers.word())?, numbers.flag());
        let residual = match numbers.word() {
            0 => None,
            zero => Some(byte(zero - 1)?),
        };
        if call.entry_count() != 1 {
            return Err("another number of entries than one");
        }
        let size = int8::Conv2d::new(conv, x_zero, y_zero, relu, residual).map_err(|_| "sizes that are no convolution's in 8 bits")?;
        Ok(Int8Conv2d { size, words: call.entry(0) })
    }
    fn lengths(&self) -> Lengths<'_> {
        let (x, y) = (self.size.x_len() / 4, self.size.y_len() / 4);
        let residual = self.size.residual().map(|_| y);
        Lengths { x: Inputs::Few([Some(x), residual, None]), y, entries: [Some(entry_words(&self.size)), None, None, None, None] }
    }
    crate::ops::no_onnx!(int8);
    crate::ops::nothing_to_choose!();
    crate::ops::no_gradient!();
    crate::ops::nothing_attached!();
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let size = Int8Conv2d::read(call)?.size;
    let residual = if size.residual().is_some() { call.x(1) } else { Place::default() };
    let scratch = call.scratch();
    let ([x, words, r], [y, scratch]) = lend(run.memory, [call.x(0), call.param(0), residual], [call.y(), scratch])?;
    let (table, w) = words.split_at(size.table_len());
    let scratch = &mut bytemuck::cast_slice_mut(scratch)[..size.scratch_len(run.context.threads)];
    let (table, w) = (bytemuck::cast_slice(table), bytemuck::cast_slice(w));
    let residual = size.residual().map(|_| bytemuck::cast_slice(r));
    size.forward(&run.cpu, int8::Forward { x: bytemuck::cast_slice(x), w, table, residual, y: bytemuck::cast_slice_mut(y), scratch });
    Ok(())
}
