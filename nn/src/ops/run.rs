//! What a routine works with: the CPU, the memory that it lends from, and the lasting state.

use crate::Error;
use crate::memory::{self, Block, FILE};
use crate::name::Name;
use crate::ops::Context;
use crate::optim::Optimizer;
use crate::routines::Table;
use core::ops::Range;
use nunatak_core::arena::Lent;
use nunatak_core::program::{Call, Place, Program, WEIGHTS};
use nunatak_core::tape::EntryId;
use nunatak_kernels::conv2d::BackwardStep;
use nunatak_kernels::sgd::{self, Sgd};
use nunatak_kernels::{Conv2d, Cpu, Pass, elementwise, finite};

/// Everything that a routine may use.
pub(crate) struct Run<'r, 'm> {
    pub(crate) cpu: Cpu<'r>,
    pub(crate) memory: &'r mut Block<'m>,
    pub(crate) context: Context,
    pub(crate) routines: Table,
    /// Where the lasting state lies in the block.
    pub(crate) state: Range<usize>,
    /// How many entries count batches: the first numbers of the state.
    pub(crate) counts: usize,
    /// What a step of SGD does, where parameters are updated during the walk.
    pub(crate) sgd: Option<&'r Optimizer<'r>>,
}

/// In an entry's mark: it has a gradient.
pub(crate) const HAS_GRADIENT: u8 = 1;
/// In an entry's mark: it has a momentum.
pub(crate) const HAS_MOMENTUM: u8 = 2;

/// In an entry's mark: its gradient has a number that is not finite.
pub(crate) const NOT_FINITE: u8 = 4;
/// In an entry's mark: it was updated during the last walk.
pub(crate) const UPDATED: u8 = 8;
/// In an entry's mark: gradients that it was not updated by yet are in its momentum.
pub(crate) const SUMMED: u8 = 16;

impl Run<'_, '_> {
    /// The mark of an entry.
    pub(crate) fn mark(&mut self, id: EntryId) -> &mut u8 {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.memory[self.state.clone()]);
        &mut bytes[Program::marks(self.counts) + id.index()]
    }
    /// Whether an entry has a gradient to which the next is added.
    pub(crate) fn has_gradient(&mut self, id: EntryId) -> bool {
        *self.mark(id) & HAS_GRADIENT != 0
    }
    /// How many forward passes in train mode there were.
    pub(crate) fn forwards(&self) -> u64 {
        let counts: &[u64] = bytemuck::cast_slice(&self.memory[self.state.clone()]);
        counts[self.counts]
    }
    /// Notes that an entry has a gradient now, or none any more.
    pub(crate) fn set_gradient(&mut self, id: EntryId, exists: bool) {
        let mark = self.mark(id);
        *mark = if exists { *mark | HAS_GRADIENT } else { *mark & !HAS_GRADIENT };
    }
    /// Whether the gradient that was just computed of the parameter at a position of a call is finite; noted in
    /// its mark. `product` says that it is a sum of products of the call's input and dy, and `before` that it was
    /// added to what was there.
    ///
    /// The least is read that tells it: input and dy, if they are shorter and small, or the gradient itself.
    pub(crate) fn note_finite(&mut self, call: &Call, position: usize, product: bool, before: bool) -> Result<bool, Error> {
        let (id, gradient) = (call.entry(position), self.gradient(call, position)?);
        let (x, dy) = (call.x(0), call.dy());
        let shorter = product && x.len() + dy.len() < gradient.len();
        let certain = shorter && [x, dy].iter().all(|place| finite::is_small(&self.cpu, self.memory.read(address(*place))));
        let mark = *self.mark(id) & NOT_FINITE != 0;
        let is_finite = match certain {
            true => !(before && mark),
            false => finite::all(&self.cpu, self.memory.read(address(gradient))),
        };
        let mark = self.mark(id);
        *mark = if is_finite { *mark & !NOT_FINITE } else { *mark | NOT_FINITE };
        Ok(is_finite)
    }

    /// The error of a gradient that is not finite.
    pub(crate) fn not_finite(&mut self, program: &Program, id: EntryId) -> Error {
        let updated = program.updates().filter(|id| *self.mark(*id) & UPDATED != 0).count();
        Error::GradientNotFinite { name: Name::of(program.entry(id).name()), updated }
    }

    /// The next batch of a normalisation was seen: the count with this number grows.
    pub(crate) fn count_batch(&mut self, number: u32) {
        let counts: &mut [i64] = bytemuck::cast_slice_mut(&mut self.memory[self.state.clone()]);
        let count = &mut counts[number as usize];
        *count = count.wrapping_add(1);
    }
    /// How many batches a normalisation has seen.
    pub(crate) fn batches(&self, number: u32) -> i64 {
        let counts: &[i64] = bytemuck::cast_slice(&self.memory[self.state.clone()]);
        counts[number as usize]
    }
    /// What a step does with the parameter at a position of a call.
    pub(crate) fn settings(&self, call: &Call, position: usize) -> Option<Sgd> {
        let id = call.entry(position);
        self.sgd.map(|groups| groups.of_entry(id, call.program().entry(id).name()))
    }
}

