//! What a graph of ONNX computes, in f64 and as plainly as ONNX's document of operators says it.

use super::reader::{Constant, Model, Node};
use std::collections::BTreeMap;

/// A tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<f64>,
}

impl Tensor {
    pub(super) fn new(shape: &[usize], data: Vec<f64>) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{shape:?}");
        Tensor { shape: shape.to_vec(), data }
    }

    fn map(&self, function: impl Fn(f64) -> f64) -> Tensor {
        Tensor::new(&self.shape, self.data.iter().map(|x| function(*x)).collect())
    }

    /// Where the number at a place lies; an axis of size 1 is repeated, and axes that are missing in front too.
    fn index(&self, place: &[usize]) -> usize {
        let place = &place[place.len() - self.shape.len()..];
        self.shape.iter().zip(place).fold(0, |index, (size, i)| index * size + if *size == 1 { 0 } else { *i })
    }

    fn at(&self, place: &[usize]) -> f64 {
        self.data[self.index(place)]
    }

    fn numbers(&self) -> Vec<i64> {
        self.data.iter().map(|x| *x as i64).collect()
    }
}

/// Goes through a shape's places in order.
fn each_place(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    let mut place = vec![0; shape.len()];
    for index in 0..shape.iter().product() {
        let mut rest: usize = index;
        for (i, size) in place.iter_mut().zip(shape).rev() {
            (*i, rest) = (rest % size, rest / size);
        }
        visit(&place);
    }
}

/// A tensor of which each number follows from its place.
fn filled(shape: &[usize], mut number: impl FnMut(&[usize]) -> f64) -> Tensor {
    let mut data = Vec::with_capacity(shape.iter().product());
    each_place(shape, |place| data.push(number(place)));
    Tensor::new(shape, data)
}

/// Runs a model on its inputs.
pub(super) fn run(model: &Model, inputs: &[(&str, Tensor)]) -> Tensor {
    let mut values: BTreeMap<&str, Tensor> = inputs.iter().map(|(name, tensor)| (*name, tensor.clone())).collect();
    for (name, constant) in &model.initializers {
        let tensor = match constant {
            Constant::Floats(shape, data) => Tensor::new(shape, data.iter().map(|x| f64::from(*x)).collect()),
            Constant::Ints(shape, data) => Tensor::new(shape, data.iter().map(|x| *x as f64).collect()),
        };
        assert!(values.insert(name, tensor).is_none(), "{name} comes twice");
    }
    for node in &model.nodes {
        let x: Vec<&Tensor> = node.inputs.iter().map(|name| values.get(name.as_str()).unwrap_or_else(|| panic!("no {name}"))).collect();
        let y = compute(node, &x);
        assert!(values.insert(&node.output, y).is_none(), "{} comes twice", node.output);
    }
    values.remove(model.outputs[0].name.as_str()).expect("the output")
}

