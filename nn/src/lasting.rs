//! What a trainer keeps from step to step, and where: parameters, running statistics and momentum at
//! the front of the block, or, of what is read in place, in the borrowed weights.

use crate::Error;
use crate::memory::FILE;
use crate::params::{Entry, MAX_NORMS, Network, NormId};
use core::ops::Range;
use nunatak_core::arena::{MOST_NUMBERS, UNIT};
use nunatak_core::{ParamId, ParamSet};

/// One thing of the lasting region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Thing {
    Param(ParamId),
    /// Running mean, then running variance.
    Statistics(NormId),
    Momentum(ParamId),
}

/// The parameters and normalisations whose home is the block; the others' is the borrowed weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) params: ParamSet,
    /// Normalisations, as bits.
    pub(crate) norms: u128,
}

const _: () = assert!(MAX_NORMS <= 128);

impl Held {
    pub(crate) const NOTHING: Held = Held { params: ParamSet::EMPTY, norms: 0 };

    /// Everything of a network.
    pub(crate) fn all(network: &Network) -> Held {
        let mut held = Held { params: network.all(), norms: 0 };
        (0..network.norms().len() as u16).for_each(|i| held.insert_norm(NormId(i)));
        held
    }
    pub(crate) fn insert_norm(&mut self, id: NormId) {
        self.norms |= 1 << id.index();
    }
    pub(crate) fn has_norm(&self, id: NormId) -> bool {
        self.norms >> id.index() & 1 == 1
    }
    pub(crate) fn union(self, other: Held) -> Held {
        Held { params: self.params.union(other.params), norms: self.norms | other.norms }
    }
}

/// A unit of the borrowed weights that was not looked up yet.
const UNBOUND: u32 = u32::MAX;

/// The lasting region: parameters, running statistics, momentum. In this order, so that a plan which
/// trains less only cuts off its end.
#[derive(Clone)]
pub(crate) struct Lasting {
    params: [u32; ParamSet::CAPACITY + 1],
    norms: [u32; MAX_NORMS + 1],
    momentum: [u32; ParamSet::CAPACITY + 1],
    pub(crate) held: Held,
    /// Where in the borrowed weights, in units, lies what is not held.
    borrowed_params: [u32; ParamSet::CAPACITY],
    borrowed_norms: [[u32; 2]; MAX_NORMS],
    pub(crate) weights: usize,
    pub(crate) statistics: usize,
    pub(crate) momentum_len: usize,
}

impl Lasting {
    /// The region that holds these things, and momentum for some of the parameters.
    pub(crate) fn new(network: &Network, held: Held, with_momentum: ParamSet) -> Result<Lasting, Error> {
        let mut lasting = Lasting {
            params: [0; ParamSet::CAPACITY + 1],
            norms: [0; MAX_NORMS + 1],
            momentum: [0; ParamSet::CAPACITY + 1],
            held,
            borrowed_params: [UNBOUND; ParamSet::CAPACITY],
            borrowed_norms: [[UNBOUND; 2]; MAX_NORMS],
            weights: 0,
            statistics: 0,
            momentum_len: 0,
        };
        let units = |numbers: usize| numbers.div_ceil(UNIT) as u64;
        let mut at = 0_u64;
        let mut next = |numbers: usize| {
            at += units(numbers);
            u32::try_from(at).map_err(|_| nunatak_core::Error::TooLarge { shape: [1, 1, 1, usize::MAX] })
        };
        for (id, param) in network.param_ids().zip(network.params()) {
            lasting.params[id.index() + 1] = next(if held.params.contains(id) { param.len() } else { 0 })?;
        }
        lasting.norms[0] = next(0)?;
        for (i, norm) in network.norms().iter().enumerate() {
            lasting.norms[i + 1] = next(if held.has_norm(NormId(i as u16)) { 2 * norm.channels } else { 0 })?;
        }
        lasting.momentum[0] = next(0)?;
        for id in network.param_ids() {
            let len = if with_momentum.contains(id) { network.param_at(id).len() } else { 0 };
            lasting.momentum[id.index() + 1] = next(len)?;
        }
        let end = next(0)? as usize;
        if end > MOST_NUMBERS / UNIT {
            return Err(nunatak_core::Error::TooLarge { shape: [1, 1, 1, usize::MAX] }.into());
        }
        let end = end * UNIT;
        lasting.weights = lasting.norms[0] as usize * UNIT;
        lasting.statistics = lasting.momentum[0] as usize * UNIT - lasting.weights;
        lasting.momentum_len = end - lasting.weights - lasting.statistics;
        Ok(lasting)
    }

