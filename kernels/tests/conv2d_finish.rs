//! What a convolution does to its finished output: the same bits as the ops called one after the
//! other, for every algorithm, at every level, on any number of threads.

use nunatak_core::Shape;
use nunatak_kernels::batchnorm::{self, BatchNorm, ForwardRunning, Running};
use nunatak_kernels::conv2d::{Activation, Bias, Forward, ForwardMoments, ForwardOver, Normalise, Window};
use nunatak_kernels::{Algorithm, Conv2d, Cpu, Finish, Level, Memory, Pass, Pointwise, Threads, elementwise, pointwise, relu};

fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
        })
        .collect()
}

/// Every level, and `scalar` where it is built in.
fn levels() -> impl Iterator<Item = Level> {
    let scalar = Level::by_name("scalar").ok().filter(|scalar| Level::available().all(|level| level != *scalar));
    Level::available().chain(scalar)
}

/// Whether an emulator runs the tests (`NUNATAK_TEST=emulated`), hundreds of times slower than a CPU.
fn emulated() -> bool {
    std::env::var("NUNATAK_TEST").is_ok_and(|v| v == "emulated")
}

/// Products of a convolution up to which an emulator computes it.
const EMULATED: u64 = 4_000_000;

fn threads() -> Vec<Threads> {
    #[cfg(feature = "rayon")]
    return if emulated() { &[3][..] } else { &[1, 2, 3, 7] }.iter().map(|n| Threads::new(*n).expect("threads")).collect();
    #[cfg(not(feature = "rayon"))]
    vec![Threads::serial()]
}

fn general([n, c, h, w]: [usize; 4], k: usize, window: Window, groups: usize) -> Conv2d {
    Conv2d::general(Shape::new(n, c, h, w).expect("a shape"), k, window, groups).expect("a valid convolution")
}

/// Every kind of tile: narrow, wide, with and without whole vectors, several groups of channels, and as
/// many rows as have several cuts.
fn shapes() -> Vec<Conv2d> {
    let left_out = |conv: &Conv2d| emulated() && conv.products() > EMULATED;
    [
        ([1, 9, 7, 3], 5, 3, 1, 1),
        ([2, 13, 6, 18], 16, 3, 1, 0),
        ([1, 16, 16, 64], 64, 3, 1, 1),
        ([3, 7, 7, 144], 160, 3, 1, 1),
        ([2, 9, 11, 17], 47, 3, 2, 1),
        ([1, 2, 2, 96], 97, 3, 1, 1),
        ([2, 21, 20, 3], 24, 7, 2, 3),
        ([2, 8, 8, 33], 70, 1, 2, 0),
        ([1, 6, 5, 70], 72, 3, 1, 1),
        ([1, 1, 1, 1], 1, 1, 1, 0),
        ([5, 40, 43, 20], 24, 3, 1, 1),
        ([2, 19, 20, 24], 40, 1, 1, 0),
        ([1, 41, 50, 33], 17, 1, 1, 0),
    ]
    .into_iter()
    .map(|(input, k, kernel, stride, pad)| Conv2d::new(input, k, kernel, stride, pad).expect("a valid convolution"))
    .chain([
        general([2, 24, 14, 15], 24, Window::square(3, 1, 1), 24),
        general([1, 72, 29, 30], 72, Window::square(5, 2, 2), 72),
        general([2, 12, 9, 11], 20, Window { kernel: [3, 2], stride: [2, 1], pad: [1, 0], dilation: [1, 2] }, 4),
        general([1, 64, 12, 13], 96, Window::square(3, 1, 1), 2),
        general([2, 24, 12, 13], 24, Window::square(3, 1, 1), 6),
    ])
    .filter(|conv| !left_out(conv))
    .collect()
}

const ACTIVATIONS: [Activation; 4] = [Activation::None, Activation::Relu, Activation::Relu6, Activation::Hardswish];

