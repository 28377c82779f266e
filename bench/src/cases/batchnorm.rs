//! ResNet18's batch normalisations at its different activations, with the batch's statistics and with
//! the running ones.

use crate::buffer::{Buffer, Buffers};
use crate::case::{Case, Prepare, TOLERANCE, Timer, bytes_of, compare};
use crate::settings::Settings;
use nunatak_kernels::batchnorm::{self, BackwardInput, BackwardSums, BatchNorm, ForwardBatch, ForwardRunning, Moving, Running};
use nunatak_kernels::{Cpu, reference};

/// The cases of all cells.
pub fn cases(settings: &Settings) -> Vec<Case> {
    let mut list = Vec::new();
    for cell in &settings.cells {
        for (layer, rows, channels) in cell.activations() {
            let p = BatchNorm { rows, channels, eps: 1e-5 };
            let layer = if layer == "stem" { "bn1".to_string() } else { format!("{layer}.bn1") };
            let (n, c) = (rows * channels, channels);
            let mut add = |pass: &str, tensors: &[usize], with: Prepare<BatchNorm>| {
                let with = Box::new(move |cpu: &Cpu, time: Timer| with(p, cpu, time));
                list.push(Case {
                    group: format!("{cell}/{layer}/{pass}"),
                    variant: String::new(),
                    flops: 0,
                    bytes: bytes_of(tensors),
                    with,
                });
            };
            add("forward", &[n, n, 6 * c], forward_batch);
            add("forward_running", &[n, n, 4 * c], forward_running);
            add("backward_weight", &[n, n, 4 * c], backward_sums);
            add("backward_input", &[n, n, n, 5 * c], backward_input);
        }
    }
    list
}

struct Tensors {
    x: Buffer,
    dy: Buffer,
    y: Buffer,
    gamma: Buffer,
    beta: Buffer,
    mean: Buffer,
    var: Buffer,
    saved: Buffer,
    sums: Buffer,
    scratch: Buffer,
}

fn tensors(p: &BatchNorm, cpu: &Cpu) -> Tensors {
    let mut new = Buffers::default();
    let (n, c) = (p.rows * p.channels, p.channels);
    let mut t = Tensors {
        x: new.random(n, 1),
        dy: new.random(n, 2),
        y: new.zeros(n),
        gamma: new.random(c, 3),
        beta: new.random(c, 4),
        mean: new.zeros(c),
        var: new.zeros(c),
        saved: new.zeros(2 * c),
        sums: new.zeros(2 * c),
        scratch: new.zeros(p.scratch_len(cpu.threads.count())),
    };
    t.var.fill(1.0);
    t
}

fn forward_batch(p: BatchNorm, cpu: &Cpu, time: Timer) {
    let mut t = tensors(&p, cpu);
    let run = |t: &mut Tensors| {
        let Tensors { x, gamma, beta, mean, var, y, saved, scratch, .. } = t;
        let running = Moving { mean, var, factor: 0.1 };
        batchnorm::forward_batch(cpu, &p, ForwardBatch { x: Some(x), moments: None, gamma, beta, running, y, saved, scratch });
    };
    run(&mut t);
    let c = p.channels;
    let (y, saved) = (&mut vec![0.0; t.y.len()], &mut vec![0.0; 2 * c]);
    let Tensors { x, gamma, beta, .. } = &t;
    let running = Moving { mean: &mut vec![0.0; c], var: &mut vec![1.0; c], factor: 0.1 };
    reference::batchnorm::forward_batch(&p, reference::batchnorm::ForwardBatch { x, gamma, beta, running, y, saved });
    compare("batchnorm forward", &t.y, y, TOLERANCE);
    time(&mut || run(&mut t));
}

fn forward_running(p: BatchNorm, cpu: &Cpu, time: Timer) {
    let mut t = tensors(&p, cpu);
    let mut truth = vec![0.0; t.y.len()];
    let Tensors { x, gamma, beta, mean, var, .. } = &t;
    let running = Running { mean, var };
    reference::batchnorm::forward_running(&p, reference::batchnorm::ForwardRunning { x, gamma, beta, running, y: &mut truth });
    let run = |t: &mut Tensors| {
        let Tensors { x, gamma, beta, mean, var, y, scratch, .. } = t;
        let running = Running { mean, var };
        batchnorm::forward_running(cpu, &p, ForwardRunning { x: Some(x), gamma, beta, running, y, scratch });
    };
    run(&mut t);
    compare("batchnorm forward_running", &t.y, &truth, TOLERANCE);
    time(&mut || run(&mut t));
}

/// What backward needs of forward, and the truth: dx, then dgamma, then dbeta.
fn before_backward(p: &BatchNorm, cpu: &Cpu) -> (Tensors, [Vec<f64>; 3]) {
    let mut t = tensors(p, cpu);
    let Tensors { x, dy, gamma, beta, mean, var, y, saved, sums, scratch } = &mut t;
    let running = Moving { mean, var, factor: 0.1 };
    batchnorm::forward_batch(cpu, p, ForwardBatch { x: Some(x), moments: None, gamma, beta, running, y, saved, scratch });
    batchnorm::backward_sums(cpu, p, BackwardSums { x, dy, saved, sums, scratch });
    let mut truth = [vec![0.0; x.len()], vec![0.0; p.channels], vec![0.0; p.channels]];
    let [dx, dgamma, dbeta] = &mut truth;
    reference::batchnorm::backward_batch(p, reference::batchnorm::Backward { x, dy, gamma, dx, dgamma, dbeta });
    (t, truth)
}

fn backward_sums(p: BatchNorm, cpu: &Cpu, time: Timer) {
    let (mut t, [_, dgamma, dbeta]) = before_backward(&p, cpu);
    // Held against the largest of both: of numbers without a mean, either sum may be near zero.
    compare("batchnorm backward_weight", &t.sums, &[dgamma, dbeta].concat(), TOLERANCE);
    let Tensors { x, dy, saved, sums, scratch, .. } = &mut t;
    time(&mut || batchnorm::backward_sums(cpu, &p, BackwardSums { x, dy, saved, sums, scratch }));
}

fn backward_input(p: BatchNorm, cpu: &Cpu, time: Timer) {
    let (mut t, [dx, ..]) = before_backward(&p, cpu);
    let run = |t: &mut Tensors| {
        let Tensors { x, dy, gamma, saved, sums, y: dx, scratch, .. } = t;
        batchnorm::backward_input(cpu, &p, BackwardInput { x, dy: Some(dy), gamma, saved, sums, dx, scratch });
    };
    run(&mut t);
    compare("batchnorm backward_input", &t.y, &dx, TOLERANCE);
    time(&mut || run(&mut t));
}
