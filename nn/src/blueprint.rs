//! A step, decided in every detail before it runs: what is computed, which gradients exist, where
//! every number lies, how many bytes that takes.

use crate::Error;
use crate::fuse::fuse;
use crate::graph::{Graph, MAX_NODES, NetTape};
use crate::lasting::{Held, Lasting};
use crate::op::{Context, Op};
use crate::params::{Network, NormId};
use crate::resnet::ResNet;
use core::fmt;
use nunatak_core::arena::{MOST_NUMBERS, UNIT, block_bytes};
use nunatak_core::lifetime::{Kind, Slots};
use nunatak_core::{Need, Needs, ParamId, ParamSet, Plan, Update, ValueId};
use nunatak_kernels::{Conv2d, Memory};

/// Buffers that a step can have.
pub const MAX_BUFFERS: usize = 1024;

/// Threads that a step can be planned for.
pub const MAX_THREADS: usize = 4096;

/// The plan of a step.
pub type NetPlan = Plan<MAX_NODES>;
/// The needs of a step.
pub type NetNeeds = Needs<MAX_NODES>;
/// The buffers of a step.
pub type NetSlots = Slots<MAX_BUFFERS>;

/// The choices of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads that will work on it.
    pub threads: usize,
    /// Memory or speed.
    pub memory: Memory,
    /// When parameters are updated.
    pub update: Update,
    /// Whether there is a momentum buffer for every trainable parameter.
    pub momentum: bool,
    /// Whether parameters that are frozen, and running statistics that do not move, are read where
    /// the weights lie (a mapped file, flash) instead of from the block: see
    /// [`crate::Trainer::with_weights`].
    pub in_place: bool,
    /// Whether steps that follow each other become one where that saves passes over memory. Without it
    /// gradients agree within rounding.
    pub fuse: bool,
}

impl Default for Options {
    /// One thread, speed, update after the walk, momentum, everything in the block, fused steps.
    fn default() -> Self {
        Options { threads: 1, memory: Memory::Fast, update: Update::After, momentum: true, in_place: false, fuse: true }
    }
}

/// Values that a plan can keep readable.
const MAX_KEPT: usize = 8;

/// A planned step.
#[derive(Clone)]
pub struct Blueprint {
    pub(crate) network: Network,
    pub(crate) tape: NetTape,
    pub(crate) needs: NetNeeds,
    pub(crate) plan: NetPlan,
    pub(crate) lasting: Lasting,
    pub(crate) trainable: ParamSet,
    pub(crate) options: Options,
    kept: [Option<ValueId>; MAX_KEPT],
}

impl Blueprint {
    /// Plans the step that `graph` records: forward, and back from `root` for the parameters of
    /// `trainable`. Without a root it is inference. `keep` names the values that must be readable
    /// after the step; the root always is.
    ///
    /// # Errors
    /// Those of the recording; [`Error::Core`] where the plan is too large; [`Error::Length`] where
    /// more than 7 values are to be kept.
    pub fn new(
        resnet: &ResNet,
        graph: &Graph,
        root: Option<ValueId>,
        keep: &[ValueId],
        trainable: ParamSet,
        options: Options,
    ) -> Result<Blueprint, Error> {
        Self::with_slots(resnet, graph, root, keep, trainable, options).map(|(blueprint, _)| blueprint)
    }

