//! A program, bound to memory.

use super::watch::Watcher;
use super::{check, undo, walk};
use crate::Error;
use crate::files::Native;
use crate::memory::Block;
use crate::name::Name;
use crate::ops::{Context, HAS_GRADIENT, HAS_MOMENTUM, Run, SUMMED};
use crate::optim::Optimizer;
use crate::routines::Table;
use nunatak_core::arena::{self, ALIGN};
use nunatak_core::program::{EntryKind, Flags, Program};
use nunatak_core::tape::EntryId;
use nunatak_core::tensor::from_channels_last;
use nunatak_core::{Shape, Tensor};
use nunatak_kernels::{Cpu, Level, Memory, Threads, clip, elementwise, reduce};

/// Where the trainer stands between its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Nothing was computed, or it has been used up.
    Idle,
    /// Forward is done, its values are there.
    Forward,
    /// The same, but the root is not finite, and what forward moved was taken back.
    NotFinite,
    /// Backward is done too; kept values are there.
    Backward,
}

/// A network in memory, with a step that can be repeated.
///
/// Nothing is allocated by any of its functions but those that say so.
pub struct Trainer<'m> {
    pub(super) program: Program<'m>,
    pub(super) block: Block<'m>,
    /// Where frozen weights are read from.
    pub(super) weights: Option<Native<'m>>,
    pub(super) level: Level,
    pub(super) threads: Threads,
    pub(super) context: Context,
    /// What it can compute.
    pub(super) routines: Table,
    /// How many entries count batches.
    pub(super) counts: usize,
    pub(super) phase: Phase,
    /// The node behind which the next forward begins, where it does not begin with the inputs.
    pub(super) begin: Option<u32>,
    /// The same of the last forward.
    pub(super) began: Option<u32>,
    /// What the last forward moved can be taken back: nothing was set or updated since.
    pub(super) fresh: bool,
    /// Parameters were updated by the gradients that are there, and nothing was added to them since.
    pub(super) used_up: bool,
    pub(super) watch: Watcher<'m>,
}

impl core::fmt::Debug for Trainer<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        write!(f, "Trainer({} entries, {} numbers, {:?})", self.program.entry_count(), self.program.block_len(), self.phase)
    }
}

/// Proves everything of a program that executing relies on, and that this build has its operations: a program
/// that passes runs wherever there are its instruction set and its memory. [`Trainer::new`] does this too.
///
/// # Errors
/// [`Error::Program`], [`Error::Misfit`], [`Error::OtherTarget`].
pub fn check_program(program: &Program) -> Result<(), Error> {
    check_program_for(program, Table::ALL)
}

/// The same, for a trainer that has these routines alone.
///
/// # Errors
/// As for [`check_program`], also where a routine is missing.
pub fn check_program_for(program: &Program, routines: Table) -> Result<(), Error> {
    context_of(program, routines).map(|_| ())
}

fn context_of(program: &Program, routines: Table) -> Result<Context, Error> {
    let memory = Memory::of_code(program.memory()).ok_or(Error::OtherTarget("a memory setting that there is not"))?;
    let context = Context { threads: program.threads(), memory };
    check::check(program, &context, routines)?;
    undo::check_room(program, count_of(program))?;
    Ok(context)
}

/// Checks that this machine can execute a program, and everything of it that executing relies on.
pub(super) fn checked(program: &Program, routines: Table, level: Level, threads: &Threads) -> Result<Context, Error> {
    let context = context_of(program, routines)?;
    if program.level() != 0 && program.level() != level.instruction_set().code() {
        return Err(Error::OtherTarget("it asks for another instruction set than the trainer's"));
    }
    if threads.count() > program.threads() {
        let what = "threads (the program has scratch for so many)";
        return Err(Error::Length { what, expected: program.threads(), got: threads.count() });
    }
    Ok(context)
}

pub(super) fn count_of(program: &Program) -> usize {
    program.entries().filter(|id| program.entry(*id).kind() == EntryKind::Count).count()
}

