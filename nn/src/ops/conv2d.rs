//! Convolution, with what can happen to its output before it leaves the cache.

use crate::Error;
#[cfg(feature = "std")]
use crate::files::onnx::{Attribute, Form, Nodes, OnnxError};
use crate::ops::{
    Choice, Chosen, Context, Entries, Facts, Inputs, Lengths, Misfit, Op, Part, Routine, Run, Shorter, batch_norm, lend, run,
};
use crate::record::{Declaration, Draw, Init, Layout, Pair, Parameter, Scope, Var};
use nunatak_core::program::{Call, Numbers, Writer};
use nunatak_core::tape::{EntryId, Reads};
use nunatak_core::{Shape, arena::UNIT};
use nunatak_kernels::conv2d::{self as kernel, Activation, Normalise, Window};
use nunatak_kernels::{Algorithm, Memory, Pass, WeightLayout, bias};

/// A convolution to be recorded: PyTorch's `Conv2d`, with its defaults.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    outputs: usize,
    window: Window,
    groups: usize,
    bias: bool,
    init: Option<Init>,
    bias_init: Option<Init>,
    draw: Option<Draw>,
    shared: bool,
}

impl Conv {
    /// `outputs` channels by a filter of `kernel` (a number, or `[height, width]`); stride 1, no padding, no
    /// dilation, one group, with a bias.
    pub fn new(outputs: usize, kernel: impl Into<Pair>) -> Conv {
        let window = Window { kernel: kernel.into().0, ..Window::square(1, 1, 0) };
        Conv { outputs, window, groups: 1, bias: true, init: None, bias_init: None, draw: None, shared: false }
    }
    /// The step of the filter.
    pub fn stride(mut self, stride: impl Into<Pair>) -> Conv {
        self.window.stride = stride.into().0;
        self
    }
    /// Zeros around the image.
    pub fn pad(mut self, pad: impl Into<Pair>) -> Conv {
        self.window.pad = pad.into().0;
        self
    }
    /// The distance of the filter's positions.
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Conv {
        self.window.dilation = dilation.into().0;
        self
    }
    /// Groups of channels: each output reads the inputs of its own group. As many as there are input channels: a
    /// depthwise convolution.
    pub const fn groups(mut self, groups: usize) -> Conv {
        self.groups = groups;
        self
    }
    /// Without a bias.
    pub const fn no_bias(mut self) -> Conv {
        self.bias = false;
        self
    }
    /// Another initialisation of the weight than PyTorch's default. The default is drawn all the same, as it
    /// is in PyTorch where a weight is initialised after its layer was made.
    pub const fn init(mut self, init: Init) -> Conv {
        self.init = Some(init);
        self
    }
    /// Another initialisation of the bias.
    pub const fn bias_init(mut self, init: Init) -> Conv {
        self.bias_init = Some(init);
        self
    }
    /// Draws the layer's first numbers at an earlier point of the recording: where PyTorch makes the layer
    /// before others that come first in the state dict.
    pub const fn draw_at(mut self, draw: Draw) -> Conv {
        self.draw = Some(draw);
        self
    }
    /// Uses the parameters that this name has already, instead of new ones.
    pub const fn shared(mut self) -> Conv {
        self.shared = true;
        self
    }
}

