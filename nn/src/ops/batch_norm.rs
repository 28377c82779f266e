//! Batch normalisation, with a residual and relu in the same pass where they were fused.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Attribute, Nodes, OnnxError};
use crate::ops::{Choice, Chosen, Context, Entries, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, Shorter, lend};
use crate::record::{Declaration, Init, Layout, Parameter, Scope, Var};
use nunatak_core::Shape;
use nunatak_core::arena::UNIT;
use nunatak_core::program::{Call, EntryKind, Numbers, Place, Writer};
use nunatak_core::tape::{EntryId, Reads};
use nunatak_kernels::batchnorm::{self as kernel, fused};
use nunatak_kernels::conv2d::Activation;
use nunatak_kernels::{Pass, elementwise};

use super::conv2d::moments_len;

/// A batch normalisation to be recorded: PyTorch's `BatchNorm2d`, with its defaults.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    eps: f32,
    momentum: Option<f32>,
    gamma: Init,
    affine: bool,
    shared: bool,
}

impl Default for Norm {
    /// eps 1e-5, momentum 0.1.
    fn default() -> Norm {
        Norm { eps: 1e-5, momentum: Some(0.1), gamma: Init::Constant(1.0), affine: true, shared: false }
    }
}

impl Norm {
    /// What is added to the variance.
    pub const fn eps(mut self, eps: f32) -> Norm {
        self.eps = eps;
        self
    }
    /// How far a batch moves the running statistics: `new = (1 - momentum)·old + momentum·batch`; `None`: the
    /// mean over all batches.
    pub const fn momentum(mut self, momentum: Option<f32>) -> Norm {
        self.momentum = momentum;
        self
    }
    /// What gamma begins with, instead of 1.
    pub const fn gamma(mut self, gamma: f32) -> Norm {
        self.gamma = Init::Constant(gamma);
        self
    }
    /// Without parameters: gamma is 1, beta is 0, and neither is in the state dict. (PyTorch's `affine=False`.)
    pub const fn no_affine(mut self) -> Norm {
        self.affine = false;
        self
    }
    /// Uses the parameters and statistics that this name has already, instead of new ones.
    pub const fn shared(mut self) -> Norm {
        self.shared = true;
        self
    }
}

impl<'g> Scope<'g> {
    /// Records a normalisation of `x` (n, c, h, w) over all but its channels, with parameters `name.weight` and
    /// `name.bias`, buffers `name.running_mean`, `name.running_var` and `name.num_batches_tracked`.
    ///
    /// Whether it uses the batch's statistics is decided when the step is planned: train or eval mode, and
    /// what is done with frozen ones.
    pub fn batch_norm(self, name: &str, x: Var<'g>, norm: Norm) -> Var<'g> {
        let (s, zero) = (x.shape(), Init::Constant(0.0));
        let parameter = |leaf, shape: &[usize], layout| {
            let one = Parameter { name, leaf, shape, layout, fan_in: 0, draw: self.draw(None), shared: norm.shared };
            Declaration::parameter(self, one)
        };
        let declared = |leaf, kind, init| self.declare(&Declaration { kind, init, ..parameter(leaf, &[s.c()], Layout::Plain) });
        let affine = |leaf, init| norm.affine.then(|| declared(leaf, EntryKind::Parameter, init));
        let (gamma, beta) = (affine("weight", norm.gamma), affine("bias", zero));
        let mean = declared("running_mean", EntryKind::RunningMean, zero);
        let var = declared("running_var", EntryKind::RunningVar, Init::Constant(1.0));
        let count = parameter("num_batches_tracked", &[], Layout::Count);
        let count = self.declare(&Declaration { kind: EntryKind::Count, init: zero, ..count });
        let fits = |v: f32| v.is_finite() && v >= 0.0;
        let shape = match fits(norm.eps) && norm.momentum.is_none_or(|m| fits(m) && m <= 1.0) {
            true => Ok(s),
            false => Err(Error::Norm { eps: norm.eps, momentum: norm.momentum.unwrap_or(0.0) }),
        };
        let size = kernel::BatchNorm { rows: s.rows(), channels: s.c(), eps: norm.eps };
        let op =
            BatchNorm { size, momentum: norm.momentum, gamma, beta, mean, var, count, batch: true, tables: false, then: Then::default() };
        self.record(Op::BatchNorm(op), &[x], shape)
    }
}

/// A normalisation on the tape; its second input, if there is one, is a residual that is added.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchNorm {
    pub(crate) size: kernel::BatchNorm,
    pub(crate) momentum: Option<f32>,
    pub(crate) gamma: Option<EntryId>,
    pub(crate) beta: Option<EntryId>,
    pub(crate) mean: EntryId,
    pub(crate) var: EntryId,
    pub(crate) count: EntryId,
    /// Statistics of the batch (which also move the running ones), or the running ones.
    pub(crate) batch: bool,
    /// Saves the tables of scale and shift too, so that the result can be computed again without statistics.
    pub(crate) tables: bool,
    /// What follows in the same pass.
    pub(crate) then: Then,
}

