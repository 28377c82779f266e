//! Values that are computed again in the backward walk, instead of being kept since the forward walk.
//!
//! Such a value has two lives: from its forward to the last forward that reads it, and from its second computation,
//! just before the first backward that reads it, to the last such backward. In between its memory serves others.
//! What the second computation reads is kept until then, or computed again itself.

use crate::Error;
use crate::lifetime::{NONE, Walk};
use crate::list::List;
use crate::tape::{Operation, ValueId};

/// What is known of a node in a walk that computes values again.
#[derive(Clone, Copy, Debug)]
pub struct Repeat {
    /// Its result is to be computed again, if backward reads it.
    asked: bool,
    /// Its result is read by the next backward, or by what is computed again for that.
    wanted: bool,
    /// When its backward takes place.
    pub(crate) backward: u32,
    /// When its result is computed again; [`NONE`] where it is not.
    pub(crate) again: u32,
    /// Before which node's backward that is.
    pub(crate) before: u32,
    /// The last time at which the second result is read.
    pub(crate) last: u32,
    /// The slot of the second result.
    pub(crate) value: u32,
    /// Where the scratch of the second computation lies.
    pub(crate) scratch: u32,
}

impl Repeat {
    /// Fills a slice that is to be lent.
    pub const UNUSED: Repeat = Repeat { asked: false, wanted: false, backward: 0, again: 0, before: 0, last: 0, value: 0, scratch: 0 };
    /// Nothing is computed again yet.
    const NONE: Repeat =
        Repeat { asked: false, wanted: false, backward: NONE, again: NONE, before: NONE, last: 0, value: NONE, scratch: NONE };

    /// Whether the result is computed again.
    pub(crate) const fn is_due(&self) -> bool {
        self.again != NONE
    }
}

/// When each backward and each second computation takes place; empty where nothing is computed again.
#[derive(Debug)]
pub(crate) struct Repeats<'s> {
    pub(crate) nodes: List<'s, Repeat>,
    /// Behind the last time.
    end: u32,
}

impl<'s> Repeats<'s> {
    pub(crate) const fn of(nodes: List<'s, Repeat>) -> Self {
        Repeats { nodes, end: 0 }
    }

    /// Finds the times of a walk.
    ///
    /// # Errors
    /// [`Error::ListFull`].
    pub(crate) fn find<Op: Operation>(&mut self, walk: &Walk<Op>) -> Result<(), Error> {
        self.nodes.clear();
        let len = walk.tape.nodes().len();
        if walk.again.is_empty() || walk.needs.root().is_none() {
            return Ok(());
        }
        self.nodes.refill(len, Repeat::NONE)?;
        for v in walk.again {
            walk.tape.node(*v)?;
            // What is written from outside can't be computed, and what is kept is there.
            self.nodes[v.index()].asked = !walk.tape.inputs(*v).is_empty() && !walk.keep.contains(v);
        }
        let mut now = len as u32;
        for v in walk.tape.values().rev() {
            if walk.needs.at(v).backward() {
                now = self.before_backward(walk, v, now);
            }
            // Nodes without a backward have a time too, as they have where nothing is computed again.
            self.nodes[v.index()].backward = now;
            now += 2;
        }
        self.end = now;
        Ok(())
    }

    /// Gives times to what must be computed again for the backward at `v`; returns the next time.
    fn before_backward<Op: Operation>(&mut self, walk: &Walk<Op>, v: ValueId, mut now: u32) -> u32 {
        let reads = walk.needs.at(v).reads;
        self.nodes[v.index()].wanted = reads.y;
        for (position, x) in walk.tape.inputs(v).iter().enumerate() {
            self.nodes[x.index()].wanted |= reads.x >> position & 1 == 1;
        }
        // Downwards: what is read by what must be computed again.
        for u in (0..=v.0).rev().map(ValueId) {
            let node = self.nodes[u.index()];
            if node.wanted && node.asked && !node.is_due() {
                walk.tape.inputs(u).iter().for_each(|x| self.nodes[x.index()].wanted = true);
            }
        }
        // Upwards: in the order of the forward walk.
        for u in (0..=v.0).map(ValueId) {
            let node = &mut self.nodes[u.index()];
            if core::mem::take(&mut node.wanted) && node.asked && !node.is_due() {
                (node.again, node.before, node.last) = (now, v.0, now);
                now += 1;
            }
        }
        now
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
    /// The part of a node, where anything is computed again.
    pub(crate) fn at(&self, v: ValueId) -> Option<&Repeat> {
        self.nodes.get(v.index())
    }
    /// The times of a walk end before this.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }
}
