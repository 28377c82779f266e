//! The recording itself: the tape, the entries of the state dict, their names.

use super::{Declaration, Init, Layout, Scope, Var};
use crate::Error;
use crate::name::Name;
use crate::ops::{Input, Labels, Op};
use core::cell::RefCell;
use core::fmt;
use nunatak_core::List;
use nunatak_core::Shape;
use nunatak_core::program::EntryKind;
use nunatak_core::tape::{EntryId, Node, Tape, ValueId};

/// A part of a recording's text: first byte, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Text {
    at: u32,
    len: u32,
}

impl Text {
    /// No text.
    pub(crate) const EMPTY: Text = Text { at: 0, len: 0 };
}

/// An entry of the state dict, as it was declared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared {
    pub(crate) name: Text,
    pub(crate) kind: EntryKind,
    pub(crate) shape: [u32; 4],
    pub(crate) rank: u32,
    pub(crate) layout: Layout,
    pub(crate) init: Init,
    pub(crate) bound: f32,
    pub(crate) draw: u32,
    /// Of a count: its number among the counts.
    pub(crate) count: u32,
}

impl Declared {
    /// Fills a slice that is to be lent.
    pub(crate) const UNUSED: Declared = Declared {
        name: Text::EMPTY,
        kind: EntryKind::Parameter,
        shape: [0; 4],
        rank: 0,
        layout: Layout::Plain,
        init: Init::Default,
        bound: 0.0,
        draw: 0,
        count: 0,
    };

    /// Numbers in PyTorch.
    pub(crate) fn numbers(&self) -> usize {
        self.shape.iter().map(|size| *size as usize).product()
    }
    /// Numbers as it lies.
    pub(crate) fn len(&self) -> usize {
        self.layout.len(self.numbers())
    }
    /// How many numbers one input is read by: for initialisations.
    pub(crate) fn fan_out(&self) -> usize {
        (self.shape[0] * self.shape[2] * self.shape[3]) as usize
    }
}

/// What a recording holds.
pub(crate) struct Recording<'s> {
    pub(crate) tape: Tape<'s, Op>,
    pub(crate) entries: List<'s, Declared>,
    /// Values that were given a name.
    pub(crate) names: List<'s, (ValueId, Text)>,
    pub(crate) text: List<'s, u8>,
    pub(crate) head: Text,
    pub(crate) model: Text,
    layers: u32,
    counts: u32,
    error: Option<Error>,
}

