//! The recording of a network with layers of 8 bits.

use super::units::{self, Unit};
use super::{MIDDLE, SCALES, SUFFIX};
use crate::Error;
use crate::ops::{Int8AvgPool, Int8Conv2d, Int8Dequantize, Int8MaxPool, Int8Quantize, Op, Scaled, entry_words};
use crate::record::{Graph, Recording, Usual, Var};
use nunatak_core::Shape;
use nunatak_core::tape::{EntryId, ValueId};
use nunatak_kernels::int8;
use nunatak_kernels::window::Window;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

/// A recording with layers of 8 bits, and where the values of the old one are in it.
#[derive(Debug)]
pub struct Rewritten {
    graph: Graph<'static>,
    values: Vec<Option<ValueId>>,
    pub(super) units: Vec<Unit>,
    /// The old value of each scale, in the order of [`SCALES`].
    pub(super) scales: Vec<ValueId>,
    /// The old value whose scale each value in 8 bits has, and the number that stands for 0.
    pub(super) held: BTreeMap<ValueId, (ValueId, u8)>,
}

impl Rewritten {
    /// The recording.
    pub fn graph(&self) -> &Graph<'static> {
        &self.graph
    }
    /// The value that has the meaning of one of the old recording, as floats; none where there is only its 8 bits, or
    /// where it is inside a layer of 8 bits.
    pub fn value(&self, old: ValueId) -> Option<Var<'_>> {
        let new = (*self.values.get(old.index())?)?;
        self.graph.value(new)
    }
    /// The values of a usual step in the new recording.
    ///
    /// # Errors
    /// [`Error::NotKept`] where one of them is inside a layer of 8 bits.
    pub fn usual(&self, old: &Usual) -> Result<Usual, Error> {
        let new = |v: ValueId| self.value(v).map(|v| v.id()).ok_or(Error::NotKept);
        let optional = |v: Option<ValueId>| v.map(new).transpose();
        Ok(Usual {
            data: new(old.data)?,
            labels: optional(old.labels)?,
            weights: optional(old.weights)?,
            features: new(old.features)?,
            prediction: new(old.prediction)?,
            loss: optional(old.loss)?,
            root: optional(old.root)?,
        })
    }
    /// The names of the layers of 8 bits.
    pub fn layers(&self) -> impl Iterator<Item = &str> {
        self.units.iter().map(|unit| &*unit.name)
    }
    /// The recording alone.
    pub fn into_graph(self) -> Graph<'static> {
        self.graph
    }
}

/// Rewrites a recording so that the convolutions whose names `wanted` accepts compute in 8 bits, with what follows them.
/// Of a state dict these are the layers that have an entry `NAME.int8`.
///
/// # Errors
/// Those of the recording; [`Error::NoInt8`] where no layer becomes one of 8 bits.
pub fn rewrite(graph: &Graph, wanted: &dyn Fn(&str) -> bool) -> Result<Rewritten, Error> {
    graph.with(|old| of_units(old, units::find(old).into_iter().filter(|unit| wanted(&unit.name)).collect()))
}

/// Rewrites a recording with these units.
pub(super) fn of_units(old: &Recording, units: Vec<Unit>) -> Result<Rewritten, Error> {
    if units.is_empty() {
        return Err(Error::NoInt8);
    }
    let mut rewriting = Rewriting::new(old, &units)?;
    for v in old.tape.values() {
        rewriting.value(v)?;
    }
    let Rewriting { mut new, floats, held, scaled, .. } = rewriting;
    let scales = new.declare_words(SCALES, scaled.len().max(1))?;
    for (index, (v, _)) in scaled.iter().enumerate() {
        let op = &mut new.tape.nodes_mut()[v.index()].op;
        if let Op::Int8Quantize(Int8Quantize { scaled: one })
        | Op::Int8Dequantize(Int8Dequantize { scaled: one })
        | Op::Int8AvgPool(Int8AvgPool { scaled: one }) = op
        {
            (one.scales, one.count, one.index) = (scales, scaled.len(), index);
        }
    }
    for (value, name) in old.names.iter() {
        if let Some(value) = floats[value.index()] {
            new.names.push((value, *name))?;
        }
    }
    let held = old.tape.values().filter_map(|v| Some((v, held[v.index()]?))).map(|(v, held)| (v, (held.scale_of, held.zero))).collect();
    let scales = scaled.into_iter().map(|(_, old)| old).collect();
    Ok(Rewritten { graph: Graph::of(new), values: floats, units, scales, held })
}

