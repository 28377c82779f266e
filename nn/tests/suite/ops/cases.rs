//! The cases: what is recorded, and what the reference computes.

use nunatak_core::Shape;
use nunatak_kernels::broadcast::{Binary, Broadcast};
use nunatak_kernels::conv2d::{Conv2d, Window};
use nunatak_kernels::pointwise::Pointwise;
use nunatak_kernels::{avgpool, batchnorm, concat, cross_entropy, flatten, maxpool, reduce_axes, reference, softmax, window};
use nunatak_nn::Reduction;
use nunatak_nn::ops::{Axis, Conv, CrossEntropyOptions, Dense, Norm};
use nunatak_nn::record::{Graph, Var};
use nunatak_nn::select::Mode;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// How many forward passes there were when a case is computed, itself included.
pub(crate) const FORWARDS: u64 = 7;

/// What comes from outside.
pub(crate) enum Given {
    /// A tensor in PyTorch's order; whether it has a gradient.
    Tensor {
        shape: [usize; 4],
        data: Vec<f32>,
        gradient: bool,
    },
    Labels(Vec<i64>),
}

/// What a reference is told: inputs in the order of memory, entries of the state dict by name in PyTorch's.
pub(crate) struct Values {
    pub(crate) x: Vec<Vec<f32>>,
    pub(crate) entries: BTreeMap<String, Vec<f32>>,
}

type Build = dyn for<'g> Fn(&'g Graph<'static>, &[Var<'g>]) -> Var<'g>;

/// What an operation gives in f64.
type Twin = dyn Fn(&Values) -> Vec<f64>;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) given: Vec<Given>,
    pub(crate) build: Box<Build>,
    pub(crate) reference: Box<Twin>,
    pub(crate) mode: Mode,
    /// How far a slope may be from its gradient, as a part of the largest.
    pub(crate) slack: f64,
}

impl Case {
    fn eval(mut self) -> Case {
        self.mode = Mode::Eval;
        self
    }
}

/// A small generator.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
    /// Numbers within ±1, between the multiples of 1/64: no kink lies within half of that.
    pub(crate) fn numbers(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.below(128) as f32 / 64.0 - 1.0 + 1.0 / 128.0).collect()
    }
}

/// A tensor of numbers within ±`range`.
fn tensor(shape: [usize; 4], range: f32) -> Given {
    let len = shape.iter().product();
    let data = Random::new(len as u64 + range as u64).numbers(len);
    Given::Tensor { shape, data: data.iter().map(|v| (v * range * 64.0).floor() / 64.0 + 1.0 / 128.0).collect(), gradient: true }
}

/// A tensor of numbers that are all positive.
fn positive(shape: [usize; 4]) -> Given {
    let len = shape.iter().product();
    Given::Tensor { shape, data: Random::new(len as u64).numbers(len).iter().map(|v| v + 1.5).collect(), gradient: true }
}

/// A tensor of numbers that all differ by more than a step.
fn distinct(shape: [usize; 4]) -> Given {
    let len: usize = shape.iter().product();
    let prime = [251, 509, 1021].into_iter().find(|prime| *prime > len).expect("a small tensor");
    let data = (0..len).map(|i| (i * 97 % prime) as f32 / 64.0 - 1.0 + 1.0 / 128.0).collect();
    Given::Tensor { shape, data, gradient: true }
}

/// Shares from 0 to 1, which have no gradient.
fn targets(shape: [usize; 4]) -> Given {
    let len = shape.iter().product();
    let data = Random::new(9).numbers(len).iter().map(|v| (v + 1.0) / 2.0).collect();
    Given::Tensor { shape, data, gradient: false }
}

/// A tensor on the multiples of 1/64, so that differences to others are between them.
fn on_grid(shape: [usize; 4]) -> Given {
    let len = shape.iter().product();
    Given::Tensor { shape, data: Random::new(77).numbers(len).iter().map(|v| v - 1.0 / 128.0).collect(), gradient: true }
}

fn case(
    name: &'static str,
    given: Vec<Given>,
    build: impl for<'g> Fn(&'g Graph<'static>, &[Var<'g>]) -> Var<'g> + 'static,
    reference: impl Fn(&Values) -> Vec<f64> + 'static,
) -> Case {
    Case { name, given, build: Box::new(build), reference: Box::new(reference), mode: Mode::Train, slack: 3e-3 }
}