impl<'m> Trainer<'m> {
    /// Binds a program to memory. Parameters and statistics are undefined until they are initialised or loaded.
    ///
    /// # Errors
    /// [`Error::Core`] with `ArenaTooSmall` where `memory` has fewer bytes than [`Trainer::bytes`];
    /// [`Error::Program`] where the program is damaged; [`Error::OtherTarget`] where it was planned for another
    /// machine; [`Error::Length`] where there are more threads than planned; [`Error::NeedsWeights`] where the
    /// program reads in place.
    pub fn new(program: Program<'m>, memory: &'m mut [u8], level: Level, threads: Threads) -> Result<Self, Error> {
        Self::with_routines(program, memory, None, Table::ALL, level, threads)
    }

    /// The same, or as [`Trainer::with_weights`], with these routines alone: other kernels need not be in the program
    /// that runs. Programs that are switched to later may call no others either.
    ///
    /// # Errors
    /// As for [`Trainer::new`] and [`Trainer::with_weights`]; [`Error::Program`] where a routine is missing.
    pub fn with_routines(
        program: Program<'m>,
        memory: &'m mut [u8],
        weights: Option<Native<'m>>,
        routines: Table,
        level: Level,
        threads: Threads,
    ) -> Result<Self, Error> {
        match (weights, program.weights_hash()) {
            (Some(weights), _) => Self::bound_to_weights(program, memory, weights, routines, level, threads),
            (None, Some(_)) => Err(Error::NeedsWeights),
            (None, None) => Self::bound(program, memory, &[], routines, level, threads),
        }
    }

    /// Binds a program to memory of the trainer's own.
    ///
    /// # Errors
    /// As for [`Trainer::new`].
    #[cfg(feature = "std")]
    pub fn owning(program: Program<'m>, level: Level, threads: Threads) -> Result<Self, Error> {
        if program.weights_hash().is_some() {
            return Err(Error::NeedsWeights);
        }
        let block = Block::owned(program.block_len(), &[]);
        Self::with_block(program, block, Table::ALL, level, threads)
    }

    /// The bytes of memory that a program needs, wherever it begins.
    pub fn bytes(program: &Program) -> usize {
        arena::block_bytes(program.block_len())
    }

    /// The same with weights behind the block.
    pub(super) fn bound(
        program: Program<'m>,
        memory: &'m mut [u8],
        in_place: &'m [f32],
        routines: Table,
        level: Level,
        threads: Threads,
    ) -> Result<Self, Error> {
        // The whole block is taken, so that a larger program may follow where it fits.
        let whole = memory.len().saturating_sub(ALIGN - 1) / size_of::<f32>();
        let block = arena::numbers(memory, whole.max(program.block_len()))?;
        Self::with_block(program, Block::new(block, in_place), routines, level, threads)
    }

    pub(super) fn with_block(
        program: Program<'m>,
        mut block: Block<'m>,
        routines: Table,
        level: Level,
        threads: Threads,
    ) -> Result<Self, Error> {
        let context = checked(&program, routines, level, &threads)?;
        block[program.state()].fill(0.0);
        let counts = count_of(&program);
        let (weights, phase, watch) = (None, Phase::Idle, Watcher(None));
        let (begin, began, fresh, used_up) = (None, None, false, false);
        Ok(Trainer { program, block, weights, level, threads, context, routines, counts, phase, begin, began, fresh, used_up, watch })
    }