/// A value that lies in 8 bits.
#[derive(Clone, Copy)]
struct Held {
    value: ValueId,
    zero: u8,
    /// The old value whose scale it has.
    scale_of: ValueId,
}

struct Rewriting<'r, 's> {
    old: &'r Recording<'s>,
    new: Recording<'static>,
    /// The unit that makes a value, by the value.
    makes: BTreeMap<ValueId, &'r Unit>,
    /// What is inside a unit, and not its last value.
    inner: BTreeSet<ValueId>,
    /// New numbers of the old entries that stay, and of a unit's weight that of its words.
    entries: BTreeMap<EntryId, EntryId>,
    /// By the old values: as floats, and in 8 bits.
    floats: Vec<Option<ValueId>>,
    held: Vec<Option<Held>>,
    /// Steps that have a scale, and the old value whose it is.
    scaled: Vec<(ValueId, ValueId)>,
}

impl<'r, 's> Rewriting<'r, 's> {
    fn new(old: &'r Recording<'s>, units: &'r [Unit]) -> Result<Self, Error> {
        let mut new = Recording::with_text_of(old)?;
        let weights: BTreeMap<EntryId, &Unit> = units.iter().filter_map(|unit| Some((unit.conv(old)?.weight, unit))).collect();
        let gone: BTreeSet<EntryId> = units.iter().flat_map(|unit| unit.entries.iter().copied()).collect();
        let mut entries = BTreeMap::new();
        for (i, declared) in old.entries.iter().enumerate() {
            let id = EntryId(i as u32);
            let number = match weights.get(&id) {
                Some(unit) => new.declare_words(&std::format!("{}{SUFFIX}", unit.name), unit.words(old)?)?,
                None if gone.contains(&id) => continue,
                None => new.adopt(declared)?,
            };
            entries.insert(id, number);
        }
        let makes = units.iter().map(|unit| (unit.last(), unit)).collect();
        let inner = units.iter().flat_map(|unit| unit.chain.iter().copied().filter(|v| *v != unit.last())).collect();
        let values = old.tape.nodes().len();
        let (floats, held) = (std::vec![None; values], std::vec![None; values]);
        Ok(Rewriting { old, new, makes, inner, entries, floats, held, scaled: Vec::new() })
    }

    fn shape(&self, v: ValueId) -> Shape {
        self.old.tape.nodes()[v.index()].shape
    }

    /// Makes an old value anew.
    fn value(&mut self, v: ValueId) -> Result<(), Error> {
        if self.inner.contains(&v) {
            return Ok(());
        }
        if let Some(unit) = self.makes.get(&v).copied() {
            return self.unit(v, unit);
        }
        let x = self.old.tape.inputs(v).first().copied();
        let from = x.and_then(|x| Some((x, self.held[x.index()]?)));
        match (self.old.tape.nodes()[v.index()].op, from) {
            (Op::MaxPool(pool), Some((x, held))) => {
                let window =
                    Window { kernel: [pool.size.kernel; 2], stride: [pool.size.stride; 2], pad: [pool.size.pad; 2], dilation: [1; 2] };
                let op = Op::Int8MaxPool(Int8MaxPool { shape: self.shape(x), window });
                let value = self.new.tape.push(op, &[held.value], packed(self.shape(v))?)?;
                self.hold(v, Held { value, ..held })
            }
            (Op::AvgPool(_), Some((x, held))) if self.shape(v).h() * self.shape(v).w() == 1 => {
                let op = Op::Int8AvgPool(Int8AvgPool { scaled: self.scaled_as(x, held.zero) });
                let value = self.new.tape.push(op, &[held.value], self.shape(v))?;
                self.scaled.push((value, held.scale_of));
                self.floats[v.index()] = Some(value);
                Ok(())
            }
            (op, _) => self.copied(v, op),
        }
    }