/// What a normalisation does besides, in the same pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Then {
    /// Adds the second input.
    pub(crate) add: bool,
    /// Then a function of each number.
    pub(crate) activation: Activation,
    /// Takes the batch's statistics from what the convolution before it left behind its output.
    pub(crate) moments: bool,
}

impl Then {
    pub(crate) const fn relu(self) -> bool {
        matches!(self.activation, Activation::Relu)
    }
    /// A name by addition and activation.
    pub(crate) const fn choose(self, names: [[&'static str; 4]; 2]) -> &'static str {
        let [none, relu, relu6, hardswish] = names[self.add as usize];
        match self.activation {
            Activation::None => none,
            Activation::Relu => relu,
            Activation::Relu6 => relu6,
            Activation::Hardswish => hardswish,
        }
    }
    const fn fused(self, residual: &[f32]) -> fused::Then<'_> {
        fused::Then { residual: if self.add { Some(residual) } else { None }, relu: self.relu() }
    }
}

impl BatchNorm {
    /// Whether backward computes anew where relu let dy through: from x, which it reads anyway, and what
    /// forward saved. A residual is not in x.
    const fn recomputes_relu(&self) -> bool {
        self.batch && self.then.relu() && !self.then.add
    }

    /// Numbers for each channel that backward reads: the first of those that are saved.
    const fn read_per_channel(&self) -> usize {
        if self.recomputes_relu() { 4 } else { 2 }
    }
    /// Numbers for each channel that forward saves.
    const fn saved_per_channel(&self) -> usize {
        if self.tables { 4 } else { self.read_per_channel() }
    }

    fn backward_reads(&self, x: bool) -> Reads {
        Reads { x: x.into(), y: self.then.relu() && !self.recomputes_relu(), saved: self.batch }
    }

    /// How many parameters it has.
    const fn parameters(&self) -> usize {
        if self.gamma.is_some() { 2 } else { 0 }
    }

    /// The places of gamma, beta, mean and variance in a call, whose entries begin at a position.
    pub(crate) fn places(&self, call: &Call, first: usize) -> [Place; 4] {
        let own = self.parameters();
        let parameter = |i: usize| if i < own { call.param(first + i) } else { Place::default() };
        [parameter(0), parameter(1), call.param(first + own), call.param(first + own + 1)]
    }

    /// The number of its count of batches among the counts.
    pub(crate) fn count_of(&self, call: &Call) -> u32 {
        call.param(self.parameters() + 2).unit
    }

    /// Room at the front of the scratch for a gamma of ones and a beta of zeros, where there are no parameters.
    pub(crate) const fn affine_room(&self) -> usize {
        if self.gamma.is_some() { 0 } else { (2 * self.size.channels).next_multiple_of(UNIT) }
    }

    /// Gamma and beta: as they were lent, or made in their room of the scratch.
    pub(crate) fn affine<'a>(&self, gamma: &'a [f32], beta: &'a [f32], room: &'a mut [f32]) -> [&'a [f32]; 2] {
        if self.gamma.is_some() {
            return [gamma, beta];
        }
        let (ones, zeros) = room[..2 * self.size.channels].split_at_mut(self.size.channels);
        ones.fill(1.0);
        zeros.fill(0.0);
        [ones, zeros]
    }

    /// The parts of the scratch in backward: room for gamma and beta, the two sums per channel, the rest.
    pub(crate) fn rooms<'a>(&self, scratch: &'a mut [f32]) -> [&'a mut [f32]; 3] {
        let (affine, scratch) = scratch.split_at_mut(self.affine_room());
        let (sums, scratch) = scratch.split_at_mut(sums_room(&self.size));
        [affine, &mut sums[..2 * self.size.channels], scratch]
    }