    /// The program.
    pub fn program(&self) -> &Program<'m> {
        &self.program
    }
    /// The instruction set.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Computes every value of the recording, or those behind what [`Trainer::set_value`] has set. In train mode normalisations move their running statistics, and
    /// dropouts draw anew; not so where the root (the loss) is not finite: then it can be read, but nothing has
    /// moved, and a backward is refused.
    ///
    /// # Errors
    /// [`Error::InputNotSet`] before anything is computed; [`Error::TargetOutOfRange`]; [`Error::Stopped`];
    /// [`Error::StatisticsNotFinite`]. After each of them nothing has changed but that inputs must be set again; after
    /// the last one values can be read.
    pub fn forward(&mut self) -> Result<(), Error> {
        self.take_inputs()?;
        self.phase = Phase::Idle;
        self.began = self.begin.take();
        self.keep_moved();
        if self.program.flags().has(Flags::TRAIN) {
            self.set_forwards(self.forwards().wrapping_add(1));
        }
        let threads = self.threads.clone();
        let began = self.began;
        let walked = threads.enter(|| self.run(None, |run, program, watch| walk::forward(run, program, began, watch)));
        let phase = walked.and_then(|()| match self.root_not_finite() {
            Some(_) => Ok(Phase::NotFinite),
            None => self.check_moved().map(|()| Phase::Forward),
        });
        self.fresh = phase == Ok(Phase::Forward);
        if !self.fresh {
            self.take_back();
        }
        if let Err(Error::StatisticsNotFinite { .. }) = phase {
            self.phase = Phase::NotFinite;
        }
        self.phase = phase?;
        Ok(())
    }

    /// A number of the root that is not finite.
    fn root_not_finite(&self) -> Option<f32> {
        let (_, root) = self.program.value_of_node(self.program.root()?)?;
        self.block[root.place().range()].iter().copied().find(|v| !v.is_finite())
    }

    /// Hands everything that routines need to a walk.
    fn run<T>(&mut self, sgd: Option<&Optimizer>, walk: impl FnOnce(&mut Run, &Program, Watcher) -> Result<T, Error>) -> Result<T, Error> {
        let Trainer { program, block, level, threads, context, routines, counts, watch, .. } = self;
        let cpu = Cpu { level: *level, threads };
        let mut run = Run { cpu, memory: block, context: *context, routines: *routines, state: program.state(), counts: *counts, sgd };
        walk(&mut run, program, *watch)
    }

    /// Walks back from the root, which must be a single number, with the gradient 1: the gradient of
    /// every trainable parameter is written, or added to what was there since [`Trainer::zero_grad`].
    ///
    /// # Errors
    /// [`Error::BackwardBeforeForward`], [`Error::NothingToTrain`], [`Error::UpdateIsDuring`],
    /// [`Error::LossNotFinite`] where the root was not, [`Error::Length`] where the root is not one number;
    /// [`Error::SumsInMomentum`] where [`Trainer::accumulate`] is due.
    pub fn backward(&mut self) -> Result<(), Error> {
        self.backward_with(&[1.0])
    }

    /// The same with the root's gradient given, in PyTorch's order.
    ///
    /// # Errors
    /// As for [`Trainer::backward`].
    pub fn backward_with(&mut self, gradient: &[f32]) -> Result<(), Error> {
        if self.updates_during() {
            return Err(Error::UpdateIsDuring);
        }
        if self.sums_in_momentum() {
            return Err(Error::SumsInMomentum("call accumulate instead of backward"));
        }
        let walked = self.walk_back(gradient, None);
        match walked {
            Ok(()) => self.used_up = false,          // what is there is no longer the last step's alone
            Err(Error::Stopped) => self.zero_grad(), // some are new, some are not
            Err(_) => {}
        }
        walked
    }

    /// One of several micro-batches that make a step: walks back from the root, which must be a single number (a loss
    /// that is a mean), with the gradient `share`, and adds up. Then [`Trainer::step`] updates, and the next call of this
    /// function begins anew (after a [`Trainer::backward`] it adds to what is there). With micro-batches of equal size the
    /// share is 1 divided by how many there are: what PyTorch's loop `(loss / n).backward()` does; where they differ, the
    /// images of this one divided by all; of a loss with class weights, the sum of its images' weights divided by that of
    /// all. A normalisation sees micro-batches, as there.
    ///
    /// The gradients are added up in their own memory, or, in programs planned with
    /// [`Update::Summed`](nunatak_core::Update), in the momentum, which has the share of the old one and
    /// the weight decay then: PyTorch's formula, with sums in another order.
    ///
    /// # Errors
    /// Those of [`Trainer::backward`]; [`Error::NoMomentum`], [`Error::Sgd`] and [`Error::SumsInMomentum`] for settings that
    /// the program can't follow. [`Error::GradientNotFinite`], also from the step, says that nothing can come of this
    /// step: call [`Trainer::zero_grad`]. Where sums lie in the momentum, this also forgets the momentum of every
    /// parameter that was reached.
    pub fn accumulate<'o>(&mut self, share: f32, optimizer: impl Into<Optimizer<'o>>) -> Result<(), Error> {
        let optimizer = optimizer.into();
        self.check_step(optimizer)?;
        if self.used_up {
            self.zero_grad();
        }
        match self.sums_in_momentum() {
            true => self.walk_back(&[share], Some(&optimizer)),
            false => self.backward_with(&[share]),
        }
    }

    /// `backward`, `step`, and gradients forgotten: in one walk where the program updates during it (each
    /// parameter is updated as soon as its gradient is complete, whose memory is then used again), in
    /// three calls where it does not. The same bits either way.
    ///
    /// # Errors
    /// Those of [`Trainer::backward`] and [`Trainer::step`]. After [`Error::GradientNotFinite`] gradients are
    /// forgotten. Unless a parameter was updated before, nothing else has changed, and the statistics that the
    /// forward moved are what they were before it (where gradients are added up in the momentum, the momenta that were
    /// reached are forgotten); else [`Trainer::updated`] tells which ones were. Where the walk goes
    /// through a weight once for gradient, update and input (`stream`), inputs or gradients of results above 4e9 are
    /// refused too, since the weight's gradient, which lies nowhere, might not be finite.
    pub fn backward_and_step<'o>(&mut self, optimizer: impl Into<Optimizer<'o>>) -> Result<(), Error> {
        self.backward_with_and_step(&[1.0], optimizer)
    }

    /// The same with the root's gradient given, in PyTorch's order.
    ///
    /// # Errors
    /// As for [`Trainer::backward_and_step`].
    pub fn backward_with_and_step<'o>(&mut self, gradient: &[f32], optimizer: impl Into<Optimizer<'o>>) -> Result<(), Error> {
        let optimizer = optimizer.into();
        self.check_step(optimizer)?;
        let stepped = match self.updates_during() {
            true => self.walk_back(gradient, Some(&optimizer)),
            false if self.sums_in_momentum() => self.walk_back(gradient, Some(&optimizer)).and_then(|()| self.step(optimizer)),
            false => self.backward_with(gradient).and_then(|()| self.step(optimizer)),
        };
        match stepped {
            Ok(()) => self.fresh = false,
            Err(Error::GradientNotFinite { updated, .. }) => {
                if updated == 0 && self.fresh {
                    self.take_back();
                }
                (self.fresh, self.phase) = (false, Phase::Idle);
            }
            error => return error,
        }
        self.zero_grad();
        stepped
    }

    /// The parameters that were updated by the last [`Trainer::backward_and_step`] of a program that updates
    /// during the walk, also where it ended with an error.
    pub fn updated(&self) -> impl Iterator<Item = EntryId> + '_ {
        self.program.updates().filter(|id| self.has_mark(*id, crate::ops::UPDATED))
    }

    /// Whether parameters are updated during the backward walk.
    pub fn updates_during(&self) -> bool {
        self.program.flags().has(Flags::DURING)
    }

    /// Whether gradients are added up in the momentum: see [`Trainer::accumulate`].
    pub fn sums_in_momentum(&self) -> bool {
        self.program.flags().has(Flags::SUMMED)
    }

    /// Whether there is a backward walk.
    pub fn trains(&self) -> bool {
        self.program.backward().next().is_some()
    }

    /// Whether this program trains, and has the momentum that these settings ask for. Ask it before a
    /// forward: one whose step is then refused has moved the running statistics for nothing.
    ///
    /// # Errors
    /// [`Error::NothingToTrain`], [`Error::NoMomentum`], [`Error::Sgd`].
    pub fn check_step<'o>(&self, optimizer: impl Into<Optimizer<'o>>) -> Result<(), Error> {
        let optimizer = optimizer.into();
        if !self.trains() {
            return Err(Error::NothingToTrain);
        }
        self.program.updates().try_for_each(|id| self.check_settings(id, &optimizer))
    }

    /// Whether a parameter can be updated by these settings.
    fn check_settings(&self, id: EntryId, optimizer: &Optimizer) -> Result<(), Error> {
        let entry = self.program.entry(id);
        let settings = optimizer.of_entry(id, entry.name());
        settings.validate()?;
        if self.sums_in_momentum() && settings.nesterov {
            return Err(Error::SumsInMomentum("Nesterov's step needs the gradients apart"));
        }
        let needed = settings.momentum != 0.0 || self.sums_in_momentum();
        if needed && entry.momentum().is_none() { Err(Error::NoMomentum) } else { Ok(()) }
    }

    fn walk_back(&mut self, gradient: &[f32], optimizer: Option<&Optimizer>) -> Result<(), Error> {
        let (true, Some(root)) = (self.trains(), self.program.root()) else {
            return Err(Error::NothingToTrain);
        };
        match (self.phase, self.root_not_finite()) {
            (Phase::Forward, _) => {}
            (Phase::NotFinite, Some(loss)) => return Err(Error::LossNotFinite { loss }),
            _ => return Err(Error::BackwardBeforeForward),
        }
        let (_, value) = self.program.value_of_node(root).ok_or(Error::NothingToTrain)?;
        let [n, c, h, w] = value.shape();
        let shape = Shape::new(n, c, h, w)?;
        if gradient.len() != shape.len() {
            return Err(Error::Length { what: "the gradient of the root", expected: shape.len(), got: gradient.len() });
        }
        let to = value.gradient().ok_or(Error::NothingToTrain)?.range();
        Tensor::new(shape, gradient)?.to_channels_last(&mut self.block[to]);
        self.phase = Phase::Idle;
        let threads = self.threads.clone();
        threads.enter(|| self.run(optimizer, walk::backward))?;
        self.phase = Phase::Backward;
        Ok(())
    }

    /// Updates every parameter that has a gradient. The gradients stay: see [`Trainer::zero_grad`].
    ///
    /// # Errors
    /// [`Error::UpdateIsDuring`], [`Error::NoGradients`], [`Error::NoMomentum`], [`Error::Sgd`],
    /// [`Error::GradientNotFinite`], [`Error::SumsInMomentum`]; nothing has changed then.
    pub fn step<'o>(&mut self, optimizer: impl Into<Optimizer<'o>>) -> Result<(), Error> {
        let optimizer = optimizer.into();
        if self.updates_during() {
            return Err(Error::UpdateIsDuring);
        }
        if self.gradients().next().is_none() {
            return Err(Error::NoGradients);
        }
        self.gradients().try_for_each(|id| self.check_settings(id, &optimizer))?;
        self.check_gradients()?;
        self.fresh = false;
        self.used_up = true;
        let (threads, summed) = (self.threads.clone(), self.sums_in_momentum());
        threads.enter(|| {
            self.run(Some(&optimizer), |run, program, watch| {
                for id in program.updates() {
                    if *run.mark(id) & if summed { SUMMED } else { HAS_GRADIENT } != 0 {
                        let start = watch.now();
                        let settings = optimizer.of_entry(id, program.entry(id).name());
                        match summed {
                            true => run.update_by_momentum(program, id, &settings)?,
                            false => run.update(program, id, &settings)?,
                        }
                        watch.called_and(super::Event::Update(id), start, || watch.wrote(super::Event::Update(id), run, program, None));
                    }
                }
                Ok(())
            })
        })
    }

    /// Whether every gradient is finite.
    fn check_gradients(&self) -> Result<(), Error> {
        match self.gradients().find(|id| self.has_mark(*id, crate::ops::NOT_FINITE)) {
            Some(id) => Err(Error::GradientNotFinite { name: Name::of(self.program.entry(id).name()), updated: 0 }),
            None => Ok(()),
        }
    }

    /// Forgets all gradients: until the next backward a step leaves the parameters alone. Where gradients were added
    /// to momenta and no step has come since, those momenta are forgotten too.
    pub fn zero_grad(&mut self) {
        self.used_up = false;
        for id in self.program.entries() {
            let spoilt = self.has_mark(id, SUMMED);
            self.set_mark(id, HAS_GRADIENT | SUMMED | if spoilt { HAS_MOMENTUM } else { 0 }, false);
        }
    }

    /// The parameters that have a gradient now, or one in their momentum.
    pub fn gradients(&self) -> impl Iterator<Item = EntryId> + '_ {
        self.program.updates().filter(|id| self.has_mark(*id, HAS_GRADIENT | SUMMED))
    }

    /// Scales all gradients so that their common norm is at most `max_norm`; returns what it was.
    /// (PyTorch's `clip_grad_norm_`.)
    ///
    /// # Errors
    /// [`Error::GradientsNotKept`], [`Error::NoGradients`], [`Error::MaxNorm`], [`Error::GradientNotFinite`]; nothing
    /// has changed then.
    pub fn clip_grad_norm(&mut self, max_norm: f32) -> Result<f32, Error> {
        if self.updates_during() || self.sums_in_momentum() {
            return Err(Error::GradientsNotKept);
        }
        if self.gradients().next().is_none() {
            return Err(Error::NoGradients);
        }
        if max_norm.is_nan() || max_norm < 0.0 {
            return Err(Error::MaxNorm { max_norm });
        }
        self.check_gradients()?;
        let cpu = Cpu { level: self.level, threads: &self.threads };
        let mut scratch = [0.0_f64; 64];
        let scratch: &mut [f32] = bytemuck::cast_slice_mut(&mut scratch);
        let piece = (1..=20).map(|bits| 1_usize << bits).take_while(|&len| reduce::scratch_len(len) <= scratch.len()).last().unwrap_or(1);
        let mut squares = 0.0;
        for place in self.gradients().filter_map(|id| self.program.entry(id).gradient()) {
            // As PyTorch: a norm of norms, each rounded to f32.
            let sum: f64 = self.block[place.range()].chunks(piece).map(|part| reduce::sum_of_squares(&cpu, part, scratch)).sum();
            let norm = clip::norm(sum) as f32;
            squares += f64::from(norm) * f64::from(norm);
        }
        let total = clip::norm(squares);
        let factor = clip::coefficient(total, max_norm);
        for i in 0..self.program.entry_count() as u32 {
            let (id, block) = (EntryId(i), &mut self.block);
            let bytes: &[u8] = bytemuck::cast_slice(&block[self.program.state()]);
            let has = bytes[Program::marks(self.counts) + id.index()] & HAS_GRADIENT != 0;
            if let Some(place) = self.program.entry(id).gradient().filter(|_| has) {
                elementwise::scale_assign(&cpu, factor, &mut block[place.range()]);
            }
        }
        Ok(total as f32)
    }

    /// Copies a kept value in PyTorch's order.
    ///
    /// # Errors
    /// [`Error::NotKept`], [`Error::BackwardBeforeForward`] where nothing was computed yet, [`Error::NotComputed`],
    /// [`Error::Length`].
    pub fn value(&self, value: impl Into<nunatak_core::tape::ValueId>, out: &mut [f32]) -> Result<(), Error> {
        let value = self.door(value.into())?;
        if value.flags() & nunatak_core::program::ValueRecord::KEPT == 0 {
            return Err(Error::NotKept);
        }
        if self.phase == Phase::Idle {
            return Err(Error::BackwardBeforeForward);
        }
        if self.began.is_some_and(|began| value.node() < began) {
            return Err(Error::NotComputed);
        }
        self.copy_value(value.shape(), value.place(), out)
    }

    /// Copies the gradient of a value whose gradient is kept, in PyTorch's order.
    ///
    /// # Errors
    /// [`Error::NotKept`], [`Error::NoGradients`] where no backward was done, [`Error::Length`].
    pub fn value_gradient(&self, value: impl Into<nunatak_core::tape::ValueId>, out: &mut [f32]) -> Result<(), Error> {
        let value = self.door(value.into())?;
        let place = value.gradient().filter(|_| Some(value.node()) != self.program.root()).ok_or(Error::NotKept)?;
        if self.phase != Phase::Backward {
            return Err(Error::NoGradients);
        }
        self.copy_value(value.shape(), place, out)
    }

    fn copy_value(&self, [n, c, h, w]: [usize; 4], place: nunatak_core::program::Place, out: &mut [f32]) -> Result<(), Error> {
        let shape = Shape::new(n, c, h, w)?;
        if out.len() != shape.len() {
            return Err(Error::Length { what: "room for a value", expected: shape.len(), got: out.len() });
        }
        from_channels_last(shape, &self.block[place.range()], out);
        Ok(())
    }

    /// A kept value of one number: a loss.
    ///
    /// # Errors
    /// As for [`Trainer::value`].
    pub fn scalar(&self, value: impl Into<nunatak_core::tape::ValueId>) -> Result<f32, Error> {
        let mut out = [0.0];
        self.value(value, &mut out)?;
        Ok(out[0])
    }

    /// The loss, or an error that says it is not finite. Call it between forward and backward to
    /// stop a run before it is spoilt.
    ///
    /// # Errors
    /// As for [`Trainer::value`], and [`Error::LossNotFinite`].
    pub fn finite(&self, loss: impl Into<nunatak_core::tape::ValueId>) -> Result<f32, Error> {
        let loss = self.scalar(loss)?;
        if loss.is_finite() { Ok(loss) } else { Err(Error::LossNotFinite { loss }) }
    }
}
