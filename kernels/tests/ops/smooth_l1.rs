use super::testing::*;
use nunatak_kernels::Cpu;
use nunatak_kernels::cross_entropy::Reduction;
use nunatak_kernels::reference::smooth_l1 as reference;
use nunatak_kernels::smooth_l1::*;

#[test]
fn both_passes_match_the_reference() {
    let mut random = Random::new(73);
    for (beta, reduction) in [(1.0, Reduction::Mean), (0.3, Reduction::Sum), (0.0, Reduction::Mean), (1e-3, Reduction::Mean)] {
        for len in [1, 3, 10, 16, 17, 33, 64, 513, 1000, 20_001] {
            for offset in if len < 100 { 0..16 } else { 3..5 } {
                let a = Offset::copy(&random.vector(len), offset);
                let b = Offset::copy(&random.vector(len), 15 - offset);
                let mut da = zeros(len);
                reference::backward_input(beta, reduction, &a, &b, 0.7, &mut da);
                let loss = reference::forward(beta, reduction, &a, &b);
                same_bits(
                    |cpu| {
                        let mut all = Offset::nan(len, 1).to_vec();
                        backward_input(cpu, beta, reduction, BackwardInput { a: &a, b: &b, dloss: 0.7, da: &mut all, add: false });
                        assert_within(&all, &da, 5e-7, "da");
                        let mut sum = vec![2.0; len];
                        backward_input(cpu, beta, reduction, BackwardInput { a: &a, b: &b, dloss: 0.7, da: &mut sum, add: true });
                        assert!(sum.iter().zip(&all).all(|(sum, da)| *sum == 2.0 + da));
                        all.push(forward(cpu, beta, reduction, &a, &b, &mut Offset::scratch(scratch_len(len))));
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
        let a = [1.0, 1.0, 2.0, 0.0, nan, infinity, infinity, -infinity, 0.5];
        let b = [1.0, 2.0, 1.0, -0.0, 1.0, infinity, 1.0, 1.0, 0.25];
        let mut da = [9.0; 9];
        backward_input(cpu, 1.0, Reduction::Sum, BackwardInput { a: &a, b: &b, dloss: 1.0, da: &mut da, add: false });
        let e = f64::NAN;
        assert_exact(&da, &[0.0, -1.0, 1.0, 0.0, e, e, 1.0, -1.0, 0.25], "torch's da");
        assert_eq!(forward(cpu, 1.0, Reduction::Sum, &a[..4], &b[..4], &mut Offset::scratch(2)), 1.0);
    });
}

#[test]
#[should_panic(expected = "a beta of -1")]
fn a_negative_beta_is_refused() {
    forward(
        &Cpu { level: nunatak_kernels::Level::PORTABLE, threads: &nunatak_kernels::Threads::serial() },
        -1.0,
        Reduction::Sum,
        &[],
        &[],
        &mut [],
    );
}

#[test]
fn the_gradient_is_the_slope() {
    let mut random = Random::new(74);
    let a = random.vector(20);
    let b: Vec<f32> = a.iter().map(|v| v * 1.7 + 0.03).collect();
    let mut da = zeros(20);
    reference::backward_input(0.4, Reduction::Mean, &a, &b, 1.0, &mut da);
    assert_gradient(&a, &da, |a| reference::forward(0.4, Reduction::Mean, a, &b), 1e-2);
}