impl Recording<'_> {
    /// A part of the text.
    pub(crate) fn text(&self, text: Text) -> &str {
        let bytes = &self.text[text.at as usize..][..text.len as usize];
        // It was put together from whole texts.
        core::str::from_utf8(bytes).unwrap_or("")
    }
    /// The name of an entry.
    pub(crate) fn entry_name(&self, id: EntryId) -> &str {
        self.text(self.entries[id.index()].name)
    }
    /// The name that a value was given.
    pub(crate) fn value_name(&self, value: ValueId) -> &str {
        self.names.iter().rev().find(|(id, _)| *id == value).map_or("", |(_, name)| self.text(*name))
    }
    /// The entries that are parameters.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = EntryId> + '_ {
        (0..self.entries.len() as u32).map(EntryId).filter(|id| self.entries[id.index()].kind == EntryKind::Parameter)
    }
    /// How many entries are counts.
    pub(crate) const fn counts(&self) -> u32 {
        self.counts
    }

    /// A recording without values and entries, whose text is that of another: parts of it are the same.
    #[cfg(feature = "std")]
    pub(crate) fn with_text_of(other: &Recording) -> Result<Recording<'static>, Error> {
        let mut new = Recording::empty(Tape::new(), List::new(), List::new(), List::new());
        new.text.extend(other.text.iter().copied())?;
        (new.head, new.model, new.layers) = (other.head, other.model, other.layers);
        Ok(new)
    }
    /// Adds an entry as another recording declared it.
    #[cfg(feature = "std")]
    pub(crate) fn adopt(&mut self, declared: &Declared) -> Result<EntryId, Error> {
        let count = self.counts;
        self.counts += u32::from(declared.kind == EntryKind::Count);
        Ok(EntryId(self.entries.push(Declared { count, ..*declared })?))
    }
    /// Declares words that are no floating-point numbers.
    #[cfg(feature = "std")]
    pub(crate) fn declare_words(&mut self, name: &str, words: usize) -> Result<EntryId, Error> {
        let name = self.join(Text::EMPTY, [name, ""])?;
        let words = u32::try_from(words).map_err(|_| nunatak_core::Error::TooLarge { shape: [words, 1, 1, 1] })?;
        let (kind, shape, layout, init) = (EntryKind::Words, [words, 1, 1, 1], Layout::Words, Init::Constant(0.0));
        self.adopt(&Declared { name, kind, shape, rank: 1, layout, init, ..Declared::UNUSED })
    }

    pub(crate) fn write(&mut self, text: &str) -> Result<Text, Error> {
        let at = u32::try_from(self.text.len()).map_err(|_| nunatak_core::Error::ListFull { capacity: u32::MAX as usize })?;
        self.text.extend(text.bytes())?;
        Ok(Text { at, len: text.len() as u32 })
    }

    fn join(&mut self, prefix: Text, names: [&str; 2]) -> Result<Text, Error> {
        if names.iter().any(|name| name.bytes().any(|b| !b.is_ascii_graphic())) || names[0].is_empty() {
            return Err(Error::BadName { name: Name::of(names[0]) });
        }
        let at = self.text.len() as u32;
        for i in 0..prefix.len {
            let byte = self.text[(prefix.at + i) as usize];
            self.text.push(byte)?;
        }
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            if self.text.len() as u32 > at {
                self.text.push(b'.')?;
            }
            self.write(name)?;
        }
        Ok(Text { at, len: self.text.len() as u32 - at })
    }

    fn declare(&mut self, d: &Declaration) -> Result<EntryId, Error> {
        let before = self.text.len();
        let name = self.join(d.prefix, [d.name, d.leaf])?;
        let own = self.text(name);
        let there = self.entries.iter().position(|entry| self.text(entry.name) == own);
        let error = Name::of(own);
        let found = match (there, d.shared) {
            (None, false) => None,
            (Some(_), false) => return Err(Error::NameTaken { name: error }),
            (None, true) => return Err(Error::UnknownName { name: error }),
            (Some(at), true) => Some(at),
        };
        if let Some(at) = found {
            let entry = &self.entries[at];
            if (entry.shape, entry.rank, entry.kind) != (d.shape, d.rank, d.kind) {
                return Err(Error::NameTaken { name: error });
            }
            self.text.resize(before, 0)?;
            return Ok(EntryId(at as u32));
        }
        let [a, b, c, e] = d.shape.map(|size| size as usize);
        Shape::new(a, b, c, e)?;
        if !d.init.is_valid() {
            return Err(Error::Init { name: error });
        }
        let declared = Declared {
            name,
            kind: d.kind,
            shape: d.shape,
            rank: d.rank,
            layout: d.layout,
            init: d.init,
            bound: d.bound,
            draw: d.draw.0,
            count: self.counts,
        };
        self.counts += u32::from(d.kind == EntryKind::Count);
        Ok(EntryId(self.entries.push(declared)?))
    }
}

/// A recording: values, how they are computed from each other, and the parameters that this takes.
pub struct Graph<'s> {
    state: RefCell<Recording<'s>>,
}

impl fmt::Debug for Graph<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let state = self.state.borrow();
        write!(f, "Graph({} values, {} entries)", state.tape.nodes().len(), state.entries.len())
    }
}

/// The slices in which a recording lies where there is no heap; [`crate::plan::Storage`] owns such.
pub struct GraphRoom<'s> {
    pub(crate) nodes: &'s mut [Node<Op>],
    pub(crate) inputs: &'s mut [ValueId],
    pub(crate) entries: &'s mut [Declared],
    pub(crate) names: &'s mut [(ValueId, Text)],
    pub(crate) text: &'s mut [u8],
}

impl fmt::Debug for GraphRoom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "GraphRoom({} nodes, {} entries, {} bytes)", self.nodes.len(), self.entries.len(), self.text.len())
    }
}

/// How long the lists of a recording are.
pub(crate) struct Lengths {
    pub(crate) nodes: usize,
    pub(crate) inputs: usize,
    pub(crate) entries: usize,
    pub(crate) names: usize,
    pub(crate) text: usize,
}

#[cfg(feature = "std")]
impl Graph<'static> {
    /// An empty recording.
    pub const fn new() -> Graph<'static> {
        Graph { state: RefCell::new(Recording::empty(Tape::new(), List::new(), List::new(), List::new())) }
    }
}

#[cfg(feature = "std")]
impl Default for Graph<'static> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'s> Recording<'s> {
    const fn empty(tape: Tape<'s, Op>, entries: List<'s, Declared>, names: List<'s, (ValueId, Text)>, text: List<'s, u8>) -> Recording<'s> {
        Recording { tape, entries, names, text, head: Text::EMPTY, model: Text::EMPTY, layers: 0, counts: 0, error: None }
    }
}