    /// Reads the numbers, whose entries begin at a position of the call.
    pub(crate) fn read_from(numbers: &mut Numbers, call: &Call, first: usize) -> Result<BatchNorm, Misfit> {
        let size = kernel::BatchNorm { rows: numbers.size(), channels: numbers.size(), eps: numbers.float() };
        let momentum = if numbers.flag() { Some(numbers.float()) } else { None };
        let (statistics, add, activation, moments) = (numbers.word(), numbers.flag(), numbers.word(), numbers.flag());
        let (batch, tables) = match statistics {
            0 => (false, false),
            1 => (true, false),
            3 => (true, true),
            _ => return Err("statistics that there are not"),
        };
        let affine = numbers.flag();
        let own = if affine { 2 } else { 0 };
        let activation = match activation {
            0 => Activation::None,
            1 => Activation::Relu,
            2 if first > 0 => Activation::Relu6,
            3 if first > 0 => Activation::Hardswish,
            _ => return Err("an activation that there is not here"),
        };
        if nunatak_core::Shape::new(size.rows, size.channels, 1, 1).is_err() || batch && size.rows < 2 {
            return Err("sizes that are no normalisation's");
        }
        if !(size.eps.is_finite() && size.eps >= 0.0) || call.entry_count() < first + own + 2 + usize::from(batch) || first > 0 && batch {
            return Err("an eps that is none, or too few entries");
        }
        let entry = |i: usize| call.entry(first + i);
        let (gamma, beta) = (affine.then(|| entry(0)), affine.then(|| entry(1)));
        let count = if batch { entry(own + 2) } else { EntryId(0) };
        let then = Then { add, activation, moments };
        if call.is_again() && batch && !tables {
            return Err("a normalisation that is computed again, and did not save its tables");
        }
        Ok(BatchNorm { size, momentum, gamma, beta, mean: entry(own), var: entry(own + 1), count, batch, tables, then })
    }
}

/// Room for a normalisation's two sums per channel, so that what follows is aligned.
pub(crate) const fn sums_room(size: &kernel::BatchNorm) -> usize {
    (2 * size.channels).next_multiple_of(UNIT)
}

