//! Planning several steps together, so that they share what lasts.

use super::Step;
use crate::Error;
use nunatak_core::bundle;
use nunatak_core::program::Program;
use std::collections::BTreeSet;
use std::string::{String, ToString};
use std::vec::Vec;

/// Plans steps of one network as a bundle: named programs with one lasting part, in which each has room for what the
/// others train and move. See [`nunatak_core::bundle`].
///
/// A step is planned twice: alone first, to learn what it keeps in the block.
///
/// # Errors
/// Those of [`Step::plan`]; [`Error::Bundle`] where the names can't be, or the steps are of different networks or
/// weights.
pub fn bundle(steps: &[(&str, Step)]) -> Result<Vec<u8>, Error> {
    let (mut held, mut momentum, mut state) = (BTreeSet::<String>::new(), BTreeSet::<String>::new(), 0);
    for (_, step) in steps {
        let program = step.plan()?;
        for id in program.entries() {
            let entry = program.entry(id);
            if !entry.is_borrowed() {
                held.insert(entry.name().to_string());
            }
            if entry.momentum().is_some() {
                momentum.insert(entry.name().to_string());
            }
        }
        state = state.max(program.state().len());
    }
    let (held, momentum) = (|name: &str| held.contains(name), |name: &str| momentum.contains(name));
    let mut programs = Vec::<(&str, Program)>::new();
    for (name, step) in steps {
        programs.push((name, step.hold(&held).momentum_room(&momentum).state_room(state).plan()?));
    }
    Ok(bundle::write(&programs)?)
}
