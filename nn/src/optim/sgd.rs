//! SGD with parameter groups.

use crate::Error;
use nunatak_core::tape::EntryId;
pub use nunatak_kernels::sgd::{Sgd, SgdError};

/// Settings of SGD: for everything, and other ones for groups of parameters.
#[derive(Clone, Copy, Debug)]
pub struct Optimizer<'a> {
    default: Sgd,
    groups: Groups<'a>,
    factor: f32,
}

/// Who belongs to which group.
#[derive(Clone, Copy, Debug)]
enum Groups<'a> {
    Named(&'a [(&'a str, Sgd)]),
    Numbered { of_entry: &'a [u8], groups: &'a [Sgd] },
}

impl<'a> Optimizer<'a> {
    /// The same settings for every parameter.
    ///
    /// # Errors
    /// [`Error::Sgd`] where they make no sense.
    pub fn new(settings: Sgd) -> Result<Optimizer<'a>, Error> {
        settings.validate()?;
        Ok(Optimizer { default: settings, groups: Groups::Named(&[]), factor: 1.0 })
    }

    /// Other settings for the parameters whose name is a prefix or begins with it and a dot. A parameter
    /// belongs to the first group that has it.
    ///
    /// # Errors
    /// [`Error::Sgd`].
    pub fn groups(mut self, groups: &'a [(&'a str, Sgd)]) -> Result<Optimizer<'a>, Error> {
        groups.iter().try_for_each(|(_, settings)| settings.validate())?;
        self.groups = Groups::Named(groups);
        Ok(self)
    }

    /// Other settings by the entries' numbers: an entry whose number in `of_entry` is n belongs to `groups[n - 1]`;
    /// those with 0, or none, have the settings of all. For callers without a heap, who can't keep names.
    ///
    /// # Errors
    /// [`Error::Sgd`]; [`Error::Length`] where a number has no group.
    pub fn numbered_groups(mut self, of_entry: &'a [u8], groups: &'a [Sgd]) -> Result<Optimizer<'a>, Error> {
        groups.iter().try_for_each(|settings| settings.validate())?;
        if let Some(most) = of_entry.iter().copied().max().filter(|most| usize::from(*most) > groups.len()) {
            return Err(Error::Length { what: "groups", expected: most.into(), got: groups.len() });
        }
        self.groups = Groups::Numbered { of_entry, groups };
        Ok(self)
    }

    /// Multiplies every group's learning rate: what a schedule does at every step.
    ///
    /// # Errors
    /// [`Error::Sgd`] where a rate is then negative or not finite.
    pub fn scaled(mut self, factor: f32) -> Result<Optimizer<'a>, Error> {
        self.factor *= factor;
        let (named, numbered) = match self.groups {
            Groups::Named(groups) => (groups, &[][..]),
            Groups::Numbered { groups, .. } => (&[][..], groups),
        };
        for settings in named.iter().map(|(_, settings)| settings).chain(numbered).chain([&self.default]) {
            Sgd { lr: settings.lr * self.factor, ..*settings }.validate()?;
        }
        Ok(self)
    }

    /// The settings of the parameter with this name. With [`Optimizer::numbered_groups`], which knows no names,
    /// ask [`Optimizer::of_entry`].
    pub fn of(&self, name: &str) -> Sgd {
        let groups = if let Groups::Named(groups) = self.groups { groups } else { &[] };
        let found = groups.iter().find(|(prefix, _)| crate::record::in_scope(name, prefix));
        self.rated(found.map(|(_, settings)| settings))
    }

    /// The settings of the parameter with this number and name.
    pub fn of_entry(&self, id: EntryId, name: &str) -> Sgd {
        let Groups::Numbered { of_entry, groups } = self.groups else { return self.of(name) };
        let number = usize::from(of_entry.get(id.index()).copied().unwrap_or(0));
        self.rated(number.checked_sub(1).and_then(|at| groups.get(at)))
    }

    fn rated(&self, group: Option<&Sgd>) -> Sgd {
        let settings = group.copied().unwrap_or(self.default);
        Sgd { lr: settings.lr * self.factor, ..settings }
    }
}

impl From<Sgd> for Optimizer<'_> {
    /// Settings that are not validated here are validated by the step that uses them.
    fn from(settings: Sgd) -> Self {
        Optimizer { default: settings, groups: Groups::Named(&[]), factor: 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_name_and_by_number_are_the_same_groups() -> Result<(), Error> {
        let names = ["conv1.weight", "layer1.0.conv1.weight", "layer10.weight", "fc.weight", "fc.bias"];
        let (a, b) = (Sgd::new(0.5), Sgd { momentum: 0.9, ..Sgd::new(0.25) });
        let named_groups = [("layer1", a), ("fc.bias", b), ("fc", a)];
        let named = Optimizer::new(Sgd::new(1.0))?.groups(&named_groups)?.scaled(0.5)?;
        let groups = [a, b, a];
        let numbered = Optimizer::new(Sgd::new(1.0))?.numbered_groups(&[0, 1, 0, 3, 2], &groups)?.scaled(0.5)?;
        for (i, (name, lr)) in names.into_iter().zip([0.5, 0.25, 0.5, 0.25, 0.125]).enumerate() {
            let id = EntryId(i as u32);
            assert_eq!(named.of(name).lr, lr, "{name}");
            assert_eq!(named.of_entry(id, name), named.of(name));
            assert_eq!(numbered.of_entry(id, name), named.of(name));
        }
        assert_eq!(numbered.of_entry(EntryId(5), "later").lr, 0.5);
        let plain = Optimizer::new(Sgd::new(1.0))?;
        let none = plain.numbered_groups(&[0, 4], &groups).map(|_| ());
        assert_eq!(none, Err(Error::Length { what: "groups", expected: 4, got: 3 }));
        assert!(matches!(plain.numbered_groups(&[], &[Sgd::new(-1.0)]), Err(Error::Sgd(_))));
        assert!(matches!(plain.numbered_groups(&[], &[Sgd::new(f32::MAX)])?.scaled(2.0), Err(Error::Sgd(_))));
        Ok(())
    }
}