fn shape([n, c, h, w]: [usize; 4]) -> Shape {
    Shape::new(n, c, h, w).expect("a shape")
}

/// What a reference writes.
fn out(len: usize, write: impl FnOnce(&mut [f64])) -> Vec<f64> {
    let mut y = vec![f64::NAN; len];
    write(&mut y);
    y
}

fn rounded(y: Vec<f64>) -> Vec<f32> {
    y.into_iter().map(|v| v as f32).collect()
}

pub(crate) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    pointwise(&mut all);
    arithmetic(&mut all);
    shapes(&mut all);
    layers(&mut all);
    norms(&mut all);
    pools(&mut all);
    losses(&mut all);
    all
}

fn pointwise(all: &mut Vec<Case>) {
    use Pointwise::{Abs, AddScalar, Clamp, Divide, Exp, Gelu, GeluTanh, Hardsigmoid, Hardswish, Log, Pow, Reciprocal};
    use Pointwise::{Relu6, Scale, Sigmoid, Silu, Sqrt, Square, Tanh};
    const X: [usize; 4] = [2, 5, 3, 3];
    let mut add = |name, given: fn() -> Given, build: for<'g> fn(Var<'g>) -> Var<'g>, function: Pointwise| {
        let reference = move |v: &Values| out(90, |y| reference::pointwise::forward(function, &v.x[0], y));
        all.push(case(name, vec![given()], move |_, x| build(x[0]), reference));
    };
    let wide = || tensor(X, 8.0);
    let narrow = || tensor(X, 2.0);
    add("relu6", wide, |x| x.relu6(), Relu6);
    add("hardswish", wide, |x| x.hardswish(), Hardswish);
    add("hardsigmoid", wide, |x| x.hardsigmoid(), Hardsigmoid);
    add("silu", narrow, |x| x.silu(), Silu);
    add("sigmoid", narrow, |x| x.sigmoid(), Sigmoid);
    add("tanh", narrow, |x| x.tanh(), Tanh);
    add("gelu", narrow, |x| x.gelu(), Gelu);
    add("gelu_tanh", narrow, |x| x.gelu_tanh(), GeluTanh);
    add("exp", narrow, |x| x.exp(), Exp);
    add("log", || positive(X), |x| x.log(), Log);
    add("sqrt", || positive(X), |x| x.sqrt(), Sqrt);
    add("abs", narrow, |x| x.abs(), Abs);
    add("square", narrow, |x| x.square(), Square);
    add("reciprocal", || positive(X), |x| x.reciprocal(), Reciprocal);
    add("pow", || positive(X), |x| x.pow(1.7), Pow(1.7));
    add("clamp", narrow, |x| x.clamp(-0.5, 0.75), Clamp { low: -0.5, high: 0.75 });
    add("scale", narrow, |x| x * 1.3, Scale(1.3));
    add("neg", narrow, |x| -x, Scale(-1.0));
    add("add a number", narrow, |x| x + 0.7, AddScalar(0.7));
    add("subtract a number", narrow, |x| x - 0.7, AddScalar(-0.7));
    add("divide by a number", narrow, |x| x / 3.0, Divide(3.0));
    all.push(case("relu", vec![tensor(X, 2.0)], |_, x| x[0].relu(), |v| out(90, |y| reference::relu::forward(&v.x[0], y))));
    // Two readers of one value: gradients are added, and no result lies over what another reads.
    let reference = |v: &Values| v.x[0].iter().map(|x| f64::from(*x)).map(|x| x * x + 1.0 / (1.0 + (-x).exp()) + x.exp()).collect();
    all.push(case("one value, several readers", vec![tensor(X, 2.0)], |_, x| x[0].square() + x[0].sigmoid() + x[0].exp(), reference));
}

