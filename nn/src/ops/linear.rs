//! A linear layer: x·Wᵀ + b.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Attribute, Form, Nodes, OnnxError};
use crate::ops::{Choice, Chosen, Context, Entries, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, lend, run};
use crate::record::{Declaration, Draw, Init, Layout, Parameter, Scope, Var};
use nunatak_core::Shape;
use nunatak_core::program::{Call, Writer};
use nunatak_core::tape::{EntryId, Reads};
use nunatak_kernels::{Algorithm, Pass, WeightLayout, linear as kernel};

/// A linear layer to be recorded: PyTorch's `Linear`, with its defaults.
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    outputs: usize,
    bias: bool,
    init: Option<Init>,
    bias_init: Option<Init>,
    draw: Option<Draw>,
    shared: bool,
}

impl Dense {
    /// `outputs` numbers for each row, with a bias.
    pub const fn new(outputs: usize) -> Dense {
        Dense { outputs, bias: true, init: None, bias_init: None, draw: None, shared: false }
    }
    /// Without a bias.
    pub const fn no_bias(mut self) -> Dense {
        self.bias = false;
        self
    }
    /// Another initialisation of the weight than PyTorch's default, which is drawn all the same.
    pub const fn init(mut self, init: Init) -> Dense {
        self.init = Some(init);
        self
    }
    /// Another initialisation of the bias.
    pub const fn bias_init(mut self, init: Init) -> Dense {
        self.bias_init = Some(init);
        self
    }
    /// Draws the layer's first numbers at an earlier point of the recording.
    pub const fn draw_at(mut self, draw: Draw) -> Dense {
        self.draw = Some(draw);
        self
    }
    /// Uses the parameters that this name has already, instead of new ones.
    pub const fn shared(mut self) -> Dense {
        self.shared = true;
        self
    }
}

impl From<usize> for Dense {
    fn from(outputs: usize) -> Dense {
        Dense::new(outputs)
    }
}

impl<'g> Scope<'g> {
    /// Records a linear layer on the rows of `x` (n x inputs), and its parameters `name.weight` and
    /// `name.bias`. `dense` is a [`Dense`], or just the number of outputs.
    pub fn linear(self, name: &str, x: Var<'g>, dense: impl Into<Dense>) -> Var<'g> {
        let (s, dense) = (x.shape(), dense.into());
        let layout = Shape::new(s.n(), s.c(), 1, 1).and_then(|due| due.expect(s)).and_then(|()| WeightLayout::new(dense.outputs, s.c(), 1));
        let shape = layout.and_then(|_| Shape::new(s.n(), dense.outputs, 1, 1)).map_err(Error::from);
        let size = kernel::Linear { n: s.n(), inputs: s.c(), outputs: dense.outputs };
        let (Ok(layout), Ok(_)) = (layout, shape) else {
            return self.record(Op::Linear(Linear { size, algorithm: Algorithm::Gemm, weight: EntryId(0), bias: None }), &[x], shape);
        };
        let draw = self.draw(dense.draw);
        let declared = |leaf, shape: &[usize], layout, init: Option<Init>| Declaration {
            init: init.unwrap_or(Init::Default),
            ..Declaration::parameter(self, Parameter { name, leaf, shape, layout, fan_in: s.c(), draw, shared: dense.shared })
        };
        let weight = self.declare(&declared("weight", &[dense.outputs, s.c()], Layout::Weight(layout), dense.init));
        let bias = dense.bias.then(|| self.declare(&declared("bias", &[dense.outputs], Layout::Plain, dense.bias_init)));
        self.record(Op::Linear(Linear { size, algorithm: Algorithm::Gemm, weight, bias }), &[x], shape)
    }
}

/// A linear layer on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear {
    pub(crate) size: kernel::Linear,
    /// How every pass is computed: `gemm` or `stream`. The plan chooses.
    pub(crate) algorithm: Algorithm,
    pub(crate) weight: EntryId,
    pub(crate) bias: Option<EntryId>,
}

impl Linear {
    fn one_pass(&self) -> bool {
        matches!(self.algorithm, Algorithm::Stream)
    }
}