    /// A step that stays one of floats.
    fn copied(&mut self, v: ValueId, mut op: Op) -> Result<(), Error> {
        let mut inputs = Vec::new();
        for x in self.old.tape.inputs(v) {
            inputs.push(self.float(*x)?);
        }
        let (entries, shape) = (&self.entries, self.shape(v));
        if let Some(facts) = op.facts_mut() {
            // What a unit has not taken has a number.
            facts.renumber(&|id| entries.get(&id).copied().unwrap_or(id));
        }
        self.floats[v.index()] = Some(self.new.tape.push(op, &inputs, shape)?);
        Ok(())
    }

    fn unit(&mut self, v: ValueId, unit: &Unit) -> Result<(), Error> {
        let Some(conv) = unit.conv(self.old) else { return Err(Error::NoInt8) };
        let x = self.held(self.old.tape.inputs(unit.conv)[0])?;
        let residual = unit.residual.map(|r| self.held(r)).transpose()?;
        let zero = if unit.relu { 0 } else { MIDDLE };
        let size = int8::Conv2d::new(conv.size, x.zero, zero, unit.relu, residual.map(|r| r.zero)).map_err(|_| Error::NoInt8)?;
        let words = self.entries.get(&conv.weight).copied().unwrap_or(conv.weight);
        let inputs = [x.value, residual.map_or(x.value, |r| r.value)];
        let op = Op::Int8Conv2d(Int8Conv2d { size, words });
        let value = self.new.tape.push(op, &inputs[..1 + usize::from(residual.is_some())], packed(self.shape(v))?)?;
        self.hold(v, Held { value, zero, scale_of: v })
    }

    /// Notes that an old value lies in 8 bits; one that has a name is there as floats too.
    fn hold(&mut self, v: ValueId, held: Held) -> Result<(), Error> {
        self.held[v.index()] = Some(held);
        if self.old.names.iter().any(|(named, _)| *named == v) {
            self.float(v)?;
        }
        Ok(())
    }

    /// An old value in 8 bits.
    fn held(&mut self, v: ValueId) -> Result<Held, Error> {
        if let Some(held) = self.held[v.index()] {
            return Ok(held);
        }
        let x = self.float(v)?;
        let op = Op::Int8Quantize(Int8Quantize { scaled: self.scaled_as(v, MIDDLE) });
        let value = self.new.tape.push(op, &[x], packed(self.shape(v))?)?;
        self.scaled.push((value, v));
        let held = Held { value, zero: MIDDLE, scale_of: v };
        self.held[v.index()] = Some(held);
        Ok(held)
    }

    /// An old value as floats.
    fn float(&mut self, v: ValueId) -> Result<ValueId, Error> {
        if let Some(value) = self.floats[v.index()] {
            return Ok(value);
        }
        let Some(held) = self.held[v.index()] else { return Err(Error::NoInt8) };
        let op = Op::Int8Dequantize(Int8Dequantize { scaled: self.scaled_as(v, held.zero) });
        let value = self.new.tape.push(op, &[held.value], self.shape(v))?;
        self.scaled.push((value, held.scale_of));
        self.floats[v.index()] = Some(value);
        Ok(value)
    }

    /// A step's tensor; its scale is named when all are known.
    fn scaled_as(&self, v: ValueId, zero: u8) -> Scaled {
        Scaled { shape: self.shape(v), zero, scales: EntryId(0), count: 1, index: 0 }
    }
}

impl Unit {
    /// Words of its entry.
    pub(super) fn words(&self, recording: &Recording) -> Result<usize, Error> {
        let conv = self.conv(recording).ok_or(Error::NoInt8)?;
        // Their number does not depend on zeros, a relu or a residual.
        let size = int8::Conv2d::new(conv.size, MIDDLE, MIDDLE, false, None).map_err(|_| Error::NoInt8)?;
        Ok(entry_words(&size))
    }
}

/// The shape of the words in which a tensor lies in 8 bits: images, then words of each.
fn packed(shape: Shape) -> Result<Shape, Error> {
    let words = crate::ops::int8_bytes(shape) / 4 / shape.n();
    Ok(Shape::new(shape.n(), words, 1, 1)?)
}
