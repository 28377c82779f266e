//! What operations write: nodes of ONNX, and the constants that these read.

use super::OnnxError;
use super::proto::Message;
use crate::files::error::WriteError;
use crate::files::tensor_out::{Data, TensorOut};
use crate::record::Recording;
use nunatak_core::Shape;
use nunatak_core::tape::{EntryId, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;

/// ONNX's code of 32-bit floats.
pub(super) const FLOAT: i64 = 1;
/// ONNX's code of 64-bit integers.
const INT64: i64 = 7;

/// The dimensions that a tensor has in ONNX.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// n, c, h, w.
    Images,
    /// n, c: of tensors that have one pixel an image.
    Rows,
}

/// A name in the graph.
pub(crate) type Name = Rc<str>;

/// A tensor that operations hand on to each other.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: Name,
    pub(crate) form: Form,
    /// Whether its images are those of the batch, however many; else as many as were recorded.
    pub(super) batch: bool,
}

/// What a node says besides its inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attribute<'a> {
    /// A number.
    Float(&'static str, f32),
    /// An integer.
    Int(&'static str, i64),
    /// Integers.
    Ints(&'static str, &'a [usize]),
}

impl Attribute<'_> {
    fn message(self) -> Message {
        let mut message = Message::default();
        let (name, kind) = match self {
            Attribute::Float(name, _) => (name, 1),
            Attribute::Int(name, _) => (name, 2),
            Attribute::Ints(name, _) => (name, 7),
        };
        message.text(1, name);
        match self {
            Attribute::Float(_, number) => message.float(2, number),
            Attribute::Int(_, number) => message.integer(3, number),
            // Sizes are those of shapes, which fit 32 bits.
            Attribute::Ints(_, numbers) => numbers.iter().for_each(|number| message.integer(8, *number as i64)),
        }
        message.integer(20, kind);
        message
    }
}

/// A tensor of constants: everything up to its data, and these where they are lent.
pub(super) struct Initializer<'t> {
    pub(super) head: Message,
    pub(super) lent: Option<Data<'t>>,
}

impl Initializer<'_> {
    /// How many bytes there are.
    pub(super) fn len(&self) -> u64 {
        self.head.len() + self.lent.map_or(0, |data| data.byte_len())
    }
}

/// The graph as far as it is written.
pub(super) struct Written<'r, 't> {
    pub(super) recording: &'r Recording<'r>,
    given: BTreeMap<&'t str, TensorOut<'t>>,
    /// Nodes, as fields of the graph.
    pub(super) nodes: Message,
    pub(super) initializers: Vec<Initializer<'t>>,
    /// Inputs, as fields of the graph.
    pub(super) inputs: Message,
    /// Images that were recorded: inputs of as many have the batch's.
    batch: usize,
    /// Values of the recording that have a tensor.
    pub(super) tensors: BTreeMap<u32, Tensor>,
    /// Names that are taken.
    taken: BTreeSet<Name>,
    /// Entries that are initializers already.
    entries: BTreeSet<u32>,
    /// Of the value that is being written: how many nodes it has so far.
    steps: usize,
}

