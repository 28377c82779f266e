//! One pass against the ops one after the other: the same bits.

use super::*;
use crate::batchnorm::{backward_input, backward_sums, backward_sums_running};
use crate::testing::*;
use crate::{batchnorm, elementwise, relu};
use std::vec::Vec;

struct Case {
    p: BatchNorm,
    x: Offset,
    residual: Offset,
    dy: Offset,
    /// gamma, beta, running mean, running variance.
    tables: [Vec<f32>; 4],
}

/// Narrow, wide and odd; fewer and more rows than a block and a chunk.
fn cases() -> impl Iterator<Item = Case> {
    let small = CHANNELS.into_iter().flat_map(|c| [2, 5, 49, 128, 131].map(move |rows| (rows, c)));
    small.chain([(9000, 16), (8197, 10), (333, 700), (50, 512)]).map(|(rows, c)| {
        let mut random = Random::new((rows * 31 + c) as u64);
        let offset = (rows + c) % 16;
        let mut x = Offset::copy(&random.vector(rows * c), offset);
        let shift = random.vector(c);
        x.iter_mut().enumerate().for_each(|(i, x)| *x += shift[i % c]);
        Case {
            p: BatchNorm { rows, channels: c, eps: 1e-5 },
            x,
            residual: Offset::copy(&random.vector(rows * c), 15 - offset),
            dy: Offset::copy(&random.vector(rows * c), (offset + 5) % 16),
            tables: [random.vector(c), random.vector(c), random.vector(c), random.vector(c).iter().map(|v| v.abs() + 0.1).collect()],
        }
    })
}

#[track_caller]
fn assert_same(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(a.to_bits() == b.to_bits(), "{what}: at {i} {a} instead of {b}");
    }
}

/// What follows a normalisation, op by op.
fn then_apart(cpu: &Cpu, then: Then, y: &mut [f32]) {
    if let Some(residual) = then.residual {
        elementwise::add_assign(cpu, residual, y);
    }
    if then.relu {
        relu::forward(cpu, None, y);
    }
}

fn all_that_may_follow(residual: &[f32]) -> [Then<'_>; 4] {
    let residual = Some(residual);
    [Then::NOTHING, Then { relu: true, ..Then::NOTHING }, Then { residual, relu: false }, Then { residual, relu: true }]
}

#[test]
fn forward_has_the_bits_of_the_ops_apart() {
    for t in cases() {
        let (p, c, [gamma, beta, mean, var]) = (&t.p, t.p.channels, &t.tables);
        for then in all_that_may_follow(&t.residual) {
            let what = std::format!("{p:?}, residual {}, relu {}", then.residual.is_some(), then.relu);
            same_bits(
                |cpu| {
                    let mut scratch = Offset::scratch(p.scratch_len(cpu.threads.count()));
                    let (mut expected, mut got) = (Offset::nan(t.x.len(), 3), Offset::nan(t.x.len(), 9));
                    let (mut m, mut v, mut saved) = (mean.clone(), var.clone(), std::vec![f32::NAN; 2 * c]);
                    batchnorm::forward_batch(cpu, p, &t.x, gamma, beta, &mut m, &mut v, 0.1, &mut expected, &mut saved, &mut scratch);
                    then_apart(cpu, then, &mut expected);
                    for in_place in [false, true] {
                        let (mut m2, mut v2, mut all_saved) = (mean.clone(), var.clone(), std::vec![f32::NAN; 4 * c]);
                        scratch.fill(f32::NAN);
                        got.fill(f32::NAN);
                        if in_place {
                            got.copy_from_slice(&t.x);
                        }
                        let x = (!in_place).then_some(&*t.x);
                        let factor = 0.1;
                        forward_batch(cpu, p, x, None, gamma, beta, &mut m2, &mut v2, factor, then, &mut got, &mut all_saved, &mut scratch);
                        assert_same(&got, &expected, &what);
                        assert_same(&all_saved[..2 * c], &saved, "saved");
                        assert_same(&[m2, v2].concat(), &[&*m, &*v].concat(), "running statistics");
                    }
                    let batch = got.to_vec();
                    batchnorm::forward_running(cpu, p, Some(&t.x), gamma, beta, mean, var, &mut expected, &mut scratch);
                    then_apart(cpu, then, &mut expected);
                    got.fill(f32::NAN);
                    forward_running(cpu, p, Some(&t.x), gamma, beta, mean, var, then, &mut got, &mut scratch);
                    assert_same(&got, &expected, "running statistics");
                    got.copy_from_slice(&t.x);
                    forward_running(cpu, p, None, gamma, beta, mean, var, then, &mut got, &mut scratch);
                    assert_same(&got, &expected, "running statistics in place");
                    batch
                },
                |_, _| {},
            );
        }
    }
}