impl<'g> Scope<'g> {
    /// Records a convolution of `x` (n, c, h, w), and its parameters `name.weight` and `name.bias`.
    pub fn conv2d(self, name: &str, x: Var<'g>, conv: Conv) -> Var<'g> {
        let s = x.shape();
        let made = kernel::Conv2d::general(s, conv.outputs, conv.window, conv.groups).map_err(Error::from);
        let shape = made.and_then(|c| Ok(Shape::new(s.n(), c.k(), c.out_h(), c.out_w())?));
        let (Ok(size), Ok(_)) = (made, shape) else {
            return self.record(Op::Conv2d(Conv2d::placeholder()), &[x], shape);
        };
        let (layout, [height, width]) = (size.weights(), size.kernel());
        let fan_in = layout.c() * layout.taps();
        let draw = self.draw(conv.draw);
        let declared = |leaf, shape: &[usize], layout, init: Option<Init>| Declaration {
            init: init.unwrap_or(Init::Default),
            ..Declaration::parameter(self, Parameter { name, leaf, shape, layout, fan_in, draw, shared: conv.shared })
        };
        let weight = self.declare(&declared("weight", &[layout.k(), layout.c(), height, width], Layout::Weight(layout), conv.init));
        let bias = conv.bias.then(|| self.declare(&declared("bias", &[layout.k()], Layout::Plain, conv.bias_init)));
        let op = Conv2d { size, algorithms: [Algorithm::default(); 3], weight, bias, finish: Finish::Nothing, over: false };
        self.record(Op::Conv2d(op), &[x], shape)
    }
}

/// A convolution on the tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conv2d {
    /// Its numbers.
    pub(crate) size: kernel::Conv2d,
    /// How each pass is computed, in the order of [`Pass`]. The plan chooses them: it knows what memory may be
    /// spent.
    pub(crate) algorithms: [Algorithm; 3],
    /// Its weight.
    pub(crate) weight: EntryId,
    /// Its bias.
    pub(crate) bias: Option<EntryId>,
    /// What happens to its output before it leaves the cache.
    pub(crate) finish: Finish,
    /// Whether its output may lie where its residual does.
    pub(crate) over: bool,
}

/// What a convolution does to its output besides, once it was fused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finish {
    /// Nothing.
    Nothing,
    /// Leaves mean and squared deviations of each channel behind it, for the normalisation that follows.
    Moments,
    /// Normalises with running statistics, of which nothing is trained; the residual is the second input.
    Normalise(batch_norm::BatchNorm),
}

impl Conv2d {
    /// Stands where a convolution could not be recorded; the graph then has an error and is never planned.
    fn placeholder() -> Conv2d {
        let algorithms = [Algorithm::default(); 3];
        Conv2d { size: kernel::Conv2d::UNIT, algorithms, weight: EntryId(0), bias: None, finish: Finish::Nothing, over: false }
    }

    /// Its output may lie where its residual does, if memory counts and the algorithm can.
    pub(crate) fn over_residual(mut self, context: &Context) -> Conv2d {
        let adds = matches!(&self.finish, Finish::Normalise(norm) if norm.then.add);
        let can = || self.size.over_scratch_len(context.memory, context.threads).is_some();
        self.over = adds && context.memory != Memory::Fast && self.algorithms[0] == Algorithm::Gemm && can();
        self
    }

    /// Whether the weight's gradient, its step and the input's gradient can be one pass over the weight: both
    /// backward passes are by `stream`.
    fn one_pass(&self) -> bool {
        matches!(self.algorithms, [_, Algorithm::Stream, Algorithm::Stream])
    }

    fn weights(&self) -> WeightLayout {
        self.size.weights()
    }

    /// What is added to the output, where there is a bias.
    fn bias_of_output(&self) -> bias::Bias {
        let (n, k) = (self.size.n(), self.size.k());
        // A convolution whose output is no shape was not made.
        bias::Bias::new(Shape::new(n, k, self.size.out_h(), self.size.out_w()).unwrap_or(Shape::SCALAR))
    }
}

/// Room for the moments of `k` channels: two numbers of 64 bits each.
pub(crate) const fn moments_len(k: usize) -> usize {
    4 * k
}

/// Room for three tables of `k` channels, so that what follows is aligned.
const fn tables_room(k: usize) -> usize {
    (3 * k).next_multiple_of(UNIT)
}