impl<'r, 't> Written<'r, 't> {
    pub(super) fn new(recording: &'r Recording<'r>, tensors: &[TensorOut<'t>], batch: usize, reserved: &[&str]) -> Written<'r, 't> {
        let entries = (0..recording.entries.len() as u32).map(|id| Name::from(recording.entry_name(EntryId(id))));
        Written {
            recording,
            given: tensors.iter().map(|tensor| (tensor.name, *tensor)).collect(),
            nodes: Message::default(),
            initializers: Vec::new(),
            inputs: Message::default(),
            batch,
            tensors: BTreeMap::new(),
            taken: entries.chain(reserved.iter().map(|name| Name::from(*name))).collect(),
            entries: BTreeSet::new(),
            steps: 0,
        }
    }

    /// A name that nothing has yet: this one, or with the value's number behind it.
    pub(super) fn free_name(&mut self, base: &str, value: ValueId) -> Name {
        let mut name = base.to_string();
        while name.is_empty() || self.taken.contains(name.as_str()) {
            name = format!("{name}_{}", value.0);
        }
        let name = Name::from(name);
        self.taken.insert(name.clone());
        name
    }

    /// The tensor that goes out under this name and in this form: the value's, or what a last node makes of it.
    pub(super) fn output(&mut self, value: ValueId, name: &str, form: Form) -> Tensor {
        // The value was written, else the walk had ended with an error.
        let own = self.tensors.get(&value.0).cloned();
        let batch = own.as_ref().is_some_and(|own| own.batch);
        if let Some(own) = own.filter(|own| &*own.name != name) {
            match own.form == form {
                true => self.node(name, "Identity", &[&own.name], name, &[]),
                // From images of one pixel to rows: n, c, 1, 1 to n, c.
                false => self.node(name, "Flatten", &[&own.name], name, &[Attribute::Int("axis", 1)]),
            }
        }
        Tensor { name: Name::from(name), form, batch }
    }

    /// Writes a node.
    fn node(&mut self, name: &str, op: &str, inputs: &[&Name], output: &str, attributes: &[Attribute]) {
        let mut node = Message::default();
        inputs.iter().for_each(|input| node.text(1, input));
        node.text(2, output);
        node.text(3, name);
        node.text(4, op);
        attributes.iter().for_each(|attribute| node.message(5, &attribute.message()));
        self.nodes.message(1, &node);
    }

    /// An initializer's field of the graph, up to the data.
    fn head(name: &str, kind: i64, shape: &[usize], bytes: u64) -> Message {
        let mut front = Message::default();
        shape.iter().for_each(|size| front.integer(1, *size as i64));
        front.integer(2, kind);
        front.text(8, name);
        front.announce(9, bytes);
        let mut head = Message::default();
        head.announce(5, front.len() + bytes);
        head.append(front.bytes());
        head
    }

    /// The initializer of an entry of the state dict.
    fn entry(&mut self, id: EntryId) -> Result<Name, OnnxError> {
        let (declared, name) = (self.recording.entries[id.index()], self.recording.entry_name(id));
        if self.entries.insert(id.0) {
            let mut shape = [0; 4];
            shape.iter_mut().zip(declared.shape).for_each(|(to, size)| *to = size as usize);
            let shape = &shape[..declared.rank as usize];
            let bad = |why| Err(WriteError::Name { name: name.to_string(), why }.into());
            let data = match self.given.get(name) {
                None => return bad("the network has this tensor, and it is not there"),
                Some(TensorOut { data: Data::I64(_) | Data::I32(_), .. }) => return bad("holds integers where numbers are due"),
                Some(TensorOut { data, shape: given, .. }) if *given != shape || data.len() != declared.numbers() => {
                    return Err(WriteError::Shape { name: name.to_string(), shape: shape.to_vec(), given: data.len() }.into());
                }
                Some(TensorOut { data, .. }) => *data,
            };
            let head = Self::head(name, FLOAT, shape, data.byte_len());
            self.initializers.push(Initializer { head, lent: Some(data) });
        }
        Ok(Name::from(name))
    }
}

/// Where an operation's file says by which nodes of ONNX the result is computed.
pub(crate) struct Nodes<'w, 'r, 't> {
    written: &'w mut Written<'r, 't>,
    value: ValueId,
    /// What the result is called, unless it is the output.
    name: Name,
    /// What the result is called where it has this form: that of the output.
    output: Option<(&'static str, Form)>,
    inputs: Vec<Tensor>,
    batch: bool,
}

impl<'w, 'r, 't> Nodes<'w, 'r, 't> {
    pub(super) fn new(
        written: &'w mut Written<'r, 't>,
        value: ValueId,
        name: Name,
        output: Option<(&'static str, Form)>,
    ) -> Nodes<'w, 'r, 't> {
        written.steps = 0;
        let recording = written.recording;
        // What is read comes before who reads it, so it was written.
        let inputs: Vec<Tensor> = recording.tape.inputs(value).iter().filter_map(|x| written.tensors.get(&x.0)).cloned().collect();
        let batch = inputs.iter().any(|x| x.batch);
        Nodes { written, value, name, output, inputs, batch }
    }

    /// The error of an operation that has no nodes.
    pub(crate) fn refused(&self, why: &'static str) -> OnnxError {
        let op = &self.written.recording.tape.nodes()[self.value.index()].op;
        OnnxError::Operation { operation: op.facts().name(), value: self.name.to_string(), why }
    }

    /// An input as it is.
    pub(crate) fn x(&self, position: usize) -> Tensor {
        self.inputs[position].clone()
    }

    /// An input as n, c, h, w.
    pub(crate) fn images(&mut self, position: usize) -> Name {
        let x = self.x(position);
        match x.form {
            Form::Images => x.name,
            Form::Rows => {
                let axes = self.integers("axes", &[2, 3]);
                self.node("Unsqueeze", &[&x.name, &axes], &[])
            }
        }
    }

    /// An input as n, c: each image in PyTorch's order.
    pub(crate) fn rows(&mut self, position: usize) -> Name {
        let x = self.x(position);
        match x.form {
            Form::Images => self.node("Flatten", &[&x.name], &[Attribute::Int("axis", 1)]),
            Form::Rows => x.name,
        }
    }

