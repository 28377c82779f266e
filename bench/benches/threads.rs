//! What a loop of a parallel pass costs beside its work: threads of our own, rayon's, none. Loops of
//! ten parts of some microseconds each, one after the other, as in a step of one small image.

use criterion::Criterion;
use nunatak_bench::numbers;
use nunatak_bench::settings::Settings;
use nunatak_kernels::{Cpu, Level, Threads, elementwise};
use std::sync::Arc;

/// Loops of a step.
const LOOPS: usize = 100;

fn main() {
    let mut criterion = Settings::from_environment().criterion(Criterion::default());
    benches(&mut criterion);
    criterion.final_summary();
}

fn benches(criterion: &mut Criterion) {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(count).build().expect("threads");
    let teams = [
        ("one".to_string(), Threads::serial()),
        (format!("ours/{count}"), Threads::new(count).expect("threads")),
        (format!("ours/{}", 7 * count), Threads::new(7 * count).expect("threads")),
        (format!("oversubscribed/{}", 2 * count), Threads::oversubscribed(2 * count).expect("threads")),
        (format!("rayon/{count}"), Threads::of_rayon(Arc::new(rayon))),
    ];
    for numbers_each in [8192, 81920] {
        let x = numbers(numbers_each);
        let mut y = vec![0.0; x.len()];
        let mut group = criterion.benchmark_group(format!("threads/{LOOPS}_loops_of_{numbers_each}"));
        for (name, threads) in &teams {
            group.bench_function(name, |b| {
                b.iter(|| {
                    threads.enter(|| {
                        let cpu = Cpu { level: Level::detect(), threads };
                        (0..LOOPS).for_each(|_| elementwise::add(&cpu, &x, &x, &mut y));
                    });
                });
            });
        }
        group.finish();
    }
}
