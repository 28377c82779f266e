//! What of a recording becomes one operation of 8 bits: a convolution, and what follows it alone.

use crate::ops::{Conv2d, Facts, Finish, Op, Pointwise, Then};
use crate::record::Recording;
use nunatak_core::tape::{EntryId, ValueId};
use nunatak_kernels::int8;
use nunatak_kernels::pointwise::Pointwise as Function;
use std::collections::BTreeSet;
use std::string::{String, ToString};
use std::vec::Vec;

/// A convolution with its normalisation, sum and relu.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// The convolution's name.
    pub(super) name: String,
    pub(super) conv: ValueId,
    pub(super) norm: Option<ValueId>,
    /// What is added.
    pub(super) residual: Option<ValueId>,
    /// Whether a relu (or relu6, which is a scale of 6 / 255 at most) follows.
    pub(super) relu: bool,
    /// Its steps in their order; the last one's value is the unit's.
    pub(super) chain: Vec<ValueId>,
    /// All entries of the state dict that it reads.
    pub(super) entries: Vec<EntryId>,
}

impl Unit {
    /// The value that it makes.
    pub(super) fn last(&self) -> ValueId {
        self.chain.last().copied().unwrap_or(self.conv)
    }
    /// The convolution.
    pub(super) fn conv<'r>(&self, recording: &'r Recording) -> Option<&'r Conv2d> {
        match &recording.tape.nodes()[self.conv.index()].op {
            Op::Conv2d(conv) => Some(conv),
            _ => None,
        }
    }
}

/// Every convolution that has a form of 8 bits, in the order of recording, each with what follows it alone and nobody
/// gave a name.
pub(super) fn find(recording: &Recording) -> Vec<Unit> {
    let readers = Readers::of(recording);
    let mut taken = BTreeSet::new();
    let mut units = Vec::new();
    for v in recording.tape.values() {
        let Op::Conv2d(conv) = &recording.tape.nodes()[v.index()].op else { continue };
        let Some(unit) = unit(recording, &readers, &taken, v, conv) else { continue };
        taken.extend(unit.chain.iter().copied());
        units.push(unit);
    }
    units
}

fn unit(recording: &Recording, readers: &Readers, taken: &BTreeSet<ValueId>, v: ValueId, conv: &Conv2d) -> Option<Unit> {
    let name = recording.entry_name(conv.weight).strip_suffix(".weight")?.to_string();
    if !matches!(conv.finish, Finish::Nothing) || int8::Conv2d::new(conv.size, super::MIDDLE, super::MIDDLE, false, None).is_err() {
        return None;
    }
    let op = |v: ValueId| &recording.tape.nodes()[v.index()].op;
    let next = |v: ValueId| readers.only(v).filter(|next| !taken.contains(next));
    let mut unit =
        Unit { name, conv: v, norm: None, residual: None, relu: false, chain: std::vec![v], entries: conv.entries().ids().collect() };
    if let Some(after) = next(unit.last())
        && let Op::BatchNorm(norm) = op(after)
        && norm.then == Then::default()
    {
        let own = [norm.gamma, norm.beta, Some(norm.mean), Some(norm.var), Some(norm.count)];
        unit.entries.extend(own.into_iter().flatten());
        unit.norm = Some(after);
        unit.chain.push(after);
    }
    if let Some(after) = next(unit.last())
        && let Op::Add(_) = op(after)
    {
        unit.residual = recording.tape.inputs(after).iter().copied().find(|x| *x != unit.last());
        unit.chain.push(after);
    }
    if let Some(after) = next(unit.last())
        && matches!(op(after), Op::Relu(_) | Op::Pointwise(Pointwise { function: Function::Relu6, .. }))
    {
        unit.relu = true;
        unit.chain.push(after);
    }
    Some(unit)
}

/// Who reads each value.
struct Readers(Vec<Vec<ValueId>>);

impl Readers {
    fn of(recording: &Recording) -> Readers {
        let mut readers = std::vec![Vec::new(); recording.tape.nodes().len()];
        for v in recording.tape.values() {
            for x in recording.tape.inputs(v) {
                readers[x.index()].push(v);
            }
        }
        // A value with a name is one that somebody wants to read.
        for (named, _) in recording.names.iter() {
            readers[named.index()].extend([*named, *named]);
        }
        Readers(readers)
    }
    /// The one step that reads a value, once.
    fn only(&self, v: ValueId) -> Option<ValueId> {
        match self.0[v.index()][..] {
            [one] => Some(one),
            _ => None,
        }
    }
}
