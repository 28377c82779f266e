use super::testing::*;
use nunatak_kernels::mse::*;
use nunatak_kernels::reference;

#[test]
fn both_passes_match_the_reference() {
    let mut random = Random::new(11);
    for len in [1, 3, 10, 16, 17, 33, 64, 513, 1000, 20_001] {
        for offset in if len < 100 { 0..16 } else { 3..5 } {
            let a = Offset::copy(&random.vector(len), offset);
            let b = Offset::copy(&random.vector(len), 15 - offset);
            let mut da = zeros(len);
            reference::mse::backward_input(&a, &b, 0.7, &mut da);
            let loss = reference::mse::forward(&a, &b);
            same_bits(
                |cpu| {
                    let mut all = Offset::nan(len, 1).to_vec();
                    backward_input(cpu, &a, &b, 0.7, &mut all);
                    assert_within(&all, &da, 5e-7, "da");
                    all.push(forward(cpu, &a, &b, &mut Offset::scratch(scratch_len(len))));
                    all
                },
                |_, all| assert_within(&all[len..], &[loss], 1e-6, "loss"),
            );
        }
    }
}

#[test]
fn the_gradient_is_the_slope() {
    let mut random = Random::new(12);
    let (a, b) = (random.vector(20), random.vector(20));
    let mut da = zeros(20);
    reference::mse::backward_input(&a, &b, 1.0, &mut da);
    assert_gradient(&a, &da, |a| reference::mse::forward(a, &b), 1e-6);
    for_each_cpu(|cpu| assert!(forward(cpu, &[], &[], &mut []).is_nan()));
}
