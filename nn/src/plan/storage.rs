//! Memory for recording and planning without a heap: one value that owns every list.

use super::lasting::Home;
use super::workspace::{Workspace, WorkspaceRoom};
use crate::ops::Op;
use crate::record::{Declared, Graph, GraphRoom, Text};
use nunatak_core::lifetime::{Slot, SlotOf, Uses};
use nunatak_core::needs::{Mark, Need};
use nunatak_core::plan::{NodeSpans, PlanRoom, Span};
use nunatak_core::tape::{Node, Tape, ValueId};

/// Inputs of a node of a recording, on average.
const INPUTS: usize = 2;
/// The same after fusing, which writes new ones behind them.
const REWRITTEN: usize = 4;
/// Buffers of a node, on average: its result, the gradient, what is saved or scratch, a parameter's gradient.
const BUFFERS: usize = 4;

/// Memory in which a step is recorded and planned where there is no heap.
///
/// The constants are those that [`Workspace::room`] tells of the same step on a desktop. Too small a constant is
/// an error ([`nunatak_core::Error::ListFull`]) when the step is recorded or planned. A `static` of it takes no
/// flash: all of it is zeros.
///
/// | constant | how many |
/// |---|---|
/// | `NODES` | values of the recording, before fusing |
/// | `ENTRIES` | entries of the state dict |
/// | `TEXT` | bytes of all names, with those of modules |
/// | `BYTES` | bytes of the program |
///
/// ```
/// use nunatak_nn::plan::{Step, Storage};
///
/// let mut storage = Storage::<8, 4, 128, 4096>::new();
/// let (graph, mut workspace) = storage.lend();
/// let (data, labels) = (graph.input([4, 8]), graph.labels(4));
/// let prediction = graph.root().linear("fc", data, 3);
/// let loss = prediction.cross_entropy(labels, Default::default());
/// let program = Step::new(&graph).loss(loss).plan_in(&mut workspace)?;
/// assert_eq!(program.entry_count(), 2);
/// # Ok::<(), nunatak_nn::Error>(())
/// ```
pub struct Storage<const NODES: usize, const ENTRIES: usize, const TEXT: usize, const BYTES: usize> {
    recorded: [Node<Op>; NODES],
    recorded_inputs: [[ValueId; INPUTS]; NODES],
    declared: [Declared; ENTRIES],
    names: [(ValueId, Text); NODES],
    recorded_text: [u8; TEXT],
    nodes: [Node<Op>; NODES],
    inputs: [[ValueId; REWRITTEN]; NODES],
    needs: [Need; NODES],
    marks: [Mark; NODES],
    spans: [NodeSpans; NODES],
    slot_of: [SlotOf; NODES],
    gradients: [Span; ENTRIES],
    uses: [Uses; ENTRIES],
    slots: [[Slot; BUFFERS]; NODES],
    orders: [[[u32; BUFFERS]; NODES]; 3],
    kept: [ValueId; NODES],
    homes: [Home; ENTRIES],
    text: [u8; TEXT],
    bytes: [u8; BYTES],
}

/// What a [`Storage`] needs for a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Its `NODES`.
    pub nodes: usize,
    /// Its `ENTRIES`.
    pub entries: usize,
    /// Its `TEXT`.
    pub text: usize,
    /// Its `BYTES`.
    pub bytes: usize,
}

impl<const NODES: usize, const ENTRIES: usize, const TEXT: usize, const BYTES: usize> Default for Storage<NODES, ENTRIES, TEXT, BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const NODES: usize, const ENTRIES: usize, const TEXT: usize, const BYTES: usize> core::fmt::Debug
    for Storage<NODES, ENTRIES, TEXT, BYTES>
{
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        write!(f, "Storage({NODES} nodes, {ENTRIES} entries, {TEXT} bytes of text, {BYTES} of a program)")
    }
}

impl<const NODES: usize, const ENTRIES: usize, const TEXT: usize, const BYTES: usize> Storage<NODES, ENTRIES, TEXT, BYTES> {
    /// Memory for a step; made to be a `static`'s value.
    pub const fn new() -> Self {
        Storage {
            recorded: [Tape::unused(); NODES],
            recorded_inputs: [[ValueId(0); INPUTS]; NODES],
            declared: [Declared::UNUSED; ENTRIES],
            names: [(ValueId(0), Text::EMPTY); NODES],
            recorded_text: [0; TEXT],
            nodes: [Tape::unused(); NODES],
            inputs: [[ValueId(0); REWRITTEN]; NODES],
            needs: [Need::UNUSED; NODES],
            marks: [Mark::UNUSED; NODES],
            spans: [NodeSpans::UNUSED; NODES],
            slot_of: [SlotOf::UNUSED; NODES],
            gradients: [Span::UNUSED; ENTRIES],
            uses: [Uses::UNUSED; ENTRIES],
            slots: [[Slot::UNUSED; BUFFERS]; NODES],
            orders: [[[0; BUFFERS]; NODES]; 3],
            kept: [ValueId(0); NODES],
            homes: [Home::UNUSED; ENTRIES],
            text: [0; TEXT],
            bytes: [0; BYTES],
        }
    }

