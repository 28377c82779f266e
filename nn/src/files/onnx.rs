//! Networks as ONNX: a recording and its weights as one file, which ONNX Runtime and others execute.
//!
//! What is written computes one value of a recording in eval mode: normalisations use their running statistics, and a
//! dropout is not there. Weights are initializers with the names and shapes of PyTorch's state dict. The opset is 17, the
//! version of the format 8. Equal networks give equal bytes.
//!
//! - The network's input is called `input`; where it has several, each is called as in the recording
//!   ([`Scope::name`](crate::Scope::name)), or `input_` and a number. The value that is asked for is called `logits`.
//! - The number of images is free: the first size of inputs that have the recording's batch is `N`. Other sizes are the
//!   recording's. A tensor of one pixel an image has the sizes n and c, as PyTorch's features and logits.
//! - Losses are not written.
//!
//! ```
//! # #[cfg(not(feature = "std"))] fn main() {}
//! # #[cfg(feature = "std")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use nunatak_nn::files::write_onnx;
//! use nunatak_nn::{Conv, Graph, Mode, Step};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("own.onnx");
//!
//! let graph = Graph::new();
//! let x = graph.root().conv2d("conv", graph.input([1, 3, 32, 32]), Conv::new(8, 3).pad(1)).relu();
//! let prediction = graph.root().linear("fc", x.adaptive_avg_pool(1), 10);
//! let trainer = Step::new(&graph).keep(&[prediction.id()]).mode(Mode::Eval).trainer()?;
//! write_onnx(&path, &graph, prediction, &trainer.state().views(), &Default::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `nodes` | what the files of `ops` write: nodes and constants |
//! | `proto` | protobuf, as far as it is written |
//! | `error` | why a network is refused |

mod error;
mod nodes;
mod proto;

pub use error::OnnxError;
pub(crate) use nodes::{Attribute, Form, Name, Nodes};

use crate::files::atomic;
use crate::files::error::WriteError;
use crate::files::tensor_out::{self, TensorOut};
use crate::ops::Op;
use crate::record::{Graph, Recording};
use nodes::{Initializer, Written};
use nunatak_core::tape::ValueId;
use proto::Message;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::string::String;
use std::vec::Vec;

/// The version of the format.
const IR_VERSION: i64 = 8;
/// The version of the set of operators.
const OPSET: i64 = 17;
/// What the only input is called.
const INPUT: &str = "input";
/// What the output is called.
const OUTPUT: &str = "logits";
/// The most bytes that protobuf's readers take.
const MOST: u64 = i32::MAX as u64;

/// A network as ONNX, ready to be written.
pub struct Onnx<'t> {
    /// Everything before the first tensor.
    front: Message,
    tensors: Vec<Initializer<'t>>,
    /// Everything behind the last.
    back: Message,
}

impl fmt::Debug for Onnx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Onnx({} bytes)", self.len())
    }
}