impl Facts for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn choose(&mut self, choice: &Choice, _: Shape) -> Result<Chosen, Error> {
        self.algorithm = choice.built(self.size.algorithm());
        Ok(Chosen::Computes)
    }
    fn backward_is(&mut self, _: bool) {}
    fn repeat(&mut self) -> bool {
        true
    }
    fn entries(&self) -> Entries {
        Entries::new(&[Some(self.weight), self.bias], &[])
    }
    #[cfg(feature = "std")]
    fn renumber(&mut self, number: &dyn Fn(EntryId) -> EntryId) {
        self.weight = number(self.weight);
        self.bias = self.bias.map(number);
    }
    fn backward_input_reads(&self) -> Reads {
        Reads::default()
    }
    fn backward_weight_reads(&self) -> Reads {
        Reads { x: 1, ..Reads::default() }
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
    fn steps(&self, position: usize) -> bool {
        position == 0 && self.one_pass()
    }
    fn saved_len(&self, _: &Context) -> usize {
        0
    }
    fn forward_scratch_len(&self, context: &Context) -> usize {
        self.size.conv().scratch_len(Pass::Forward, self.algorithm, context.memory, context.threads)
    }
    fn backward_scratch_len(&self, context: &Context, input: bool, weight: bool) -> usize {
        let of =
            |pass, wanted| if wanted { self.size.conv().scratch_len(pass, self.algorithm, context.memory, context.threads) } else { 0 };
        of(Pass::BackwardInput, input).max(of(Pass::BackwardWeight, weight))
    }
    fn flops(&self) -> u64 {
        2 * (self.size.n * self.size.inputs * self.size.outputs) as u64
    }
    fn algorithm(&self, _: Pass) -> &'static str {
        self.algorithm.name()
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        for size in [self.size.n, self.size.inputs, self.size.outputs] {
            out.size(size)?;
        }
        out.word(self.algorithm.code())?;
        out.word(u32::from(self.bias.is_some()))
    }
    fn read(call: &Call) -> Result<Linear, Misfit> {
        let numbers = &mut call.numbers();
        let size = kernel::Linear { n: numbers.size(), inputs: numbers.size(), outputs: numbers.size() };
        let fits = Shape::new(size.n, size.inputs, 1, 1).is_ok()
            && Shape::new(size.n, size.outputs, 1, 1).is_ok()
            && WeightLayout::new(size.outputs, size.inputs, 1).is_ok();
        let algorithm = Algorithm::of_code(numbers.word())
            .ok_or("an algorithm that is unknown, or that this build has not (feature `algorithms`; or plan with `gemm_only`)")?;
        if !fits || !matches!(algorithm, Algorithm::Gemm | Algorithm::Stream) || !size.conv().accepts(Pass::Forward, algorithm) {
            return Err("sizes that are no linear layer's, or an algorithm that this build has not");
        }
        let bias = numbers.flag();
        match call.entry_count() > usize::from(bias) {
            true => Ok(Linear { size, algorithm, weight: call.entry(0), bias: bias.then(|| call.entry(1)) }),
            false => Err("too few parameters"),
        }
    }
    fn lengths(&self) -> Lengths<'_> {
        let kernel::Linear { n, inputs, outputs } = self.size;
        let entries = [Some(self.size.weights().len()), self.bias.map(|_| outputs), None, None, None];
        Lengths { x: Inputs::Few([Some(n * inputs), None, None]), y: n * outputs, entries }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        let x = nodes.rows(0);
        let weight = nodes.entry(self.weight)?;
        let transposed = [Attribute::Int("transB", 1)];
        match self.bias {
            Some(bias) => {
                let bias = nodes.entry(bias)?;
                nodes.result(Form::Rows, "Gemm", &[&x, &weight, &bias], &transposed);
            }
            None => nodes.result(Form::Rows, "Gemm", &[&x, &weight], &transposed),
        }
        Ok(())
    }
    crate::ops::nothing_attached!();
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };
pub(crate) static BACKWARD_WEIGHT: Routine = Routine { part: Part::BackwardWeight, run: backward_weight };
pub(crate) static BACKWARD_INPUT: Routine = Routine { part: Part::BackwardInput, run: backward_input };
pub(crate) static BACKWARD_STEP: Routine = Routine { part: Part::BackwardStep, run: backward_step };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = Linear::read(call)?;
    let bias = if op.bias.is_some() { call.param(1) } else { Default::default() };
    let ([x, w, bias], [y, scratch]) = lend(run.memory, [call.x(0), call.param(0), bias], [call.y(), call.scratch()])?;
    op.size.forward_by(&run.cpu, op.algorithm, kernel::Forward { x, w, b: op.bias.map(|_| bias), y, scratch });
    Ok(())
}

fn backward_weight(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = Linear::read(call)?;
    if call.wants_weight(0) && !call.is_one_pass() {
        let add = run.has_gradient(call.entry(0));
        let scratch = run::weight_scratch(call, run, |pass, c| op.size.conv().scratch_len(pass, op.algorithm, c.memory, c.threads));
        let dw = run.gradient(call, 0)?;
        let ([x, dy], [dw, scratch]) = lend(run.memory, [call.x(0), call.dy()], [dw, scratch])?;
        op.size.backward_weight_by(&run.cpu, op.algorithm, kernel::BackwardWeight { x, dy, dw, add, scratch });
    }
    if call.wants_weight(1) {
        let add = run.has_gradient(call.entry(1));
        let db = run.gradient(call, 1)?;
        let ([dy], [db]) = lend(run.memory, [call.dy()], [db])?;
        op.size.backward_bias(&run.cpu, dy, db, add);
    }
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let op = Linear::read(call)?;
    let ([w, dy], [dx, scratch]) = lend(run.memory, [call.param(0), call.dy()], [call.dx(position), call.scratch()])?;
    let add = call.adds(position);
    op.size.conv().backward_input(&run.cpu, op.algorithm, kernel::BackwardInput { w, dy, dx, add, scratch });
    Ok(())
}

fn backward_step(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    run.one_pass(call, &Linear::read(call)?.size.conv())
}
