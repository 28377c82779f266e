//! Planning: from a recording and a few choices to a program.
//!
//! ```
//! use nunatak_nn::record::Graph;
//! use nunatak_nn::select::Mode;
//! use nunatak_nn::plan::Step;
//!
//! let graph = Graph::new();
//! let (data, labels) = (graph.input([4, 8]), graph.labels(4));
//! let prediction = graph.root().linear("fc", data, 3);
//! let loss = prediction.cross_entropy(labels, Default::default());
//! let program = Step::new(&graph).loss(loss).keep(&[prediction.id()]).mode(Mode::Train).plan()?;
//! assert_eq!(program.entry_count(), 2);
//! # Ok::<(), nunatak_nn::Error>(())
//! ```

#[cfg(feature = "std")]
mod bundled;
mod encode;
mod lasting;
mod regions;
mod storage;
mod target;
#[cfg(feature = "std")]
mod within;
mod workspace;

#[cfg(feature = "std")]
pub use bundled::bundle;
pub use regions::Region;
pub use storage::{Room, Storage};
pub use target::Target;
#[cfg(feature = "std")]
pub use within::Within;
pub use workspace::{Workspace, WorkspaceRoom};

use crate::Error;
use crate::files::Native;
use crate::ops::{Choice, Context, Op};
use crate::record::{Graph, Recording, Var};
use crate::select::{self, Asked, Mode, NormPolicy, Select};
#[cfg(feature = "std")]
use crate::step::Trainer;
use nunatak_core::Update;
use nunatak_core::lifetime::Walk;
use nunatak_core::plan::Plan;
use nunatak_core::program::Program;
use nunatak_core::tape::{EntryId, ValueId};
use nunatak_kernels::{Algorithm, InstructionSet, Memory, Pass};
#[cfg(feature = "std")]
use nunatak_kernels::{Level, Threads};
use regions::Regions;

/// Threads that a step can be planned for.
pub const MAX_THREADS: usize = 4096;

/// A step to be planned: what is computed of a recording, what is trained, for which machine.
#[derive(Clone, Copy)]
pub struct Step<'a, 's> {
    graph: &'a Graph<'s>,
    root: Option<ValueId>,
    keep: &'a [ValueId],
    keep_gradients: &'a [ValueId],
    trainable: Select<'a>,
    mode: Mode,
    norm_policy: NormPolicy,
    target: Target,
    update: Update,
    momentum: bool,
    fuse: bool,
    algorithms: [Option<Algorithm>; 3],
    weights: Option<Native<'a>>,
    hold: Option<&'a dyn Fn(&str) -> bool>,
    regions: &'a [Region<'a>],
    momentum_room: Option<&'a dyn Fn(&str) -> bool>,
    state_room: usize,
    again: &'a [ValueId],
    #[cfg(feature = "std")]
    within: Option<usize>,
}

impl core::fmt::Debug for Step<'_, '_> {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        f.debug_struct("Step").field("trainable", &self.trainable).field("mode", &self.mode).field("target", &self.target).finish()
    }
}

