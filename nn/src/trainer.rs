//! A planned step, bound to memory: forward, backward, step.

use crate::Error;
use crate::blueprint::Blueprint;
use crate::checkpoint::Native;
use crate::in_place;
use crate::lasting::{Lasting, Thing};
use crate::memory::Block;
use crate::op::Op;
use crate::optimizer::Optimizer;
use crate::params::MAX_NORMS;
use crate::watch::{Call, Watch};
use core::ops::Range;
use nunatak_core::arena::{self, ALIGN};
use nunatak_core::tensor::from_channels_last;
use nunatak_core::{ParamId, ParamSet, Tensor, Update, ValueId};
use nunatak_kernels::{Cpu, Level, Threads, clip, images, reduce};

/// Where the trainer stands between its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Nothing was computed, or it has been used up.
    Idle,
    /// Forward is done, its values are there.
    Forward,
    /// Backward is done too; kept values are there.
    Backward,
}

/// A network in the caller's memory, with a step that can be repeated.
///
/// Nothing is allocated by any of its functions (with one thread; several threads come from outside).
pub struct Trainer<'m> {
    pub(crate) blueprint: Blueprint,
    pub(crate) block: Block<'m>,
    /// Where frozen weights are read from.
    pub(crate) weights: Option<Native<'m>>,
    pub(crate) level: Level,
    pub(crate) threads: Threads,
    pub(crate) phase: Phase,
    /// Inputs that were set since the last forward, by node.
    inputs: [u64; crate::graph::MAX_NODES.div_ceil(64)],
    /// Parameters whose gradient exists.
    pub(crate) gradients: ParamSet,
    /// Parameters whose momentum exists.
    pub(crate) momenta: ParamSet,
    /// num_batches_tracked.
    pub(crate) tracked: [i64; MAX_NORMS],
    /// Who is told what took how long.
    pub(crate) watch: Option<&'m dyn Watch>,
}

impl<'m> Trainer<'m> {
    /// Binds a plan to memory. Parameters and statistics are undefined until they are initialised or
    /// loaded.
    ///
    /// # Errors
    /// [`Error::Core`] with `ArenaTooSmall` where `memory` has fewer than
    /// [`Blueprint::bytes`] bytes; [`Error::Length`] where there are more threads than planned;
    /// [`Error::NeedsWeights`] where the plan reads in place.
    pub fn new(blueprint: Blueprint, memory: &'m mut [u8], level: Level, threads: Threads) -> Result<Self, Error> {
        match blueprint.borrows() {
            true => Err(Error::NeedsWeights),
            false => Self::bound(blueprint, memory, &[], level, threads),
        }
    }

    /// The same with weights behind the block; `blueprint` knows what lies where in them.
    pub(crate) fn bound(
        blueprint: Blueprint,
        memory: &'m mut [u8],
        in_place: &'m [f32],
        level: Level,
        threads: Threads,
    ) -> Result<Self, Error> {
        check_threads(&blueprint, &threads)?;
        // The whole block is taken, so that a larger plan may follow where it fits.
        let whole = memory.len().saturating_sub(ALIGN - 1) / size_of::<f32>();
        let block = arena::numbers(memory, whole.max(blueprint.numbers()))?;
        Ok(Trainer {
            blueprint,
            block: Block::new(block, in_place),
            weights: None,
            level,
            threads,
            phase: Phase::Idle,
            inputs: Default::default(),
            gradients: ParamSet::EMPTY,
            momenta: ParamSet::EMPTY,
            tracked: [0; MAX_NORMS],
            watch: None,
        })
    }