#[test]
fn normalised_output_has_the_bits_of_separate_passes() {
    for conv in shapes() {
        let rows = conv.y_len() / conv.k();
        let norm = BatchNorm { rows, channels: conv.k(), eps: 1e-5 };
        let (x, residual) = (&random(conv.x_len(), 1), random(conv.y_len(), 2));
        let w = &mut vec![0.0; conv.weights().len()];
        conv.weights().pack(&random(conv.weights().numbers(), 3), w);
        let (gamma, beta, mean) = (&random(conv.k(), 4), &random(conv.k(), 5), &random(conv.k(), 6));
        let var = &random(conv.k(), 7).iter().map(|v| v.abs() + 0.1).collect::<Vec<f32>>();
        let scale: Vec<f32> =
            var.iter().zip(gamma).map(|(v, g)| (1.0 / (f64::from(*v) + f64::from(norm.eps)).sqrt() * f64::from(*g)) as f32).collect();
        for level in levels() {
            for &algorithm in Algorithm::ALL.iter().filter(|a| conv.accepts(Pass::Forward, **a)) {
                for (add, activation) in [true, false].into_iter().flat_map(|add| ACTIVATIONS.map(|activation| (add, activation))) {
                    for threads in threads() {
                        let cpu = Cpu { level, threads: &threads };
                        let scratch = || vec![f32::NAN; conv.scratch_len(Pass::Forward, algorithm, Memory::Fast, threads.count())];
                        let mut plain = vec![f32::NAN; conv.y_len()];
                        let (finish, scratch) = (Finish::None, &mut scratch());
                        conv.forward(&cpu, algorithm, Forward { x, w, y: &mut plain, add: false, finish, scratch });
                        let mut room = vec![0.0_f64; norm.scratch_len(threads.count()).div_ceil(2) + 8];
                        let room: &mut [f32] = bytemuck::cast_slice_mut(&mut room);
                        let running = Running { mean, var };
                        let call = ForwardRunning { x: None, gamma, beta, running, y: &mut plain, scratch: room };
                        batchnorm::forward_running(&cpu, &norm, call);
                        if add {
                            elementwise::add_assign(&cpu, &residual, &mut plain);
                        }
                        match activation {
                            Activation::None => {}
                            Activation::Relu => relu::forward(&cpu, None, &mut plain),
                            Activation::Relu6 => pointwise::forward(&cpu, Pointwise::Relu6, None, &mut plain),
                            Activation::Hardswish => pointwise::forward(&cpu, Pointwise::Hardswish, None, &mut plain),
                        }

                        let residual = add.then_some(&residual[..]);
                        let finish = Finish::Normalise(Normalise { mean, scale: &scale, shift: beta, residual, activation });
                        let mut y = vec![f32::NAN; conv.y_len()];
                        scratch.fill(f32::NAN);
                        conv.forward(&cpu, algorithm, Forward { x, w, y: &mut y, add: false, finish, scratch });
                        let same = y.iter().zip(&plain).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(same, "{conv:?} {algorithm} {level} {} threads, add {add}, {activation:?}", threads.count());
                    }
                }
            }
        }
    }
}