    /// The same, with the list of buffers, to be printed.
    ///
    /// # Errors
    /// As for [`Blueprint::new`].
    pub fn with_slots(
        resnet: &ResNet,
        graph: &Graph,
        root: Option<ValueId>,
        keep: &[ValueId],
        trainable: ParamSet,
        options: Options,
    ) -> Result<(Blueprint, NetSlots), Error> {
        if options.threads > MAX_THREADS {
            return Err(Error::Length { what: "threads, which are at most", expected: MAX_THREADS, got: options.threads });
        }
        let mut tape = graph.tape()?;
        let moving = moving(&tape);
        for node in tape.nodes_mut() {
            if let Op::Conv2d { conv, algorithms, .. } = &mut node.op {
                *algorithms = resnet.algorithms(conv, options.memory);
            }
        }
        let network = resnet.network().clone();
        let trainable = trainable.intersection(network.all());
        if keep.len() >= MAX_KEPT {
            return Err(Error::Length { what: "values to keep", expected: MAX_KEPT - 1, got: keep.len() });
        }
        let mut kept = [None; MAX_KEPT];
        for (place, value) in kept.iter_mut().zip(root.iter().chain(keep)) {
            tape.node(*value)?;
            *place = Some(*value);
        }
        let mut list = [tape.values().next().ok_or(Error::NothingToTrain)?; MAX_KEPT];
        let count = kept.iter().flatten().zip(list.iter_mut()).map(|(v, place)| *place = *v).count();
        let needs = match options.fuse {
            true => fuse(&mut tape, root, trainable, &list[..count])?,
            false => Needs::new(&tape, root, trainable),
        };
        for (v, node) in tape.values().zip(tape.nodes_mut()) {
            if let Op::MaxPool { places, .. } | Op::BatchNormPool { places, .. } = &mut node.op {
                *places = needs.at(v).backward();
            }
        }
        let context = Context { threads: options.threads.max(1), memory: options.memory };
        let param_len = |id: ParamId| network.param_at(id).len();
        let (plan, slots) = Plan::new(&tape, &needs, &context, &param_len, &list[..count], options.update)?;
        let held = if options.in_place { Held { params: trainable, ..moving } } else { Held::all(&network) };
        let lasting = Lasting::new(&network, held, momentum_of(&options, trainable))?;
        check_size(&lasting, &plan)?;
        Ok((Blueprint { network, tape, needs, plan, lasting, trainable, options, kept }, slots))
    }

    /// Bytes of the block that the step needs: one byte less is an error.
    pub fn bytes(&self) -> usize {
        block_bytes(self.numbers())
    }

    pub(crate) fn numbers(&self) -> usize {
        self.lasting.len() + self.plan.len()
    }

    /// Keeps more in the block.
    pub(crate) fn hold_also(&mut self, held: &Held) -> Result<(), Error> {
        let held = self.lasting.held.union(*held);
        let lasting = Lasting::new(&self.network, held, momentum_of(&self.options, self.trainable))?;
        check_size(&lasting, &self.plan)?;
        self.lasting = lasting;
        Ok(())
    }

    /// Whether anything is read in place: then the trainer needs the weights' file.
    pub fn borrows(&self) -> bool {
        self.lasting.held.union(Held::all(&self.network)) != self.lasting.held
    }

    /// Bytes of parameters and running statistics that are read in place, and are not in the block.
    pub fn borrowed_bytes(&self) -> usize {
        let held = &self.lasting.held;
        let params = self.network.param_ids().filter(|&id| !held.params.contains(id)).map(|id| self.network.param_at(id).len());
        let norms = self.network.norms().iter().enumerate().filter(|&(i, _)| !held.has_norm(NormId(i as u16)));
        4 * (params.sum::<usize>() + norms.map(|(_, norm)| 2 * norm.channels).sum::<usize>())
    }

    /// Whether `value` stays readable after the step.
    pub fn keeps(&self, value: ValueId) -> bool {
        self.kept.contains(&Some(value))
    }

    /// Whether there is a backward walk.
    pub fn trains(&self) -> bool {
        self.needs.root().is_some_and(|root| self.needs.at(root).backward())
    }

    /// Whether there is room for a parameter's momentum.
    pub fn plans_momentum(&self, id: ParamId) -> bool {
        !self.lasting.momentum(&self.network, id).is_empty()
    }

    /// The parameters.
    pub fn network(&self) -> &Network {
        &self.network
    }
    /// The recording, fused where it was.
    pub fn tape(&self) -> &NetTape {
        &self.tape
    }
    /// Which gradients exist.
    pub fn needs(&self) -> &NetNeeds {
        &self.needs
    }
    /// Where the buffers lie.
    pub fn plan(&self) -> &NetPlan {
        &self.plan
    }
    /// The parameters that are trained.
    pub fn trainable(&self) -> ParamSet {
        self.trainable
    }
    /// The choices.
    pub fn options(&self) -> Options {
        self.options
    }

    /// The convolution (a linear layer is one too) at `value` whose weight is stepped in the same pass
    /// that computes its gradient and the input's, and that weight. Only plans that update during the
    /// walk have such calls.
    pub fn one_pass(&self, value: ValueId) -> Option<(Conv2d, ParamId)> {
        let node = self.tape.node(value).ok()?;
        let wanted = self.options.update == Update::During && self.needs.at(value).dw[0];
        node.op.one_pass().filter(|_| wanted)
    }

    /// What is computed at `value` besides that one pass: its needs without the weight's gradient, where
    /// there is such a pass.
    pub fn need_apart(&self, value: ValueId) -> Need {
        let need = *self.needs.at(value);
        Need { dw: [need.dw[0] && self.one_pass(value).is_none(), need.dw[1]], ..need }
    }