    /// Numbers of the region.
    pub(crate) fn len(&self) -> usize {
        self.weights + self.statistics + self.momentum_len
    }

    /// Notes where in the borrowed weights a line of the state dict lies, in units.
    pub(crate) fn borrow(&mut self, entry: Entry, unit: u32) {
        match entry {
            Entry::Param(id) => self.borrowed_params[id.index()] = unit,
            Entry::RunningMean(id) => self.borrowed_norms[id.index()][0] = unit,
            Entry::RunningVar(id) => self.borrowed_norms[id.index()][1] = unit,
            Entry::NumBatchesTracked(_) => {}
        }
    }

    /// Where a thing lies; `len` is its length. Empty where there is none.
    fn range(table: &[u32], i: usize, len: usize) -> Range<usize> {
        let start = table[i] as usize * UNIT;
        start..start + if table[i] == table[i + 1] { 0 } else { len }
    }

    /// The address of something borrowed; empty before it was looked up.
    fn borrowed(unit: u32, len: usize) -> Range<usize> {
        if unit == UNBOUND {
            return 0..0;
        }
        let start = FILE + unit as usize * UNIT;
        start..start + len
    }

    /// A parameter's address, see [`crate::memory`].
    pub(crate) fn param(&self, network: &Network, id: ParamId) -> Range<usize> {
        let len = network.param_at(id).len();
        match self.held.params.contains(id) {
            true => Self::range(&self.params, id.index(), len),
            false => Self::borrowed(self.borrowed_params[id.index()], len),
        }
    }

    pub(crate) fn momentum(&self, network: &Network, id: ParamId) -> Range<usize> {
        Self::range(&self.momentum, id.index(), network.param_at(id).len())
    }

    /// A running mean's address.
    pub(crate) fn running_mean(&self, network: &Network, id: NormId) -> Range<usize> {
        let len = network.norms()[id.index()].channels;
        match self.held.has_norm(id) {
            true => Self::range(&self.norms, id.index(), len),
            false => Self::borrowed(self.borrowed_norms[id.index()][0], len),
        }
    }

    /// A running variance's address.
    pub(crate) fn running_var(&self, network: &Network, id: NormId) -> Range<usize> {
        let mean = self.running_mean(network, id);
        match self.held.has_norm(id) {
            true => mean.end..mean.end + mean.len(),
            false => Self::borrowed(self.borrowed_norms[id.index()][1], network.norms()[id.index()].channels),
        }
    }

    /// Where in the block a thing lies; empty where it is not there.
    pub(crate) fn place(&self, network: &Network, thing: Thing) -> Range<usize> {
        match thing {
            Thing::Param(id) => Self::range(&self.params, id.index(), network.param_at(id).len()),
            Thing::Momentum(id) => self.momentum(network, id),
            Thing::Statistics(id) => Self::range(&self.norms, id.index(), 2 * network.norms()[id.index()].channels),
        }
    }

    /// Everything in the region, in its order.
    pub(crate) fn things(network: &Network) -> impl DoubleEndedIterator<Item = Thing> + use<> {
        let norms = (0..network.norms().len() as u16).map(|i| Thing::Statistics(NormId(i)));
        network.param_ids().map(Thing::Param).chain(norms).chain(network.param_ids().map(Thing::Momentum))
    }
}
