//! One pass against the ops one after the other: the same bits.

use super::testing::*;
use nunatak_kernels::Cpu;
use nunatak_kernels::batchnorm::fused::*;
use nunatak_kernels::batchnorm::{
    BackwardInput, BackwardSums, BackwardSumsMasking, BackwardSumsRunning, BackwardSumsRunningMasking, BatchNorm, ForwardBatch,
    ForwardRunning, Moving, Running, backward_input, backward_sums, backward_sums_running,
};
use nunatak_kernels::{batchnorm, elementwise, relu};

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
        let given = Running { mean, var };
        for then in all_that_may_follow(&t.residual) {
            let what = std::format!("{p:?}, residual {}, relu {}", then.residual.is_some(), then.relu);
            same_bits(
                |cpu| {
                    let scratch = &mut Offset::scratch(p.scratch_len(cpu.threads.count()));
                    let (expected, got) = (&mut Offset::nan(t.x.len(), 3), &mut Offset::nan(t.x.len(), 9));
                    let (mut m, mut v, saved) = (mean.clone(), var.clone(), &mut vec![f32::NAN; 2 * c]);
                    let (x, running) = (Some(&t.x[..]), Moving { mean: &mut m, var: &mut v, factor: 0.1 });
                    let call = ForwardBatch { x, moments: None, gamma, beta, running, y: expected, saved, scratch };
                    batchnorm::forward_batch(cpu, p, call);
                    then_apart(cpu, then, expected);
                    for in_place in [false, true] {
                        let (mut m2, mut v2, all_saved) = (mean.clone(), var.clone(), &mut vec![f32::NAN; 4 * c]);
                        scratch.fill(f32::NAN);
                        got.fill(f32::NAN);
                        if in_place {
                            got.copy_from_slice(&t.x);
                        }
                        let x = (!in_place).then_some(&*t.x);
                        let running = Moving { mean: &mut m2, var: &mut v2, factor: 0.1 };
                        let call = ForwardBatch { x, moments: None, gamma, beta, running, y: got, saved: all_saved, scratch };
                        forward_batch(cpu, p, then, call);
                        assert_same(got, expected, &what);
                        assert_same(&all_saved[..2 * c], saved, "saved");
                        assert_same(&[m2, v2].concat(), &[&*m, &*v].concat(), "running statistics");
                    }
                    let batch = got.to_vec();
                    let running = given;
                    batchnorm::forward_running(cpu, p, ForwardRunning { x, gamma, beta, running, y: expected, scratch });
                    then_apart(cpu, then, expected);
                    got.fill(f32::NAN);
                    forward_running(cpu, p, then, ForwardRunning { x, gamma, beta, running, y: got, scratch });
                    assert_same(got, expected, "running statistics");
                    got.copy_from_slice(&t.x);
                    forward_running(cpu, p, then, ForwardRunning { x: None, gamma, beta, running, y: got, scratch });
                    assert_same(got, expected, "running statistics in place");
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
        let scratch = &mut Offset::scratch(p.scratch_len(cpu.threads.count()));
        let [expected, got] = [None, Some(&*moments)].map(|moments| {
            let (mut m, mut v) = (mean.clone(), var.clone());
            let (y, saved) = (&mut Offset::nan(t.x.len(), 1), &mut vec![f32::NAN; 4 * c]);
            let then = Then { residual: None, relu: true };
            let (x, running) = (Some(&*t.x), Moving { mean: &mut m, var: &mut v, factor: 0.1 });
            forward_batch(cpu, p, then, ForwardBatch { x, moments, gamma, beta, running, y, saved, scratch });
            [&**y, &*m, &*v, &*saved].concat()
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
                    let scratch = &mut Offset::scratch(p.scratch_len(cpu.threads.count()));
                    let (x, len) = (&*t.x, t.x.len());
                    let (y, all_saved) = (&mut Offset::nan(len, 3), &mut vec![f32::NAN; 4 * c]);
                    let then = Then { residual, relu: true };
                    let running = Moving { mean: &mut mean.clone(), var: &mut var.clone(), factor: 0.1 };
                    let call = ForwardBatch { x: Some(x), moments: None, gamma, beta, running, y, saved: all_saved, scratch };
                    forward_batch(cpu, p, then, call);
                    let saved = &all_saved[..2 * c];

                    let (masked, dx, sums) = (&mut Offset::nan(len, 7), &mut Offset::nan(len, 8), &mut vec![f32::NAN; 2 * c]);
                    relu::backward_input(cpu, y, Some(&t.dy), masked);
                    backward_sums(cpu, p, BackwardSums { x, dy: masked, saved, sums, scratch });
                    backward_input(cpu, p, BackwardInput { x, dy: Some(masked), gamma, saved, sums, dx, scratch });

                    let (dy, got) = (&mut Offset::copy(&t.dy, 11), &mut vec![f32::NAN; 2 * c]);
                    scratch.fill(f32::NAN);
                    backward_sums_masking(cpu, p, BackwardSumsMasking { x, y, dy, saved, sums: got, scratch });
                    assert_same(got, sums, &what);
                    assert_same(dy, masked, &what);
                    if residual.is_none() {
                        got.fill(f32::NAN);
                        scratch.fill(f32::NAN);
                        let saved = all_saved;
                        backward_sums_gated(cpu, p, BackwardSums { x, dy: &t.dy, saved, sums: got, scratch });
                        assert_same(got, sums, &what);
                        let out = &mut Offset::nan(len, 2);
                        backward_input_gated(cpu, p, BackwardInput { x, dy: Some(&t.dy), gamma, saved, sums, dx: out, scratch });
                        assert_same(out, dx, &what);
                        out.copy_from_slice(&t.dy);
                        backward_input_gated(cpu, p, BackwardInput { x, dy: None, gamma, saved, sums, dx: out, scratch });
                        assert_same(out, dx, "in place");
                    }

                    let (batch, running) = ([&**dx, &**sums].concat(), Running { mean, var });
                    forward_running(cpu, p, then, ForwardRunning { x: Some(x), gamma, beta, running, y, scratch });
                    relu::backward_input(cpu, y, Some(&t.dy), masked);
                    backward_sums_running(cpu, p, BackwardSumsRunning { x, dy: masked, running, sums, scratch });
                    dy.copy_from_slice(&t.dy);
                    backward_sums_running_masking(cpu, p, BackwardSumsRunningMasking { x, y, dy, running, sums: got, scratch });
                    assert_same(got, sums, "running statistics");
                    assert_same(dy, masked, "running statistics");
                    batch
                },
                |_, _| {},
            );
        }
    }
}
