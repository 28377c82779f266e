//! The doors to what a trainer keeps: parameters, gradients, momentum, statistics, by name or
//! number, in PyTorch's shapes.

use crate::Error;
use crate::lasting::Thing;
use crate::memory::FILE;
use crate::params::{Entry, Name, NormId};
use crate::trainer::Trainer;
use core::ops::Range;
use nunatak_core::{ParamId, Update};

fn check(what: &'static str, expected: usize, got: usize) -> Result<(), Error> {
    if expected == got { Ok(()) } else { Err(Error::Length { what, expected, got }) }
}

impl Trainer<'_> {
    fn copy_out(&self, id: ParamId, from: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        let param = self.blueprint.network.param_at(id);
        check("room for a parameter", param.numbers(), out.len())?;
        match param.layout() {
            Some(layout) => layout.unpack(self.block.read(from), out),
            None => out.copy_from_slice(self.block.read(from)),
        }
        Ok(())
    }

    fn copy_in(&mut self, id: ParamId, to: Range<usize>, data: &[f32]) -> Result<(), Error> {
        let param = *self.blueprint.network.param_at(id);
        if to.start >= FILE {
            return Err(Error::ReadOnly { name: Name::of(param) });
        }
        check("a parameter", param.numbers(), data.len())?;
        match param.layout() {
            Some(layout) => layout.pack(data, &mut self.block[to]),
            None => self.block[to].copy_from_slice(data),
        }
        Ok(())
    }

    fn param_place(&self, id: ParamId) -> Range<usize> {
        self.blueprint.lasting.param(&self.blueprint.network, id)
    }

    /// Copies a parameter out, in PyTorch's shape.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn param(&self, id: ParamId, out: &mut [f32]) -> Result<(), Error> {
        self.copy_out(id, self.param_place(id), out)
    }

    /// Sets a parameter, given in PyTorch's shape.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] where it is read in place; [`Error::Length`].
    pub fn set_param(&mut self, id: ParamId, data: &[f32]) -> Result<(), Error> {
        self.copy_in(id, self.param_place(id), data)
    }

    /// A parameter as it lies in memory, to be initialised number by number; what the layout pads
    /// must stay zero. Empty where it is read in place.
    pub(crate) fn param_mut(&mut self, id: ParamId) -> &mut [f32] {
        let place = self.blueprint.lasting.place(&self.blueprint.network, Thing::Param(id));
        &mut self.block[place]
    }

    /// Copies a parameter's gradient out.
    ///
    /// # Errors
    /// [`Error::GradientsNotKept`]; [`Error::NoGradients`] where it has none; [`Error::Length`].
    pub fn gradient(&self, id: ParamId, out: &mut [f32]) -> Result<(), Error> {
        self.copy_out(id, self.gradient_place(id)?, out)
    }

    /// Sets a parameter's gradient, as if backward had computed it.
    ///
    /// # Errors
    /// [`Error::GradientsNotKept`]; [`Error::NothingToTrain`] where the plan computes none for it;
    /// [`Error::Length`].
    pub fn set_gradient(&mut self, id: ParamId, data: &[f32]) -> Result<(), Error> {
        let place = self.passing(self.blueprint.plan.param_gradient(id));
        if self.blueprint.options.update == Update::During {
            return Err(Error::GradientsNotKept);
        }
        if place.is_empty() {
            return Err(Error::NothingToTrain);
        }
        self.copy_in(id, place, data)?;
        self.gradients.insert(id);
        Ok(())
    }

    fn gradient_place(&self, id: ParamId) -> Result<Range<usize>, Error> {
        if self.blueprint.options.update == Update::During {
            return Err(Error::GradientsNotKept);
        }
        if !self.gradients.contains(id) {
            return Err(Error::NoGradients);
        }
        Ok(self.passing(self.blueprint.plan.param_gradient(id)))
    }

    /// Whether a parameter has a momentum yet: it gets one at its first step.
    pub fn has_momentum(&self, id: ParamId) -> bool {
        self.momenta.contains(id)
    }

    /// Copies a parameter's momentum out.
    ///
    /// # Errors
    /// [`Error::NoMomentum`] where it has none yet; [`Error::Length`].
    pub fn momentum(&self, id: ParamId, out: &mut [f32]) -> Result<(), Error> {
        if !self.momenta.contains(id) {
            return Err(Error::NoMomentum);
        }
        self.copy_out(id, self.blueprint.lasting.momentum(&self.blueprint.network, id), out)
    }

    /// Sets a parameter's momentum: to go on where an earlier run ended.
    ///
    /// # Errors
    /// [`Error::NoMomentum`] where the plan has no room for it; [`Error::Length`].
    pub fn set_momentum(&mut self, id: ParamId, data: &[f32]) -> Result<(), Error> {
        let place = self.blueprint.lasting.momentum(&self.blueprint.network, id);
        if place.is_empty() {
            return Err(Error::NoMomentum);
        }
        self.copy_in(id, place, data)?;
        self.momenta.insert(id);
        Ok(())
    }

    /// A normalisation's running mean.
    pub fn running_mean(&self, id: NormId) -> &[f32] {
        self.block.read(self.blueprint.lasting.running_mean(&self.blueprint.network, id))
    }
    /// A normalisation's running variance.
    pub fn running_var(&self, id: NormId) -> &[f32] {
        self.block.read(self.blueprint.lasting.running_var(&self.blueprint.network, id))
    }
    /// A normalisation's running mean, to be set. Empty where it is read in place.
    pub fn running_mean_mut(&mut self, id: NormId) -> &mut [f32] {
        let both = self.blueprint.lasting.place(&self.blueprint.network, Thing::Statistics(id));
        let half = both.len() / 2;
        &mut self.block[both][..half]
    }
    /// A normalisation's running variance, to be set. Empty where it is read in place.
    pub fn running_var_mut(&mut self, id: NormId) -> &mut [f32] {
        let both = self.blueprint.lasting.place(&self.blueprint.network, Thing::Statistics(id));
        let half = both.len() / 2;
        &mut self.block[both][half..]
    }
    /// How many batches a normalisation has seen.
    pub fn num_batches_tracked(&self, id: NormId) -> i64 {
        self.tracked[id.index()]
    }
    /// Sets how many batches a normalisation has seen.
    pub fn set_num_batches_tracked(&mut self, id: NormId, count: i64) {
        self.tracked[id.index()] = count;
    }

    /// Copies a line of the state dict out, if it is of `f32`.
    ///
    /// # Errors
    /// [`Error::Length`], also where the line is a count.
    pub fn entry(&self, entry: Entry, out: &mut [f32]) -> Result<(), Error> {
        let from = match entry {
            Entry::Param(id) => return self.param(id, out),
            Entry::RunningMean(id) => self.running_mean(id),
            Entry::RunningVar(id) => self.running_var(id),
            Entry::NumBatchesTracked(_) => return Err(Error::Length { what: "room for a count", expected: 0, got: out.len() }),
        };
        check("room for statistics", from.len(), out.len())?;
        out.copy_from_slice(from);
        Ok(())
    }
}