impl Facts for Conv2d {
    fn name(&self) -> &'static str {
        match &self.finish {
            Finish::Nothing => "conv2d",
            Finish::Moments => "conv2d+moments",
            Finish::Normalise(norm) => norm.then.choose([
                ["conv2d+batchnorm", "conv2d+batchnorm+relu", "conv2d+batchnorm+relu6", "conv2d+batchnorm+hardswish"],
                ["conv2d+batchnorm+add", "conv2d+batchnorm+add+relu", "conv2d+batchnorm+add+relu6", "conv2d+batchnorm+add+hardswish"],
            ]),
        }
    }
    fn choose(&mut self, choice: &Choice, _: Shape) -> Result<Chosen, Error> {
        for pass in Pass::ALL {
            let forced = choice.forced(pass, |algorithm| self.size.accepts(pass, algorithm));
            let chosen = || choice.built(self.size.algorithm(pass, choice.context.memory));
            self.algorithms[pass as usize] = forced.unwrap_or_else(chosen);
        }
        Ok(Chosen::Computes)
    }
    fn backward_is(&mut self, _: bool) {}
    fn repeat(&mut self) -> bool {
        true
    }
    fn entries(&self) -> Entries {
        match &self.finish {
            Finish::Nothing | Finish::Moments => Entries::new(&[Some(self.weight), self.bias], &[]),
            Finish::Normalise(n) => Entries::new(&[Some(self.weight)], &[n.gamma, n.beta, Some(n.mean), Some(n.var)]),
        }
    }
    #[cfg(feature = "std")]
    fn renumber(&mut self, number: &dyn Fn(EntryId) -> EntryId) {
        self.weight = number(self.weight);
        self.bias = self.bias.map(number);
        if let Finish::Normalise(norm) = &mut self.finish {
            norm.renumber(number);
        }
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
    fn overwrites(&self, position: usize) -> bool {
        position == 1 && self.over
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
    fn attached_len(&self) -> usize {
        if matches!(self.finish, Finish::Moments) { moments_len(self.size.k()) } else { 0 }
    }
    fn reads_attached(&self) -> usize {
        0
    }
    fn saved_len(&self, _: &Context) -> usize {
        0
    }
    fn forward_scratch_len(&self, context: &Context) -> usize {
        let own = self.size.scratch_len(Pass::Forward, self.algorithms[0], context.memory, context.threads);
        let over = if self.over { self.size.over_scratch_len(context.memory, context.threads) } else { None };
        let own = over.map_or(own, |over| over.max(own));
        match &self.finish {
            Finish::Nothing => own,
            Finish::Moments => self.size.moments_scratch_len(self.algorithms[0], context.memory) + own,
            Finish::Normalise(norm) => norm.affine_room() + tables_room(self.size.k()) + own,
        }
    }
    fn backward_scratch_len(&self, context: &Context, input: bool, weight: bool) -> usize {
        let of = |pass: Pass, wanted: bool| match wanted {
            true => self.size.scratch_len(pass, self.algorithms[pass as usize], context.memory, context.threads),
            false => 0,
        };
        let bias = if weight && self.bias.is_some() { self.bias_of_output().scratch_len() } else { 0 };
        of(Pass::BackwardInput, input).max(of(Pass::BackwardWeight, weight)).max(bias)
    }
    fn flops(&self) -> u64 {
        2 * self.size.products()
    }
    fn algorithm(&self, pass: Pass) -> &'static str {
        self.algorithms[pass as usize].name()
    }
    fn write(&self, out: &mut Writer) -> Result<(), nunatak_core::Error> {
        write_size(&self.size, out)?;
        for algorithm in self.algorithms {
            out.word(algorithm.code())?;
        }
        out.word(u32::from(self.bias.is_some()))?;
        match &self.finish {
            Finish::Nothing => out.word(0),
            Finish::Moments => out.word(1),
            Finish::Normalise(norm) => {
                out.word(if self.over { 3 } else { 2 })?;
                norm.write(out)
            }
        }
    }
    fn read(call: &Call) -> Result<Conv2d, Misfit> {
        let numbers = &mut call.numbers();
        let size = read_size(numbers)?;
        let mut algorithms = [Algorithm::default(); 3];
        for pass in Pass::ALL {
            let algorithm = Algorithm::of_code(numbers.word())
                .ok_or("an algorithm that is unknown, or that this build has not (feature `algorithms`; or plan with `gemm_only`)")?;
            if !size.accepts(pass, algorithm) {
                return Err("an algorithm that can't do this convolution, or that this build has not");
            }
            algorithms[pass as usize] = algorithm;
        }
        let bias = numbers.flag();
        let kind = numbers.word();
        let due = 1 + usize::from(bias) + if kind >= 2 { 2 } else { 0 };
        if call.entry_count() < due || bias && kind != 0 {
            return Err("too few parameters, or a bias before a finish");
        }
        let finish = match kind {
            0 => Finish::Nothing,
            1 => Finish::Moments,
            2 | 3 => Finish::Normalise(batch_norm::BatchNorm::read_from(numbers, call, 1)?),
            _ => return Err("a finish that there is not"),
        };
        if matches!(&finish, Finish::Normalise(norm) if norm.size.channels != size.k()) {
            return Err("a normalisation of other channels");
        }
        let over = kind == 3;
        if over && algorithms[0] != Algorithm::Gemm {
            return Err("a residual in place by another algorithm than gemm");
        }
        Ok(Conv2d { size, algorithms, weight: call.entry(0), bias: bias.then(|| call.entry(1)), finish, over })
    }
    fn lengths(&self) -> Lengths<'_> {
        let (k, y) = (self.size.k(), self.size.y_len());
        let weight = Some(self.weights().len());
        match &self.finish {
            Finish::Nothing | Finish::Moments => {
                let bias = self.bias.map(|_| k);
                Lengths { x: Inputs::Few([Some(self.size.x_len()), None, None]), y, entries: [weight, bias, None, None, None] }
            }
            Finish::Normalise(norm) => {
                let residual = norm.then.add.then_some(y);
                let mut entries = [weight, None, None, None, None];
                let tables = norm.entries().numbers().len();
                entries.iter_mut().skip(1).take(tables.min(4)).for_each(|len| *len = Some(k));
                Lengths { x: Inputs::Few([Some(self.size.x_len()), residual, None]), y, entries }
            }
        }
    }
    #[cfg(feature = "std")]
    fn onnx(&self, nodes: &mut Nodes) -> Result<(), OnnxError> {
        match &self.finish {
            Finish::Nothing => {}
            Finish::Moments | Finish::Normalise(_) => return Err(nodes.refused("it is made by fusing, and no recording has it")),
        }
        let x = nodes.images(0);
        let weight = nodes.entry(self.weight)?;
        let bias = self.bias.map(|bias| nodes.entry(bias)).transpose()?;
        let (size, [top, left]) = (&self.size, self.size.pad());
        let attributes = [
            Attribute::Ints("dilations", &size.dilation()),
            Attribute::Int("group", size.groups() as i64),
            Attribute::Ints("kernel_shape", &size.kernel()),
            Attribute::Ints("pads", &[top, left, top, left]),
            Attribute::Ints("strides", &size.stride()),
        ];
        match &bias {
            Some(bias) => nodes.result(Form::Images, "Conv", &[&x, &weight, bias], &attributes),
            None => nodes.result(Form::Images, "Conv", &[&x, &weight], &attributes),
        }
        Ok(())
    }
}