    /// Goes on with another plan in the same memory: more or less frozen, another head, another
    /// batch, evaluation. Parameters, statistics and momentum of what both plans have survive;
    /// gradients do not. A head of another size is zero until it is initialised or set. What is in the
    /// block stays there, frozen or not; what was read in place and is trained now is copied there.
    ///
    /// # Errors
    /// [`Error::Core`] with `ArenaTooSmall` where the new plan does not fit, [`Error::OtherNetwork`]
    /// where it is for another network: then nothing has changed.
    pub fn switch(&mut self, mut new: Blueprint) -> Result<(), Error> {
        check_threads(&new, &self.threads)?;
        let old = &self.blueprint;
        new.hold(old)?;
        if let Some(weights) = &self.weights {
            in_place::bind(&mut new, weights)?;
        }
        let given = arena::block_bytes(self.block.len());
        if new.numbers() > self.block.len() {
            return Err(nunatak_core::Error::ArenaTooSmall { needed: new.bytes(), given }.into());
        }
        if new.network.recipe().with_classes(0) != old.network.recipe().with_classes(0) {
            return Err(Error::OtherNetwork);
        }
        let same_head = new.network.recipe().classes == old.network.recipe().classes;
        let head = old.network.head();
        let survives = |thing: &Thing| match thing {
            Thing::Param(id) | Thing::Momentum(id) => same_head || !head.contains(*id),
            Thing::Statistics(_) => true,
        };
        let moves = |thing: Thing| -> Option<(Range<usize>, Range<usize>)> {
            let from = old.lasting.place(&old.network, thing);
            let to = new.lasting.place(&new.network, thing);
            (survives(&thing) && !from.is_empty() && !to.is_empty()).then_some((from, to))
        };
        // Both regions have the same order. What moves down goes first, from the front; what moves up
        // goes last, from the back: so nothing is overwritten before it has moved.
        if same_head || old.network.recipe().classes * new.network.recipe().classes > 0 {
            for (from, to) in Lasting::things(&old.network).filter_map(moves).filter(|(from, to)| to.start < from.start) {
                self.block.copy_within(from, to.start);
            }
            for (from, to) in Lasting::things(&old.network).rev().filter_map(moves).filter(|(from, to)| to.start > from.start) {
                self.block.copy_within(from, to.start);
            }
        } else {
            return Err(Error::OtherNetwork); // a head appears or vanishes: numbers of things change
        }
        if !same_head {
            for id in new.network.head().iter() {
                self.block[new.lasting.param(&new.network, id)].fill(0.0);
            }
        }
        let lost = |id: ParamId| head.contains(id) && !same_head;
        for id in self.momenta.iter() {
            if lost(id) || !new.trainable.contains(id) || new.lasting.momentum(&new.network, id).is_empty() {
                self.momenta.remove(id);
            }
        }
        let before = self.blueprint.lasting.held;
        self.blueprint = new;
        self.copy_from_weights(&before);
        self.phase = Phase::Idle;
        self.inputs = Default::default();
        self.gradients = ParamSet::EMPTY;
        Ok(())
    }