fn arithmetic(all: &mut Vec<Case>) {
    type Of = for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>;
    let operations: [(Binary, Of); 4] =
        [(Binary::Add, |a, b| a + b), (Binary::Sub, |a, b| a - b), (Binary::Mul, |a, b| a * b), (Binary::Div, |a, b| a / b)];
    let whole = [2, 5, 3, 3];
    for (binary, operation) in operations {
        for (a, b) in [
            (whole, whole),
            (whole, [1, 5, 1, 1]),
            ([2, 5, 1, 1], whole),
            ([2, 1, 3, 3], whole),
            (whole, [1, 1, 1, 1]),
            ([1, 5, 1, 3], [2, 1, 3, 1]),
        ] {
            let reference = move |v: &Values| {
                let (a, b) = (shape(a), shape(b));
                let y = a.broadcast(b).expect("shapes that fit");
                let p = Broadcast::new(a, b, y).expect("shapes that fit");
                out(y.len(), |y| reference::broadcast::forward(binary, &p, &v.x[0], &v.x[1], y))
            };
            all.push(case(binary.name(), vec![tensor(a, 2.0), positive(b)], move |_, x| operation(x[0], x[1]), reference));
        }
    }
    all.push(case("sum", vec![tensor(whole, 2.0)], |_, x| x[0].sum(), |v| vec![reference::reduce::sum(&v.x[0])]));
    all.push(case("mean", vec![tensor(whole, 2.0)], |_, x| x[0].mean(), |v| vec![reference::reduce::mean(&v.x[0])]));
}

fn shapes(all: &mut Vec<Case>) {
    const X: [usize; 4] = [2, 5, 3, 4];
    let flat =
        |x: [usize; 4]| move |v: &Values| out(v.x[0].len(), |y| reference::flatten::forward(&flatten::Flatten::new(shape(x)), &v.x[0], y));
    all.push(case("flatten", vec![tensor(X, 2.0)], |_, x| x[0].flatten(), flat(X)));
    all.push(case(
        "flatten one channel",
        vec![tensor([3, 1, 4, 5], 2.0)],
        |_, x| x[0].tanh().flatten().square(),
        |v| v.x[0].iter().map(|x| f64::from(*x).tanh().powi(2)).collect(),
    ));
    let joined = |parts: &'static [usize]| {
        move |v: &Values| {
            let whole = shape([2, parts.iter().sum(), 3, 4]);
            out(whole.len(), |y| {
                let mut from = 0;
                for (x, c) in v.x.iter().zip(parts) {
                    let part = concat::Concat::channels(whole, from, shape([2, *c, 3, 4])).expect("a part");
                    reference::concat::forward(&part, x, y);
                    from += c;
                }
            })
        }
    };
    let parts = |parts: &'static [usize]| parts.iter().map(|c| tensor([2, *c, 3, 4], *c as f32)).collect();
    all.push(case("concat", parts(&[5, 1]), |_, x| x[0].concat(x[1]), joined(&[5, 1])));
    all.push(case("concat of five", parts(&[1, 2, 3, 4, 17]), |g, x| g.root().concat(x), joined(&[1, 2, 3, 4, 17])));
    type Sums = (&'static [Axis], [bool; 4]);
    const SUMS: [Sums; 4] = [
        (&[Axis::H, Axis::W], [false, false, true, true]),
        (&[Axis::N], [true, false, false, false]),
        (&[Axis::C, Axis::N], [true, true, false, false]),
        (&[], [false; 4]),
    ];
    for (axes, [n, c, h, w]) in SUMS {
        for mean in [false, true] {
            let reference = move |v: &Values| {
                let reduction = if mean { Reduction::Mean } else { Reduction::Sum };
                let p = reduce_axes::ReduceAxes::new(shape(X), reduce_axes::Axes { n, c, h, w }, reduction);
                out(p.y_shape().len(), |y| reference::reduce_axes::forward(&p, &v.x[0], y))
            };
            all.push(match mean {
                true => case("mean over axes", vec![tensor(X, 2.0)], move |_, x| x[0].mean_over(axes), reference),
                false => case("sum over axes", vec![tensor(X, 2.0)], move |_, x| x[0].sum_over(axes), reference),
            });
        }
    }
    let soft = |p: softmax::Softmax| move |v: &Values| out(p.shape().len(), |y| reference::softmax::forward(&p, &v.x[0], y));
    all.push(case("softmax", vec![tensor(X, 2.0)], |_, x| x[0].softmax(), soft(softmax::Softmax::new(shape(X)))));
    all.push(case("log_softmax", vec![tensor(X, 2.0)], |_, x| x[0].log_softmax(), soft(softmax::Softmax::log(shape(X)))));
    let dropped = |v: &Values| out(v.x[0].len(), |y| reference::dropout::forward(0.3, 11, FORWARDS, &v.x[0], y));
    all.push(case("dropout", vec![tensor(X, 2.0)], |_, x| x[0].dropout_seeded(0.3, 11), dropped));
    let kept = |v: &Values| v.x[0].iter().map(|x| f64::from(*x).powi(2)).collect();
    all.push(case("dropout in eval mode", vec![tensor(X, 2.0)], |_, x| x[0].square().dropout(0.3), kept).eval());
}

