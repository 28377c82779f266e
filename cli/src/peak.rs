//! The CPU's limits, measured beside whatever is measured.

use nunatak_kernels::{Cpu, calibration};
use std::time::Instant;

/// Operations and bytes a second that nothing exceeds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peak {
    /// Multiplications and additions, in 10⁹ a second.
    pub gflops: f64,
    /// Bytes read and written by an update in place of 64 MB, in 10⁹ a second.
    pub gbytes: f64,
}

/// Numbers of the stream: 64 MB.
const STREAM: usize = 16 << 20;
/// Rounds of the products: a part takes some 50 microseconds.
const ROUNDS: usize = 10_000;

impl Peak {
    /// Measures both for some 60 ms: the fastest of many short runs.
    pub fn measure(cpu: &Cpu) -> Peak {
        let mut results = vec![0.0; 4 * cpu.threads.count()];
        let flops = calibration::products_flops(cpu, ROUNDS, results.len()) as f64;
        let mut memory = vec![1.0; STREAM];
        let best = |count: usize, work: &mut (dyn FnMut() + Send)| {
            let times = (0..count).map(|_| {
                let start = Instant::now();
                work();
                start.elapsed().as_secs_f64()
            });
            times.fold(f64::INFINITY, f64::min)
        };
        cpu.threads.enter(|| {
            let products = best(40, &mut || calibration::products(cpu, ROUNDS, &mut results));
            let stream = best(6, &mut || calibration::stream(cpu, &mut memory));
            Peak { gflops: flops / products / 1e9, gbytes: 8.0 * STREAM as f64 / stream / 1e9 }
        })
    }

    /// The larger of each.
    pub fn max(self, other: Peak) -> Peak {
        Peak { gflops: self.gflops.max(other.gflops), gbytes: self.gbytes.max(other.gbytes) }
    }
}
