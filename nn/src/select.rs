//! Selecting: what of a recording a step computes, and how.
//!
//! Here it is decided which statistics each normalisation uses, whether a dropout drops, by which algorithm each convolution is
//! computed, which gradients exist, and which operations become one.

mod freeze;
mod fuse;

pub use freeze::{Mode, NormPolicy, Select};

use crate::Error;
use crate::ops::{Choice, Chosen, Op};
use nunatak_core::List;
use nunatak_core::needs::Needs;
use nunatak_core::tape::{Tape, ValueId};

/// What is asked of a step.
pub(crate) struct Asked<'a> {
    /// Where backward begins.
    pub(crate) root: Option<ValueId>,
    /// Values that stay readable, the root among them.
    pub(crate) keep: &'a [ValueId],
    /// Values whose gradient stays readable.
    pub(crate) keep_gradients: &'a [ValueId],
    pub(crate) choice: Choice<'a>,
    pub(crate) fuse: bool,
}

/// Rewrites a copy of the recorded tape into what the step computes, and finds its needs.
///
/// # Errors
/// [`Error::OneValuePerChannel`]; [`nunatak_core::Error::ListFull`]; [`nunatak_core::Error::UnknownValue`]
/// where a value that is asked for is not on the tape.
pub(crate) fn select(tape: &mut Tape<Op>, needs: &mut Needs, asked: &Asked) -> Result<(), Error> {
    for value in asked.root.iter().chain(asked.keep).chain(asked.keep_gradients) {
        tape.node(*value)?;
    }
    for v in tape.values() {
        let shape = tape.node(v)?.shape;
        let Some(op) = tape.nodes_mut()[v.index()].op.facts_mut() else { continue };
        if op.choose(&asked.choice, shape)? == Chosen::Passes && !asked.is_seen(v) {
            let x = tape.inputs(v)[0];
            tape.replace(v, x)?;
            tape.absorb(v)?;
        }
    }
    if asked.fuse {
        fuse::fuse(tape, needs, asked)?;
    }
    needs.find(tape, asked.root, asked.choice.trainable, asked.keep_gradients)?;
    for v in tape.values() {
        if let Some(op) = tape.nodes_mut()[v.index()].op.facts_mut() {
            op.backward_is(needs.at(v).backward());
        }
    }
    Ok(())
}

/// Prepares the values that are to be computed again; leaves in `again` those that can be.
///
/// # Errors
/// [`nunatak_core::Error::UnknownValue`], [`nunatak_core::Error::ListFull`].
pub(crate) fn repeat(tape: &mut Tape<Op>, asked: &[ValueId], again: &mut List<ValueId>) -> Result<(), Error> {
    again.clear();
    for v in asked {
        tape.node(*v)?;
        if !tape.inputs(*v).is_empty() && tape.nodes_mut()[v.index()].op.facts_mut().is_some_and(|op| op.repeat()) {
            again.push(*v)?;
        }
    }
    Ok(())
}

impl Asked<'_> {
    /// Whether a value, or its gradient, stays readable, so that it must be there.
    pub(crate) fn is_seen(&self, v: ValueId) -> bool {
        self.keep.contains(&v) || self.keep_gradients.contains(&v)
    }
}
