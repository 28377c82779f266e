//! Cross entropy, mean squared error and the plain sum, over 1000 classes.

use crate::buffer::{Buffer, Buffers};
use crate::case::{Case, Prepare, TOLERANCE, Timer, bytes_of, compare};
use crate::settings::Settings;
use nunatak_kernels::cross_entropy::{self, CrossEntropy, Targets};
use nunatak_kernels::{Cpu, mse, reduce, reference};

const CLASSES: usize = 1000;

/// The cases of all cells.
pub fn cases(settings: &Settings) -> Vec<Case> {
    let mut list = Vec::new();
    let mut rows: Vec<usize> = settings.cells.iter().map(|cell| cell.n).collect();
    rows.sort_unstable();
    rows.dedup();
    for n in rows {
        let mut add = |name: &str, tensors: usize, with: Prepare<usize>| {
            let with = Box::new(move |cpu: &Cpu, time: Timer| with(n, cpu, time));
            let bytes = bytes_of(&[tensors * n * CLASSES]);
            list.push(Case { group: format!("{n}/{name}"), variant: String::new(), flops: 0, bytes, with });
        };
        add("cross_entropy/forward", 2, cross_entropy_forward);
        add("cross_entropy/backward_input", 2, cross_entropy_backward);
        add("mse/forward", 2, mse_forward);
        add("mse/backward_input", 3, mse_backward);
        add("sum/forward", 1, sum_forward);
    }
    list
}

/// PyTorch's defaults, logits, and targets that are all over the classes.
fn example(n: usize, new: &mut Buffers) -> (CrossEntropy, Buffer, Vec<i64>) {
    (CrossEntropy::new(n, CLASSES), new.random(n * CLASSES, 1), (0..n).map(|i| (i * 37 % CLASSES) as i64).collect())
}

fn cross_entropy_forward(n: usize, cpu: &Cpu, time: Timer) {
    let mut new = Buffers::default();
    let (p, logits, targets) = example(n, &mut new);
    let targets = Targets::Indices(&targets);
    let (mut saved, mut scratch) = (new.zeros(p.saved_len()), new.zeros(p.scratch_len()));
    let mut run = || cross_entropy::forward(cpu, &p, &logits, targets, None, &mut saved, &mut scratch).expect("targets in range");
    let truth = reference::cross_entropy::forward(&p, &logits, targets, None).expect("targets in range");
    compare("cross_entropy forward", &[run()], &[truth], TOLERANCE);
    time(&mut || {
        run();
    });
}

fn cross_entropy_backward(n: usize, cpu: &Cpu, time: Timer) {
    let mut new = Buffers::default();
    let (p, logits, targets) = example(n, &mut new);
    let targets = Targets::Indices(&targets);
    let (mut saved, mut scratch, mut dx) = (new.zeros(p.saved_len()), new.zeros(p.scratch_len()), new.zeros(n * CLASSES));
    cross_entropy::forward(cpu, &p, &logits, targets, None, &mut saved, &mut scratch).expect("targets in range");
    let mut truth = vec![0.0; n * CLASSES];
    reference::cross_entropy::backward_input(&p, &logits, targets, None, 1.0, &mut truth).expect("targets in range");
    cross_entropy::backward_input(cpu, &saved, 1.0, &mut dx);
    compare("cross_entropy backward_input", &dx, &truth, TOLERANCE);
    time(&mut || cross_entropy::backward_input(cpu, &saved, 1.0, &mut dx));
}

fn mse_forward(n: usize, cpu: &Cpu, time: Timer) {
    let mut new = Buffers::default();
    let len = n * CLASSES;
    let (a, b, mut scratch) = (new.random(len, 1), new.random(len, 2), new.zeros(reduce::scratch_len(len)));
    compare("mse forward", &[mse::forward(cpu, &a, &b, &mut scratch)], &[reference::mse::forward(&a, &b)], TOLERANCE);
    time(&mut || {
        std::hint::black_box(mse::forward(cpu, &a, &b, &mut scratch));
    });
}

fn mse_backward(n: usize, cpu: &Cpu, time: Timer) {
    let mut new = Buffers::default();
    let len = n * CLASSES;
    let (a, b, mut da) = (new.random(len, 1), new.random(len, 2), new.zeros(len));
    let mut truth = vec![0.0; len];
    reference::mse::backward_input(&a, &b, 1.0, &mut truth);
    mse::backward_input(cpu, &a, &b, 1.0, &mut da);
    compare("mse backward_input", &da, &truth, TOLERANCE);
    time(&mut || mse::backward_input(cpu, &a, &b, 1.0, &mut da));
}

fn sum_forward(n: usize, cpu: &Cpu, time: Timer) {
    let mut new = Buffers::default();
    let len = n * CLASSES;
    let (x, mut scratch) = (new.random(len, 1), new.zeros(reduce::scratch_len(len)));
    // The sum of numbers without a mean may be small: held against the sum of their sizes.
    let size: f64 = x.iter().map(|v| f64::from(v.abs())).sum();
    let error = (f64::from(reduce::sum(cpu, &x, &mut scratch)) - reference::reduce::sum(&x)).abs();
    assert!(error <= TOLERANCE * size, "sum forward: off by {:.1e} of all sizes", error / size);
    time(&mut || {
        std::hint::black_box(reduce::sum(cpu, &x, &mut scratch));
    });
}
