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

impl Peak {
    /// Measures both for some 60 ms: the fastest of several runs.
    pub fn measure(cpu: &Cpu) -> Peak {
        let start = Instant::now();
        let mut results = vec![0.0; 4 * cpu.threads.count()];
        let flops = calibration::peak(cpu, &mut results, &|| start.elapsed().as_secs_f64());
        let mut memory = vec![1.0; STREAM];
        let mut best = f64::INFINITY;
        cpu.threads.enter(|| {
            for _ in 0..6 {
                let start = Instant::now();
                calibration::stream(cpu, &mut memory);
                best = best.min(start.elapsed().as_secs_f64());
            }
        });
        Peak { gflops: flops / 1e9, gbytes: 8.0 * STREAM as f64 / best / 1e9 }
    }

    /// The larger of each.
    pub fn max(self, other: Peak) -> Peak {
        Peak { gflops: self.gflops.max(other.gflops), gbytes: self.gbytes.max(other.gbytes) }
    }
}
