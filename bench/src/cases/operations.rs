//! Operations that ResNet18 has not, at the activations of its second layer (n x 128 channels): functions of one
//! number, a factor for each channel, joining, flattening, softmax, dropout, means over pixels.

use crate::buffer::Buffers;
use crate::case::{Case, Prepare, TOLERANCE, Timer, bytes_of, compare};
use crate::settings::Settings;
use nunatak_core::Shape;
use nunatak_kernels::broadcast::{Binary, Broadcast};
use nunatak_kernels::concat::Concat;
use nunatak_kernels::cross_entropy::Reduction;
use nunatak_kernels::dropout::Dropout;
use nunatak_kernels::flatten::Flatten;
use nunatak_kernels::pointwise::Pointwise;
use nunatak_kernels::reduce_axes::{Axes, ReduceAxes};
use nunatak_kernels::softmax::Softmax;
use nunatak_kernels::{Cpu, broadcast, concat, dropout, flatten, pointwise, reduce_axes, reference, softmax};

/// The cases of all cells.
pub fn cases(settings: &Settings) -> Vec<Case> {
    let mut list = Vec::new();
    for cell in &settings.cells {
        let shape = Shape::new(cell.n, 128, cell.side(3), cell.side(3)).expect("an activation");
        let len = shape.len();
        let mut add = |name: &str, bytes: u64, with: Prepare<Shape>| {
            let with = Box::new(move |cpu: &Cpu, time: Timer| with(shape, cpu, time));
            list.push(Case { group: format!("{cell}/layer2.{name}"), variant: String::new(), flops: 0, bytes, with });
        };
        add("hardswish/forward", bytes_of(&[2 * len]), |s, cpu, time| function(Pointwise::Hardswish, s, cpu, time));
        add("hardswish/backward_input", bytes_of(&[3 * len]), |s, cpu, time| function_backward(Pointwise::Hardswish, s, cpu, time));
        add("silu/forward", bytes_of(&[2 * len]), |s, cpu, time| function(Pointwise::Silu, s, cpu, time));
        add("gelu/forward", bytes_of(&[2 * len]), |s, cpu, time| function(Pointwise::Gelu, s, cpu, time));
        add("log/forward", bytes_of(&[2 * len]), |s, cpu, time| function(Pointwise::Log, s, cpu, time));
        add("mul_channels/forward", bytes_of(&[2 * len, shape.n() * shape.c()]), factors);
        add("concat/forward", bytes_of(&[2 * len]), join);
        add("flatten/forward", bytes_of(&[2 * len]), to_rows);
        add("softmax/forward", bytes_of(&[2 * len]), shares);
        add("dropout/forward", bytes_of(&[2 * len]), drop_some);
        add("mean_pixels/forward", bytes_of(&[len, shape.n() * shape.c()]), means);
    }
    list
}

/// Numbers above zero, so that every function has a value.
fn positive(len: usize) -> Vec<f32> {
    Buffers::default().random(len, 1).iter().map(|v| v.abs() + 0.01).collect()
}

fn function(op: Pointwise, shape: Shape, cpu: &Cpu, time: Timer) {
    let (x, mut y, mut truth) = (positive(shape.len()), vec![f32::NAN; shape.len()], vec![0.0; shape.len()]);
    reference::pointwise::forward(op, &x, &mut truth);
    pointwise::forward(cpu, op, Some(&x), &mut y);
    compare(op.name(), &y, &truth, TOLERANCE);
    time(&mut || pointwise::forward(cpu, op, Some(&x), &mut y));
}

fn function_backward(op: Pointwise, shape: Shape, cpu: &Cpu, time: Timer) {
    let (saved, dy) = (positive(shape.len()), Buffers::default().random(shape.len(), 2));
    let (mut dx, mut truth) = (vec![f32::NAN; shape.len()], vec![0.0; shape.len()]);
    reference::pointwise::backward_input(op, &saved, &dy, &mut truth);
    pointwise::backward_input(cpu, op, &saved, Some(&dy), &mut dx, false);
    compare(op.name(), &dx, &truth, TOLERANCE);
    time(&mut || pointwise::backward_input(cpu, op, &saved, Some(&dy), &mut dx, false));
}