fn layers(all: &mut Vec<Case>) {
    let convolutions: [(Conv, usize, bool); 5] = [
        (Conv::new(7, 3).stride(2).pad(1), 1, true),
        (Conv::new(6, [1, 3]).pad([0, 2]).dilation([1, 2]).no_bias(), 1, false),
        (Conv::new(10, 3).pad(1).groups(5), 5, true),
        (Conv::new(5, 3).pad(1).stride(2).groups(5), 5, true),
        (Conv::new(17, 1), 1, true),
    ];
    const X: [usize; 4] = [2, 5, 6, 5];
    let windows = [
        Window::square(3, 2, 1),
        Window { kernel: [1, 3], stride: [1, 1], pad: [0, 2], dilation: [1, 2] },
        Window::square(3, 1, 1),
        Window::square(3, 2, 1),
        Window::square(1, 1, 0),
    ];
    for (i, (conv, groups, bias)) in convolutions.into_iter().enumerate() {
        let reference = move |v: &Values| {
            let k = v.entries["c.weight"].len() / (5 / groups * windows[i].kernel.iter().product::<usize>());
            let p = Conv2d::general(shape(X), k, windows[i], groups).expect("a convolution");
            let mut y = out(p.y_len(), |y| reference::conv2d::forward(&p, &v.x[0], &v.entries["c.weight"], y));
            if bias {
                y.iter_mut().enumerate().for_each(|(i, y)| *y += f64::from(v.entries["c.bias"][i % k]));
            }
            y
        };
        all.push(case("conv2d", vec![tensor(X, 2.0)], move |g, x| g.root().conv2d("c", x[0], conv), reference));
    }
    let linear = |bias: bool| {
        move |v: &Values| {
            let bias = bias.then(|| &v.entries["l.bias"][..]);
            out(3 * 11, |y| reference::linear::forward(3, 9, 11, &v.x[0], &v.entries["l.weight"], bias, y))
        }
    };
    let x = || vec![tensor([3, 9, 1, 1], 2.0)];
    all.push(case("linear", x(), |g, x| g.root().linear("l", x[0], 11), linear(true)));
    all.push(case("linear without bias", x(), |g, x| g.root().linear("l", x[0], Dense::new(11).no_bias()), linear(false)));
    // One weight, used twice: its gradient is the sum.
    let twice = |v: &Values| {
        let w = &v.entries["l.weight"];
        let y = rounded(out(27, |y| reference::linear::forward(3, 9, 9, &v.x[0], w, None, y)));
        out(27, |z| reference::linear::forward(3, 9, 9, &y, w, None, z))
    };
    let layer = Dense::new(9).no_bias();
    all.push(case("a shared weight", x(), move |g, x| g.root().linear("l", g.root().linear("l", x[0], layer), layer.shared()), twice));
}

/// The reference of a normalisation of the input, or of another tensor.
fn normalised(v: &Values, x: &[f32], channels: usize, batch: bool) -> Vec<f64> {
    let p = batchnorm::BatchNorm { rows: x.len() / channels, channels, eps: 1e-5 };
    let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
    let gamma = v.entries.get("n.weight").unwrap_or(&ones);
    let beta = v.entries.get("n.bias").unwrap_or(&zeros);
    let (mean, var) = (&v.entries["n.running_mean"], &v.entries["n.running_var"]);
    out(x.len(), |y| match batch {
        true => {
            let (mean, var, saved) = (&mut vec![0.0; channels], &mut vec![0.0; channels], &mut vec![0.0; 2 * channels]);
            let running = batchnorm::Moving { mean, var, factor: 0.1 };
            reference::batchnorm::forward_batch(&p, reference::batchnorm::ForwardBatch { x, gamma, beta, running, y, saved });
        }
        false => {
            let running = batchnorm::Running { mean, var };
            reference::batchnorm::forward_running(&p, reference::batchnorm::ForwardRunning { x, gamma, beta, running, y });
        }
    })
}

