use super::testing::*;
use nunatak_kernels::Cpu;
use nunatak_kernels::batchnorm::*;
use nunatak_kernels::reference::batchnorm as reference;

struct Case {
    p: BatchNorm,
    x: Offset,
    dy: Offset,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    mean: Vec<f32>,
    var: Vec<f32>,
}

fn case(rows: usize, channels: usize, offset: usize) -> Case {
    let mut random = Random::new((rows * 1000 + channels * 16 + offset) as u64);
    let mut x = Offset::copy(&random.vector(rows * channels), offset);
    let shift = random.vector(channels);
    for (i, x) in x.iter_mut().enumerate() {
        *x += shift[i % channels];
    }
    Case {
        p: BatchNorm { rows, channels, eps: 1e-5 },
        x,
        dy: Offset::copy(&random.vector(rows * channels), 15 - offset),
        gamma: random.vector(channels),
        beta: random.vector(channels),
        mean: random.vector(channels),
        var: random.vector(channels).iter().map(|v| v.abs() + 0.1).collect(),
    }
}

/// Rows around blocks and chunks; more than `CHUNKS` chunks of one block in the largest.
fn cases() -> impl Iterator<Item = Case> {
    let small = CHANNELS.into_iter().flat_map(|c| [2, 3, 4, 7, 16, 49, 127, 128, 129, 300].map(move |rows| (rows, c, (rows + c) % 16)));
    let offsets = (0..16).map(|offset| (19, 17, offset));
    let large = [(9000, 16, 3), (8197, 10, 1), (17000, 3, 2), (100, 600, 4), (50, 512, 0), (333, 700, 1), (2200, 256, 0)];
    small.chain(offsets).chain(large).map(|(rows, channels, offset)| case(rows, channels, offset))
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn batch_statistics_match_the_reference() {
    for t in cases() {
        let Case { p, x, dy, gamma, beta, .. } = &t;
        let (len, c, what) = (t.x.len(), t.p.channels, std::format!("{p:?}"));
        let (mut y, mut saved, mut mean, mut var) = (zeros(len), zeros(2 * c), wide(&t.mean), wide(&t.var));
        let running = Moving { mean: &mut mean, var: &mut var, factor: 0.1 };
        reference::forward_batch(p, reference::ForwardBatch { x, gamma, beta, running, y: &mut y, saved: &mut saved });
        let (mut dx, mut dgamma, mut dbeta) = (zeros(len), zeros(c), zeros(c));
        let gradients = reference::Backward { x, dy, gamma, dx: &mut dx, dgamma: &mut dgamma, dbeta: &mut dbeta };
        reference::backward_batch(p, gradients);
        same_bits(
            |cpu| {
                let mut all = vec![f32::NAN; 2 * len + 6 * c];
                let scratch = &mut Offset::scratch(p.scratch_len(cpu.threads.count()));
                {
                    let (y, rest) = all.split_at_mut(len);
                    let (dx, rest) = rest.split_at_mut(len);
                    let (saved, rest) = rest.split_at_mut(2 * c);
                    let (sums, rest) = rest.split_at_mut(2 * c);
                    rest[..c].copy_from_slice(&t.mean);
                    rest[c..].copy_from_slice(&t.var);
                    let (mean, var) = rest.split_at_mut(c);
                    let running = Moving { mean, var, factor: 0.1 };
                    forward_batch(cpu, p, ForwardBatch { x: Some(x), moments: None, gamma, beta, running, y, saved, scratch });
                    scratch.fill(f32::NAN);
                    backward_sums(cpu, p, BackwardSums { x, dy, saved, sums, scratch });
                    scratch.fill(f32::NAN);
                    backward_input(cpu, p, BackwardInput { x, dy: Some(dy), gamma, saved, sums, dx, scratch });
                    let mut in_place = Offset::copy(dy, 9);
                    backward_input(cpu, p, BackwardInput { x, dy: None, gamma, saved, sums, dx: &mut in_place, scratch });
                    assert!(in_place.iter().zip(&*dx).all(|(a, b)| a.to_bits() == b.to_bits()), "in place {what}");
                }
                all
            },
            |_, all| {
                let at = |from: usize, len: usize| &all[from..from + len];
                assert_close(at(0, len), &y, &std::format!("y of {what}"));
                // Of two rows nothing is left of dx but eps: what counts is the size of its terms.
                let largest = |v: &[f64]| v.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
                let terms = largest(&saved[c..]) * if p.rows < 4 { 1.0 } else { 0.0 };
                let tolerance = 5e-6 * (1.0 + terms / largest(&dx));
                assert_within(at(len, len), &dx, tolerance, &std::format!("dx of {what}"));
                assert_close(at(2 * len, c), &saved[..c], "saved means");
                assert_close(at(2 * len + c, c), &saved[c..], "saved invstd");
                assert_close(at(2 * len + 2 * c, c), &dgamma, &std::format!("dgamma of {what}"));
                assert_close(at(2 * len + 3 * c, c), &dbeta, &std::format!("dbeta of {what}"));
                assert_close(at(2 * len + 4 * c, c), &mean, "running mean");
                assert_close(at(2 * len + 5 * c, c), &var, "running var");
            },
        );
    }
}

#[test]
fn running_statistics_match_the_reference() {
    for t in cases() {
        let Case { p, x, dy, gamma, beta, mean, var } = &t;
        let (len, c, running) = (t.x.len(), t.p.channels, Running { mean, var });
        let mut y = zeros(len);
        reference::forward_running(p, reference::ForwardRunning { x, gamma, beta, running, y: &mut y });
        let (mut dx, mut dgamma, mut dbeta) = (zeros(len), zeros(c), zeros(c));
        let gradients = reference::Backward { x, dy, gamma, dx: &mut dx, dgamma: &mut dgamma, dbeta: &mut dbeta };
        reference::backward_running(p, running, gradients);
        same_bits(
            |cpu| {
                let scratch = &mut Offset::scratch(p.scratch_len(cpu.threads.count()));
                let mut out = Offset::nan(len, 7);
                forward_running(cpu, p, ForwardRunning { x: Some(x), gamma, beta, running, y: &mut out, scratch });
                assert_close(&out, &y, "y");
                out.copy_from_slice(x);
                forward_running(cpu, p, ForwardRunning { x: None, gamma, beta, running, y: &mut out, scratch });
                assert_close(&out, &y, "y in place");
                out.fill(f32::NAN);
                backward_input_running(cpu, p, BackwardInputRunning { dy: Some(dy), gamma, running_var: var, dx: &mut out, scratch });
                assert_close(&out, &dx, "dx");
                out.copy_from_slice(dy);
                backward_input_running(cpu, p, BackwardInputRunning { dy: None, gamma, running_var: var, dx: &mut out, scratch });
                assert_close(&out, &dx, "dx in place");
                let mut sums = vec![f32::NAN; 2 * c];
                scratch.fill(f32::NAN);
                backward_sums_running(cpu, p, BackwardSumsRunning { x, dy, running, sums: &mut sums, scratch });
                sums.extend_from_slice(&out);
                sums
            },
            |_, sums| {
                assert_close(&sums[..c], &dgamma, "dgamma");
                assert_close(&sums[c..2 * c], &dbeta, "dbeta");
            },
        );
    }
}

#[test]
fn gradients_are_slopes() {
    let t = case(6, 3, 0);
    let Case { p, x, dy, gamma, beta, mean, var } = &t;
    let given = Running { mean, var };
    let batch = |x: &[f32], gamma: &[f32], beta: &[f32]| {
        let (y, saved) = (&mut zeros(18), &mut zeros(6));
        let running = Moving { mean: &mut zeros(3), var: &mut zeros(3), factor: 0.1 };
        reference::forward_batch(p, reference::ForwardBatch { x, gamma, beta, running, y, saved });
        dot(dy, y)
    };
    let running = |x: &[f32], gamma: &[f32], beta: &[f32]| {
        let y = &mut zeros(18);
        reference::forward_running(p, reference::ForwardRunning { x, gamma, beta, running: given, y });
        dot(dy, y)
    };
    let (dx, dgamma, dbeta) = (&mut zeros(18), &mut zeros(3), &mut zeros(3));
    reference::backward_batch(p, reference::Backward { x, dy, gamma, dx, dgamma, dbeta });
    assert_gradient(x, dx, |x| batch(x, gamma, beta), 1e-3);
    assert_gradient(gamma, dgamma, |g| batch(x, g, beta), 1e-6);
    assert_gradient(beta, dbeta, |b| batch(x, gamma, b), 1e-6);
    reference::backward_running(p, given, reference::Backward { x, dy, gamma, dx, dgamma, dbeta });
    assert_gradient(x, dx, |x| running(x, gamma, beta), 1e-6);
    assert_gradient(gamma, dgamma, |g| running(x, g, beta), 1e-6);
    assert_gradient(beta, dbeta, |b| running(x, gamma, b), 1e-6);
}

/// A mean a thousand times the deviation: the statistics lose nothing, and y only what x itself lacks.
#[test]
fn a_large_mean_costs_no_precision() {
    let mut t = case(5000, 24, 0);
    for x in t.x.iter_mut() {
        *x += 1000.0;
    }
    let (Case { p, x, gamma, beta, .. }, len) = (&t, t.x.len());
    let (mut y, mut saved, mut mean, mut var) = (zeros(len), zeros(48), zeros(24), zeros(24));
    let running = Moving { mean: &mut mean, var: &mut var, factor: 1.0 };
    reference::forward_batch(p, reference::ForwardBatch { x, gamma, beta, running, y: &mut y, saved: &mut saved });
    for_each_cpu(|cpu| {
        let scratch = &mut Offset::scratch(p.scratch_len(cpu.threads.count()));
        let (mut out, mut m, mut v, mut s) = (Offset::nan(len, 0), [0.0; 24], [0.0; 24], [0.0; 48]);
        let running = Moving { mean: &mut m, var: &mut v, factor: 1.0 };
        let call = ForwardBatch { x: Some(x), moments: None, gamma, beta, running, y: &mut out, saved: &mut s, scratch };
        forward_batch(cpu, p, call);
        assert_within(&out, &y, 1e-6, "y");
        assert_within(&s[24..], &saved[24..], 2e-7, "invstd");
        assert_within(&v, &var, 2e-7, "var");
        assert_within(&m, &mean, 1e-7, "mean");
    });
}

#[test]
fn nan_and_infinity_stay_in_their_channel() {
    for channels in [3, 17, 64] {
        let mut t = case(40, channels, 1);
        t.x[5 * channels] = f32::NAN;
        t.x[39 * channels + 1] = f32::INFINITY;
        let (Case { p, x, gamma, beta, .. }, len) = (&t, t.x.len());
        for_each_cpu(|cpu| {
            let scratch = &mut Offset::scratch(p.scratch_len(cpu.threads.count()));
            let (y, saved) = (&mut Offset::nan(len, 0), &mut vec![0.0; 2 * channels]);
            let (mut mean, mut var) = (t.mean.clone(), t.var.clone());
            let running = Moving { mean: &mut mean, var: &mut var, factor: 0.1 };
            forward_batch(cpu, p, ForwardBatch { x: Some(x), moments: None, gamma, beta, running, y, saved, scratch });
            for (i, y) in y.iter().enumerate() {
                assert_eq!(y.is_nan(), i % channels < 2, "at {i} of {channels} channels: {y}");
            }
            assert!(mean[..2].iter().chain(&var[..2]).all(|v| !v.is_finite()) && mean[2].is_finite() && var[2].is_finite());
        });
    }
}

#[test]
#[should_panic(expected = "1 rows in train mode")]
fn one_row_has_no_variance() {
    let t = case(1, 16, 0);
    let cpu = Cpu { level: nunatak_kernels::Level::PORTABLE, threads: &nunatak_kernels::Threads::serial() };
    let Case { p, x, gamma, beta, .. } = &t;
    let scratch = &mut Offset::scratch(p.scratch_len(1));
    let running = Moving { mean: &mut [0.0; 16], var: &mut [0.0; 16], factor: 0.1 };
    let (y, saved) = (&mut [0.0; 16], &mut [0.0; 32]);
    forward_batch(&cpu, p, ForwardBatch { x: Some(x), moments: None, gamma, beta, running, y, saved, scratch });
}

/// `torch.nn.BatchNorm2d(3)` in train mode on x[i] = (37·i mod 101)/101 − ½ as 2x2x2x3 (channels last),
/// dy[i] = (53·i mod 97)/97 − ½, gamma .5 1 2, beta .1 −.2 .3: forward, backward, statistics.
#[test]
fn numbers_of_torch() {
    let vector = |a: usize, b: usize| -> Vec<f32> { (0..24).map(|i| (i * a % b) as f32 / b as f32 - 0.5).collect() };
    let (x, dy) = (&vector(37, 101), &vector(53, 97));
    let p = BatchNorm { rows: 8, channels: 3, eps: 1e-5 };
    let (gamma, beta) = (&[0.5, 1.0, 2.0], &[0.1, -0.2, 0.3]);
    let y = [
        -0.663688421,
        -1.013186812,
        2.059349775,
        -0.445491701,
        -0.649751365,
        2.684896231,
        -0.227294996,
        -0.286315888,
        3.310442924,
        -0.009098307,
        0.07711947,
        -2.382030964,
        0.209098384,
        0.440555036,
        -1.756484151,
        0.427295089,
        0.803990424,
        -1.130937815,
        0.645491779,
        1.16742599,
        -0.50539124,
        0.863688409,
        -2.139836788,
        0.12015532,
    ];
    let dx = [
        -0.734661281,
        0.813016713,
        -2.426979303,
        0.577135146,
        -0.648613513,
        1.56187129,
        -0.31485489,
        1.560454249,
        -0.767298579,
        0.996941686,
        0.098824047,
        -2.596803427,
        0.104951546,
        -1.362806201,
        1.392046928,
        -0.787038445,
        0.846261621,
        -0.937122762,
        0.524758101,
        -0.615368724,
        3.051727772,
        -0.367231965,
        -0.69176811,
        0.722557724,
    ];
    for_each_cpu(|cpu| {
        let scratch = &mut Offset::scratch(p.scratch_len(cpu.threads.count()));
        let (mut out, mut mean, mut var) = ([f32::NAN; 24], [0.0; 3], [1.0; 3]);
        let (saved, sums) = (&mut [f32::NAN; 6], &mut [f32::NAN; 6]);
        let running = Moving { mean: &mut mean, var: &mut var, factor: 0.1 };
        forward_batch(cpu, &p, ForwardBatch { x: Some(x), moments: None, gamma, beta, running, y: &mut out, saved, scratch });
        assert_within(&out, &y, 1e-6, "y");
        assert_within(&mean, &[-0.015346536, 0.008787128, -0.004579208], 1e-6, "running mean");
        assert_within(&var, &[0.905881763, 0.908480763, 0.911451042], 1e-6, "running var");
        backward_sums(cpu, &p, BackwardSums { x, dy, saved, sums, scratch });
        let expected = [0.805303335, 0.822459996, 0.200279668, -0.103092819, -0.731958807, -0.360824764];
        assert_within(sums, &expected, 1e-6, "dgamma, dbeta");
        backward_input(cpu, &p, BackwardInput { x, dy: Some(dy), gamma, saved, sums, dx: &mut out, scratch });
        assert_within(&out, &dx, 2e-6, "dx");
    });
}

#[test]
#[should_panic(expected = "numbers for a batchnorm that needs")]
fn short_scratch_is_refused() {
    let p = BatchNorm { rows: 4, channels: 2, eps: 1e-5 };
    let cpu = Cpu { level: nunatak_kernels::Level::PORTABLE, threads: &nunatak_kernels::Threads::serial() };
    let scratch = &mut Offset::scratch(p.scratch_len(1) - 1);
    backward_sums(&cpu, &p, BackwardSums { x: &[0.0; 8], dy: &[0.0; 8], saved: &[0.0; 4], sums: &mut [0.0; 4], scratch });
}