/// A residual that is written over: the bits of one that lies apart, whatever the scratch, at every level.
#[test]
fn a_residual_in_place_gives_the_bits_of_one_apart() {
    let mut done = 0;
    for conv in shapes() {
        let (x, residual) = (&random(conv.x_len(), 1), random(conv.y_len(), 2));
        let w = &mut vec![0.0; conv.weights().len()];
        conv.weights().pack(&random(conv.weights().numbers(), 3), w);
        let [mean, scale, shift] = [4, 5, 6].map(|seed| random(conv.k(), seed));
        for level in levels() {
            for threads in threads() {
                let cpu = Cpu { level, threads: &threads };
                for memory in [Memory::Fast, Memory::Small, Memory::Tiny] {
                    let Some(len) = conv.over_scratch_len(memory, threads.count()) else { continue };
                    let how = Normalise { mean: &mean, scale: &scale, shift: &shift, residual: None, activation: Activation::Relu };
                    let scratch = &mut vec![f32::NAN; conv.scratch_len(Pass::Forward, Algorithm::Gemm, memory, threads.count())];
                    let mut due = vec![f32::NAN; conv.y_len()];
                    let finish = Finish::Normalise(Normalise { residual: Some(&residual), ..how });
                    conv.forward(&cpu, Algorithm::Gemm, Forward { x, w, y: &mut due, add: false, finish, scratch });
                    let mut y = residual.clone();
                    conv.forward_over(&cpu, ForwardOver { x, w, y: &mut y, how, scratch: &mut vec![f32::NAN; len] });
                    let same = y.iter().zip(&due).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{conv:?} {level} {} threads, {memory:?}", threads.count());
                    done += 1;
                }
            }
        }
    }
    assert!(done >= 10 * levels().count(), "{done} cases");
}

/// The activations by their definitions, as other ops and PyTorch write them.
fn activated(activation: Activation, v: f32) -> f32 {
    let clamp = |v: f32| if v < 0.0 { 0.0 } else { v };
    let clamp6 = |v: f32| if clamp(v) > 6.0 { 6.0 } else { clamp(v) };
    match activation {
        Activation::None => v,
        Activation::Relu => clamp(v),
        Activation::Relu6 => clamp6(v),
        Activation::Hardswish => v * clamp6(v + 3.0) / 6.0,
    }
}

