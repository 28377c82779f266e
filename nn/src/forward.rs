//! The forward walk: for each node, lends the memory that its kernel needs and calls it. No
//! arithmetic here.

use crate::Error;
use crate::memory::lend;
use crate::op::{ConvThen, Op, moments_len, pool_tables_room, saved_per_channel, tables_room};
use crate::trainer::Trainer;
use crate::watch::Call;
use nunatak_core::ValueId;
use nunatak_kernels::batchnorm::fused::{self, Then};
use nunatak_kernels::batchnorm::pooled;
use nunatak_kernels::conv2d::Normalise;
use nunatak_kernels::cross_entropy::{self, Targets};
use nunatak_kernels::{Cpu, Finish, avgpool, elementwise, maxpool, mse, reduce, relu};

/// PyTorch's momentum of running statistics.
const STATISTICS_MOMENTUM: f32 = 0.1;

impl Trainer<'_> {
    pub(crate) fn forward_walk(&mut self) -> Result<(), Error> {
        let mut start = self.now();
        for v in self.blueprint.tape.values() {
            self.forward_node(v)?;
            if self.blueprint.tape.node(v)?.op.computes() {
                start = self.called(Call::Forward(v), start);
                self.go_on()?;
            }
        }
        Ok(())
    }

    fn forward_node(&mut self, v: ValueId) -> Result<(), Error> {
        let threads = self.threads.clone();
        let cpu = &Cpu { level: self.level, threads: &threads };
        let node = *self.blueprint.tape.node(v)?;
        let (plan, lasting, network) = (&self.blueprint.plan, &self.blueprint.lasting, &self.blueprint.network);
        let y = self.passing(plan.value(v));
        let input = |i: usize| node.input(i).map_or(0..0, |x| self.passing(plan.value(x)));
        let (a, b) = (input(0), input(1));
        let in_place = a == y;
        let x = if in_place { 0..0 } else { a };
        let saved = self.passing(plan.saved(v));
        let scratch = self.passing(plan.forward_scratch(v));
        let param = |id| lasting.param(network, id);
        let (base, memory) = (self.base(), self.blueprint.options.memory);
        let behind_x = match (node.op, node.input(0)) {
            (Op::BatchNorm { size, .. } | Op::BatchNormPool { size, .. }, Some(x)) => {
                self.passing(plan.attached(x, moments_len(size.channels)))
            }
            _ => 0..0,
        };
        let block = &mut self.block;

        match node.op {
            Op::Nothing | Op::Input | Op::Labels => {}
            Op::Conv2d { conv, algorithms: [algorithm, ..], weight, then } => match then {
                ConvThen::Nothing => {
                    let ([x, w], [y, scratch]) = lend(block, [x, param(weight)], [y, scratch])?;
                    conv.forward(cpu, algorithm, x, w, y, false, Finish::None, scratch);
                }
                ConvThen::Moments => {
                    let behind = self.blueprint.plan.attached(v, moments_len(conv.k));
                    let behind = behind.start + base..behind.end + base;
                    let ([x, w], [y, moments, scratch]) = lend(block, [x, param(weight)], [y, behind, scratch])?;
                    let moments = bytemuck::cast_slice_mut(moments);
                    conv.forward_moments(cpu, algorithm, memory, x, w, y, moments, scratch);
                }
                ConvThen::Normalise { norm, gamma, beta, eps, then } => {
                    let (mean, var) = (lasting.running_mean(network, norm), lasting.running_var(network, norm));
                    let reads = [x, param(weight), b, param(gamma), param(beta), mean, var];
                    let ([x, w, residual, gamma, beta, mean, var], [y, scratch]) = lend(block, reads, [y, scratch])?;
                    let (tables, scratch) = scratch.split_at_mut(tables_room(conv.k));
                    let tables = &mut tables[..Normalise::tables_len(conv.k)];
                    let how = Normalise::running(eps, gamma, beta, mean, var, tables);
                    let how = Normalise { residual: then.add.then_some(residual), relu: then.relu, ..how };
                    conv.forward(cpu, algorithm, x, w, y, false, Finish::Normalise(how), scratch);
                }
            },
            Op::Linear { size, weight, bias } => {
                let ([x, w, b], [y, scratch]) = lend(block, [x, param(weight), param(bias)], [y, scratch])?;
                size.forward(cpu, x, w, b, y, scratch);
            }
            Op::BatchNorm { size, norm, gamma, beta, batch, then } => {
                let follows = |residual| Then { residual: then.add.then_some(residual), relu: then.relu };
                let (mean, var) = (lasting.running_mean(network, norm), lasting.running_var(network, norm));
                if batch {
                    let moments = if then.moments { behind_x } else { 0..0 };
                    let reads = [x, b, moments, param(gamma), param(beta)];
                    let writes = [y, saved, scratch, mean, var];
                    let ([x, residual, moments, gamma, beta], [y, saved, scratch, mean, var]) = lend(block, reads, writes)?;
                    self.tracked[norm.index()] = self.tracked[norm.index()].wrapping_add(1);
                    let saved = &mut saved[..saved_per_channel(then) * size.channels];
                    let x = (!in_place).then_some(x);
                    let (moments, factor) = (then.moments.then(|| bytemuck::cast_slice(moments)), STATISTICS_MOMENTUM);
                    let follows = follows(residual);
                    fused::forward_batch(cpu, &size, x, moments, gamma, beta, mean, var, factor, follows, y, saved, scratch);
                } else {
                    let reads = [x, b, param(gamma), param(beta), mean, var];
                    let ([x, residual, gamma, beta, mean, var], [y, scratch]) = lend(block, reads, [y, scratch])?;
                    let x = (!in_place).then_some(x);
                    fused::forward_running(cpu, &size, x, gamma, beta, mean, var, follows(residual), y, scratch);
                }
            }
            Op::BatchNormPool { size, norm, gamma, beta, moments, pool, places } => {
                let (mean, var) = (lasting.running_mean(network, norm), lasting.running_var(network, norm));
                let reads = [x, if moments { behind_x } else { 0..0 }, param(gamma), param(beta)];
                let writes = [y, saved, scratch, mean, var];
                let ([x, given, gamma, beta], [y, saved, scratch, mean, var]) = lend(block, reads, writes)?;
                self.tracked[norm.index()] = self.tracked[norm.index()].wrapping_add(1);
                let (saved, index) = saved.split_at_mut(pool_tables_room(&size));
                let index = places.then(|| &mut bytemuck::cast_slice_mut(index)[..y.len()]);
                let (saved, factor) = (&mut saved[..4 * size.channels], STATISTICS_MOMENTUM);
                let given = moments.then(|| bytemuck::cast_slice(given));
                pooled::forward_batch(cpu, &size, &pool, x, given, gamma, beta, mean, var, factor, y, index, saved, scratch);
            }
            Op::Relu => {
                let ([x], [y]) = lend(block, [x], [y])?;
                relu::forward(cpu, (!in_place).then_some(x), y);
            }
            Op::MaxPool { pool, places } => {
                let ([x], [y, saved]) = lend(block, [x], [y, saved])?;
                match places {
                    true => maxpool::forward(cpu, &pool, x, y, &mut bytemuck::cast_slice_mut(saved)[..y.len()]),
                    false => maxpool::forward_only(cpu, &pool, x, y),
                }
            }
            Op::AvgPool(p) => {
                let ([x], [y]) = lend(block, [x], [y])?;
                avgpool::forward(cpu, &p, x, y);
            }
            Op::Add | Op::Sub | Op::Mul => {
                let ([x, b], [y]) = lend(block, [x, b], [y])?;
                match (node.op, in_place) {
                    (Op::Add, false) => elementwise::add(cpu, x, b, y),
                    (Op::Add, true) => elementwise::add_assign(cpu, b, y),
                    (Op::Sub, false) => elementwise::sub(cpu, x, b, y),
                    (Op::Sub, true) => elementwise::sub_assign(cpu, b, y),
                    (_, false) => elementwise::mul(cpu, x, b, y),
                    (_, true) => elementwise::mul_assign(cpu, b, y),
                }
            }
            Op::Scale(factor) => {
                let ([x], [y]) = lend(block, [x], [y])?;
                match in_place {
                    true => elementwise::scale_assign(cpu, factor, y),
                    false => elementwise::scale(cpu, x, factor, y),
                }
            }
            Op::Sum(_) => {
                let ([x], [y, scratch]) = lend(block, [x], [y, scratch])?;
                y[0] = reduce::sum(cpu, x, scratch);
            }
            Op::Mean(_) => {
                let ([x], [y, scratch]) = lend(block, [x], [y, scratch])?;
                y[0] = reduce::mean(cpu, x, scratch);
            }
            Op::MeanSquaredError(_) => {
                let ([x, b], [y, scratch]) = lend(block, [x, b], [y, scratch])?;
                y[0] = mse::forward(cpu, x, b, scratch);
            }
            Op::CrossEntropy(p) | Op::CrossEntropyProbabilities(p) => {
                let ([x, target], [y, saved, scratch]) = lend(block, [x, b], [y, saved, scratch])?;
                let target = match node.op {
                    Op::CrossEntropy(_) => Targets::Indices(bytemuck::cast_slice(target)),
                    _ => Targets::Probabilities(target),
                };
                let saved = &mut saved[..p.saved_len()];
                y[0] = cross_entropy::forward(cpu, &p, x, target, None, saved, scratch).map_err(|e| Error::TargetOutOfRange {
                    row: e.row,
                    target: e.target,
                    classes: e.classes,
                })?;
            }
        }
        Ok(())
    }
}