impl Facts for BatchNorm {
    fn name(&self) -> &'static str {
        self.then.choose([
            ["batchnorm", "batchnorm+relu", "batchnorm+relu6", "batchnorm+hardswish"],
            ["batchnorm+add", "batchnorm+add+relu", "batchnorm+add+relu6", "batchnorm+add+hardswish"],
        ])
    }
    fn choose(&mut self, choice: &Choice, shape: Shape) -> Result<Chosen, Error> {
        self.batch = choice.batch_statistics([self.gamma, self.beta]);
        if self.batch && self.size.rows == 1 {
            return Err(Error::OneValuePerChannel { shape: shape.sizes() });
        }
        Ok(Chosen::Computes)
    }
    fn backward_is(&mut self, _: bool) {}
    fn repeat(&mut self) -> bool {
        self.tables = self.batch;
        true
    }
    fn entries(&self) -> Entries {
        Entries::new(&[self.gamma, self.beta], &[Some(self.mean), Some(self.var), self.batch.then_some(self.count)])
    }
    #[cfg(feature = "std")]
    fn renumber(&mut self, number: &dyn Fn(EntryId) -> EntryId) {
        (self.gamma, self.beta) = (self.gamma.map(number), self.beta.map(number));
        (self.mean, self.var, self.count) = (number(self.mean), number(self.var), number(self.count));
    }
    fn backward_input_reads(&self) -> Reads {
        // Through the batch's statistics x comes back; running statistics are constants.
        self.backward_reads(self.batch)
    }
    fn backward_weight_reads(&self) -> Reads {
        self.backward_reads(true)
    }
    fn differentiable(&self, _: usize) -> bool {
        true
    }
    fn overwrites(&self, input: usize) -> bool {
        input == 0
    }
    fn gradient_overwrites(&self, _: usize) -> bool {
        true
    }
    fn accumulates(&self, input: usize) -> bool {
        input == 1 // a residual's gradient is dy
    }
    fn steps(&self, _: usize) -> bool {
        false
    }
    fn attached_len(&self) -> usize {
        0
    }
    fn reads_attached(&self) -> usize {
        if self.then.moments { moments_len(self.size.channels) } else { 0 }
    }
    fn saved_len(&self, _: &Context) -> usize {
        if self.batch { self.saved_per_channel() * self.size.channels } else { 0 }
    }
    fn forward_scratch_len(&self, context: &Context) -> usize {
        self.affine_room() + self.size.scratch_len(context.threads)
    }
    fn backward_scratch_len(&self, context: &Context, _: bool, _: bool) -> usize {
        // Gamma and beta, and the sums, come first in the scratch, in rooms of whole units.
        self.affine_room() + sums_room(&self.size) + self.size.scratch_len(context.threads)
    }
    fn flops(&self) -> u64 {
        0
    }
    fn algorithm(&self, _: Pass) -> &'static str {
        "-"
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        out.size(self.size.rows)?;
        out.size(self.size.channels)?;
        out.float(self.size.eps)?;
        out.word(u32::from(self.momentum.is_some()))?;
        if let Some(momentum) = self.momentum {
            out.float(momentum)?;
        }
        let activation = match self.then.activation {
            Activation::None => 0,
            Activation::Relu => 1,
            Activation::Relu6 => 2,
            Activation::Hardswish => 3,
        };
        let statistics = u32::from(self.batch) | u32::from(self.tables) << 1;
        let flags = [statistics, self.then.add.into(), activation, self.then.moments.into(), self.gamma.is_some().into()];
        flags.into_iter().try_for_each(|word| out.word(word))
    }
    fn read(call: &Call) -> Result<BatchNorm, Misfit> {
        Self::read_from(&mut call.numbers(), call, 0)
    }
    fn lengths(&self) -> Lengths<'_> {
        let (len, c) = (self.size.rows * self.size.channels, Some(self.size.channels));
        let own = self.gamma.and(c);
        let entries = [own, own, c, c, self.batch.then_some(0)];
        Lengths { x: Inputs::Few([Some(len), self.then.add.then_some(len), None]), y: len, entries }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        if self.then != Then::default() {
            return Err(nodes.refused("it is made by fusing, and no recording has it"));
        }
        let x = nodes.x(0);
        let channels = self.size.channels;
        let gamma = match self.gamma {
            Some(gamma) => nodes.entry(gamma)?,
            None => nodes.numbers("weight", &[channels], &std::vec![1.0; channels]),
        };
        let beta = match self.beta {
            Some(beta) => nodes.entry(beta)?,
            None => nodes.numbers("bias", &[channels], &std::vec![0.0; channels]),
        };
        let (mean, var) = (nodes.entry(self.mean)?, nodes.entry(self.var)?);
        let eps = [Attribute::Float("epsilon", self.size.eps)];
        nodes.result(x.form, "BatchNormalization", &[&x.name, &gamma, &beta, &mean, &var], &eps);
        Ok(())
    }
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };
pub(crate) static BACKWARD_WEIGHT: Routine = Routine { part: Part::BackwardWeight, run: backward_weight };
pub(crate) static BACKWARD_INPUT: Routine = Routine { part: Part::BackwardInput, run: backward_input };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = BatchNorm::read(call)?;
    let (size, then) = (op.size, op.then);
    let in_place = call.x(0) == call.y();
    let (x, residual) = (call.x(0).when(!in_place), call.x(1).when(then.add));
    let [gamma, beta, mean, var] = op.places(call, 0);
    if op.batch && call.is_again() {
        let ([x, residual, saved], [y, scratch]) = lend(run.memory, [x, residual, call.saved()], [call.y(), call.scratch()])?;
        let (_, scratch) = scratch.split_at_mut(op.affine_room());
        let tensors = kernel::ForwardAgain { x: (!in_place).then_some(x), saved: &saved[..4 * size.channels], y, scratch };
        fused::forward_again(&run.cpu, &size, then.fused(residual), tensors);
    } else if op.batch {
        let factor = run.statistics_factor(op.count_of(call), op.momentum);
        let reads = [x, residual, call.attached().when(then.moments), gamma, beta];
        let writes = [call.y(), call.saved(), call.scratch(), mean, var];
        let ([x, residual, moments, gamma, beta], [y, saved, scratch, mean, var]) = lend(run.memory, reads, writes)?;
        let (affine, scratch) = scratch.split_at_mut(op.affine_room());
        let [gamma, beta] = op.affine(gamma, beta, affine);
        let saved = &mut saved[..op.saved_per_channel() * size.channels];
        let (x, moments) = ((!in_place).then_some(x), then.moments.then(|| bytemuck::cast_slice(moments)));
        let running = kernel::Moving { mean, var, factor };
        let tensors = kernel::ForwardBatch { x, moments, gamma, beta, running, y, saved, scratch };
        fused::forward_batch(&run.cpu, &size, then.fused(residual), tensors);
    } else {
        let reads = [x, residual, gamma, beta, mean, var];
        let ([x, residual, gamma, beta, mean, var], [y, scratch]) = lend(run.memory, reads, [call.y(), call.scratch()])?;
        let (affine, scratch) = scratch.split_at_mut(op.affine_room());
        let [gamma, beta] = op.affine(gamma, beta, affine);
        let x = (!in_place).then_some(x);
        let tensors = kernel::ForwardRunning { x, gamma, beta, running: kernel::Running { mean, var }, y, scratch };
        fused::forward_running(&run.cpu, &size, then.fused(residual), tensors);
    }
    Ok(())
}

