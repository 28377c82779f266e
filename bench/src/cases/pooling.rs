//! Max pooling after the stem, and the mean over the last plane.

use crate::buffer::Buffers;
use crate::case::{Case, Prepared, TOLERANCE, Timer, bytes_of, compare};
use crate::settings::Settings;
use nunatak_kernels::avgpool::{self, AdaptiveAvgPool};
use nunatak_kernels::maxpool::{self, MaxPool};
use nunatak_kernels::{Cpu, reference};

/// The cases of all cells.
pub fn cases(settings: &Settings) -> Vec<Case> {
    let mut list = Vec::new();
    for cell in &settings.cells {
        let side = cell.side(1);
        let max = MaxPool { n: cell.n, h: side, w: side, c: 64, kernel: 3, stride: 2, pad: 1 };
        let side = cell.side(5);
        let mean = AdaptiveAvgPool { n: cell.n, h: side, w: side, c: 512, out_h: 1, out_w: 1 };
        let mut add = |name: &str, bytes: u64, with: Prepared| {
            list.push(Case { group: format!("{cell}/{name}"), variant: String::new(), flops: 0, bytes, with });
        };
        // The index takes a byte.
        let (of_max, of_mean) = (bytes_of(&[max.x_len(), max.y_len()]) + max.y_len() as u64, bytes_of(&[mean.x_len(), mean.y_len()]));
        add("maxpool/forward", of_max, Box::new(move |cpu, time| max_forward(max, cpu, time)));
        add("maxpool/backward_input", of_max, Box::new(move |cpu, time| max_backward(max, cpu, time)));
        add("avgpool/forward", of_mean, Box::new(move |cpu, time| mean_forward(mean, cpu, time)));
        add("avgpool/backward_input", of_mean, Box::new(move |cpu, time| mean_backward(mean, cpu, time)));
    }
    list
}

fn max_forward(p: MaxPool, cpu: &Cpu, time: Timer) {
    let mut new = Buffers::default();
    let (x, mut y, mut index) = (new.random(p.x_len(), 1), new.zeros(p.y_len()), vec![0; p.y_len()]);
    let (mut truth, mut true_index) = (vec![0.0; p.y_len()], vec![0; p.y_len()]);
    reference::maxpool::forward(&p, &x, &mut truth, &mut true_index);
    maxpool::forward(cpu, &p, &x, &mut y, &mut index);
    compare("maxpool forward", &y, &truth, 0.0);
    assert_eq!(index, true_index, "maxpool forward: indices");
    time(&mut || maxpool::forward(cpu, &p, &x, &mut y, &mut index));
}

fn max_backward(p: MaxPool, cpu: &Cpu, time: Timer) {
    let mut new = Buffers::default();
    let (x, mut y, mut index) = (new.random(p.x_len(), 1), new.zeros(p.y_len()), vec![0; p.y_len()]);
    maxpool::forward(cpu, &p, &x, &mut y, &mut index);
    let (dy, mut dx) = (new.random(p.y_len(), 2), new.zeros(p.x_len()));
    let mut truth = vec![0.0; p.x_len()];
    reference::maxpool::backward_input(&p, &dy, &index, &mut truth);
    maxpool::backward_input(cpu, &p, &dy, &index, &mut dx);
    compare("maxpool backward_input", &dx, &truth, TOLERANCE);
    time(&mut || maxpool::backward_input(cpu, &p, &dy, &index, &mut dx));
}

fn mean_forward(p: AdaptiveAvgPool, cpu: &Cpu, time: Timer) {
    let mut new = Buffers::default();
    let (x, mut y) = (new.random(p.x_len(), 1), new.zeros(p.y_len()));
    let mut truth = vec![0.0; p.y_len()];
    reference::avgpool::forward(&p, &x, &mut truth);
    avgpool::forward(cpu, &p, &x, &mut y);
    compare("avgpool forward", &y, &truth, TOLERANCE);
    time(&mut || avgpool::forward(cpu, &p, &x, &mut y));
}

fn mean_backward(p: AdaptiveAvgPool, cpu: &Cpu, time: Timer) {
    let mut new = Buffers::default();
    let (dy, mut dx) = (new.random(p.y_len(), 1), new.zeros(p.x_len()));
    let mut truth = vec![0.0; p.x_len()];
    reference::avgpool::backward_input(&p, &dy, &mut truth);
    avgpool::backward_input(cpu, &p, &dy, &mut dx);
    compare("avgpool backward_input", &dx, &truth, TOLERANCE);
    time(&mut || avgpool::backward_input(cpu, &p, &dy, &mut dx));
}
