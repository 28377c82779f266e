//! Room in which a step is planned.

use super::lasting::Home;
use crate::ops::Op;
use nunatak_core::List;
use nunatak_core::needs::{Mark, Need, Needs};
use nunatak_core::plan::{Plan, PlanRoom};
use nunatak_core::tape::{Node, Tape, ValueId};
#[cfg(feature = "std")]
use std::vec::Vec;

/// Room for a plan: on the heap, or in slices of the caller's. After planning it holds the program.
pub struct Workspace<'s> {
    pub(super) tape: Tape<'s, Op>,
    pub(super) needs: Needs<'s>,
    pub(super) plan: Plan<'s>,
    pub(super) kept: List<'s, ValueId>,
    pub(super) again: List<'s, ValueId>,
    pub(super) bytes: List<'s, u8>,
    pub(super) text: List<'s, u8>,
    pub(super) homes: List<'s, Home>,
}

/// The slices in which a step is planned where there is no heap; [`crate::plan::Storage`] owns such.
pub struct WorkspaceRoom<'s> {
    pub(crate) nodes: &'s mut [Node<Op>],
    pub(crate) inputs: &'s mut [ValueId],
    pub(crate) needs: &'s mut [Need],
    pub(crate) marks: &'s mut [Mark],
    pub(crate) plan: PlanRoom<'s>,
    pub(crate) kept: &'s mut [ValueId],
    pub(crate) homes: &'s mut [Home],
    pub(crate) text: &'s mut [u8],
    pub(crate) bytes: &'s mut [u8],
}

impl<'s> Workspace<'s> {
    /// Room in the caller's slices.
    pub fn lent(room: WorkspaceRoom<'s>) -> Self {
        Workspace {
            tape: Tape::lent(room.nodes, room.inputs),
            needs: Needs::lent(room.needs, room.marks),
            plan: Plan::lent(room.plan),
            kept: List::lent(room.kept),
            // Without a heap nothing is computed again.
            again: List::lent(&mut []),
            bytes: List::lent(room.bytes),
            text: List::lent(room.text),
            homes: List::lent(room.homes),
        }
    }
}

impl Workspace<'_> {
    /// The bytes of the program that was planned here last.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(feature = "std")]
impl Workspace<'static> {
    /// Room on the heap.
    pub const fn new() -> Self {
        Workspace {
            tape: Tape::new(),
            needs: Needs::new(),
            plan: Plan::new(),
            kept: List::new(),
            again: List::new(),
            bytes: List::new(),
            text: List::new(),
            homes: List::new(),
        }
    }

    /// The program's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into_vec()
    }
}

#[cfg(feature = "std")]
impl Default for Workspace<'static> {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for WorkspaceRoom<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        write!(f, "WorkspaceRoom({} nodes, {} entries, {} bytes)", self.nodes.len(), self.homes.len(), self.bytes.len())
    }
}

impl core::fmt::Debug for Workspace<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        write!(f, "Workspace({} bytes of a program)", self.bytes.len())
    }
}