/// The address of a place, see [`crate::memory`].
pub(crate) fn address(place: Place) -> Range<usize> {
    let range = place.range();
    match place.region {
        WEIGHTS if !range.is_empty() => range.start + FILE..range.end + FILE,
        _ => range,
    }
}

/// Lends places: some to read, some to write.
///
/// # Errors
/// [`nunatak_core::Error::Overlap`].
pub(crate) fn lend<'a, const R: usize, const W: usize>(
    memory: &'a mut Block<'_>,
    reads: [Place; R],
    writes: [Place; W],
) -> Result<Lent<'a, R, W>, Error> {
    Ok(memory::lend(memory, reads.map(address), writes.map(address))?)
}

/// A part of a place.
pub(crate) trait Shorter {
    /// Its first numbers.
    fn first(self, len: usize) -> Self;
    /// Nothing, where a condition does not hold.
    fn when(self, wanted: bool) -> Self;
}

impl Shorter for Place {
    fn first(self, len: usize) -> Place {
        Place { len: self.len.min(u32::try_from(len).unwrap_or(u32::MAX)), ..self }
    }
    fn when(self, wanted: bool) -> Place {
        if wanted { self } else { Place::default() }
    }
}

/// The scratch of the weight's gradient: as long as this pass asks for, though the other pass may have asked
/// for more. Where a pass over the pixels is cut depends on it, and with it the last bits.
pub(crate) fn weight_scratch(call: &Call, run: &Run, of: impl Fn(Pass, &Context) -> usize) -> Place {
    call.scratch().first(of(Pass::BackwardWeight, &run.context))
}

impl Run<'_, '_> {
    /// Where the gradient of the parameter at a position of a call goes.
    ///
    /// # Errors
    /// [`Error::Program`] where the program has no place for it.
    pub(crate) fn gradient(&self, call: &Call, position: usize) -> Result<Place, Error> {
        call.program().entry(call.entry(position)).gradient().ok_or(Error::Misfit("a gradient without a place"))
    }

    /// A batch was seen: how far it moves the running statistics.
    pub(crate) fn statistics_factor(&mut self, count: u32, momentum: Option<f32>) -> f32 {
        self.count_batch(count);
        momentum.unwrap_or_else(|| (1.0 / self.batches(count) as f64) as f32)
    }

    /// A gradient that is dy as it is: copied, or added; nothing to do where it lies there already.
    pub(crate) fn pass_on(&mut self, dy: Place, dx: Place, adds: bool) -> Result<(), Error> {
        if dy.is_empty() {
            return Ok(());
        }
        let ([dy], [dx]) = lend(self.memory, [dy], [dx])?;
        match adds {
            true => elementwise::add_assign(&self.cpu, dy, dx),
            false => dx.copy_from_slice(dy),
        }
        Ok(())
    }

