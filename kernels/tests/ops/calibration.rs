use super::testing::for_each_cpu;
use nunatak_kernels::calibration::*;

/// Sums that one part keeps, and numbers in a part of a stream.
const CHAINS: usize = 12;
const PIECE: usize = 16 << 10;

#[test]
fn the_work_is_done() {
    for_each_cpu(|cpu| {
        let mut results = [f32::NAN; 5];
        products(cpu, 20_000, &mut results);
        for (i, got) in results.iter().enumerate() {
            // Each of the sums approaches 1 / (1 - factor).
            let lanes = products_flops(cpu, 1, 1) as f64 / (2 * CHAINS) as f64;
            let limit = lanes * CHAINS as f64 / (1.0 - f64::from(0.999_f32 - i as f32 * 1e-6));
            assert!((f64::from(*got) - limit).abs() < 1e-3 * limit, "{}: {got} instead of {limit}", cpu.level);
        }
        let mut y = vec![4.0; 3 * PIECE + 7];
        stream(cpu, &mut y);
        assert!(y.iter().all(|y| *y == 3.0));
    });
}
