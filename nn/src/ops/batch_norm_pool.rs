//! Batch normalisation with the batch's statistics, max(…, 0), and the largest value of a window, in one
//! pass: what follows the stem of a residual network in training. It is only made by fusing.

use crate::Error;
use crate::ops::batch_norm::{BatchNorm, parameter_gradients, sums_room};
use crate::ops::max_pool::{MaxPool, places_room, read_pool, write_pool};
use crate::ops::{Choice, Chosen, Context, Entries, Facts, Lengths, Misfit, Part, Routine, Run, Shorter, lend};
use nunatak_core::Shape;
use nunatak_core::arena::UNIT;
use nunatak_core::program::{Call, Place, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::batchnorm::{BackwardInput, BackwardSums, Moving, fused, pooled};
use nunatak_kernels::{Pass, maxpool};

/// A normalisation, relu and a pooling on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchNormPool {
    /// With the batch's statistics and relu, without a residual.
    pub(crate) norm: BatchNorm,
    pub(crate) pool: MaxPool,
}

impl BatchNormPool {
    /// Room for what is saved of the normalisation, before the maxima's places.
    const fn tables_room(&self) -> usize {
        (4 * self.norm.size.channels).next_multiple_of(UNIT)
    }

    /// Scratch of the normalisation in backward: its sums, then what single threads use.
    const fn own_scratch(&self, context: &Context) -> usize {
        self.norm.affine_room() + sums_room(&self.norm.size) + self.norm.size.scratch_len(context.threads)
    }
}

impl Facts for BatchNormPool {
    fn name(&self) -> &'static str {
        "batchnorm+relu+maxpool"
    }
    fn choose(&mut self, _: &Choice, _: Shape) -> Result<Chosen, Error> {
        Ok(Chosen::Computes)
    }
    fn backward_is(&mut self, exists: bool) {
        self.pool.places = exists;
    }
    fn repeat(&mut self) -> bool {
        // It would move the statistics, and its result is small beside what it is made of.
        false
    }
    fn entries(&self) -> Entries {
        self.norm.entries()
    }
    #[cfg(feature = "std")]
    fn renumber(&mut self, number: &dyn Fn(nunatak_core::tape::EntryId) -> nunatak_core::tape::EntryId) {
        self.norm.renumber(number);
    }
    fn backward_input_reads(&self) -> Reads {
        Reads { x: 1, y: false, saved: true }
    }
    fn backward_weight_reads(&self) -> Reads {
        Reads { x: 1, y: false, saved: true }
    }
    fn differentiable(&self, _: usize) -> bool {
        true
    }
    fn overwrites(&self, _: usize) -> bool {
        false
    }
    fn gradient_overwrites(&self, _: usize) -> bool {
        false
    }
    fn accumulates(&self, _: usize) -> bool {
        false
    }
    fn steps(&self, _: usize) -> bool {
        false
    }
    fn attached_len(&self) -> usize {
        0
    }
    fn reads_attached(&self) -> usize {
        self.norm.reads_attached()
    }
    fn saved_len(&self, _: &Context) -> usize {
        self.tables_room() + places_room(&self.pool)
    }
    fn forward_scratch_len(&self, context: &Context) -> usize {
        self.norm.affine_room() + pooled::scratch_len(&self.norm.size, &self.pool.size, context.threads)
    }
    fn backward_scratch_len(&self, context: &Context, input: bool, _: bool) -> usize {
        // The pooling's own gradient needs a place where no gradient of x is asked for.
        match input {
            true => self.own_scratch(context),
            false => self.own_scratch(context).next_multiple_of(UNIT) + self.pool.size.x_len(),
        }
    }
    fn flops(&self) -> u64 {
        0
    }
    fn algorithm(&self, _: Pass) -> &'static str {
        "-"
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        self.norm.write(out)?;
        write_pool(&self.pool, out)
    }
    fn read(call: &Call) -> Result<BatchNormPool, Misfit> {
        let numbers = &mut call.numbers();
        let norm = BatchNorm::read_from(numbers, call, 0)?;
        let pool = read_pool(numbers, call)?;
        let due = norm.batch
            && !norm.tables
            && !call.is_again()
            && norm.then.relu()
            && !norm.then.add
            && pool.size.x_len() == norm.size.rows * norm.size.channels;
        if due && pool.size.c == norm.size.channels { Ok(BatchNormPool { norm, pool }) } else { Err("a pooling of another size") }
    }
    fn lengths(&self) -> Lengths<'_> {
        Lengths { y: self.pool.size.y_len(), ..self.norm.lengths() }
    }
    crate::ops::no_onnx!(fused);
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };
pub(crate) static BACKWARD_WEIGHT: Routine = Routine { part: Part::BackwardWeight, run: backward_weight };
pub(crate) static BACKWARD_INPUT: Routine = Routine { part: Part::BackwardInput, run: backward_input };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = BatchNormPool::read(call)?;
    let (size, pool, moments) = (&op.norm.size, &op.pool, op.norm.then.moments);
    let factor = run.statistics_factor(op.norm.count_of(call), op.norm.momentum);
    let [gamma, beta, mean, var] = op.norm.places(call, 0);
    let reads = [call.x(0), call.attached().when(moments), gamma, beta];
    let writes = [call.y(), call.saved(), call.scratch(), mean, var];
    let ([x, given, gamma, beta], [y, saved, scratch, mean, var]) = lend(run.memory, reads, writes)?;
    let (affine, scratch) = scratch.split_at_mut(op.norm.affine_room());
    let [gamma, beta] = op.norm.affine(gamma, beta, affine);
    let (saved, index) = saved.split_at_mut(op.tables_room());
    let index = pool.places.then(|| &mut bytemuck::cast_slice_mut(index)[..y.len()]);
    let (saved, moments) = (&mut saved[..4 * size.channels], moments.then(|| bytemuck::cast_slice(given)));
    let running = Moving { mean, var, factor };
    let tensors = pooled::ForwardBatch { x, moments, gamma, beta, running, y, index, saved, scratch };
    pooled::forward_batch(&run.cpu, size, &pool.size, tensors);
    Ok(())
}

