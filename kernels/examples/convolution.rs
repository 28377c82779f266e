//! One convolution by every algorithm that takes it: how far it is from the sums in f64, and how long it takes.
//!
//! ```text
//! cargo run --release -p nunatak-kernels --example convolution
//! ```

use nunatak_core::Error;
use nunatak_kernels::conv2d::Forward;
use nunatak_kernels::{Algorithm, Conv2d, Cpu, Finish, Level, Memory, Pass, Threads, reference};
use std::time::{Duration, Instant};

fn main() -> Result<(), Error> {
    // A layer of ResNet18: one image, 28 x 28 pixels of 128 channels, 128 filters of 3 x 3.
    let conv = Conv2d::new([1, 28, 28, 128], 128, 3, 1, 1)?;
    let layout = conv.weights();
    let (x, filters) = (&numbers(conv.x_len()), numbers(layout.numbers()));
    let mut truth = vec![0.0; conv.y_len()];
    reference::conv2d::forward(&conv, x, &filters, &mut truth);
    // PyTorch's order of the weights (filter, channel, row, column) becomes blocks of filters.
    let mut w = vec![0.0; layout.len()];
    layout.pack(&filters, &mut w);

    let threads = Threads::serial();
    let cpu = Cpu { level: Level::detect(), threads: &threads };
    println!("{}, 1 thread, {:.0} million products", cpu.level, conv.products() as f64 / 1e6);
    for &algorithm in Algorithm::ALL.iter().filter(|&&a| conv.accepts(Pass::Forward, a)) {
        let mut y = vec![0.0; conv.y_len()];
        let scratch = &mut vec![0.0; conv.scratch_len(Pass::Forward, algorithm, Memory::Fast, threads.count())];
        let time = shortest(|| {
            conv.forward(&cpu, algorithm, Forward { x, w: &w, y: &mut y, add: false, finish: Finish::None, scratch });
        });
        let off = y.iter().zip(&truth).map(|(got, want)| (f64::from(*got) - want).abs()).fold(0.0, f64::max);
        println!(
            "{:10} {:7.3} ms, at most {off:.1e} off, {} bytes of scratch",
            algorithm.name(),
            time.as_secs_f64() * 1e3,
            4 * scratch.len()
        );
    }
    Ok(())
}

/// Numbers between -1 and 1.
fn numbers(n: usize) -> Vec<f32> {
    let mut generator = nunatak_core::rng::Generator::manual_seed(0);
    (0..n).map(|_| 2.0 * generator.rand_f32() - 1.0).collect()
}

/// The shortest of ten runs: what else the machine does only makes a run longer.
fn shortest(mut work: impl FnMut()) -> Duration {
    let once = |()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    std::iter::repeat_n((), 10).map(once).min().unwrap_or_default()
}