fn norms(all: &mut Vec<Case>) {
    const X: [usize; 4] = [2, 5, 3, 4];
    let smooth = |case: Case| Case { slack: 5e-3, ..case };
    for affine in [true, false] {
        let norm = if affine { Norm::default() } else { Norm::default().no_affine() };
        let names = [["batchnorm", "batchnorm without parameters"], ["batchnorm in eval mode", "the same without parameters"]];
        let x = || vec![tensor(X, 2.0)];
        let train = case(
            names[0][usize::from(!affine)],
            x(),
            move |g, x| g.root().batch_norm("n", x[0], norm),
            |v| normalised(v, &v.x[0], 5, true),
        );
        all.push(smooth(train));
        let eval = case(
            names[1][usize::from(!affine)],
            x(),
            move |g, x| g.root().batch_norm("n", x[0], norm),
            |v| normalised(v, &v.x[0], 5, false),
        );
        all.push(smooth(eval.eval()));
        // What fusing makes of a convolution, a normalisation, an addition and an activation.
        let reference = move |v: &Values, batch: bool| {
            let p = Conv2d::general(shape(X), 5, Window::square(3, 1, 1), 1).expect("a convolution");
            let y = rounded(out(p.y_len(), |y| reference::conv2d::forward(&p, &v.x[0], &v.entries["c.weight"], y)));
            let mut y = normalised(v, &y, 5, batch);
            y.iter_mut().zip(&v.x[1]).for_each(|(y, x)| *y = (*y + f64::from(*x)).max(0.0));
            y
        };
        for batch in [true, false] {
            // Far above 0 and far below: relu's kink is nowhere near.
            let far = || {
                let Given::Tensor { shape, mut data, gradient } = tensor(X, 2.0) else { unreachable!("a tensor") };
                data.iter_mut().enumerate().for_each(|(i, v)| *v += if i % 3 == 0 { -30.0 } else { 30.0 });
                Given::Tensor { shape, data, gradient }
            };
            let conv = Conv::new(5, 3).pad(1).no_bias();
            let build = case(
                "conv2d, batchnorm, add, relu",
                vec![tensor(X, 2.0), far()],
                move |g, x| (g.root().batch_norm("n", g.root().conv2d("c", x[0], conv), norm) + x[1]).relu(),
                move |v| reference(v, batch),
            );
            all.push(smooth(if batch { build } else { build.eval() }));
        }
        // The stem: relu lets everything through or nothing, a channel at a time.
        let reference = |v: &Values| {
            let y: Vec<f32> = normalised(v, &v.x[0], 5, true).into_iter().map(|y| y.max(0.0) as f32).collect();
            let p = maxpool::MaxPool { n: 2, h: 5, w: 5, c: 5, kernel: 3, stride: 2, pad: 1 };
            let mut index = vec![0; p.y_len()];
            out(p.y_len(), |z| reference::maxpool::forward(&p, &y, z, &mut index))
        };
        let x = vec![distinct([2, 5, 5, 5])];
        let stem =
            case("batchnorm, relu, maxpool", x, move |g, x| g.root().batch_norm("n", x[0], norm).relu().max_pool(3, 2, 1), reference);
        all.push(Case { slack: 2e-2, ..stem });
    }
}