impl<'s> Graph<'s> {
    /// An empty recording in the caller's slices.
    pub fn lent(room: GraphRoom<'s>) -> Graph<'s> {
        let GraphRoom { nodes, inputs, entries, names, text } = room;
        let tape = Tape::lent(nodes, inputs);
        Graph { state: RefCell::new(Recording::empty(tape, List::lent(entries), List::lent(names), List::lent(text))) }
    }

    /// The outermost module: names in it have no prefix.
    pub fn root(&self) -> Scope<'_> {
        Scope::new(self, Text::default())
    }
    /// The module of this name.
    pub fn scope(&self, name: &str) -> Scope<'_> {
        self.root().scope(name)
    }

    /// A tensor from outside of n x c x h x w; sizes that are left out at the end are 1.
    pub fn input<const N: usize>(&self, sizes: [usize; N]) -> Var<'_> {
        let mut all = [1; 4];
        all.iter_mut().zip(sizes).for_each(|(to, size)| *to = size);
        let shape = match N <= 4 {
            true => Shape::new(all[0], all[1], all[2], all[3]).map_err(Error::from),
            false => Err(Error::Length { what: "dimensions of an input", expected: 4, got: N }),
        };
        Var::record(self, Op::Input(Input), &[], shape)
    }

    /// Class indices from outside, one for each of `n` rows.
    pub fn labels(&self, n: usize) -> Var<'_> {
        Var::record(self, Op::Labels(Labels), &[], Shape::new(n, 2, 1, 1).map_err(Error::from))
    }

    /// The first error of the recording, if there was one.
    ///
    /// # Errors
    /// That error.
    pub fn check(&self) -> Result<(), Error> {
        self.state.borrow().error.map_or(Ok(()), Err)
    }

    /// The value that the last average pooling to one position reads: of a network that classifies images the feature
    /// map below its head, in which a place is still a place. None where nothing is pooled so.
    ///
    /// ```
    /// use nunatak_nn::{Graph, models};
    ///
    /// let graph = Graph::new();
    /// models::resnet18(graph.root(), graph.input([1, 3, 224, 224]), 1000);
    /// assert_eq!(graph.last_pooled().map(|map| map.shape().sizes()), Some([1, 512, 7, 7]));
    /// ```
    pub fn last_pooled(&self) -> Option<Var<'_>> {
        let state = self.state.borrow();
        let pools = |v: &ValueId| {
            let node = &state.tape.nodes()[v.index()];
            matches!(node.op, Op::AvgPool(_)) && node.shape.h() * node.shape.w() == 1
        };
        let map = *state.tape.inputs(state.tape.values().rev().find(pools)?).first()?;
        Some(Var::recorded(self, (map, state.tape.node(map).ok()?.shape)))
    }

    /// The recording that this is made of.
    #[cfg(feature = "std")]
    pub(crate) const fn of(recording: Recording<'s>) -> Graph<'s> {
        Graph { state: RefCell::new(recording) }
    }

    /// The value with this number; none where there is no such value.
    pub fn value(&self, id: ValueId) -> Option<Var<'_>> {
        let shape = self.state.borrow().tape.node(id).ok()?.shape;
        Some(Var::recorded(self, (id, shape)))
    }

    /// Hands the recording to a function.
    ///
    /// # Errors
    /// The first error of the recording, and those of the function.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&Recording<'s>) -> Result<T, Error>) -> Result<T, Error> {
        self.check()?;
        read(&self.state.borrow())
    }

    /// How long its lists are.
    pub(crate) fn lengths(&self) -> Lengths {
        let state = self.state.borrow();
        Lengths {
            nodes: state.tape.nodes().len(),
            inputs: state.tape.input_count(),
            entries: state.entries.len(),
            names: state.names.len(),
            text: state.text.len(),
        }
    }

    /// Calls a function with the name and shape of every entry of the state dict, in PyTorch's order.
    pub fn each_entry(&self, mut each: impl FnMut(&str, &[u32])) {
        let state = self.state.borrow();
        for entry in state.entries.iter() {
            each(state.text(entry.name), &entry.shape[..entry.rank as usize]);
        }
    }
}

/// Takes a text piece by piece.
struct Pieces<'a, 's>(&'a mut Recording<'s>);

impl fmt::Write for Pieces<'_, '_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0.write(piece).map(|_| ()).map_err(|_| fmt::Error)
    }
}

