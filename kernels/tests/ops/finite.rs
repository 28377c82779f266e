use super::testing::*;
use nunatak_kernels::finite::*;

/// Numbers that one thread looks at together.
const PART: usize = 8192;

#[test]
fn one_number_among_many_is_found() {
    for_each_cpu(|cpu| {
        for len in [1, 15, 16, 17, 513, PART, PART + 1, 5 * PART + 3] {
            let mut x = Offset::copy(&Random::new(3).vector(len), 3);
            assert!(all(cpu, &x) && is_small(cpu, &x));
            for at in [0, len / 2, len - 1] {
                let before = x[at];
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    x[at] = bad;
                    assert!(!all(cpu, &x) && !is_small(cpu, &x), "{bad} at {at} of {len}");
                }
                x[at] = f32::MAX;
                assert!(all(cpu, &x) && !is_small(cpu, &x), "a large number at {at} of {len}");
                x[at] = before;
            }
        }
        assert!(all(cpu, &[]) && is_small(cpu, &[]));
        assert!(all(cpu, &[f32::MIN_POSITIVE / 2.0, -f32::MAX]));
    });
}