/// Reads a convolution's numbers.
pub(crate) fn read_size(numbers: &mut Numbers) -> Result<kernel::Conv2d, Misfit> {
    let mut sizes = || [numbers.size(), numbers.size()];
    let ([n, c], [h, w], [k, groups]) = (sizes(), sizes(), sizes());
    let window = Window { kernel: sizes(), stride: sizes(), pad: sizes(), dilation: sizes() };
    let input = Shape::new(n, c, h, w).map_err(|_| "a convolution of no image")?;
    kernel::Conv2d::general(input, k, window, groups).map_err(|_| "sizes that are no convolution's")
}

/// Writes a convolution's numbers.
pub(crate) fn write_size(size: &kernel::Conv2d, out: &mut Writer) -> Result<(), nunatak_core::Error> {
    let pairs = [[size.n(), size.c()], [size.h(), size.w()], [size.k(), size.groups()]];
    for pair in pairs.into_iter().chain([size.kernel(), size.stride(), size.pad(), size.dilation()]) {
        out.size(pair[0])?;
        out.size(pair[1])?;
    }
    Ok(())
}

pub(crate) static FORWARD: Routine = Routine { part: Part::Forward, run: forward };
pub(crate) static BACKWARD_WEIGHT: Routine = Routine { part: Part::BackwardWeight, run: backward_weight };
pub(crate) static BACKWARD_INPUT: Routine = Routine { part: Part::BackwardInput, run: backward_input };
pub(crate) static BACKWARD_STEP: Routine = Routine { part: Part::BackwardStep, run: backward_step };

