//! ResNet18's convolutions: layer / pass / algorithm / level, in products a second. Each case is
//! checked against the reference on a few values before it is timed.
#![allow(missing_docs)] // criterion's macros make public items

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nunatak_bench::{convolutions, numbers};
use nunatak_kernels::{Algorithm, Conv2d, Cpu, Finish, Level, Memory, Pass, Threads, reference};

fn run(conv: &Conv2d, cpu: &Cpu, pass: Pass, algorithm: Algorithm, t: &mut Tensors) {
    let Tensors { x, w, y, dx, dw, scratch } = t;
    match pass {
        Pass::Forward => conv.forward(cpu, algorithm, x, w, y, false, Finish::None, scratch),
        Pass::BackwardInput => conv.backward_input(cpu, algorithm, w, y, dx, false, scratch),
        Pass::BackwardWeight => conv.backward_weight(cpu, algorithm, x, y, dw, false, scratch),
    }
}

struct Tensors {
    x: Vec<f32>,
    w: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
    scratch: Vec<f32>,
}

fn tensors(conv: &Conv2d, oihw: &[f32]) -> Tensors {
    let mut w = vec![0.0; conv.weights().len()];
    conv.weights().pack(oihw, &mut w);
    Tensors {
        x: numbers(conv.x_len()),
        dw: vec![0.0; w.len()],
        w,
        y: numbers(conv.y_len()),
        dx: vec![0.0; conv.x_len()],
        scratch: Vec::new(),
    }
}

/// Compares one pass with the reference.
fn check(conv: &Conv2d, cpu: &Cpu, pass: Pass, algorithm: Algorithm) {
    let oihw = numbers(conv.k * conv.c * conv.kernel * conv.kernel);
    let mut t = tensors(conv, &oihw);
    let dy = t.y.clone();
    t.scratch = vec![f32::NAN; conv.scratch_len(pass, algorithm, Memory::Fast, cpu.threads.count())];
    run(conv, cpu, pass, algorithm, &mut t);
    let (got, truth) = match pass {
        Pass::Forward => {
            let mut truth = vec![0.0; t.y.len()];
            reference::conv2d::forward(conv, &t.x, &oihw, &mut truth);
            (t.y, truth)
        }
        Pass::BackwardInput => {
            let mut truth = vec![0.0; t.dx.len()];
            reference::conv2d::backward_input(conv, &dy, &oihw, &mut truth);
            (t.dx, truth)
        }
        Pass::BackwardWeight => {
            let mut truth = vec![0.0; oihw.len()];
            reference::conv2d::backward_weight(conv, &t.x, &dy, &mut truth);
            let mut dw = vec![0.0; oihw.len()];
            conv.weights().unpack(&t.dw, &mut dw);
            (dw, truth)
        }
    };
    let largest = truth.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let error = got.iter().zip(&truth).fold(0.0_f64, |m, (g, t)| m.max((f64::from(*g) - t).abs()));
    assert!(error <= 5e-6 * largest, "{conv:?} {pass} {algorithm}: off by {:.1e}", error / largest);
}

fn benches(criterion: &mut Criterion) {
    let threads = Threads::new(std::thread::available_parallelism().map_or(1, usize::from)).expect("threads");
    for (n, size) in [(1, 64), (8, 64), (8, 224)] {
        for (name, conv) in convolutions(n, size) {
            for pass in Pass::ALL {
                let mut group = criterion.benchmark_group(format!("{n}x{size}/{name}/{pass}"));
                group.throughput(Throughput::Elements(conv.products() as u64)).sample_size(10);
                for level in Level::available() {
                    let cpu = Cpu { level, threads: &threads };
                    for &algorithm in Algorithm::ALL.iter().filter(|a| conv.accepts(pass, **a)) {
                        let id = format!("{algorithm}/{level}");
                        let mut t = tensors(&conv, &numbers(conv.k * conv.c * conv.kernel * conv.kernel));
                        t.scratch = vec![0.0; conv.scratch_len(pass, algorithm, Memory::Fast, threads.count())];
                        group.bench_function(id, |b| {
                            check(&Conv2d { n: 1, ..conv }, &cpu, pass, algorithm);
                            b.iter(|| threads.enter(|| run(&conv, &cpu, pass, algorithm, &mut t)));
                        });
                    }
                }
                group.finish();
            }
        }
    }
}

criterion_group!(conv2d, benches);
criterion_main!(conv2d);