impl<'a, 's> Step<'a, 's> {
    /// A step of a recording with the defaults: no backward, train mode, everything trainable, one thread, the
    /// fastest algorithms, updates after the walk with momentum, everything in the block, fused.
    pub fn new(graph: &'a Graph<'s>) -> Step<'a, 's> {
        Step {
            graph,
            root: None,
            keep: &[],
            keep_gradients: &[],
            trainable: Select::All,
            mode: Mode::Train,
            norm_policy: NormPolicy::Updating,
            target: Target::default(),
            update: Update::After,
            momentum: true,
            fuse: true,
            algorithms: [None; 3],
            weights: None,
            hold: None,
            regions: &[],
            momentum_room: None,
            state_room: 0,
            again: &[],
            #[cfg(feature = "std")]
            within: None,
        }
    }
    /// Walks back from this value: the loss, or what a gradient is fed into.
    pub fn loss(self, root: impl Into<ValueId>) -> Self {
        self.root(Some(root.into()))
    }
    /// The same, or no backward walk.
    pub fn root(mut self, root: Option<ValueId>) -> Self {
        self.root = root;
        self
    }
    /// Keeps these values readable after the step; the root always is.
    pub fn keep(mut self, values: &'a [ValueId]) -> Self {
        self.keep = values;
        self
    }
    /// Computes these values' gradients, and keeps them readable after the step.
    pub fn keep_gradients(mut self, values: &'a [ValueId]) -> Self {
        self.keep_gradients = values;
        self
    }
    /// Which parameters are trained. All others are frozen: they have no gradient, no momentum, and cost
    /// nothing in a step.
    pub fn train(mut self, trainable: impl Into<Select<'a>>) -> Self {
        self.trainable = trainable.into();
        self
    }
    /// Train or eval mode.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }
    /// What frozen normalisations do in train mode.
    pub fn norm_policy(mut self, policy: NormPolicy) -> Self {
        self.norm_policy = policy;
        self
    }
    /// The machine.
    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }
    /// Threads that may work, at most.
    pub fn threads(mut self, threads: usize) -> Self {
        self.target.threads = threads;
        self
    }
    /// Memory or speed. A plan for less memory is never larger: where a setting that may take more takes less, the program
    /// is that one's, as its `memory()` tells.
    pub fn memory(mut self, memory: Memory) -> Self {
        self.target.memory = memory;
        self
    }
    /// For builds without the feature `algorithms`, which have one algorithm, `gemm`: for boards.
    pub fn gemm_only(mut self, gemm_only: bool) -> Self {
        self.target.gemm_only = gemm_only;
        self
    }
    /// Only for machines with this instruction set.
    pub fn level(mut self, level: impl Into<InstructionSet>) -> Self {
        self.target.level = Some(level.into());
        self
    }
    /// When parameters are updated.
    pub fn update(mut self, update: Update) -> Self {
        self.update = update;
        self
    }
    /// Whether there is a momentum buffer for every trained parameter.
    pub fn momentum(mut self, momentum: bool) -> Self {
        self.momentum = momentum;
        self
    }
    /// Whether operations that follow each other become one where that saves passes over memory. Without it
    /// gradients agree within rounding.
    pub fn fuse(mut self, fuse: bool) -> Self {
        self.fuse = fuse;
        self
    }
    /// Computes a pass of every convolution by this algorithm where it accepts the shape.
    pub fn force(mut self, pass: Pass, algorithm: Option<Algorithm>) -> Self {
        self.algorithms[pass as usize] = algorithm;
        self
    }
    /// Reads what is frozen, and statistics that do not move, where this file lies (mapped, or in flash).
    pub fn in_place(mut self, weights: Option<Native<'a>>) -> Self {
        self.weights = weights;
        self
    }
    /// With weights in place: keeps these entries in the block all the same, because another program of the
    /// same trainer trains or moves them.
    pub fn hold(mut self, names: &'a dyn Fn(&str) -> bool) -> Self {
        self.hold = Some(names);
        self
    }

    /// Lays the step out in several pieces of memory, the fastest first: what lasts lies in the slowest, what is used
    /// most often in the fastest, and no tensor in two. The trainer is then made by
    /// [`Trainer::in_regions`], or in one block that is as long as all of them.
    pub fn regions(mut self, regions: &'a [Region<'a>]) -> Self {
        self.regions = regions;
        self
    }
    /// Leaves room for the momentum of these entries though this step does not train them, because another program
    /// of the same bundle does: see [`bundle`](crate::plan::bundle()).
    pub fn momentum_room(mut self, names: &'a dyn Fn(&str) -> bool) -> Self {
        self.momentum_room = Some(names);
        self
    }
    /// Gives the lasting state at least so many numbers, because another program of the same bundle has as many.
    pub fn state_room(mut self, numbers: usize) -> Self {
        self.state_room = numbers;
        self
    }

    /// Computes these values again where the backward walk reads them, instead of keeping them since the forward walk:
    /// less memory, more time, the same bits. Inputs, kept values, what is inside a fused step and what can't be
    /// computed again without other effects are kept all the same. With std [`Step::within`] chooses such values. A
    /// workspace of slices has no room for them.
    pub fn again(mut self, values: &'a [ValueId]) -> Self {
        self.again = values;
        self
    }

    /// Plans the step so that its block takes at most so many bytes, or fits its regions: see [`Step::plan_within`].
    #[cfg(feature = "std")]
    pub fn within(mut self, bytes: Option<usize>) -> Self {
        self.within = bytes;
        self
    }

    /// Plans the step.
    ///
    /// # Errors
    /// [`Error::Region`] where a region is too small; those of the recording; [`Error::UnknownName`] where nothing has a name that is to be trained;
    /// [`Error::OneValuePerChannel`]; [`Error::Core`] where the plan is too large; [`Error::Budget`] after [`Step::within`].
    #[cfg(feature = "std")]
    pub fn plan(&self) -> Result<Program<'static>, Error> {
        if let Some(bytes) = self.within {
            return Ok(self.plan_within(bytes)?.program);
        }
        let mut workspace = Workspace::new();
        self.plan_in(&mut workspace)?;
        Ok(Program::own(workspace.into_bytes())?)
    }

    /// Plans the step and binds it to memory of its own: at the level that was asked for, or the best of this
    /// machine, with the threads that were planned, initialised from seed 0.
    ///
    /// # Errors
    /// Those of [`Step::plan`] and [`Trainer::owning`]; [`Error::Threads`] where the system gives no threads.
    #[cfg(feature = "std")]
    pub fn trainer(&self) -> Result<Trainer<'static>, Error> {
        let count = self.target.threads;
        let program = self.plan()?;
        let threads = Threads::new(count).map_err(|_| Error::Threads { count })?;
        let level = match self.target.level {
            Some(set) => Level::of(set).map_err(|_| Error::OtherTarget("it is planned for an instruction set that this CPU has not"))?,
            None => Level::detect(),
        };
        let mut trainer = Trainer::owning(program, level, threads)?;
        trainer.init(0);
        Ok(trainer)
    }

    /// The same in a workspace, which then holds the program's bytes.
    ///
    /// # Errors
    /// As for [`Step::plan`]; [`nunatak_core::Error::ListFull`] where the workspace is too small.
    pub fn plan_in<'w>(&self, workspace: &'w mut Workspace) -> Result<Program<'w>, Error> {
        if !(1..=MAX_THREADS).contains(&self.target.threads) {
            return Err(Error::Length { what: "threads (1 to 4096)", expected: MAX_THREADS, got: self.target.threads });
        }
        self.make_smallest(workspace)?;
        Ok(Program::check(&workspace.bytes)?)
    }

    /// The plan of the memory setting that was asked for, or of one that may take more, if that takes less: every call
    /// takes less where less is asked for, but buffers are then placed in another order, which may cost more than was
    /// saved.
    fn make_smallest(&self, workspace: &mut Workspace) -> Result<usize, Error> {
        let ways = match self.target.memory {
            Memory::Tiny => &[Memory::Tiny, Memory::Small, Memory::Fast][..],
            Memory::Small => &[Memory::Small, Memory::Fast],
            Memory::Fast => &[Memory::Fast],
        };
        let with = |memory: Memory| Step { target: Target { memory, ..self.target }, ..*self };
        let mut best: Option<(usize, Memory)> = None;
        let mut refused = None;
        for &memory in ways {
            match with(memory).make(workspace) {
                Ok(len) if best.is_none_or(|(least, _)| len < least) => best = Some((len, memory)),
                Ok(_) => {}
                Err(e) => refused = refused.or(Some(e)),
            }
        }
        match (best, refused) {
            (Some((_, memory)), _) if Some(&memory) != ways.last() => with(memory).make(workspace),
            (Some((len, _)), _) => Ok(len),
            (None, refused) => Err(refused.unwrap_or(Error::Length { what: "memory settings", expected: 1, got: 0 })),
        }
    }

    /// Plans the step with its memory setting; leaves the program's bytes in the workspace and returns the numbers of its
    /// block.
    fn make(&self, workspace: &mut Workspace) -> Result<usize, Error> {
        self.graph.with(|recording| {
            let lasting = self.select(recording, workspace)?;
            let regions = Regions::new(self.regions)?;
            self.walk(recording, workspace, |walk, plan| {
                plan.make(walk, &regions.passing(lasting.end)[..regions.len()]).map_err(|e| regions.named(e))
            })?;
            let Workspace { tape, needs, plan, kept, bytes, text, homes, .. } = workspace;
            let trainable = |id: EntryId| self.trainable.selects(recording, id);
            let planned =
                encode::Planned { step: self, recording, tape, needs, plan, kept, homes, lasting, regions, trainable: &trainable };
            encode::encode(&planned, bytes, text)
        })?;
        Ok(Program::check(&workspace.bytes)?.block_len())
    }

    /// Finds what the step computes, and a place for what lasts.
    fn select(&self, recording: &Recording, workspace: &mut Workspace) -> Result<lasting::Lasting, Error> {
        self.trainable.check(recording)?;
        let trainable = |id: EntryId| self.trainable.selects(recording, id);
        let Workspace { tape, needs, kept, again, homes, .. } = workspace;
        tape.copy_from(&recording.tape)?;
        kept.clear();
        kept.extend(self.root.into_iter().chain(self.keep.iter().copied()))?;
        let asked = Asked {
            root: self.root,
            keep: kept,
            keep_gradients: self.keep_gradients,
            choice: Choice {
                train: self.mode == Mode::Train,
                fixed_norms: self.norm_policy == NormPolicy::Fixed,
                trainable: &trainable,
                context: self.context(),
                algorithms: self.algorithms,
                gemm_only: self.target.gemm_only,
            },
            fuse: self.fuse,
        };
        select::select(tape, needs, &asked)?;
        select::repeat(tape, self.again, again)?;
        let regions = Regions::new(self.regions)?;
        let state = encode::state_len(self, recording, tape, kept);
        self.homes(recording, tape, &trainable, (&regions, state), homes)
    }

    fn context(&self) -> Context {
        Context { threads: self.target.threads, memory: self.target.memory }
    }

    /// Hands over what a plan is made from.
    fn walk<R>(&self, recording: &Recording, workspace: &mut Workspace, then: impl FnOnce(&Walk<Op>, &mut Plan) -> R) -> R {
        let Workspace { tape, needs, plan, kept, again, .. } = workspace;
        let walk = Walk {
            tape,
            needs,
            context: &self.context(),
            entry_len: &|id: EntryId| recording.entries[id.index()].len(),
            entries: recording.entries.len(),
            keep: kept,
            keep_gradients: self.keep_gradients,
            update: self.update,
            again,
        };
        then(&walk, plan)
    }

    /// The momentum buffers that a plan has.
    fn has_momentum(&self, trained: bool) -> bool {
        self.momentum && trained
    }
}

#[cfg(feature = "std")]
impl Graph<'_> {
    /// A trainer that makes this value small, with defaults everywhere: every parameter is trained, in train mode,
    /// with momentum, in memory of its own, on all CPUs that the process may use, initialised from seed 0. For other
    /// choices see [`Step`].
    ///
    /// # Errors
    /// As for [`Step::trainer`].
    pub fn trainer(&self, loss: Var) -> Result<Trainer<'static>, Error> {
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
        Step::new(self).loss(loss).threads(cpus.min(MAX_THREADS)).trainer()
    }
}

impl<'g> From<Var<'g>> for Option<ValueId> {
    fn from(v: Var<'g>) -> Self {
        Some(v.id())
    }
}
