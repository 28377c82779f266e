//! Planning for so many bytes at most: which values are computed again instead of being kept.
//!
//! Greedy: as long as too much is in use at the busiest time, of the values that only wait there for the backward walk
//! the one is given up that frees the most memory for its cost; where none helps, one is exchanged for another. At the
//! end values are kept again for which there is room after all, the dearest first.
//!
//! The cost of an operation is counted in bytes that go through memory: its tensors, and [`FLOPS_PER_BYTE`]
//! multiplications and additions for each byte.

use super::regions::Regions;
use super::{Step, Workspace};
use crate::Error;
use crate::ops::Op;
use crate::record::Recording;
use nunatak_core::arena::{ALIGN, UNIT, block_bytes};
use nunatak_core::needs::Needs;
use nunatak_core::program::Program;
use nunatak_core::tape::{Tape, ValueId};
use std::vec::Vec;

/// Multiplications and additions that take as long as a byte of memory: on the CPUs that this was measured on two cores
/// compute 150 to 300 GFLOP/s and move 10 to 20 GB/s.
const FLOPS_PER_BYTE: u64 = 16;

/// How a search goes about it.
#[derive(Clone, Copy)]
struct Way {
    /// Values that are tried in exchange for one.
    exchanges: usize,
    /// Of values that free as much for their cost, the last is given up first: what it is made of stays there, or goes later.
    last_first: bool,
}

/// The ways that are tried until one fits, the quickest first. Each ends at a minimum of its own.
const WAYS: [Way; 3] =
    [Way { exchanges: 0, last_first: true }, Way { exchanges: 16, last_first: false }, Way { exchanges: 16, last_first: true }];

/// A step that was planned to fit.
#[derive(Clone, Debug)]
pub struct Within {
    /// The program.
    pub program: Program<'static>,
    /// The values that are computed again.
    pub again: Vec<ValueId>,
    /// How much longer the step takes than one that keeps everything, by the cost model: 1.0 where nothing is computed
    /// again.
    pub times: f64,
}

impl Step<'_, '_> {
    /// Plans the step so that its block takes at most `bytes` (as [`Trainer::bytes`](crate::Trainer::bytes) counts), by
    /// computing values again in the backward walk instead of keeping them: the same bits in more time. Where
    /// [`Step::again`] names values, those are computed again in any case.
    ///
    /// # Errors
    /// Those of [`Step::plan`]; [`Error::Budget`] where no choice fits that was found, with the bytes of the smallest.
    pub fn plan_within(&self, bytes: usize) -> Result<Within, Error> {
        let mut workspace = Workspace::new();
        match self.make_smallest(&mut workspace) {
            Ok(len) if block_bytes(len) <= bytes => {
                return Ok(Within { program: Program::own(workspace.into_bytes())?, again: self.again.to_vec(), times: 1.0 });
            }
            Ok(_) | Err(Error::Region { .. }) => {}
            Err(other) => return Err(other),
        }
        let mut least = usize::MAX;
        for way in WAYS {
            let Found { again, times } = self.graph.with(|recording| Search::begin(self, recording, &mut workspace, way)?.run(bytes))?;
            let len = Step { again: &again, ..*self }.make(&mut workspace)?;
            if block_bytes(len) <= bytes {
                return Ok(Within { program: Program::own(workspace.into_bytes())?, again, times });
            }
            least = least.min(block_bytes(len));
        }
        Err(Error::Budget { asked: bytes, least })
    }
}

/// What a search came to.
struct Found {
    again: Vec<ValueId>,
    times: f64,
}

struct Search<'a, 'b, 's, 'w> {
    step: &'a Step<'b, 's>,
    recording: &'a Recording<'s>,
    workspace: &'a mut Workspace<'w>,
    /// Units of what lasts.
    lasting: u32,
    /// What each node's forward costs, in bytes.
    costs: Vec<u64>,
    /// What the step costs where nothing is computed again.
    whole: u64,
    way: Way,
}

