//! What denormal numbers cost: one step of training on ordinary weights, and on weights and images so
//! small that every product is denormal, with the guard of `denormals` and without it.

use criterion::Criterion;
use nunatak_bench::numbers;
use nunatak_bench::settings::Settings;
use nunatak_kernels::batchnorm::{self, ForwardBatch, Moving};
use nunatak_kernels::conv2d::{BackwardInput, BackwardWeight, Forward};
use nunatak_kernels::{Conv2d, Cpu, Denormals, Finish, Level, Memory, Pass, Threads};

/// Small enough that ordinary numbers times it are denormal.
const TINY: f32 = 1e-40;

fn main() {
    let mut criterion = Settings::from_environment().criterion(Criterion::default());
    benches(&mut criterion);
    criterion.final_summary();
}

fn benches(criterion: &mut Criterion) {
    let threads = Threads::new(std::thread::available_parallelism().map_or(1, usize::from)).expect("threads");
    let conv = Conv2d::new([1, 32, 32, 64], 64, 3, 1, 1).expect("a shape");
    let size = batchnorm::BatchNorm { rows: 32 * 32, channels: 64, eps: 1e-5 };
    let mut group = criterion.benchmark_group("denormals");
    for (name, scale, denormals) in
        [("ordinary", 1.0, Denormals::Flush), ("tiny/flushed", TINY, Denormals::Flush), ("tiny/kept", TINY, Denormals::Keep)]
    {
        let threads = threads.clone().with_denormals(denormals);
        let cpu = Cpu { level: Level::detect(), threads: &threads };
        let scaled = |len: usize| numbers(len).iter().map(|v| v * scale).collect::<Vec<f32>>();
        let (x, w, dy) = (&scaled(conv.x_len()), &scaled(conv.weights().len()), &scaled(conv.y_len()));
        let (y, dx, dw) = (&mut dy.clone(), &mut x.clone(), &mut w.clone());
        let scratch = |pass| vec![0.0; conv.scratch_len(pass, conv.algorithm(pass, Memory::Fast), Memory::Fast, threads.count())];
        for pass in Pass::ALL {
            let (algorithm, scratch) = (conv.algorithm(pass, Memory::Fast), &mut scratch(pass));
            group.bench_function(format!("conv2d/{pass}/{name}"), |b| {
                b.iter(|| match pass {
                    Pass::Forward => conv.forward(&cpu, algorithm, Forward { x, w, y, add: false, finish: Finish::None, scratch }),
                    Pass::BackwardInput => conv.backward_input(&cpu, algorithm, BackwardInput { w, dy, dx, add: false, scratch }),
                    Pass::BackwardWeight => conv.backward_weight(&cpu, algorithm, BackwardWeight { x, dy, dw, add: false, scratch }),
                });
            });
        }
        let (gamma, beta) = (&scaled(64), &scaled(64));
        let (mean, var, saved) = (&mut vec![0.0; 64], &mut vec![1.0; 64], &mut vec![0.0; 128]);
        let scratch = &mut vec![0.0; size.scratch_len(threads.count())];
        group.bench_function(format!("batchnorm/forward/{name}"), |b| {
            b.iter(|| {
                let running = Moving { mean, var, factor: 0.1 };
                let tensors = ForwardBatch { x: Some(x), moments: None, gamma, beta, running, y, saved, scratch };
                batchnorm::forward_batch(&cpu, &size, tensors);
            });
        });
    }
    group.finish();
}