/// What values and scopes ask of the recording that they belong to.
pub(crate) trait Recorder {
    fn push(&self, op: Op, inputs: &[ValueId], shape: Result<Shape, Error>) -> (ValueId, Shape);
    fn declare(&self, declaration: &Declaration) -> EntryId;
    fn join(&self, prefix: Text, name: &str) -> Text;
    fn suffix(&self, prefix: Text, suffix: &str) -> Text;
    fn name(&self, name: Text, value: ValueId);
    fn set_head(&self, prefix: Text, name: &str);
    fn named(&self, prefix: Text, name: &str) -> Option<(ValueId, Shape)>;
    fn set_model(&self, description: fmt::Arguments);
    fn layers(&self) -> u32;
    fn next_layer(&self) -> u32;
    fn is_labels(&self, value: ValueId) -> bool;
    fn write_text(&self, text: Text, f: &mut fmt::Formatter) -> fmt::Result;
}

impl Graph<'_> {
    fn keep_error<T>(&self, result: Result<T, Error>, instead: T) -> T {
        result.unwrap_or_else(|e| {
            self.state.borrow_mut().error.get_or_insert(e);
            instead
        })
    }
}

impl Recorder for Graph<'_> {
    fn push(&self, op: Op, inputs: &[ValueId], shape: Result<Shape, Error>) -> (ValueId, Shape) {
        // After an error any value will do: no plan is made from such a graph.
        let broken = self.state.borrow().error;
        let shape = match broken {
            Some(e) => Err(e),
            None if !op.is_built() => Err(Error::OtherTarget("this build has not the operation; use the feature `operations`")),
            None => shape,
        };
        let pushed = shape.and_then(|shape| Ok((self.state.borrow_mut().tape.push(op, inputs, shape)?, shape)));
        self.keep_error(pushed, (ValueId(0), Shape::SCALAR))
    }
    fn declare(&self, declaration: &Declaration) -> EntryId {
        let declared = self.state.borrow_mut().declare(declaration);
        self.keep_error(declared, EntryId(0))
    }
    fn join(&self, prefix: Text, name: &str) -> Text {
        let joined = self.state.borrow_mut().join(prefix, [name, ""]);
        self.keep_error(joined, Text::default())
    }
    fn suffix(&self, prefix: Text, suffix: &str) -> Text {
        let mut state = self.state.borrow_mut();
        let at = state.text.len() as u32;
        let bytes = (0..prefix.len).try_for_each(|i| {
            let byte = state.text[(prefix.at + i) as usize];
            state.text.push(byte).map(|_| ())
        });
        let written = bytes.map_err(Error::from).and_then(|()| state.write(suffix));
        drop(state);
        self.keep_error(written.map(|text| Text { at, len: prefix.len + text.len }), Text::default())
    }
    fn name(&self, name: Text, value: ValueId) {
        let named = self.state.borrow_mut().names.push((value, name)).map_err(Error::from);
        self.keep_error(named.map(|_| ()), ());
    }
    fn set_head(&self, prefix: Text, name: &str) {
        let head = self.join(prefix, name);
        self.state.borrow_mut().head = head;
    }
    fn named(&self, prefix: Text, name: &str) -> Option<(ValueId, Shape)> {
        let state = self.state.borrow();
        let scope = state.text(prefix);
        let own = |full: &str| match scope {
            "" => full == name,
            scope => full.strip_prefix(scope).and_then(|rest| rest.strip_prefix('.')) == Some(name),
        };
        let (id, _) = *state.names.iter().rev().find(|(_, full)| own(state.text(*full)))?;
        Some((id, state.tape.node(id).ok()?.shape))
    }
    fn set_model(&self, description: fmt::Arguments) {
        let mut state = self.state.borrow_mut();
        let at = state.text.len() as u32;
        let written = fmt::write(&mut Pieces(&mut state), description);
        let len = state.text.len() as u32 - at;
        match written {
            Ok(()) => state.model = Text { at, len },
            Err(_) => drop(state.error.get_or_insert(nunatak_core::Error::ListFull { capacity: len as usize }.into())),
        }
    }
    fn layers(&self) -> u32 {
        self.state.borrow().layers
    }
    fn next_layer(&self) -> u32 {
        let mut state = self.state.borrow_mut();
        state.layers += 1;
        state.layers - 1
    }
    fn is_labels(&self, value: ValueId) -> bool {
        self.state.borrow().tape.node(value).is_ok_and(|node| matches!(node.op, Op::Labels(_)))
    }
    fn write_text(&self, text: Text, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.state.borrow().text(text))
    }
}