impl<'a, 'b, 's, 'w> Search<'a, 'b, 's, 'w> {
    fn begin(step: &'a Step<'b, 's>, recording: &'a Recording<'s>, workspace: &'a mut Workspace<'w>, way: Way) -> Result<Self, Error> {
        let lasting = step.select(recording, workspace)?.end;
        let costs: Vec<u64> = workspace.tape.values().map(|v| cost(&workspace.tape, v)).collect();
        let whole = workspace.tape.values().map(|v| costs[v.index()] * passes(&workspace.needs, v)).sum();
        Ok(Search { step, recording, workspace, lasting, costs, whole, way })
    }

    /// Finds what must be computed again so that the block takes at most `bytes`; where nothing does, what takes least.
    fn run(&mut self, bytes: usize) -> Result<Found, Error> {
        // A block has a unit more than its numbers, for their alignment.
        let room = (bytes.saturating_sub(ALIGN - 1) / ALIGN) as u64;
        let room = room.saturating_sub(u64::from(self.lasting));
        // Placing may take more than what lives at once; then less must live.
        let mut aim = room;
        loop {
            let fits = self.give_up(aim)?;
            if !fits {
                break;
            }
            let kept = self.workspace.again.to_vec();
            self.keep_again(aim)?;
            let mut over = 0;
            for again in [self.workspace.again.to_vec(), kept] {
                self.set(&again)?;
                over = self.place(room)?.saturating_sub(room);
                if over == 0 {
                    return Ok(self.found());
                }
            }
            aim = aim.min(self.find()?.0).saturating_sub(over);
        }
        Ok(self.found())
    }

    /// Gives up values until no more than `aim` units live at once; whether that was reached.
    fn give_up(&mut self, aim: u64) -> Result<bool, Error> {
        let mut refused: Vec<ValueId> = Vec::new();
        let (mut live, mut peak) = self.find()?;
        while live > aim {
            let Some(&v) = self.waiting(peak, &refused).first() else {
                match self.exchange(live)? {
                    true => {
                        (live, peak) = self.find()?;
                        refused.clear();
                        continue;
                    }
                    false => return Ok(false),
                }
            };
            self.give_up_one(v);
            self.workspace.again.push(v)?;
            let (less, later) = self.find()?;
            if less < live || less == live && later != peak {
                (live, peak) = (less, later);
                refused.clear();
            } else {
                let before = self.workspace.again.len() - 1;
                self.workspace.again.resize(before, v)?;
                refused.push(v);
                self.find()?;
            }
        }
        Ok(true)
    }

    /// Where giving up another value does not help: keeps one that was given up, or gives up another for it. What is made
    /// of few others is cheap to compute again, but those must then be there for it. Whether less than `live` came of it.
    fn exchange(&mut self, live: u64) -> Result<bool, Error> {
        if self.way.exchanges == 0 {
            return Ok(false);
        }
        let chosen = self.workspace.again.to_vec();
        for u in chosen.iter().filter(|u| !self.step.again.contains(u)) {
            let mut without: Vec<ValueId> = chosen.iter().copied().filter(|v| v != u).collect();
            self.set(&without)?;
            let (less, peak) = self.find()?;
            if less < live {
                return Ok(true);
            }
            for v in self.waiting(peak, &[*u]).into_iter().take(self.way.exchanges) {
                without.push(v);
                self.give_up_one(v);
                self.set(&without)?;
                if self.find()?.0 < live {
                    return Ok(true);
                }
                without.pop();
            }
        }
        self.set(&chosen)?;
        self.find()?;
        Ok(false)
    }