/// First the gradient of what the windows were taken from, then the normalisation's sums.
fn backward_weight(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = BatchNormPool::read(call)?;
    let (size, pool) = (&op.norm.size, &op.pool.size);
    let own = op.own_scratch(&run.context);
    let behind = Place { unit: call.scratch().unit + own.div_ceil(UNIT) as u32, len: pool.x_len() as u32, region: 0 };
    let dx = if call.wants_input(0) { call.dx(0) } else { behind };
    let ([x, dy, saved], [dx, scratch]) = lend(run.memory, [call.x(0), call.dy(), call.saved()], [dx, call.scratch().first(own)])?;
    let (saved, index) = saved.split_at(op.tables_room());
    maxpool::backward_input(&run.cpu, pool, dy, &bytemuck::cast_slice(index)[..dy.len()], dx);
    let [_, sums, scratch] = op.norm.rooms(scratch);
    let saved = &saved[..4 * size.channels];
    fused::backward_sums_gated(&run.cpu, size, BackwardSums { x, dy: dx, saved, sums, scratch });
    parameter_gradients(run, call)
}

/// In place over the gradient of what the windows were taken from.
fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let op = BatchNormPool::read(call)?;
    let [gamma, ..] = op.norm.places(call, 0);
    let reads = [call.x(0), call.saved(), gamma];
    let ([x, saved, gamma], [dx, scratch]) = lend(run.memory, reads, [call.dx(position), call.scratch()])?;
    let [affine, sums, scratch] = op.norm.rooms(scratch);
    let [gamma, _] = op.norm.affine(gamma, &[], affine);
    let (size, dy) = (&op.norm.size, None);
    let saved = &saved[..4 * size.channels];
    fused::backward_input_gated(&run.cpu, size, BackwardInput { x, dy, gamma, saved, sums, dx, scratch });
    Ok(())
}