impl<'t> Onnx<'t> {
    /// What computes `output`, a value of the recording, in eval mode. `tensors` are the network's state dict
    /// ([`State::views`](crate::files::state::State::views)); what does not serve the value is left out. `metadata` are
    /// pairs of texts that the file is to hold besides, as its `metadata_props`.
    ///
    /// # Errors
    /// [`OnnxError`]: the recording's error; an operation that has no nodes; a tensor that is missing or of another shape;
    /// more bytes than a file can have.
    pub fn new(
        graph: &Graph,
        output: impl Into<ValueId>,
        tensors: &[TensorOut<'t>],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Onnx<'t>, OnnxError> {
        tensor_out::check(tensors)?;
        let output = output.into();
        graph.with(|recording| Ok(Onnx::of(recording, output, tensors, metadata)))?
    }

    fn of(
        recording: &Recording,
        output: ValueId,
        tensors: &[TensorOut<'t>],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Onnx<'t>, OnnxError> {
        let mut written = walk(recording, output, tensors)?;
        let shape = recording.tape.nodes()[output.index()].shape;
        let mut end = Message::default();
        end.append(written.inputs.bytes());
        end.message(12, &nodes::described(shape, &written.output(output, OUTPUT, nodes::form_of(shape))));
        let mut graph = Message::default();
        graph.append(written.nodes.bytes());
        graph.text(2, Some(recording.text(recording.model)).filter(|model| !model.is_empty()).unwrap_or("network"));
        let tensors = written.initializers;
        let bytes = graph.len() + tensors.iter().map(Initializer::len).sum::<u64>() + end.len();

        let mut front = Message::default();
        front.integer(1, IR_VERSION);
        front.text(2, "nunatak");
        front.text(3, env!("CARGO_PKG_VERSION"));
        front.announce(7, bytes);
        front.append(graph.bytes());
        let mut back = end;
        let mut opset = Message::default();
        opset.text(1, "");
        opset.integer(2, OPSET);
        back.message(8, &opset);
        for (key, value) in metadata {
            let mut pair = Message::default();
            pair.text(1, key);
            pair.text(2, value);
            back.message(14, &pair);
        }
        let onnx = Onnx { front, tensors, back };
        match onnx.len() {
            bytes if bytes > MOST => Err(OnnxError::TooBig { bytes, limit: MOST }),
            _ => Ok(onnx),
        }
    }

    /// Bytes of the file.
    #[allow(clippy::len_without_is_empty)] // no file is empty
    pub fn len(&self) -> u64 {
        self.front.len() + self.tensors.iter().map(Initializer::len).sum::<u64>() + self.back.len()
    }

    /// Writes the file's bytes; weights are not copied.
    ///
    /// # Errors
    /// The sink's, at the first piece that it refuses.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(self.front.bytes())?;
        for tensor in &self.tensors {
            out.write_all(tensor.head.bytes())?;
            tensor.lent.map_or(Ok(()), |data| data.write_to(out))?;
        }
        out.write_all(self.back.bytes())
    }

    /// Writes the file to `path`, atomically.
    ///
    /// # Errors
    /// [`WriteError::Io`]; the file that stood there before is then untouched.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        atomic::replace(path, |out| self.write(out))
    }
}

/// Writes what computes a value of the recording to `path` as ONNX, atomically: see [`Onnx::new`].
///
/// # Errors
/// [`OnnxError`]; the file that stood at `path` before is then untouched.
pub fn write_onnx(
    path: &Path,
    graph: &Graph,
    output: impl Into<ValueId>,
    tensors: &[TensorOut<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<(), OnnxError> {
    Ok(Onnx::new(graph, output, tensors, metadata)?.save(path)?)
}

/// Writes the nodes of everything that the output needs, in the order of the recording.
fn walk<'r, 't>(recording: &'r Recording, output: ValueId, tensors: &[TensorOut<'t>]) -> Result<Written<'r, 't>, OnnxError> {
    let tape = &recording.tape;
    tape.node(output).map_err(crate::Error::from)?;
    let mut needed = std::vec![false; tape.nodes().len()];
    needed[output.index()] = true;
    for v in tape.values().rev().filter(|v| v.index() <= output.index()) {
        if needed[v.index()] {
            tape.inputs(v).iter().for_each(|x| needed[x.index()] = true);
        }
    }
    let node = |v: ValueId| &tape.nodes()[v.index()];
    let needed = || tape.values().filter(|v| needed[v.index()]);
    let inputs = || needed().filter(|v| matches!(node(*v).op, Op::Input(_)));
    let batch = inputs().map(|v| node(v).shape.n()).max().unwrap_or(1);
    let only_input = inputs().next().filter(|_| inputs().nth(1).is_none());
    let form = nodes::form_of(node(output).shape);
    let mut written = Written::new(recording, tensors, batch, &[INPUT, OUTPUT]);
    for v in needed() {
        let name = match only_input == Some(v) {
            true => Name::from(INPUT),
            false => written.free_name(&nodes::usual_name(recording, v), v),
        };
        let is_output = (v == output).then_some((OUTPUT, form));
        node(v).op.facts().onnx(&mut Nodes::new(&mut written, v, name, is_output))?;
    }
    Ok(written)
}
