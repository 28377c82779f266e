//! A reader of ONNX, as far as the tests look: written from `onnx.proto`, apart from the writer. Whatever it does not know is
//! a failure.

use std::collections::BTreeMap;

/// A network.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) ir_version: u64,
    pub(super) producer: String,
    pub(super) opset: u64,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) name: String,
    pub(super) nodes: Vec<Node>,
    pub(super) initializers: Vec<(String, Constant)>,
    pub(super) inputs: Vec<Described>,
    pub(super) outputs: Vec<Described>,
}

/// A node; what it is called, and its only output.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) op: String,
    pub(super) inputs: Vec<String>,
    pub(super) output: String,
    attributes: BTreeMap<String, Attribute>,
}

#[derive(Debug)]
enum Attribute {
    Float(f32),
    Int(i64),
    Ints(Vec<i64>),
}

impl Node {
    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.get(name)
    }
    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        match self.attribute(name) {
            None => default,
            Some(Attribute::Int(number)) => *number,
            Some(other) => panic!("{}: {name} is {other:?}", self.name),
        }
    }
    pub(super) fn float(&self, name: &str) -> f32 {
        match self.attribute(name) {
            Some(Attribute::Float(number)) => *number,
            other => panic!("{}: {name} is {other:?}", self.name),
        }
    }
    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attribute(name) {
            None => None,
            Some(Attribute::Ints(numbers)) => Some(numbers),
            Some(other) => panic!("{}: {name} is {other:?}", self.name),
        }
    }
}

/// A tensor that lies in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constant {
    Floats(Vec<usize>, Vec<f32>),
    Ints(Vec<usize>, Vec<i64>),
}

impl Constant {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Constant::Floats(shape, _) | Constant::Ints(shape, _) => shape,
        }
    }
}

/// A tensor that goes in or out, of floats: its sizes, as numbers or names.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) sizes: Vec<String>,
}

/// A field's content.
enum Field<'b> {
    Number(u64),
    Fixed(f32),
    Bytes(&'b [u8]),
}

impl<'b> Field<'b> {
    fn number(self) -> u64 {
        let Field::Number(number) = self else { panic!("no integer") };
        number
    }
    fn bytes(self) -> &'b [u8] {
        let Field::Bytes(bytes) = self else { panic!("no bytes") };
        bytes
    }
    fn text(self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("a text")
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().expect("a number that ends");
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return number;
        }
    }
    panic!("a number of more than 64 bits")
}

/// The fields of a message, each with its number.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let key = varint(&mut bytes);
        let mut take = |len: usize| {
            let (taken, rest) = bytes.split_at_checked(len).expect("bytes that are there");
            bytes = rest;
            taken
        };
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            2 => {
                let len = varint(&mut bytes) as usize;
                let (taken, rest) = bytes.split_at_checked(len).expect("bytes that are there");
                bytes = rest;
                Field::Bytes(taken)
            }
            5 => Field::Fixed(f32::from_le_bytes(take(4).try_into().expect("four bytes"))),
            other => panic!("a field of the kind {other}"),
        };
        Some((key >> 3, field))
    })
}

fn pair(bytes: &[u8]) -> (String, String) {
    let mut pair = <(String, String)>::default();
    for (number, field) in fields(bytes) {
        match number {
            1 => pair.0 = field.text(),
            2 => pair.1 = field.text(),
            other => panic!("field {other} of a pair"),
        }
    }
    pair
}

fn attribute(bytes: &[u8]) -> (String, Attribute) {
    let (mut name, mut kind) = (String::new(), 0);
    let (mut float, mut int, mut ints) = (0.0, 0, Vec::new());
    for (number, field) in fields(bytes) {
        match (number, field) {
            (1, field) => name = field.text(),
            (2, Field::Fixed(number)) => float = number,
            (3, Field::Number(number)) => int = number as i64,
            (8, Field::Number(number)) => ints.push(number as i64),
            (20, field) => kind = field.number(),
            (other, _) => panic!("field {other} of an attribute"),
        }
    }
    let attribute = match kind {
        1 => Attribute::Float(float),
        2 => Attribute::Int(int),
        7 => Attribute::Ints(ints),
        other => panic!("an attribute of the kind {other}"),
    };
    (name, attribute)
}