    /// Bytes by kind; what shares memory is counted as it is at the busiest moment.
    pub fn summary(&self, slots: &NetSlots) -> Bytes {
        let (peak, _) = slots.peak();
        let mut bytes = Bytes {
            weights: 4 * self.lasting.weights,
            statistics: 4 * self.lasting.statistics,
            momentum: 4 * self.lasting.momentum_len,
            tables: size_of::<crate::Trainer>(),
            borrowed: self.borrowed_bytes(),
            block: self.bytes(),
            ..Bytes::default()
        };
        for slot in slots.as_slice().iter().filter(|s| s.begin <= peak && peak <= s.end) {
            let size = slot.units as usize * UNIT * 4;
            match slot.kind {
                Kind::Value(_) | Kind::Saved(_) | Kind::Gradient(_) | Kind::Addend(_) => bytes.activations += size,
                Kind::ForwardScratch(_) | Kind::BackwardScratch(_) => bytes.scratch += size,
                Kind::ParamGradient(_) => bytes.gradients += size,
            }
        }
        bytes.padding =
            bytes.block - bytes.weights - bytes.statistics - bytes.momentum - bytes.activations - bytes.scratch - bytes.gradients;
        bytes
    }

    /// The node and the pass at which most memory is in use.
    pub fn peak_node(&self) -> (ValueId, bool) {
        let (len, time) = (self.tape.nodes().len(), self.plan.peak() as usize);
        let (index, backward) = if time < len { (time, false) } else { (len - 1 - (time.min(3 * len - 1) - len) / 2, true) };
        (self.tape.values().nth(index).unwrap_or_else(|| unreachable!("a plan has values")), backward)
    }
}

/// Where the bytes of a step go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bytes {
    /// Parameters.
    pub weights: usize,
    /// Running statistics.
    pub statistics: usize,
    /// Momentum.
    pub momentum: usize,
    /// Gradients of parameters.
    pub gradients: usize,
    /// Activations, their gradients, and what forward leaves for backward.
    pub activations: usize,
    /// What single calls use.
    pub scratch: usize,
    /// Alignment, and gaps between buffers.
    pub padding: usize,
    /// The trainer itself: tape, plan, names. Not in the block.
    pub tables: usize,
    /// The whole block.
    pub block: usize,
    /// Weights and statistics that are read in place. Not in the block, and no memory of the trainer's.
    pub borrowed: usize,
}

impl Bytes {
    /// Everything: block and tables.
    pub const fn total(&self) -> usize {
        self.block + self.tables
    }
}

/// A line for each kind, with the weights that are read in place, if there are any, below the sum.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (what, bytes) in [
            ("weights", self.weights),
            ("running statistics", self.statistics),
            ("gradients", self.gradients),
            ("momentum", self.momentum),
            ("activations", self.activations),
            ("scratch", self.scratch),
            ("gaps and alignment", self.padding),
            ("tables (tape, plan)", self.tables),
            ("all", self.total()),
        ] {
            writeln!(f, "  {what:<20} {bytes:>12}")?;
        }
        match self.borrowed {
            0 => Ok(()),
            borrowed => writeln!(f, "read in place, from the file: {borrowed}"),
        }
    }
}

/// An error where the two regions together do not fit the address space.
fn check_size(lasting: &Lasting, plan: &NetPlan) -> Result<(), Error> {
    // Each is at most MOST_NUMBERS: the sum does not wrap around.
    match lasting.len() + plan.len() > MOST_NUMBERS {
        true => Err(nunatak_core::Error::TooLarge { shape: [1, 1, 1, usize::MAX] }.into()),
        false => Ok(()),
    }
}

/// The parameters that have a momentum buffer.
fn momentum_of(options: &Options, trainable: ParamSet) -> ParamSet {
    if options.momentum { trainable } else { ParamSet::EMPTY }
}

/// The normalisations whose running statistics a forward walk moves.
fn moving(tape: &NetTape) -> Held {
    let mut held = Held::NOTHING;
    for node in tape.nodes() {
        if let Op::BatchNorm { norm, batch: true, .. } = node.op {
            held.insert_norm(norm);
        }
    }
    held
}

impl Op {
    /// The parameters whose gradients this operation computes, given which are needed.
    pub fn trained(&self, dw: [bool; 2]) -> impl Iterator<Item = ParamId> + use<> {
        let params = nunatak_core::Operation::params(self);
        (0..2).filter(move |&i| dw[i]).filter_map(move |i| params[i])
    }
}