/// Every activation, behind a normalisation and behind a bias: the bits of the formula applied to each number.
#[test]
fn activations_and_bias_are_applied_to_every_number() {
    let all = [Activation::None, Activation::Relu, Activation::Relu6, Activation::Hardswish];
    for conv in shapes() {
        let (x, k) = (random(conv.x_len(), 1), conv.k());
        let mut w = vec![0.0; conv.weights().len()];
        conv.weights().pack(&random(conv.weights().numbers(), 3).iter().map(|v| 4.0 * v).collect::<Vec<_>>(), &mut w);
        let mut bias = random(k, 4);
        bias[0] = f32::NAN;
        let (zeros, ones) = (vec![0.0; k], vec![1.0; k]);
        let threads = &Threads::serial();
        for level in levels() {
            let cpu = Cpu { level, threads };
            for &algorithm in Algorithm::ALL.iter().filter(|a| conv.accepts(Pass::Forward, **a)) {
                let run = |finish| {
                    let mut y = vec![f32::NAN; conv.y_len()];
                    let mut scratch = vec![f32::NAN; conv.scratch_len(Pass::Forward, algorithm, Memory::Fast, 1)];
                    conv.forward(&cpu, algorithm, Forward { x: &x, w: &w, y: &mut y, add: false, finish, scratch: &mut scratch });
                    y
                };
                let plain = run(Finish::None);
                for activation in all {
                    let biased = run(Finish::Bias(Bias { bias: &bias, activation }));
                    let normalise = Normalise { mean: &zeros, scale: &ones, shift: &bias, residual: None, activation };
                    let normalised = run(Finish::Normalise(normalise));
                    for (i, v) in plain.iter().enumerate() {
                        let due = activated(activation, v + bias[i % k]);
                        for y in [biased[i], normalised[i]] {
                            let same = y.to_bits() == due.to_bits() || y.is_nan() && due.is_nan();
                            assert!(same, "{conv:?} {algorithm} {level} {activation:?}: {y} instead of {due}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "bias for the output channels of")]
fn a_bias_of_another_length_is_refused() {
    let conv = Conv2d::new([1, 4, 4, 2], 3, 1, 1, 0).expect("valid");
    let cpu = Cpu { level: Level::PORTABLE, threads: &Threads::serial() };
    let mut scratch = vec![0.0; conv.scratch_len(Pass::Forward, Algorithm::Gemm, Memory::Fast, 1)];
    let w = vec![0.0; conv.weights().len()];
    let finish = Finish::Bias(Bias { bias: &[0.0; 2], activation: Activation::None });
    conv.forward(&cpu, Algorithm::Gemm, Forward { x: &[0.0; 32], w: &w, y: &mut [0.0; 48], add: false, finish, scratch: &mut scratch });
}

#[test]
#[should_panic(expected = "the residual of")]
fn a_residual_of_another_size_is_refused() {
    let conv = Conv2d::new([1, 4, 4, 2], 3, 1, 1, 0).expect("valid");
    let cpu = Cpu { level: Level::PORTABLE, threads: &Threads::serial() };
    let table = [0.0; 3];
    let finish = Finish::Normalise(Normalise {
        mean: &table,
        scale: &table,
        shift: &table,
        residual: Some(&[0.0; 47]),
        activation: Activation::None,
    });
    let mut scratch = vec![0.0; conv.scratch_len(Pass::Forward, Algorithm::Gemm, Memory::Fast, 1)];
    let w = vec![0.0; conv.weights().len()];
    conv.forward(&cpu, Algorithm::Gemm, Forward { x: &[0.0; 32], w: &w, y: &mut [0.0; 48], add: false, finish, scratch: &mut scratch });
}

/// Moments against two passes over y in f64, both memory settings.
#[test]
fn moments_are_those_of_the_output() {
    for conv in shapes() {
        let (x, k) = (&random(conv.x_len(), 1).iter().map(|v| v + 3.0).collect::<Vec<_>>(), conv.k());
        let rows = conv.y_len() / k;
        let w = &mut vec![0.0; conv.weights().len()];
        conv.weights().pack(&random(conv.weights().numbers(), 3), w);
        for level in levels() {
            for &algorithm in Algorithm::ALL.iter().filter(|a| conv.accepts(Pass::Forward, **a)) {
                for memory in Memory::ALL {
                    let mut before: Option<Vec<f64>> = None;
                    for threads in threads() {
                        let what = format!("{conv:?} {algorithm} {level} {memory:?} {} threads", threads.count());
                        let cpu = Cpu { level, threads: &threads };
                        let own = conv.scratch_len(Pass::Forward, algorithm, memory, threads.count());
                        let (mut plain, mut y) = (vec![f32::NAN; conv.y_len()], vec![f32::NAN; conv.y_len()]);
                        let (finish, scratch) = (Finish::None, &mut vec![f32::NAN; own]);
                        conv.forward(&cpu, algorithm, Forward { x, w, y: &mut plain, add: false, finish, scratch });
                        let scratch = &mut vec![f32::NAN; conv.moments_scratch_len(algorithm, memory) + own];
                        let mut moments = vec![f64::NAN; 2 * k];
                        let call = ForwardMoments { x, w, y: &mut y, moments: &mut moments, scratch };
                        conv.forward_moments(&cpu, algorithm, memory, call);
                        assert!(y.iter().zip(&plain).all(|(a, b)| a.to_bits() == b.to_bits()), "{what}: y");
                        for c in 0..k {
                            let column = || y.iter().skip(c).step_by(k).map(|v| f64::from(*v));
                            let mean = column().sum::<f64>() / rows as f64;
                            let squares: f64 = column().map(|v| (v - mean) * (v - mean)).sum();
                            let size = column().fold(0.0_f64, |m, v| m.max(v.abs()));
                            assert!((moments[c] - mean).abs() <= 1e-7 * size, "{what}: mean {} instead of {mean}", moments[c]);
                            let error = (moments[k + c] - squares).abs();
                            assert!(error <= 1e-6 * squares + 1e-13 * size * size, "{what}: {} instead of {squares}", moments[k + c]);
                        }
                        assert!(before.as_ref().is_none_or(|b| *b == moments), "{what}: bits depend on the threads");
                        before = Some(moments);
                    }
                }
            }
        }
    }
}