    /// The plan.
    pub fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }
    /// The instruction set.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Where the passing region begins.
    pub(crate) fn base(&self) -> usize {
        self.blueprint.lasting.len()
    }
    /// A range of the passing region, in the block.
    pub(crate) fn passing(&self, range: Range<usize>) -> Range<usize> {
        let base = self.base();
        range.start + base..range.end + base
    }

    /// Sets an input tensor, given in PyTorch's order n, c, h, w.
    ///
    /// # Errors
    /// [`Error::NotAnInput`], [`Error::Length`].
    pub fn set_input(&mut self, value: impl Into<ValueId>, data: &[f32]) -> Result<(), Error> {
        let value = value.into();
        let node = self.blueprint.tape.node(value)?;
        let Op::Input = node.op else { return Err(Error::NotAnInput) };
        let shape = node.shape;
        if data.len() != shape.len() {
            return Err(Error::Length { what: "an input", expected: shape.len(), got: data.len() });
        }
        let start = self.now();
        let to = self.passing(self.blueprint.plan.value(value));
        let threads = self.threads.clone();
        let cpu = Cpu { level: self.level, threads: &threads };
        images::to_channels_last(&cpu, shape.c(), shape.h() * shape.w(), data, &mut self.block[to]);
        self.called(Call::Input(value), start);
        self.mark_input(value);
        Ok(())
    }

    /// Sets images from bytes, which lie n, h, w, c as decoders give them: each becomes
    /// `(byte / 255 - mean[c]) / std[c]`, as torchvision's ToTensor and Normalize make it.
    ///
    /// # Errors
    /// [`Error::NotAnInput`]; [`Error::Length`], also where `mean` or `std` has not one number for each
    /// channel.
    pub fn set_input_bytes(&mut self, value: impl Into<ValueId>, pixels: &[u8], mean: &[f32], std: &[f32]) -> Result<(), Error> {
        let value = value.into();
        let node = self.blueprint.tape.node(value)?;
        let Op::Input = node.op else { return Err(Error::NotAnInput) };
        let shape = node.shape;
        for (what, expected, got) in
            [("an input", shape.len(), pixels.len()), ("means", shape.c(), mean.len()), ("deviations", shape.c(), std.len())]
        {
            if got != expected {
                return Err(Error::Length { what, expected, got });
            }
        }
        let start = self.now();
        let to = self.passing(self.blueprint.plan.value(value));
        let threads = self.threads.clone();
        let cpu = Cpu { level: self.level, threads: &threads };
        images::normalise_bytes(&cpu, pixels, mean, std, &mut self.block[to]);
        self.called(Call::Input(value), start);
        self.mark_input(value);
        Ok(())
    }

    /// Sets class indices.
    ///
    /// # Errors
    /// [`Error::NotAnInput`], [`Error::Length`].
    pub fn set_labels(&mut self, value: impl Into<ValueId>, labels: &[i64]) -> Result<(), Error> {
        let value = value.into();
        let node = self.blueprint.tape.node(value)?;
        let Op::Labels = node.op else { return Err(Error::NotAnInput) };
        let n = node.shape.n();
        if labels.len() != n {
            return Err(Error::Length { what: "labels", expected: n, got: labels.len() });
        }
        let start = self.now();
        let to = self.passing(self.blueprint.plan.value(value));
        bytemuck::cast_slice_mut::<f32, i64>(&mut self.block[to]).copy_from_slice(labels);
        self.called(Call::Input(value), start);
        self.mark_input(value);
        Ok(())
    }

    fn mark_input(&mut self, value: ValueId) {
        self.inputs[value.index() / 64] |= 1 << (value.index() % 64);
        self.phase = Phase::Idle;
    }

    /// Computes every value of the recording. Normalisations in train mode move their running
    /// statistics.
    ///
    /// # Errors
    /// [`Error::InputNotSet`] before anything is computed; [`Error::TargetOutOfRange`].
    pub fn forward(&mut self) -> Result<(), Error> {
        let nodes = self.blueprint.tape.nodes();
        for (i, node) in nodes.iter().enumerate() {
            let set = self.inputs[i / 64] >> (i % 64) & 1 == 1;
            if matches!(node.op, Op::Input | Op::Labels) && !set {
                return Err(Error::InputNotSet { value: i });
            }
        }
        self.phase = Phase::Idle;
        self.inputs = Default::default();
        let threads = self.threads.clone();
        threads.enter(|| self.forward_walk())?;
        self.phase = Phase::Forward;
        Ok(())
    }

    /// Walks back from the root, which must be a single number, with the gradient 1: the gradient of
    /// every trainable parameter is written, or added to what was there since [`Trainer::zero_grad`].
    ///
    /// # Errors
    /// [`Error::BackwardBeforeForward`], [`Error::NothingToTrain`], [`Error::UpdateIsDuring`],
    /// [`Error::Length`] where the root is not one number.
    pub fn backward(&mut self) -> Result<(), Error> {
        self.backward_with(&[1.0])
    }

    /// The same with the root's gradient given, in PyTorch's order.
    ///
    /// # Errors
    /// As for [`Trainer::backward`].
    pub fn backward_with(&mut self, gradient: &[f32]) -> Result<(), Error> {
        if self.blueprint.options.update == Update::During {
            return Err(Error::UpdateIsDuring);
        }
        self.walk_back(gradient, None)
    }

    /// `backward`, `step`, and gradients forgotten: in one walk where the plan updates during it (each
    /// parameter is updated as soon as its gradient is complete, whose memory is then used again), in
    /// three calls where it does not. The same bits either way.
    ///
    /// # Errors
    /// Those of [`Trainer::backward`] and [`Trainer::step`].
    pub fn backward_and_step(&mut self, optimizer: &Optimizer) -> Result<(), Error> {
        self.check_step(optimizer)?;
        match self.blueprint.options.update {
            Update::During => self.walk_back(&[1.0], Some(optimizer)),
            Update::After => {
                self.backward()?;
                self.step(optimizer)?;
                self.zero_grad();
                Ok(())
            }
        }
    }

    /// Whether this plan trains, and has the momentum that these settings ask for. Ask it before a
    /// forward: one whose step is then refused has moved the running statistics for nothing.
    ///
    /// # Errors
    /// [`Error::NothingToTrain`], [`Error::NoMomentum`].
    pub fn check_step(&self, optimizer: &Optimizer) -> Result<(), Error> {
        if !self.blueprint.trains() {
            return Err(Error::NothingToTrain);
        }
        self.check_momentum(optimizer, self.blueprint.needs.params(&self.blueprint.tape))
    }

    fn walk_back(&mut self, gradient: &[f32], optimizer: Option<&Optimizer>) -> Result<(), Error> {
        let (true, Some(root)) = (self.blueprint.trains(), self.blueprint.needs.root()) else {
            return Err(Error::NothingToTrain);
        };
        if self.phase != Phase::Forward {
            return Err(Error::BackwardBeforeForward);
        }
        let shape = self.blueprint.tape.node(root)?.shape;
        if gradient.len() != shape.len() {
            return Err(Error::Length { what: "the gradient of the root", expected: shape.len(), got: gradient.len() });
        }
        let to = self.passing(self.blueprint.plan.gradient(root));
        Tensor::new(shape, gradient)?.to_channels_last(&mut self.block[to]);
        self.phase = Phase::Idle;
        let threads = self.threads.clone();
        threads.enter(|| self.backward_walk(optimizer))?;
        self.phase = Phase::Backward;
        Ok(())
    }

    /// Updates every parameter that has a gradient. The gradients stay: see [`Trainer::zero_grad`].
    ///
    /// # Errors
    /// [`Error::UpdateIsDuring`], [`Error::NoGradients`], [`Error::NoMomentum`].
    pub fn step(&mut self, optimizer: &Optimizer) -> Result<(), Error> {
        if self.blueprint.options.update == Update::During {
            return Err(Error::UpdateIsDuring);
        }
        if self.gradients.is_empty() {
            return Err(Error::NoGradients);
        }
        self.check_momentum(optimizer, self.gradients)?;
        let threads = self.threads.clone();
        threads.enter(|| self.gradients.iter().try_for_each(|id| self.update(id, optimizer)))
    }

    fn check_momentum(&self, optimizer: &Optimizer, params: ParamSet) -> Result<(), Error> {
        if params.iter().any(|id| optimizer.of(id).momentum != 0.0 && !self.blueprint.plans_momentum(id)) {
            return Err(Error::NoMomentum);
        }
        Ok(())
    }

    /// Forgets all gradients: until the next backward a step leaves the parameters alone.
    pub fn zero_grad(&mut self) {
        self.gradients = ParamSet::EMPTY;
    }

    /// The parameters that have a gradient now.
    pub fn gradients(&self) -> ParamSet {
        self.gradients
    }

    /// Scales all gradients so that their common norm is at most `max_norm`; returns what it was.
    /// (PyTorch's `clip_grad_norm_`.)
    ///
    /// # Errors
    /// [`Error::GradientsNotKept`], [`Error::NoGradients`], [`Error::MaxNorm`].
    pub fn clip_grad_norm(&mut self, max_norm: f32) -> Result<f32, Error> {
        if self.blueprint.options.update == Update::During {
            return Err(Error::GradientsNotKept);
        }
        if self.gradients.is_empty() {
            return Err(Error::NoGradients);
        }
        if max_norm.is_nan() || max_norm < 0.0 {
            return Err(Error::MaxNorm { max_norm });
        }
        let threads = self.threads.clone();
        let cpu = Cpu { level: self.level, threads: &threads };
        let mut scratch = [0.0_f64; 64];
        let scratch: &mut [f32] = bytemuck::cast_slice_mut(&mut scratch);
        let piece = (1..=20).map(|bits| 1_usize << bits).take_while(|&len| reduce::scratch_len(len) <= scratch.len()).last().unwrap_or(1);
        let mut squares = 0.0;
        for id in self.gradients.iter() {
            let gradient = self.passing(self.blueprint.plan.param_gradient(id));
            // As PyTorch: a norm of norms, each rounded to f32.
            let sum: f64 = self.block[gradient].chunks(piece).map(|part| reduce::sum_of_squares(&cpu, part, scratch)).sum();
            let norm = clip::norm(sum) as f32;
            squares += f64::from(norm) * f64::from(norm);
        }
        let total = clip::norm(squares);
        let factor = clip::coefficient(total, max_norm);
        for id in self.gradients.iter() {
            let gradient = self.passing(self.blueprint.plan.param_gradient(id));
            nunatak_kernels::elementwise::scale_assign(&cpu, factor, &mut self.block[gradient]);
        }
        Ok(total as f32)
    }

    /// Copies a kept value in PyTorch's order.
    ///
    /// # Errors
    /// [`Error::NotKept`], [`Error::BackwardBeforeForward`] where nothing was computed yet,
    /// [`Error::Length`].
    pub fn value(&self, value: impl Into<ValueId>, out: &mut [f32]) -> Result<(), Error> {
        let value = value.into();
        let shape = self.blueprint.tape.node(value)?.shape;
        if !self.blueprint.keeps(value) {
            return Err(Error::NotKept);
        }
        if self.phase == Phase::Idle {
            return Err(Error::BackwardBeforeForward);
        }
        if out.len() != shape.len() {
            return Err(Error::Length { what: "room for a value", expected: shape.len(), got: out.len() });
        }
        from_channels_last(shape, &self.block[self.passing(self.blueprint.plan.value(value))], out);
        Ok(())
    }

    /// A kept value of one number: a loss.
    ///
    /// # Errors
    /// As for [`Trainer::value`].
    pub fn scalar(&self, value: impl Into<ValueId>) -> Result<f32, Error> {
        let mut out = [0.0];
        self.value(value, &mut out)?;
        Ok(out[0])
    }

    /// The loss, or an error that says it is not finite. Call it between forward and backward to
    /// stop a run before it is spoilt.
    ///
    /// # Errors
    /// As for [`Trainer::value`], and [`Error::LossNotFinite`].
    pub fn finite(&self, loss: impl Into<ValueId>) -> Result<f32, Error> {
        let loss = self.scalar(loss)?;
        if loss.is_finite() { Ok(loss) } else { Err(Error::LossNotFinite { loss }) }
    }
}

fn check_threads(blueprint: &Blueprint, threads: &Threads) -> Result<(), Error> {
    let planned = blueprint.options.threads.max(1);
    if threads.count() > planned {
        return Err(Error::Length { what: "threads (the plan has scratch for so many)", expected: planned, got: threads.count() });
    }
    Ok(())
}