/// As squeeze-and-excitation multiplies.
fn factors(shape: Shape, cpu: &Cpu, time: Timer) {
    let each = Shape::new(shape.n(), shape.c(), 1, 1).expect("a number for each channel");
    let size = Broadcast::new(shape, each, shape).expect("shapes that fit");
    let mut new = Buffers::default();
    let (a, b) = (new.random(shape.len(), 1), new.random(each.len(), 2));
    let (mut y, mut truth) = (vec![f32::NAN; shape.len()], vec![0.0; shape.len()]);
    reference::broadcast::forward(Binary::Mul, &size, &a, &b, &mut truth);
    broadcast::forward(cpu, Binary::Mul, &size, Some(&a), &b, &mut y);
    compare("mul", &y, &truth, 1e-7);
    time(&mut || broadcast::forward(cpu, Binary::Mul, &size, Some(&a), &b, &mut y));
}

/// One half of twice the channels.
fn join(shape: Shape, cpu: &Cpu, time: Timer) {
    let whole = Shape::new(shape.n(), 2 * shape.c(), shape.h(), shape.w()).expect("twice the channels");
    let part = Concat::channels(whole, 0, shape).expect("a part");
    let x = Buffers::default().random(shape.len(), 1);
    let (mut y, mut truth) = (vec![0.0; whole.len()], vec![0.0; whole.len()]);
    reference::concat::forward(&part, &x, &mut truth);
    concat::forward(cpu, &part, &x, &mut y);
    compare("concat", &y, &truth, 0.0);
    time(&mut || concat::forward(cpu, &part, &x, &mut y));
}

fn to_rows(shape: Shape, cpu: &Cpu, time: Timer) {
    let size = Flatten::new(shape);
    let x = Buffers::default().random(shape.len(), 1);
    let (mut y, mut truth) = (vec![f32::NAN; shape.len()], vec![0.0; shape.len()]);
    reference::flatten::forward(&size, &x, &mut truth);
    flatten::forward(cpu, &size, &x, &mut y);
    compare("flatten", &y, &truth, 0.0);
    time(&mut || flatten::forward(cpu, &size, &x, &mut y));
}

fn shares(shape: Shape, cpu: &Cpu, time: Timer) {
    let size = Softmax::new(shape);
    let x = Buffers::default().random(shape.len(), 1);
    let (mut y, mut truth) = (vec![f32::NAN; shape.len()], vec![0.0; shape.len()]);
    reference::softmax::forward(&size, &x, &mut truth);
    softmax::forward(cpu, &size, Some(&x), &mut y);
    compare("softmax", &y, &truth, TOLERANCE);
    time(&mut || softmax::forward(cpu, &size, Some(&x), &mut y));
}

fn drop_some(shape: Shape, cpu: &Cpu, time: Timer) {
    let (probability, seed, step) = (0.2, 7, 3);
    let size = Dropout::new(probability, seed, step).expect("a probability");
    let x = Buffers::default().random(shape.len(), 1);
    let (mut y, mut truth) = (vec![f32::NAN; shape.len()], vec![0.0; shape.len()]);
    reference::dropout::forward(probability, seed, step, &x, &mut truth);
    dropout::forward(cpu, &size, Some(&x), &mut y);
    compare("dropout", &y, &truth, 1e-7);
    time(&mut || dropout::forward(cpu, &size, Some(&x), &mut y));
}

fn means(shape: Shape, cpu: &Cpu, time: Timer) {
    let axes = Axes { n: false, c: false, h: true, w: true };
    let size = ReduceAxes::new(shape, axes, Reduction::Mean);
    let x = Buffers::default().random(shape.len(), 1);
    let (mut y, mut truth) = (vec![f32::NAN; size.y_shape().len()], vec![0.0; size.y_shape().len()]);
    let mut scratch = vec![0.0; size.scratch_len()];
    reference::reduce_axes::forward(&size, &x, &mut truth);
    reduce_axes::forward(cpu, &size, &x, &mut y, &mut scratch);
    compare("mean over pixels", &y, &truth, 5e-6);
    time(&mut || reduce_axes::forward(cpu, &size, &x, &mut y, &mut scratch));
}