    /// All inputs in one form: n, c where each is so already, else n, c, h, w.
    pub(crate) fn alike(&mut self) -> (Form, Vec<Name>) {
        if self.inputs.iter().all(|x| x.form == Form::Rows) {
            return (Form::Rows, self.inputs.iter().map(|x| x.name.clone()).collect());
        }
        (Form::Images, (0..self.inputs.len()).map(|position| self.images(position)).collect())
    }

    /// An entry of the state dict.
    ///
    /// # Errors
    /// [`OnnxError::Write`] where there is no such tensor, or another.
    pub(crate) fn entry(&mut self, id: EntryId) -> Result<Name, OnnxError> {
        self.written.entry(id)
    }

    fn own_name(&mut self, what: &str) -> Name {
        let base = format!("{}/{what}", self.name);
        self.written.free_name(&base, self.value)
    }

    /// A number that belongs to this operation.
    pub(crate) fn number(&mut self, what: &str, number: f32) -> Name {
        self.numbers(what, &[], &[number])
    }

    /// Numbers that belong to this operation.
    pub(crate) fn numbers(&mut self, what: &str, shape: &[usize], numbers: &[f32]) -> Name {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.constant(what, FLOAT, shape, &bytes)
    }

    /// Integers that belong to this operation.
    pub(crate) fn integers(&mut self, what: &str, numbers: &[i64]) -> Name {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.constant(what, INT64, &[numbers.len()], &bytes)
    }

    fn constant(&mut self, what: &str, kind: i64, shape: &[usize], bytes: &[u8]) -> Name {
        let name = self.own_name(what);
        let mut head = Written::head(&name, kind, shape, bytes.len() as u64);
        head.append(bytes);
        self.written.initializers.push(Initializer { head, lent: None });
        name
    }

    /// A node whose result serves this operation alone.
    pub(crate) fn node(&mut self, op: &str, inputs: &[&Name], attributes: &[Attribute]) -> Name {
        self.written.steps += 1;
        let output = self.own_name(&format!("{}", self.written.steps));
        self.written.node(&output, op, inputs, &output, attributes);
        output
    }

    /// The result is one for the whole batch: its images were added up.
    pub(crate) fn without_batch(&mut self) {
        self.batch = false;
    }

    /// The node that gives the result, in this form.
    pub(crate) fn result(&mut self, form: Form, op: &str, inputs: &[&Name], attributes: &[Attribute]) {
        let own = self.name.clone();
        let name = self.output.filter(|output| output.1 == form).map_or(own.clone(), |output| Name::from(output.0));
        self.written.node(&own, op, inputs, &name, attributes);
        self.written.tensors.insert(self.value.0, Tensor { name, form, batch: self.batch });
    }

    /// The result is an input: nothing is computed.
    pub(crate) fn pass_on(&mut self, position: usize) {
        let x = self.x(position);
        self.written.tensors.insert(self.value.0, x);
    }

    /// The result comes from outside: it is an input of the graph.
    pub(crate) fn comes_from_outside(&mut self) {
        let shape = self.written.recording.tape.nodes()[self.value.index()].shape;
        let tensor = Tensor { name: self.name.clone(), form: form_of(shape), batch: shape.n() == self.written.batch };
        self.written.inputs.message(11, &described(shape, &tensor));
        self.written.tensors.insert(self.value.0, tensor);
    }
}

/// The form of what goes in and out: n, c where an image has one pixel.
pub(super) fn form_of(shape: Shape) -> Form {
    if shape.h() * shape.w() == 1 { Form::Rows } else { Form::Images }
}

/// A graph's description of an input or output.
pub(super) fn described(shape: Shape, tensor: &Tensor) -> Message {
    let mut dimensions = Message::default();
    for (axis, size) in shape.sizes().into_iter().enumerate().take(if tensor.form == Form::Rows { 2 } else { 4 }) {
        let mut dimension = Message::default();
        match axis == 0 && tensor.batch {
            true => dimension.text(2, "N"),
            false => dimension.integer(1, i64::from(size)),
        }
        dimensions.message(1, &dimension);
    }
    let mut floats = Message::default();
    floats.integer(1, FLOAT);
    floats.message(2, &dimensions);
    let mut kind = Message::default();
    kind.message(1, &floats);
    let mut described = Message::default();
    described.text(1, &tensor.name);
    described.message(2, &kind);
    described
}

/// The name of a node's result where nobody gave it one: its module's, or the operation's with the value's number.
pub(super) fn usual_name(recording: &Recording, value: ValueId) -> String {
    let op = &recording.tape.nodes()[value.index()].op;
    let given = recording.value_name(value);
    let module = op.facts().entries().ids().next().and_then(|id| recording.entry_name(id).rsplit_once('.'));
    match (given, module) {
        ("", Some((module, _))) => module.to_string(),
        ("", None) => format!("{}_{}", op.facts().name(), value.0),
        (given, _) => given.to_string(),
    }
}
