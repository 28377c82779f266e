//! SGD with parameter groups.

use crate::Error;
use nunatak_core::{ParamId, ParamSet};
pub use nunatak_kernels::sgd::{Sgd, SgdError};

/// Groups besides the default.
const MAX_GROUPS: usize = 8;

/// Settings of SGD: for everything, and other ones for groups of parameters.
#[derive(Clone, Copy, Debug)]
pub struct Optimizer {
    default: Sgd,
    groups: [(ParamSet, Sgd); MAX_GROUPS],
    count: usize,
}

impl Optimizer {
    /// The same settings for every parameter.
    ///
    /// # Errors
    /// [`Error::Sgd`] where they make no sense.
    pub fn new(settings: Sgd) -> Result<Optimizer, Error> {
        settings.validate()?;
        Ok(Optimizer { default: settings, groups: [(ParamSet::EMPTY, settings); MAX_GROUPS], count: 0 })
    }

    /// Other settings for some parameters. A parameter belongs to the first group that has it.
    ///
    /// # Errors
    /// [`Error::Sgd`]; [`Error::Length`] where there are more than 8 groups.
    pub fn group(mut self, params: ParamSet, settings: Sgd) -> Result<Optimizer, Error> {
        settings.validate()?;
        let got = self.count + 1;
        *self.groups.get_mut(self.count).ok_or(Error::Length { what: "parameter groups", expected: MAX_GROUPS, got })? = (params, settings);
        self.count = got;
        Ok(self)
    }

    /// The settings of a parameter.
    pub fn of(&self, id: ParamId) -> Sgd {
        let groups = &self.groups[..self.count];
        groups.iter().find(|(set, _)| set.contains(id)).map_or(self.default, |(_, settings)| *settings)
    }

    /// Multiplies the settings' learning rates as given by `rate` of each group's own: what a
    /// schedule does every step.
    ///
    /// # Errors
    /// [`Error::Sgd`] where a rate is negative or not finite.
    pub fn scaled(mut self, factor: f32) -> Result<Optimizer, Error> {
        for settings in self.groups.iter_mut().map(|(_, s)| s).chain([&mut self.default]) {
            settings.lr *= factor;
            settings.validate()?;
        }
        Ok(self)
    }
}