fn pools(all: &mut Vec<Case>) {
    const X: [usize; 4] = [2, 3, 7, 6];
    let square = |v: &Values| {
        let p = maxpool::MaxPool { n: 2, h: 7, w: 6, c: 3, kernel: 3, stride: 2, pad: 1 };
        let mut index = vec![0; p.y_len()];
        out(p.y_len(), |y| reference::maxpool::forward(&p, &v.x[0], y, &mut index))
    };
    all.push(case("max_pool", vec![distinct(X)], |_, x| x[0].max_pool(3, 2, 1), square));
    let any = |v: &Values| {
        let window = window::Window { kernel: [3, 2], stride: [1, 2], pad: [1, 1], dilation: [2, 1] };
        let p = maxpool::windows::MaxPool2d::new(shape(X), window).expect("a window");
        let mut index = vec![0; p.y_shape().len()];
        out(p.y_shape().len(), |y| reference::maxpool::windows::forward(&p, &v.x[0], y, &mut index))
    };
    all.push(case("max_pool of any window", vec![distinct(X)], |_, x| x[0].max_pool_dilated([3, 2], [1, 2], 1, [2, 1]), any));
    for include in [true, false] {
        let mean = move |v: &Values| {
            let p = avgpool::windows::AvgPool::new(shape(X), [3, 2], [2, 1], [1, 0], include).expect("a window");
            out(p.y_shape().len(), |y| reference::avgpool::windows::forward(&p, &v.x[0], y))
        };
        all.push(case("avg_pool", vec![tensor(X, 2.0)], move |_, x| x[0].avg_pool([3, 2], [2, 1], [1, 0], include), mean));
    }
    let even = |v: &Values| {
        let p = avgpool::AdaptiveAvgPool { n: 2, h: 7, w: 6, c: 3, out_h: 2, out_w: 4 };
        out(p.y_len(), |y| reference::avgpool::forward(&p, &v.x[0], y))
    };
    all.push(case("adaptive_avg_pool", vec![tensor(X, 2.0)], |_, x| x[0].adaptive_avg_pool([2, 4]), even));
    // Squeeze and excite: a pooling that adds its gradient to another reader's.
    let excite = |v: &Values| {
        let p = avgpool::AdaptiveAvgPool { n: 2, h: 7, w: 6, c: 3, out_h: 1, out_w: 1 };
        let means = out(p.y_len(), |y| reference::avgpool::forward(&p, &v.x[0], y));
        v.x[0].iter().enumerate().map(|(i, x)| f64::from(*x) * means[i / 126 * 3 + i % 3]).collect()
    };
    all.push(case("squeeze and excite", vec![tensor(X, 2.0)], |_, x| x[0] * x[0].adaptive_avg_pool(1), excite));
}

fn losses(all: &mut Vec<Case>) {
    const X: [usize; 4] = [3, 7, 1, 1];
    let both = || vec![tensor(X, 2.0), on_grid(X)];
    all.push(case("mse", both(), |_, x| x[0].mse(x[1]), |v| vec![reference::mse::forward(&v.x[0], &v.x[1])]));
    for reduction in [Reduction::Mean, Reduction::Sum] {
        let l1 = move |v: &Values| vec![reference::l1::forward(reduction, &v.x[0], &v.x[1])];
        all.push(case("l1", both(), move |_, x| x[0].l1(x[1], reduction), l1));
        let smooth = move |v: &Values| vec![reference::smooth_l1::forward(0.5, reduction, &v.x[0], &v.x[1])];
        all.push(case("smooth_l1", both(), move |_, x| x[0].smooth_l1(x[1], 0.5, reduction), smooth));
        let p = nunatak_kernels::bce_with_logits::BceWithLogits::new(shape(X), reduction);
        let bce = move |v: &Values| vec![reference::bce_with_logits::forward(&p, reduction, &v.x[0], &v.x[1], None)];
        all.push(case("bce_with_logits", vec![tensor(X, 2.0), targets(X)], move |_, x| x[0].bce_with_logits(x[1], reduction), bce));
        let weighted = move |v: &Values| vec![reference::bce_with_logits::forward(&p, reduction, &v.x[0], &v.x[1], Some(&v.x[2]))];
        let given = vec![tensor(X, 2.0), targets(X), targets([1, 7, 1, 1])];
        all.push(case("bce_with_logits, weighted", given, move |_, x| x[0].bce_with_logits_weighted(x[1], x[2], reduction), weighted));
    }
    let options = CrossEntropyOptions { label_smoothing: 0.1, ..CrossEntropyOptions::default() };
    let size = cross_entropy::CrossEntropy { n: 3, classes: 7, label_smoothing: 0.1, ignore_index: -100, reduction: Reduction::Mean };
    const LABELS: [i64; 3] = [6, -100, 2];
    let indices = move |v: &Values| {
        let targets = cross_entropy::Targets::Indices(&LABELS);
        vec![reference::cross_entropy::forward(&size, &v.x[0], targets, Some(&v.x[2])).expect("labels")]
    };
    let given = vec![tensor(X, 2.0), Given::Labels(LABELS.to_vec()), targets([1, 7, 1, 1])];
    all.push(case("cross_entropy of labels", given, move |_, x| x[0].cross_entropy_weighted(x[1], x[2], options), indices));
    let shares = move |v: &Values| {
        let targets = cross_entropy::Targets::Probabilities(&v.x[1]);
        vec![reference::cross_entropy::forward(&size, &v.x[0], targets, None).expect("shares")]
    };
    all.push(case("cross_entropy of shares", vec![tensor(X, 2.0), targets(X)], move |_, x| x[0].cross_entropy(x[1], options), shares));
}