/// The two sums per channel, into the front of the scratch, and from there the parameters' gradients. Behind a
/// relu whose result tells where dy went through, dy becomes zero elsewhere.
fn backward_weight(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    sums(run, call, &BatchNorm::read(call)?)?;
    parameter_gradients(run, call)
}

/// Copies the sums that stand at the front of the scratch to where the gradients of gamma and beta belong.
pub(crate) fn parameter_gradients(run: &mut Run, call: &Call) -> Result<(), Error> {
    for position in (0..2).filter(|i| call.wants_weight(*i)) {
        let add = run.has_gradient(call.entry(position));
        let to = run.gradient(call, position)?;
        let ([sums], [to]) = lend(run.memory, [call.scratch()], [to])?;
        let from = &sums[position * to.len()..][..to.len()];
        match add {
            true => elementwise::add_assign(&run.cpu, from, to),
            false => to.copy_from_slice(from),
        }
    }
    Ok(())
}

fn sums(run: &mut Run, call: &Call, op: &BatchNorm) -> Result<(), Error> {
    let (cpu, size) = (&run.cpu, &op.size);
    let numbers = op.read_per_channel() * size.channels;
    let (x, y, dy, saved, scratch) = (call.x(0), call.y(), call.dy(), call.saved(), call.scratch());
    let [_, _, mean, var] = op.places(call, 0);
    // The result is only there where relu's mask must be read from it.
    let masks = op.then.relu() && !op.recomputes_relu();
    // x is needed where a gradient asks for it: through the batch, or for gamma's.
    if !op.batch && !call.wants_weight(0) && !call.wants_weight(1) {
        if masks {
            let ([y], [dy]) = lend(run.memory, [y], [dy])?;
            nunatak_kernels::relu::backward_input(cpu, y, None, dy);
        }
        return Ok(());
    }
    match (op.batch, masks) {
        (false, false) => {
            let ([x, dy, mean, var], [scratch]) = lend(run.memory, [x, dy, mean, var], [scratch])?;
            let [_, sums, scratch] = op.rooms(scratch);
            let running = kernel::Running { mean, var };
            kernel::backward_sums_running(cpu, size, kernel::BackwardSumsRunning { x, dy, running, sums, scratch });
        }
        (false, true) => {
            let ([x, y, mean, var], [dy, scratch]) = lend(run.memory, [x, y, mean, var], [dy, scratch])?;
            let [_, sums, scratch] = op.rooms(scratch);
            let running = kernel::Running { mean, var };
            fused::backward_sums_running_masking(cpu, size, kernel::BackwardSumsRunningMasking { x, y, dy, running, sums, scratch });
        }
        (true, true) => {
            let ([x, y, saved], [dy, scratch]) = lend(run.memory, [x, y, saved], [dy, scratch])?;
            let [_, sums, scratch] = op.rooms(scratch);
            let saved = &saved[..numbers];
            fused::backward_sums_masking(cpu, size, kernel::BackwardSumsMasking { x, y, dy, saved, sums, scratch });
        }
        (true, false) => {
            let ([x, dy, saved], [scratch]) = lend(run.memory, [x, dy, saved], [scratch])?;
            let [_, sums, scratch] = op.rooms(scratch);
            let tensors = kernel::BackwardSums { x, dy, saved: &saved[..numbers], sums, scratch };
            match op.then.relu() {
                true => fused::backward_sums_gated(cpu, size, tensors),
                false => kernel::backward_sums(cpu, size, tensors),
            }
        }
    }
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let op = BatchNorm::read(call)?;
    let (in_place, dx) = (call.dx(position) == call.dy(), call.dx(position));
    let dy = call.dy().when(!in_place);
    if position == 1 {
        // The residual's gradient: dy, which the sums have masked.
        return run.pass_on(dy, dx, call.adds(1));
    }
    let (cpu, size) = (&run.cpu, &op.size);
    let ([gamma, _, _, var], scratch) = (op.places(call, 0), call.scratch());
    if op.batch {
        let ([x, dy, saved, gamma], [dx, scratch]) = lend(run.memory, [call.x(0), dy, call.saved(), gamma], [dx, scratch])?;
        let [affine, sums, scratch] = op.rooms(scratch);
        let [gamma, _] = op.affine(gamma, &[], affine);
        let (dy, saved) = ((!in_place).then_some(dy), &saved[..op.read_per_channel() * size.channels]);
        let tensors = kernel::BackwardInput { x, dy, gamma, saved, sums, dx, scratch };
        match op.recomputes_relu() {
            true => fused::backward_input_gated(cpu, size, tensors),
            false => kernel::backward_input(cpu, size, tensors),
        }
    } else {
        let ([dy, var, gamma], [dx, scratch]) = lend(run.memory, [dy, var, gamma], [dx, scratch])?;
        let [affine, _, scratch] = op.rooms(scratch);
        let [gamma, _] = op.affine(gamma, &[], affine);
        let dy = (!in_place).then_some(dy);
        kernel::backward_input_running(cpu, size, kernel::BackwardInputRunning { dy, gamma, running_var: var, dx, scratch });
    }
    Ok(())
}