    /// An empty recording, and room to plan it in. What was recorded and planned here before is forgotten.
    pub fn lend(&mut self) -> (Graph<'_>, Workspace<'_>) {
        let graph = Graph::lent(GraphRoom {
            nodes: &mut self.recorded,
            inputs: self.recorded_inputs.as_flattened_mut(),
            entries: &mut self.declared,
            names: &mut self.names,
            text: &mut self.recorded_text,
        });
        let workspace = Workspace::lent(WorkspaceRoom {
            nodes: &mut self.nodes,
            inputs: self.inputs.as_flattened_mut(),
            needs: &mut self.needs,
            marks: &mut self.marks,
            plan: PlanRoom {
                nodes: &mut self.spans,
                slot_of: &mut self.slot_of,
                entries: &mut self.gradients,
                uses: &mut self.uses,
                slots: self.slots.as_flattened_mut(),
                orders: self.orders.each_mut().map(|order| order.as_flattened_mut()),
                repeats: &mut [],
            },
            kept: &mut self.kept,
            homes: &mut self.homes,
            text: &mut self.text,
            bytes: &mut self.bytes,
        });
        (graph, workspace)
    }
}

impl Workspace<'_> {
    /// What a [`Storage`] needs for the step that was planned here last, of this recording.
    pub fn room(&self, graph: &Graph) -> Room {
        let recorded = graph.lengths();
        let of_nodes = [
            recorded.nodes,
            recorded.inputs.div_ceil(INPUTS),
            recorded.names,
            self.tape.input_count().div_ceil(REWRITTEN),
            self.plan.slots().len().div_ceil(BUFFERS),
            self.kept.len(),
        ];
        Room {
            nodes: of_nodes.into_iter().max().unwrap_or(0),
            entries: recorded.entries,
            text: recorded.text.max(self.text.len()),
            bytes: self.bytes.len(),
        }
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    extern crate std;
    use super::*;
    use crate::{Conv, Error, Mode, Norm, Step, Usual};
    use nunatak_core::Update;
    use std::vec::Vec;

    /// Fusing rewrites, absorbs and joins here; there are a residual, pooling, and a shared parameter.
    fn record(graph: &Graph) -> Result<Usual, Error> {
        graph.usual([2, 3, 8, 8], crate::Loss::CrossEntropy(Default::default()), |g, x| {
            let x = g.batch_norm("bn", g.conv2d("conv", x, Conv::new(5, 3).pad(1).no_bias()), Norm::default()).relu().max_pool(3, 2, 1);
            let block = g.scope("block").numbered(0);
            let y = block.batch_norm("bn", block.conv2d("conv", x, Conv::new(5, 3).pad(1).no_bias()), Norm::default());
            let y = (y + x).relu();
            let y = block.conv2d("conv", y, Conv::new(5, 3).pad(1).no_bias().shared());
            g.set_head("fc");
            let features = y.adaptive_avg_pool(1);
            (features, g.linear("fc", features, 4))
        })
    }

    fn step<'a, 's>(graph: &'a Graph<'s>, v: &Usual, keep: &'a [ValueId], train: &'a str, update: Update) -> Step<'a, 's> {
        let mode = if train == "none" { Mode::Eval } else { Mode::Train };
        Step::new(graph).root(v.root).keep(keep).train(train).mode(mode).update(update)
    }

    fn in_storage<const N: usize, const E: usize, const T: usize, const B: usize>() -> Result<Vec<u8>, Error> {
        let mut storage = std::boxed::Box::new(Storage::<N, E, T, B>::new());
        let (graph, mut workspace) = storage.lend();
        let v = record(&graph)?;
        let program = step(&graph, &v, &[v.prediction], "all", Update::After).plan_in(&mut workspace)?;
        Ok(program.bytes().to_vec())
    }

    #[test]
    fn lent_storage_gives_the_bytes_of_a_heap() {
        let graph = Graph::new();
        let v = record(&graph).expect("a recording");
        let mut storage = std::boxed::Box::new(Storage::<24, 20, 512, 8192>::new());
        for (train, update) in [("all", Update::After), ("all", Update::During), ("head", Update::During), ("none", Update::After)] {
            let due = step(&graph, &v, &[v.prediction], train, update).plan().expect("a plan");
            let (lent, mut workspace) = storage.lend();
            let v = record(&lent).expect("room for the recording");
            let keep = [v.prediction];
            let got = step(&lent, &v, &keep, train, update).plan_in(&mut workspace).expect("room for the plan");
            assert!(got.bytes() == due.bytes(), "{train}, {update:?}");
        }
    }

    #[test]
    fn one_slot_too_few_is_an_error_that_says_so() {
        let graph = Graph::new();
        let v = record(&graph).expect("a recording");
        let mut workspace = Workspace::new();
        let keep = [v.prediction];
        let due = step(&graph, &v, &keep, "all", Update::After).plan_in(&mut workspace).expect("a plan").bytes().to_vec();
        const ROOM: Room = Room { nodes: 14, entries: 14, text: 266, bytes: 4672 };
        assert_eq!(workspace.room(&graph), ROOM);
        const N: usize = ROOM.nodes;
        const E: usize = ROOM.entries;
        const T: usize = ROOM.text;
        const B: usize = ROOM.bytes;
        assert_eq!(in_storage::<N, E, T, B>(), Ok(due));
        for (got, capacity) in [
            (in_storage::<{ N - 1 }, E, T, B>(), N - 1),
            (in_storage::<N, { E - 1 }, T, B>(), E - 1),
            (in_storage::<N, E, { T - 1 }, B>(), T - 1),
            (in_storage::<N, E, T, { B - 1 }>(), B - 1),
        ] {
            let full = nunatak_core::Error::ListFull { capacity };
            assert_eq!(got, Err(Error::Core(full)));
            assert!(std::string::ToString::to_string(&full).contains("lend a longer slice"));
        }
    }
}
