//! From a network of floats and some images to one with layers of 8 bits.

use super::range::Range;
use super::rewrite::{self, Rewritten};
use super::units;
use super::weights::{self, Scales};
use super::{SCALES, SUFFIX};
use crate::files::state::{State, Values};
use crate::ops::Op;
use crate::plan::Step;
use crate::record::Graph;
use crate::select::{Mode, Select};
use crate::step::Trainer;
use crate::{Error, InstructionSet, Program};
use nunatak_core::tape::ValueId;
use std::collections::{BTreeMap, BTreeSet};
use std::string::{String, ToString};
use std::vec::Vec;

/// Makes the state dict of a network with layers of 8 bits: see [the module](super).
///
/// Images are run by [`Quantizer::plan`], at the portable level by `gemm`: so scales, and the file that is made of them,
/// are the same on every machine.
pub struct Quantizer<'g, 's> {
    graph: &'g Graph<'s>,
    rewritten: Rewritten,
    ranges: BTreeMap<ValueId, Range>,
    /// Values of the old recording whose numbers are looked at.
    values: Vec<ValueId>,
}

impl core::fmt::Debug for Quantizer<'_, '_> {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        f.debug_struct("Quantizer").field("rewritten", &self.rewritten).finish_non_exhaustive()
    }
}

impl<'g, 's> Quantizer<'g, 's> {
    /// For a recording of which these parameters are trained: every convolution becomes one of 8 bits that has such a
    /// form, reads nothing that is trained, and has nothing that is trained before it.
    ///
    /// # Errors
    /// Those of the recording; [`Error::UnknownName`] where nothing has a name that is to be trained; [`Error::NoInt8`]
    /// where no layer becomes one of 8 bits.
    pub fn new(graph: &'g Graph<'s>, trainable: Select) -> Result<Quantizer<'g, 's>, Error> {
        let rewritten = graph.with(|recording| {
            trainable.check(recording)?;
            let mut trained = BTreeSet::new();
            for v in recording.tape.values() {
                let op = &recording.tape.nodes()[v.index()].op;
                let own = op.facts().entries().ids().any(|id| trainable.selects(recording, id));
                if own || recording.tape.inputs(v).iter().any(|x| trained.contains(x)) {
                    trained.insert(v);
                }
            }
            let units = units::find(recording).into_iter().filter(|unit| !trained.contains(&unit.last()));
            rewrite::of_units(recording, units.collect())
        })?;
        let of = |v: &ValueId| rewritten.held.get(v).map_or(*v, |(scale_of, _)| *scale_of);
        let values: BTreeSet<ValueId> = rewritten.held.keys().map(of).collect();
        let ranges = values.iter().map(|v| (*v, Range::default())).collect();
        Ok(Quantizer { graph, rewritten, ranges, values: values.into_iter().collect() })
    }

    /// The recording of the network with layers of 8 bits.
    pub fn rewritten(&self) -> &Rewritten {
        &self.rewritten
    }

    /// The program that runs the network of floats for [`Quantizer::observe`]: in eval mode, by `gemm`, for the portable
    /// level.
    ///
    /// # Errors
    /// Those of [`Step::plan`].
    pub fn plan(&self, threads: usize) -> Result<Program<'static>, Error> {
        let step = Step::new(self.graph).mode(Mode::Eval).train(Select::None).gemm_only(true).threads(threads);
        step.level(InstructionSet::Portable).keep(&self.values).plan()
    }

    /// Notes the numbers of the last forward pass of a trainer with that program, which holds the network of floats.
    ///
    /// # Errors
    /// Those of [`Trainer::value`].
    pub fn observe(&mut self, trainer: &Trainer) -> Result<(), Error> {
        for (v, range) in &mut self.ranges {
            let len = self.graph.value(*v).ok_or(Error::NotKept)?.shape().len();
            let mut numbers = std::vec![0.0; len];
            trainer.value(*v, &mut numbers)?;
            range.see(&numbers);
        }
        Ok(())
    }

    /// The state dict of the network with layers of 8 bits: those of the trainer, which holds the network of floats,
    /// rounded, and everything else as it is.
    ///
    /// # Errors
    /// [`Error::NoInt8`] where nothing was observed; [`Error::NotFiniteInt8`] where a layer's numbers can't be rounded.
    pub fn state(&self, trainer: &Trainer) -> Result<State, Error> {
        if self.ranges.values().all(Range::is_empty) {
            return Err(Error::NoInt8);
        }
        let of = |v: ValueId| {
            let (scale_of, zero) = self.rewritten.held.get(&v).copied().unwrap_or((v, super::MIDDLE));
            let steps = if zero == 0 { 255.0 } else { 127.0 };
            self.ranges.get(&scale_of).map_or(1.0, |range| range.scale(steps))
        };
        let mut words = self.graph.with(|recording| {
            let mut words: BTreeMap<String, Vec<i32>> = BTreeMap::new();
            for unit in &self.rewritten.units {
                let x = recording.tape.inputs(unit.conv)[0];
                let residual = unit.residual.map(|r| f64::from(of(r)));
                let scales = Scales { x: of(x).into(), y: of(unit.last()).into(), residual };
                let size = self.size_of(&unit.name)?;
                words.insert(std::format!("{}{SUFFIX}", unit.name), weights::words(recording, trainer, unit, &size, scales)?);
            }
            Ok(words)
        })?;
        let scales = self.rewritten.scales.iter().map(|v| of(*v).to_bits() as i32).collect::<Vec<_>>();
        words.insert(SCALES.to_string(), if scales.is_empty() { std::vec![0] } else { scales });
        self.named(trainer, words)
    }

    /// The sizes of a layer of 8 bits.
    fn size_of(&self, name: &str) -> Result<nunatak_kernels::int8::Conv2d, Error> {
        self.rewritten.graph().with(|recording| {
            let own = |op: &Op| match op {
                Op::Int8Conv2d(conv) => recording.entry_name(conv.words).strip_suffix(SUFFIX) == Some(name),
                _ => false,
            };
            match recording.tape.nodes().iter().find(|node| own(&node.op)).map(|node| node.op) {
                Some(Op::Int8Conv2d(conv)) => Ok(conv.size),
                _ => Err(Error::NoInt8),
            }
        })
    }

    /// The entries in the order of the new recording.
    fn named(&self, trainer: &Trainer, mut words: BTreeMap<String, Vec<i32>>) -> Result<State, Error> {
        let mut old: BTreeMap<String, (Vec<usize>, Values)> =
            trainer.state().tensors.into_iter().map(|(name, shape, values)| (name, (shape, values))).collect();
        let (mut tensors, mut missing) = (Vec::new(), false);
        self.rewritten.graph().each_entry(|name, _| match (words.remove(name), old.remove(name)) {
            (Some(words), _) => tensors.push((name.to_string(), std::vec![words.len()], Values::I32(words))),
            (None, Some((shape, values))) => tensors.push((name.to_string(), shape, values)),
            (None, None) => missing = true,
        });
        if missing { Err(Error::OtherNetwork) } else { Ok(State { tensors }) }
    }
}