    /// Keeps values after all where there is room, the dearest first.
    fn keep_again(&mut self, aim: u64) -> Result<(), Error> {
        let mut chosen = self.workspace.again.to_vec();
        chosen.retain(|v| !self.step.again.contains(v));
        chosen.sort_by_key(|v| core::cmp::Reverse(self.costs[v.index()]));
        for v in chosen {
            let before = self.workspace.again.to_vec();
            let without: Vec<ValueId> = before.iter().copied().filter(|u| *u != v).collect();
            self.set(&without)?;
            if self.find()?.0 > aim {
                self.set(&before)?;
            }
        }
        Ok(())
    }

    /// The values that only wait for the backward walk at the busiest time, without those that were refused: first what
    /// frees the most memory for its cost.
    fn waiting(&self, peak: u32, refused: &[ValueId]) -> Vec<ValueId> {
        let Workspace { tape, plan, kept, again, .. } = &*self.workspace;
        let waits = |v: &ValueId| {
            let inside = plan.slot_of(*v).is_some_and(|slot| slot.begin <= peak && peak <= slot.end);
            inside && !tape.inputs(*v).is_empty() && !kept.contains(v) && !again.contains(v) && !refused.contains(v)
        };
        let can = |v: &ValueId| {
            let mut op = tape.nodes()[v.index()].op;
            op.facts_mut().is_some_and(|op| op.repeat())
        };
        let gain = |v: &ValueId| {
            let units = plan.slot_of(*v).map_or(0, |slot| slot.units);
            f64::from(units) / self.costs[v.index()].max(1) as f64
        };
        let mut all: Vec<ValueId> = tape.values().filter(waits).filter(can).collect();
        let order = |a: &ValueId, b: &ValueId| if self.way.last_first { b.cmp(a) } else { a.cmp(b) };
        all.sort_by(|a, b| gain(b).total_cmp(&gain(a)).then(order(a, b)));
        all
    }

    /// A value's operation saves what computing it again reads.
    fn give_up_one(&mut self, v: ValueId) {
        self.workspace.tape.nodes_mut()[v.index()].op.facts_mut().map(|op| op.repeat());
    }

    /// Units that live at once at most, and when.
    fn find(&mut self) -> Result<(u64, u32), Error> {
        self.step.walk(self.recording, self.workspace, |walk, plan| {
            plan.find(walk)?;
            Ok((plan.live_bytes() / ALIGN as u64, plan.peak()))
        })
    }

    /// Units that the passing part takes; more than `room` where a region is too small.
    fn place(&mut self, room: u64) -> Result<u64, Error> {
        let regions = Regions::new(self.step.regions)?;
        let passing = regions.passing(self.lasting);
        self.step.walk(self.recording, self.workspace, |walk, plan| match plan.make(walk, &passing[..regions.len()]) {
            Ok(()) => Ok((plan.len() / UNIT) as u64),
            Err(nunatak_core::Error::RegionFull { given, needed, .. }) => Ok(room + ((needed - given) / ALIGN) as u64),
            Err(other) => Err(other.into()),
        })
    }

    fn set(&mut self, again: &[ValueId]) -> Result<(), Error> {
        Ok(self.workspace.again.copy_from(again)?)
    }

    fn found(&self) -> Found {
        let again = self.workspace.again.to_vec();
        let more: u64 = again.iter().map(|v| self.costs[v.index()]).sum();
        Found { again, times: (self.whole + more) as f64 / self.whole.max(1) as f64 }
    }
}

/// What a node's forward costs, in bytes.
fn cost(tape: &Tape<Op>, v: ValueId) -> u64 {
    let numbers = |v: ValueId| tape.nodes()[v.index()].shape.len() as u64;
    let node = &tape.nodes()[v.index()];
    if node.is_absorbed() {
        return 0;
    }
    let tensors = numbers(v) + tape.inputs(v).iter().map(|x| numbers(*x)).sum::<u64>();
    4 * tensors + node.op.facts().flops() / FLOPS_PER_BYTE
}

/// How many passes like its forward a node has.
fn passes(needs: &Needs, v: ValueId) -> u64 {
    let need = needs.at(v);
    1 + u64::from(need.dx != 0) + u64::from(need.dw != [false; 2])
}
