use super::testing::*;
use nunatak_kernels::cross_entropy::Reduction;
use nunatak_kernels::l1::*;
use nunatak_kernels::reference::l1 as reference;

#[test]
fn both_passes_match_the_reference() {
    let mut random = Random::new(71);
    for reduction in [Reduction::Mean, Reduction::Sum] {
        for len in [1, 3, 10, 16, 17, 33, 64, 513, 1000, 20_001] {
            for offset in if len < 100 { 0..16 } else { 3..5 } {
                let a = Offset::copy(&random.vector(len), offset);
                let mut b = Offset::copy(&random.vector(len), 15 - offset);
                b[len / 2] = a[len / 2];
                let mut da = zeros(len);
                reference::backward_input(reduction, &a, &b, 0.7, &mut da);
                let loss = reference::forward(reduction, &a, &b);
                same_bits(
                    |cpu| {
                        let mut all = Offset::nan(len, 1).to_vec();
                        backward_input(cpu, reduction, &a, &b, 0.7, &mut all, false);
                        assert_within(&all, &da, 5e-7, "da");
                        let mut sum = vec![2.0; len];
                        backward_input(cpu, reduction, &a, &b, 0.7, &mut sum, true);
                        assert!(sum.iter().zip(&all).all(|(sum, da)| *sum == 2.0 + da));
                        all.push(forward(cpu, reduction, &a, &b, &mut Offset::scratch(scratch_len(len))));
                        all
                    },
                    |_, all| assert_within(&all[len..], &[loss], 1e-6, "loss"),
                );
            }
        }
    }
}

#[test]
fn the_rules_of_torch() {
    let (nan, infinity) = (f32::NAN, f32::INFINITY);
    for_each_cpu(|cpu| {
        let a = [1.0, 1.0, 2.0, 0.0, nan, infinity, infinity, -infinity];
        let b = [1.0, 2.0, 1.0, -0.0, 1.0, infinity, 1.0, 1.0];
        let mut da = [9.0; 8];
        backward_input(cpu, Reduction::Sum, &a, &b, 1.0, &mut da, false);
        assert_eq!(da, [0.0, -1.0, 1.0, 0.0, 0.0, 0.0, 1.0, -1.0]);
        assert!(forward(cpu, Reduction::Mean, &[], &[], &mut []).is_nan());
        assert_eq!(forward(cpu, Reduction::Sum, &[], &[], &mut []), 0.0);
    });
}

#[test]
fn the_gradient_is_the_slope() {
    let mut random = Random::new(72);
    let a = random.vector(20);
    let b: Vec<f32> = a.iter().map(|v| v + if *v > 0.0 { 0.5 } else { -0.3 }).collect();
    let mut da = zeros(20);
    reference::backward_input(Reduction::Mean, &a, &b, 1.0, &mut da);
    assert_gradient(&a, &da, |a| reference::forward(Reduction::Mean, a, &b), 1e-6);
}
