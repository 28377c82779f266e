//! The backward walk: for each node that needs one, from the last to the first, lends memory and
//! calls kernels. No arithmetic here.
//!
//! At a node the parameters' gradients come first (dy may be written over by dx), then the inputs',
//! with the weights as forward saw them, then, in plans that update during the walk, the update. There
//! a weight that takes longer to read than to use is gone through once for all three.

use crate::Error;
use crate::memory::lend;
use crate::op::{Op, pool_tables_room, recomputes_relu, saved_per_channel, sums_room};
use crate::optimizer::Optimizer;
use crate::trainer::Trainer;
use crate::watch::Call;
use core::ops::Range;
use nunatak_core::{Need, Node, ParamId, ValueId};
use nunatak_kernels::batchnorm::{self, BatchNorm, fused};
use nunatak_kernels::{Conv2d, Cpu, Memory, Pass, avgpool, cross_entropy, elementwise, maxpool, mse, reduce, relu, sgd};

impl Trainer<'_> {
    pub(crate) fn backward_walk(&mut self, update: Option<&Optimizer>) -> Result<(), Error> {
        let Some(root) = self.blueprint.needs.root() else { return Ok(()) };
        for v in self.blueprint.tape.values().rev().skip_while(|v| *v != root) {
            let need = *self.blueprint.needs.at(v);
            if !need.backward() {
                continue;
            }
            let one_pass = update.zip(self.blueprint.one_pass(v));
            let need = if one_pass.is_some() { self.blueprint.need_apart(v) } else { need };
            let mut start = self.now();
            self.weights(v, &need)?;
            if need.dw != [false; 2] {
                start = self.called(Call::BackwardWeight(v), start);
            }
            if let Some((optimizer, (conv, weight))) = one_pass {
                self.one_pass(v, &need, conv, weight, optimizer)?;
                self.called(Call::BackwardStep(v), start);
            } else {
                self.inputs(v, &need)?;
                if need.dx != [false; 2] {
                    self.called(Call::BackwardInput(v), start);
                }
            }
            let Some(optimizer) = update else {
                if let Err(e) = self.go_on() {
                    self.zero_grad(); // some are new, some are not
                    return Err(e);
                }
                continue;
            };
            for id in self.blueprint.tape.node(v)?.op.trained(need.dw) {
                self.update(id, optimizer)?;
                self.gradients.remove(id);
            }
        }
        Ok(())
    }

    /// One parameter's step of SGD.
    pub(crate) fn update(&mut self, id: ParamId, optimizer: &Optimizer) -> Result<(), Error> {
        let start = self.now();
        let threads = self.threads.clone();
        let cpu = &Cpu { level: self.level, threads: &threads };
        let (lasting, network) = (&self.blueprint.lasting, &self.blueprint.network);
        let settings = optimizer.of(id);
        let gradient = self.passing(self.blueprint.plan.param_gradient(id));
        let writes = [lasting.param(network, id), lasting.momentum(network, id)];
        let ([gradient], [p, momentum]) = lend(&mut self.block, core::array::from_ref(&gradient).clone(), writes)?;
        let first = !self.momenta.contains(id);
        if settings.momentum != 0.0 {
            sgd::step(cpu, &settings, p, gradient, Some(momentum), first);
            self.momenta.insert(id);
        } else {
            sgd::step(cpu, &settings, p, gradient, None, first);
        }
        self.called(Call::Update(id), start);
        Ok(())
    }

    /// The gradient of a weight, its step, and the input's gradient where it is needed.
    fn one_pass(&mut self, v: ValueId, need: &Need, conv: Conv2d, weight: ParamId, optimizer: &Optimizer) -> Result<(), Error> {
        let threads = self.threads.clone();
        let cpu = &Cpu { level: self.level, threads: &threads };
        let node = *self.blueprint.tape.node(v)?;
        let (plan, lasting, network) = (&self.blueprint.plan, &self.blueprint.lasting, &self.blueprint.network);
        let settings = optimizer.of(weight);
        let buffered = settings.momentum != 0.0;
        let momentum = if buffered { lasting.momentum(network, weight) } else { 0..0 };
        let reads = [self.input_place(&node, 0), self.passing(plan.gradient(v))];
        let dx = node.input(0).filter(|_| need.dx[0]).map_or(0..0, |x| self.passing(plan.gradient(x)));
        let writes = [lasting.param(network, weight), momentum, dx, self.passing(plan.backward_scratch(v))];
        let ([x, dy], [w, momentum, dx, scratch]) = lend(&mut self.block, reads, writes)?;
        let dx = need.dx[0].then_some((dx, need.dx_adds[0]));
        conv.backward_step(cpu, &settings, x, dy, w, momentum, !self.momenta.contains(weight), dx, scratch);
        if buffered {
            self.momenta.insert(weight);
        }
        Ok(())
    }

    fn input_place(&self, node: &Node<Op>, i: usize) -> Range<usize> {
        node.input(i).map_or(0..0, |x| self.passing(self.blueprint.plan.value(x)))
    }

    /// The parameters' gradients of a node.
    fn weights(&mut self, v: ValueId, need: &Need) -> Result<(), Error> {
        let node = *self.blueprint.tape.node(v)?;
        match node.op {
            // dx needs them too.
            Op::BatchNorm { .. } => self.sums(v)?,
            Op::BatchNormPool { .. } => self.sums_below_pool(v)?,
            _ => {}
        }
        if need.dw == [false; 2] {
            return Ok(());
        }
        let threads = self.threads.clone();
        let cpu = &Cpu { level: self.level, threads: &threads };
        let plan = &self.blueprint.plan;
        let x = self.input_place(&node, 0);
        let dy = self.passing(plan.gradient(v));
        // As long as this pass asks for, though the other pass may have asked for more: where a pass over
        // the pixels is cut depends on it, and with it the last bits.
        let all = self.passing(plan.backward_scratch(v));
        let scratch = |of: &dyn Fn(Pass, Memory, usize) -> usize| {
            let options = &self.blueprint.options;
            all.start..all.end.min(all.start + of(Pass::BackwardWeight, options.memory, options.threads.max(1)))
        };
        let gradient = |id: ParamId| self.passing(plan.param_gradient(id));
        let adds = |id: ParamId| self.gradients.contains(id);
        match node.op {
            Op::Conv2d { conv, algorithms, weight, .. } => {
                let (dw, add) = (gradient(weight), adds(weight));
                let scratch = scratch(&|pass, memory, threads| conv.scratch_len(pass, algorithms[pass as usize], memory, threads));
                let ([x, dy], [dw, scratch]) = lend(&mut self.block, [x, dy], [dw, scratch])?;
                conv.backward_weight(cpu, algorithms[Pass::BackwardWeight as usize], x, dy, dw, add, scratch);
            }
            Op::Linear { size, weight, bias } => {
                if need.dw[0] {
                    let (dw, add) = (gradient(weight), adds(weight));
                    let scratch = scratch(&|pass, memory, threads| size.scratch_len(pass, memory, threads));
                    let ([x, dy], [dw, scratch]) = lend(&mut self.block, [x, dy.clone()], [dw, scratch])?;
                    size.backward_weight(cpu, x, dy, dw, add, scratch);
                }
                if need.dw[1] {
                    let (db, add) = (self.passing(self.blueprint.plan.param_gradient(bias)), self.gradients.contains(bias));
                    let ([dy], [db]) = lend(&mut self.block, [dy; 1], [db])?;
                    size.backward_bias(cpu, dy, db, add);
                }
            }
            Op::BatchNorm { size, gamma, beta, .. } | Op::BatchNormPool { size, gamma, beta, .. } => {
                let c = size.channels;
                for (id, from, wanted) in [(gamma, 0..c, need.dw[0]), (beta, c..2 * c, need.dw[1])] {
                    if wanted {
                        let (to, add) = (self.passing(self.blueprint.plan.param_gradient(id)), self.gradients.contains(id));
                        let ([sums], [to]) = lend(&mut self.block, [all.clone(); 1], [to])?;
                        match add {
                            true => elementwise::add_assign(cpu, &sums[from], to),
                            false => to.copy_from_slice(&sums[from]),
                        }
                    }
                }
            }
            _ => {}
        }
        node.op.trained(need.dw).for_each(|id| self.gradients.insert(id));
        Ok(())
    }

    /// A normalisation's two sums per channel, into the front of its scratch. Behind a relu whose result
    /// tells where dy went through, dy becomes zero elsewhere.
    fn sums(&mut self, v: ValueId) -> Result<(), Error> {
        let threads = self.threads.clone();
        let cpu = &Cpu { level: self.level, threads: &threads };
        let node = *self.blueprint.tape.node(v)?;
        let Op::BatchNorm { size, norm, batch, then, .. } = node.op else { return Ok(()) };
        let need = *self.blueprint.needs.at(v);
        let (plan, lasting, network) = (&self.blueprint.plan, &self.blueprint.lasting, &self.blueprint.network);
        let x = self.input_place(&node, 0);
        let y = self.passing(plan.value(v));
        let dy = self.passing(plan.gradient(v));
        let saved = self.passing(plan.saved(v));
        let scratch = self.passing(plan.backward_scratch(v));
        let (mean, var) = (lasting.running_mean(network, norm), lasting.running_var(network, norm));
        let numbers = saved_per_channel(then) * size.channels;
        let masks = then.relu && !recomputes_relu(batch, then);
        let block = &mut self.block;
        match (batch, masks) {
            // Running statistics are constants: nothing reads the sums.
            (false, false) if need.dw == [false; 2] => {}
            (false, true) if need.dw == [false; 2] => {
                let ([y], [dy]) = lend(block, [y; 1], [dy; 1])?;
                relu::backward_input(cpu, y, None, dy);
            }
            (false, false) => {
                let ([x, dy, mean, var], [scratch]) = lend(block, [x, dy, mean, var], [scratch; 1])?;
                let (sums, scratch) = sums_of(&size, scratch);
                batchnorm::backward_sums_running(cpu, &size, x, dy, mean, var, sums, scratch);
            }
            (false, true) => {
                let ([x, y, mean, var], [dy, scratch]) = lend(block, [x, y, mean, var], [dy, scratch])?;
                let (sums, scratch) = sums_of(&size, scratch);
                fused::backward_sums_running_masking(cpu, &size, x, y, dy, mean, var, sums, scratch);
            }
            (true, true) => {
                let ([x, y, saved], [dy, scratch]) = lend(block, [x, y, saved], [dy, scratch])?;
                let (sums, scratch) = sums_of(&size, scratch);
                fused::backward_sums_masking(cpu, &size, x, y, dy, &saved[..numbers], sums, scratch);
            }
            (true, false) => {
                let ([x, dy, saved], [scratch]) = lend(block, [x, dy, saved], [scratch; 1])?;
                let (sums, scratch) = sums_of(&size, scratch);
                match then.relu {
                    true => fused::backward_sums_gated(cpu, &size, x, dy, &saved[..numbers], sums, scratch),
                    false => batchnorm::backward_sums(cpu, &size, x, dy, &saved[..numbers], sums, scratch),
                }
            }
        }
        Ok(())
    }

    /// The same where the largest of windows follows: first the gradient of what they were taken from.
    fn sums_below_pool(&mut self, v: ValueId) -> Result<(), Error> {
        let threads = self.threads.clone();
        let cpu = &Cpu { level: self.level, threads: &threads };
        let node = *self.blueprint.tape.node(v)?;
        let (Op::BatchNormPool { size, pool, .. }, Some(input)) = (node.op, node.input(0)) else { return Ok(()) };
        let need = *self.blueprint.needs.at(v);
        let plan = &self.blueprint.plan;
        let x = self.input_place(&node, 0);
        let dy = self.passing(plan.gradient(v));
        let saved = self.passing(plan.saved(v));
        let scratch = self.passing(plan.backward_scratch(v));
        let own = scratch.start + sums_room(&size) + size.scratch_len(self.blueprint.options.threads.max(1));
        let dx = match need.dx[0] {
            true if need.dx_adds[0] => self.passing(plan.addend(v)).start,
            true => self.passing(plan.gradient(input)).start,
            false => own,
        };
        let writes = [dx..dx + pool.x_len(), scratch.start..own];
        let ([x, dy, saved], [dx, scratch]) = lend(&mut self.block, [x, dy, saved], writes)?;
        let (saved, index) = saved.split_at(pool_tables_room(&size));
        maxpool::backward_input(cpu, &pool, dy, &bytemuck::cast_slice(index)[..dy.len()], dx);
        let (sums, scratch) = sums_of(&size, scratch);
        fused::backward_sums_gated(cpu, &size, x, dx, &saved[..4 * size.channels], sums, scratch);
        Ok(())
    }

    /// The inputs' gradients of a node. The input whose gradient lies where dy lies comes last.
    fn inputs(&mut self, v: ValueId, need: &Need) -> Result<(), Error> {
        let node = *self.blueprint.tape.node(v)?;
        let dy = self.blueprint.plan.gradient(v);
        let over_dy = |x: ValueId, i: usize| !need.dx_adds[i] && self.blueprint.plan.gradient(x) == dy;
        let mut order = [(0, None); 2];
        for (i, x) in node.inputs().filter(|&(i, _)| need.dx[i]) {
            order[i] = (over_dy(x, i) as usize, Some((i, x)));
        }
        // The first pass takes those that leave dy alone.
        for pass in 0..2 {
            for (_, item) in order.iter().filter(|(last, _)| *last == pass) {
                if let Some((i, x)) = *item {
                    self.input(v, &node, need, i, x)?;
                }
            }
        }
        Ok(())
    }

    /// The gradient of one input.
    fn input(&mut self, v: ValueId, node: &Node<Op>, need: &Need, i: usize, x: ValueId) -> Result<(), Error> {
        let threads = self.threads.clone();
        let cpu = &Cpu { level: self.level, threads: &threads };
        let (plan, lasting, network) = (&self.blueprint.plan, &self.blueprint.lasting, &self.blueprint.network);
        let dy_place = self.passing(plan.gradient(v));
        let target = self.passing(plan.gradient(x));
        let add = need.dx_adds[i];
        // What can't add writes to a place of its own, which is added below.
        let apart = add && !nunatak_core::Operation::accumulates(&node.op, i);
        let dx = if apart {
            let place = self.passing(plan.addend(v));
            place.start..place.start + target.len()
        } else {
            target.clone()
        };
        let (dx_place, in_place) = (dx.clone(), dx == dy_place);
        let dy = if in_place { 0..0 } else { dy_place };
        let (a, b) = (self.input_place(node, 0), self.input_place(node, 1));
        let y = self.passing(plan.value(v));
        let saved = self.passing(plan.saved(v));
        let scratch = self.passing(plan.backward_scratch(v));
        let param = |id| lasting.param(network, id);
        let block = &mut self.block;
        match node.op {
            Op::Nothing | Op::Input | Op::Labels => {}
            Op::Conv2d { conv, algorithms, weight, .. } => {
                let ([w, dy], [dx, scratch]) = lend(block, [param(weight), dy], [dx, scratch])?;
                conv.backward_input(cpu, algorithms[Pass::BackwardInput as usize], w, dy, dx, add, scratch);
            }
            Op::Linear { size, weight, .. } => {
                let ([w, dy], [dx, scratch]) = lend(block, [param(weight), dy], [dx, scratch])?;
                size.backward_input(cpu, w, dy, dx, add, scratch);
            }
            // The residual's gradient: dy, which the sums have masked.
            Op::BatchNorm { .. } if i == 1 => {
                let ([dy], [dx]) = lend(block, [dy; 1], [dx; 1])?;
                match (in_place, add) {
                    (true, _) => {}
                    (false, true) => elementwise::add_assign(cpu, dy, dx),
                    (false, false) => dx.copy_from_slice(dy),
                }
            }
            Op::BatchNorm { size, norm, gamma, batch, then, .. } => {
                if batch && recomputes_relu(batch, then) {
                    let ([x, dy, saved, gamma], [dx, scratch]) = lend(block, [a, dy, saved, param(gamma)], [dx, scratch])?;
                    let (sums, scratch) = sums_of(&size, scratch);
                    let saved = &saved[..saved_per_channel(then) * size.channels];
                    fused::backward_input_gated(cpu, &size, x, (!in_place).then_some(dy), gamma, saved, sums, dx, scratch);
                } else if batch {
                    let ([x, dy, saved, gamma], [dx, scratch]) = lend(block, [a, dy, saved, param(gamma)], [dx, scratch])?;
                    let (sums, scratch) = sums_of(&size, scratch);
                    let saved = &saved[..2 * size.channels];
                    batchnorm::backward_input(cpu, &size, x, (!in_place).then_some(dy), gamma, saved, sums, dx, scratch);
                } else {
                    let var = lasting.running_var(network, norm);
                    let ([dy, var, gamma], [dx, scratch]) = lend(block, [dy, var, param(gamma)], [dx, scratch])?;
                    let (_, scratch) = sums_of(&size, scratch);
                    batchnorm::backward_input_running(cpu, &size, (!in_place).then_some(dy), gamma, var, dx, scratch);
                }
            }
            Op::BatchNormPool { size, gamma, .. } => {
                // In place over the gradient of what the windows were taken from.
                let ([x, saved, gamma], [dx, scratch]) = lend(block, [a, saved, param(gamma)], [dx, scratch])?;
                let (sums, scratch) = sums_of(&size, scratch);
                fused::backward_input_gated(cpu, &size, x, None, gamma, &saved[..4 * size.channels], sums, dx, scratch);
            }
            Op::Relu => {
                let ([y, dy], [dx]) = lend(block, [y, dy], [dx; 1])?;
                relu::backward_input(cpu, y, (!in_place).then_some(dy), dx);
            }
            Op::MaxPool { pool, .. } => {
                let ([saved, dy], [dx]) = lend(block, [saved, dy], [dx; 1])?;
                maxpool::backward_input(cpu, &pool, dy, &bytemuck::cast_slice(saved)[..dy.len()], dx);
            }
            Op::AvgPool(p) => {
                let ([dy], [dx]) = lend(block, [dy; 1], [dx; 1])?;
                avgpool::backward_input(cpu, &p, dy, dx);
            }
            Op::Add => {
                let ([dy], [dx]) = lend(block, [dy; 1], [dx; 1])?;
                match (in_place, add) {
                    (true, _) => {}
                    (false, true) => elementwise::add_assign(cpu, dy, dx),
                    (false, false) => dx.copy_from_slice(dy),
                }
            }
            Op::Sub => {
                let sign = if i == 0 { 1.0 } else { -1.0 };
                let ([dy], [dx]) = lend(block, [dy; 1], [dx; 1])?;
                match (in_place, add) {
                    (true, _) => {}
                    (false, true) => elementwise::scaled_add_assign(cpu, sign, dy, dx),
                    (false, false) => elementwise::scale(cpu, dy, sign, dx),
                }
            }
            Op::Mul => {
                let other = if i == 0 { b } else { a };
                let ([dy, other], [dx]) = lend(block, [dy, other], [dx; 1])?;
                match add {
                    true => elementwise::mul_add_assign(cpu, dy, other, dx),
                    false => elementwise::mul(cpu, dy, other, dx),
                }
            }
            Op::Scale(factor) => {
                let ([dy], [dx]) = lend(block, [dy; 1], [dx; 1])?;
                match (in_place, add) {
                    (true, _) => elementwise::scale_assign(cpu, factor, dx),
                    (false, true) => elementwise::scaled_add_assign(cpu, factor, dy, dx),
                    (false, false) => elementwise::scale(cpu, dy, factor, dx),
                }
            }
            Op::Sum(n) | Op::Mean(n) => {
                let ([dy], [dx]) = lend(block, [dy; 1], [dx; 1])?;
                let each = if let Op::Mean(_) = node.op { dy[0] / n as f32 } else { dy[0] };
                match add {
                    true => reduce::fill_accumulate(cpu, each, dx),
                    false => reduce::fill(cpu, each, dx),
                }
            }
            Op::MeanSquaredError(_) => {
                let (first, second) = if i == 0 { (a, b) } else { (b, a) };
                let ([a, b, dy], [dx]) = lend(block, [first, second, dy], [dx; 1])?;
                mse::backward_input(cpu, a, b, dy[0], dx);
            }
            Op::CrossEntropy(p) | Op::CrossEntropyProbabilities(p) => {
                let ([saved, dy], [dx]) = lend(block, [saved, dy], [dx; 1])?;
                match add {
                    true => elementwise::scaled_add_assign(cpu, dy[0], &saved[..p.saved_len()], dx),
                    false => cross_entropy::backward_input(cpu, &saved[..p.saved_len()], dy[0], dx),
                }
            }
        }
        if apart {
            let ([addend], [target]) = lend(&mut self.block, [dx_place; 1], [target; 1])?;
            elementwise::add_assign(cpu, addend, target);
        }
        Ok(())
    }
}

fn sums_of<'a>(size: &BatchNorm, scratch: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32]) {
    let (sums, scratch) = scratch.split_at_mut(sums_room(size));
    (&mut sums[..2 * size.channels], scratch)
}
