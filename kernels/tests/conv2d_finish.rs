//! What a convolution does to its finished output: the same bits as the ops called one after the
//! other, for every algorithm, at every level, on any number of threads.

use nunatak_kernels::batchnorm::{self, BatchNorm};
use nunatak_kernels::conv2d::Normalise;
use nunatak_kernels::{Algorithm, Conv2d, Cpu, Finish, Level, Memory, Pass, Threads, elementwise, relu};

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

/// Whether an emulator runs the tests (`NUNATAK_TEST=emulated`), hundreds of times slower than a CPU.
fn emulated() -> bool {
    std::env::var("NUNATAK_TEST").is_ok_and(|v| v == "emulated")
}

/// Products of a convolution up to which an emulator computes it.
const EMULATED: usize = 4_000_000;

fn threads() -> Vec<Threads> {
    #[cfg(feature = "rayon")]
    return if emulated() { &[3][..] } else { &[1, 2, 3, 7] }.iter().map(|n| Threads::new(*n).expect("threads")).collect();
    #[cfg(not(feature = "rayon"))]
    vec![Threads::serial()]
}

/// Every kind of tile: narrow, wide, with and without whole vectors, several groups of channels, and as
/// many rows as have several cuts.
fn shapes() -> Vec<Conv2d> {
    let left_out = |conv: &Conv2d| emulated() && conv.y_len() * conv.c * conv.kernel * conv.kernel > EMULATED;
    [
        (1, 9, 7, 3, 5, 3, 1, 1),
        (2, 13, 6, 18, 16, 3, 1, 0),
        (1, 16, 16, 64, 64, 3, 1, 1),
        (3, 7, 7, 144, 160, 3, 1, 1),
        (2, 9, 11, 17, 47, 3, 2, 1),
        (1, 2, 2, 96, 97, 3, 1, 1),
        (2, 21, 20, 3, 24, 7, 2, 3),
        (2, 8, 8, 33, 70, 1, 2, 0),
        (1, 6, 5, 70, 72, 3, 1, 1),
        (1, 1, 1, 1, 1, 1, 1, 0),
        (5, 40, 43, 20, 24, 3, 1, 1),
    ]
    .into_iter()
    .map(|(n, h, w, c, k, kernel, stride, pad)| Conv2d::new(n, h, w, c, k, kernel, stride, pad).expect("a valid convolution"))
    .filter(|conv| !left_out(conv))
    .collect()
}

#[test]
fn normalised_output_has_the_bits_of_separate_passes() {
    for conv in shapes() {
        let rows = conv.y_len() / conv.k;
        let norm = BatchNorm { rows, channels: conv.k, eps: 1e-5 };
        let (x, residual) = (random(conv.x_len(), 1), random(conv.y_len(), 2));
        let mut w = vec![0.0; conv.weights().len()];
        conv.weights().pack(&random(conv.k * conv.c * conv.kernel * conv.kernel, 3), &mut w);
        let (gamma, beta, mean) = (random(conv.k, 4), random(conv.k, 5), random(conv.k, 6));
        let var: Vec<f32> = random(conv.k, 7).iter().map(|v| v.abs() + 0.1).collect();
        let scale: Vec<f32> =
            var.iter().zip(&gamma).map(|(v, g)| (1.0 / (f64::from(*v) + f64::from(norm.eps)).sqrt() * f64::from(*g)) as f32).collect();
        for level in Level::available() {
            for &algorithm in Algorithm::ALL.iter().filter(|a| conv.accepts(Pass::Forward, **a)) {
                for (add, relu_too) in [(true, true), (false, true), (true, false), (false, false)] {
                    for threads in threads() {
                        let cpu = Cpu { level, threads: &threads };
                        let scratch = || vec![f32::NAN; conv.scratch_len(Pass::Forward, algorithm, Memory::Fast, threads.count())];
                        let mut plain = vec![f32::NAN; conv.y_len()];
                        conv.forward(&cpu, algorithm, &x, &w, &mut plain, false, Finish::None, &mut scratch());
                        let mut room = vec![0.0_f64; norm.scratch_len(threads.count()).div_ceil(2) + 8];
                        let room: &mut [f32] = bytemuck::cast_slice_mut(&mut room);
                        batchnorm::forward_running(&cpu, &norm, None, &gamma, &beta, &mean, &var, &mut plain, room);
                        if add {
                            elementwise::add_assign(&cpu, &residual, &mut plain);
                        }
                        if relu_too {
                            relu::forward(&cpu, None, &mut plain);
                        }

                        let finish = Finish::Normalise(Normalise {
                            mean: &mean,
                            scale: &scale,
                            shift: &beta,
                            residual: add.then_some(&residual),
                            relu: relu_too,
                        });
                        let mut y = vec![f32::NAN; conv.y_len()];
                        conv.forward(&cpu, algorithm, &x, &w, &mut y, false, finish, &mut scratch());
                        let same = y.iter().zip(&plain).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(same, "{conv:?} {algorithm} {level} {} threads, add {add}, relu {relu_too}", threads.count());
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "the residual of")]
fn a_residual_of_another_size_is_refused() {
    let conv = Conv2d::new(1, 4, 4, 2, 3, 1, 1, 0).expect("valid");
    let cpu = Cpu { level: Level::PORTABLE, threads: &Threads::serial() };
    let table = [0.0; 3];
    let finish = Finish::Normalise(Normalise { mean: &table, scale: &table, shift: &table, residual: Some(&[0.0; 47]), relu: false });
    let mut scratch = vec![0.0; conv.scratch_len(Pass::Forward, Algorithm::Gemm, Memory::Fast, 1)];
    let w = vec![0.0; conv.weights().len()];
    conv.forward(&cpu, Algorithm::Gemm, &[0.0; 32], &w, &mut [0.0; 48], false, finish, &mut scratch);
}

/// Moments against two passes over y in f64, both memory settings.
#[test]
fn moments_are_those_of_the_output() {
    for conv in shapes() {
        let (x, k) = (random(conv.x_len(), 1).iter().map(|v| v + 3.0).collect::<Vec<_>>(), conv.k);
        let rows = conv.y_len() / k;
        let mut w = vec![0.0; conv.weights().len()];
        conv.weights().pack(&random(k * conv.c * conv.kernel * conv.kernel, 3), &mut w);
        for level in Level::available() {
            for &algorithm in Algorithm::ALL.iter().filter(|a| conv.accepts(Pass::Forward, **a)) {
                for memory in [Memory::Small, Memory::Fast] {
                    let mut before: Option<Vec<f64>> = None;
                    for threads in threads() {
                        let what = format!("{conv:?} {algorithm} {level} {memory:?} {} threads", threads.count());
                        let cpu = Cpu { level, threads: &threads };
                        let own = conv.scratch_len(Pass::Forward, algorithm, memory, threads.count());
                        let (mut plain, mut y) = (vec![f32::NAN; conv.y_len()], vec![f32::NAN; conv.y_len()]);
                        conv.forward(&cpu, algorithm, &x, &w, &mut plain, false, Finish::None, &mut vec![f32::NAN; own]);
                        let mut scratch = vec![f32::NAN; conv.moments_scratch_len(algorithm, memory) + own];
                        let mut moments = vec![f64::NAN; 2 * k];
                        conv.forward_moments(&cpu, algorithm, memory, &x, &w, &mut y, &mut moments, &mut scratch);
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
