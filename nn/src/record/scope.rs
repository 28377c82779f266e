//! Scopes: the dotted names of modules, and the declarations that layers make in them.

use super::graph::{Recorder, Text};
use super::{Init, Var};
use crate::Error;
use crate::ops::Op;
use nunatak_core::program::EntryKind;
use nunatak_core::tape::EntryId;
use nunatak_core::{Shape, tape::ValueId};
use nunatak_kernels::WeightLayout;

/// A size in both directions: `[lines, columns]`, or one number for both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair(pub [usize; 2]);

impl From<usize> for Pair {
    fn from(size: usize) -> Pair {
        Pair([size; 2])
    }
}

impl From<[usize; 2]> for Pair {
    fn from(sizes: [usize; 2]) -> Pair {
        Pair(sizes)
    }
}

/// A point of a recording at which PyTorch would make a layer, and draw its first numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Draw(pub(crate) u32);

/// A module of a recording: what is recorded in it has names that begin with the module's and a dot.
#[derive(Clone, Copy)]
pub struct Scope<'g> {
    pub(crate) graph: &'g dyn Recorder,
    prefix: Text,
}

impl core::fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        f.write_str("Scope(")?;
        self.graph.write_text(self.prefix, f)?;
        f.write_str(")")
    }
}

/// How an entry of the state dict lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// In PyTorch's order.
    Plain,
    /// In the kernels' blocks of output channels.
    Weight(WeightLayout),
    /// A count, in the lasting state.
    Count,
    /// Words of 32 bits that are no floats.
    Words,
}

impl Layout {
    /// Numbers as it lies.
    pub(crate) fn len(self, numbers: usize) -> usize {
        match self {
            Layout::Plain | Layout::Words => numbers,
            Layout::Weight(layout) => layout.len(),
            Layout::Count => 0,
        }
    }
    /// The tag and four numbers by which a program names it.
    pub(crate) fn encode(self) -> [u32; 5] {
        match self {
            Layout::Plain => [0; 5],
            Layout::Weight(w) => [1, w.k() as u32, w.c() as u32, w.taps() as u32, 0],
            Layout::Count => [2, 0, 0, 0, 0],
            Layout::Words => [3, 0, 0, 0, 0],
        }
    }
    /// The layout that a program names.
    pub(crate) fn decode(words: [u32; 5]) -> Option<Layout> {
        match words {
            [0, ..] => Some(Layout::Plain),
            [1, k, c, taps, _] => WeightLayout::new(k as usize, c as usize, taps as usize).ok().map(Layout::Weight),
            [2, ..] => Some(Layout::Count),
            [3, ..] => Some(Layout::Words),
            _ => None,
        }
    }
}

/// An entry of the state dict to be declared.
#[derive(Clone, Copy)]
pub(crate) struct Declaration<'d> {
    pub(crate) prefix: Text,
    pub(crate) name: &'d str,
    pub(crate) leaf: &'d str,
    pub(crate) kind: EntryKind,
    pub(crate) shape: [u32; 4],
    pub(crate) rank: u32,
    pub(crate) layout: Layout,
    pub(crate) init: Init,
    /// Bound of the numbers that are drawn when the layer is made; 0: none.
    pub(crate) bound: f32,
    pub(crate) draw: Draw,
    /// It is there already.
    pub(crate) shared: bool,
}

/// What a layer says of a parameter.
#[derive(Clone, Copy)]
pub(crate) struct Parameter<'d, 's> {
    pub(crate) name: &'d str,
    pub(crate) leaf: &'d str,
    /// PyTorch's.
    pub(crate) shape: &'s [usize],
    pub(crate) layout: Layout,
    /// Numbers that each of the layer's outputs reads; 0: nothing is drawn.
    pub(crate) fan_in: usize,
    pub(crate) draw: Draw,
    /// It is there already.
    pub(crate) shared: bool,
}

impl<'d> Declaration<'d> {
    /// A layer's parameter inside this scope.
    pub(crate) fn parameter(scope: Scope, parameter: Parameter<'d, '_>) -> Declaration<'d> {
        let Parameter { name, leaf, shape, layout, fan_in, draw, shared } = parameter;
        let mut sizes = [1; 4];
        // Shapes were checked: every size fits.
        sizes.iter_mut().zip(shape).for_each(|(to, size)| *to = u32::try_from(*size).unwrap_or(u32::MAX));
        let bound = if fan_in > 0 { (1.0 / libm::sqrt(fan_in as f64)) as f32 } else { 0.0 };
        let (kind, rank) = (EntryKind::Parameter, shape.len() as u32);
        Declaration { prefix: scope.prefix, name, leaf, kind, shape: sizes, rank, layout, init: Init::Default, bound, draw, shared }
    }
}

impl<'g> Scope<'g> {
    pub(crate) const fn new(graph: &'g dyn Recorder, prefix: Text) -> Scope<'g> {
        Scope { graph, prefix }
    }

    /// The module of this name inside this one; `a.b` is `b` inside `a`.
    pub fn scope(self, name: &str) -> Scope<'g> {
        Scope { graph: self.graph, prefix: self.graph.join(self.prefix, name) }
    }

    /// The module with this number inside this one: `layer1.0` has the number 0.
    pub fn numbered(self, number: usize) -> Scope<'g> {
        self.scope(crate::name::Name::of(number).as_str())
    }

    /// The module whose name is this one's with a number behind it: `layer` and 1 make `layer1`.
    pub fn suffixed(self, number: usize) -> Scope<'g> {
        Scope { graph: self.graph, prefix: self.graph.suffix(self.prefix, crate::name::Name::of(number).as_str()) }
    }

    /// This point of the recording: for layers that PyTorch makes before others that come first in the state
    /// dict.
    pub fn here(self) -> Draw {
        Draw(2 * self.graph.layers())
    }

    /// When the next layer draws its first numbers: at a point that was noted, or now.
    pub(crate) fn draw(self, at: Option<Draw>) -> Draw {
        at.unwrap_or_else(|| Draw(2 * self.graph.next_layer() + 1))
    }

    /// Describes the model, for who reads a program or a file.
    pub fn set_model(self, description: core::fmt::Arguments) {
        self.graph.set_model(description);
    }

    /// Says that what a module of this name holds is the model's head: what is replaced when it is fine-tuned
    /// for other classes.
    pub fn set_head(self, name: &str) {
        self.graph.set_head(self.prefix, name);
    }

    pub(crate) fn declare(self, declaration: &Declaration) -> EntryId {
        self.graph.declare(declaration)
    }

    pub(crate) fn record(self, op: Op, inputs: &[Var<'g>], shape: Result<Shape, Error>) -> Var<'g> {
        Var::record(self.graph, op, inputs, shape)
    }
}

impl<'g> Scope<'g> {
    /// The value that was given this name in this scope.
    pub fn named(self, name: &str) -> Option<Var<'g>> {
        self.graph.named(self.prefix, name).map(|found| Var::recorded(self.graph, found))
    }

    /// Gives a value a name by which a trainer or a program finds it.
    pub fn name(self, name: &str, value: Var<'g>) -> Var<'g> {
        let id: ValueId = value.id();
        self.graph.name(self.graph.join(self.prefix, name), id);
        value
    }
}