fn node(bytes: &[u8]) -> Node {
    let mut node = Node::default();
    for (number, field) in fields(bytes) {
        match number {
            1 => node.inputs.push(field.text()),
            2 => {
                assert!(node.output.is_empty(), "two outputs of {node:?}");
                node.output = field.text();
            }
            3 => node.name = field.text(),
            4 => node.op = field.text(),
            5 => {
                let (name, attribute) = attribute(field.bytes());
                assert!(node.attributes.insert(name, attribute).is_none(), "an attribute comes twice");
            }
            other => panic!("field {other} of a node"),
        }
    }
    node
}

fn constant(bytes: &[u8]) -> (String, Constant) {
    let (mut name, mut kind, mut shape, mut raw) = (String::new(), 0, Vec::new(), &[][..]);
    for (number, field) in fields(bytes) {
        match number {
            1 => shape.push(field.number() as usize),
            2 => kind = field.number(),
            8 => name = field.text(),
            9 => raw = field.bytes(),
            other => panic!("field {other} of a tensor"),
        }
    }
    let numbers: usize = shape.iter().product();
    let constant = match kind {
        1 => Constant::Floats(shape, raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        7 => Constant::Ints(shape, raw.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
        other => panic!("{name}: numbers of the kind {other}"),
    };
    assert_eq!(raw.len(), numbers * if kind == 1 { 4 } else { 8 }, "bytes of {name}");
    (name, constant)
}

/// The only field of a message, which has this number.
fn only(bytes: &[u8], due: u64) -> &[u8] {
    let mut fields = fields(bytes);
    let (number, field) = fields.next().expect("a field");
    assert!(number == due && fields.next().is_none(), "field {number} alone");
    field.bytes()
}

fn described(bytes: &[u8]) -> Described {
    let mut described = Described::default();
    for (number, field) in fields(bytes) {
        match number {
            1 => described.name = field.text(),
            2 => {
                for (number, field) in fields(only(field.bytes(), 1)) {
                    match number {
                        1 => assert_eq!(field.number(), 1, "floats"),
                        2 => described.sizes = fields(field.bytes()).map(|(number, field)| size(number, field)).collect(),
                        other => panic!("field {other} of a type"),
                    }
                }
            }
            other => panic!("field {other} of an input or output"),
        }
    }
    described
}

fn size(number: u64, field: Field) -> String {
    assert_eq!(number, 1, "a dimension");
    let mut all = fields(field.bytes());
    match (all.next(), all.next()) {
        (Some((1, size)), None) => size.number().to_string(),
        (Some((2, name)), None) => name.text(),
        _ => panic!("a size that is neither a number nor a name"),
    }
}

fn graph(bytes: &[u8], model: &mut Model) {
    for (number, field) in fields(bytes) {
        match number {
            1 => model.nodes.push(node(field.bytes())),
            2 => model.name = field.text(),
            5 => model.initializers.push(constant(field.bytes())),
            11 => model.inputs.push(described(field.bytes())),
            12 => model.outputs.push(described(field.bytes())),
            other => panic!("field {other} of a graph"),
        }
    }
}

/// Reads a file.
pub(super) fn read(bytes: &[u8]) -> Model {
    let mut model = Model::default();
    for (number, field) in fields(bytes) {
        match number {
            1 => model.ir_version = field.number(),
            2 => model.producer = field.text(),
            3 => assert_eq!(field.text(), env!("CARGO_PKG_VERSION")),
            7 => graph(field.bytes(), &mut model),
            8 => {
                for (number, field) in fields(field.bytes()) {
                    match number {
                        1 => assert_eq!(field.text(), "", "ONNX's own operators"),
                        2 => model.opset = field.number(),
                        other => panic!("field {other} of a set of operators"),
                    }
                }
            }
            14 => model.metadata.push(pair(field.bytes())),
            other => panic!("field {other} of a model"),
        }
    }
    model
}
