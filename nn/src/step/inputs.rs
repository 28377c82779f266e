//! What comes from outside: tensors, bytes of images, class indices.

use super::trainer::Phase;
use super::{Event, Trainer};
use crate::Error;
use nunatak_core::program::{Program, Value, ValueRecord};
use nunatak_core::tape::ValueId;
use nunatak_kernels::{Cpu, images};

impl Trainer<'_> {
    /// The value with a door that this name was given, if there is one.
    ///
    /// # Errors
    /// [`Error::UnknownName`].
    pub fn value_named(&self, name: &str) -> Result<ValueId, Error> {
        let found = self.program.values().find(|value| value.name() == name && !name.is_empty());
        found.map(|value| ValueId(value.node())).ok_or_else(|| Error::UnknownName { name: crate::name::Name::of(name) })
    }

    pub(super) fn door(&self, value: ValueId) -> Result<Value<'_>, Error> {
        self.program.value_of_node(value.0).map(|(_, value)| value).ok_or(Error::NotKept)
    }

    /// The value, its number among those with a door; an error unless it comes from outside as asked.
    fn outside(&self, value: ValueId, kind: u32) -> Result<(usize, Value<'_>), Error> {
        self.program.value_of_node(value.0).filter(|(_, value)| value.flags() & kind != 0).ok_or(Error::NotAnInput)
    }

    /// Sets an input tensor, given in PyTorch's order n, c, h, w.
    ///
    /// # Errors
    /// [`Error::NotAnInput`], [`Error::Length`].
    pub fn set_input(&mut self, value: impl Into<ValueId>, data: &[f32]) -> Result<(), Error> {
        let id = value.into();
        let (number, value) = self.outside(id, ValueRecord::INPUT)?;
        let ([n, c, h, w], to) = (value.shape(), value.place().range());
        if data.len() != n * c * h * w {
            return Err(Error::Length { what: "an input", expected: n * c * h * w, got: data.len() });
        }
        let start = self.watch.now();
        let cpu = Cpu { level: self.level, threads: &self.threads };
        images::to_channels_last(&cpu, c, h * w, data, &mut self.block[to]);
        self.watch.called(Event::Input(id), start);
        self.mark_input(number);
        Ok(())
    }

    /// Sets images from bytes, which lie n, h, w, c as decoders give them: each becomes
    /// `(byte / 255 - mean[c]) / std[c]`, as torchvision's ToTensor and Normalize make it.
    ///
    /// # Errors
    /// [`Error::NotAnInput`]; [`Error::Length`], also where `mean` or `std` has not one number for each
    /// channel.
    pub fn set_input_bytes(&mut self, value: impl Into<ValueId>, pixels: &[u8], mean: &[f32], std: &[f32]) -> Result<(), Error> {
        let id = value.into();
        let (number, value) = self.outside(id, ValueRecord::INPUT)?;
        let ([n, c, h, w], to) = (value.shape(), value.place().range());
        for (what, expected, got) in [("an input", n * c * h * w, pixels.len()), ("means", c, mean.len()), ("deviations", c, std.len())] {
            if got != expected {
                return Err(Error::Length { what, expected, got });
            }
        }
        let start = self.watch.now();
        let cpu = Cpu { level: self.level, threads: &self.threads };
        images::normalise_bytes(&cpu, pixels, mean, std, &mut self.block[to]);
        self.watch.called(Event::Input(id), start);
        self.mark_input(number);
        Ok(())
    }

    /// Sets class indices.
    ///
    /// # Errors
    /// [`Error::NotAnInput`], [`Error::Length`].
    pub fn set_labels(&mut self, value: impl Into<ValueId>, labels: &[i64]) -> Result<(), Error> {
        let id = value.into();
        let (number, value) = self.outside(id, ValueRecord::LABELS)?;
        let ([n, ..], to) = (value.shape(), value.place().range());
        if labels.len() != n {
            return Err(Error::Length { what: "labels", expected: n, got: labels.len() });
        }
        let start = self.watch.now();
        bytemuck::cast_slice_mut::<f32, i64>(&mut self.block[to]).copy_from_slice(labels);
        self.watch.called(Event::Input(id), start);
        self.mark_input(number);
        Ok(())
    }

    /// Where in the state's bytes the marks of inputs begin.
    fn input_marks(&self) -> usize {
        Program::marks(self.counts) + self.program.entry_count()
    }

    fn mark_input(&mut self, number: usize) {
        let at = self.input_marks() + number;
        self.state_bytes_mut()[at] = 1;
        self.phase = Phase::Idle;
        self.begin_anew(number);
    }

    /// An error unless every input that is read was set since the last forward; forgets that they were.
    pub(super) fn take_inputs(&mut self) -> Result<(), Error> {
        let (first, count) = (self.input_marks(), self.program.value_count());
        for i in 0..count {
            let value = self.program.value(i);
            if value.flags() & (ValueRecord::INPUT | ValueRecord::LABELS) != 0 && self.state_bytes()[first + i] == 0 && self.is_read(&value)
            {
                return Err(Error::InputNotSet { value: value.node() as usize });
            }
        }
        self.state_bytes_mut()[first..first + count].fill(0);
        Ok(())
    }

    pub(super) fn state_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.block[self.program.state()])
    }

    pub(super) fn state_bytes_mut(&mut self) -> &mut [u8] {
        let state = self.program.state();
        bytemuck::cast_slice_mut(&mut self.block[state])
    }
}