fn forward(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = Conv2d::read(call)?;
    let (cpu, size, algorithm) = (&run.cpu, &op.size, op.algorithms[0]);
    let (x, y, scratch) = (call.x(0), call.y(), call.scratch());
    match &op.finish {
        Finish::Nothing => {
            let bias = if op.bias.is_some() { call.param(1) } else { Default::default() };
            let ([x, w, bias], [y, scratch]) = lend(run.memory, [x, call.param(0), bias], [y, scratch])?;
            let finish = match op.bias {
                Some(_) => kernel::Finish::Bias(kernel::Bias { bias, activation: Activation::None }),
                None => kernel::Finish::None,
            };
            size.forward(cpu, algorithm, kernel::Forward { x, w, y, add: false, finish, scratch });
        }
        Finish::Moments => {
            let ([x, w], [y, moments, scratch]) = lend(run.memory, [x, call.param(0)], [y, call.attached(), scratch])?;
            let moments = bytemuck::cast_slice_mut(moments);
            size.forward_moments(cpu, algorithm, run.context.memory, kernel::ForwardMoments { x, w, y, moments, scratch });
        }
        Finish::Normalise(norm) => {
            let [gamma, beta, mean, var] = norm.places(call, 1);
            let over = op.over && norm.then.add && call.x(1) == y;
            let reads = [x, call.param(0), call.x(1).when(norm.then.add && !over), gamma, beta, mean, var];
            let ([x, w, residual, gamma, beta, mean, var], [y, scratch]) = lend(run.memory, reads, [y, scratch])?;
            let (affine, scratch) = scratch.split_at_mut(norm.affine_room());
            let [gamma, beta] = norm.affine(gamma, beta, affine);
            let (tables, scratch) = scratch.split_at_mut(tables_room(size.k()));
            let tables = &mut tables[..Normalise::tables_len(size.k())];
            let how = Normalise::running(norm.size.eps, gamma, beta, mean, var, tables);
            let how = Normalise { activation: norm.then.activation, ..how };
            if over {
                let due = size.over_scratch_len(run.context.memory, run.context.threads);
                let due = due.filter(|due| *due <= scratch.len()).ok_or("a residual that can't be written over")?;
                size.forward_over(cpu, kernel::ForwardOver { x, w, y, how, scratch: &mut scratch[..due] });
                return Ok(());
            }
            let finish = kernel::Finish::Normalise(Normalise { residual: norm.then.add.then_some(residual), ..how });
            size.forward(cpu, algorithm, kernel::Forward { x, w, y, add: false, finish, scratch });
        }
    }
    Ok(())
}

fn backward_weight(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    let op = Conv2d::read(call)?;
    if call.wants_weight(0) && !call.is_one_pass() {
        let (algorithm, add) = (op.algorithms[Pass::BackwardWeight as usize], run.has_gradient(call.entry(0)));
        let scratch = run::weight_scratch(call, run, |pass, c| op.size.scratch_len(pass, algorithm, c.memory, c.threads));
        let dw = run.gradient(call, 0)?;
        let ([x, dy], [dw, scratch]) = lend(run.memory, [call.x(0), call.dy()], [dw, scratch])?;
        op.size.backward_weight(&run.cpu, algorithm, kernel::BackwardWeight { x, dy, dw, add, scratch });
    }
    if call.wants_weight(1) {
        let (add, db) = (run.has_gradient(call.entry(1)), run.gradient(call, 1)?);
        let bias = op.bias_of_output();
        let scratch = call.scratch().first(bias.scratch_len());
        let ([dy], [db, scratch]) = lend(run.memory, [call.dy()], [db, scratch])?;
        bias::backward_bias(&run.cpu, &bias, dy, db, add, scratch);
    }
    Ok(())
}

fn backward_input(run: &mut Run, call: &Call, position: usize) -> Result<(), Error> {
    let op = Conv2d::read(call)?;
    let algorithm = op.algorithms[Pass::BackwardInput as usize];
    let ([w, dy], [dx, scratch]) = lend(run.memory, [call.param(0), call.dy()], [call.dx(position), call.scratch()])?;
    let add = call.adds(position);
    op.size.backward_input(&run.cpu, algorithm, kernel::BackwardInput { w, dy, dx, add, scratch });
    Ok(())
}

fn backward_step(run: &mut Run, call: &Call, _: usize) -> Result<(), Error> {
    run.one_pass(call, &Conv2d::read(call)?.size)
}
