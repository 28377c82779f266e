//! Relu and addition at ResNet18's different activations, as its steps call them.

use crate::buffer::Buffers;
use crate::case::{Case, Prepare, Timer, bytes_of, compare};
use crate::settings::Settings;
use nunatak_kernels::{Cpu, elementwise, reference, relu};

/// The cases of all cells.
pub fn cases(settings: &Settings) -> Vec<Case> {
    let mut list = Vec::new();
    for cell in &settings.cells {
        for (layer, rows, channels) in cell.activations() {
            let len = rows * channels;
            let prefix = if layer == "stem" { String::new() } else { format!("{layer}.") };
            let mut add = |name: &str, tensors: usize, with: Prepare<usize>| {
                let with = Box::new(move |cpu: &Cpu, time: Timer| with(len, cpu, time));
                let group = format!("{cell}/{prefix}{name}");
                list.push(Case { group, variant: String::new(), flops: 0, bytes: bytes_of(&[tensors * len]), with });
            };
            add("relu/forward", 2, relu_forward);
            add("relu/backward_input", 3, relu_backward);
            if layer != "stem" {
                add("add/forward", 3, add_forward);
            }
        }
    }
    list
}

/// In place, where nothing else reads the input.
fn relu_forward(len: usize, cpu: &Cpu, time: Timer) {
    let x = Buffers::default().random(len, 1);
    let mut truth = vec![0.0; len];
    reference::relu::forward(&x, &mut truth);
    let mut y = x;
    relu::forward(cpu, None, &mut y);
    compare("relu forward", &y, &truth, 0.0);
    time(&mut || relu::forward(cpu, None, &mut y));
}

/// In place of dy.
fn relu_backward(len: usize, cpu: &Cpu, time: Timer) {
    let mut new = Buffers::default();
    let (y, mut dx) = (new.random(len, 1), new.random(len, 2));
    let mut truth = vec![0.0; len];
    reference::relu::backward_input(&y, &dx, &mut truth);
    relu::backward_input(cpu, &y, None, &mut dx);
    compare("relu backward_input", &dx, &truth, 0.0);
    time(&mut || relu::backward_input(cpu, &y, None, &mut dx));
}

/// The residual addition, over its first term.
fn add_forward(len: usize, cpu: &Cpu, time: Timer) {
    let mut new = Buffers::default();
    let (x, mut y) = (new.random(len, 1), new.random(len, 2));
    let mut truth: Vec<f64> = y.iter().map(|v| f64::from(*v)).collect();
    reference::elementwise::add_assign(&x, &mut truth);
    elementwise::add_assign(cpu, &x, &mut y);
    compare("add forward", &y, &truth, 1e-7);
    // From here on y grows: slowly enough for any number of repetitions to stay finite.
    time(&mut || elementwise::add_assign(cpu, &x, &mut y));
}
