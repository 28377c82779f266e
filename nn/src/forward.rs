//! The forward walk: for each node, lends the memory that its kernel needs and calls it. No
//! arithmetic here.

use crate::Error;
use crate::memory::lend;
use crate::op::Op;
use crate::trainer::Trainer;
use crate::watch::Call;
use nunatak_core::ValueId;
use nunatak_kernels::cross_entropy::{self, Targets};
use nunatak_kernels::{Cpu, Finish, avgpool, batchnorm, elementwise, maxpool, mse, reduce, relu};

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
        let block = &mut self.block;

        match node.op {
            Op::Nothing | Op::Input | Op::Labels => {}
            Op::Conv2d { conv, algorithms, weight } => {
                let ([x, w], [y, scratch]) = lend(block, [x, param(weight)], [y, scratch])?;
                conv.forward(cpu, algorithms[0], x, w, y, false, Finish::None, scratch);
            }
            Op::Linear { size, weight, bias } => {
                let ([x, w, b], [y, scratch]) = lend(block, [x, param(weight), param(bias)], [y, scratch])?;
                size.forward(cpu, x, w, b, y, scratch);
            }
            Op::BatchNorm { size, norm, gamma, beta, batch } => {
                let (mean, var) = (lasting.running_mean(network, norm), lasting.running_var(network, norm));
                if batch {
                    let reads = [x, param(gamma), param(beta)];
                    let ([x, gamma, beta], [y, saved, scratch, mean, var]) = lend(block, reads, [y, saved, scratch, mean, var])?;
                    self.tracked[norm.index()] = self.tracked[norm.index()].wrapping_add(1);
                    let saved = &mut saved[..2 * size.channels];
                    batchnorm::forward_batch(cpu, &size, x, gamma, beta, mean, var, STATISTICS_MOMENTUM, y, saved, scratch);
                } else {
                    let reads = [x, param(gamma), param(beta), mean, var];
                    let ([x, gamma, beta, mean, var], [y, scratch]) = lend(block, reads, [y, scratch])?;
                    batchnorm::forward_running(cpu, &size, (!in_place).then_some(x), gamma, beta, mean, var, y, scratch);
                }
            }
            Op::Relu => {
                let ([x], [y]) = lend(block, [x], [y])?;
                relu::forward(cpu, (!in_place).then_some(x), y);
            }
            Op::MaxPool(p) => {
                let ([x], [y, saved]) = lend(block, [x], [y, saved])?;
                let index = &mut bytemuck::cast_slice_mut::<f32, u8>(saved)[..y.len()];
                maxpool::forward(cpu, &p, x, y, index);
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