#[test]
fn given_moments_serve_as_well() {
    let t = cases().nth(12).expect("a case");
    let (p, c, [gamma, beta, mean, var]) = (&t.p, t.p.channels, &t.tables);
    let rows = || t.x.chunks_exact(c);
    let means: Vec<f64> = (0..c).map(|i| rows().map(|r| f64::from(r[i])).sum::<f64>() / p.rows as f64).collect();
    let squares = (0..c).map(|i| rows().map(|r| (f64::from(r[i]) - means[i]).powi(2)).sum::<f64>());
    let moments: Vec<f64> = means.iter().copied().chain(squares).collect();
    for_each_cpu(|cpu| {
        let mut scratch = Offset::scratch(p.scratch_len(cpu.threads.count()));
        let [expected, got] = [None, Some(&*moments)].map(|moments| {
            let (mut m, mut v, mut saved, mut y) = (mean.clone(), var.clone(), std::vec![f32::NAN; 4 * c], Offset::nan(t.x.len(), 1));
            let then = Then { residual: None, relu: true };
            let x = Some(&*t.x);
            forward_batch(cpu, p, x, moments, gamma, beta, &mut m, &mut v, 0.1, then, &mut y, &mut saved, &mut scratch);
            [&*y, &*m, &*v, &*saved].concat()
        });
        let expected: Vec<f64> = expected.iter().map(|v| f64::from(*v)).collect();
        assert_within(&got, &expected, 1e-6, "with given moments");
    });
}

#[test]
fn backward_has_the_bits_of_the_ops_apart() {
    for t in cases() {
        let (p, c, [gamma, beta, mean, var]) = (&t.p, t.p.channels, &t.tables);
        for residual in [None, Some(&*t.residual)] {
            let what = std::format!("{p:?}, residual {}", residual.is_some());
            same_bits(
                |cpu| {
                    let mut scratch = Offset::scratch(p.scratch_len(cpu.threads.count()));
                    let len = t.x.len();
                    let (mut y, mut saved) = (Offset::nan(len, 3), std::vec![f32::NAN; 4 * c]);
                    let (mut m, mut v) = (mean.clone(), var.clone());
                    let then = Then { residual, relu: true };
                    let x = Some(&*t.x);
                    forward_batch(cpu, p, x, None, gamma, beta, &mut m, &mut v, 0.1, then, &mut y, &mut saved, &mut scratch);

                    let (mut masked, mut dx, mut sums) = (Offset::nan(len, 7), Offset::nan(len, 8), std::vec![f32::NAN; 2 * c]);
                    relu::backward_input(cpu, &y, Some(&t.dy), &mut masked);
                    backward_sums(cpu, p, &t.x, &masked, &saved[..2 * c], &mut sums, &mut scratch);
                    backward_input(cpu, p, &t.x, Some(&masked), gamma, &saved[..2 * c], &sums, &mut dx, &mut scratch);

                    let (mut dy, mut got) = (Offset::copy(&t.dy, 11), std::vec![f32::NAN; 2 * c]);
                    scratch.fill(f32::NAN);
                    backward_sums_masking(cpu, p, &t.x, &y, &mut dy, &saved[..2 * c], &mut got, &mut scratch);
                    assert_same(&got, &sums, &what);
                    assert_same(&dy, &masked, &what);
                    if residual.is_none() {
                        got.fill(f32::NAN);
                        scratch.fill(f32::NAN);
                        backward_sums_gated(cpu, p, &t.x, &t.dy, &saved, &mut got, &mut scratch);
                        assert_same(&got, &sums, &what);
                        let mut out = Offset::nan(len, 2);
                        backward_input_gated(cpu, p, &t.x, Some(&t.dy), gamma, &saved, &sums, &mut out, &mut scratch);
                        assert_same(&out, &dx, &what);
                        out.copy_from_slice(&t.dy);
                        backward_input_gated(cpu, p, &t.x, None, gamma, &saved, &sums, &mut out, &mut scratch);
                        assert_same(&out, &dx, "in place");
                    }

                    let batch = [&*dx, &*sums].concat();
                    forward_running(cpu, p, Some(&t.x), gamma, beta, mean, var, then, &mut y, &mut scratch);
                    relu::backward_input(cpu, &y, Some(&t.dy), &mut masked);
                    backward_sums_running(cpu, p, &t.x, &masked, mean, var, &mut sums, &mut scratch);
                    dy.copy_from_slice(&t.dy);
                    backward_sums_running_masking(cpu, p, &t.x, &y, &mut dy, mean, var, &mut got, &mut scratch);
                    assert_same(&got, &sums, "running statistics");
                    assert_same(&dy, &masked, "running statistics");
                    batch
                },
                |_, _| {},
            );
        }
    }
}