fn compute(node: &Node, x: &[&Tensor]) -> Tensor {
    match (node.op.as_str(), x) {
        ("Add", [a, b]) => binary(a, b, |a, b| a + b),
        ("Sub", [a, b]) => binary(a, b, |a, b| a - b),
        ("Mul", [a, b]) => binary(a, b, |a, b| a * b),
        ("Div", [a, b]) => binary(a, b, |a, b| a / b),
        ("Pow", [a, b]) => binary(a, b, f64::powf),
        ("Clip", [x, low, high]) => x.map(|x| x.max(low.data[0]).min(high.data[0])),
        ("Relu", [x]) => x.map(|x| x.max(0.0)),
        ("Sigmoid", [x]) => x.map(|x| 1.0 / (1.0 + (-x).exp())),
        ("Tanh", [x]) => x.map(f64::tanh),
        ("Exp", [x]) => x.map(f64::exp),
        ("Log", [x]) => x.map(f64::ln),
        ("Sqrt", [x]) => x.map(f64::sqrt),
        ("Abs", [x]) => x.map(f64::abs),
        ("Reciprocal", [x]) => x.map(f64::recip),
        ("Erf", [x]) => x.map(erf),
        ("HardSigmoid", [x]) => {
            let (alpha, beta) = (f64::from(node.float("alpha")), f64::from(node.float("beta")));
            x.map(|x| (alpha * x + beta).clamp(0.0, 1.0))
        }
        ("HardSwish", [x]) => x.map(|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        ("Identity", [x]) => (*x).clone(),
        ("Conv", [x, w]) => conv(node, x, w, None),
        ("Conv", [x, w, bias]) => conv(node, x, w, Some(bias)),
        ("BatchNormalization", [x, gamma, beta, mean, var]) => {
            let eps = f64::from(node.float("epsilon"));
            filled(&x.shape, |place| {
                let c = place[1];
                (x.at(place) - mean.data[c]) / (var.data[c] + eps).sqrt() * gamma.data[c] + beta.data[c]
            })
        }
        ("MaxPool", [x]) => pool(node, x, |cells, _| cells.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        ("AveragePool", [x]) => {
            let padded = node.int("count_include_pad", 0) == 1;
            pool(node, x, |cells, all| cells.iter().sum::<f64>() / if padded { all } else { cells.len() } as f64)
        }
        ("GlobalAveragePool", [x]) => reduce(x, &[2, 3], true),
        ("ReduceMean", [x]) => reduce(x, node.ints("axes").expect("axes"), true),
        ("ReduceSum", [x, axes]) => reduce(x, &axes.numbers(), false),
        ("Flatten", [x]) => {
            let (front, back) = x.shape.split_at(node.int("axis", 1) as usize);
            Tensor::new(&[front.iter().product(), back.iter().product()], x.data.clone())
        }
        ("Unsqueeze", [x, axes]) => {
            let mut shape = x.shape.clone();
            axes.numbers().into_iter().for_each(|axis| shape.insert(axis as usize, 1));
            Tensor::new(&shape, x.data.clone())
        }
        ("Gemm", [x, w]) => gemm(node, x, w, None),
        ("Gemm", [x, w, bias]) => gemm(node, x, w, Some(bias)),
        ("MatMul", [a, b]) => matmul(a, b),
        ("Concat", parts) => concat(node, parts),
        ("Softmax", [x]) => softmax(node, x).map(f64::exp),
        ("LogSoftmax", [x]) => softmax(node, x),
        (op, x) => panic!("{}: {op} of {} inputs", node.name, x.len()),
    }
}

fn binary(a: &Tensor, b: &Tensor, function: impl Fn(f64, f64) -> f64) -> Tensor {
    let rank = a.shape.len().max(b.shape.len());
    let size = |x: &Tensor, axis: usize| (axis + x.shape.len()).checked_sub(rank).map_or(1, |axis| x.shape[axis]);
    let shape: Vec<usize> = (0..rank)
        .map(|axis| {
            let (a, b) = (size(a, axis), size(b, axis));
            assert!(a == b || a == 1 || b == 1, "{a} and {b}");
            a.max(b)
        })
        .collect();
    filled(&shape, |place| function(a.at(place), b.at(place)))
}

/// The error function: its series, which ends at 6, where 1 is as near as a double can be.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

/// A window's sizes, down and across.
struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// In front, and behind.
    pads: [[usize; 2]; 2],
}

impl Window {
    fn of(node: &Node) -> Window {
        let sizes = |name: &str, default: usize| node.ints(name).map_or([default; 2], |sizes| [sizes[0] as usize, sizes[1] as usize]);
        let pads = node.ints("pads").map_or([[0; 2]; 2], |p| [[p[0] as usize, p[1] as usize], [p[2] as usize, p[3] as usize]]);
        Window { kernel: sizes("kernel_shape", 0), stride: sizes("strides", 1), dilation: sizes("dilations", 1), pads }
    }
    fn outputs(&self, axis: usize, len: usize) -> usize {
        (len + self.pads[0][axis] + self.pads[1][axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1) / self.stride[axis] + 1
    }
    /// Where a cell of a window lies along an axis, unless beside the image.
    fn place(&self, axis: usize, window: usize, cell: usize, len: usize) -> Option<usize> {
        let place = window * self.stride[axis] + cell * self.dilation[axis];
        place.checked_sub(self.pads[0][axis]).filter(|place| *place < len)
    }
    /// Every cell of a window that lies in the image: line and column of the cell, and of the image.
    fn cells(&self, window: &[usize], image: &[usize]) -> Vec<[usize; 4]> {
        let mut cells = Vec::new();
        for ky in 0..self.kernel[0] {
            for kx in 0..self.kernel[1] {
                if let (Some(y), Some(x)) = (self.place(0, window[0], ky, image[0]), self.place(1, window[1], kx, image[1])) {
                    cells.push([ky, kx, y, x]);
                }
            }
        }
        cells
    }
}

fn conv(node: &Node, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let (window, groups) = (Window::of(node), node.int("group", 1) as usize);
    assert_eq!(window.kernel, w.shape[2..], "{}: the kernel", node.name);
    let (per_group, own) = (w.shape[0] / groups, w.shape[1]);
    let (channels, image) = (x.shape[1], &x.shape[2..]);
    let shape = [x.shape[0], w.shape[0], window.outputs(0, image[0]), window.outputs(1, image[1])];
    filled(&shape, |place| {
        let (k, cells) = (place[1], window.cells(&place[2..], image));
        let first = k / per_group * own;
        let mut sum = bias.map_or(0.0, |bias| bias.data[k]);
        for c in 0..own {
            let (x_from, w_from) = ((place[0] * channels + first + c) * image[0] * image[1], (k * own + c) * w.shape[2] * w.shape[3]);
            for [ky, kx, y, column] in &cells {
                sum += x.data[x_from + y * image[1] + column] * w.data[w_from + ky * w.shape[3] + kx];
            }
        }
        sum
    })
}

/// What a function makes of the cells of each window that lie in the image, and of the number of all its cells.
fn pool(node: &Node, x: &Tensor, function: impl Fn(&[f64], usize) -> f64) -> Tensor {
    let (window, image) = (Window::of(node), &x.shape[2..]);
    let shape = [x.shape[0], x.shape[1], window.outputs(0, image[0]), window.outputs(1, image[1])];
    filled(&shape, |place| {
        let cells = window.cells(&place[2..], image);
        let numbers: Vec<f64> = cells.iter().map(|[_, _, line, column]| x.at(&[place[0], place[1], *line, *column])).collect();
        function(&numbers, window.kernel.iter().product())
    })
}

fn reduce(x: &Tensor, axes: &[i64], mean: bool) -> Tensor {
    let sizes = x.shape.iter().enumerate();
    let shape: Vec<usize> = sizes.map(|(axis, size)| if axes.contains(&(axis as i64)) { 1 } else { *size }).collect();
    let mut y = filled(&shape, |_| 0.0);
    let divisor = if mean { x.data.len() / y.data.len() } else { 1 } as f64;
    each_place(&x.shape, |place| {
        let to = y.index(place);
        y.data[to] += x.at(place) / divisor;
    });
    y
}

fn gemm(node: &Node, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Tensor {
    assert_eq!((node.int("transB", 0), x.shape.len(), x.shape[1]), (1, 2, w.shape[1]), "{}", node.name);
    filled(&[x.shape[0], w.shape[0]], |place| {
        let products = (0..w.shape[1]).map(|i| x.at(&[place[0], i]) * w.at(&[place[1], i]));
        products.sum::<f64>() + bias.map_or(0.0, |bias| bias.data[place[1]])
    })
}

/// A product of matrices, of which one may be repeated over the axes before the last two.
fn matmul(a: &Tensor, b: &Tensor) -> Tensor {
    let ([.., rows, inner], [.., other, columns]) = (&a.shape[..], &b.shape[..]) else { panic!("no matrices") };
    assert_eq!(inner, other);
    let front = if a.shape.len() > 2 { &a.shape[..a.shape.len() - 2] } else { &b.shape[..b.shape.len() - 2] };
    let shape: Vec<usize> = front.iter().chain([rows, columns]).copied().collect();
    filled(&shape, |place| {
        let (front, [row, column]) = place.split_at(place.len() - 2) else { panic!("no matrix") };
        let at = |x: &Tensor, row: usize, column: usize| x.at(&[front, &[row, column]].concat());
        (0..*inner).map(|i| at(a, *row, i) * at(b, i, *column)).sum()
    })
}

fn concat(node: &Node, parts: &[&Tensor]) -> Tensor {
    assert_eq!(node.int("axis", 0), 1);
    let mut shape = parts[0].shape.clone();
    shape[1] = parts.iter().map(|part| part.shape[1]).sum();
    filled(&shape, |place| {
        let mut place = place.to_vec();
        for part in parts {
            if place[1] < part.shape[1] {
                return part.at(&place);
            }
            place[1] -= part.shape[1];
        }
        panic!("no part")
    })
}

/// The logarithm of each channel's share.
fn softmax(node: &Node, x: &Tensor) -> Tensor {
    assert_eq!(node.int("axis", -1), 1);
    filled(&x.shape, |place| {
        let mut other = place.to_vec();
        let row: Vec<f64> = (0..x.shape[1])
            .map(|c| {
                other[1] = c;
                x.at(&other)
            })
            .collect();
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        x.at(place) - most - row.iter().map(|x| (x - most).exp()).sum::<f64>().ln()
    })
}
