//! Numbers set to zero by chance, in train mode.
//!
//! Which numbers are dropped follows from the operation's seed and the trainer's count of forward passes in train
//! mode, which lies in the lasting state. Backward finds the same again, so nothing is saved.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Nodes, OnnxError};
use crate::ops::{Choice, Chosen, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, Shorter, lend};
use crate::record::Var;
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::Reads;
use nunatak_kernels::dropout as kernel;

impl<'g> Var<'g> {
    /// In train mode sets each number to zero with this probability, and multiplies the others by
    /// 1/(1 − probability); in eval mode the value itself, and nothing is computed. (PyTorch's `Dropout`.)
    ///
    /// Every dropout of a recording draws other numbers. See [`crate::step::Trainer::set_forwards`] for another
    /// sequence.
    pub fn dropout(self, probability: f32) -> Var<'g> {
        self.dropout_seeded(probability, u64::from(self.next_layer()))
    }

    /// The same with a seed: two dropouts of the same seed drop the same places.
    pub fn dropout_seeded(self, probability: f32, seed: u64) -> Var<'g> {
        let op = Dropout { probability, seed, len: self.shape().len() };
        let shape = match kernel::Dropout::new(probability, seed, 0) {
            Ok(_) => Ok(self.shape()),
            Err(e) => Err(Error::Probability { got: e.probability }),
        };
        self.unary(Op::Dropout(op), shape)
    }
}

/// A dropout on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropout {
    /// 0: a copy.
    pub(crate) probability: f32,
    seed: u64,
    len: usize,
}

impl Dropout {
    /// What is dropped after so many forward passes.
    fn at(&self, forwards: u64) -> Result<kernel::Dropout, Misfit> {
        kernel::Dropout::new(self.probability, self.seed, forwards).map_err(|_| "a probability that is none")
    }
}

impl Facts for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }
    fn choose(&mut self, choice: &Choice, _: Shape) -> Result<Chosen, Error> {
        if !choice.train {
            self.probability = 0.0;
        }
        Ok(if self.probability == 0.0 { Chosen::Passes } else { Chosen::Computes })
    }
    fn backward_is(&mut self, _: bool) {}
    fn repeat(&mut self) -> bool {
        true
    }
    fn backward_input_reads(&self) -> Reads {
        Reads::default()
    }
    fn differentiable(&self, _: usize) -> bool {
        true
    }
    fn overwrites(&self, _: usize) -> bool {
        true
    }
    fn gradient_overwrites(&self, _: usize) -> bool {
        true
    }
    fn accumulates(&self, _: usize) -> bool {
        true
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        out.float(self.probability)?;
        out.word(self.seed as u32)?;
        out.word((self.seed >> 32) as u32)?;
        out.size(self.len)
    }
    fn read(call: &Call) -> Result<Dropout, Misfit> {
        let numbers = &mut call.numbers();
        let op = Dropout { probability: numbers.float(), seed: numbers.wide(), len: numbers.size() };
        op.at(0).map(|_| op)
    }
    fn lengths(&self) -> Lengths<'_> {
        Lengths { x: Inputs::Few([Some(self.len), None, None]), y: self.len, ..Lengths::default() }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        nodes.pass_on(0); // it drops nothing in eval mode
        Ok(())
    }
    crate::ops::nothing_to_train!();
    crate::ops::nothing_attached!();
    crate::ops::no_memory!();
    crate::ops::no_product!();
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };
pub(crate) static BACKWARD_INPUT: Routine = Routine { part: Part::BackwardInput, run: backward_input };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let dropped = Dropout::read(call)?.at(run.forwards())?;
    let in_place = call.x(0) == call.y();
    let ([x], [y]) = lend(run.memory, [call.x(0).when(!in_place)], [call.y()])?;
    kernel::forward(&run.cpu, &dropped, (!in_place).then_some(x), y);
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let dropped = Dropout::read(call)?.at(run.forwards())?;
    let in_place = call.dx(position) == call.dy();
    let ([dy], [dx]) = lend(run.memory, [call.dy().when(!in_place)], [call.dx(position)])?;
    kernel::backward_input(&run.cpu, &dropped, (!in_place).then_some(dy), dx, call.adds(position));
    Ok(())
}
