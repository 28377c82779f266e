use super::testing::*;
use nunatak_kernels::reduce::*;
use nunatak_kernels::reference;

#[test]
fn sums_match_the_reference() {
    let mut random = Random::new(5);
    for len in [1, 3, 8, 10, 17, 33, 64, 511, 512, 513, 1000, 8191, 8192, 8193, 100_003] {
        for offset in if len < 100 { 0..16 } else { 3..5 } {
            let x = Offset::copy(&random.vector(len), offset);
            let sizes: f64 = x.iter().map(|v| f64::from(v.abs())).sum();
            let expected = [reference::reduce::sum(&x), reference::reduce::mean(&x) * len as f64, reference::reduce::sum_of_squares(&x)];
            same_bits(
                |cpu| {
                    let mut scratch = Offset::scratch(scratch_len(len));
                    let s = [sum(cpu, &x, &mut scratch), mean(cpu, &x, &mut scratch) * len as f32];
                    [s[0], s[1], sum_of_squares(cpu, &x, &mut scratch) as f32].into()
                },
                |_, y| {
                    for (y, e) in y.iter().zip(expected) {
                        assert!((f64::from(*y) - e).abs() < 2e-7 * sizes, "{y} instead of {e} of {len}");
                    }
                },
            );
        }
    }
}

#[test]
fn of_nothing_and_of_nan() {
    for_each_cpu(|cpu| {
        assert_eq!(sum(cpu, &[], &mut []), 0.0);
        assert!(mean(cpu, &[], &mut []).is_nan());
        let mut x = [1.0; 40];
        let mut scratch = Offset::scratch(scratch_len(40));
        assert_eq!(sum(cpu, &x, &mut scratch), 40.0);
        x[39] = f32::INFINITY;
        assert_eq!(sum(cpu, &x, &mut scratch), f32::INFINITY);
        x[3] = f32::NAN;
        assert!(sum(cpu, &x, &mut scratch).is_nan());
    });
}

#[test]
fn fills() {
    for_each_cpu(|cpu| {
        for len in [0, 1, 15, 17, 9000] {
            let mut dx = Offset::nan(len, 5);
            fill(cpu, 0.25, &mut dx);
            fill_accumulate(cpu, 0.5, &mut dx);
            assert!(dx.iter().all(|v| *v == 0.75));
        }
    });
}
