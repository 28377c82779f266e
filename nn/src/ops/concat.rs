//! Tensors side by side along the channels: PyTorch's `cat(dim=1)`.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Attribute, Nodes, OnnxError};
use crate::ops::{Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, lend};
use crate::record::{Scope, Var};
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::{MAX_INPUTS, Reads};
use nunatak_kernels::concat as kernel;

impl<'g> Scope<'g> {
    /// The channels of all these tensors, in their order: 1 to 64 tensors that agree in all other sizes.
    pub fn concat(self, parts: &[Var<'g>]) -> Var<'g> {
        match Concat::of(parts) {
            Ok(op) => self.record(Op::Concat(op), parts, op.shape().map_err(Error::from)),
            Err(e) => self.record(Op::Nothing, &[], Err(e)),
        }
    }
}

impl<'g> Var<'g> {
    /// This value's channels, then the other's.
    pub fn concat(self, other: Var<'g>) -> Var<'g> {
        match Concat::of(&[self, other]) {
            Ok(op) => self.binary(Op::Concat(op), other, op.shape().map_err(Error::from)),
            Err(e) => self.binary(Op::Nothing, other, Err(e)),
        }
    }
}

/// Tensors side by side, on the tape.
#[derive(Clone, Copy)]
pub(crate) struct Concat {
    /// Images, lines, columns: those of every part.
    n: u32,
    h: u32,
    w: u32,
    /// The channels of each part.
    channels: [u32; MAX_INPUTS],
    parts: usize,
}

impl core::fmt::Debug for Concat {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        write!(f, "Concat({} x {:?} x {} x {})", self.n, self.channels(), self.h, self.w)
    }
}

impl Concat {
    fn of(parts: &[Var]) -> Result<Concat, Error> {
        if !(1..=MAX_INPUTS).contains(&parts.len()) {
            return Err(Error::Length { what: "tensors to concatenate (1 to 64)", expected: MAX_INPUTS, got: parts.len() });
        }
        let [n, _, h, w] = parts[0].shape().sizes();
        let mut channels = [0; MAX_INPUTS];
        for (to, part) in channels.iter_mut().zip(parts) {
            let [_, c, ..] = part.shape().sizes();
            Shape::new(n as usize, c as usize, h as usize, w as usize)?.expect(part.shape())?;
            *to = c;
        }
        Ok(Concat { n, h, w, channels, parts: parts.len() })
    }

    fn channels(&self) -> &[u32] {
        &self.channels[..self.parts]
    }

    fn shape_of(&self, channels: usize) -> Result<Shape, nunatak_core::Error> {
        Shape::new(self.n as usize, channels, self.h as usize, self.w as usize)
    }

    /// The shape of the whole.
    fn shape(&self) -> Result<Shape, nunatak_core::Error> {
        self.shape_of(self.channels().iter().fold(0, |sum: usize, c| sum.saturating_add(*c as usize)))
    }

    fn rows(&self) -> usize {
        self.n as usize * self.h as usize * self.w as usize
    }

    /// A part's place in the whole.
    fn part(&self, position: usize) -> Result<kernel::Concat, Error> {
        let from = self.channels()[..position].iter().map(|c| *c as usize).sum();
        Ok(kernel::Concat::channels(self.shape()?, from, self.shape_of(self.channels()[position] as usize)?)?)
    }
}

impl Facts for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }
    fn backward_input_reads(&self) -> Reads {
        Reads::default()
    }
    fn differentiable(&self, _: usize) -> bool {
        true
    }
    fn overwrites(&self, _: usize) -> bool {
        false
    }
    fn gradient_overwrites(&self, _: usize) -> bool {
        false
    }
    fn accumulates(&self, _: usize) -> bool {
        true
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        [self.n, self.h, self.w].into_iter().try_for_each(|size| out.word(size))?;
        out.size(self.parts)?;
        self.channels().iter().try_for_each(|c| out.word(*c))
    }
    fn read(call: &Call) -> Result<Concat, Misfit> {
        let numbers = &mut call.numbers();
        let [n, h, w] = [numbers.word(), numbers.word(), numbers.word()];
        let (parts, mut channels) = (numbers.size(), [0; MAX_INPUTS]);
        if !(1..=MAX_INPUTS).contains(&parts) {
            return Err("a concatenation of no tensors, or too many");
        }
        channels.iter_mut().take(parts).for_each(|c| *c = numbers.word());
        let op = Concat { n, h, w, channels, parts };
        match op.shape().is_ok() && !op.channels().contains(&0) {
            true => Ok(op),
            false => Err("sizes that are no concatenation's"),
        }
    }
    fn lengths(&self) -> Lengths<'_> {
        let whole = self.shape().map_or(0, |shape| shape.len());
        Lengths { x: Inputs::Rows(self.rows(), self.channels()), y: whole, ..Lengths::default() }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        let (form, parts) = nodes.alike();
        let parts: std::vec::Vec<_> = parts.iter().collect();
        nodes.result(form, "Concat", &parts, &[Attribute::Int("axis", 1)]);
        Ok(())
    }
    crate::ops::nothing_to_choose!();
    crate::ops::nothing_to_train!();
    crate::ops::nothing_attached!();
    crate::ops::no_memory!();
    crate::ops::no_product!();
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };
pub(crate) static BACKWARD_INPUT: Routine = Routine { part: Part::BackwardInput, run: backward_input };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = Concat::read(call)?;
    for position in 0..op.parts {
        let ([x], [y]) = lend(run.memory, [call.x(position)], [call.y()])?;
        kernel::forward(&run.cpu, &op.part(position)?, x, y);
    }
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let op = Concat::read(call)?;
    let ([dy], [dx]) = lend(run.memory, [call.dy()], [call.dx(position)])?;
    kernel::backward_input(&run.cpu, &op.part(position)?, dy, dx, call.adds(position));
    Ok(())
}