    /// The gradient of a weight, its step, and the input's gradient where it is wanted.
    ///
    /// The gradient lies nowhere, so it is judged before by what it is a sum of products of: input and dy, which
    /// are short here. Numbers so large that their products might overflow are refused too.
    ///
    /// # Errors
    /// [`Error::GradientNotFinite`], [`Error::UpdateIsDuring`], [`Error::NoMomentum`].
    pub(crate) fn one_pass(&mut self, call: &Call, conv: &Conv2d) -> Result<(), Error> {
        let (id, sgd) = (call.entry(0), self.settings(call, 0).ok_or(Error::UpdateIsDuring)?);
        let entry = call.program().entry(id);
        let buffered = sgd.momentum != 0.0;
        let momentum = if buffered { entry.momentum().ok_or(Error::NoMomentum)? } else { Place::default() };
        let first = *self.mark(id) & HAS_MOMENTUM == 0;
        if ![call.x(0), call.dy()].iter().all(|place| finite::is_small(&self.cpu, self.memory.read(address(*place)))) {
            return Err(self.not_finite(call.program(), id));
        }
        let writes = [entry.place(), momentum, call.dx(0), call.scratch()];
        let ([x, dy], [w, momentum, dx, scratch]) = lend(self.memory, [call.x(0), call.dy()], writes)?;
        let (dx, add) = (call.wants_input(0).then_some(dx), call.adds(0));
        conv.backward_step(&self.cpu, &sgd, BackwardStep { x, dy, w, momentum, first, dx, add, scratch });
        *self.mark(id) |= UPDATED | if buffered { HAS_MOMENTUM } else { 0 };
        Ok(())
    }

    /// Adds a parameter's gradient to its momentum, as the next step of SGD wants it: the first of a step takes its
    /// share of the old momentum, and the weight decay.
    ///
    /// # Errors
    /// [`Error::NoMomentum`], [`Error::NoGradients`].
    pub(crate) fn add_to_momentum(&mut self, program: &Program, id: EntryId, sgd: &Sgd) -> Result<(), Error> {
        let entry = program.entry(id);
        let (momentum, gradient) = (entry.momentum().ok_or(Error::NoMomentum)?, entry.gradient().ok_or(Error::NoGradients)?);
        let mark = *self.mark(id);
        let old = if mark & HAS_MOMENTUM == 0 { 0.0 } else { sgd.momentum };
        // PyTorch's first step takes the gradient whole.
        let kept = if mark & HAS_MOMENTUM == 0 { 1.0 } else { 1.0 - sgd.dampening };
        let ([p, gradient], [momentum]) = lend(self.memory, [entry.place(), gradient], [momentum])?;
        if mark & SUMMED == 0 {
            match old {
                0.0 => momentum.fill(0.0), // whatever it was
                old => elementwise::scale_assign(&self.cpu, old, momentum),
            }
            if sgd.weight_decay != 0.0 {
                elementwise::scaled_add_assign(&self.cpu, kept * sgd.weight_decay, p, momentum);
            }
        }
        elementwise::scaled_add_assign(&self.cpu, if sgd.maximize { -kept } else { kept }, gradient, momentum);
        *self.mark(id) |= SUMMED;
        Ok(())
    }

    /// One parameter's step of SGD along its momentum, which has this step's gradients.
    ///
    /// # Errors
    /// [`Error::NoMomentum`].
    pub(crate) fn update_by_momentum(&mut self, program: &Program, id: EntryId, sgd: &Sgd) -> Result<(), Error> {
        let entry = program.entry(id);
        let momentum = entry.momentum().ok_or(Error::NoMomentum)?;
        let ([momentum], [p]) = lend(self.memory, [momentum], [entry.place()])?;
        elementwise::scaled_add_assign(&self.cpu, -sgd.lr, momentum, p);
        let mark = self.mark(id);
        *mark = *mark & !SUMMED | if sgd.momentum != 0.0 { HAS_MOMENTUM } else { 0 };
        Ok(())
    }

    /// One parameter's step of SGD.
    pub(crate) fn update(&mut self, program: &Program, id: EntryId, sgd: &Sgd) -> Result<(), Error> {
        let entry = program.entry(id);
        let buffered = sgd.momentum != 0.0;
        let momentum = if buffered { entry.momentum().ok_or(Error::NoMomentum)? } else { Place::default() };
        let gradient = entry.gradient().ok_or(Error::NoGradients)?;
        let first = *self.mark(id) & HAS_MOMENTUM == 0;
        let ([gradient], [p, momentum]) = lend(self.memory, [gradient], [entry.place(), momentum])?;
        sgd::step(&self.cpu, sgd, p, gradient, buffered.then_some(momentum), first);
        *self.mark(id) |= UPDATED | if buffered { HAS_MOMENTUM } else { 0 };
        Ok(())
    }
}
